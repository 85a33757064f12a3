"""Counting and judging what a sampler draws: what is valid, novel, rediscovered or repeated.

Samples are counted in a stream of chunks, so any number of them fits into the same memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from elpa_env.classes import check_target_class
from elpa_env.errors import InputError
from elpa_env.sampler import ExactSampler, Progress, Sampler, check_n_samples, unique_sample
from elpa_env.space import (
    N_TABLE,
    SITES,
    composition_mask,
    digits_to_index,
    index_to_compound,
    index_to_formula,
    index_to_numbers,
)
from elpa_env.training import TrainingSet
from eval.judge import Judge
from eval.metrics import all_metrics, compound_count, in_class

CHUNK: Final = 1 << 20
NOVEL, REDISCOVERED, REPEATED = "novel", "rediscovered", "repeated"
_MIN_VALID: Final = 1e-3
"""Share of real compositions below which a stream is given up: each would cost over a thousand candidates.
What states its distribution pays for none of them and may go down to `elpa_env.sampler.MIN_VALID`."""
_PATIENCE: Final = 200_000


class Tally:
    """How often each composition was drawn, in a table of 39^4 counts.

    Attributes:
        counts: (39^4,) int64 valid draws of each composition.
        n_raw: draws, those that are no composition included.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(N_TABLE, dtype=np.int64)
        self.n_raw = 0

    @property
    def n_valid(self) -> int:
        """Draws that are real compositions."""
        return int(self.counts.sum())

    def add_digits(self, digits: NDArray[np.int8]) -> None:
        """Count (n, 8) digits, any n."""
        for start in range(0, len(digits), CHUNK):
            self._add(digits_to_index(digits[start : start + CHUNK]))

    def add_index(self, index: NDArray[np.int64]) -> None:
        """Count (n,) index; -1, and what repeats an element, counts as raw alone."""
        # the last entry of the table repeats an element, so that -1 finds what it should
        self._add(np.where(composition_mask().take(index), index, -1))

    def _add(self, index: NDArray[np.int64]) -> None:
        self.n_raw += len(index)
        np.add.at(self.counts, index[index >= 0], 1)

    def sparse(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """What was drawn at all, to be stored: (k,) index, ascending, and (k,) counts."""
        index = np.flatnonzero(self.counts)
        return index.astype(np.int32), self.counts[index]

    @classmethod
    def from_sparse(
        cls, index: NDArray[np.integer[Any]], counts: NDArray[np.integer[Any]], n_raw: int
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
            0 <= index[0] and index[-1] < N_TABLE and (index[1:] > index[:-1]).all() and (counts > 0).all()
        ):
            raise InputError("stored counts must be positive, at ascending index of the composition table")
        if not composition_mask()[index].all():
            raise InputError("stored counts must be of real compositions, got some that repeat an element")
        tally = cls()
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
            **self.metrics,
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
) -> Score:
    """Score counted samples, whenever and by whatever they were drawn.

    Args:
        tally: of the samples.
        judge: decides their classes.
        target_class: 1..10.
        training_set: what counts as known.

    Raises:
        InputError: nothing valid was counted, or the class is not 1..10.
    """
    check_target_class(target_class)
    if tally.n_valid == 0:
        raise InputError("there is no valid composition to score")
    drawn = tally.counts > 0
    unique = int(drawn.sum())
    known = None if training_set is None else int(drawn[np.unique(training_set.index)].sum())
    return Score(
        metrics=all_metrics(tally.counts, judge.table_class, target_class=target_class),
        judge=judge.name,
        n_valid=tally.n_valid,
        n_raw=tally.n_raw,
        novel=None if known is None else unique - known,
        rediscovered=known,
        repeated=tally.n_valid - unique,
        compounds_found=compound_count(in_class(drawn, judge.table_class, target_class)),
        compounds_in_class=int(judge.compound_counts[target_class]),
    )


def draw_valid(
    sampler: Sampler,
    n_valid: int,
    *,
    target_class: int,
    seed: int,
    progress: Progress | None = None,
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Draw candidates until `n_valid` of them are real compositions.

    Args:
        sampler: what draws.
        n_valid: valid samples wanted, at least 1.
        target_class: 1..10.
        seed: of the draws; each chunk gets a seed of its own.
        progress: called with the valid samples so far.

    Yields:
        Chunks of valid index, in the order drawn, and the candidates that the chunk cost.

    Raises:
        InputError: the sampler hardly ever makes a real composition.
    """
    check_n_samples(n_valid)
    seeds = np.random.SeedSequence(seed)
    have, raw = 0, 0
    while have < n_valid:
        share = max(have / raw, _MIN_VALID) if raw else 1.0
        n = min(CHUNK, int((n_valid - have) / share * 1.02) + 16)
        chunk_seed = int(seeds.spawn(1)[0].generate_state(1)[0])
        index = digits_to_index(sampler.sample(n, target_class=target_class, seed=chunk_seed))
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
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Draw different compounds in the order in which the sampler first shows them.

    Both A/B orders of a composition are one compound, and cost one calculation; the order that comes first
    stands for it. From an `ExactSampler` all are drawn at once, see `elpa_env.sampler.unique_sample`; of any
    other a stream of samples is drawn until it has shown enough.

    Args:
        sampler: what draws.
        n: different compounds wanted, at least 1.
        target_class: 1..10.
        seed: of the draws.
        novel_to: leaves out the compounds of this training set.
        progress: called with the compounds so far.

    Returns:
        (n,) index.

    Raises:
        InputError: the sampler has fewer than `n` to give, or hardly ever shows a new one.
    """
    check_n_samples(n)
    if isinstance(sampler, ExactSampler):
        try:
            exclude = None if novel_to is None else novel_to.index
            return unique_sample(sampler.distribution(target_class), n, seed=seed, exclude=exclude)
        except InputError as error:
            raise InputError(f"{sampler.name}: {error}") from error
    seeds = np.random.SeedSequence(seed)
    seen = np.zeros(N_TABLE, dtype=bool)  # by compound
    if novel_to is not None:
        seen[index_to_compound(novel_to.index)] = True
    found: list[NDArray[np.int64]] = []
    have, size = 0, n
    while have < n:
        before = have
        size = min(max(size, n - have), CHUNK)
        round_seed = int(seeds.spawn(1)[0].generate_state(1)[0])
        for index, _ in draw_valid(sampler, size, target_class=target_class, seed=round_seed):
            compound, places = np.unique(index_to_compound(index), return_index=True)
            new = index[np.sort(places[~seen[compound]])[: n - have]]
            seen[index_to_compound(new)] = True
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


def count_samples(
    sampler: Sampler,
    n_valid: int,
    *,
    target_class: int,
    seed: int,
    keep: int = 0,
    progress: Progress | None = None,
) -> tuple[Tally, NDArray[np.int64]]:
    """Draw and count `n_valid` valid samples.

    Returns:
        The tally, and the index of the first `keep` samples in the order drawn.
    """
    tally, kept = Tally(), []
    for index, cost in draw_valid(sampler, n_valid, target_class=target_class, seed=seed, progress=progress):
        kept.append(index[: max(0, keep - tally.n_valid)])
        tally.add_index(index)
        tally.n_raw += cost - len(index)
    return tally, np.concatenate(kept)


def count_chunks(chunks: Iterable[NDArray[np.int64]]) -> Tally:
    """Count a stream of index chunks."""
    tally = Tally()
    for index in chunks:
        tally.add_index(index)
    return tally


def sample_table(
    index: NDArray[np.int64],
    *,
    judge: Judge,
    training_set: TrainingSet,
    seen: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """One row a sample: formula, atomic numbers, energy, class, and whether it is new.

    Args:
        index: (n,) valid samples in the order drawn.
        judge: decides energies and classes.
        training_set: what counts as known.
        seen: (39^4,) True where a composition was drawn before these; gains those drawn now. Nothing was by
            default.

    Returns:
        n rows; `status` is "repeated" from a composition's second appearance on, else "rediscovered"
        if the training set holds it, else "novel".
    """
    numbers = index_to_numbers(index)
    frame = pd.DataFrame({"formula": index_to_formula(index)})
    for site, column in zip(SITES, numbers.T, strict=True):
        frame[f"Z_{site}"] = column
    frame["energy"] = judge.energy(index).round(4)
    frame["energy_class"] = judge.energy_class(index)
    status = np.where(np.isin(index, training_set.index), REDISCOVERED, NOVEL).astype(object)
    repeated = frame.duplicated("formula").to_numpy()
    if seen is not None:
        repeated |= seen[index]
        seen[index] = True
    status[repeated] = REPEATED
    frame["status"] = status
    return frame
