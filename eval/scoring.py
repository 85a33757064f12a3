"""Counting and judging what a sampler draws: what is valid, novel, rediscovered or repeated.

Samples are counted in a stream of chunks, so any number of them fits into the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from elpa_env.errors import InputError
from elpa_env.rules import ask_energies
from elpa_env.sampler import Progress, Sampler, check_n_samples, is_exact, space_of, unique_sample
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.table import EnergyModel
from elpa_env.training import TrainingSet
from eval.judge import Judge
from eval.metrics import METRICS, NEW, all_metrics, compound_count, in_class, new_precision

CHUNK: Final = 1 << 20
NOVEL, REDISCOVERED, REPEATED = "novel", "rediscovered", "repeated"
_MIN_VALID: Final = 1e-3
"""Share of real compositions below which a stream is given up: each would cost over a thousand candidates.
What states its distribution pays for none of them and may go down to `elpa_env.sampler.MIN_VALID`."""
_PATIENCE: Final = 200_000


class Tally:
    """How often each composition was drawn, in a table of counts.

    Args:
        space: of the compositions.

    Attributes:
        space: see there.
        counts: (n_table,) int64 valid draws of each composition.
        n_raw: draws, those that are no composition included.
    """

    def __init__(self, space: Space = ELPASOLITE_SPACE) -> None:
        space.require_table("a count of every composition")
        self.space = space
        self.counts = np.zeros(space.n_table, dtype=np.int64)
        self.n_raw = 0

    @property
    def n_valid(self) -> int:
        """Draws that are real compositions."""
        return int(self.counts.sum())

    def add_digits(self, digits: NDArray[np.int8]) -> None:
        """Count (n, 2 S) digits, any n."""
        for start in range(0, len(digits), CHUNK):
            self._add(self.space.digits_to_index(digits[start : start + CHUNK]))

    def add_index(self, index: NDArray[np.int64]) -> None:
        """Count (n,) index; -1, and what repeats an element, counts as raw alone."""
        self._add(np.where(self.space.look_up(self.space.composition_mask, index), index, -1))

    def _add(self, index: NDArray[np.int64]) -> None:
        self.n_raw += len(index)
        np.add.at(self.counts, index[index >= 0], 1)

    def sparse(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """What was drawn at all, to be stored: (k,) index, ascending, and (k,) counts."""
        index = np.flatnonzero(self.counts)
        return index.astype(np.int32), self.counts[index]

    @classmethod
    def from_sparse(
        cls,
        index: NDArray[np.integer[Any]],
        counts: NDArray[np.integer[Any]],
        n_raw: int,
        space: Space = ELPASOLITE_SPACE,
    ) -> Tally:
        """The tally that `sparse` and `n_raw` describe.

        Raises:
            InputError: they describe none.
        """
        index, counts = np.asarray(index), np.asarray(counts)
        whole = all(array.ndim == 1 and array.dtype.kind in "iu" for array in (index, counts))
        if not whole or len(index) != len(counts):
            raise InputError("stored counts must be as many whole numbers as there are index")
        if len(index) and not (
            0 <= index[0]
            and index[-1] < space.n_table
            and (index[1:] > index[:-1]).all()
            and (counts > 0).all()
        ):
            raise InputError("stored counts must be positive, at ascending index of the composition table")
        if not space.composition_mask[index].all():
            raise InputError("stored counts must be of real compositions, got some that repeat an element")
        tally = cls(space)
        tally.counts[index] = counts
        if n_raw < tally.n_valid:
            raise InputError(f"{tally.n_valid:,} valid samples cannot come from {n_raw:,} candidates")
        tally.n_raw = n_raw
        return tally


@dataclass(frozen=True)
class Score:
    """What a set of samples is worth.

    Attributes:
        metrics: under the keys of `eval.metrics.METRICS`.
        judge: name of the `eval.judge.Judge` that decided energies and classes.
        n_valid: valid samples scored.
        n_raw: candidates drawn to get them.
        novel: different compositions that are not in the training set; None without one.
        rediscovered: different compositions that are; None without a training set.
        repeated: samples that had been drawn before.
        compounds_found: different compounds that were drawn as a composition of the target class.
        compounds_in_class: compounds that have a composition in the class.
    """

    metrics: dict[str, float]
    judge: str
    n_valid: int
    n_raw: int
    novel: int | None
    rediscovered: int | None
    repeated: int
    compounds_found: int
    compounds_in_class: int

    @property
    def valid_fraction(self) -> float:
        """Share of the candidates that are real compositions."""
        return self.n_valid / self.n_raw if self.n_raw else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """For the results file."""
        return {
            **{key: None if np.isnan(value) else value for key, value in self.metrics.items()},
            "judge": self.judge,
            "n_valid": self.n_valid,
            "n_raw": self.n_raw,
            "valid_fraction": self.valid_fraction,
            "novel": self.novel,
            "rediscovered": self.rediscovered,
            "repeated": self.repeated,
            "compounds_found": self.compounds_found,
            "compounds_in_class": self.compounds_in_class,
        }


def score_tally(
    tally: Tally,
    *,
    judge: Judge,
    target_class: int,
    training_set: TrainingSet | None = None,
    new: NDArray[np.int64] | None = None,
) -> Score:
    """Score counted samples, whenever and by whatever they were drawn.

    Args:
        tally: of the samples.
        judge: decides their classes.
        target_class: 1..k.
        training_set: what counts as known.
        new: (m,) index of the first different compounds outside the training set, see `first_new`.

    Raises:
        InputError: nothing valid was counted, there is no such class, or judge and samples are of two spaces.
    """
    target_class = judge.space.targets.check(target_class)
    judge.space.check_same(tally.space, "what was counted")
    if tally.n_valid == 0:
        raise InputError("there is no valid composition to score")
    drawn = tally.counts > 0
    unique = int(drawn.sum())
    known = None if training_set is None else int(drawn[np.unique(training_set.index)].sum())
    metrics = all_metrics(tally.counts, judge, target_class=target_class)
    if new is not None:
        metrics["new_precision"] = new_precision(new, judge, target_class=target_class)
    return Score(
        metrics=metrics,
        judge=judge.name,
        n_valid=tally.n_valid,
        n_raw=tally.n_raw,
        novel=None if known is None else unique - known,
        rediscovered=known,
        repeated=tally.n_valid - unique,
        compounds_found=compound_count(judge.space, in_class(drawn, judge.table_class, target_class)),
        compounds_in_class=int(judge.compound_counts[target_class]),
    )


def first_new(
    space: Space, index: NDArray[np.int64], training_set: TrainingSet | None, n: int = NEW
) -> NDArray[np.int64]:
    """The first `n` different compounds outside the training set, in the order drawn, or all there are.

    Args:
        space: of the compositions.
        index: (m,) samples in the order drawn.
        training_set: what counts as known.
        n: how many at most.
    """
    compound = space.index_to_compound(index)
    places = np.sort(np.unique(compound, return_index=True)[1])
    if training_set is not None:
        places = places[~np.isin(compound[places], space.index_to_compound(training_set.index))]
    return index[places[:n]]


def draw_valid(
    sampler: Sampler,
    n_valid: int,
    *,
    target_class: int,
    seed: int,
    space: Space | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Draw candidates until `n_valid` of them are real compositions.

    Args:
        sampler: what draws.
        n_valid: valid samples wanted, at least 1.
        target_class: 1..k.
        seed: of the draws; each chunk gets a seed of its own.
        space: of the compositions; what the sampler says by default, see `elpa_env.sampler.space_of`.
        progress: called with the valid samples so far.

    Yields:
        Chunks of valid index, in the order drawn, and the candidates that the chunk cost.

    Raises:
        InputError: the sampler hardly ever makes a real composition.
    """
    check_n_samples(n_valid)
    space = space_of(sampler) if space is None else space
    seeds = np.random.SeedSequence(seed)
    have, raw = 0, 0
    while have < n_valid:
        share = max(have / raw, _MIN_VALID) if raw else 1.0
        n = min(CHUNK, int((n_valid - have) / share * 1.02) + 16)
        chunk_seed = int(seeds.spawn(1)[0].generate_state(1)[0])
        index = space.digits_to_index(sampler.sample(n, target_class=target_class, seed=chunk_seed))
        if len(index) == 0:
            raise InputError(f"{sampler.name} gives no more samples: {have} of {n_valid} are valid")
        places = np.flatnonzero(index >= 0)[: n_valid - have]
        have += len(places)
        cost = int(places[-1]) + 1 if have == n_valid else len(index)
        raw += cost
        if raw >= _PATIENCE and have < raw * _MIN_VALID:
            raise InputError(f"{sampler.name} makes too few real compositions: {have} of {raw:,}")
        if progress:
            progress(have, n_valid)
        yield index[places], cost


def draw_unique(
    sampler: Sampler,
    n: int,
    *,
    target_class: int,
    seed: int,
    novel_to: TrainingSet | None = None,
    space: Space | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Draw different compounds in the order in which the sampler first shows them.

    All orders of a composition's equivalent sites are one compound, and cost one calculation; the order that
    comes first stands for it. From an `ExactSampler` all are drawn at once, see
    `elpa_env.sampler.unique_sample`; of any other a stream of samples is drawn until it has shown enough.

    Args:
        sampler: what draws.
        n: different compounds wanted, at least 1.
        target_class: 1..k.
        seed: of the draws.
        novel_to: leaves out the compounds of this training set.
        space: of the compositions; what the sampler says by default.
        progress: called with the compounds so far.

    Returns:
        (n,) index.

    Raises:
        InputError: the sampler has fewer than `n` to give, or hardly ever shows a new one.
    """
    check_n_samples(n)
    space = space_of(sampler) if space is None else space
    if is_exact(sampler):
        try:
            exclude = None if novel_to is None else novel_to.index
            return unique_sample(space, sampler.distribution(target_class), n, seed=seed, exclude=exclude)
        except InputError as error:
            raise InputError(f"{sampler.name}: {error}") from error
    seeds = np.random.SeedSequence(seed)
    known = np.zeros(0, dtype=np.int64) if novel_to is None else novel_to.index
    seen = Seen(space, space.index_to_compound(known))
    found: list[NDArray[np.int64]] = []
    have, size = 0, n
    while have < n:
        before = have
        size = min(max(size, n - have), CHUNK)
        round_seed = int(seeds.spawn(1)[0].generate_state(1)[0])
        for index, _ in draw_valid(sampler, size, target_class=target_class, seed=round_seed, space=space):
            compound, places = np.unique(space.index_to_compound(index), return_index=True)
            new = index[np.sort(places[~seen.has(compound)])[: n - have]]
            seen.add(space.index_to_compound(new))
            found.append(new)
            have += len(new)
        if size >= _PATIENCE and have < min(n, before + size * _MIN_VALID):
            raise InputError(
                f"{sampler.name} hardly shows a new compound after {have:,} different ones, "
                f"{n:,} are wanted: ask for fewer"
            )
        if progress:
            progress(have, n)
        size *= 2
    return np.concatenate(found)


class Seen:
    """A growing set of compositions or compounds by their index.

    Args:
        space: of the compositions.
        index: (n,) that are in it from the start; none by default.
    """

    def __init__(self, space: Space, index: NDArray[np.int64] | None = None) -> None:
        self._table = np.zeros(space.n_table, dtype=bool) if space.enumerable else None
        self._sorted = np.zeros(0, dtype=np.int64)
        if index is not None:
            self.add(index)

    def has(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) whether they are in it."""
        return np.isin(index, self._sorted) if self._table is None else self._table[index]

    def add(self, index: NDArray[np.int64]) -> None:
        """Put them into it."""
        if self._table is None:
            self._sorted = np.union1d(self._sorted, index)
        else:
            self._table[index] = True


def count_samples(
    sampler: Sampler,
    n_valid: int,
    *,
    target_class: int,
    seed: int,
    keep: int = 0,
    space: Space | None = None,
    progress: Progress | None = None,
    watch: Callable[[NDArray[np.int64]], None] | None = None,
) -> tuple[Tally, NDArray[np.int64]]:
    """Draw and count `n_valid` valid samples.

    Args:
        sampler: what draws.
        n_valid: valid samples wanted, at least 1.
        target_class: 1..k.
        seed: of the draws.
        keep: samples to return.
        space: of the compositions; what the sampler says by default.
        progress: called with the valid samples so far.
        watch: called with every chunk of valid index, in the order drawn.

    Returns:
        The tally, and the index of the first `keep` samples in the order drawn.
    """
    space = space_of(sampler) if space is None else space
    tally, kept = Tally(space), []
    how: dict[str, Any] = {"target_class": target_class, "seed": seed, "space": space, "progress": progress}
    for index, cost in draw_valid(sampler, n_valid, **how):
        kept.append(index[: max(0, keep - tally.n_valid)])
        tally.add_index(index)
        tally.n_raw += cost - len(index)
        if watch:
            watch(index)
    return tally, np.concatenate(kept)


def count_chunks(
    chunks: Iterable[NDArray[np.int64]], space: Space = ELPASOLITE_SPACE, *, keep: int = 0
) -> tuple[Tally, NDArray[np.int64]]:
    """Count a stream of index chunks.

    Returns:
        The tally, and the first `keep` index that are compositions.
    """
    tally = Tally(space)
    kept = [np.zeros(0, dtype=np.int64)]
    for index in chunks:
        if (missing := keep - sum(map(len, kept))) > 0:
            kept.append(index[index >= 0][:missing])
        tally.add_index(index)
    return tally, np.concatenate(kept)


@dataclass(frozen=True)
class SampleScore:
    """What samples are worth where nobody knows all compositions; see `Score` for the names.

    Attributes:
        metrics: under the keys of `eval.metrics.METRICS`; NaN for those that need a table of all
            compositions.
        n_valid: samples scored.
        n_asked: different compositions, each of which the energy model was asked about once.
        novel: those of them that are not in the training set.
        rediscovered: those that are.
        repeated: samples that had been drawn before.
        found: different compositions in the target.
    """

    metrics: dict[str, float]
    n_valid: int
    n_asked: int
    novel: int
    rediscovered: int
    repeated: int
    found: int
    valid_fraction: float = float("nan")

    def as_dict(self) -> dict[str, Any]:
        """For the results file, NaN as None."""
        metrics = {key: None if np.isnan(value) else value for key, value in self.metrics.items()}
        names = ("n_valid", "n_asked", "novel", "rediscovered", "repeated", "found")
        return {**metrics, **{name: getattr(self, name) for name in names}}


def score_samples(
    chunks: Iterable[NDArray[np.int64]],
    energy_model: EnergyModel,
    *,
    space: Space,
    target_class: int,
    training_set: TrainingSet | None = None,
) -> SampleScore:
    """Score samples under an energy model of the user's, without a table of all compositions.

    Args:
        chunks: (n,) index of valid samples, in the order drawn.
        energy_model: asked once about every different composition.
        space: of the compositions.
        target_class: 1..k.
        training_set: what counts as known.

    Raises:
        InputError: there are no samples, or the model fails.
    """
    target_class = space.targets.check(target_class)
    drawn = np.concatenate([np.zeros(0, dtype=np.int64), *chunks])
    index, first, counts = np.unique(drawn[drawn >= 0], return_index=True, return_counts=True)
    if len(index) == 0:
        raise InputError("there is no valid composition to score")
    parts = [index[start : start + CHUNK] for start in range(0, len(index), CHUNK)]
    energy = np.concatenate([ask_energies(space, part, energy_model) for part in parts])
    classes = space.targets.classify(energy)
    known = np.zeros(0, dtype=np.int64) if training_set is None else training_set.index
    rediscovered = int(np.isin(index, known).sum())
    right, beside = classes == target_class, np.isin(classes, space.targets.neighbours(target_class))
    new = first_new(space, index[np.argsort(first)], training_set)
    metrics = dict.fromkeys(METRICS, float("nan")) | {
        "precision": float(counts[right].sum() / counts.sum()),
        "precision_neighbour": float(counts[beside].sum() / counts.sum()),
    }
    if len(new) == NEW:
        metrics["new_precision"] = float(right[np.isin(index, new)].mean())
    return SampleScore(
        metrics=metrics,
        n_valid=int(counts.sum()),
        n_asked=len(index),
        novel=len(index) - rediscovered,
        rediscovered=rediscovered,
        repeated=int(counts.sum()) - len(index),
        found=int(right.sum()),
    )


def sample_table(
    index: NDArray[np.int64],
    *,
    judge: Judge | None,
    training_set: TrainingSet,
    seen: Seen | None = None,
    space: Space | None = None,
) -> pd.DataFrame:
    """One row a sample: formula, atomic numbers, energy, class, and whether it is new.

    Args:
        index: (n,) valid samples in the order drawn.
        judge: decides energies and classes; None leaves them out.
        training_set: what counts as known.
        seen: compositions that were drawn before these; gains those drawn now. Nothing was by default.
        space: of the compositions; the judge's by default.

    Returns:
        n rows; `status` is "repeated" from a composition's second appearance on, else "rediscovered"
        if the training set holds it, else "novel".
    """
    if space is None:
        space = training_set.space if judge is None else judge.space
    numbers = space.index_to_numbers(index)
    frame = pd.DataFrame({"formula": space.index_to_formula(index)})
    for site, column in zip(space.sites, numbers.T, strict=True):
        frame[f"Z_{site}"] = column
    if judge is not None:
        frame["energy"] = judge.energy(index).round(4)
        frame["energy_class"] = judge.energy_class(index)
    status = np.where(np.isin(index, training_set.index), REDISCOVERED, NOVEL).astype(object)
    repeated = frame.duplicated("formula").to_numpy()
    if seen is not None:
        repeated = repeated | seen.has(index)
        seen.add(index)
    status[repeated] = REPEATED
    frame["status"] = status
    return frame
