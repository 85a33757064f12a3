"""Where the energies of a campaign come from: a table, a function, a potential, or a command of the user's.

A source answers for one compound at a time and never raises for a calculation that fails: what it gives
is an `Outcome`, with an energy or with the reason why there is none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from elpa_env import catalogue, dft
from elpa_env.errors import InputError, printable
from elpa_env.plugins import import_attribute
from elpa_env.space import Space
from elpa_env.table import EnergyModel, EnergyTable

Workers = Literal["none", "threads", "processes"]
"""How calculations run side by side on one machine: not at all, since they take no time; on threads, each of
which waits for a process of its own; or in processes."""

LANDSCAPE: Final = "landscape"
CHGNET: Final = "chgnet"
COMMAND: Final = "command:"
SOURCES: Final = f"{LANDSCAPE}, a .csv table, module:callable, {CHGNET} or '{COMMAND} ...'"
"""What a source may be named by."""
FORMATION: Final = "energy"
"""The quantity of targets that is a formation energy; what a potential gives is nothing else."""
_LONGEST: Final = 200


@dataclass(frozen=True)
class Outcome:
    """What a calculation gave.

    Attributes:
        energy: the quantity of the space's targets; of real calculations the formation energy in eV/atom.
            NaN where there is none.
        error: why there is none, in one line; "" where there is one.
        seconds: wall time of the calculation.
        parameters: the free parameters of the structure as relaxed, lengths in angstrom and coordinates as
            fractions; empty where they are not known.
    """

    energy: float
    error: str = ""
    seconds: float = 0.0
    parameters: Mapping[str, float] = field(default_factory=dict)


class EnergySource(Protocol):
    """Anything that gives energies of compounds, one at a time.

    Attributes:
        name: stands beside every label that it gives.
        workers: how several calculations run side by side on one machine.
    """

    name: str
    workers: Workers

    def __call__(self, numbers: NDArray[np.int16]) -> Outcome:
        """The outcome for (S,) atomic numbers on the sites; a calculation that fails raises nothing."""
        ...

    def close(self) -> None:
        """End what runs, other processes included; a later call starts anew."""
        ...


def failed(reason: object, seconds: float = 0.0) -> Outcome:
    """The outcome of a calculation that gave no energy.

    Args:
        reason: an exception or words, of which the first line is kept.
        seconds: that it took.
    """
    lines = str(reason).strip().splitlines()
    if isinstance(reason, BaseException) and not isinstance(reason, InputError):
        words = f"{type(reason).__name__}: {lines[0]}" if lines else type(reason).__name__
    else:
        words = lines[0] if lines else "it failed"
    return Outcome(math.nan, printable(words)[:_LONGEST], seconds)


class ModelEnergy:
    """Energies that an `elpa_env.EnergyModel` gives at once: a landscape, a table or a function.

    Args:
        model: from (n, S) atomic numbers to (n,) values of the space's quantity.
        space: of the compounds.
        name: see `EnergySource`.
    """

    workers: Workers = "none"

    def __init__(self, model: EnergyModel, space: Space, name: str) -> None:
        self.name = name
        self._model = model
        self._space = space

    def __call__(self, numbers: NDArray[np.int16]) -> Outcome:
        """The outcome for (S,) atomic numbers."""
        try:
            (energy,) = self.many(numbers[None])
        except Exception as error:  # whatever a user's function raises
            return failed(error)
        return self.outcome(energy)

    def many(self, numbers: NDArray[np.int16]) -> NDArray[np.float64]:
        """(n,) energies of (n, S) atomic numbers; NaN where there is none.

        Raises:
            InputError: the model gives something else than real numbers, one for each.
            Exception: whatever the model raises.
        """
        answer: Any = self._model(numbers.copy())
        if isinstance(answer, Mapping):
            quantity = self._space.targets.quantity
            if quantity not in answer:
                raise InputError(f"{self.name} gives no {quantity}, got {', '.join(map(str, answer))}")
            answer = answer[quantity]
        values = np.ma.filled(np.ma.asarray(answer, dtype=np.float64), np.nan)
        if values.shape != (len(numbers),):
            raise InputError(f"{self.name} must return ({len(numbers)},) energies, got {values.shape}")
        return values

    def outcome(self, energy: float) -> Outcome:
        """The outcome that an energy of `many` stands for."""
        if math.isfinite(energy):
            return Outcome(float(energy))
        return failed(f"{self.name} has no energy of it")

    def close(self) -> None:
        """There is nothing to end."""


class CallableEnergy:
    """Energies by a function of the user's own, which may take its time: a compound a call.

    Args:
        name: ``module:callable``, by which worker processes find it.
        space: of the compounds.

    Raises:
        InputError: it cannot be imported, or is no function.
    """

    workers: Workers = "processes"

    def __init__(self, name: str, space: Space) -> None:
        self.name = name
        self._space = space
        self._source: ModelEnergy | None = self._load()

    def _load(self) -> ModelEnergy:
        model: Any = import_attribute(self.name)
        if not callable(model):
            raise InputError(
                f"{self.name} is no energy model: it must be callable, got {type(model).__name__}"
            )
        return ModelEnergy(model, self._space, self.name)

    def __getstate__(self) -> dict[str, Any]:
        """Without the function, which worker processes import by its name."""
        return {**self.__dict__, "_source": None}

    def __call__(self, numbers: NDArray[np.int16]) -> Outcome:
        """The outcome for (S,) atomic numbers."""
        began = time.perf_counter()
        try:
            if self._source is None:
                self._source = self._load()
            found = self._source(np.asarray(numbers, dtype=np.int16))
        except InputError as error:
            found = failed(error)
        return replace(found, seconds=time.perf_counter() - began)

    def close(self) -> None:
        """There is nothing to end."""


def load_energy(
    name: str, space: Space, *, references: str = "", time_limit: float = 3600.0, retries: int = 2
) -> EnergySource:
    """The source of energies that a name stands for, checked before any calculation is paid.

    Args:
        name: "landscape", the energies that ship for the space; the path of a .csv table;
            ``module:callable``, an `elpa_env.EnergyModel`; "chgnet"; or ``command: python3 label.py``, see
            `agents.discovery.command`.
        space: of the compounds.
        references: energies of the elements, of which a potential's formation energies need those of all
            that the space may hold; see `agents.discovery.references.load_references`. Those that ship by
            default.
        time_limit: seconds that one calculation may take.
        retries: how often a command that failed without saying why is asked again for the same compound.

    Raises:
        InputError: there is no such source, or it lacks something.
    """
    if not (math.isfinite(time_limit) and time_limit > 0):
        raise InputError(f"time_limit must be a finite number of seconds above 0, got {time_limit!r}")
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise InputError(f"retries must be a whole number of at least 0, got {retries!r}")
    name = name.strip()
    if references and name != CHGNET:
        raise InputError(f"references are for {CHGNET} alone: {name!r} gives formation energies by itself")
    if name == LANDSCAPE:
        return ModelEnergy(catalogue.reference(space), space, LANDSCAPE)
    if name.startswith(COMMAND):
        from agents.discovery.command import CommandEnergy

        return CommandEnergy(
            name.removeprefix(COMMAND).strip(), space, time_limit=time_limit, retries=retries
        )
    if name == CHGNET:
        from agents.discovery.relax import chgnet_energy

        return chgnet_energy(space, references, time_limit=time_limit)
    if name.endswith(".csv"):
        return ModelEnergy(_table(Path(name), space), space, f"table {printable(Path(name).name)}")
    if ":" in name:
        return CallableEnergy(name, space)
    raise InputError(f"the source of energies must be {SOURCES}, got {name!r}")


@dataclass(frozen=True, eq=False)
class RowsEnergy:
    """Energies of some compounds of a space of any size; an `elpa_env.EnergyModel`.

    Attributes:
        space: of the compositions.
        compound: (n,) ascending.
        energy: (n,) of the quantity of the space's targets.
    """

    space: Space
    compound: NDArray[np.int64]
    energy: NDArray[np.float64]

    @classmethod
    def of(cls, space: Space, numbers: NDArray[np.int16], energy: NDArray[np.float64]) -> RowsEnergy:
        """Those of (n, S) atomic numbers, of which the first of a compound counts."""
        compound = space.index_to_compound(space.numbers_to_index(numbers))
        found, first = np.unique(compound, return_index=True)
        return cls(space, found, energy[first])

    def __call__(self, numbers: NDArray[np.int16]) -> NDArray[np.float64]:
        """(n,) energies of (n, S) atomic numbers; NaN where nothing is known."""
        compound = self.space.index_to_compound(self.space.numbers_to_index(numbers))
        place = np.minimum(np.searchsorted(self.compound, compound), len(self.compound) - 1)
        return np.where(self.compound[place] == compound, self.energy[place], np.nan)


def _table(path: Path, space: Space) -> EnergyModel:
    """The energies in a .csv file; of an order of equivalent sites that it lacks, those of another order."""
    rows = dft.read_path(path, space)
    if not space.enumerable:
        return RowsEnergy.of(space, rows.numbers, rows.energy)
    columns = {space.targets.quantity: rows.energy}
    return EnergyTable.from_rows(space, space.numbers_to_index(rows.numbers), columns, what=path.name)
