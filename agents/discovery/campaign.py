"""A campaign: which compounds were calculated, what they gave, and which to calculate next.

A round asks for a batch. Its random numbers flow from the campaign's seed and the number of the round, and
its surrogate is trained anew on the labels in ascending order, so that a campaign that was killed goes on to
ask what an uninterrupted one would have asked.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agents.discovery.acquisition import ACQUISITIONS, Acquisition, Goal, lowest_known, take
from agents.discovery.proposers import PROPOSERS, Known, Proposer, random_compounds
from agents.discovery.store import CampaignFile, keep_arrays
from agents.discovery.surrogate import MIN_LABELS, Calibration, Ensemble, GaussianProcess, Surrogate
from elpa_env.checkpoint import restore
from elpa_env.errors import InputError, at_least, check_choice, printable
from elpa_env.sampler import Progress
from elpa_env.seeds import spawn
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.training import TrainingSet

SurrogateName = Literal["ensemble", "gp"]
SURROGATES: Final[Mapping[SurrogateName, Callable[[np.random.SeedSequence], Surrogate]]] = {
    "ensemble": lambda seed: Ensemble(seed=seed),
    "gp": lambda seed: GaussianProcess(seed=seed),
}
KNOWN: Final = "known"
"""Source of labels that a campaign was given when it was made, unless they name their own."""
LOWEST_ENERGY, HIGHEST_ENERGY = -6.0, 25.0
"""eV/atom; no formation energy of a solid is lower, and none in the tables that ship higher than 6."""
MARGIN: Final = 1.5
"""eV/atom below the lowest energy of many, beyond which another is not believed."""
MANY: Final = 20
"""Labels from which on their range says what can be believed."""


class NothingLeft(InputError):
    """A campaign has no compound left to ask for."""


@dataclass(frozen=True)
class Settings:
    """How a campaign chooses.

    Attributes:
        proposer: where candidates come from: a name from `PROPOSERS`, or of one that is passed to `Campaign`.
        surrogate: "ensemble" of networks, or "gp", a Gaussian process.
        acquisition: the score of a candidate: its "probability" of being looked for,
            "expected-improvement" of the lowest energy, "thompson" or "uncertainty".
        initial: labels up to which compounds are asked for at random, calculations in flight included.
        batch_size: compounds of a round, unless another number is asked for.
        diverse: whether a batch avoids compounds that differ in a single site.
        again_after: seconds after which a calculation that did not come back is asked for again.

    Raises:
        InputError: a value out of range.
    """

    proposer: str = "rank"
    surrogate: SurrogateName = "ensemble"
    acquisition: Acquisition = "probability"
    initial: int = 100
    batch_size: int = 25
    diverse: bool = False
    again_after: float = 7 * 86_400.0

    def __post_init__(self) -> None:
        check_choice("surrogate", self.surrogate, get_args(SurrogateName))
        check_choice("acquisition", self.acquisition, get_args(Acquisition))
        at_least(self, 1, "batch_size")
        at_least(self, MIN_LABELS, "initial")
        if not self.again_after > 0:
            raise InputError(f"again_after must be above 0 seconds, got {self.again_after:g}")


@dataclass(frozen=True)
class Asked:
    """A compound that a campaign asks for.

    Attributes:
        index: of the compound.
        numbers: (S,) atomic numbers on the sites.
        formula: its formula.
        round: in which it was asked for.
        reason: "random", or the proposer that chose it.
        probability: that it is looked for; NaN where that is not known.
        energy: eV/atom expected; NaN where that is not known.
        uncertainty: eV/atom of that.
        given: how often it has been asked for.
    """

    index: int
    numbers: tuple[int, ...]
    formula: str
    round: int
    reason: str
    probability: float
    energy: float
    uncertainty: float
    given: int = 1


@dataclass(frozen=True)
class Told:
    """A result.

    Attributes:
        index: of a composition, in any order of its equivalent sites.
        energy: of the quantity of the space's targets, in eV/atom; NaN for a calculation that failed.
        error: why it failed, in one line.
        source: where the energy is from.
        parameters: of the relaxed structure, by name.
    """

    index: int
    energy: float
    error: str = ""
    source: str = ""
    parameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """Where a campaign stands.

    Attributes:
        goal: what it looks for.
        found: compounds that reach the goal; for the lowest energy that of the lowest.
        lowest: eV/atom; NaN without labels.
        labels: energies known, those given at the start included.
        given: of these, those given at the start.
        in_flight: calculations asked for and not told.
        overdue: of these, those that will be asked for again.
        failed: calculations that failed.
        rounds: that asked for something.
        without_find: rounds in a row, complete ones, that found nothing.
        candidates: compounds that may yet be asked for; None where they cannot be counted.
        expected: targets among them, by calibrated probabilities; None while that is not known.
    """

    goal: Goal
    found: int
    lowest: float
    labels: int
    given: int
    in_flight: int
    overdue: int
    failed: int
    rounds: int
    without_find: int
    candidates: int | None
    expected: float | None

    def advice(self, budget: int | None = None) -> str:
        """Whether to stop, in words."""
        what = self.goal.title
        if self.candidates == 0:
            return "Stop: every compound has been calculated or failed."
        if budget is not None and self.labels >= budget:
            return f"Stop: the budget of {budget:,} labels is spent."
        if self.expected is None:
            return f"Go on: from {MIN_LABELS} labels on it can be said what is still to be found."
        left = "" if self.candidates is None else f" among the {self.candidates:,} compounds left"
        if self.goal.target == 0:
            what = "an energy below the lowest"
        if self.expected < 0.5 and self.without_find >= 2:
            return (
                f"Stop: {self.expected:.2g} of {what} are expected{left}, and the last {self.without_find} "
                "rounds found none."
            )
        if self.expected < 0.5:
            return (
                f"Nearly done: {self.expected:.2g} of {what} are expected{left}; two more rounds will tell."
            )
        return f"Go on: some {self.expected:.3g} of {what} are expected{left}."


class Campaign:
    """A search for the compounds of a target with as few calculations as possible.

    Use `new` or `open`. An open campaign may be used by several threads, and several processes may have the
    same one open.

    Args:
        file: open.
        proposers: further ones by name, for `Settings.proposer`.

    Attributes:
        path: of its file.
        space: of the compositions.
        goal: what it looks for.
        settings: how it chooses.
        seed: of everything random.
    """

    def __init__(
        self, file: CampaignFile, proposers: Mapping[str, Callable[[], Proposer]] | None = None
    ) -> None:
        self._file = file
        self._proposers = {**PROPOSERS, **(proposers or {})}
        self.path = file.path
        facts = file.facts()
        try:
            self.space = Space.from_dict(facts["space"])
            self.goal = Goal.of(self.space, facts["target"])
            self.settings = restore(Settings, facts["settings"])
            self.seed = int(facts["seed"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{file.path} is damaged: {error}") from error
        self.facts = facts
        """All that the file says of itself, what made it included."""
        self._pool = file.pool()
        self._fitted: tuple[int, Surrogate] | None = None

    @classmethod
    def new(
        cls,
        path: str | Path,
        space: Space = ELPASOLITE_SPACE,
        *,
        target: object = 1,
        settings: Settings | None = None,
        seed: int = 0,
        pool: NDArray[np.int64] | None = None,
        pool_name: str = "",
        labels: TrainingSet | None = None,
        proposers: Mapping[str, Callable[[], Proposer]] | None = None,
        overwrite: bool = False,
        durable: bool = True,
    ) -> Self:
        """Begin a campaign.

        Args:
            path: of its file.
            space: of the compositions.
            target: number or name of a target of the space, or "lowest".
            settings: how it chooses.
            seed: of everything random.
            pool: (n,) compositions that may be asked for; all of the space by default.
            pool_name: what texts call the pool.
            labels: energies that are known.
            proposers: see the class.
            overwrite: whether a file that is there may go.
            durable: see `CampaignFile`.

        Raises:
            InputError: the file is there, or anything of this does not fit the space.
        """
        goal, settings = Goal.of(space, target), settings or Settings()
        check_choice("proposer", settings.proposer, tuple({**PROPOSERS, **(proposers or {})}))
        if seed < 0:
            raise InputError(f"seed must be at least 0, got {seed}")
        if pool is not None:
            pool = np.unique(space.index_to_compound(space.checked_index(pool)))
        if settings.proposer == "rank" and pool is None and not space.enumerable:
            raise InputError(
                f"{space.name} has {space.n_table:.3g} compositions, too many to rank them all: choose the "
                "proposer agent, or another generator"
            )
        if labels is not None:
            space.check_same(labels.space, "the table of known energies")
        facts = {
            "space": space.to_dict(),
            "target": goal.name,
            "settings": asdict(settings),
            "seed": seed,
            "pool": pool_name,
            "made_by": f"elpasolite {version('elpasolite')}",
            "time": time.time(),
        }
        file = CampaignFile.create(path, facts, pool, overwrite=overwrite, durable=durable)
        campaign = cls(file, proposers)
        if labels is not None:
            told = [
                Told(int(index), float(energy), source=KNOWN)
                for index, energy in zip(labels.index, labels.energy, strict=True)
            ]
            try:
                campaign.tell(told, unasked=True, repeated=True)
            except BaseException:
                file.close()
                campaign.path.unlink(missing_ok=True)
                raise
        return campaign

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        proposers: Mapping[str, Callable[[], Proposer]] | None = None,
        durable: bool = True,
    ) -> Self:
        """Go on with a campaign.

        Raises:
            InputError: there is no such file, or it is no campaign of this version.
        """
        return cls(CampaignFile(path, durable=durable), proposers)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what is known ---

    def labels(self) -> TrainingSet:
        """All labels, a row a compound, in ascending order."""
        rows = self._file.read("SELECT compound, energy FROM labels ORDER BY compound")
        index = np.array([row[0] for row in rows], dtype=np.int64)
        energy = np.array([row[1] for row in rows], dtype=np.float64)
        return TrainingSet(index, energy, f"{len(rows)} labels of {self.path.name}", self.space)

    def history(self) -> dict[str, list[Any]]:
        """Labels in the order in which they came: compound, energy, source, round, time, parameters."""
        names = ("compound", "energy", "source", "round", "time", "parameters")
        rows = self._file.read(f"SELECT {', '.join(names)} FROM labels ORDER BY number")
        columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
        return dict(zip(names, columns, strict=True))

    def rounds(self) -> list[dict[str, Any]]:
        """What each round knew: round, n, labels, found, expected, candidates, seconds, time."""
        names = ("round", "n", "labels", "found", "expected", "candidates", "seconds", "time")
        rows = self._file.read(f"SELECT {', '.join(names)} FROM rounds ORDER BY round")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def corrections(self) -> list[tuple[Any, ...]]:
        """What corrected labels said before: compound, energy, source, time, time of the correction."""
        return self._file.read("SELECT * FROM corrections ORDER BY corrected")

    def curve(self) -> NDArray[np.int64]:
        """(n,) compounds found after each label, in the order in which they came."""
        energy = np.array(self.history()["energy"], dtype=np.float64)
        if self.goal.target == 0:
            return np.cumsum(energy < np.minimum.accumulate(np.concatenate([[np.inf], energy]))[:-1])
        return np.cumsum(self.goal.reached(energy))

    def in_flight(self) -> list[Asked]:
        """Compounds that were asked for and not told, in the order in which they were."""
        return self._asked("state = 'asked'")

    def failures(self) -> list[tuple[str, str]]:
        """Formulas of the compounds whose calculation failed, and why."""
        rows = self._file.read("SELECT compound, error FROM proposals WHERE state = 'failed' ORDER BY number")
        formulas = self.space.index_to_formula(np.array([row[0] for row in rows], dtype=np.int64))
        return [(str(formula), row[1]) for formula, row in zip(formulas, rows, strict=True)]

    def known(self, surrogate: Surrogate | None = None) -> Known:
        """What a proposer may look at."""
        rows = self._file.read(
            "SELECT compound FROM labels UNION SELECT compound FROM proposals ORDER BY compound"
        )
        taken = np.array([row[0] for row in rows], dtype=np.int64)
        return Known(self.goal, self.labels(), taken, self._pool, surrogate)

    def surrogate(self, progress: Progress | None = None) -> Surrogate:
        """The surrogate of the labels as they are, with the seed of the next round.

        Raises:
            InputError: there are too few labels.
        """
        labels, round_ = self.labels(), self._next_round()
        key = hash((round_, labels.index.tobytes(), labels.energy.tobytes()))
        if self._fitted is None or self._fitted[0] != key:
            seed = self._seeds(round_)[0]
            made = SURROGATES[self.settings.surrogate](seed)
            self._fitted = key, made.fit(labels, progress)
        return self._fitted[1]

    def calibration(self, surrogate: Surrogate) -> Calibration:
        """What the labels make of the surrogate's probabilities, each label judged by what the others say."""
        labels = self.labels()
        if self.goal.target == 0:
            return Calibration()
        p = self.goal.probability(surrogate.held_out(), lowest_known(labels))
        return Calibration.of(p, self.goal.reached(labels.energy))

    def status(self, progress: Progress | None = None, *, expected: bool = True) -> Status:
        """Where the campaign stands.

        Args:
            progress: of the surrogate's training, which `expected` needs.
            expected: whether to find out how many targets are still to be found.
        """
        labels = self.labels()
        states = dict(self._file.read("SELECT state, COUNT(*) FROM proposals GROUP BY state"))
        overdue = self._file.read(
            "SELECT COUNT(*) FROM proposals WHERE state = 'asked' AND time < ?",
            (time.time() - self.settings.again_after,),
        )
        known = self.known()
        candidates = len(known.free()) if known.listed else None
        found = self.goal.reached(labels.energy)
        unfound = None
        if expected and len(labels) >= MIN_LABELS:
            unfound = self._expected(progress)
        rounds = self._file.read("SELECT COUNT(*) FROM rounds")
        given = self._file.read("SELECT COUNT(*) FROM labels WHERE round = 0")
        return Status(
            goal=self.goal,
            found=int(found.sum()),
            lowest=float(labels.energy.min()) if len(labels) else math.nan,
            labels=len(labels),
            given=given[0][0],
            in_flight=states.get("asked", 0),
            overdue=overdue[0][0],
            failed=states.get("failed", 0),
            rounds=rounds[0][0],
            without_find=self._without_find(labels.index[found]),
            candidates=candidates,
            expected=unfound,
        )

    def _expected(self, progress: Progress | None) -> float | None:
        """Targets among what is not calculated yet, calculations in flight included."""
        surrogate = self.surrogate(progress)
        labels = self.labels()
        known = replace(self.known(surrogate), taken=labels.index)
        if not known.listed:
            rows = self._file.read("SELECT expected FROM rounds ORDER BY round DESC LIMIT 1")
            return rows[0][0] if rows else None
        index = known.free()
        failed = self._file.read("SELECT compound FROM proposals WHERE state = 'failed'")
        index = index[~np.isin(index, np.array([row[0] for row in failed], dtype=np.int64))]
        p = self.goal.probability(surrogate.belief(index), lowest_known(labels))
        return float(self.calibration(surrogate)(p).sum())

    def _without_find(self, found: NDArray[np.int64]) -> int:
        """Rounds in a row, complete ones, in which nothing was found that is looked for."""
        rows = self._file.read(
            "SELECT round, SUM(state = 'asked') FROM proposals GROUP BY round ORDER BY round DESC"
        )
        of_round = dict(self._file.read("SELECT compound, round FROM proposals"))
        successful = {of_round[compound] for compound in found.tolist() if compound in of_round}
        number = 0
        for round_, open_ in rows:
            if open_:
                continue
            if round_ in successful:
                break
            number += 1
        return number

    # --- asking ---

    def ask(
        self,
        n: int | None = None,
        *,
        asker: str | None = None,
        progress: Progress | None = None,
    ) -> list[Asked]:
        """The compounds to calculate next; they count as in flight from then on.

        Calculations that did not come back in time come first. No two askers get the same compound.

        Args:
            n: how many at most; `Settings.batch_size` by default.
            asker: who asks, in words.
            progress: of training.

        Returns:
            Fewer than `n` where there are no more.

        Raises:
            InputError: n is not positive.
            NothingLeft: nothing can be asked for.
        """
        n = self.settings.batch_size if n is None else n
        if n < 1:
            raise InputError(f"the number of compounds to ask for must be at least 1, got {n}")
        asker = printable(asker or f"{platform.node()}:{os.getpid()}")
        with self._file.asking():
            again = self._again(n, asker)
            fresh = self._fresh(n - len(again), asker, progress) if len(again) < n else []
        if not again and not fresh:
            raise NothingLeft(
                f"nothing is left to ask for in {self.path}: all compounds are told, failed or in flight"
            )
        return [*again, *fresh]

    def take_over(self, asker: str, from_: Callable[[str], bool]) -> list[Asked]:
        """Compounds in flight of askers that are gone, given to another.

        Args:
            asker: who takes them over.
            from_: whether an asker is gone.
        """
        with self._file.change() as connection:
            rows = connection.execute(
                "SELECT compound, asker FROM proposals WHERE state = 'asked' ORDER BY number"
            ).fetchall()
            gone = [(asker, time.time(), compound) for compound, other in rows if from_(other)]
            connection.executemany(
                "UPDATE proposals SET asker = ?, time = ?, given = given + 1 WHERE compound = ?", gone
            )
        return self._asked_of([compound for *_, compound in gone])

    def _again(self, n: int, asker: str) -> list[Asked]:
        """At most `n` compounds in flight that are overdue, asked for once more."""
        now = time.time()
        with self._file.change() as connection:
            rows = connection.execute(
                "SELECT compound FROM proposals WHERE state = 'asked' AND time < ? ORDER BY number LIMIT ?",
                (now - self.settings.again_after, n),
            ).fetchall()
            connection.executemany(
                "UPDATE proposals SET asker = ?, time = ?, given = given + 1 WHERE compound = ?",
                [(asker, now, compound) for (compound,) in rows],
            )
        return self._asked_of([compound for (compound,) in rows])

    def _fresh(self, n: int, asker: str, progress: Progress | None) -> list[Asked]:
        """At most `n` compounds that were never asked for."""
        began = time.perf_counter()
        round_ = self._next_round()
        seeds = self._seeds(round_)
        known = self.known()
        (in_flight,) = self._file.read("SELECT COUNT(*) FROM proposals WHERE state = 'asked'")[0]
        n_random = min(n, max(self.settings.initial - len(known.labels) - in_flight, 0))
        if len(known.labels) < MIN_LABELS:
            n_random = n
        index = random_compounds(known, n_random, seeds[1])
        belief: dict[str, NDArray[np.float64]] = {}
        keep: Mapping[str, NDArray[Any]] = {}
        reasons = ["random"] * len(index)
        expected, candidates = None, None
        if len(index) == n_random < n:
            rest = replace(known, taken=np.union1d(known.taken, index))
            chosen = self._chosen(rest, n - n_random, seeds, progress)
            index = np.concatenate([index, chosen.index])
            reasons += [self.settings.proposer] * len(chosen.index)
            belief, keep = chosen.belief, chosen.keep
            expected, candidates = chosen.expected, chosen.candidates
        if not len(index):
            return []
        pad = len(index) - len(next(iter(belief.values()), np.zeros(0)))
        rows = [np.concatenate([np.full(pad, np.nan), column]).tolist() for column in belief.values()]
        columns = rows or [[math.nan] * len(index)] * 3
        labels = known.labels
        with self._file.change() as connection:
            now = time.time()
            (number,) = connection.execute("SELECT COALESCE(MAX(number), 0) FROM proposals").fetchone()
            connection.executemany(
                "INSERT INTO proposals (compound, number, round, state, asker, time, reason, probability, "
                "energy, uncertainty) VALUES (?, ?, ?, 'asked', ?, ?, ?, ?, ?, ?)",
                [
                    (compound, number + place, round_, asker, now, reason, *map(_or_null, cells))
                    for place, (compound, reason, *cells) in enumerate(
                        zip(index.tolist(), reasons, *columns, strict=True), start=1
                    )
                ],
            )
            connection.execute(
                "INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    round_,
                    len(index),
                    len(labels),
                    int(self.goal.reached(labels.energy).sum()),
                    expected,
                    candidates,
                    time.perf_counter() - began,
                    now,
                ),
            )
            if keep:
                keep_arrays(connection, self.settings.proposer, round_, keep)
        return self._asked_of(index.tolist())

    def _chosen(
        self, known: Known, n: int, seeds: Sequence[np.random.SeedSequence], progress: Progress | None
    ) -> _Chosen:
        """At most `n` compounds that the proposer and the surrogate choose together."""
        made = self._proposers.get(self.settings.proposer)
        if made is None:
            raise InputError(
                f"the campaign's proposer {self.settings.proposer!r} is not known here: pass it to "
                "Campaign.open"
            )
        proposer = made()
        surrogate = self.surrogate(progress) if proposer.ranked else None
        known = replace(known, surrogate=surrogate)
        kept = self._file.arrays(self.settings.proposer)
        proposal = proposer.propose(known, n, seeds[2], kept, progress)
        if surrogate is None:
            return _Chosen(proposal.index[:n], {}, proposal.keep, None, None)
        best = lowest_known(known.labels)
        belief = surrogate.belief(proposal.index)
        probability = self.calibration(surrogate)(self.goal.probability(belief, best))
        score = ACQUISITIONS[self.settings.acquisition](
            belief, self.goal, best, n, np.random.default_rng(seeds[3])
        )
        chosen = take(score, proposal.index, n, self.space, diverse=self.settings.diverse)
        columns = {
            "probability": probability[chosen],
            "energy": belief.energy[chosen],
            "uncertainty": belief.uncertainty[chosen],
        }
        return _Chosen(
            proposal.index[chosen],
            columns,
            proposal.keep,
            float(probability.sum()),
            len(proposal.index),
        )

    def _next_round(self) -> int:
        """Number of the round that is to come, from 1."""
        (last,) = self._file.read("SELECT COALESCE(MAX(round), 0) FROM rounds")[0]
        return int(last) + 1

    def _seeds(self, round_: int) -> list[np.random.SeedSequence]:
        """Of surrogate, random compounds, proposer and acquisition in a round."""
        return spawn(np.random.SeedSequence(self.seed, spawn_key=(round_,)), 4)

    def _asked(self, where: str, values: Iterable[Any] = ()) -> list[Asked]:
        rows = self._file.read(
            "SELECT compound, round, reason, probability, energy, uncertainty, given FROM proposals "
            f"WHERE {where} ORDER BY number",
            tuple(values),
        )
        index = np.array([row[0] for row in rows], dtype=np.int64)
        numbers, formulas = self.space.index_to_numbers(index), self.space.index_to_formula(index)
        return [
            Asked(
                index=row[0],
                numbers=tuple(one.tolist()),
                formula=str(formula),
                round=row[1],
                reason=row[2],
                probability=_or_nan(row[3]),
                energy=_or_nan(row[4]),
                uncertainty=_or_nan(row[5]),
                given=row[6],
            )
            for row, one, formula in zip(rows, numbers, formulas, strict=True)
        ]

    def _asked_of(self, compounds: Sequence[int]) -> list[Asked]:
        """Those compounds, in the order in which they were asked for."""
        wanted = set(compounds)
        return [one for one in self._asked("state = 'asked'") if one.index in wanted] if wanted else []

    # --- telling ---

    def tell(
        self,
        results: Iterable[Told],
        *,
        unasked: bool = False,
        correct: bool = False,
        beyond: bool = False,
        repeated: bool = False,
    ) -> int:
        """Take results, all or none.

        A label that is there already with the same energy stays as it is.

        Args:
            results: energies and failures.
            unasked: take compounds, too, that were not asked for.
            correct: let energies take the place of others for the same compounds; what was there is kept
                among the corrections.
            beyond: take energies, too, that lie beyond anything known.
            repeated: of results for one compound the first counts; else they must agree.

        Returns:
            How many labels are new or corrected.

        Raises:
            InputError: a result that cannot be taken; all stays as it was.
        """
        results = list(results)
        compounds = self.space.index_to_compound(
            self.space.checked_index(np.array([one.index for one in results], dtype=np.int64))
        ).tolist()
        formulas = self.space.index_to_formula(np.array([one.index for one in results], dtype=np.int64))
        fresh: dict[int, Told] = {}
        for compound, formula, one in zip(compounds, formulas, results, strict=True):
            before = fresh.get(compound)
            if before is not None and repeated:
                continue
            if before is not None and _differ(before, one):
                raise InputError(
                    f"{formula} has two results, {_said(before)} and {_said(one)}: leave one out"
                )
            if not one.error and not math.isfinite(one.energy):
                raise InputError(
                    f"{formula} has no energy: write a number, or say in the column error why there is none"
                )
            fresh[compound] = one
        if not beyond:
            self._check_energies(fresh)
        with self._file.change() as connection:
            return sum(
                self._tell_one(connection, compound, one, unasked, correct) for compound, one in fresh.items()
            )

    def _tell_one(
        self, connection: sqlite3.Connection, compound: int, one: Told, unasked: bool, correct: bool
    ) -> bool:
        """Take a result within a change; whether a label is new or corrected."""
        (formula,) = self.space.index_to_formula(np.array([compound], dtype=np.int64))
        proposal = connection.execute(
            "SELECT round FROM proposals WHERE compound = ?", (compound,)
        ).fetchone()
        label = connection.execute(
            "SELECT energy, source, time FROM labels WHERE compound = ?", (compound,)
        ).fetchone()
        if proposal is None and label is None and not unasked:
            raise InputError(
                f"{formula} was not asked for: leave it out, or pass --unasked to take it all the same"
            )
        if self._pool is not None and compound not in self._members:
            raise InputError(f"{formula} is not in the pool of {self.path}: leave it out")
        now = time.time()
        if one.error:
            if label is None and proposal is not None:
                connection.execute(
                    "UPDATE proposals SET state = 'failed', error = ? WHERE compound = ?",
                    (printable(one.error)[:500], compound),
                )
            return False
        if label is not None:
            if label[0] == one.energy:
                return False
            if not correct:
                raise InputError(
                    f"{formula} has the energy {label[0]:g} already, and {one.energy:g} is another: leave it "
                    "out, or pass --correct to let it take the other's place"
                )
            connection.execute("INSERT INTO corrections VALUES (?, ?, ?, ?, ?)", (compound, *label, now))
            connection.execute(
                "UPDATE labels SET energy = ?, source = ?, time = ?, parameters = ? WHERE compound = ?",
                (one.energy, printable(one.source), now, _json(one.parameters), compound),
            )
        else:
            (number,) = connection.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM labels").fetchone()
            connection.execute(
                "INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    compound,
                    one.energy,
                    printable(one.source),
                    proposal[0] if proposal else 0,
                    now,
                    number,
                    _json(one.parameters),
                ),
            )
        connection.execute("UPDATE proposals SET state = 'told', error = '' WHERE compound = ?", (compound,))
        return True

    @property
    def _members(self) -> set[int]:
        """The pool, for looking up one compound."""
        if not hasattr(self, "_members_of_pool"):
            self._members_of_pool = set() if self._pool is None else set(self._pool.tolist())
        return self._members_of_pool

    def _check_energies(self, fresh: Mapping[int, Told]) -> None:
        """Raise InputError if an energy lies beyond anything known."""
        if self.space.targets.unit != "eV/atom":
            return
        low, high = LOWEST_ENERGY, HIGHEST_ENERGY
        known = self.labels().energy
        if len(known) >= MANY:
            low, high = max(low, known.min() - MARGIN), min(high, known.max() + 2 * MARGIN + np.ptp(known))
        atoms = self.space.prototype.n_atoms
        for compound, one in fresh.items():
            if one.error or low <= one.energy <= high:
                continue
            (formula,) = self.space.index_to_formula(np.array([compound], dtype=np.int64))
            per_atom = one.energy / atoms
            reason = "is it a total energy instead of a formation energy"
            if low <= per_atom <= high:
                reason = f"is it in eV per formula unit, {per_atom:.4g} eV/atom"
            raise InputError(
                f"{formula} has {one.energy:g} eV/atom, beyond anything known ({low:.3g} to {high:.3g}): "
                f"{reason}? Mend it, or pass --beyond to take it all the same"
            )

    def forget_failure(self, index: ArrayLike) -> int:
        """Let compounds whose calculation failed be asked for again; how many these are."""
        compounds = self.space.index_to_compound(self.space.checked_index(index)).tolist()
        with self._file.change() as connection:
            return sum(
                connection.execute(
                    "UPDATE proposals SET state = 'asked', time = 0, error = '' "
                    "WHERE compound = ? AND state = 'failed'",
                    (compound,),
                ).rowcount
                for compound in compounds
            )


@dataclass(frozen=True)
class _Chosen:
    """A batch, what is believed of it, and of all candidates together."""

    index: NDArray[np.int64]
    belief: dict[str, NDArray[np.float64]]
    keep: Mapping[str, NDArray[Any]]
    expected: float | None
    candidates: int | None


def _differ(one: Told, other: Told) -> bool:
    return bool(one.error) != bool(other.error) or (not one.error and one.energy != other.energy)


def _said(one: Told) -> str:
    return one.error or f"{one.energy:g} eV/atom"


def _json(parameters: Mapping[str, float]) -> str:
    return json.dumps({name: float(value) for name, value in parameters.items()})


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
