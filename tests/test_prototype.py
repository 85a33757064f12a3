import copy
import dataclasses
import io
import itertools
import json
import pickle
import subprocess
import sys
import tomllib
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elpa_env import periodic, prototype
from elpa_env.errors import InputError
from elpa_env.prototype import (
    ABO3,
    ELPASOLITE,
    Fixed,
    Position,
    Prototype,
    Site,
    Structure,
    format_elements,
    parse_elements,
)
from elpa_env.space import ELPASOLITE_SPACE as space

RUTILE = Prototype(
    "rutile",
    (Site("M", ("Ti", "Sn", "Pb")),),
    (Fixed("O", 2),),
    structure=Structure(
        136,
        ("a", "a", "c", "90", "90", "90"),
        (Position("M", ("0", "0", "0")), Position("O", ("x", "x", "0"))),
        {"a": 4.6, "c": 2.95, "x": 0.305},
    ),
)
SPINEL = Prototype(
    "spinel",
    (Site("A", "Mg Zn Fe"), Site("B'", "Al-Si Fe Cr", 2), Site("X", "O-F S", 4)),
    repeats=True,
    structure=Structure(
        227,
        ("a", "a", "a", "90", "90", "90"),
        (
            Position("A", ("1/8", "1/8", "1/8")),
            Position("B'", ("1/2", "1/2", "1/2")),
            Position("X", ("u", "u", "u")),
        ),
        {"a": 8.1, "u": 0.262},
        setting=2,
    ),
    title='MgAl₂O₄, "spinel"',
)
QUARTZ = Prototype(
    "quartz",
    (Site("Si", "Si Ge"), Site("O", "O S", 2)),
    structure=Structure(
        154,
        ("a", "a", "1.1*a", "90", "90", "120"),
        (Position("Si", ("u", "0", "2/3")), Position("O", ("x", "y", "z"))),
        {"a": 4.91, "u": 0.47, "x": 0.4135, "y": 0.2669, "z": 0.7858},
    ),
)
MONOCLINIC = Prototype(  # baddeleyite
    "baddeleyite",
    (Site("M", "Zr Hf"), Site("X1", "O S"), Site("X2", "O S")),
    equivalent=(),
    structure=Structure(
        14,
        ("5.15", "5.21", "5.32", "90", "beta", "90"),
        (
            Position("M", ("0.2754", "0.0395", "0.2083")),
            Position("X1", ("0.07", "0.3317", "0.3447")),
            Position("X2", ("0.4496", "1/2+dy", "0.4792")),
        ),
        {"beta": 99.2, "dy": 0.2569},
    ),
)
CALCITE = Prototype(  # rhombohedral axes
    "calcite",
    (Site("M", "Mg Ca Zn"),),
    (Fixed("C"), Fixed("O", 3)),
    structure=Structure(
        167,
        ("a", "a", "a", "alpha", "alpha", "alpha"),
        (
            Position("M", ("0", "0", "0")),
            Position("C", ("1/4", "1/4", "1/4")),
            Position("O", ("x", "1/2-x", "1/4")),
        ),
        {"a": 6.375, "alpha": 46.08, "x": 0.507},
        setting=2,
    ),
)
SHIPPED = [ELPASOLITE, ABO3]
ALL = [*SHIPPED, RUTILE, SPINEL, QUARTZ, MONOCLINIC, CALCITE]
NO_STRUCTURE = Prototype("pair", (Site("A", ("H", "He")), Site("B", ("H", "He"), 2)))


def ids(cases):
    return [case.name for case in cases]


def space_group(cell, positions, kinds):
    import spglib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return spglib.get_symmetry_dataset((cell, positions, kinds), symprec=1e-3).number


def group_of(atoms, kinds=None):
    kinds = atoms.numbers if kinds is None else kinds
    return space_group(np.asarray(atoms.cell), atoms.get_scaled_positions(), kinds)


def read_cif(text):
    from ase.io import read

    return read(io.StringIO(text), format="cif")


def some_numbers(case):
    """Different elements on all sites, none of them a fixed one."""
    taken = {periodic.NUMBER_OF_SYMBOL[fixed.element] for fixed in case.fixed}
    numbers = []
    for site in case.sites:
        numbers.append(next(int(z) for z in site.numbers if z not in taken))
        taken.add(numbers[-1])
    return numbers


def one_line(action, *parts):
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for part in parts:
        assert part in message, message


def changed(case, **values):
    return lambda: dataclasses.replace(case, **values)


# --- the periodic table ---


def test_elements_stand_where_they_belong():
    places = {
        "H": (1, 1, 1),
        "He": (2, 1, 32),
        "Be": (4, 2, 2),
        "B": (5, 2, 27),
        "Ne": (10, 2, 32),
        "Ca": (20, 4, 2),
        "Sc": (21, 4, 17),
        "Zn": (30, 4, 26),
        "Ga": (31, 4, 27),
        "Y": (39, 5, 17),
        "Cd": (48, 5, 26),
        "Ba": (56, 6, 2),
        "La": (57, 6, 3),
        "Yb": (70, 6, 16),
        "Lu": (71, 6, 17),
        "Hf": (72, 6, 18),
        "Hg": (80, 6, 26),
        "Tl": (81, 6, 27),
        "Rn": (86, 6, 32),
        "Fr": (87, 7, 1),
        "Ac": (89, 7, 3),
        "U": (92, 7, 6),
        "Cm": (96, 7, 10),
    }
    for symbol, (number, row, column) in places.items():
        assert periodic.NUMBER_OF_SYMBOL[symbol] == number
        assert periodic.SYMBOLS[number] == symbol
        assert (periodic.ROWS[number], periodic.COLUMNS[number]) == (row, column)


def test_no_two_elements_share_a_place():
    assert len(set(zip(periodic.ROWS, periodic.COLUMNS, strict=True))) == 97
    assert len(set(periodic.SYMBOLS)) == 97
    assert periodic.ROWS[1:].min() == periodic.COLUMNS[1:].min() == 1
    assert (periodic.ROWS.max(), periodic.COLUMNS.max()) == (periodic.N_ROWS, periodic.N_COLUMNS)


def test_symbols_and_radii_are_those_that_ase_has():
    from ase.data import chemical_symbols, covalent_radii

    assert list(periodic.SYMBOLS[1:]) == chemical_symbols[1:97]
    np.testing.assert_allclose(periodic.COVALENT_RADII[1:], covalent_radii[1:97], rtol=1e-6)


def test_the_39_elements_keep_their_values():
    numbers = space.atomic_numbers
    assert tuple(periodic.SYMBOLS[z] for z in numbers) == space.symbols
    np.testing.assert_array_equal(periodic.ROWS[numbers], space.rows)
    electronegativities = [
        *(2.20, 4.16),
        *(0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, 4.787),
        *(0.93, 1.31, 1.61, 1.90, 2.19, 2.58, 3.16, 3.242),
        *(0.82, 1.00, 1.81, 2.01, 2.18, 2.55, 2.96, 2.966),
        *(0.82, 0.95, 1.78, 1.96, 2.05, 2.10, 2.66, 2.60),
        *(0.79, 0.89, 1.80, 1.80, 1.90),
    ]
    radii = [
        *(0.31, 0.28),
        *(1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58),
        *(1.66, 1.41, 1.21, 1.11, 1.07, 1.05, 1.02, 1.06),
        *(2.03, 1.76, 1.22, 1.20, 1.19, 1.20, 1.20, 1.16),
        *(2.20, 1.95, 1.42, 1.39, 1.39, 1.38, 1.39, 1.40),
        *(2.44, 2.15, 1.45, 1.46, 1.48),
    ]
    np.testing.assert_array_equal(periodic.ELECTRONEGATIVITIES[numbers], np.float32(electronegativities))
    np.testing.assert_array_equal(periodic.COVALENT_RADII[numbers], np.float32(radii))


def test_electronegativities_that_the_handbook_lacks_are_those_of_the_docstring():
    value = dict(zip(periodic.SYMBOLS, periodic.ELECTRONEGATIVITIES.tolist(), strict=True))
    for symbol, neighbours in {"Pm": "Nd Sm", "Eu": "Sm Gd", "Tb": "Gd Dy", "Yb": "Tm Lu"}.items():
        assert value[symbol] == pytest.approx(np.mean([value[s] for s in neighbours.split()]))
    assert value["Am"] == value["Cm"] == value["Pu"]
    assert value["Fe"] == pytest.approx(1.83)
    assert value["Au"] == pytest.approx(2.4)
    assert value["U"] == pytest.approx(1.7)


def test_tables_of_elements_are_complete_and_cannot_be_changed():
    for table in (periodic.ELECTRONEGATIVITIES, periodic.COVALENT_RADII):
        assert table.shape == (97,)
        assert table.dtype == np.float32
        assert np.isnan(table[0])
        assert (table[1:] > 0.25).all()
    for table in (periodic.ROWS, periodic.COLUMNS):
        assert table.shape == (97,)
        assert table.dtype == np.int8
        assert table[0] == 0
    for table in (periodic.ROWS, periodic.COLUMNS, periodic.ELECTRONEGATIVITIES, periodic.COVALENT_RADII):
        with pytest.raises(ValueError, match="read-only"):
            table[1] = 1


# --- elements and expressions as text ---


@given(st.sets(st.integers(1, 96)))
def test_elements_survive_their_text(numbers):
    symbols = tuple(periodic.SYMBOLS[z] for z in sorted(numbers))
    assert parse_elements(format_elements(symbols)) == symbols


def test_elements_as_text():
    assert parse_elements("H-Be  Tl-Bi C") == ("H", "He", "Li", "Be", "Tl", "Pb", "Bi", "C")
    assert parse_elements("H-H") == ("H",)
    assert format_elements(["C", "B", "H", "N"]) == "H B-N"
    assert format_elements(["C", "B"]) == "B C"
    one_line(lambda: parse_elements("Ca-H"), "'Ca-H'", "H-Ca")
    for wrong in ("Xx", "H-", "-H", "H-Xx", "Bk", "h", "H,He", "1"):
        one_line(lambda wrong=wrong: parse_elements(wrong), "unknown element", "Cm")


decimals = st.decimals(0, 1000, places=4).map(lambda value: (Fraction(value), f"{value:f}"))
fractions = st.tuples(st.integers(0, 99), st.integers(1, 99)).map(lambda p: (Fraction(*p), f"{p[0]}/{p[1]}"))
factors = st.one_of(decimals, fractions)
names = st.sampled_from(["x", "y", "z_1"])
VALUES = {"x": Fraction(1, 3), "y": Fraction(-7, 8), "z_1": Fraction(5)}
terms = st.one_of(
    factors,
    names.map(lambda name: (VALUES[name], name)),
    st.tuples(factors, names).map(lambda p: (p[0][0] * VALUES[p[1]], f"{p[0][1]} * {p[1]}")),
)


@given(st.lists(st.tuples(st.sampled_from("+-"), terms), min_size=1, max_size=3), st.booleans())
def test_expressions_give_what_they_say(parts, bare):
    text = "".join(sign + term for sign, (_, term) in parts)
    expected = sum(value if sign == "+" else -value for sign, (value, _) in parts)
    if bare:
        text = text.removeprefix("+")
    values = {name: float(value) for name, value in VALUES.items()}
    assert prototype._evaluate(text, values) == pytest.approx(float(expected), abs=1e-9)


WRONG_EXPRESSIONS = [
    "",
    " ",
    "+",
    "x y",
    "2x",
    "1/2x",
    "1/0",
    "x*2",
    "x+",
    "x--y",
    "1e3",
    "nan!",
    "x**2",
    "(x)",
    "x/2",
    "__import__('os')",
    "x.real",
    "\u0661",
    "9" * 65,
]


@pytest.mark.parametrize("text", WRONG_EXPRESSIONS)
def test_expressions_that_are_none_are_refused(text):
    one_line(lambda: Position("A", (text, "0", "0")), "the coordinates of A", "is no coordinate")


@given(st.text(max_size=30))
def test_any_text_is_an_expression_or_refused(text):
    try:
        prototype._terms(text)
    except InputError:
        one_line(lambda: Position("A", (text, "0", "0")), "is no coordinate")
    else:
        assert Position("A", (text, "0", "0")).coordinates[0] == text


def test_numbers_are_expressions_too():
    assert Position("A", [0, 0.25, 1e-05]).coordinates == ("0", "0.25", "0.00001")
    one_line(lambda: Position("A", (True, "0", "0")), "finite number", "True")
    one_line(lambda: Position("A", (float("nan"), 0, 0)), "finite number", "nan")
    one_line(lambda: Position("A", (10**400, 0, 0)), "finite number")
    one_line(lambda: Position("A", ("0", "0")), "3 numbers or expressions")
    one_line(lambda: Position("A", "xyz"), "3 numbers or expressions", "'xyz'")


# --- what a prototype holds ---


def test_the_shipped_prototypes_are_what_they_say():
    assert ELPASOLITE.labels == ("A", "B", "C", "D")
    assert [site.multiplicity for site in ELPASOLITE.sites] == [1, 1, 2, 6]
    assert all(site.elements == space.symbols for site in ELPASOLITE.sites)
    np.testing.assert_array_equal(ELPASOLITE.sites[0].numbers, space.atomic_numbers)
    assert ELPASOLITE.equivalent == (("A", "B"),)
    assert not ELPASOLITE.repeats
    assert (ELPASOLITE.formula_template, ELPASOLITE.n_atoms) == ("ABC2D6", 10)
    assert str(ELPASOLITE) == (
        "elpasolite ABC2D6: A, B, C, D of 39 elements, A and B equivalent, space group 225"
    )
    assert ABO3.labels == ("A", "B")
    assert len(ABO3.site("A").elements) == 73
    assert (ABO3.formula_template, ABO3.n_atoms, ABO3.repeats) == ("ABO3", 5, True)
    assert repr(ABO3) == (
        "<Prototype abo3 ABO3: A, B of 73 elements, O always O, elements may repeat, space group 221>"
    )


def test_formulas_stay_readable_where_labels_end_in_digits():
    case = Prototype("x", (Site("A1", "H He"), Site("B2", "Li Be", 3)), (Fixed("O", label="O9"),))
    assert case.formula_template == "A1(B2)3O"
    assert case.fixed[0].label == "O9"
    assert case.n_atoms == 5
    assert str(case) == "x A1(B2)3O: A1 of 2 elements, B2 of 2 elements, O9 always O"


def test_sites_keep_elements_in_the_order_of_their_numbers():
    assert Site("A", ("Cl", "H", "F")).elements == ("H", "F", "Cl")
    assert Site("A", ["Cl", "H"]) == Site("A", "H Cl")
    assert Site("A", ("Cl", "H")).numbers.dtype == np.int16
    one_line(lambda: ELPASOLITE.site("E"), "no site 'E'", "A, B, C, D")


@pytest.mark.parametrize("case", [*ALL, NO_STRUCTURE], ids=ids([*ALL, NO_STRUCTURE]))
def test_every_way_of_writing_gives_it_back(case, tmp_path):
    path = tmp_path / "case.toml"
    case.write(path)
    tomllib.loads(case.to_toml())
    for back in (
        Prototype.from_dict(case.to_dict()),
        Prototype.from_dict(json.loads(json.dumps(case.to_dict()))),
        Prototype.from_toml(case.to_toml()),
        Prototype.read(path),
        pickle.loads(pickle.dumps(case)),
        copy.deepcopy(case),
        dataclasses.replace(case),
        eval(repr_code(case), vars(prototype)),
    ):
        assert back == case
        assert hash(back) == hash(case)
        assert back.to_toml() == case.to_toml()
    assert case != dataclasses.replace(case, name="other")
    assert len({case, dataclasses.replace(case, title="other"), dataclasses.replace(case)}) == 2


def repr_code(case):
    """Code that makes the prototype; the parts of it have the repr of dataclasses."""
    parts = (case.name, case.sites, case.fixed, case.equivalent, case.repeats, case.structure, case.title)
    return f"Prototype({', '.join(map(repr, parts))})"


labels = st.from_regex(r"[A-Z][a-z0-9'_]{0,3}", fullmatch=True)


@st.composite
def prototypes(draw):
    n = draw(st.integers(1, 7))
    named = draw(st.lists(labels, min_size=n + 2, max_size=n + 2, unique=True))
    symbols = st.sets(st.sampled_from(periodic.SYMBOLS[1:]), min_size=n, max_size=12)
    twins = draw(st.booleans()) and n > 1
    sites = [Site(label, tuple(draw(symbols)), draw(st.integers(1, 12))) for label in named[:n]]
    if twins:
        sites[1] = dataclasses.replace(sites[0], label=sites[1].label)
    fixed = [Fixed(draw(st.sampled_from(periodic.SYMBOLS[1:])), label=label) for label in named[n:]]
    title = draw(st.text(max_size=20).filter(str.isprintable))
    equivalent = ((sites[0].label, sites[1].label),) if twins else ()
    return Prototype(
        draw(st.from_regex(r"[a-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)),
        tuple(sites),
        tuple(fixed[: draw(st.integers(0, 2))]),
        equivalent,
        draw(st.booleans()),
        title=title,
    )


@settings(max_examples=50, deadline=None)
@given(prototypes())
def test_any_prototype_survives_its_text(case):
    assert Prototype.from_toml(case.to_toml()) == case
    assert Prototype.from_dict(json.loads(json.dumps(case.to_dict()))) == case
    assert pickle.loads(pickle.dumps(case)) == case


def test_importing_prototypes_imports_neither_ase_nor_spglib():
    code = "import sys, elpa_env.prototype, elpa_env.abo3; elpa_env.abo3.read_table();print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("ase", "spglib", "scipy", "torch"):
        assert heavy not in loaded.stdout.split()


def test_a_prototype_cannot_be_changed():
    for change in (
        lambda: setattr(ELPASOLITE, "name", "other"),
        lambda: setattr(ELPASOLITE.structure, "space_group", 1),
        lambda: setattr(ELPASOLITE.sites[0], "label", "X"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    with pytest.raises(TypeError):
        ELPASOLITE.structure.parameters["a"] = 1.0


# --- faults ---


def structure_with(**values):
    return lambda: dataclasses.replace(ELPASOLITE.structure, **values)


def with_structure(case=ELPASOLITE, **values):
    return lambda: dataclasses.replace(case, structure=dataclasses.replace(case.structure, **values))


A, B, C, D = ELPASOLITE.sites
PLACES = ELPASOLITE.structure.positions


def hall():
    two = "Li Na"
    return Prototype("x", (Site("A", "H-Ca"), Site("B", two), Site("C", two), Site("D", two)))


FAULTS = {
    "no site": (changed(ELPASOLITE, sites=()), "elpasolite", "1..7 sites", "got 0"),
    "too many sites": (
        lambda: Prototype("x", tuple(Site(c, "H-Ne") for c in "ABCDEFGH")),
        "1..7 sites",
        "got 8",
    ),
    "too many fixed": (
        lambda: Prototype("x", (A,), tuple(Fixed("O", label=f"O{i}") for i in range(21))),
        "up to 20",
        "got 21",
    ),
    "multiplicity 0": (lambda: Site("A", ("H",), 0), "site A", "at least 1", "got 0"),
    "multiplicity half": (lambda: Site("A", ("H",), 1.5), "site A", "whole number", "got 1.5"),
    "multiplicity true": (lambda: Site("A", ("H",), True), "whole number", "got True"),
    "multiplicity huge": (lambda: Site("A", ("H",), 10**5000), "whole number", "got a int"),
    "fixed multiplicity": (lambda: Fixed("O", -1), "element O", "at least 1", "got -1"),
    "fixed unknown": (lambda: Fixed("Ox"), "unknown element 'Ox'"),
    "no elements": (lambda: Site("A", ()), "site A has no elements"),
    "no elements in the text": (lambda: Site("A", " "), "site A has no elements"),
    "unknown element": (lambda: Site("A", ("H", "Xx")), "site A", "unknown element 'Xx'", "Cm"),
    "no symbol": (lambda: Site("A", (1, 2)), "unknown element 1"),
    "element twice": (lambda: Site("A", ("H", "C", "H")), "site A", "H twice"),
    "label": (lambda: Site("1A", ("H",)), "label", "'1A'"),
    "label long": (lambda: Site("A" * 13, ("H",)), "label", "11 letters"),
    "label none": (lambda: Site(None, ("H",)), "label", "None"),
    "label newline": (lambda: Site("A\n", ("H",)), "label"),
    "label of fixed": (lambda: Fixed("O", 1, "O-1"), "label", "'O-1'"),
    "name": (lambda: Prototype("a/b", (A,)), "name of a prototype", "'a/b'"),
    "name empty": (lambda: Prototype("", (A,)), "name of a prototype", "''"),
    "title": (changed(ELPASOLITE, title="two\nlines"), "title must be one line"),
    "title long": (changed(ELPASOLITE, title="x" * 201), "at most 200"),
    "repeats": (changed(ELPASOLITE, repeats=1), "repeats must be true or false", "got 1"),
    "label twice": (changed(ELPASOLITE, sites=(A, B, C, A)), "label A stands 2 times"),
    "label twice fixed": (lambda: Prototype("x", (Site("O", "H"),), (Fixed("O"),)), "label O stands 2"),
    "equivalent of one": (changed(ELPASOLITE, equivalent=(("A",),)), "at least two"),
    "equivalent unknown": (changed(ELPASOLITE, equivalent=(("A", "E"),)), "no site 'E'"),
    "equivalent fixed": (changed(ABO3, equivalent=(("A", "O"),)), "no site 'O'"),
    "equivalent twice": (changed(ELPASOLITE, equivalent=(("A", "B"), ("B", "A"))), "twice in equiv"),
    "equivalent itself": (changed(ELPASOLITE, equivalent=(("A", "A"),)), "A is named twice"),
    "equivalent counts": (changed(ELPASOLITE, equivalent=(("A", "C"),)), "A and C", "multiplicity differ"),
    "equivalent elements": (
        changed(ELPASOLITE, sites=(A, Site("B", "H-Ne"), C, D)),
        "A and B cannot be equivalent",
        "elements differ",
    ),
    "too few elements": (hall, "sites B, C, D need 3 different elements", "Li Na alone", "repeats"),
    "group 0": (structure_with(space_group=0), "space_group", "1..230", "got 0"),
    "group 231": (structure_with(space_group=231), "space_group", "1..230", "got 231"),
    "group text": (structure_with(space_group="Fm-3m"), "space_group", "'Fm-3m'"),
    "setting 3": (structure_with(setting=3), "setting must be 1 or 2", "got 3"),
    "setting there is not": (with_structure(setting=2), "225 has no setting 2", "take 1"),
    "cell short": (structure_with(cell=("a", "a", "a")), "cell must be 6"),
    "cell wrong": (structure_with(cell=("a", "a", "a", "90", "90", "1/0")), "cell:", "'1/0'"),
    "undefined": (structure_with(parameters={"a": 8.5}), "parameter x is undefined"),
    "unused": (structure_with(parameters={"a": 8.5, "x": 0.2, "y": 1}), "parameter y is used nowhere"),
    "parameter text": (structure_with(parameters={"a": "8.5", "x": 0.2}), "parameter a", "finite"),
    "parameter inf": (structure_with(parameters={"a": float("inf"), "x": 0.2}), "parameter a", "finite"),
    "parameter name": (structure_with(parameters={"a b": 1}), "name of a parameter", "'a b'"),
    "no positions": (structure_with(positions=()), "1..100 positions", "got 0"),
    "unknown site": (
        with_structure(positions=(*PLACES, Position("E", ("0", "0", "0")))),
        "elpasolite",
        "unknown site E",
        "A, B, C, D",
    ),
    "left out": (with_structure(positions=(*PLACES[:2], PLACES[3])), "leaves out site C"),
    "left out fixed": (with_structure(ABO3, positions=ABO3.structure.positions[:2]), "leaves out site O"),
    "ratio": (
        with_structure(
            positions=(*PLACES[:3], Position("D", ("x", "x", "x"))), parameters={"a": 8.5, "x": 0.1}
        ),
        "A 4, B 4, C 8, D 32",
        "ABC2D6",
    ),
    "collision": (
        with_structure(positions=(*PLACES, Position("C", ("3/4", "1/4", "1/4")))),
        "3/4, 1/4, 1/4 of C falls onto another position",
    ),
    "closeness": (with_structure(parameters={"a": 8.5, "x": 0.01}), "D", "angstrom from each other"),
    "cell not cubic": (
        with_structure(cell=("a", "a", "9", "90", "90", "90")),
        "8.5, 8.5, 9, 90, 90, 90 does not fit space group 225",
    ),
    "lower group": (
        with_structure(space_group=216, positions=(*PLACES, Position("C", ("3/4", "3/4", "3/4")))),
        "claims space group 216",
        "has 225 (Fm-3m)",
    ),
    "lengths": (with_structure(parameters={"a": 0.0, "x": 0.25}), "lengths of the cell", "0, 0, 0"),
    "lengths large": (with_structure(parameters={"a": 1e9, "x": 0.25}), "lengths of the cell", "1000"),
    "angles": (with_structure(cell=("a", "a", "a", "90", "90", "180")), "angles of the cell"),
    "angles flat": (with_structure(cell=("a", "a", "a", "120", "120", "120")), "angles of the cell"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_gets_one_line(fault):
    action, *parts = FAULTS[fault]
    one_line(action, *parts)


def test_check_false_leaves_the_structure_unchecked_until_atoms_are_made():
    wrong = dataclasses.replace(ELPASOLITE.structure, parameters={"a": 8.5, "x": 0.01})
    case = dataclasses.replace(ELPASOLITE, structure=wrong, check=False)
    one_line(lambda: case.atoms([13, 11, 19, 9]), "angstrom from each other")
    assert case.atoms([13, 11, 19, 9], x=0.25).get_chemical_formula() == "Al4F24K8Na4"
    assert Prototype.from_toml(case.to_toml(), check=False) == case
    one_line(lambda: Prototype.from_toml(case.to_toml()), "angstrom from each other")


@given(st.lists(st.sets(st.integers(1, 6), min_size=1), min_size=1, max_size=5))
def test_prototypes_can_be_filled_if_and_only_if_a_filling_is_found(sets):
    sites = tuple(Site(f"S{i}", tuple(periodic.SYMBOLS[z] for z in s)) for i, s in enumerate(sets))
    possible = any(len(set(filling)) == len(filling) for filling in itertools.product(*sets))
    if possible:
        Prototype("x", sites)
    else:
        one_line(lambda: Prototype("x", sites), "different elements")
    Prototype("x", sites, repeats=True)


# --- files ---


def edited(**values):
    return {**ELPASOLITE.to_dict(), **values}


def edited_structure(**values):
    return edited(structure={**ELPASOLITE.to_dict()["structure"], **values})


def edited_site(**values):
    first, *others = ELPASOLITE.to_dict()["sites"]
    return edited(sites=[{**first, **values}, *others])


WRONG_DICTS = {
    "unknown": (edited(colour="red"), "unknown key colour", "name, title"),
    "unknown in a site": (edited_site(colour="red"), "unknown key sites[0].colour", "label"),
    "unknown in the structure": (edited_structure(group=1), "unknown key structure.group"),
    "unknown in a position": (
        edited_structure(positions=[{"site": "A", "coordinates": [0, 0, 0], "w": 1}]),
        "structure.positions[0].w",
    ),
    "targets within": (edited_structure(targets=1), "unknown key structure.targets"),
    "unknown long": (edited(**{"k" * 1000: 1}), "unknown key"),
    "name missing": ({"sites": []}, "key name is missing"),
    "sites missing": ({"name": "x"}, "key sites is missing"),
    "name": (edited(name=1), "name must be a text", "got 1"),
    "title": (edited(title=1), "title must be a text"),
    "repeats": (edited(repeats="no"), "repeats must be true or false", "'no'"),
    "equivalent": (edited(equivalent="AB"), "equivalent must be a list"),
    "equivalent group": (edited(equivalent=["AB"]), "equivalent[0] must be a list of labels"),
    "equivalent label": (edited(equivalent=[["A", 1]]), "equivalent[0] must be a list of labels"),
    "sites": (edited(sites={}), "sites must be a list"),
    "site": (edited(sites=[1]), "sites[0] must be a table", "got 1"),
    "label": (edited_site(label=1), "sites[0].label must be a text"),
    "elements": (edited_site(elements=3), "sites[0].elements must be a list"),
    "element": (edited_site(elements=[3]), "sites[0].elements must be symbols"),
    "multiplicity": (edited_site(multiplicity="1"), "sites[0].multiplicity must be a whole number", "'1'"),
    "multiplicity true": (edited_site(multiplicity=True), "sites[0].multiplicity", "got True"),
    "fixed": (edited(fixed=[{}]), "fixed[0].element is missing"),
    "structure": (edited(structure=[]), "structure must be a table"),
    "group": (edited_structure(space_group="225"), "structure.space_group must be a whole number"),
    "cell": (edited_structure(cell="a"), "structure.cell must be a list"),
    "parameters": (edited_structure(parameters=[]), "structure.parameters must be a table"),
    "positions": (edited_structure(positions={}), "structure.positions must be a list"),
    "no table": ([], "a prototype must be a table"),
}


@pytest.mark.parametrize("fault", WRONG_DICTS)
def test_wrong_tables_get_one_line_that_names_the_key(fault):
    content, *parts = WRONG_DICTS[fault]
    one_line(lambda: Prototype.from_dict(content), *parts)


plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(["", "A", "x", "1/4", "H", "H-Ca", "1e5"]),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abx"), inner, max_size=2)
    ),
    max_leaves=5,
)


def places_in(content, path=()):
    yield path
    if isinstance(content, (dict, list)):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places_in(content[key], (*path, key))


SMALL = RUTILE.to_dict()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(places_in(SMALL))), plain, st.booleans())
def test_a_table_with_anything_in_it_is_read_or_refused_in_one_line(path, value, drop):
    content = copy.deepcopy({"top": SMALL})
    *way, last = ("top", *path)
    inner = content
    for key in way:
        inner = inner[key]
    if drop:
        del inner[last]
    else:
        inner[last] = value
    try:
        case = Prototype.from_dict(content.get("top"))
    except InputError:
        one_line(lambda: Prototype.from_dict(content.get("top")))
    else:
        assert Prototype.from_toml(case.to_toml()) == case


def test_keys_for_others_are_passed_over():
    assert Prototype.from_dict(edited(targets=[1], energies={}, training="x.csv")) == ELPASOLITE
    assert Prototype.from_dict(edited(structure=None)).structure is None


def test_elements_in_a_file_may_be_ranges_or_a_list():
    text = """
        name = "pair"
        [[sites]]
        label = "A"
        elements = "H-Be Tl"
        [[sites]]
        label = "B"
        elements = ["F", "Cl"]
        multiplicity = 2
        [structure]
        space_group = 225
        cell = [5.4, 5.4, 5.4, 90, 90, 90]
        [[structure.positions]]
        site = "A"
        coordinates = [0, 0, 0]
        [[structure.positions]]
        site = "B"
        coordinates = [0.25, "1/4", 0.25]
    """
    case = Prototype.from_toml(text)
    assert case.sites == (Site("A", ("H", "He", "Li", "Be", "Tl")), Site("B", ("F", "Cl"), 2))
    assert case.structure.cell == ("5.4", "5.4", "5.4", "90", "90", "90")
    assert case.atoms([3, 9]).get_chemical_formula() == "F8Li4"


def test_files_that_hold_no_prototype_get_one_line(tmp_path):
    path = tmp_path / "case.toml"

    def written(data):
        path.write_bytes(data)
        return lambda: Prototype.read(path)

    one_line(lambda: Prototype.read(tmp_path / "none.toml"), "none.toml", "No such file")
    one_line(lambda: Prototype.read(tmp_path), str(tmp_path), "folder")
    one_line(written(b"name = "), str(path), "no TOML")
    one_line(written(b"\xff\xfe"), str(path), "UTF-8")
    one_line(written(b"\0"), str(path), "no TOML")
    one_line(written(b""), str(path), "key name is missing")
    one_line(written(b"#" * 1_000_001), str(path), "larger than 1,000,000 bytes")
    one_line(written(b"x = " + b"[" * 100_000), str(path))
    one_line(written(b"name = 'x'\nsites = " + b"9" * 5000), str(path))
    one_line(written(b"name = 'x'\nsites = 0x" + b"f" * 5000), str(path), "sites must be a list")
    one_line(written(b"name = 'x'\ncolour = 1"), str(path), "unknown key colour")
    one_line(written(b"name = 'x'\nsites = 1979-05-27"), str(path), "sites must be a list")


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "case.toml"
    path.write_text(ABO3.to_toml(), encoding="utf-8-sig")
    assert Prototype.read(path) == ABO3


def test_a_prototype_that_cannot_be_written_leaves_what_was_there(tmp_path):
    (tmp_path / "case.toml").mkdir()
    one_line(lambda: ABO3.write(tmp_path / "case.toml"), "case.toml", "folder")


# --- atoms ---


@pytest.mark.parametrize("case", ALL, ids=ids(ALL))
def test_atoms_have_the_space_group_in_every_way_of_writing(case):
    import spglib

    numbers = some_numbers(case)
    claimed = case.structure.space_group
    atoms = case.atoms(numbers)
    assert atoms.info["spacegroup"].no == claimed
    assert group_of(atoms) == claimed
    back = read_cif(case.cif(numbers))
    assert group_of(back) == claimed
    assert group_of(Prototype.from_toml(case.to_toml()).atoms(numbers)) == claimed
    moved = atoms.copy()
    moved.translate([0.1, 0.2, 0.3])
    moved.wrap()
    assert group_of(moved) == claimed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        primitive = spglib.find_primitive(
            (np.asarray(atoms.cell), atoms.get_scaled_positions(), atoms.numbers), symprec=1e-3
        )
    assert space_group(*primitive) == claimed
    assert group_of(atoms.repeat((2, 1, 1))) == claimed


@pytest.mark.parametrize("case", ALL, ids=ids(ALL))
def test_a_cif_reads_back_as_the_same_crystal(case):
    numbers = some_numbers(case)
    atoms, text = case.atoms(numbers), case.cif(numbers)
    back = read_cif(text)
    assert back.info["spacegroup"].no == case.structure.space_group
    assert sorted(back.numbers) == sorted(atoms.numbers)
    np.testing.assert_allclose(back.cell.cellpar(), atoms.cell.cellpar(), rtol=1e-8)
    assert same_places(atoms, back)
    rows = [line.split() for line in text.splitlines() if line.count(".") == 3 and "'" not in line]
    assert len(rows) == len(case.structure.positions)
    assert sum(int(row[2]) for row in rows) == len(atoms)
    operations = [line for line in text.splitlines() if line.startswith("  '")]
    assert len(operations) == len(set(operations)) == atoms.info["spacegroup"].nsymop


def same_places(first, second):
    """Whether every atom has one of its element at its place."""
    if len(first) != len(second):
        return False
    apart = first.get_scaled_positions()[:, None] - second.get_scaled_positions()
    near = (np.abs(apart - np.rint(apart)) < 1e-6).all(axis=-1)
    return bool((near & (first.numbers[:, None] == second.numbers)).any(axis=1).all())


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_composition_survives_its_cif(data):
    case = data.draw(st.sampled_from(SHIPPED))
    numbers = [data.draw(st.sampled_from(site.numbers.tolist())) for site in case.sites]
    back = read_cif(case.cif(numbers))
    expected = {}
    parts = [*zip(numbers, case.sites, strict=True)]
    parts += [(periodic.NUMBER_OF_SYMBOL[fixed.element], fixed) for fixed in case.fixed]
    for number, part in parts:
        expected[number] = expected.get(number, 0) + part.multiplicity
    found = {int(z): int((back.numbers == z).sum()) for z in set(back.numbers.tolist())}
    units = len(back) // case.n_atoms
    assert found == {number: count * units for number, count in expected.items()}
    assert back.info["spacegroup"].no == case.structure.space_group


def test_two_sites_with_one_element_keep_the_symmetry_that_is_written():
    """Where the true symmetry is higher, the file still has the space group of the prototype."""
    text = ELPASOLITE.cif([11, 11, 19, 9])
    back = read_cif(text)
    assert "_chemical_formula_sum 'F6 K2 Na2'" in text
    assert (back.info["spacegroup"].no, len(back)) == (225, 40)
    assert group_of(back) == 221
    perovskite = read_cif(ABO3.cif([22, 22]))
    assert (perovskite.get_chemical_formula(), group_of(perovskite)) == ("O3Ti2", 221)
    oxide = read_cif(SPINEL.cif([26, 26, 8]))
    assert (oxide.get_chemical_formula(), group_of(oxide)) == ("Fe24O32", 227)


def test_equivalent_sites_of_the_elpasolite_are_one_and_the_same():
    one, other = ELPASOLITE.atoms([13, 11, 19, 9]), ELPASOLITE.atoms([11, 13, 19, 9])
    assert not same_places(one, other)
    other.translate(np.asarray(other.cell).sum(axis=0) / 2)
    assert same_places(one, other)


def test_a_cif_says_what_it_holds():
    lines = ELPASOLITE.cif(np.array([13, 11, 19, 9], dtype=np.int16), a=8.0).splitlines()
    assert lines[:3] == [
        "# prototype elpasolite",
        "data_AlNaK2F6",
        "_chemical_formula_sum 'Al1 F6 K2 Na1'",
    ]
    assert "_cell_length_a 8" in lines
    assert "_cell_volume 512" in lines
    assert "_cell_formula_units_Z 4" in lines
    assert "_space_group_name_H-M_alt 'F m -3 m'" in lines
    assert "_space_group_IT_number 225" in lines
    assert "  '-x, -y+1/2, z+1/2'" in lines
    assert lines[-1].split() == ["F4", "F", "24", "0.2500000000", "0.0000000000", "0.0000000000"]
    carbonate = CALCITE.cif([20])
    assert "_chemical_formula_sum 'C1 Ca1 O3'" in carbonate


def test_parameters_replace_those_to_start_from():
    atoms = ABO3.atoms([56, 22], a=4.0)
    np.testing.assert_allclose(atoms.cell.cellpar(), [4, 4, 4, 90, 90, 90])
    assert ABO3.atoms([56, 22]).cell.cellpar()[0] == pytest.approx(3.9)
    assert atoms.get_chemical_formula() == "BaO3Ti"
    places = dict(zip(atoms.get_chemical_symbols(), atoms.get_scaled_positions().tolist(), strict=True))
    assert (places["Ba"], places["Ti"]) == ([0.5] * 3, [0.0] * 3)
    assert group_of(ELPASOLITE.atoms([13, 11, 19, 9], x=0.22)) == 225


def test_atoms_that_cannot_be_made_get_one_line():
    numbers = [13, 11, 19, 9]
    one_line(lambda: ELPASOLITE.atoms(numbers, y=1), "unknown parameter 'y'", "a, x")
    one_line(lambda: NO_STRUCTURE.atoms([1, 2]), "pair has no structure")
    one_line(lambda: NO_STRUCTURE.cif([1, 2]), "pair has no structure")
    for value in (float("nan"), float("inf"), "1", None, True):
        one_line(lambda value=value: ELPASOLITE.atoms(numbers, x=value), "parameter x", "finite")
    one_line(lambda: ELPASOLITE.atoms(numbers, x=0.5), "of D falls onto another position")
    one_line(lambda: ELPASOLITE.cif(numbers, x=0), "of D falls onto another position")
    one_line(lambda: ELPASOLITE.atoms(numbers, x=0.251, a=-3), "lengths of the cell")
    one_line(lambda: ELPASOLITE.atoms(numbers[:3]), "4, one for each of A, B, C, D", "got 3")
    one_line(lambda: ELPASOLITE.atoms([26, 11, 19, 9]), "26 (Fe) is none of site A", "H-Ca")
    one_line(lambda: ELPASOLITE.atoms([0, 11, 19, 9]), "0 (none)")
    one_line(lambda: ELPASOLITE.atoms([-1, 11, 19, 9]), "-1 (none)")
    one_line(lambda: ELPASOLITE.atoms([97, 11, 19, 9]), "97 (none)")
    one_line(lambda: ELPASOLITE.atoms(["Al", 11, 19, 9]), "must be atomic numbers")
    one_line(lambda: ELPASOLITE.atoms(5), "must be atomic numbers")
    one_line(lambda: RUTILE.atoms([22], x=0.05), "angstrom from each other")
    one_line(lambda: QUARTZ.atoms([14, 8], a=1.7e308), "1.1*a is not finite")
    many = [("B", 0.05 + i / 30, 0.11, 0.21) for i in range(11)]
    places = tuple(Position(site, tuple(map(str, xyz))) for site, *xyz in [("A", 0, 0, 0), *many])
    large = Structure(225, ("90", "90", "90", "90", "90", "90"), places)
    one_line(lambda: Prototype("x", (A, B), structure=large), "2,116 atoms", "2,000")


def test_a_parameter_that_moves_atoms_to_a_special_place_is_refused():
    """Half of the atoms fall onto the other half, without any two positions colliding."""
    one_line(lambda: QUARTZ.atoms([14, 8], x=0.25, y=0, z=2 / 3), "Si 3, O 3", "ratio", "SiO2")


def cell_of(group):
    """A cell of the crystal system of a space group."""
    systems = {
        2: (14.2, 16.6, 19.4, 83, 97, 104),
        15: (14.2, 16.6, 19.4, 90, 104, 90),
        74: (14.2, 16.6, 19.4, 90, 90, 90),
        142: (14.2, 14.2, 19.4, 90, 90, 90),
        194: (14.2, 14.2, 19.4, 90, 90, 120),
        230: (18.2, 18.2, 18.2, 90, 90, 90),
    }
    return next(cell for last, cell in systems.items() if group <= last)


@pytest.mark.parametrize("step", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_a_cif_is_right_in_every_space_group(step):
    places = (Position("A", (0.198, 0.973, 0.846)), Position("B", (0.824, 0.554, 0.637)))
    for group in range(step, 231, step):
        structure = Structure(group, cell_of(group), places)
        case = Prototype("any", (Site("A", "Li"), Site("B", "Be")), structure=structure)
        assert same_places(case.atoms([3, 4]), read_cif(case.cif([3, 4])))
