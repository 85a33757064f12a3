import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elpa_env import periodic
from elpa_env.errors import InputError
from elpa_env.space import ELPASOLITE_SPACE as space

FACTS = {  # symbol: atomic number, row, main group
    "H": (1, 1, 1),
    "He": (2, 1, 8),
    "C": (6, 2, 4),
    "F": (9, 2, 7),
    "Al": (13, 3, 3),
    "Ca": (20, 4, 2),
    "Ga": (31, 4, 3),
    "Kr": (36, 4, 8),
    "In": (49, 5, 3),
    "Ba": (56, 6, 2),
    "Tl": (81, 6, 3),
    "Bi": (83, 6, 5),
}

index_of_table = st.integers(0, space.n_table - 1)
real_index = index_of_table.filter(lambda i: space.composition_mask[i])


def test_elements_are_the_39_of_the_paper():
    assert len(space.symbols) == 39 == len(set(space.symbols))
    for symbol, (number, row, group) in FACTS.items():
        element = space.symbols.index(symbol)
        assert space.atomic_numbers[element] == number
        assert (space.rows[element], space.columns[element]) == (row, group)
        assert space.element_of_row_column[row, group] == element


def test_space_has_the_size_of_the_paper():
    assert space.composition_mask.sum() == space.n_compositions == 1_974_024


def test_the_example_of_figure_1():
    index = space.formula_to_index(["AlNaK2F6"])
    assert space.index_to_numbers(index).tolist() == [[13, 11, 19, 9]]
    digits = space.index_to_digits(index)
    assert digits.tolist() == [[3, 3, 3, 1, 4, 1, 2, 7]]
    by_hand = [(2 * 3 - 1) / 6 - 1, (2 * 3 - 1) / 8 - 1, -1 / 6, (2 * 1 - 1) / 8 - 1]
    by_hand += [(2 * 4 - 1) / 6 - 1, (2 * 1 - 1) / 8 - 1, (2 * 2 - 1) / 6 - 1, (2 * 7 - 1) / 8 - 1]
    np.testing.assert_allclose(space.scale(digits)[0], by_hand, rtol=1e-6)


def test_round_trips_over_the_whole_space():
    index = np.flatnonzero(space.composition_mask)
    digits = space.index_to_digits(index)
    np.testing.assert_array_equal(space.digits_to_index(digits), index)
    np.testing.assert_array_equal(space.numbers_to_index(space.index_to_numbers(index)), index)
    np.testing.assert_array_equal(space.decode(space.scale(digits)), digits)
    np.testing.assert_array_equal(space.unscale(space.scale(digits)), digits)
    np.testing.assert_array_equal(space.images(space.images(index)[0])[0], index)


def test_every_vector_of_digits_that_is_no_composition_is_minus_one():
    digits = np.array(list(itertools.product(range(1, 7), range(1, 9))), dtype=np.int8)
    exists = np.array([space.element_of_row_column[r, g] >= 0 for r, g in digits])
    assert exists.sum() == 39
    rest = np.tile(np.array([2, 7, 3, 1, 4, 1], dtype=np.int8), (48, 1))
    index = space.digits_to_index(np.concatenate([digits, rest], axis=1))
    in_rest = (digits[:, None] == rest[0].reshape(3, 2)).all(axis=2).any(axis=1)
    np.testing.assert_array_equal(index >= 0, exists & ~in_rest)


@given(st.lists(real_index, min_size=1, max_size=50))
def test_formula_round_trip(values):
    index = np.array(values)
    formulas = space.index_to_formula(index)
    np.testing.assert_array_equal(space.formula_to_index(formulas), index)
    assert all(space.explain_formula(formula) == "" for formula in formulas)


@given(st.lists(st.tuples(*[st.integers(0, 6), st.integers(0, 8)] * 4), min_size=1, max_size=30))
def test_scaled_round_trip_with_open_digits(rows):
    digits = np.array(rows, dtype=np.int8)
    scaled = space.scale(digits)
    assert scaled.dtype == np.float32
    assert ((scaled == 0) == (digits == 0)).all()
    assert (np.abs(scaled) < 1).all()
    np.testing.assert_array_equal(space.unscale(scaled), digits)


@given(st.lists(st.tuples(*[st.integers(-5, 130)] * 4), min_size=1, max_size=30))
def test_numbers_that_are_no_composition(rows):
    numbers = np.array(rows)
    known = np.isin(numbers, space.atomic_numbers).all(axis=1)
    different = np.array([len(set(row)) == 4 for row in rows])
    np.testing.assert_array_equal(space.numbers_to_index(numbers) >= 0, known & different)


@given(st.lists(st.floats(-3, 3), min_size=8, max_size=8))
def test_decode_finds_the_nearest_digit(vector):
    digits = space.decode(np.array([vector]))[0]
    for value, digit, limit in zip(vector, digits, space.digit_limits, strict=True):
        exact = (np.float32(value) + 1) * limit / 2 + 0.5
        distances = [abs(exact - k) for k in range(1, limit + 1)]
        assert distances[digit - 1] <= min(distances) + 1e-5


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("AlNaK2F", "not of the form"),
        ("AlNaK2F6Cl", "not of the form"),
        ("", "not of the form"),
        ("AlNaK3F6", "not of the form"),
        ("AlFeK2F6", "unknown element Fe"),
        ("AlNaNa2F6", "element Na stands twice"),
    ],
)
def test_formulas_that_are_no_composition(formula, reason):
    assert space.formula_to_index([formula, "AlNaK2F6"])[0] == -1
    assert reason in space.explain_formula(formula)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: space.scale(np.zeros((2, 7), int)), r"shape \(n, 8\)"),
        (lambda: space.scale(np.full((1, 8), 7)), r"row 0..6, got 7"),
        (lambda: space.scale(np.full((1, 8), -1)), r"row 0..6, got -1"),
        (lambda: space.scale(np.zeros((1, 8))), "integers"),
        (lambda: space.decode(np.full((1, 8), np.nan)), "NaN"),
        (lambda: space.index_to_digits([-1]), "got -1"),
        (lambda: space.index_to_digits([space.n_table]), f"got {space.n_table}"),
        (lambda: space.numbers_to_index([[1, 2, 3]]), "numbers must be"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


class TestProperties:
    """Electronegativity and covalent radius, against tables of other people and what every chemist knows."""

    ELECTRONEGATIVITIES = periodic.ELECTRONEGATIVITIES[space.atomic_numbers]
    RADII = periodic.COVALENT_RADII[space.atomic_numbers]

    def test_radii_are_those_of_ase(self):
        data = pytest.importorskip("ase.data", reason="ASE is not installed")
        np.testing.assert_allclose(self.RADII, data.covalent_radii[space.atomic_numbers])

    @pytest.mark.parametrize(
        ("symbol", "electronegativity", "radius"),
        [
            ("H", 2.20, 0.31),
            ("F", 3.98, 0.57),
            ("Na", 0.93, 1.66),
            ("Si", 1.90, 1.11),
            ("K", 0.82, 2.03),
            ("Br", 2.96, 1.20),
            ("Sn", 1.96, 1.39),
            ("Xe", 2.60, 1.40),
            ("Cs", 0.79, 2.44),
            ("Tl", 1.80, 1.45),
            ("Bi", 1.90, 1.48),
        ],
    )
    def test_some_by_hand(self, symbol, electronegativity, radius):
        place = space.symbols.index(symbol)
        assert self.ELECTRONEGATIVITIES[place] == pytest.approx(electronegativity)
        assert self.RADII[place] == pytest.approx(radius)

    def test_they_follow_the_periodic_table(self):
        """In a row electronegativity rises from group 1 to 7; in a group of 1, 2, 7 radii grow downwards."""
        for row in range(2, 6):
            here = (space.rows == row) & (space.columns <= 7)
            assert (np.diff(self.ELECTRONEGATIVITIES[here]) > 0).all()
        for group in (1, 2, 7):
            assert (np.diff(self.RADII[space.columns == group]) > 0).all()
        assert space.symbols[int(self.ELECTRONEGATIVITIES.argmin())] == "Cs"
