"""Formation energies by any ASE calculator, the structure relaxed with the symmetry of its prototype.

Only the prototype's free parameters move: lattice constants and internal coordinates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from agents.discovery.energies import one_line
from agents.discovery.outcome import Outcome
from elpa_env import periodic
from elpa_env.errors import InputError
from elpa_env.prototype import parameters_of
from elpa_env.space import Space

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

SCAN: Final = (1.0, 1.1, 1.2, 1.3)
"""Cells that are looked at first, in units of that in which the nearest atoms touch."""
SCAN_LIMITS: Final = (0.8, 1.7)
LENGTH_BOUND: Final = 0.10
"""Relative; a cell that starts far too large collapses, so that what follows the scan stays near it."""
INTERNAL_BOUND: Final = 0.08
"""Of fractional coordinates."""
ANGLE_BOUND: Final = 5.0
"""Degrees."""
_STEP: Final = 1e-3
"""Of finite differences, relative to the bounds."""
_TOLERANCE: Final = 1e-5
"""eV/atom."""


class AseEnergy:
    """Formation energies by an ASE calculator.

    Args:
        name: stands beside every label.
        space: of the compositions; its prototype needs a structure.
        make_calculator: makes the calculator in whatever process works.
        references: eV/atom of the elements, by symbol.
        relax: whether free parameters are relaxed, or stay at their start values but for the cell's scale.

    Raises:
        InputError: the prototype has no structure, or an element has no reference.
    """

    workers: Literal["threads", "processes"] = "processes"

    def __init__(
        self,
        name: str,
        space: Space,
        make_calculator: Callable[[], Calculator],
        references: Mapping[str, float],
        *,
        relax: bool = True,
    ) -> None:
        if space.prototype.structure is None:
            raise InputError(
                f"{space.name} has no structure, without which nothing can be calculated: give its file one"
            )
        self.name, self.space, self.relax = name, space, relax
        self._make = make_calculator
        self._references = dict(references)
        check_references(space, self._references)
        self._calculator: Calculator | None = None
        lengths, angles, internal = parameters_of(space.prototype.structure)
        self._lengths, self._angles, self._internal = lengths, angles, internal

    def __getstate__(self) -> dict[str, Any]:
        """Without the calculator, which every process makes anew."""
        return {**self.__dict__, "_calculator": None}

    def __call__(self, numbers: NDArray[np.int16]) -> Outcome:
        """See `EnergySource`."""
        began = time.perf_counter()
        try:
            energy, parameters = self.total_energy(numbers)
            energy -= self._reference(numbers)
        except Exception as error:
            return Outcome(math.nan, one_line(error), time.perf_counter() - began)
        seconds = time.perf_counter() - began
        if not math.isfinite(energy):
            return Outcome(math.nan, f"{self.name} gives {energy} eV/atom", seconds)
        return Outcome(energy, "", seconds, parameters)

    def close(self) -> None:
        """Nothing was started."""

    def total_energy(self, numbers: NDArray[np.int16]) -> tuple[float, dict[str, float]]:
        """eV/atom of (S,) atomic numbers in the relaxed structure, and its free parameters.

        Raises:
            InputError: the calculator gives no finite energy.
        """
        structure = self.space.prototype.structure
        assert structure is not None
        start = dict(structure.parameters)
        touching = self._touching(numbers, start)
        scanned = self._scan(numbers, start, touching)
        best = min(scanned, key=lambda scale: scanned[scale])
        values = {**start, **{name: start[name] * best for name in self._lengths}}
        if not self.relax or not values:
            return scanned[best], values
        names = list(values)
        width = np.array([self._width(name, values[name]) for name in names])
        centre = np.array([values[name] for name in names])

        def energy(x: NDArray[np.float64]) -> float:
            return self._energy(numbers, dict(zip(names, (centre + x * width).tolist(), strict=True)))

        found = minimize(
            energy,
            np.zeros(len(names)),
            method="L-BFGS-B",
            bounds=[(-1.0, 1.0)] * len(names),
            options={"ftol": _TOLERANCE / max(abs(scanned[best]), 1.0), "eps": _STEP, "maxfun": 150},
        )
        relaxed = dict(zip(names, (centre + found.x * width).tolist(), strict=True))
        return float(found.fun), relaxed

    def _width(self, name: str, value: float) -> float:
        """How far a parameter may move."""
        if name in self._lengths:
            return abs(value) * LENGTH_BOUND
        return ANGLE_BOUND if name in self._angles else INTERNAL_BOUND

    def _scan(
        self, numbers: NDArray[np.int16], start: Mapping[str, float], touching: float
    ) -> dict[float, float]:
        """eV/atom by scale of the start's lengths; more where the lowest is at an end."""
        if not self._lengths:
            return {1.0: self._energy(numbers, start)}

        def at(scale: float) -> float:
            return self._energy(numbers, {**start, **{name: start[name] * scale for name in self._lengths}})

        step = SCAN[1] - SCAN[0]
        found = {round(factor, 3): at(touching * factor) for factor in SCAN}
        while True:
            best = min(found, key=lambda factor: found[factor])
            if best == min(found):
                further = round(best - step, 3)
            elif best == max(found):
                further = round(best + step, 3)
            else:
                break
            if not SCAN_LIMITS[0] <= further <= SCAN_LIMITS[1]:
                break
            found[further] = at(touching * further)
        return {touching * factor: energy for factor, energy in found.items()}

    def _touching(self, numbers: NDArray[np.int16], start: Mapping[str, float]) -> float:
        """Scale of the start's lengths at which the nearest atoms are as far apart as their radii."""
        atoms = primitive(self.space.prototype.atoms(numbers, **start))
        from ase.neighborlist import neighbor_list

        radii = periodic.COVALENT_RADII[atoms.numbers]
        near = 2.5 * float(radii.max())
        while True:
            i, j, distance = neighbor_list("ijd", atoms, near)
            if len(distance):
                return float(1 / (distance / (radii[i] + radii[j])).min())
            near *= 1.5

    def _energy(self, numbers: NDArray[np.int16], parameters: Mapping[str, float]) -> float:
        """eV/atom at some parameters."""
        if self._calculator is None:
            self._calculator = self._make()
        atoms = primitive(self.space.prototype.atoms(numbers, **parameters))
        atoms.calc = self._calculator
        energy = float(atoms.get_potential_energy()) / len(atoms)
        if not math.isfinite(energy):
            raise InputError(f"{self.name} gives {energy} eV/atom")
        return energy

    def _reference(self, numbers: NDArray[np.int16]) -> float:
        """eV/atom of the elements that a composition is made of."""
        amounts = element_amounts(self.space, numbers)
        total = sum(amounts.values())
        return sum(n * self._references[symbol] for symbol, n in amounts.items()) / total


def element_amounts(space: Space, numbers: Sequence[int] | NDArray[np.int16]) -> dict[str, int]:
    """Atoms of each element in a formula unit of (S,) atomic numbers, by symbol."""
    amounts: dict[str, int] = {}
    for site, number in zip(space.prototype.sites, numbers, strict=True):
        symbol = periodic.SYMBOLS[int(number)]
        amounts[symbol] = amounts.get(symbol, 0) + site.multiplicity
    for fixed in space.prototype.fixed:
        amounts[fixed.element] = amounts.get(fixed.element, 0) + fixed.multiplicity
    return amounts


def elements_of(space: Space) -> list[str]:
    """Symbols of all elements of a space, fixed ones included."""
    return list(dict.fromkeys([*space.symbols, *(fixed.element for fixed in space.prototype.fixed)]))


def check_references(space: Space, references: Mapping[str, float]) -> None:
    """Raise InputError if an element of a space has no finite reference."""
    for symbol in elements_of(space):
        if symbol not in references:
            raise InputError(
                f"{symbol} has no reference energy, which a formation energy needs: add it to the table of "
                "--references (columns element, energy in eV/atom)"
            )
        if not math.isfinite(references[symbol]):
            raise InputError(f"the reference energy of {symbol} must be a number, got {references[symbol]}")


def primitive(atoms: Atoms) -> Atoms:
    """The primitive cell of atoms, with the same energy an atom."""
    import spglib
    from ase import Atoms as AseAtoms

    given: Any = (np.asarray(atoms.cell), atoms.get_scaled_positions(), atoms.numbers)
    cell = spglib.find_primitive(given, symprec=1e-5)
    if cell is None:
        return atoms
    lattice, positions, kinds = cell
    return AseAtoms(numbers=kinds, cell=lattice, scaled_positions=positions, pbc=True)
