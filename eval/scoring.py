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
from elpa_env.landscape import Landscape, load_landscape
from elpa_env.sampler import ExactSampler, Progress, Sampler, unique_sample
from elpa_env.space import N_TABLE, SITES, digits_to_index, index_to_formula, index_to_numbers
from elpa_env.training import TrainingSet
from eval.metrics import all_metrics

CHUNK: Final = 1 << 20
NOVEL, REDISCOVERED, REPEATED = "novel", "rediscovered", "repeated"
_MIN_VALID: Final = 1e-3
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
            self.add_index(digits_to_index(digits[start : start + CHUNK]))

    def add_index(self, index: NDArray[np.int64]) -> None:
        """Count (n,) index; -1 counts as raw alone."""
        self.n_raw += len(index)
        np.add.at(self.counts, index[index >= 0], 1)


@dataclass(frozen=True)
class Score:
    """What a set of samples is worth.

    Attributes:
        metrics: the five metrics under the keys of `eval.metrics.METRICS`.
        n_valid: valid samples scored.
        n_raw: candidates drawn to get them.
        novel: different compositions that are not in the training set; None without one.
        rediscovered: different compositions that are; None without a training set.
        repeated: samples that had been drawn before.
    """

    metrics: dict[str, float]
    n_valid: int
    n_raw: int
    novel: int | None
    rediscovered: int | None
    repeated: int

    @property
    def valid_fraction(self) -> float:
        """Share of the candidates that are real compositions."""
        return self.n_valid / self.n_raw if self.n_raw else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """For the results file."""
        return {
            **self.metrics,
            "n_valid": self.n_valid,
            "n_raw": self.n_raw,
            "valid_fraction": self.valid_fraction,
            "novel": self.novel,
            "rediscovered": self.rediscovered,
            "repeated": self.repeated,
        }


def score_tally(
    tally: Tally,
    *,
    target_class: int,
    training_set: TrainingSet | None = None,
    landscape: Landscape | None = None,
) -> Score:
    """Score counted samples against the landscape.

    Raises:
        InputError: nothing valid was counted, or the class is not 1..10.
    """
    check_target_class(target_class)
    if tally.n_valid == 0:
        raise InputError("there is no valid composition to score")
    landscape = landscape or load_landscape()
    drawn = tally.counts > 0
    unique = int(drawn.sum())
    known = None if training_set is None else int(drawn[np.unique(training_set.index)].sum())
    return Score(
        metrics=all_metrics(tally.counts, landscape.table_class, target_class=target_class),
        n_valid=tally.n_valid,
        n_raw=tally.n_raw,
        novel=None if known is None else unique - known,
        rediscovered=known,
        repeated=tally.n_valid - unique,
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
    if n_valid < 1:
        raise InputError(f"the number of samples must be at least 1, got {n_valid}")
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
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Draw different compositions in the order in which the sampler first shows them.

    From an `ExactSampler` they are drawn at once, see `elpa_env.sampler.unique_sample`; of any other a
    stream of samples is drawn until it has shown enough.

    Args:
        sampler: what draws.
        n: different compositions wanted, at least 1.
        target_class: 1..10.
        seed: of the draws.
        progress: called with the compositions so far.

    Returns:
        (n,) index.

    Raises:
        InputError: the sampler has fewer than `n` to give, or hardly ever shows a new one.
    """
    if n < 1:
        raise InputError(f"the number of samples must be at least 1, got {n}")
    if isinstance(sampler, ExactSampler):
        try:
            return unique_sample(sampler.distribution(target_class), n, seed=seed)
        except InputError as error:
            raise InputError(f"{sampler.name}: {error}") from error
    seeds = np.random.SeedSequence(seed)
    seen = np.zeros(N_TABLE, dtype=bool)
    found: list[NDArray[np.int64]] = []
    have, size = 0, n
    while have < n:
        before = have
        size = min(max(size, n - have), CHUNK)
        round_seed = int(seeds.spawn(1)[0].generate_state(1)[0])
        for index, _ in draw_valid(sampler, size, target_class=target_class, seed=round_seed):
            _, places = np.unique(index, return_index=True)
            first = index[np.sort(places)]
            new = first[~seen[first]][: n - have]
            seen[new] = True
            found.append(new)
            have += len(new)
        if size >= _PATIENCE and have < min(n, before + size * _MIN_VALID):
            raise InputError(
                f"{sampler.name} hardly shows a new composition after {have:,} different ones, "
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
    training_set: TrainingSet,
    landscape: Landscape | None = None,
) -> pd.DataFrame:
    """One row a sample: formula, atomic numbers, energy, class, and whether it is new.

    Args:
        index: (n,) valid samples in the order drawn.
        training_set: what counts as known.
        landscape: of the energies; the shipped one by default.

    Returns:
        n rows; `status` is "repeated" from a composition's second appearance on, else "rediscovered"
        if the training set holds it, else "novel".
    """
    landscape = landscape or load_landscape()
    numbers = index_to_numbers(index)
    frame = pd.DataFrame({"formula": index_to_formula(index)})
    for site, column in zip(SITES, numbers.T, strict=True):
        frame[f"Z_{site}"] = column
    frame["energy"] = landscape.energy(index).round(4)
    frame["energy_class"] = landscape.energy_class(index)
    status = np.where(np.isin(index, training_set.index), REDISCOVERED, NOVEL).astype(object)
    status[frame.duplicated("formula")] = REPEATED
    frame["status"] = status
    return frame
