import hashlib
import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest

from elpa_env import TrainingSet, classes, load_landscape
from elpa_env.errors import InputError
from elpa_env.landscape import CITATION, Landscape, _fit, _row_kernel, fit_landscape, held_out_error
from elpa_env.space import ELPASOLITE_SPACE as space
from elpa_env.training import load_training_set
from tests.test_files import full_disk

REFERENCE_COUNTS = {1: 3756, 2: 19960, 5: 907761}


def test_class_counts_are_those_of_the_reference(landscape):
    counts = landscape.class_counts
    assert counts[1:].sum() == 1_974_024
    for target_class, count in REFERENCE_COUNTS.items():
        assert counts[target_class] == pytest.approx(count, rel=0.005)
    assert (counts[4] + counts[6]) / 1_974_024 == pytest.approx(0.398, abs=0.001)


def test_class_of_the_stored_energy_is_the_stored_class(landscape):
    index = np.flatnonzero(space.composition_mask)
    np.testing.assert_array_equal(
        classes.energy_to_class(landscape.energy(index)), landscape.energy_class(index)
    )


def test_no_composition_has_no_energy_and_class_0(landscape):
    assert np.isnan(landscape.energy([-1])).all()
    assert landscape.energy_class([-1]).tolist() == [0]
    assert (landscape.table_class[~space.composition_mask] == 0).all()


def test_landscape_is_an_energy_model(landscape):
    index = landscape.members(1)[:100]
    np.testing.assert_array_equal(landscape(space.index_to_numbers(index)), landscape.energy(index))
    assert landscape.energy(index).dtype == np.float32


def test_it_is_loaded_once():
    assert load_landscape() is load_landscape()


def test_provenance_names_source_and_error(landscape):
    provenance = landscape.provenance
    assert provenance["citation"] == CITATION
    assert provenance["rows"] == 10_590
    assert provenance["held_out_mae_eV_per_atom"] == pytest.approx(0.1, abs=0.015)


def test_save_and_load_round_trip_and_tampering(landscape, tmp_path):
    landscape.save(tmp_path)
    again = load_landscape(tmp_path)
    np.testing.assert_array_equal(again.levels, landscape.levels)
    np.testing.assert_array_equal(again.training_index, landscape.training_index)
    np.testing.assert_array_equal(again.symmetric_energy, landscape.symmetric_energy)
    assert (tmp_path / "landscape.npz").stat().st_size < 4e6
    other = tmp_path / "altered"
    landscape.save(other)
    blob = bytearray((other / "landscape.npz").read_bytes())
    blob[5000] ^= 1
    (other / "landscape.npz").write_bytes(blob)
    with pytest.raises(InputError, match="altered"):
        load_landscape(other)
    with pytest.raises(InputError, match="build-landscape"):
        load_landscape(tmp_path / "nothing")
    record = json.loads((tmp_path / "landscape.json").read_text())
    (other / "landscape.json").write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(InputError, match="altered"):
        load_landscape(other)


def rewrite(folder, arrays, **record):
    """A landscape's folder with other content and the hash that belongs to it."""
    blob = io.BytesIO()
    np.savez(blob, **arrays)
    alter(folder, blob.getvalue(), **record)


def alter(folder, blob, **record):
    (folder / "landscape.npz").write_bytes(blob)
    old = json.loads((folder / "landscape.json").read_text())
    new = {**old, "sha256": hashlib.sha256(blob).hexdigest(), **record}
    (folder / "landscape.json").write_text(json.dumps(new))


@pytest.fixture(scope="module")
def original(landscape, tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    landscape.save(folder)
    return folder


@pytest.fixture
def saved(original, tmp_path):
    """A saved landscape to alter, and its arrays."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    with np.load(tmp_path / "landscape.npz") as arrays:
        return tmp_path, dict(arrays)


def refuse(folder, match):
    with pytest.raises(InputError, match=match) as caught:
        load_landscape(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"planes": np.zeros((2, 10), np.uint8)}, "its levels must be"),
        ({"planes": np.zeros(2 * space.n_table, np.uint8)}, "its levels must be"),
        ({"planes": np.zeros((2, space.n_table), np.int8)}, "its levels must be"),
        ({"planes": np.array("x")}, "its levels must be"),
        ({"training_index": np.array([0.5])}, "must hold compositions"),
        ({"training_index": np.array([[1]])}, "must hold compositions"),
        ({"training_index": np.array(["x"])}, "must hold compositions"),
        ({"training_index": np.array([0])}, "must hold compositions"),
        ({"training_index": np.array([-1])}, "must hold compositions"),
        ({"training_index": np.array([space.n_table])}, "must hold compositions"),
        ({"above_edge": np.array([np.nan])}, "must hold compositions"),
        ({"above_edge": np.array([1 << 40])}, "must hold compositions"),
        ({"planes": np.array([None])}, "no archive of arrays"),
        ({"more": np.zeros(1 << 25, np.uint8)}, "larger than"),
    ],
)
def test_arrays_that_are_none_of_a_landscape(saved, wrong, match):
    folder, arrays = saved
    if "more" in wrong:
        blob = io.BytesIO()
        np.savez_compressed(blob, **wrong)
        alter(folder, blob.getvalue())
    else:
        rewrite(folder, {**arrays, **wrong})
    refuse(folder, match)


def test_archives_that_are_none(saved):
    folder, arrays = saved
    for name in ("planes", "training_index"):
        rewrite(folder, {key: array for key, array in arrays.items() if key != name})
        refuse(folder, "is damaged")
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (2, 99999999999999), }"
    for content in (b"", b"x", header.ljust(127) + b"\n", b"not an array"):
        with zipfile.ZipFile(folder / "made.zip", "w") as archive:
            archive.writestr("planes.npy", content)
        alter(folder, (folder / "made.zip").read_bytes())
        refuse(folder, "is damaged")
    for blob in (b"", b"PK\x03\x04", bytes(100)):
        alter(folder, blob)
        refuse(folder, "is damaged")


@pytest.mark.parametrize("text", ["[1]", "null", "{", "[" * 100_000, '"' + "x" * 100, "\udcff"])
def test_records_that_are_none(saved, text):
    folder, _ = saved
    (folder / "landscape.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refuse(folder, "build-landscape")


def test_folders_that_cannot_be(tmp_path):
    os.symlink("loop", tmp_path / "loop")
    for name in ("none", "loop", "x" * 300, "nul\0", "\ud800", os.fsdecode(b"\xff\n")):
        refuse(tmp_path / name, "build-landscape")


def test_it_is_saved_as_a_whole_or_not_at_all(saved, landscape, monkeypatch):
    folder, _ = saved
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = Landscape(landscape.levels, landscape.training_index[:5], {})
    with full_disk(1 << 16), pytest.raises(InputError, match="cannot write .*: File too large"):
        other.save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    other.save(folder)
    assert load_landscape(folder).training_index.tolist() == other.training_index.tolist()


def test_energies_that_16_bits_cannot_hold_are_refused(small_set):
    for energy in (-36.3, 1e300):
        rows = TrainingSet(small_set.index, np.full(len(small_set), energy), "wrong")
        with pytest.raises(InputError, match=r"energies of -36.2..30.1 eV/atom, and the fit predicts"):
            fit_landscape(rows, held_out=20)
    for energy in (30.0,):
        rows = TrainingSet(small_set.index, np.full(len(small_set), energy), "extreme")
        fitted, _ = fit_landscape(rows, held_out=20)
        assert fitted.energy(small_set.index) == pytest.approx(energy, abs=2e-3)


def test_a_class_that_the_fit_all_but_loses_gives_the_training_rows_that_there_are(small_set):
    energy = np.where(np.arange(len(small_set)) % 2, 4.5, -2.5)
    few = TrainingSet(
        np.repeat(small_set.index[:3], 60), np.resize(energy, 180), "one composition, two energies"
    )
    fitted, _ = fit_landscape(few, held_out=20)
    assert len(fitted.training_index) < len(few)


def test_product_form_equals_the_plain_kernel(small_set):
    fitted, _ = fit_landscape(small_set, held_out=20)
    weights, offset = _fit(small_set.index, small_set.energy)
    some = np.random.default_rng(0).choice(np.flatnonzero(space.composition_mask), 500)
    plain = _row_kernel(some, small_set.index) @ weights + offset
    np.testing.assert_allclose(fitted.energy(some), plain, atol=6e-4)


def test_held_out_must_leave_rows(small_set):
    for rows in (0, len(small_set)):
        with pytest.raises(InputError, match=f"got {rows}"):
            held_out_error(small_set, rows, np.random.default_rng(0))


def test_means_on_a_class_edge_fall_on_the_side_that_is_stored():
    """Levels 799 and 800 lie on either side of the edge between classes 1 and 2, their mean on it."""
    index = space.formula_to_index(["AlNaK2F6", "LiNaK2F6", "BeNaK2F6", "BNaK2F6"])
    levels = np.full(space.n_table, 5000, dtype=np.int16)
    levels[index], levels[space.images(index)[0]] = (799, 799, 799, 798), (800, 800, 799, 800)
    above = np.array([min(int(index[1]), int(space.images(index[1:2])[0][0]))], dtype=np.int32)
    energy = Landscape(levels, np.zeros(0, int), {}, above).symmetric_energy
    np.testing.assert_array_equal(energy, space.mirrored(energy)[0])
    assert classes.energy_to_class(energy[index]).tolist() == [1, 2, 1, 1]
    edge = -3.06699926 + 0.808575755
    np.testing.assert_allclose(energy[index], edge, atol=0.0011)


@pytest.mark.slow
def test_rebuilt_from_dft_it_is_the_shipped_one(dft_dir, landscape):
    fitted, error = fit_landscape(load_training_set(dft_dir, augment=False))
    assert error == pytest.approx(0.1, abs=0.015)
    assert (fitted.table_class != landscape.table_class).sum() <= 5
    assert np.abs(fitted.levels.astype(int) - landscape.levels).max() <= 1
    assert fitted.provenance["fitted_to_sha256"] == landscape.provenance["fitted_to_sha256"]
    np.testing.assert_allclose(len(fitted.above_edge), len(landscape.above_edge), atol=5)


def test_energy_classes_by_hand():
    width = 0.808575755
    edges = -3.06699926 + width * np.arange(11)
    middles = (edges[:-1] + edges[1:]) / 2
    np.testing.assert_array_equal(classes.energy_to_class(middles), np.arange(1, 11))
    assert classes.energy_to_class([-9, edges[0], edges[1], edges[10], 9]).tolist() == [1, 1, 2, 10, 10]
    with pytest.raises(InputError, match="NaN"):
        classes.energy_to_class([np.nan])


def test_neighbours_and_bad_classes():
    assert [space.targets.neighbours(c) for c in (1, 5, 10)] == [[2], [4, 6], [9]]
    for bad in (0, 11, -1, 1.5, "11", "one", None, True):
        with pytest.raises(InputError, match="must be 1..10"):
            space.targets.check(bad)
    assert space.targets.check("1") == 1
    assert space.targets.neighbours("10") == [9]


def test_a_landscape_counts_what_it_holds():
    levels = np.zeros(space.n_table, dtype=np.int16)
    assert Landscape(levels, np.zeros(0, int), {}).class_counts.tolist() == [
        space.n_table - 1_974_024,
        1_974_024,
        *[0] * 9,
    ]
