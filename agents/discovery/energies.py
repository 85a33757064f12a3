"""Where the energies of a campaign come from: tables, the landscape, callables, calculators, a command.

A source calculates one compound at a time and never raises for a calculation that fails: it says why. A
table answers for many at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from agents.discovery.command import CommandEnergy
from agents.discovery.outcome import Outcome
from elpa_env import catalogue, dft
from elpa_env.errors import InputError, printable
from elpa_env.plugins import import_attribute
from elpa_env.space import Space
from elpa_env.table import EnergyModel

LANDSCAPE: Final = "landscape"
COMMAND: Final = "command:"
CHOICES: Final = "landscape, a .csv file, module:callable, chgnet, or 'command: PROGRAM ARGUMENTS'"


class EnergySource(Protocol):
    """What gives the energies of compounds.

    Attributes:
        name: stands beside every label.
        workers: how several calculations run side by side on one machine: in worker processes, or in threads
            of this one, where each has a process of its own.
    """

    name: str
    workers: Literal["threads", "processes"]

    def __call__(self, numbers: NDArray[np.int16]) -> Outcome:
        """The energy of (S,) atomic numbers on the sites, or why there is none."""
        ...

    def close(self) -> None:
        """End all that it started."""
        ...


@runtime_checkable
class BatchSource(Protocol):
    """A source that answers for many compounds at once, in next to no time."""

    def batch(self, numbers: NDArray[np.int16]) -> list[Outcome]:
        """The energies of (n, S) atomic numbers."""
        ...


@dataclass
class TableEnergy:
    """Energies that are known already.

    Attributes:
        name: see `EnergySource`.
        model: gives (n,) values, NaN where it knows none.
    """

    name: str
    model: EnergyModel
    workers: Literal["threads", "processes"] = "threads"

    def batch(self, numbers: NDArray[np.int16]) -> list[Outcome]:
        """See `BatchSource`."""
        energies = np.asarray(self.model(numbers), dtype=np.float64)
        return [
            Outcome(energy) if math.isfinite(energy) else Outcome(math.nan, f"{self.name} has no energy")
            for energy in energies.tolist()
        ]

    def __call__(self, numbers: NDArray[np.int16]) -> Outcome:
        """See `EnergySource`."""
        return self.batch(np.asarray(numbers)[None])[0]

    def close(self) -> None:
        """Nothing was started."""


@dataclass
class CallableEnergy:
    """Energies by a function of the user's own.

    Attributes:
        name: ``module:callable``, by which worker processes find it.
        space: of the compositions.
    """

    name: str
    space: Space
    workers: Literal["threads", "processes"] = "processes"
    _model: EnergyModel | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._load()

    def _load(self) -> EnergyModel:
        if self._model is None:
            found: Any = import_attribute(self.name)
            if not callable(found):
                raise InputError(f"{self.name} is no function of atomic numbers")
            self._model = found
        return self._model

    def __getstate__(self) -> dict[str, Any]:
        """Without the function, which may not travel."""
        return {**self.__dict__, "_model": None}

    def __call__(self, numbers: NDArray[np.int16]) -> Outcome:
        """See `EnergySource`."""
        began = time.perf_counter()
        try:
            answer = self._load()(np.asarray(numbers, dtype=np.int16)[None])
            if isinstance(answer, Mapping):
                answer = answer[self.space.targets.quantity]
            (energy,) = np.asarray(answer, dtype=np.float64).reshape(-1).tolist()
        except Exception as error:
            return Outcome(math.nan, one_line(error), time.perf_counter() - began)
        seconds = time.perf_counter() - began
        if not math.isfinite(energy):
            return Outcome(math.nan, f"{self.name} gives {energy}", seconds)
        return Outcome(energy, seconds=seconds)

    def close(self) -> None:
        """Nothing was started."""


def one_line(error: BaseException) -> str:
    """What an exception says, on one line of at most 300 characters."""
    lines = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {lines[0] if lines else ''}")[:300]


def load_energy(
    name: str,
    space: Space,
    *,
    references: str = "",
    time_limit: float = 3600.0,
    retries: int = 2,
) -> EnergySource:
    """The source of energies of a name.

    Args:
        name: ``landscape``, what ships with the space; the path of a .csv file of compositions and eV/atom;
            ``module:callable``, an `elpa_env.EnergyModel`; ``chgnet``; or ``command:`` and a program with its
            arguments, see `agents.discovery.command`.
        space: of the compositions.
        references: of ``chgnet``, see `agents.discovery.references.load_references`.
        time_limit: seconds that a command may take for a structure.
        retries: further tries that a command has for a structure.

    Raises:
        InputError: there is no such source, or it cannot work in this space.
    """
    if name.startswith(COMMAND):
        return CommandEnergy(name.removeprefix(COMMAND).strip(), space, time_limit, retries)
    if name == "chgnet":
        from agents.discovery.chgnet import chgnet_energy

        return chgnet_energy(space, references)
    if references:
        raise InputError(f"--references are for chgnet, which gives total energies, not for {name!r}")
    if name == LANDSCAPE:
        return TableEnergy(LANDSCAPE, catalogue.reference(space))
    if name.endswith(".csv"):
        return csv_energy(Path(name), space)
    if ":" in name:
        return CallableEnergy(name, space)
    raise InputError(f"energies must come from {CHOICES}, got {name!r}")


def csv_energy(path: Path, space: Space) -> TableEnergy:
    """Energies from a .csv file; a compound that stands there in several orders has the first one's.

    Raises:
        InputError: it cannot be read.
    """
    rows = dft.read_path(path, space)
    return TableEnergy(f"table {rows.name}", RowsEnergy.of(space, rows.numbers, rows.energy))


@dataclass(frozen=True, eq=False)
class RowsEnergy:
    """Energies of some compounds of a space of any size.

    Attributes:
        space: of the compositions.
        compound: (n,) ascending.
        energy: (n,) eV/atom.
    """

    space: Space
    compound: NDArray[np.int64]
    energy: NDArray[np.float64]

    @classmethod
    def of(cls, space: Space, numbers: NDArray[np.int16], energy: NDArray[np.float64]) -> RowsEnergy:
        """Those of rows, of which the first of a compound counts."""
        compound = space.index_to_compound(space.numbers_to_index(numbers))
        found, first = np.unique(compound, return_index=True)
        return cls(space, found, energy[first])

    def __call__(self, numbers: NDArray[np.int16]) -> NDArray[np.float64]:
        """(n,) eV/atom of (n, S) atomic numbers; NaN where nothing is known."""
        compound = self.space.index_to_compound(self.space.numbers_to_index(numbers))
        place = np.minimum(np.searchsorted(self.compound, compound), len(self.compound) - 1)
        return np.where(self.compound[place] == compound, self.energy[place], np.nan)
