"""Training sets: the DFT table, the embedded one, a user's own; augmentation, subsets, balanced draws."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elpa_env import dft
from elpa_env.classes import N_CLASSES, energy_to_class
from elpa_env.errors import InputError
from elpa_env.files import sha256
from elpa_env.landscape import load_landscape
from elpa_env.space import index_to_compound, index_to_digits, numbers_to_index, scale, swap_ab


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Compositions with their formation energies.

    Attributes:
        index: (n,) int64, position in the composition table.
        energy: (n,) float64, eV/atom.
        name: where the rows come from, in words; stands in every result.
    """

    index: NDArray[np.int64]
    energy: NDArray[np.float64]
    name: str

    def __len__(self) -> int:
        return len(self.index)

    @functools.cached_property
    def energy_class(self) -> NDArray[np.int8]:
        """(n,) 1..10."""
        return energy_to_class(self.energy)

    @functools.cached_property
    def digits(self) -> NDArray[np.int8]:
        """(n, 8) row, group of A, B, C, D."""
        return index_to_digits(self.index)

    @functools.cached_property
    def scaled(self) -> NDArray[np.float32]:
        """(n, 8) eq. 1 of `digits`."""
        return scale(self.digits)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """(10,) rows in classes 1..10."""
        return np.bincount(self.energy_class, minlength=N_CLASSES + 1)[1:]

    def distinct(self) -> TrainingSet:
        """The rows as they were calculated: A/B mirror images of the same energy become one row."""
        index = index_to_compound(self.index)
        rows = np.unique(np.rec.fromarrays([index, self.energy]))
        return TrainingSet(rows["f0"].astype(np.int64), rows["f1"].astype(np.float64), self.name)

    @functools.cached_property
    def n_labels(self) -> int:
        """Energies behind the rows, see `distinct`."""
        return len(self.distinct())

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the rows, their order left aside; energies to a microelectronvolt."""
        order = np.lexsort((self.energy, self.index))
        micro = np.rint(self.energy[order] * 1e6).astype("<i8")
        return sha256(self.index[order].astype("<i8").tobytes() + micro.tobytes())

    def record(self) -> dict[str, Any]:
        """What results and checkpoints say of the rows: their name, number, energies and hash."""
        return {"name": self.name, "rows": len(self), "labels": self.n_labels, "sha256": self.sha256}

    def augmented(self) -> TrainingSet:
        """Add every missing A/B swap, with the energy of the row it mirrors.

        Sites A and B are equivalent in the structure. A composition that stands in both orders
        keeps both energies (Türk et al. 2022, section 2.1: 10,590 rows become 21,112).
        """
        swapped = swap_ab(self.index)
        missing = ~np.isin(swapped, self.index)
        return TrainingSet(
            np.concatenate([self.index, swapped[missing]]),
            np.concatenate([self.energy, self.energy[missing]]),
            f"{self.name}, A/B swaps added",
        )

    def subset(self, n: int, *, seed: int) -> TrainingSet:
        """Draw `n` rows at random; both A/B orders of a composition are drawn or left together.

        Args:
            n: rows; in an augmented set an even number, twice the DFT calculations behind them.
            seed: of the draw.

        Raises:
            InputError: `n` is not 1..len(self), or cannot be made up of whole A/B groups.
        """
        if not 1 <= n <= len(self):
            raise InputError(f"subset must be 1..{len(self)} rows, got {n}")
        groups = np.unique(index_to_compound(self.index), return_inverse=True)[1]
        sizes = np.bincount(groups)
        order = np.random.default_rng(seed).permutation(len(sizes))
        chosen = order[: np.searchsorted(np.cumsum(sizes[order]), n) + 1]
        if sizes[chosen].sum() != n:
            raise InputError(f"subset must hold whole A/B pairs, got {n}: take {sizes[chosen].sum()} rows")
        rows = np.flatnonzero(np.isin(groups, chosen))
        return TrainingSet(self.index[rows], self.energy[rows], f"{n} random rows of: {self.name}")


class ClassBalancedSampler:
    """Draws rows so that every class present is equally likely (Türk et al. 2022, section 2.1).

    A row's probability is the inverse of the number of rows in its class, which is the same as
    drawing a class first and then a row of that class.
    """

    def __init__(self, energy_class: NDArray[np.int8]) -> None:
        if len(energy_class) == 0:
            raise InputError("the training set has no rows")
        self._rows = np.argsort(energy_class, kind="stable")
        counts = np.bincount(energy_class)
        self._counts = counts[counts > 0]
        self._starts = np.cumsum(self._counts) - self._counts

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(n,) row numbers, with replacement."""
        which = rng.integers(len(self._counts), size=n)
        offset = (rng.random(n) * self._counts[which]).astype(np.int64)
        rows: NDArray[np.int64] = self._rows[self._starts[which] + offset]
        return rows

    def batches(
        self, batch_size: int, n_batches: int, rng: np.random.Generator, *, block: int = 256
    ) -> Iterator[NDArray[np.int64]]:
        """Yield `n_batches` times (batch_size,) row numbers, drawn `block` batches at a time."""
        for start in range(0, n_batches, block):
            rows = min(block, n_batches - start)
            yield from self.draw(rows * batch_size, rng).reshape(rows, batch_size)


def load_training_set(
    data: str | Path = "landscape",
    *,
    augment: bool = True,
    subset: int | None = None,
    seed: int = 0,
) -> TrainingSet:
    """Load a training set.

    Args:
        data: "landscape": the embedded set, drawn from the landscape with the DFT table's size and
            class counts; "dft": the DFT table, from the folder that ``ELPA_DATA_DIR`` names or the
            user's cache; else the path of a .csv file (`elpa_env.dft.CSV_COLUMNS`), of the published
            pickle, or of a folder that holds the DFT table.
        augment: add the missing A/B swaps.
        subset: rows to draw at random, counted after augmentation.
        seed: of that draw.

    Raises:
        InputError: a file is missing, truncated, altered, hostile or not of the expected form.
    """
    if data == "landscape":
        landscape = load_landscape()
        index = landscape.training_index
        rows = TrainingSet(
            index,
            landscape.energy(index).astype(np.float64),
            f"embedded: {len(index):,} rows drawn from the landscape",
        )
    else:
        table = dft.read_dft() if data == "dft" else dft.read_path(Path(data))
        rows = TrainingSet(
            numbers_to_index(table.numbers),
            table.energy,
            f"{table.name}: {len(table.energy):,} rows",
        )
    if augment:
        rows = rows.augmented()
    return rows if subset is None else rows.subset(subset, seed=seed)
