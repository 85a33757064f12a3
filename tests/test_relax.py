"""Relaxing a prototype's structure by an ASE calculator, and formation energies from references."""

import itertools
import math
import time
import warnings

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from agents.discovery.energies import load_energy
from agents.discovery.references import (
    BOX,
    check_references,
    choose_rows,
    compute_references,
    element_structure,
    fit_references,
    load_references,
    palette,
    read_references,
    solve_references,
    write_references,
)
from agents.discovery.relax import AseEnergy, Geometry, Relaxed, formation_energy, relax
from elpa_env import ELPASOLITE_SPACE
from elpa_env.catalogue import load_space
from elpa_env.classes import Targets
from elpa_env.dft import read_dft
from elpa_env.errors import InputError
from elpa_env.prototype import ABO3, ELPASOLITE, Position, Prototype, Site, Structure
from elpa_env.space import Space

METALS = "Ni Cu Pd Ag Pt Au"
CU3AU = Prototype(
    "l12",
    (Site("A", METALS), Site("B", METALS, 3)),
    structure=Structure(
        221,
        ("a", "a", "a", "90", "90", "90"),
        (Position("A", ("0", "0", "0")), Position("B", ("0", "1/2", "1/2"))),
        {"a": 4.0},
    ),
)
FCC = Prototype(
    "fcc",
    (Site("A", f"{METALS} Ar"),),
    structure=Structure(
        225, ("a", "a", "a", "90", "90", "90"), (Position("A", ("0", "0", "0")),), {"a": 4.0}
    ),
)
HCP = Prototype(
    "hcp",
    (Site("A", METALS),),
    structure=Structure(
        194, ("a", "a", "c", "90", "90", "120"), (Position("A", ("1/3", "2/3", "1/4")),), {"a": 2.6, "c": 4.2}
    ),
)
RUTILE = Prototype(
    "rutile",
    (Site("A", METALS), Site("B", METALS, 2)),
    structure=Structure(
        136,
        ("a", "a", "c", "90", "90", "90"),
        (Position("A", ("0", "0", "0")), Position("B", ("u", "u", "0"))),
        {"a": 4.6, "c": 3.0, "u": 0.305},
    ),
)
RHOMBOHEDRAL = Prototype(
    "arsenic",
    (Site("A", METALS),),
    structure=Structure(
        166,
        ("a", "a", "a", "alpha", "alpha", "alpha"),
        (Position("A", ("z", "z", "z")),),
        {"a": 4.1, "alpha": 54.1, "z": 0.227},
        setting=2,
    ),
)
ENERGY = Targets.of({"low": (-math.inf, 0.0), "high": (0.0, math.inf)})
PROTOTYPES = {
    "l12": (CU3AU, [79, 29]),
    "hcp": (HCP, [29]),
    "rutile": (RUTILE, [78, 29]),
    "arsenic": (RHOMBOHEDRAL, [47]),
    "abo3": (ABO3, [56, 22]),
    "elpasolite": (ELPASOLITE, [55, 13, 19, 9]),
}


def numbers(*z):
    return np.array(z, dtype=np.int16)


def group_of(atoms):
    """The number of the space group."""
    cell = (atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return spglib.get_symmetry_dataset(cell, symprec=1e-4).number


# --- Geometry ---


@pytest.mark.parametrize("name", PROTOTYPES)
@settings(deadline=None, max_examples=5)
@given(data=st.data())
def test_the_primitive_cell_is_the_same_crystal(name, data):
    prototype, z = PROTOTYPES[name]
    geometry = Geometry(prototype, numbers(*z))
    factor = st.floats(0.97, 1.03)
    values = {key: value * data.draw(factor) for key, value in prototype.structure.parameters.items()}
    primitive, conventional = geometry.atoms(values), prototype.atoms(z, **values)
    cells = len(conventional) / len(primitive)
    assert cells == int(cells)
    assert conventional.get_volume() == pytest.approx(cells * primitive.get_volume())
    assert group_of(primitive) == group_of(conventional)
    energies = []
    for atoms in (primitive, conventional):
        atoms.calc = LennardJones(sigma=2.0, epsilon=0.1, rc=5.0)
        energies.append(atoms.get_potential_energy() / len(atoms))
    assert energies[0] == pytest.approx(energies[1])


def test_elpasolite_starts_where_covalent_radii_touch():
    geometry = Geometry(ELPASOLITE, numbers(3, 37, 56, 9))  # Li 1.28, Rb 2.20, Ba 2.15, F 0.57
    a, x = geometry.start["a"], geometry.start["x"]
    distances = {"Li": (x * a, 1.85), "Rb": ((0.5 - x) * a, 2.77)}
    assert min(distance / needed for distance, needed in distances.values()) >= 1 - 1e-6
    # D is off its mean position on the side of the smaller neighbour
    assert x < 0.25
    assert len(geometry.symbols) == 10


def test_parameters_know_what_they_are():
    geometry = Geometry(RHOMBOHEDRAL, numbers(47))
    assert (geometry.lengths, geometry.angles, geometry.names) == (("a",), ("alpha",), ("a", "alpha", "z"))


@pytest.mark.parametrize("name", ["rutile", "arsenic", "hcp", "elpasolite"])
def test_the_gradient_is_that_of_finite_differences(name):
    from agents.discovery.relax import _Surface

    prototype, z = PROTOTYPES[name]
    geometry = Geometry(prototype, numbers(*z))
    calculator = MorsePotential(epsilon=0.3, r0=2.6, rho0=4.0, rcut1=5.0, rcut2=6.0)
    surface = _Surface(geometry, calculator, math.inf)
    values = geometry.scaled(geometry.start, 1.03)
    _, gradient = surface.with_gradient(values)
    for name, slope in zip(values, gradient, strict=True):
        h = 1e-4 * (100 if name == "alpha" else 1)
        above, below = ({**values, name: values[name] + s * h} for s in (1, -1))
        assert slope == pytest.approx(
            (surface.energy(above) - surface.energy(below)) / (2 * h), rel=1e-4, abs=1e-5
        )


# --- Relaxation ---


def test_fcc_by_lennard_jones_against_a_scan_of_ase_crystals():
    calculator = LennardJones(sigma=3.4, epsilon=0.0104, rc=12.0, ro=9.0, smooth=True)

    def energy(a):
        atoms = bulk("Ar", "fcc", a=a)
        atoms.calc = calculator
        return atoms.get_potential_energy()

    best = minimize_scalar(energy, bracket=(5.0, 5.3, 5.6), tol=1e-5)
    relaxed = relax(Geometry(FCC, numbers(18)), calculator)
    assert relaxed.energy == pytest.approx(best.fun, abs=1e-6)
    assert relaxed.parameters["a"] == pytest.approx(best.x, rel=2e-3)
    assert relaxed.evaluations < 40


def reference_relaxation(atoms, calculator):
    """ASE's own relaxation of all atoms and the cell."""
    atoms.calc = calculator
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=500)
    return atoms.get_potential_energy() / len(atoms)


@pytest.mark.parametrize("name", ["l12", "hcp"])
def test_symmetric_relaxation_agrees_with_a_free_one(name):
    prototype, z = PROTOTYPES[name]
    relaxed = relax(Geometry(prototype, numbers(*z)), EMT())
    # all forces and stresses vanish by then, so that a free relaxation that starts there finds nothing lower
    atoms = prototype.atoms(z, **relaxed.parameters)
    assert group_of(atoms) == prototype.structure.space_group
    assert reference_relaxation(atoms, EMT()) == pytest.approx(relaxed.energy, abs=2e-4)


class NoStress(EMT):
    implemented_properties = ("energy",)


def test_calculators_without_stress_are_relaxed_too():
    geometry = Geometry(CU3AU, numbers(79, 29))
    with_stress, without = relax(geometry, EMT()), relax(geometry, NoStress())
    assert without.energy == pytest.approx(with_stress.energy, abs=2e-4)


def test_several_parameters_find_a_minimum_that_is_known():
    geometry = Geometry(RUTILE, numbers(78, 29))
    a, c, u = geometry.start["a"] * 1.04, geometry.start["c"] * 0.93, 0.28

    class Valley(Calculator):
        implemented_properties = ("energy",)

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            lengths = atoms.cell.lengths()
            away = atoms.get_scaled_positions()[2, 0]  # of the B that stands on the diagonal at u
            terms = (
                5 * (lengths[0] / a - 1) ** 2,
                3 * (lengths[2] / c - 1) ** 2,
                20 * (away - u) ** 2,
            )
            self.results["energy"] = 6 * (sum(terms) - 1.0)

    assert min(geometry.start.values()) > 0
    relaxed = relax(geometry, Valley())
    assert relaxed.energy == pytest.approx(-1.0, abs=1e-4)
    assert relaxed.parameters["a"] == pytest.approx(a, rel=5e-3)
    assert relaxed.parameters["c"] == pytest.approx(c, rel=5e-3)
    assert relaxed.parameters["u"] == pytest.approx(u, abs=5e-3)


def test_what_has_no_parameters_is_one_evaluation():
    structure = Structure(225, ("4", "4", "4", "90", "90", "90"), (Position("A", ("0", "0", "0")),))
    fixed = Prototype("fixed", (Site("A", METALS),), structure=structure)
    relaxed = relax(Geometry(fixed, numbers(29)), EMT())
    atoms = bulk("Cu", "fcc", a=4.0)
    atoms.calc = EMT()
    assert relaxed.energy == pytest.approx(atoms.get_potential_energy())
    assert (relaxed.evaluations, relaxed.parameters) == (1, {})


class Model(Calculator):
    """Energy per atom as a function of the volume per atom."""

    implemented_properties = ("energy",)

    def __init__(self, function):
        super().__init__()
        self.function = function

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] = self.function(atoms.get_volume() / len(atoms)) * len(atoms)


def valley(low):
    """The volume per atom `low` times that at which radii touch is best."""
    start = Geometry(FCC, numbers(29)).start["a"] ** 3 / 4
    return lambda volume: (volume / start - low**3) ** 2


@pytest.mark.parametrize("scale", [0.7, 0.83, 1.0, 1.17, 1.35, 1.6])
def test_the_scan_widens_to_where_the_minimum_is(scale):
    relaxed = relax(Geometry(FCC, numbers(29)), Model(valley(scale)))
    assert relaxed.energy == pytest.approx(0.0, abs=1e-5)
    assert relaxed.parameters["a"] / Geometry(FCC, numbers(29)).start["a"] == pytest.approx(scale, rel=3e-3)


# --- As a source ---


@pytest.fixture(scope="module")
def alloys():
    return Space(CU3AU, ENERGY)


@pytest.fixture(scope="module")
def emt_references():
    return compute_references(METALS.split(), EMT)


def test_formation_energy_by_hand(alloys, emt_references):
    source = AseEnergy(alloys, EMT, emt_references, "emt")
    outcome = source(numbers(79, 29))

    def total(a):
        corners = [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]
        atoms = Atoms("AuCu3", scaled_positions=corners, cell=[a] * 3, pbc=True)
        atoms.calc = EMT()
        return atoms.get_potential_energy()

    best = minimize_scalar(total, bracket=(3.6, 3.75, 3.9), tol=1e-8)
    by_hand = (best.fun - emt_references["Au"] - 3 * emt_references["Cu"]) / 4
    assert outcome.energy == pytest.approx(by_hand, abs=1e-5)
    assert outcome.parameters["a"] == pytest.approx(best.x, rel=1e-3)
    assert outcome.error == ""
    assert outcome.seconds > 0


def test_formation_energy_of_made_up_numbers():
    relaxed = Relaxed(-5.0, {"A": 1, "B": 3}, {}, 1)
    # 4 atoms of -5 eV, less 1 of -2 and 3 of -4: -20 + 14 = -6 eV, a quarter of it for an atom
    assert formation_energy(relaxed, {"A": -2.0, "B": -4.0}) == pytest.approx(-1.5)


def explode():
    raise OSError("no licence\nfor today")


def not_finite(volume):
    return math.nan


def collapses(volume):
    return -1 / volume


def far_off(volume):
    return 1000 + (volume - 17) ** 2


def slow(volume):
    time.sleep(0.2)
    return (volume - 17) ** 2


def raises(volume):
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (explode, "OSError: no licence"),
        (lambda: Model(not_finite), "the calculator gives an energy that is not finite"),
        (lambda: Model(collapses), "the cell collapses"),
        (lambda: Model(far_off), "the energy must be within ±25 eV/atom, got 1000"),
        (lambda: Model(slow), "it takes longer than 0.5 s"),
        (lambda: Model(raises), "ZeroDivisionError"),
    ],
)
def test_what_fails_is_an_outcome(alloys, make, error):
    source = AseEnergy(alloys, make, dict.fromkeys(METALS.split(), 0.0), "model", time_limit=0.5)
    outcome = source(numbers(79, 29))
    assert math.isnan(outcome.energy)
    assert error in outcome.error
    assert "\n" not in outcome.error


def test_what_a_source_needs(alloys):
    with pytest.raises(InputError, match="no reference energy of Pt, Au: add it"):
        AseEnergy(alloys, EMT, dict.fromkeys(["Ni", "Cu", "Pd", "Ag"], 0.0), "emt")
    with pytest.raises(InputError, match="intervals of energy_above_hull"):
        AseEnergy(load_space("abo3").space, EMT, {}, "emt")
    plain = Space(Prototype("plain", (Site("A", METALS),)), ENERGY)
    with pytest.raises(InputError, match="has no structure"):
        AseEnergy(plain, EMT, {}, "emt")


# --- References ---


def test_references_of_emt_are_its_crystals(emt_references):
    """EMT is fitted to its metals: their cohesive energy is its zero."""
    for symbol, energy in emt_references.items():
        best = minimize_scalar(lambda a, symbol=symbol: _fcc(symbol, a), bounds=(3.3, 4.3), method="bounded")
        assert energy == pytest.approx(best.fun, abs=1e-4)


def _fcc(symbol, a):
    atoms = bulk(symbol, "fcc", a=a)
    atoms.calc = EMT()
    return atoms.get_potential_energy()


def test_references_are_read_as_written(tmp_path):
    references = {"Cu": -3.5123456, "H": -3.33, "O": 1e-7}
    write_references(tmp_path / "mine.csv", references)
    assert (tmp_path / "mine.csv").read_text().splitlines()[:2] == ["element,energy", "H,-3.33"]
    assert read_references(tmp_path / "mine.csv") == pytest.approx(references)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("element,energy\nXx,1\n", "line 2: unknown element 'Xx'"),
        ("element,energy\nCu,1\nCu,2\n", "line 3: Cu stands twice"),
        ("element,energy\nCu,inf\n", "line 2: the energy must be a finite number"),
        ("element,energy\nCu,\n", "line 2: the energy must be a finite number"),
        ("symbol,energy\nCu,1\n", "lacks the column element"),
    ],
)
def test_references_that_are_none(tmp_path, text, message):
    (tmp_path / "mine.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_references(tmp_path / "mine.csv")


def test_ways_to_name_references(alloys, emt_references, tmp_path):
    write_references(tmp_path / "mine.csv", emt_references)
    assert load_references(str(tmp_path / "mine.csv"), alloys) == pytest.approx(emt_references)
    assert load_references("elements", alloys, EMT) == pytest.approx(emt_references)
    for spec in ("", "none", "fit:", "elements:x"):
        with pytest.raises(
            InputError, match="references must be shipped, a .csv table, elements, fit or fit:"
        ):
            load_references(spec, alloys, EMT)
    with pytest.raises(InputError, match="fit needs known formation energies of l12"):
        load_references("fit", alloys, EMT)
    write_references(tmp_path / "short.csv", {"Cu": 0.0})
    with pytest.raises(InputError, match="no reference energy of Ni, Pd"):
        load_references(str(tmp_path / "short.csv"), alloys)


def test_references_that_ship(alloys):
    """The fit to PBE's formation energies lies below the elements' own energies, for all of them."""
    fitted, own = load_references("shipped", ELPASOLITE_SPACE), load_references("shipped", alloys)
    assert set(fitted) == set(ELPASOLITE_SPACE.symbols)
    assert set(own) > {"Mn", "U", "Cu"}
    assert own["W"] < own["Cu"] < own["Na"] < own["Hg"]  # as strongly as they are bound
    assert [own[gas] for gas in ("He", "Ne", "Ar", "Kr", "Xe")] == pytest.approx([0.0] * 5, abs=0.1)
    assert all(-0.6 < fitted[symbol] - own[symbol] < -0.1 for symbol in fitted)
    no_radon = Prototype(FCC.name, (Site("A", "Rn Cu"),), structure=FCC.structure)
    with pytest.raises(InputError, match="no reference energy of Rn:"):
        load_references("shipped", Space(no_radon, alloys.targets))


def test_the_palette_holds_what_is_fixed():
    space = load_space("abo3").space
    assert "O" in palette(space)
    with pytest.raises(InputError, match="no reference energy of O:"):
        check_references(dict.fromkeys(space.symbols, 0.0), space)


# Measured distances of nearest neighbours (angstrom) and their number
NEIGHBOURS = {
    "H": (0.74, 1), "He": (3.0, 12), "Li": (3.02, 8), "Be": (2.23, 12), "C": (1.42, 3),
    "N": (1.10, 1), "O": (1.21, 1), "F": (1.42, 1), "Na": (3.66, 8), "Mg": (3.20, 12), "Si": (2.35, 4),
    "P": (2.23, 3), "S": (2.05, 2), "Cl": (1.97, 1), "Ga": (2.46, 1), "As": (2.52, 3), "Se": (2.37, 2),
    "Br": (2.27, 1), "Sn": (2.81, 4), "Sb": (2.91, 3), "Te": (2.84, 2), "I": (2.72, 1), "Pb": (3.50, 12),
    "Bi": (3.07, 3), "Ba": (4.35, 8), "Tl": (3.43, 12),
}  # fmt: skip


@pytest.mark.parametrize("symbol", NEIGHBOURS)
def test_elements_stand_as_measured(symbol):
    from ase.neighborlist import neighbor_list

    distance, coordination = NEIGHBOURS[symbol]
    atoms = element_structure(symbol)
    first, found = neighbor_list("id", atoms, 1.07 * distance)
    assert found.min() == pytest.approx(distance, rel=0.03)
    assert (np.bincount(first, minlength=len(atoms)) == coordination).all()
    if symbol in ("H", "N", "O", "F"):
        np.testing.assert_allclose(sorted(atoms.cell.lengths()), sorted(BOX))


def test_boron_is_made_of_icosahedra():
    """Five neighbours within it, and one beyond at half of the atoms (alpha; Decker and Kasper 1959)."""
    from ase.neighborlist import neighbor_list

    atoms = element_structure("B")
    first, found = neighbor_list("id", atoms, 1.9)
    assert sorted(np.bincount(first)) == [5] * 6 + [6] * 6
    assert found.min() == pytest.approx(1.71, abs=0.02)


def test_every_element_of_elpasolite_is_known():
    for symbol in palette(ELPASOLITE_SPACE):
        assert set(element_structure(symbol).get_chemical_symbols()) == {symbol}
    with pytest.raises(InputError, match="no ground-state structure of Pu is known here: name a table"):
        compute_references(["Cu", "Pu"], EMT)


def test_references_solved_from_exact_energies():
    symbols = ["Li", "Na", "K", "F", "Cl"]
    mu = dict(zip(symbols, [-1.9, -1.3, -1.1, -2.4, -1.8], strict=True))
    counts = [
        dict(zip(pair, (1 + i % 3, 1 + i % 2), strict=True))
        for i, pair in enumerate(itertools.permutations(symbols, 2))
    ]
    known = np.random.default_rng(0).normal(-1, 1, len(counts))
    total = np.array(
        [
            e + sum(n * mu[s] for s, n in one.items()) / sum(one.values())
            for one, e in zip(counts, known, strict=True)
        ]
    )
    assert solve_references(counts, total, known) == pytest.approx(mu, abs=1e-4)
    # a prior that is wrong by the same for all, and data that say little: the offset alone is learned
    prior = {symbol: value + 0.3 for symbol, value in mu.items()}
    few = solve_references(counts[:3], total[:3], known[:3], prior=prior)
    assert few == pytest.approx({symbol: mu[symbol] for symbol in few}, abs=1e-3)
    assert solve_references([], np.zeros(0), np.zeros(0)) == {}


def test_fitted_references_give_the_energies_back(alloys, emt_references):
    index = np.arange(alloys.n_table)[alloys.composition_mask]
    source = AseEnergy(alloys, EMT, emt_references, "emt")
    all_numbers = alloys.index_to_numbers(index)
    energy = np.array([source(row).energy for row in all_numbers])
    fitted = fit_references(alloys, all_numbers, energy, EMT, per_element=3)
    assert fitted == pytest.approx(emt_references, abs=0.01)


def test_rows_of_a_fit_hold_every_element(dft_dir):
    rows = read_dft()
    chosen = choose_rows(ELPASOLITE_SPACE, rows.numbers, rows.energy)
    counts = np.array(
        [(rows.numbers[chosen] == z).any(axis=1).sum() for z in ELPASOLITE_SPACE.atomic_numbers]
    )
    assert counts.min() >= 4
    assert len(np.unique(chosen)) == len(chosen) < 4 * 39
    np.testing.assert_array_equal(chosen, choose_rows(ELPASOLITE_SPACE, rows.numbers, rows.energy))
    without = (rows.numbers != 3).all(axis=1)
    with pytest.raises(InputError, match="no row with known formation energy holds Li"):
        choose_rows(ELPASOLITE_SPACE, rows.numbers[without], rows.energy[without])


# --- CHGNet ---


def test_chgnet_says_what_is_missing(monkeypatch, tmp_path):
    from agents.discovery import relax as module

    monkeypatch.setattr(module, "_require_chgnet", lambda: "0")
    with pytest.raises(InputError, match="references must be"):
        load_energy("chgnet", ELPASOLITE_SPACE, references="none")
    write_references(tmp_path / "short.csv", {"Cu": 0.0})
    with pytest.raises(InputError, match="no reference energy of H, He"):
        load_energy("chgnet", ELPASOLITE_SPACE, references=str(tmp_path / "short.csv"))


@pytest.mark.slow
def test_chgnet_relaxes_and_comes_close_to_the_dft_table(dft_dir):
    """With the references that ship; none of these compounds was among the rows that they were fitted to."""
    pytest.importorskip("chgnet", reason="chgnet is not installed")
    rows = read_dft()
    fitted = choose_rows(ELPASOLITE_SPACE, rows.numbers, rows.energy)
    others = np.setdiff1d(np.flatnonzero(rows.energy < -1.5), fitted)
    chosen = np.random.default_rng(1).choice(others, 6, replace=False)
    source = load_energy("chgnet", ELPASOLITE_SPACE)
    try:
        outcomes = [source(rows.numbers[row]) for row in chosen]
    finally:
        source.close()
    assert [one.error for one in outcomes] == [""] * 6
    energies = np.array([one.energy for one in outcomes])
    assert np.abs(energies - rows.energy[chosen]).mean() < 0.3  # 0.17 over 40 random ones
    assert np.corrcoef(energies, rows.energy[chosen])[0, 1] > 0.5
    assert all(5 < one.parameters["a"] < 15 and 0.1 < one.parameters["x"] < 0.4 for one in outcomes)
