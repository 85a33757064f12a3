"""Where energies come from, and asking for many of them."""

import numpy as np
import pytest

from agents.discovery.energies import ModelEnergy, load_energy
from agents.discovery.labelling import label_all
from elpa_env import ELPASOLITE_SPACE
from elpa_env.catalogue import load_space
from elpa_env.dft import read_dft
from elpa_env.errors import InputError


def some_numbers(n, seed=0):
    real = np.flatnonzero(ELPASOLITE_SPACE.composition_mask)
    return ELPASOLITE_SPACE.index_to_numbers(np.random.default_rng(seed).choice(real, n, replace=False))


# --- Tables and functions ---


def test_landscape_gives_the_table_that_ships(landscape):
    numbers = some_numbers(1000)
    source = load_energy("landscape", ELPASOLITE_SPACE)
    labelled = dict(label_all(source, numbers))
    assert source.name == "landscape"
    assert sorted(labelled) == list(range(1000))
    expected = landscape.table_energy[ELPASOLITE_SPACE.numbers_to_index(numbers)]
    np.testing.assert_array_equal([labelled[i].energy for i in range(1000)], expected)
    assert source(numbers[7]) == labelled[7]
    assert {outcome.error for outcome in labelled.values()} == {""}


def test_landscape_of_abo3_says_what_was_never_calculated():
    benchmark = load_space("abo3")
    source = load_energy("landscape", benchmark.space)
    numbers = benchmark.space.index_to_numbers(np.arange(benchmark.space.n_table))
    table = benchmark.energies().table_energy
    for position, outcome in label_all(source, numbers):
        assert np.isfinite(outcome.energy) == np.isfinite(table[position])
        assert bool(outcome.error) == np.isnan(table[position])


def test_dft_table_keeps_the_energy_of_the_order_asked(dft_dir):
    source = load_energy(str(dft_dir / "elpasolites_dft.csv"), ELPASOLITE_SPACE)
    assert source.name == "table elpasolites_dft.csv"
    rows = read_dft()
    outcomes = dict(label_all(source, rows.numbers))
    np.testing.assert_allclose([outcomes[i].energy for i in range(len(rows.numbers))], rows.energy, atol=2e-7)
    index = ELPASOLITE_SPACE.numbers_to_index(rows.numbers)
    swapped = rows.numbers[:, [1, 0, 2, 3]]
    both = np.isin(ELPASOLITE_SPACE.numbers_to_index(swapped), index)
    assert both.sum() == 68  # 34 compounds in both orders
    alone = np.flatnonzero(~both)
    mirrored = dict(label_all(source, swapped[alone]))
    np.testing.assert_allclose([mirrored[i].energy for i in range(len(alone))], rows.energy[alone], atol=2e-7)


def test_table_of_formulas(tmp_path):
    space = load_space("abo3").space
    (tmp_path / "mine.csv").write_text("formula,energy\nBaTiO3,0.01\nCaTiO3,0.02\n", encoding="utf-8")
    source = load_energy(str(tmp_path / "mine.csv"), space)
    numbers = space.index_to_numbers(space.formula_to_index(["CaTiO3", "SrTiO3"]))
    (_, known), (_, unknown) = label_all(source, numbers)
    assert known.energy == pytest.approx(0.02)
    assert np.isnan(unknown.energy)
    assert unknown.error == "table mine.csv has no energy of it"


def mean_number(numbers):
    return numbers.mean(axis=1) / 100


def columns(numbers):
    return {"other": numbers[:, 0], "energy": mean_number(numbers)}


def no_lithium(numbers):
    if (numbers == 3).any():
        raise ArithmeticError("no lithium\nat all")
    return mean_number(numbers)


@pytest.mark.parametrize("function", ["mean_number", "columns"])
def test_callable_of_a_module(function):
    numbers = some_numbers(50)
    source = load_energy(f"tests.test_energies:{function}", ELPASOLITE_SPACE)
    energies = [outcome.energy for _, outcome in label_all(source, numbers)]
    np.testing.assert_allclose(energies, numbers.mean(axis=1) / 100)
    assert source.name == f"tests.test_energies:{function}"


def test_what_one_compound_raises_costs_no_other():
    numbers = some_numbers(300)
    has = (numbers == 3).any(axis=1)
    assert 0 < has.sum() < 300
    outcomes = dict(label_all(load_energy("tests.test_energies:no_lithium", ELPASOLITE_SPACE), numbers))
    for row, outcome in outcomes.items():
        assert np.isnan(outcome.energy) == has[row]
        assert outcome.error == ("ArithmeticError: no lithium" if has[row] else "")


def test_function_that_gives_too_few_energies():
    source = ModelEnergy(lambda numbers: np.zeros(3), ELPASOLITE_SPACE, "mine:few")
    assert source(some_numbers(1)[0]).error == "mine:few must return (1,) energies, got (3,)"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vasp", "must be landscape, a .csv table, module:callable, chgnet or 'command: ...', got 'vasp'"),
        ("absent.csv", "cannot read absent.csv"),
        ("tests.test_energies:absent", "cannot import tests.test_energies:absent"),
        ("math:pi", "math:pi is no energy model: it must be callable, got float"),
    ],
)
def test_sources_that_are_none(name, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")) as caught:
        load_energy(name, ELPASOLITE_SPACE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"time_limit": 0.0}, {"retries": -1}, {"references": "elements"}])
def test_settings_that_are_none(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        load_energy("landscape", ELPASOLITE_SPACE, **settings)
