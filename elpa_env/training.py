"""Training sets: the DFT table, the embedded one, a user's own; augmentation, subsets, balanced draws."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elpa_env import catalogue, dft
from elpa_env.errors import InputError
from elpa_env.files import sha256
from elpa_env.landscape import load_landscape
from elpa_env.space import ELPASOLITE_SPACE, Space


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Compositions with their energies.

    Attributes:
        index: (n,) int64, position in the composition table.
        energy: (n,) float64, the quantity that the space's targets are intervals of: of elpasolite the
            formation energy in eV/atom.
        name: where the rows come from, in words; stands in every result.
        space: of the compositions.
    """

    index: NDArray[np.int64]
    energy: NDArray[np.float64]
    name: str
    space: Space = ELPASOLITE_SPACE

    def __len__(self) -> int:
        return len(self.index)

    @functools.cached_property
    def energy_class(self) -> NDArray[np.int8]:
        """(n,) 1..k; 0 where an energy is in no target."""
        return self.space.targets.classify(self.energy)

    @functools.cached_property
    def digits(self) -> NDArray[np.int8]:
        """(n, 2 S) row, column of every site."""
        return self.space.index_to_digits(self.index)

    @functools.cached_property
    def scaled(self) -> NDArray[np.float32]:
        """(n, 2 S) eq. 1 of `digits`."""
        return self.space.scale(self.digits)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """(k,) rows in classes 1..k."""
        return np.bincount(self.energy_class, minlength=self.space.targets.n + 1)[1:]

    def distinct(self) -> TrainingSet:
        """The rows as they were calculated: orders of equivalent sites of the same energy become one row."""
        index = self.space.index_to_compound(self.index)
        rows = np.unique(np.rec.fromarrays([index, self.energy]))
        index, energy = rows["f0"].astype(np.int64), rows["f1"].astype(np.float64)
        return TrainingSet(index, energy, self.name, self.space)

    @property
    def _pairs(self) -> str:
        """What messages call the orders of one compound."""
        return f"{'/'.join(self.space.prototype.equivalent[0])} pairs" if self.space.exchanges else "rows"

    @functools.cached_property
    def n_labels(self) -> int:
        """Energies behind the rows, see `distinct`."""
        return len(self.distinct())

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the rows, their order left aside; energies to a microelectronvolt.

        Of any other space than elpasolite's it covers that space, too.
        """
        order = np.lexsort((self.energy, self.index))
        micro = np.rint(self.energy[order] * 1e6).astype("<i8")
        rows = self.index[order].astype("<i8").tobytes() + micro.tobytes()
        if self.space == ELPASOLITE_SPACE:
            return sha256(rows)
        return sha256(rows + json.dumps(self.space.to_dict(), sort_keys=True).encode())

    def record(self) -> dict[str, Any]:
        """What results and checkpoints say of the rows: their name, number, energies and hash."""
        return {"name": self.name, "rows": len(self), "labels": self.n_labels, "sha256": self.sha256}

    def augmented(self) -> TrainingSet:
        """Add every missing order of equivalent sites, with the energy of the row that it mirrors.

        Of elpasolite these are the A/B swaps: sites A and B are equivalent in the structure. A composition
        that
        stands in both orders keeps both energies (Türk et al. 2022, section 2.1: 10,590 rows become 21,112).
        Where no sites are equivalent nothing is added.
        """
        if not self.space.exchanges:
            return self
        index, energy = self.index, self.energy
        for image in self.space.images(self.index):
            missing = ~np.isin(image, index)
            index = np.concatenate([index, image[missing]])
            energy = np.concatenate([energy, self.energy[missing]])
        labels = "/".join(self.space.prototype.equivalent[0])
        return TrainingSet(index, energy, f"{self.name}, {labels} swaps added", self.space)

    def subset(self, n: int, *, seed: int) -> TrainingSet:
        """Draw `n` rows at random; all orders of a composition are drawn or left together.

        Args:
            n: rows; in an augmented set an even number, twice the DFT calculations behind them.
            seed: of the draw.

        Raises:
            InputError: `n` is not 1..len(self), or cannot be made up of whole groups of these.
        """
        if not 1 <= n <= len(self):
            raise InputError(f"subset must be 1..{len(self)} rows, got {n}")
        groups = np.unique(self.space.index_to_compound(self.index), return_inverse=True)[1]
        sizes = np.bincount(groups)
        order = np.random.default_rng(seed).permutation(len(sizes))
        chosen = order[: np.searchsorted(np.cumsum(sizes[order]), n) + 1]
        if sizes[chosen].sum() != n:
            raise InputError(
                f"subset must hold whole {self._pairs}, got {n}: take {sizes[chosen].sum()} rows"
            )
        rows = np.flatnonzero(np.isin(groups, chosen))
        return self.take(rows, f"{n} random rows of: {self.name}")

    def take(self, rows: NDArray[np.integer[Any]], name: str) -> TrainingSet:
        """Some rows, under a name of their own."""
        return TrainingSet(self.index[rows], self.energy[rows], name, self.space)


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
    data: str | Path | None = None,
    *,
    space: str | Path | catalogue.Benchmark = catalogue.ELPASOLITE_NAME,
    augment: bool = True,
    subset: int | None = None,
    seed: int = 0,
) -> TrainingSet:
    """Load a training set.

    Args:
        data: what ships with the space by default. Of elpasolite that is "landscape": the embedded set, drawn
            from the landscape with the DFT table's size and class counts; "dft" is the DFT table, from the
            folder that ``ELPA_DATA_DIR`` names or the user's cache. Of a space with a table of energies it is
            "fifth":
            a seeded fifth of its rows. Else the path of a .csv file (see `elpa_env.dft.read_path`); of
            elpasolite also of the published pickle, or of a folder that holds the DFT table.
        space: name or TOML file, see `elpa_env.load_space`.
        augment: add the missing orders of equivalent sites.
        subset: rows to draw at random, counted after augmentation.
        seed: of that draw.

    Raises:
        InputError: a file is missing, truncated, altered, hostile or not of the expected form.
    """
    known = space if isinstance(space, catalogue.Benchmark) else catalogue.load_space(space)
    rows = _rows(str(data) if data is not None else known.data, known)
    if augment:
        rows = rows.augmented()
    return rows if subset is None else rows.subset(subset, seed=seed)


def _rows(data: str, benchmark: catalogue.Benchmark) -> TrainingSet:
    """The rows of a training set as they stand there."""
    space = benchmark.space
    if data == catalogue.FIFTH and benchmark.energies is not None:
        table = benchmark.energies()
        known, chosen = table.known(), benchmark.training_index()
        name = f"{benchmark.title}: {len(chosen):,} of {len(known):,} rows, a seeded fifth"
        return TrainingSet(chosen, table.columns[space.targets.quantity][chosen], name, space)
    if space.prototype != ELPASOLITE_SPACE.prototype:
        if not data:
            raise InputError(f"{space.name} ships no training set: name a .csv file with --data")
        rows = dft.read_path(Path(data), space)
    elif data == catalogue.LANDSCAPE:
        landscape = load_landscape()
        index = landscape.training_index
        name = f"embedded: {len(index):,} rows drawn from the landscape"
        return TrainingSet(index, landscape.energy(index).astype(np.float64), name, space)
    else:
        rows = dft.read_dft() if data == "dft" else dft.read_path(Path(data), space)
    name = f"{rows.name}: {len(rows.energy):,} rows"
    return TrainingSet(space.numbers_to_index(rows.numbers), rows.energy, name, space)
