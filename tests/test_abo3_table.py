import json
import shutil
from importlib import resources

import numpy as np
import pytest

from elpa_env import abo3, periodic
from elpa_env.abo3 import read_table
from elpa_env.errors import InputError
from elpa_env.files import sha256
from elpa_env.prototype import ABO3

DATA = resources.files("elpa_env") / "data"


@pytest.fixture(scope="module")
def table():
    return read_table()


@pytest.fixture
def folder(tmp_path):
    for name in ("abo3.csv", "abo3.json"):
        shutil.copy(DATA / name, tmp_path)
    return tmp_path


def test_the_table_has_the_facts_of_its_publication(table):
    energy, above = table["formation_energy"], table["energy_above_hull"]
    known = np.isfinite(energy)
    assert (len(energy), known.sum()) == (5329, 5276)
    assert (np.nanmin(energy), np.nanmax(energy)) == (-3.844, 1.879)
    assert [int((above[known] <= limit).sum()) for limit in (0, 0.025, 0.05)] == [290, 398, 496]
    assert (table["numbers"][:, 0] == table["numbers"][:, 1]).sum() == 73
    for name in ("energy_above_hull", "volume"):
        np.testing.assert_array_equal(np.isfinite(table[name]), known)


def test_the_table_has_every_composition_of_the_prototype_once(table):
    numbers = table["numbers"]
    assert numbers.dtype == np.int16
    a, b = (site.numbers for site in ABO3.sites)
    assert {(int(x), int(y)) for x, y in numbers} == {(int(x), int(y)) for x in a for y in b}
    assert len(a) ** 2 == len(numbers)


def test_rows_are_those_of_the_publication(table):
    def row(a, b):
        numbers = [periodic.NUMBER_OF_SYMBOL[a], periodic.NUMBER_OF_SYMBOL[b]]
        (place,) = np.flatnonzero((table["numbers"] == numbers).all(axis=1))
        return [table[name][place] for name in ("formation_energy", "energy_above_hull", "volume")]

    assert row("Ac", "Ag") == [-1.957, -0.055, 14.485]
    assert row("Ac", "Al") == [-3.532, -0.11, 11.487]
    assert np.isnan(row("Ca", "Ca")).all()


def test_arrays_are_shared_and_cannot_be_changed(table):
    assert set(table) == {"numbers", "formation_energy", "energy_above_hull", "volume"}
    again = read_table()
    assert again is not table
    for name, array in table.items():
        assert again[name] is array
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    for name in abo3.COLUMNS:
        assert table[name].dtype == np.float64


def test_the_record_names_source_and_licence():
    record = json.loads((DATA / "abo3.json").read_text(encoding="utf-8"))
    assert record["sha256"] == sha256((DATA / "abo3.csv").read_bytes())
    assert "CC BY 4.0" in record["licence"]
    assert "Emery" in record["citation"]
    assert "wolverton_oxides.csv" in record["source"]
    assert record["rows"] == 5329


def test_an_altered_or_missing_table_gets_one_line(folder):
    def refused(part):
        abo3._load.cache_clear()
        with pytest.raises(InputError, match=part) as caught:
            read_table(folder)
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)

    assert len(read_table(folder)["volume"]) == 5329
    text = (folder / "abo3.csv").read_text(encoding="ascii")
    (folder / "abo3.csv").write_text(text.replace("-1.957", "-1.958"), encoding="ascii")
    refused("altered")
    (folder / "abo3.csv").write_text(text[:-10], encoding="ascii")
    refused("altered")
    (folder / "abo3.csv").write_text(text, encoding="ascii")
    (folder / "abo3.json").write_text("[]", encoding="utf-8")
    refused("altered")
    (folder / "abo3.json").write_text("{", encoding="utf-8")
    refused("no table of ABO3")
    (folder / "abo3.csv").unlink()
    refused("no table of ABO3")
    abo3._load.cache_clear()
