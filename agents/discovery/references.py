"""Energies of the elements, from which formation energies are counted: read, calculated or fitted.

A formation energy is a difference of total energies by one calculator. The elements' own come from a table,
from their ground-state structures, or from a fit to compounds whose formation energies are known.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from elpa_env import dft
from elpa_env.csv_rows import CsvRows
from elpa_env.errors import InputError
from elpa_env.files import StrPath, read_bytes, write_text
from elpa_env.periodic import NUMBER_OF_SYMBOL, SYMBOLS
from elpa_env.sampler import Progress
from elpa_env.space import ELPASOLITE_SPACE, Space

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

ELEMENTS: Final = "elements"
FIT: Final = "fit"
SHIPPED: Final = "shipped"
COLUMNS: Final = ("element", "energy")
ROWS_PER_ELEMENT: Final = 4
"""Compounds that a fit calculates for each element, unless others have brought it already."""
PENALTIES: Final = tuple(10.0**exponent for exponent in range(-6, 3))
"""Of a fit, to choose from; in compounds."""
BOX: Final = (9.0, 9.0, 10.0)
"""Angstrom; the cell around a molecule."""
_MOST_STEPS: Final = 60
_FORCE: Final = 0.03
"""EV/angstrom; relaxed below it."""
_MAX_BYTES: Final = 1_000_000
_DATA: Final = Path(__file__).parent / "data"
_CHUNK: Final = 1 << 10
_ADVICE: Final = f"name a table with the columns {' and '.join(COLUMNS)} (eV/atom)"

_DIATOMIC: Final[Mapping[str, float]] = {"H": 0.74, "N": 1.10, "O": 1.21, "F": 1.42}
"""Angstrom; gases that are calculated as a molecule."""
_CRYSTALS: Final[Mapping[str, tuple[tuple[int, int], tuple[float, ...], tuple[tuple[float, ...], ...]]]] = {
    "B": (
        (166, 2),
        (5.057, 5.057, 5.057, 58.06, 58.06, 58.06),
        ((0.0104, 0.0104, 0.6573), (0.2206, 0.2206, 0.6323)),
    ),
    "C": ((194, 1), (2.461, 2.461, 6.708, 90, 90, 120), ((0, 0, 0.25), (1 / 3, 2 / 3, 0.25))),
    "P": ((64, 1), (3.3136, 10.478, 4.3763, 90, 90, 90), ((0, 0.1017, 0.0806),)),
    "S": (
        (70, 2),
        (10.4646, 12.8660, 24.4860, 90, 90, 90),
        (
            (0.8554, 0.9526, 0.9516),
            (0.7844, 0.0301, 0.0763),
            (0.7069, 0.9795, 0.0040),
            (0.7862, 0.9073, 0.1290),
        ),
    ),
    "Cl": ((64, 1), (6.145, 4.395, 8.154, 90, 90, 90), ((0, 0.1173, 0.1016),)),
    "Mn": (
        (217, 1),
        (8.9129, 8.9129, 8.9129, 90, 90, 90),
        (
            (0, 0, 0),
            (0.3179, 0.3179, 0.3179),
            (0.3571, 0.3571, 0.0346),
            (0.0896, 0.0896, 0.2819),
        ),
    ),
    "Ga": ((64, 1), (4.5192, 7.6586, 4.5258, 90, 90, 90), ((0, 0.1549, 0.0810),)),
    "As": ((166, 1), (3.7598, 3.7598, 10.5475, 90, 90, 120), ((0, 0, 0.2271),)),
    "Se": ((152, 1), (4.3662, 4.3662, 4.9536, 90, 90, 120), ((0.2254, 0, 1 / 3),)),
    "Br": ((64, 1), (6.737, 4.548, 8.761, 90, 90, 90), ((0, 0.1350, 0.1100),)),
    "Sb": ((166, 1), (4.307, 4.307, 11.273, 90, 90, 120), ((0, 0, 0.2336),)),
    "Te": ((152, 1), (4.4572, 4.4572, 5.929, 90, 90, 120), ((0.2633, 0, 1 / 3),)),
    "I": ((64, 1), (7.136, 4.686, 9.784, 90, 90, 90), ((0, 0.1543, 0.1174),)),
    "Bi": ((166, 1), (4.546, 4.546, 11.862, 90, 90, 120), ((0, 0, 0.2339),)),
}
"""Space group and setting, cell and positions of ground states that ASE does not build: those of the Crystal
Structures of Wyckoff (1963) and of later refinements at low temperature; S8 in its orthorhombic form."""


# --- Reading and writing ---


def palette(space: Space) -> tuple[str, ...]:
    """Symbols of all elements that compounds of a space may hold, fixed ones included, by atomic number."""
    symbols = {*space.symbols, *(fixed.element for fixed in space.prototype.fixed)}
    return tuple(sorted(symbols, key=NUMBER_OF_SYMBOL.__getitem__))


def check_references(references: Mapping[str, float], space: Space) -> None:
    """Check that every element of a space has a reference.

    Raises:
        InputError: one that has none.
    """
    missing = [symbol for symbol in palette(space) if symbol not in references]
    if missing:
        raise InputError(f"no reference energy of {', '.join(missing)}: add it to the table of references")


def read_references(path: StrPath) -> dict[str, float]:
    """Energies of the elements, eV/atom, from a .csv file with the columns element and energy.

    Raises:
        InputError: it cannot be read, names an unknown element or one twice, or holds no finite energy.
    """
    data = read_bytes(path, max_bytes=_MAX_BYTES)
    table = CsvRows(io.BytesIO(data), Path(path))
    references: dict[str, float] = {}
    for fields, lines in table.columns(table.places(COLUMNS), _CHUNK, skip_blank=True):
        for symbol, text, line in zip(fields[::2], fields[1::2], lines.tolist(), strict=True):
            symbol = symbol.strip()
            if symbol not in NUMBER_OF_SYMBOL:
                raise InputError(f"{path}, line {line}: unknown element {symbol[:20]!r}")
            if symbol in references:
                raise InputError(f"{path}, line {line}: {symbol} stands twice, leave one out")
            references[symbol] = _energy(text, f"{path}, line {line}")
    return references


def _energy(text: str, where: str) -> float:
    try:
        energy = float("nan" if "_" in text else text)
    except ValueError:
        energy = math.nan
    if not math.isfinite(energy):
        raise InputError(f"{where}: the energy must be a finite number in eV/atom, got {text.strip()[:20]!r}")
    return energy


def write_references(path: StrPath, references: Mapping[str, float]) -> None:
    """Write energies of elements, eV/atom, as `read_references` takes them, by atomic number.

    Raises:
        InputError: the file cannot be written.
    """
    symbols = sorted(references, key=NUMBER_OF_SYMBOL.__getitem__)
    rows = [f"{symbol},{references[symbol]:.8g}" for symbol in symbols]
    write_text(path, "\n".join([",".join(COLUMNS), *rows]) + "\n")


def load_references(
    spec: str,
    space: Space,
    make_calculator: Callable[[], Calculator] | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Energies of all elements of a space.

    Args:
        spec: "shipped", see `shipped_references`; the path of a .csv table; "elements", the ground-state
            structures by the same calculator; "fit", to formation energies of the DFT table of elpasolite;
            or ``fit:rows.csv``, to those of a table.
        space: of the compounds.
        make_calculator: makes the calculator, for what has to be calculated.
        progress: called with calculations done and their number.

    Returns:
        eV/atom by symbol.

    Raises:
        InputError: there are no such references, or an element has none.
    """
    if spec.endswith(".csv") and not spec.startswith(f"{FIT}:"):
        references = read_references(spec)
        check_references(references, space)
        return references
    if spec == SHIPPED:
        return shipped_references(space)
    kind, colon, path = spec.partition(":")
    known = spec == ELEMENTS or (kind == FIT and bool(path) == bool(colon))
    if make_calculator is None or not known:
        choices = f"{SHIPPED}, a .csv table, {ELEMENTS}, {FIT} or {FIT}:rows.csv"
        raise InputError(f"references must be {choices}, got {spec!r}")
    if spec == ELEMENTS:
        return compute_references(palette(space), make_calculator, progress)
    if path:
        rows = dft.read_path(Path(path), space)
    elif space.prototype == ELPASOLITE_SPACE.prototype:
        rows = dft.read_dft()
    else:
        raise InputError(
            f"{FIT} needs known formation energies of {space.name}: name them with {FIT}:rows.csv"
        )
    return fit_references(space, rows.numbers, rows.energy, make_calculator, progress=progress)


def shipped_references(space: Space) -> dict[str, float]:
    """References for CHGNet 0.3.0 that ship: for elpasolite fitted to its DFT table, else of the elements.

    The fitted ones give formation energies as PBE does in that table; those of the elements in their ground
    state give energies that are some 0.3 eV/atom lower.

    Raises:
        InputError: an element of the space has none.
    """
    name = "elpasolite" if space.prototype == ELPASOLITE_SPACE.prototype else "elements"
    references = read_references(_DATA / f"chgnet-{name}.csv")
    check_references(references, space)
    return references


# --- Elements in their ground state ---


def element_structure(symbol: str) -> Atoms:
    """An element in its ground-state structure, close to the measured one.

    H, N, O and F are a molecule in a box, which does not repeat in the sense of a crystal.

    Raises:
        InputError: its structure is not known here.
    """
    from ase import Atoms
    from ase.build import bulk
    from ase.spacegroup import crystal

    if symbol in _DIATOMIC:
        moments = [1.0, 1.0] if symbol == "O" else None
        molecule = Atoms([symbol] * 2, [(0, 0, 0), (0, 0, _DIATOMIC[symbol])], magmoms=moments)
        molecule.set_cell(BOX)
        molecule.set_pbc(True)
        molecule.center()
        return molecule
    if symbol in _CRYSTALS:
        (group, setting), cell, positions = _CRYSTALS[symbol]
        return crystal(
            [symbol] * len(positions),
            basis=positions,
            spacegroup=group,
            setting=setting,
            cellpar=cell,
            primitive_cell=True,
        )
    try:
        if symbol == "He":
            return bulk("He", "fcc", a=4.24)
        if symbol == "Sn":
            return bulk("Sn", "diamond", a=6.49)  # the form that is stable at 0 K
        return bulk(symbol)
    except Exception as error:  # ASE raises several kinds for elements whose crystal it does not build
        raise InputError(f"no ground-state structure of {symbol} is known here: {_ADVICE}") from error


def compute_references(
    elements: Iterable[str], make_calculator: Callable[[], Calculator], progress: Progress | None = None
) -> dict[str, float]:
    """Energies of elements in their ground-state structures, relaxed.

    Args:
        elements: symbols.
        make_calculator: makes the calculator, which gives forces and stress.
        progress: called with elements done and their number.

    Returns:
        eV/atom by symbol.

    Raises:
        InputError: the structure of an element is not known, found out before anything is calculated; or a
            calculation fails.
    """
    structures = {symbol: element_structure(symbol) for symbol in elements}
    calculator = make_calculator()
    references = {}
    for done, (symbol, atoms) in enumerate(structures.items(), start=1):
        atoms.calc = calculator
        try:
            references[symbol] = _relaxed_energy(atoms, is_molecule=symbol in _DIATOMIC)
        except Exception as error:  # calculators fail in ways of their own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"the reference of {symbol} failed ({reason}): {_ADVICE}") from error
        if progress is not None:
            progress(done, len(structures))
    return references


def _relaxed_energy(atoms: Atoms, *, is_molecule: bool) -> float:
    """EV/atom after a few steps of relaxation, of a crystal with its cell."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    moving: Any = atoms if is_molecule else FrechetCellFilter(atoms)
    BFGS(moving, logfile=None).run(fmax=_FORCE, steps=_MOST_STEPS)
    energy = float(atoms.get_potential_energy()) / len(atoms)
    if not math.isfinite(energy):
        raise ValueError("its energy is not finite")
    return energy


# --- Fitted to compounds ---


def fit_references(
    space: Space,
    numbers: NDArray[np.int16],
    energy: NDArray[np.float64],
    make_calculator: Callable[[], Calculator],
    *,
    per_element: int = ROWS_PER_ELEMENT,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """References with which the calculator's formation energies come closest to known ones.

    The elements' own energies by the same calculator are what the fit starts from: with few compounds an
    element, it corrects them, and does not replace them.

    Args:
        space: of the compounds.
        numbers: (n, S) atomic numbers of compounds.
        energy: (n,) their formation energies, eV/atom.
        make_calculator: makes the calculator.
        per_element: compounds that are calculated for each element, drawn from the lower half of its
            energies: potentials know little of what is far from stable.
        seed: of that draw.
        progress: called with compounds done and their number.

    Returns:
        eV/atom by symbol.

    Raises:
        InputError: an element of the space stands in none of the rows, or in none that could be calculated.
    """
    from agents.discovery.relax import Geometry, relax

    chosen = choose_rows(space, numbers, energy, per_element=per_element, seed=seed)
    calculator = make_calculator()
    counts: list[Mapping[str, int]] = []
    total: list[float] = []
    known: list[float] = []
    for done, row in enumerate(chosen.tolist(), start=1):
        try:
            relaxed = relax(Geometry(space.prototype, numbers[row]), calculator)
        except Exception:  # one compound that cannot be calculated is left out
            calculator = make_calculator()
        else:
            counts.append(relaxed.counts)
            total.append(relaxed.energy)
            known.append(float(energy[row]))
        if progress is not None:
            progress(done, len(chosen))
    prior = _prior(palette(space), make_calculator)
    references = solve_references(counts, np.array(total), np.array(known), prior=prior)
    missing = [symbol for symbol in palette(space) if symbol not in references]
    if missing:
        raise InputError(f"no compound with {', '.join(missing)} could be calculated: {_ADVICE}")
    return references


def _prior(symbols: Iterable[str], make_calculator: Callable[[], Calculator]) -> dict[str, float]:
    """References of the elements that can be calculated by themselves; the mean of these for the others."""
    known: dict[str, float] = {}
    symbols, calculator = tuple(symbols), make_calculator()
    for symbol in symbols:
        with contextlib.suppress(InputError):
            known |= compute_references([symbol], lambda: calculator)
    middle = float(np.mean(list(known.values()))) if known else 0.0
    return {symbol: known.get(symbol, middle) for symbol in symbols}


def choose_rows(
    space: Space,
    numbers: NDArray[np.int16],
    energy: NDArray[np.float64],
    *,
    per_element: int = ROWS_PER_ELEMENT,
    seed: int = 0,
) -> NDArray[np.int64]:
    """(m,) rows that hold every element of a space some times, of the lower half of its energies.

    Raises:
        InputError: an element stands in none of (n, S) `numbers`.
    """
    generator = np.random.default_rng(seed)
    fixed = {fixed.element for fixed in space.prototype.fixed}
    chosen: list[int] = []
    rarest = sorted(space.atomic_numbers.tolist(), key=lambda z: int((numbers == z).any(axis=1).sum()))
    for z in rarest:
        rows = np.flatnonzero((numbers == z).any(axis=1))
        if len(rows) == 0 and SYMBOLS[z] not in fixed:
            raise InputError(f"no row with known formation energy holds {SYMBOLS[z]}: {_ADVICE}")
        lower = rows[np.argsort(energy[rows], kind="stable")][: max(per_element, -(-len(rows) // 2))]
        lacks = per_element - int(np.isin(lower, chosen).sum())
        fresh = generator.permutation(lower[~np.isin(lower, chosen)])
        chosen += fresh[: max(0, lacks)].tolist()
    return np.array(sorted(chosen), dtype=np.int64)


def solve_references(
    counts: Iterable[Mapping[str, int]],
    total: NDArray[np.float64],
    known: NDArray[np.float64],
    *,
    prior: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """References from total and formation energies by ridge regression.

    With x_i the share of element i, they minimise the sum over compounds of (E - E_f - sum x_i mu_i)^2 plus a
    penalty on the squares of mu_i - mu0_i - m, mu0 being the prior and m an offset of all elements that is
    free. The penalty is the one with the least error over compounds that are left out one by one.

    Args:
        counts: atoms of each symbol, of n compounds.
        total: (n,) total energies, eV/atom.
        known: (n,) formation energies, eV/atom.
        prior: what the references are near, but for an offset; 0 for elements that it lacks.

    Returns:
        eV/atom by symbol, of the elements that the compounds hold.
    """
    from sklearn.linear_model import RidgeCV

    counts = list(counts)
    symbols = sorted({symbol for one in counts for symbol in one}, key=NUMBER_OF_SYMBOL.__getitem__)
    if not symbols:
        return {}
    amounts = np.array([[one.get(symbol, 0) for symbol in symbols] for one in counts], dtype=np.float64)
    shares = amounts / amounts.sum(axis=1, keepdims=True)
    near = np.array([(prior or {}).get(symbol, 0.0) for symbol in symbols])
    # shares add up to 1, so that the intercept is an offset of every element
    fitted = RidgeCV(alphas=PENALTIES).fit(shares, total - known - shares @ near)
    found = near + fitted.coef_ + fitted.intercept_
    return dict(zip(symbols, found.tolist(), strict=True))
