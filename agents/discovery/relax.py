"""Formation energies of a prototype's compounds by any ASE calculator, relaxed within the symmetry.

Only the free parameters of the prototype's structure move: lengths and angles of the cell, and coordinates.
The atoms of the primitive cell are linear in coordinates, so that forces and stress give the gradient.

ASE and SciPy are imported where atoms are made.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from agents.discovery.energies import FORMATION, Outcome, Workers, failed
from elpa_env.dft import MAX_ENERGY
from elpa_env.errors import InputError
from elpa_env.periodic import COVALENT_RADII
from elpa_env.prototype import Prototype, Structure
from elpa_env.space import Space

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

SCALES: Final = (0.9, 1.0, 1.1, 1.2)
"""Lengths of the cell that are tried first, over those at which covalent radii touch."""
SMALLEST, LARGEST = 0.6, 1.8
"""The same, beyond which none is tried: a cell that collapses has ever more neighbours within a cutoff."""
_STEP: Final = 0.1
REACH: Final = 0.1
"""How far parameters go from where they start: lengths relative to their value, coordinates as they are."""
REACH_ANGLE: Final = 10.0
"""The same of angles, in degrees."""
_UNIT: Final = 0.3
"""What a parameter moves in a first step, over its reach."""
_MOST_EVALUATIONS: Final = 80
_RECENTRED: Final = 2
"""How often a length that ends at its limit starts again from there."""
_H: Final = 2.0**-10
CHGNET_MODEL: Final = "0.3.0"


class _CalculationError(Exception):
    """A calculation that gives no energy, in words."""


# --- Where the atoms are ---


class Geometry:
    """The atoms of a compound in the primitive cell, as a function of the structure's free parameters.

    Args:
        prototype: of the compound, with a structure.
        numbers: (S,) atomic numbers on the sites.

    Attributes:
        names: of all parameters, in the order of the structure.
        lengths: names of those in lengths of the cell.
        start: values at which covalent radii touch, in the densest packing that coordinates within their
            reach allow.
        symbols: of the atoms.

    Raises:
        InputError: see `elpa_env.prototype.Prototype.atoms`.
    """

    def __init__(self, prototype: Prototype, numbers: NDArray[np.int16]) -> None:
        atoms = prototype.atoms(numbers)
        assert prototype.structure is not None
        self._structure: Structure = prototype.structure
        self._reference = dict(self._structure.parameters)
        self.names = tuple(self._reference)
        self.lengths = self._used_in(slice(3))
        self.angles = tuple(n for n in self._used_in(slice(3, 6)) if n not in self.lengths)
        self.primitive, self._chosen = _primitive(atoms)
        self.symbols: list[str] = [str(atoms.symbols[i]) for i in self._chosen]
        self._radii = COVALENT_RADII[atoms.numbers[self._chosen]].astype(np.float64)
        self._positions = self._scaled(atoms)
        self.slopes: dict[str, NDArray[np.float64]] = {}
        """(n, 3) change of the scaled positions with each parameter."""
        for name, value in self._reference.items():
            moved = self._scaled(prototype.atoms(numbers, **{name: value + _H}))
            change = moved - self._positions
            # what leaves the conventional cell comes in at its other side; a whole vector of it
            whole = np.rint(change @ self.primitive)
            self.slopes[name] = (change - whole @ np.linalg.inv(self.primitive)) / _H
        self.start = self._packed()

    def _used_in(self, part: slice) -> tuple[str, ...]:
        """Parameters on which some numbers of the cell depend."""
        cell = np.array(self._structure.at(self._reference)[0][part])
        changed = {
            name: np.array(self._structure.at({**self._reference, name: value + _H})[0][part])
            for name, value in self._reference.items()
        }
        return tuple(name for name, other in changed.items() if (other != cell).any())

    def _scaled(self, atoms: Atoms) -> NDArray[np.float64]:
        """(n, 3) coordinates of the chosen atoms along the vectors of the primitive cell."""
        conventional = atoms.get_scaled_positions(wrap=False)[self._chosen]
        scaled: NDArray[np.float64] = conventional @ np.linalg.inv(self.primitive)
        return scaled

    def cell(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        """(3, 3) vectors of the primitive cell, angstrom."""
        from ase.geometry.cell import cellpar_to_cell

        vectors: NDArray[np.float64] = self.primitive @ cellpar_to_cell(self._structure.at(values)[0])
        return vectors

    def positions(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        """(n, 3) scaled positions in the primitive cell."""
        moves = [(values[name] - self._reference[name]) * slope for name, slope in self.slopes.items()]
        return self._positions + sum(moves, np.zeros_like(self._positions))

    def cell_slope(self, name: str, values: Mapping[str, float]) -> NDArray[np.float64]:
        """(3, 3) change of the cell's vectors with a parameter; exact where they are linear in it."""
        above, below = ({**values, name: values[name] + h} for h in (_H, -_H))
        return (self.cell(above) - self.cell(below)) / (2 * _H)

    def atoms(self, values: Mapping[str, float]) -> Atoms:
        """The atoms of the primitive cell for values of all parameters."""
        from ase import Atoms

        scaled = self.positions(values)
        return Atoms(self.symbols, cell=self.cell(values), scaled_positions=scaled, pbc=True)

    def scaled(self, values: Mapping[str, float], scale: float) -> dict[str, float]:
        """The same values with all lengths multiplied."""
        return {name: value * (scale if name in self.lengths else 1.0) for name, value in values.items()}

    def reach(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        """(p,) how far each parameter may go from these values."""
        return np.array(
            [
                abs(value) * REACH if name in self.lengths else REACH_ANGLE if name in self.angles else REACH
                for name, value in values.items()
            ]
        )

    def _packed(self) -> dict[str, float]:
        """Coordinates of the densest packing of touching spheres, found one after the other on a grid."""
        values = dict(self._reference)
        free = [name for name in self.names if name not in self.lengths and name not in self.angles]
        for name in free * (2 if len(free) > 1 else 1):
            middle = self._reference[name]
            tries = [{**values, name: middle + step} for step in np.linspace(-REACH, REACH, 21).tolist()]
            values = min(tries, key=self._touching)
        return self.scaled(values, self._touching(values))

    def _touching(self, values: Mapping[str, float]) -> float:
        """By how much the lengths grow for the two closest atoms to be their covalent radii apart."""
        cell, scaled = self.cell(values), self.positions(values)
        away = scaled[:, None] - scaled
        away -= np.rint(away)
        needed = self._radii[:, None] + self._radii
        tightest = 0.0
        for image in itertools.product((-1, 0, 1), repeat=3):
            distance = np.linalg.norm((away + image) @ cell, axis=-1)
            if image == (0, 0, 0):
                np.fill_diagonal(distance, np.inf)
            tightest = max(tightest, float((needed / np.maximum(distance, 1e-6)).max()))
        return tightest


def _primitive(atoms: Atoms) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(3, 3) primitive vectors over those of the cell, and which atoms stand for all others.

    Those that differ by a centring translation of the space group are the same; the first stands for them.
    """
    group = atoms.info["spacegroup"]
    scaled = atoms.get_scaled_positions()
    chosen: list[int] = []
    taken = np.zeros(len(atoms), dtype=bool)
    for i in range(len(atoms)):
        if taken[i]:
            continue
        chosen.append(i)
        for shift in group.subtrans:
            away = scaled - scaled[i] - shift
            taken |= (np.abs(away - np.rint(away)) < 1e-6).all(axis=1)
    return np.array(group.scaled_primitive_cell, dtype=np.float64), np.array(chosen)


# --- Relaxing them ---


@dataclass(frozen=True)
class Relaxed:
    """A relaxed structure.

    Attributes:
        energy: total, eV per atom.
        counts: atoms of each symbol in the primitive cell.
        parameters: free parameters of the structure.
        evaluations: of the calculator.
    """

    energy: float
    counts: Mapping[str, int]
    parameters: Mapping[str, float]
    evaluations: int


class _Surface:
    """Energy per atom over the free parameters, by a calculator, within a time limit."""

    def __init__(self, geometry: Geometry, calculator: Calculator, until: float) -> None:
        self.geometry = geometry
        self.evaluations = 0
        self._calculator = calculator
        self._until = until

    @property
    def has_gradient(self) -> bool:
        return {"forces", "stress"} <= set(self._calculator.implemented_properties)

    def energy(self, values: Mapping[str, float]) -> float:
        """EV per atom."""
        return self._evaluate(values)[1]

    def with_gradient(self, values: Mapping[str, float]) -> tuple[float, NDArray[np.float64]]:
        """EV per atom, and (p,) its change with each parameter."""
        atoms, energy = self._evaluate(values)
        forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
        cell, volume = self.geometry.cell(values), atoms.get_volume()
        gradient = []
        for name in self.geometry.names:
            strain = np.linalg.inv(cell) @ self.geometry.cell_slope(name, values)
            moves = self.geometry.slopes[name] @ cell
            gradient.append(volume * float((stress * strain).sum()) - float((forces * moves).sum()))
        slope = np.array(gradient) / len(atoms)
        if not np.isfinite(slope).all():
            raise _CalculationError("the calculator gives forces that are not finite")
        return energy, slope

    def _evaluate(self, values: Mapping[str, float]) -> tuple[Atoms, float]:
        if time.perf_counter() > self._until:
            raise TimeoutError
        self.evaluations += 1
        atoms = self.geometry.atoms(values)
        atoms.calc = self._calculator
        energy = float(atoms.get_potential_energy()) / len(atoms)
        if not math.isfinite(energy):
            raise _CalculationError("the calculator gives an energy that is not finite")
        return atoms, energy


def relax(geometry: Geometry, calculator: Calculator, time_limit: float = math.inf) -> Relaxed:
    """Relax the free parameters of a structure: a scan of the cell's lengths, then a bounded minimisation.

    Raises:
        TimeoutError: it takes longer than `time_limit` seconds, as seen between two evaluations.
        Exception: the calculator raises, its energies are not finite, or the cell collapses.
    """
    surface = _Surface(geometry, calculator, time.perf_counter() + time_limit)
    values = _scan(surface) if geometry.lengths else dict(geometry.start)
    energy = surface.energy(values) if not geometry.names else math.nan
    for _ in range(_RECENTRED + 1 if geometry.names else 0):
        values, energy, edges = _minimise(surface, values)
        if not edges:
            break
        if _scale(geometry, values) < SMALLEST:
            raise _CalculationError("the cell collapses: its energy falls however small it is")
    counts = Counter(geometry.symbols)
    return Relaxed(energy, counts, values, surface.evaluations)


def _scale(geometry: Geometry, values: Mapping[str, float]) -> float:
    """The smallest length, over that at which radii touch."""
    return min((values[name] / geometry.start[name] for name in geometry.lengths), default=1.0)


def _scan(surface: _Surface) -> dict[str, float]:
    """The lengths of lowest energy on a grid, which is widened while the lowest is at its edge."""
    geometry = surface.geometry
    found: dict[float, float] = {}
    reasons: list[Exception] = []

    def try_scale(scale: float) -> None:
        found[scale] = math.inf
        try:
            found[scale] = surface.energy(geometry.scaled(geometry.start, scale))
        except TimeoutError:
            raise
        except Exception as error:  # a calculator may refuse a cell that is far from any crystal
            reasons.append(error)

    for scale in SCALES:
        try_scale(scale)
    while math.isfinite(min(found.values())):
        best, low, high = min(found, key=lambda scale: found[scale]), min(found), max(found)
        if best == low and low - _STEP > SMALLEST:
            try_scale(round(low - _STEP, 6))
        elif best == high and high + _STEP < LARGEST:
            try_scale(round(high + _STEP, 6))
        else:
            return geometry.scaled(geometry.start, best)
    raise reasons[0]


def _minimise(surface: _Surface, values: Mapping[str, float]) -> tuple[dict[str, float], float, bool]:
    """The minimum within reach, its energy, and whether a length ends at its lower or upper limit."""
    from scipy import optimize

    names, centre, reach = list(values), np.array(list(values.values())), surface.geometry.reach(values)
    unit = reach * _UNIT
    best: dict[float, dict[str, float]] = {}

    def at(u: NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(names, (centre + u * unit).tolist(), strict=True))

    def energy(u: NDArray[np.float64]) -> float:
        value = surface.energy(at(u))
        best[value] = at(u)
        return value

    def with_gradient(u: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = surface.with_gradient(at(u))
        best[value] = at(u)
        return value, slope * unit

    bounds = [(-1 / _UNIT, 1 / _UNIT)] * len(names)
    how: dict[str, Any] = {"x0": np.zeros(len(names)), "bounds": bounds}
    if surface.has_gradient:
        options = {"maxfun": _MOST_EVALUATIONS, "ftol": 1e-7, "gtol": 1e-4}
        optimize.minimize(with_gradient, jac=True, method="L-BFGS-B", options=options, **how)
    else:
        most = _MOST_EVALUATIONS * (1 + len(names))
        options = {"maxfev": most, "fatol": 1e-6, "xatol": 1e-3}
        optimize.minimize(energy, method="Nelder-Mead", options=options, **how)
    lowest = min(best)
    found = best[lowest]
    gone = np.array([found[name] for name in names]) - centre
    edges = [
        name in surface.geometry.lengths and abs(far) > 0.999 * most
        for name, far, most in zip(names, gone.tolist(), reach.tolist(), strict=True)
    ]
    return found, lowest, any(edges)


# --- As a source of energies ---


class AseEnergy:
    """Formation energies by an ASE calculator.

    Args:
        space: of the compounds; its prototype has a structure.
        make_calculator: makes the calculator, once in each process; it is pickled on the way there.
        references: energy of each element in eV/atom by the same calculator, see
            `agents.discovery.references`.
        name: see `agents.discovery.energies.EnergySource`.
        time_limit: seconds of a calculation, looked at between two evaluations.

    Raises:
        InputError: the prototype has no structure, the targets are of another quantity, or an element of the
            space has no reference.
    """

    workers: Workers = "processes"

    def __init__(
        self,
        space: Space,
        make_calculator: Callable[[], Calculator],
        references: Mapping[str, float],
        name: str,
        *,
        time_limit: float = math.inf,
    ) -> None:
        from agents.discovery.references import check_references

        check_relaxable(space, name)
        check_references(references, space)
        self.name = name
        self.space = space
        self.references = dict(references)
        self._make_calculator = make_calculator
        self._time_limit = time_limit
        self._calculator: Calculator | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but the calculator, which every process makes for itself."""
        return {**self.__dict__, "_calculator": None}

    def __call__(self, numbers: NDArray[np.int16]) -> Outcome:
        """The outcome for (S,) atomic numbers."""
        started = time.perf_counter()
        try:
            if self._calculator is None:
                self._calculator = self._make_calculator()
            geometry = Geometry(self.space.prototype, numbers)
            relaxed = relax(geometry, self._calculator, self._time_limit)
        except TimeoutError:
            return failed(f"it takes longer than {self._time_limit:g} s", time.perf_counter() - started)
        except _CalculationError as error:
            return failed(str(error), time.perf_counter() - started)
        except Exception as error:  # calculators fail in ways of their own
            self._calculator = None
            return failed(error, time.perf_counter() - started)
        energy = formation_energy(relaxed, self.references)
        seconds = time.perf_counter() - started
        if abs(energy) > MAX_ENERGY:
            return failed(f"the energy must be within ±{MAX_ENERGY:g} eV/atom, got {energy:g}", seconds)
        return Outcome(energy, "", seconds, relaxed.parameters)

    def close(self) -> None:
        """Let the calculator go."""
        self._calculator = None


def formation_energy(relaxed: Relaxed, references: Mapping[str, float]) -> float:
    """(E - sum of n_i mu_i) / N in eV/atom, mu_i the energy of element i by the same calculator."""
    n = sum(relaxed.counts.values())
    return relaxed.energy - sum(count * references[symbol] for symbol, count in relaxed.counts.items()) / n


def check_relaxable(space: Space, name: str) -> None:
    """Check that a potential can give what the targets of a space are intervals of.

    Raises:
        InputError: its prototype has no structure, or the targets are of another quantity.
    """
    if space.prototype.structure is None:
        raise InputError(f"{name} needs atoms, and prototype {space.name} has no structure: give it one")
    if space.targets.quantity != FORMATION:
        raise InputError(
            f"{name} gives formation energies, and the targets of {space.name} are intervals of "
            f"{space.targets.quantity}: take a space whose targets are of the quantity {FORMATION!r}"
        )


# --- CHGNet ---


def chgnet_calculator() -> Calculator:
    """CHGNet (Deng et al., Nat. Mach. Intell. 2023, 5, 1031), with the weights that come in its wheel.

    Raises:
        InputError: it is not installed.
    """
    _require_chgnet()
    with _silence():
        from chgnet.model.dynamics import CHGNetCalculator
        from chgnet.model.model import CHGNet

        class Quiet(CHGNetCalculator):
            """The same; its libraries warn of every noble gas."""

            def calculate(self, *args: Any, **kwargs: Any) -> None:
                """Calculate all properties."""
                with _silence():
                    super().calculate(*args, **kwargs)

        model = CHGNet.load(model_name=CHGNET_MODEL, use_device="cpu", verbose=False)
        calculator: Calculator = Quiet(model, use_device="cpu", on_isolated_atoms="ignore")
    return calculator


def chgnet_energy(space: Space, references: str, *, time_limit: float = math.inf) -> AseEnergy:
    """CHGNet as a source of formation energies.

    Args:
        space: of the compounds.
        references: see `agents.discovery.references.load_references`; those that ship where empty.
        time_limit: seconds of a calculation.

    Raises:
        InputError: it is not installed, or see `AseEnergy` and `load_references`.
    """
    from agents.discovery.references import SHIPPED, load_references

    name = f"chgnet {_require_chgnet()}"
    check_relaxable(space, name)
    known = load_references(references or SHIPPED, space, chgnet_calculator)
    return AseEnergy(space, chgnet_calculator, known, name, time_limit=time_limit)


@functools.cache
def _require_chgnet() -> str:
    """The version that is installed."""
    try:
        with _silence():
            import chgnet  # noqa: F401
    except ImportError as error:
        raise InputError("chgnet is not installed: pip install 'elpasolite[chgnet]'") from error
    return version("chgnet")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing printed, no warnings: the potential announces its device, its libraries what they will drop."""
    import warnings

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
