"""Exact figures: what a stated distribution is worth, draws from it, and the solved environment."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from elpa_env.rules import Masking, check_masking
from elpa_env.sampler import (
    Progress,
    Sampler,
    check_distribution,
    check_n_samples,
    count_draws,
    is_exact,
    space_of,
    unique_sample,
)
from elpa_env.solve import NAMES, solve
from elpa_env.space import Space
from elpa_env.training import TrainingSet
from eval.judge import Judge
from eval.metrics import METRICS, NEW, expected_metrics, hit_probability
from eval.scoring import Score, Tally, count_samples, first_new, score_tally

CEILING: Final = "ceiling"
"""Uniform over the class: every sample right, the best expected coverage, no distance."""
SCHEMA_VERSION: Final = 1
"""Of the file that ``elpa solve`` writes."""


@dataclass(frozen=True)
class ExactScore:
    """What a distribution is worth, free of sampling noise; a figure without a meaning is NaN.

    Attributes:
        metrics: under the keys of `eval.metrics.METRICS` that follow from a distribution; coverages and
            compounds are expected ones, see `eval.metrics.expected_metrics`.
        judge: name of the `eval.judge.Judge` that decided the classes.
        n_samples: valid samples on which the coverages and the next three depend.
        novel: expected number of different compositions that are not in the training set; None
            without one.
        rediscovered: expected number of those that are; None without a training set.
        repeated: expected number of samples that had been drawn before.
        valid_fraction: share of the candidates that are real compositions.
        success_rate: share of the candidates that are in the target class.
        entropy_bits: Shannon entropy of the distribution over real compositions, in bits.
        compounds_found: expected number of different compounds drawn as a composition of the target class.
        compounds_in_class: compounds that have a composition in the class.
    """

    metrics: dict[str, float]
    judge: str
    n_samples: int
    novel: float | None
    rediscovered: float | None
    repeated: float
    valid_fraction: float
    success_rate: float
    entropy_bits: float
    compounds_found: float
    compounds_in_class: int

    @property
    def effective_compositions(self) -> float:
        """2 to the entropy: as many equally likely compositions would be as hard to foretell."""
        return float(2**self.entropy_bits)

    def as_dict(self) -> dict[str, Any]:
        """For the results file, NaN as None."""
        values: dict[str, Any] = {
            **self.metrics,
            "judge": self.judge,
            "n_samples": self.n_samples,
            "valid_fraction": self.valid_fraction,
            "success_rate": self.success_rate,
            "entropy_bits": self.entropy_bits,
            "effective_compositions": self.effective_compositions,
            "novel": self.novel,
            "rediscovered": self.rediscovered,
            "repeated": self.repeated,
            "compounds_found": self.compounds_found,
            "compounds_in_class": self.compounds_in_class,
        }
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in values.items()
        }


def exact_score(
    distribution: NDArray[np.float64],
    *,
    judge: Judge,
    target_class: int,
    n_samples: int,
    training_set: TrainingSet | None = None,
) -> ExactScore:
    """Score what an `ExactSampler` states, without drawing a sample.

    Args:
        distribution: (n_table,) of ``sampler.distribution(target_class)``.
        judge: decides the classes.
        target_class: 1..k.
        n_samples: N, valid samples on which the coverages depend.
        training_set: what counts as known.

    Raises:
        InputError: no samples, there is no such class, or it is no distribution.
    """
    target_class = judge.space.targets.check(target_class)
    distribution = check_distribution(judge.space, distribution)
    table_class = judge.table_class
    metrics = expected_metrics(distribution, judge, target_class=target_class, n_samples=n_samples)
    places = np.flatnonzero((distribution > 0) & judge.space.composition_mask)
    valid = float(distribution[places].sum())
    p = distribution[places] / valid
    hits = hit_probability(p, n_samples)
    known = None if training_set is None else float(hits[np.isin(places, training_set.index)].sum())
    in_class = int(judge.compound_counts[target_class])
    return ExactScore(
        metrics=metrics,
        judge=judge.name,
        n_samples=n_samples,
        novel=None if known is None else float(hits.sum()) - known,
        rediscovered=known,
        repeated=n_samples - float(hits.sum()) if len(places) else math.nan,
        valid_fraction=valid,
        success_rate=float(distribution[table_class == target_class].sum()),
        entropy_bits=max(0.0, float(-(p * np.log2(p)).sum())) if len(places) else math.nan,
        compounds_found=metrics["compounds"] * in_class if in_class else 0.0,
        compounds_in_class=in_class,
    )


def count_distribution(
    space: Space,
    distribution: NDArray[np.float64],
    n_valid: int,
    *,
    seed: int,
    keep: int = 0,
    name: str = "the distribution",
) -> tuple[Tally, NDArray[np.int64]]:
    """Draw and count independent samples of a stated distribution, all at once.

    As `eval.scoring.count_samples` of a sampler with that distribution, but in a time that does not
    depend on `n_valid`, see `elpa_env.sampler.count_draws`.

    Args:
        space: of the compositions.
        distribution: (n_table,) probability of every entry of the composition table; what repeats an element
            is no valid sample.
        n_valid: valid samples, at least 1.
        seed: same seed, same samples.
        keep: samples to return, at most `n_valid` of them.
        name: whose distribution it is, for the message.

    Returns:
        The tally, and the index of the first `keep` samples in the order drawn.

    Raises:
        InputError: no samples or too many, or the distribution holds next to no real composition.
    """
    check_n_samples(n_valid)
    tally = Tally(space)
    tally.counts, tally.n_raw, kept = count_draws(
        space, distribution, n_valid, seed=seed, keep=keep, name=name
    )
    return tally, kept


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one sampler drew for a class, before anybody judges it.

    Attributes:
        tally: of the samples.
        kept: (k,) index of the first samples, in the order drawn.
        distribution: (n_table,) that the sampler states; None where it states none.
        seed: of the draws.
    """

    tally: Tally
    kept: NDArray[np.int64]
    distribution: NDArray[np.float64] | None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one sampler drew and what it is worth.

    Attributes:
        drawn: the samples.
        score: of the samples.
        exact: of the distribution; None where the sampler does not state one.
    """

    drawn: Drawn
    score: Score
    exact: ExactScore | None

    @property
    def tally(self) -> Tally:
        """Of the samples."""
        return self.drawn.tally

    @property
    def kept(self) -> NDArray[np.int64]:
        """(k,) index of the first samples, in the order drawn."""
        return self.drawn.kept


def draw(
    sampler: Sampler,
    n_valid: int,
    *,
    target_class: int,
    seed: int,
    keep: int = 0,
    space: Space | None = None,
    progress: Progress | None = None,
) -> Drawn:
    """Draw and count `n_valid` valid samples, which no judge is needed for.

    An `ExactSampler` is asked for its distribution once, and the samples are drawn from it at once.

    Args:
        sampler: what draws.
        n_valid: valid samples, at least 1.
        target_class: 1..k.
        seed: same seed, same samples.
        keep: samples to keep in the order drawn.
        space: of the compositions; what the sampler says by default.
        progress: called with the valid samples so far.

    Raises:
        InputError: the sampler makes too few real compositions, or was not made for the class.
    """
    check_n_samples(n_valid)
    space = space_of(sampler) if space is None else space
    if not is_exact(sampler):
        how: dict[str, Any] = {"target_class": target_class, "seed": seed, "keep": keep, "space": space}
        tally, kept = count_samples(sampler, n_valid, progress=progress, **how)
        return Drawn(tally, kept, None, seed)
    if progress:
        progress(0, n_valid)
    distribution = sampler.distribution(target_class)
    tally, kept = count_distribution(space, distribution, n_valid, seed=seed, keep=keep, name=sampler.name)
    if progress:
        progress(n_valid, n_valid)
    return Drawn(tally, kept, distribution, seed)


def new_compounds(
    space: Space,
    kept: NDArray[np.int64],
    distribution: NDArray[np.float64],
    training_set: TrainingSet | None,
    *,
    seed: int,
) -> NDArray[np.int64]:
    """The first different compounds outside the training set that draws from a distribution show.

    As `eval.scoring.first_new` of endless samples: where those at hand show too few, all are drawn at once.

    Args:
        space: of the compositions.
        kept: (k,) samples of it in the order drawn.
        distribution: (n_table,) that they were drawn from.
        training_set: what counts as known.
        seed: of the draws at once.

    Returns:
        (n,) index, `eval.metrics.NEW` of them, or all that the distribution has.
    """
    new = first_new(space, kept, training_set)
    if len(new) == NEW:
        return new
    known = np.zeros(0, dtype=np.int64) if training_set is None else training_set.index
    left = np.zeros(space.n_table, dtype=bool)
    left[space.compound_table[(distribution > 0) & space.composition_mask]] = True
    left[space.index_to_compound(known)] = False
    n = min(NEW, int(left.sum()))
    return unique_sample(space, distribution, n, seed=seed, exclude=known) if n else kept[:0]


def score_drawn(
    drawn: Drawn, *, judge: Judge, target_class: int, training_set: TrainingSet | None = None
) -> Evaluation:
    """Score what was drawn, and the distribution that it was drawn from if that is stated.

    Args:
        drawn: by `draw`, now or long ago.
        judge: decides energies and classes.
        target_class: 1..k.
        training_set: what counts as known.

    Raises:
        InputError: nothing valid was drawn, or there is no such class.
    """
    how: dict[str, Any] = {"judge": judge, "target_class": target_class, "training_set": training_set}
    new = None
    if drawn.distribution is not None:
        new = new_compounds(judge.space, drawn.kept, drawn.distribution, training_set, seed=drawn.seed)
    elif len(drawn.kept):
        new = first_new(judge.space, drawn.kept, training_set)
    score, exact = score_tally(drawn.tally, new=new, **how), None
    if drawn.distribution is not None:
        exact = exact_score(drawn.distribution, n_samples=drawn.tally.n_valid, **how)
    return Evaluation(drawn, score, exact)


def evaluate(
    sampler: Sampler,
    n_valid: int,
    *,
    judge: Judge,
    target_class: int,
    seed: int,
    training_set: TrainingSet | None = None,
    keep: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """`draw` valid samples and score them; of an `ExactSampler` score its distribution, too.

    Args:
        sampler: what draws.
        n_valid: valid samples, at least 1.
        judge: decides energies and classes.
        target_class: 1..k.
        seed: same seed, same samples.
        training_set: what counts as known.
        keep: samples to keep in the order drawn.
        progress: called with the valid samples so far.

    Raises:
        InputError: the sampler makes too few real compositions, or was not made for the class.
    """
    drawn = draw(
        sampler,
        n_valid,
        target_class=target_class,
        seed=seed,
        keep=keep,
        space=judge.space,
        progress=progress,
    )
    return score_drawn(drawn, judge=judge, target_class=target_class, training_set=training_set)


def solve_class(
    target_class: int, *, judge: Judge, beta: float, gamma: float, n_samples: int, masking: str
) -> dict[str, Any]:
    """Solve one class with both backups and score the Boltzmann policies exactly.

    Args:
        target_class: 1..k.
        judge: decides the classes, of the environment that is solved and in the scores.
        beta: inverse temperature of policy and soft backup.
        gamma: discount factor.
        n_samples: valid samples on which the coverages depend.
        masking: "digits" or "composition".

    Returns:
        The settings, and under "columns" for each backup and the ceiling: what
        `ExactScore.as_dict` gives, and (but for the ceiling) the value of the start state.

    Raises:
        InputError: a value that cannot be used.
    """
    started = time.perf_counter()
    target_class = judge.space.targets.check(target_class)
    mask: Masking = check_masking(masking)
    columns: dict[str, dict[str, Any]] = {}
    for backup, name in NAMES.items():
        solution = solve(target_class, backup=backup, beta=beta, gamma=gamma, masking=mask, landscape=judge)
        score = exact_score(
            solution.distribution(), judge=judge, target_class=target_class, n_samples=n_samples
        )
        columns[name] = {**score.as_dict(), "start_value": solution.start_value}
    members = int(judge.class_counts[target_class])
    uniform = (judge.table_class == target_class) / max(members, 1)
    score = exact_score(uniform, judge=judge, target_class=target_class, n_samples=n_samples)
    columns[CEILING] = score.as_dict()
    return {
        "schema_version": SCHEMA_VERSION,
        "space": judge.space.name,
        "target": judge.space.targets.title(target_class),
        "target_class": target_class,
        "beta": beta,
        "gamma": gamma,
        "masking": masking,
        "n_samples": n_samples,
        "judge": judge.record(),
        "class_members": members,
        "columns": columns,
        "seconds": round(time.perf_counter() - started, 2),
    }


def exact_table(record: Mapping[str, Any]) -> Table:
    """What `solve_class` found: rows as in the paper's tables, a column a sampler."""
    table = Table(
        title=f"{record['target'].capitalize()} solved exactly: beta {record['beta']:g}, "
        f"gamma {record['gamma']:g}, masking {record['masking']}",
        caption=f"exact, in {record['seconds']:.1f} s; judge: {escape(record['judge']['name'])}, "
        f"{record['class_members']:,} compositions in the class\n"
        f"coverage: expected after {record['n_samples']:,} valid samples\n"
        "ceiling: uniform over the class, best of independent draws",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("", no_wrap=True)
    columns = record["columns"]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for key, metric in METRICS.items():
        if metric.exact:
            table.add_row(metric.title, *(metric.show(column[key]) for column in columns.values()))
    table.add_section()
    table.add_row("valid", *(f"{column['valid_fraction'] * 100:.2f} %" for column in columns.values()))
    table.add_row(
        "effective compositions", *(f"{column['effective_compositions']:,.0f}" for column in columns.values())
    )
    values = [column.get("start_value") for column in columns.values()]
    table.add_row("value of the start", *("" if value is None else f"{value:.4f}" for value in values))
    return table
