"""Energies and classes of all compositions of a space, to be looked up."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elpa_env.errors import InputError
from elpa_env.space import Space

EnergyModel = Callable[[NDArray[np.int16]], ArrayLike | Mapping[str, ArrayLike]]
"""Anything that gives (n,) energies for (n, S) atomic numbers: the quantity that the targets are intervals
of.

It may also give several columns by name, of which the targets' quantity is one.
"""


class Table:
    """What is known of every composition of a space; itself an `EnergyModel`.

    Attributes:
        space: of the compositions.
        table_energy: (n_table,) float32, the quantity of the space's targets; NaN where it is not known or
            there is no composition.
        table_class: (n_table,) int8, its class 1..k; 0 where it is in none, not known, or there is no
            composition.
    """

    space: Space
    table_energy: NDArray[np.float32]
    table_class: NDArray[np.int8]

    def energy(self, index: ArrayLike) -> NDArray[np.float32]:
        """(n,) energy at (n,) index; NaN where index is -1 or nothing is known."""
        return self.space.look_up(self.table_energy, index)

    def energy_class(self, index: ArrayLike) -> NDArray[np.int8]:
        """(n,) class 1..k at (n,) index; 0 where index is -1 or nothing is known."""
        return self.space.look_up(self.table_class, index)

    def __call__(self, numbers: NDArray[np.int16]) -> NDArray[np.float32]:
        """(n,) energy of (n, S) atomic numbers."""
        return self.energy(self.space.numbers_to_index(numbers))

    def members(self, target_class: int) -> NDArray[np.int64]:
        """(n,) index of every composition in `target_class`, ascending."""
        return np.flatnonzero(self.table_class == target_class)

    @functools.cached_property
    def class_counts(self) -> NDArray[np.int64]:
        """(k + 1,) compositions in each class; entry 0 counts entries of the table that are in none."""
        return np.bincount(self.table_class, minlength=self.space.targets.n + 1)


@dataclass(frozen=True, eq=False)
class EnergyTable(Table):
    """A table of calculated energies.

    Attributes:
        space: of the compositions.
        table_energy: (n_table,), see `Table`; what stands where there is no composition is disregarded.
        columns: (n_table,) float64 each, all that is known of them; of the quantity itself before it was
            rounded.
        what: where the energies come from, in words.
        calculated: (n,) index of the compositions that were calculated, ascending; None for all whose energy
            is known. Other orders of their equivalent sites are known by them.
    """

    space: Space
    table_energy: NDArray[np.float32]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    what: str = "a table of energies"
    calculated: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        self.space.require_table("a table of energies")
        for name, values in {"energy": self.table_energy, **self.columns}.items():
            if values.shape != (self.space.n_table,):
                raise InputError(f"{name} must be ({self.space.n_table},), got {values.shape}")
        energy = np.where(self.space.composition_mask, self.table_energy, np.nan).astype(np.float32)
        energy.setflags(write=False)
        object.__setattr__(self, "table_energy", energy)

    @classmethod
    def from_rows(
        cls,
        space: Space,
        index: NDArray[np.int64],
        columns: Mapping[str, NDArray[np.float64]],
        *,
        what: str = "a table of energies",
    ) -> EnergyTable:
        """The table that some rows make; what they lack is not known.

        An order of equivalent sites that is not among the rows has the values of one that is: it is the same
        compound.

        Args:
            space: of the compositions.
            index: (n,) compositions, each once.
            columns: (n,) values by name, that of the targets' quantity among them.
            what: where the values come from.

        Raises:
            InputError: the quantity is missing, a composition is none of the table or stands twice, or a
                column is of another length.
        """
        space.require_table("a table of energies")
        quantity = space.targets.quantity
        if quantity not in columns:
            raise InputError(f"energies must have the column {quantity}, got {', '.join(columns) or 'none'}")
        index = space.checked_index(index).astype(np.int64)
        columns = {name: np.asarray(values) for name, values in columns.items()}
        for name, values in columns.items():
            if values.shape != index.shape:
                raise InputError(f"the column {name} must be {index.shape}, got {values.shape}")
        found, counts = np.unique(index, return_counts=True)
        if (counts > 1).any():
            (formula,) = space.index_to_formula(found[counts > 1][:1])
            raise InputError(f"{formula} stands twice in {what}: leave one out")
        tables = {}
        for name, values in columns.items():
            tables[name] = np.full(space.n_table, np.nan)
            tables[name][index] = values
        filled = index
        for image in space.images(index):
            missing = ~np.isin(image, filled)
            filled = np.concatenate([filled, image[missing]])
            for name, values in columns.items():
                tables[name][image[missing]] = values[missing]
        calculated = np.sort(index[np.isfinite(columns[quantity])])
        return cls(space, tables[quantity].astype(np.float32), tables, what, calculated)

    @functools.cached_property
    def table_class(self) -> NDArray[np.int8]:  # type: ignore[override]
        """(n_table,) see `Table`."""
        table = self.space.targets.classify(self.table_energy)
        table.setflags(write=False)
        return table

    def known(self) -> NDArray[np.int64]:
        """(n,) index of the compositions that were calculated, ascending."""
        if self.calculated is not None:
            return self.calculated
        return np.flatnonzero(np.isfinite(self.table_energy))
