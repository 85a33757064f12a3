"""Energies of the elements, which formation energies are counted from.

They are a table of the user's, fitted to rows whose formation energy is known, or what the same calculator
gives for the structure in which each element is found.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from agents.discovery.relax import element_amounts, elements_of, primitive
from elpa_env import dft
from elpa_env.csv_rows import CsvRows
from elpa_env.errors import InputError
from elpa_env.files import read_bytes, write_text
from elpa_env.periodic import NUMBER_OF_SYMBOL
from elpa_env.sampler import Progress
from elpa_env.space import Space

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

FIT: Final = "fit:"
ELEMENTS: Final = "elements"
_RIDGE: Final = 1e-3
_MOLECULES: Final[Mapping[str, float]] = {"H": 0.741, "N": 1.098, "O": 1.208, "F": 1.412}
"""Elements of two atoms, with their distance in angstrom."""
_BOX: Final = (9.0, 9.0, 10.0)
_HALOGENS: Final[Mapping[str, tuple[float, float, float, float, float]]] = {
    "Cl": (6.24, 4.48, 8.26, 0.100, 0.130),
    "Br": (6.67, 4.87, 8.72, 0.110, 0.135),
    "I": (7.27, 4.79, 9.79, 0.117, 0.154),
}
"""a, b, c in angstrom and y, z of the 8f site of Cmce (Wyckoff, Crystal Structures, 1963, vol. 1)."""


def read_references(path: Path) -> dict[str, float]:
    """eV/atom by symbol, from a .csv file with the columns element and energy.

    Raises:
        InputError: it cannot be read, or a line is no element with a number, or stands twice.
    """
    rows = CsvRows(io.BytesIO(read_bytes(path, max_bytes=1 << 20)), path)
    places = rows.places(["element", "energy"])
    found: dict[str, float] = {}
    for fields, lines in rows.columns(places, 1 << 10, skip_blank=True):
        for symbol, text, line in zip(fields[0::2], fields[1::2], lines, strict=True):
            symbol = symbol.strip()
            if symbol not in NUMBER_OF_SYMBOL:
                raise InputError(f"{path}, line {line}: unknown element {symbol[:20]!r}")
            if symbol in found:
                raise InputError(f"{path}, line {line}: {symbol} stands twice: leave one out")
            try:
                energy = float(text)
            except ValueError:
                energy = math.nan
            if not math.isfinite(energy):
                raise InputError(
                    f"{path}, line {line}: the energy must be a number, got {text.strip()[:20]!r}"
                )
            found[symbol] = energy
    return found


def write_references(path: Path, references: Mapping[str, float]) -> None:
    """Write what `read_references` reads."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["element", "energy"])
    writer.writerows((symbol, f"{energy:.6f}") for symbol, energy in sorted(references.items()))
    write_text(path, buffer.getvalue())


def load_references(
    name: str, space: Space, make_calculator: Callable[[], Calculator], progress: Progress | None = None
) -> dict[str, float]:
    """The references of a name, of every element of a space that can be had.

    Args:
        name: the path of a table, ``elements``, or ``fit:`` and the path of a .csv file of compositions of
            the space with their formation energies.
        space: of the compositions.
        make_calculator: of the energies that are counted from them.
        progress: called with calculations made and to make.

    Raises:
        InputError: a file cannot be read, or an element's structure is not known.
    """
    if name.startswith(FIT):
        rows = dft.read_path(Path(name.removeprefix(FIT)), space)
        return fitted_references(space, rows.numbers, rows.energy, make_calculator, progress)
    if name == ELEMENTS:
        return computed_references(elements_of(space), make_calculator, progress)
    return read_references(Path(name))


def fitted_references(
    space: Space,
    numbers: NDArray[np.int16],
    energy: NDArray[np.float64],
    make_calculator: Callable[[], Calculator],
    progress: Progress | None = None,
) -> dict[str, float]:
    """References under which calculated energies come nearest to known formation energies.

    Args:
        space: of the compositions.
        numbers: (n, S) atomic numbers.
        energy: (n,) known formation energies in eV/atom.
        make_calculator: of the total energies.
        progress: called with calculations made and to make.
    """
    from agents.discovery.relax import AseEnergy

    calculated = AseEnergy("fit", space, make_calculator, dict.fromkeys(elements_of(space), 0.0))
    totals = np.full(len(numbers), np.nan)
    for row, one in enumerate(numbers):
        totals[row] = calculated(one).energy
        if progress:
            progress(row + 1, len(numbers))
    return solve_references(space, numbers, totals, energy)


def solve_references(
    space: Space, numbers: NDArray[np.int16], total: NDArray[np.float64], formation: NDArray[np.float64]
) -> dict[str, float]:
    """References that explain the difference of (n,) total and (n,) formation energies, in eV/atom.

    Least squares with a small ridge, for elements that always stand together. Rows without a total energy
    are left out, and elements in none of the others have no reference.
    """
    amounts = [element_amounts(space, one) for one in numbers]
    known = np.isfinite(total) & np.isfinite(formation)
    symbols = sorted({symbol for row, one in enumerate(amounts) if known[row] for symbol in one})
    shares = np.array([[one.get(s, 0) / sum(one.values()) for s in symbols] for one in amounts])[known]
    difference = (total - formation)[known]
    mean = difference.mean()
    ridge = _RIDGE * np.eye(len(symbols))
    found = np.linalg.solve(shares.T @ shares + ridge, shares.T @ (difference - mean)) + mean
    return dict(zip(symbols, found.tolist(), strict=True))


def computed_references(
    symbols: Sequence[str], make_calculator: Callable[[], Calculator], progress: Progress | None = None
) -> dict[str, float]:
    """eV/atom of elements in their own structures, cell and positions relaxed.

    Raises:
        InputError: the structure of an element is not known here.
    """
    structures = {symbol: element_structure(symbol) for symbol in symbols}
    calculator = make_calculator()
    found = {}
    for number, (symbol, atoms) in enumerate(structures.items(), start=1):
        found[symbol] = _relaxed(atoms, calculator)
        if progress:
            progress(number, len(structures))
    return found


def element_structure(symbol: str) -> Atoms:
    """The structure in which an element is found: ASE's, crystals of the halogens, molecules in a box.

    Raises:
        InputError: it is not known here.
    """
    from ase import Atoms
    from ase.build import bulk
    from ase.spacegroup import crystal

    if symbol in _MOLECULES:
        length = _MOLECULES[symbol]
        return Atoms(f"{symbol}2", positions=[(0, 0, 0), (0, 0, length)], cell=_BOX, pbc=True)
    if symbol in _HALOGENS:
        a, b, c, y, z = _HALOGENS[symbol]
        atoms = crystal([symbol], [(0, y, z)], spacegroup=64, cellpar=[a, b, c, 90, 90, 90])
        return primitive(atoms)
    try:
        return bulk(symbol)
    except (ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"the structure of the element {symbol} is not known here: give a table with --references "
            "(columns element, energy in eV/atom)"
        ) from error


def _relaxed(atoms: Atoms, calculator: Any) -> float:
    """eV/atom of atoms, relaxed; molecules without their box."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    atoms.calc = calculator
    molecule = len(atoms) == 2 and np.allclose(atoms.cell.lengths(), _BOX)
    moved: Any = atoms if molecule else FrechetCellFilter(atoms)
    BFGS(moved, logfile=None).run(fmax=0.02, steps=60)
    return float(atoms.get_potential_energy()) / len(atoms)
