import os
import pickle
import shutil

import numpy as np
import pytest

from elpa_env import TrainingSet, dft, load_training_set
from elpa_env.errors import InputError
from elpa_env.space import index_to_numbers, swap_ab
from elpa_env.training import ClassBalancedSampler

HEADER = b"Z_A,Z_B,Z_C,Z_D,formation_energy_eV_per_atom\n"
AUGMENTED = [86, 270, 984, 4688, 9650, 3446, 1200, 566, 186, 36]
AS_THEY_ARE = [43, 135, 492, 2356, 4837, 1729, 602, 284, 94, 18]


class TestDFT:
    @pytest.mark.parametrize("name", list(dft.DFT_FILES))
    def test_counts_are_those_of_the_paper(self, dft_dir, name, tmp_path):
        shutil.copy(dft_dir / name, tmp_path)
        plain = load_training_set(tmp_path, augment=False)
        assert len(plain) == 10_590
        assert plain.energy.min() == pytest.approx(-3.067, abs=5e-4)
        assert plain.energy.max() == pytest.approx(5.019, abs=5e-4)
        assert plain.class_counts.tolist() == AS_THEY_ARE
        both = np.isin(swap_ab(plain.index), plain.index)
        assert both.sum() == 2 * 34
        energy = dict(zip(plain.index.tolist(), plain.energy, strict=True))
        pairs = [
            (energy[i], energy[s])
            for i, s in zip(plain.index, swap_ab(plain.index), strict=True)
            if s in energy
        ]
        assert np.mean([abs(x - y) for x, y in pairs]) == pytest.approx(2.3e-3, abs=5e-5)
        full = load_training_set(tmp_path)
        assert len(full) == 21_112
        assert full.class_counts.tolist() == AUGMENTED

    def test_both_files_hold_the_same(self, dft_dir):
        one, other = (load_training_set(dft_dir / name) for name in dft.DFT_FILES)
        np.testing.assert_array_equal(one.index, other.index)
        assert one.sha256 == other.sha256

    def test_named_by_the_environment(self, dft_dir, monkeypatch):
        monkeypatch.setenv(dft.DATA_DIR_VARIABLE, str(dft_dir))
        assert load_training_set("dft").class_counts.tolist() == AUGMENTED

    @pytest.mark.parametrize("form", ["folder", "file", "address"])
    def test_fetched_into_the_cache(self, dft_dir, form, no_dft):
        source = {
            "folder": str(dft_dir),
            "file": str(dft_dir / "train_set.pkl"),
            "address": (dft_dir / "train_set.pkl").as_uri(),
        }[form]
        with pytest.raises(InputError, match="elpa data fetch"):
            load_training_set("dft")
        if form == "address":
            pytest.importorskip("pooch")
            with pytest.raises(InputError, match="cannot download"):
                dft.fetch(source.replace("file://", "nowhere://"))
            return
        assert dft.fetch(source).is_file()
        assert load_training_set("dft").class_counts.tolist() == AUGMENTED

    def test_truncated_or_altered_is_refused(self, dft_dir, monkeypatch, tmp_path):
        monkeypatch.setenv(dft.DATA_DIR_VARIABLE, str(tmp_path))
        whole = (dft_dir / "train_set.pkl").read_bytes()
        altered = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
        for damaged in (whole[:-100], altered, b""):
            (tmp_path / "train_set.pkl").write_bytes(damaged)
            with pytest.raises(InputError, match="truncated or altered"):
                load_training_set("dft")
            with pytest.raises(InputError, match="not the DFT table"):
                dft.fetch(str(tmp_path / "train_set.pkl"))
        (tmp_path / "cut.pkl").write_bytes(whole[:-100])
        with pytest.raises(InputError, match="truncated"):
            load_training_set(tmp_path / "cut.pkl")


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


class TestHostile:
    def refuse(self, path, content, match):
        path.write_bytes(content)
        with pytest.raises(InputError, match=match) as caught:
            load_training_set(path)
        assert "\n" not in str(caught.value)

    def test_nothing_in_a_pickle_runs(self, tmp_path):
        marker = tmp_path / "ran"
        content = {"ANs": _Evil(str(marker)), "FEs": np.zeros(3)}
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            self.refuse(tmp_path / "evil.pkl", pickle.dumps(content, protocol), "would import")
        assert not marker.exists()

    @pytest.mark.parametrize(
        "program",
        [
            b"cbuiltins\neval\n(S'1'\ntR.",
            b"cnumpy\nload\n(S'x'\ntR.",
            b"cnumpy\nfromfile\n(S'x'\ntR.",
            b"celpa_env.dft\nfetch\n)R.",
            b"cnumpy.core.multiarray\nscalar\n.",
        ],
    )
    def test_nothing_but_arrays_is_imported(self, tmp_path, program):
        self.refuse(tmp_path / "evil.pkl", program, "would import")

    def test_objects_in_arrays_are_refused(self, tmp_path):
        content = {"ANs": np.array([[object()] * 4], dtype=object), "FEs": np.zeros(1)}
        self.refuse(tmp_path / "evil.pkl", pickle.dumps(content, 2), "is refused")

    def test_attributes_set_on_what_is_admitted_do_not_stay(self, tmp_path):
        program = b"cnumpy\ndtype\n}S'__name__'\nS'changed'\nsb."
        self.refuse(tmp_path / "evil.pkl", program, "must hold")
        assert dft._plain_dtype.__name__ == "_plain_dtype"

    def test_a_harmless_pickle_is_read(self, tmp_path, embedded):
        rows = embedded.index[:50]
        content = {"ANs": index_to_numbers(rows).astype(np.int32), "FEs": embedded.energy[:50] * 10}
        (tmp_path / "own.pkl").write_bytes(pickle.dumps(content, 2))
        own = load_training_set(tmp_path / "own.pkl", augment=False)
        np.testing.assert_array_equal(own.index, rows)
        np.testing.assert_allclose(own.energy, embedded.energy[:50])

    def test_byte_order_is_kept(self, tmp_path, embedded):
        numbers = index_to_numbers(embedded.index[:20])
        content = {"ANs": numbers.astype(">i4"), "FEs": (embedded.energy[:20] * 10).astype(">f8")}
        (tmp_path / "big.pkl").write_bytes(pickle.dumps(content, 2))
        own = load_training_set(tmp_path / "big.pkl", augment=False)
        np.testing.assert_array_equal(own.index, embedded.index[:20])
        np.testing.assert_allclose(own.energy, embedded.energy[:20])

    @pytest.mark.parametrize(
        ("name", "content", "match"),
        [
            ("a.pkl", b"nonsense", "truncated or not a pickle"),
            ("a.pkl", pickle.dumps([1]), "must hold the arrays"),
            ("a.pkl", pickle.dumps({"ANs": np.zeros((0, 4), int), "FEs": np.zeros(0)}, 4), "no rows"),
            ("a.pkl", pickle.dumps({"ANs": np.zeros((3, 4), int), "FEs": np.zeros(2)}, 2), "must hold"),
            ("a.csv", b"Z_A,Z_B\n1,2\n", "lacks the column Z_C"),
            ("a.csv", b"", "is not a table"),
            ("a.csv", HEADER, "no rows"),
            ("a.csv", HEADER + b"1,2,3,x,0\n", "line 2"),
            ("a.csv", HEADER + b"1,2,3,4,nan\n", "line 2"),
            (
                "a.csv",
                HEADER + b"1,1,3,4,0\n",
                "row 1 is no composition",
            ),
            (
                "a.csv",
                HEADER + b"1,26,3,4,0\n",
                "row 1 is no composition",
            ),
            ("a.pkl", pickle.dumps({"ANs": np.zeros((1, 4), int), "FEs": np.array(1.0)}, 4), "must hold"),
            ("a.pkl", pickle.dumps({"ANs": np.zeros((2, 4), int), "FEs": np.ones((2, 1))}, 4), "must hold"),
            ("a.csv", HEADER + b"1,3,4,5,1e300\n", "within ±25 eV/atom, got 1e.300"),
            ("a.txt", b"x", "is a .csv or a .pkl"),
        ],
    )
    def test_other_bad_files(self, tmp_path, name, content, match):
        self.refuse(tmp_path / name, content, match)

    def test_missing(self, tmp_path, no_dft):
        with pytest.raises(InputError, match="cannot read"):
            load_training_set(tmp_path / "none.csv")
        with pytest.raises(InputError, match="no DFT table"):
            load_training_set(tmp_path)
        with pytest.raises(InputError, match="elpa data fetch"):
            load_training_set("dft")


class TestEmbedded:
    def test_copies_size_and_class_counts_of_the_dft_table(self):
        embedded = load_training_set("landscape", augment=False)
        assert embedded.class_counts.tolist() == AS_THEY_ARE
        assert len(np.unique(embedded.index)) == 10_590
        assert "embedded" in embedded.name

    def test_augmentation_adds_every_missing_swap(self, embedded):
        assert np.isin(swap_ab(embedded.index), embedded.index).all()
        assert len(np.unique(embedded.index)) == len(embedded)
        plain = load_training_set("landscape", augment=False)
        energy = dict(zip(embedded.index.tolist(), embedded.energy, strict=True))
        alone = ~np.isin(swap_ab(plain.index), plain.index)
        for index, swapped in zip(plain.index[alone], swap_ab(plain.index[alone]), strict=True):
            assert energy[swapped] == energy[index]

    def test_hash_tells_sets_apart_and_not_orders(self, embedded):
        order = np.random.default_rng(0).permutation(len(embedded))
        shuffled = TrainingSet(embedded.index[order], embedded.energy[order], "x")
        assert shuffled.sha256 == embedded.sha256
        other = TrainingSet(embedded.index, embedded.energy + 1e-3, "x")
        assert other.sha256 != embedded.sha256


class TestSubset:
    @pytest.mark.parametrize("n", [2, 1000, 20_000])
    def test_holds_whole_pairs(self, embedded, n):
        subset = embedded.subset(n, seed=3)
        assert len(subset) == n
        assert np.isin(swap_ab(subset.index), subset.index).all()
        assert np.isin(subset.index, embedded.index).all()
        assert subset.sha256 == embedded.subset(n, seed=3).sha256
        assert subset.sha256 != embedded.subset(n, seed=4).sha256

    def test_draws_rows_evenly(self, embedded):
        share = embedded.subset(10_000, seed=0).class_counts / embedded.class_counts
        np.testing.assert_allclose(share[3:7], 10_000 / len(embedded), rtol=0.1)

    def test_bad_sizes(self, embedded):
        for n in (0, -2, len(embedded) + 1):
            with pytest.raises(InputError, match=f"got {n}"):
                embedded.subset(n, seed=0)
        with pytest.raises(InputError, match="whole A/B pairs"):
            embedded.subset(11, seed=0)


class TestBalanced:
    def test_every_class_is_equally_likely(self, embedded):
        sampler = ClassBalancedSampler(embedded.energy_class)
        rows = sampler.draw(200_000, np.random.default_rng(0))
        counts = np.bincount(embedded.energy_class[rows], minlength=11)[1:]
        np.testing.assert_allclose(counts, 20_000, atol=5 * np.sqrt(20_000 * 0.9))

    def test_rows_of_a_class_are_equally_likely(self, embedded):
        rows = ClassBalancedSampler(embedded.energy_class).draw(400_000, np.random.default_rng(1))
        members = np.flatnonzero(embedded.energy_class == 1)
        counts = np.bincount(rows, minlength=len(embedded))[members]
        expected = 40_000 / len(members)
        chi2 = ((counts - expected) ** 2 / expected).sum()
        assert chi2 < len(members) + 5 * np.sqrt(2 * len(members))

    def test_absent_classes_are_passed_over(self):
        sampler = ClassBalancedSampler(np.array([3, 3, 3, 9], dtype=np.int8))
        share = np.bincount(sampler.draw(10_000, np.random.default_rng(0))) / 10_000
        np.testing.assert_allclose(share, [1 / 6, 1 / 6, 1 / 6, 1 / 2], atol=0.03)

    def test_batches_have_the_asked_shape(self, embedded):
        batches = list(
            ClassBalancedSampler(embedded.energy_class).batches(7, 600, np.random.default_rng(0), block=256)
        )
        assert len(batches) == 600
        assert {batch.shape for batch in batches} == {(7,)}

    def test_no_rows(self):
        with pytest.raises(InputError, match="no rows"):
            ClassBalancedSampler(np.zeros(0, dtype=np.int8))
