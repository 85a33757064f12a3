import contextlib
import gzip
import http.server
import lzma
import os
import pickle
import shutil
import threading
import time

import numpy as np
import pytest

from elpa_env import TrainingSet, dft, load_training_set
from elpa_env.errors import InputError
from elpa_env.space import ELPASOLITE_SPACE as space
from elpa_env.training import ClassBalancedSampler
from tests.test_files import full_disk

HEADER = b"Z_A,Z_B,Z_C,Z_D,formation_energy_eV_per_atom\n"
NOTED = HEADER[:-1] + b",note\n"
GOOD = b"13,11,19,9,-2.9\n"
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
        both = np.isin(space.images(plain.index)[0], plain.index)
        assert both.sum() == 2 * 34
        energy = dict(zip(plain.index.tolist(), plain.energy, strict=True))
        pairs = [
            (energy[i], energy[s])
            for i, s in zip(plain.index, space.images(plain.index)[0], strict=True)
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

    @pytest.mark.parametrize("name", ["", *dft.DFT_FILES])
    def test_fetched_into_the_cache(self, dft_dir, name, no_dft):
        with pytest.raises(InputError, match="elpa data fetch"):
            load_training_set("dft")
        assert dft.fetch(str(dft_dir / name)).is_file()
        assert load_training_set("dft").class_counts.tolist() == AUGMENTED

    def test_a_full_disk_leaves_nothing_in_the_cache(self, dft_dir, no_dft):
        with full_disk(), pytest.raises(InputError, match="cannot write .*train_set.pkl: File too large"):
            dft.fetch(str(dft_dir))
        assert list(dft.cache_dir().iterdir()) == []

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
        with pytest.raises(InputError, match="not the published table"):
            load_training_set(tmp_path / "cut.pkl")

    def test_the_published_pickle_is_known_by_its_hash_whatever_its_name(self, dft_dir, tmp_path):
        shutil.copy(dft_dir / "train_set.pkl", tmp_path / "renamed.pkl")
        own = load_training_set(tmp_path / "renamed.pkl")
        assert own.class_counts.tolist() == AUGMENTED
        assert own.name.startswith(dft.DFT_NAME)

    def test_the_known_lengths_are_those_of_the_files(self, dft_dir):
        assert {name: (dft_dir / name).stat().st_size for name in dft.DFT_FILES} == dft.DFT_BYTES


class Server(http.server.BaseHTTPRequestHandler):
    """Answers every path in its own way; `content` is the right file."""

    content = b""
    halt: threading.Event

    def do_GET(self):
        self.send_response(404 if self.path == "/missing" else 200)
        if self.path in ("/right", "/wrong", "/cut"):
            self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            getattr(self, self.path[1:])()

    def right(self):
        self.wfile.write(self.content)

    def wrong(self):
        self.wfile.write(bytes(len(self.content)))

    def cut(self):
        self.wfile.write(self.content[:-1000])

    def missing(self):
        pass

    def endless(self):
        while not self.halt.is_set():
            self.wfile.write(bytes(1 << 16))

    def stalled(self):
        self.halt.wait()

    def trickling(self):
        while not self.halt.wait(0.05):
            self.wfile.write(b"x")

    def log_message(self, *_):
        pass


class TestAddress:
    @pytest.fixture
    def address(self, monkeypatch, no_dft):
        """The address of a server on this machine; what it holds is up to `Server`."""
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(Server, "halt", threading.Event(), raising=False)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Server.halt.set()
        server.shutdown()
        server.server_close()
        thread.join()

    @pytest.mark.parametrize("name", list(dft.DFT_FILES))
    def test_the_right_file_is_fetched(self, address, dft_dir, name, monkeypatch):
        monkeypatch.setattr(Server, "content", (dft_dir / name).read_bytes())
        assert dft.fetch(f"{address}/right") == dft.cache_dir() / name
        assert load_training_set("dft").class_counts.tolist() == AUGMENTED

    @pytest.mark.parametrize(
        ("path", "match"),
        [
            ("wrong", "is not the DFT table"),
            ("cut", "cannot download|is not the DFT table"),
            ("missing", "cannot download .*404"),
            ("endless", "longer than 317,841 bytes"),
            ("stalled", r"cannot download .*\(.*(longer than 0.7 s|time)"),
            ("trickling", r"cannot download .*\(.*(longer than 0.7 s|time)"),
        ],
    )
    def test_what_else_a_server_may_do(self, address, path, match, monkeypatch):
        monkeypatch.setattr(Server, "content", b"x" * 200_000)
        monkeypatch.setattr(dft, "MAX_SECONDS", 0.7)
        started = time.monotonic()
        with pytest.raises(InputError, match=match) as caught:
            dft.fetch(f"{address}/{path}")
        assert time.monotonic() - started < 5
        assert "\n" not in str(caught.value)
        assert not dft.cache_dir().exists()

    @pytest.mark.parametrize(
        "address",
        ["file:///etc/passwd", "nowhere://x", "data://x", "http://127.0.0.1:1/x", "http://[", "ftp://"],
    )
    def test_other_addresses(self, no_dft, address):
        with pytest.raises(InputError, match="cannot download"):
            dft.fetch(address)


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

    def test_no_pickle_but_the_published_one_is_read(self, tmp_path, embedded):
        marker = tmp_path / "ran"
        numbers = space.index_to_numbers(embedded.index[:50])
        harmless = {"ANs": numbers.astype(np.int32), "FEs": embedded.energy[:50] * 10}
        for content in (harmless, {"ANs": _Evil(str(marker)), "FEs": np.zeros(3)}):
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                data = pickle.dumps(content, protocol)
                self.refuse(tmp_path / "own.pkl", data, "Convert it to a .csv file with the columns Z_A, Z_B")
        assert not marker.exists()

    def test_a_pickle_cannot_crash_the_interpreter(self, tmp_path):
        program = b"\x80\x02cnumpy\ndtype\n(U\x02i8I00\nI01\ntR(K\x03U\x01<NK\x01J\xff\xff\xff\xffK\x00tb."
        self.refuse(tmp_path / "own.pkl", program, "Convert it to a .csv file")

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            (b"Z_A,Z_B\n1,2\n", "lacks the column Z_C"),
            (b"", "is empty, or has no header"),
            (HEADER, "no rows"),
            (HEADER + b"\n\n", "no rows"),
            (HEADER + b"1,2,3,x,0\n", "line 2: it must hold five numbers"),
            (HEADER + b"1,2,3,4,nan\n", "line 2: it must hold five numbers"),
            (HEADER + b"1_3,11,19,9,-2.9\n", "line 2: it must hold five numbers"),
            (HEADER + b"1,1,3,4,0\n", "line 2: no composition of .*: atomic numbers 1, 1, 3, 4"),
            (HEADER + b"1,26,3,4,0\n", "line 2: no composition"),
            (HEADER + b"13.5,11,19,9,-2.9\n", "line 2: no composition of .*: atomic numbers 13.5, 11, 19, 9"),
            (HEADER + b"1e300,11,19,9,-2.9\n", "line 2: no composition"),
            (HEADER + b"65549,11,19,9,-2.9\n", "line 2: no composition"),
            (HEADER + b"13,11,19,9,1e300\n", "line 2: the energy must be within ±25 eV/atom, got 1e.300"),
            (HEADER + GOOD + b"13,11,19,9,1,-2.9\n", "line 3 has 6 fields, the header has 5"),
            (HEADER + b"13,11,19,9,1,-2.9\n", "line 2 has 6 fields, the header has 5"),
            (HEADER + GOOD + b"13,11,19,9\n", "line 3 has 4 fields, the header has 5"),
            (b"Z_A,Z_A,Z_B,Z_C,Z_D,formation_energy_eV_per_atom\n", "has the column Z_A twice"),
            (b"Z_A, Z_A,Z_B,Z_C,Z_D,formation_energy_eV_per_atom\n", "has the column Z_A twice"),
            (NOTED + b'13,11,19,9,-2.9,"a\nb\n\nc"\n13,13,19,9,-2.9,\n', "line 6: no composition"),
            (NOTED + b'13,11,19,9,-2.9,"a\r\nb"\r\n\r\n13,11,19,9\r\n', "line 5 has 4 fields"),
            (
                NOTED + b'13,11,19,9,-2.9,"a\nb"\n13,11,19,9,-2.9,"never closed\n',
                "line 4: a quotation mark is not closed",
            ),
            (
                NOTED + b'13,11,19,9,-2.9,"a\nb"\n13,11,19,9,-2.9,' + b"x" * 140_000,
                "line 4: a field is longer",
            ),
            (
                NOTED + GOOD[:-1] + b',"' + b"x\n" * 100_000,
                "line 2: a field is longer",
            ),
            (HEADER + bytes(3 << 20), "line 2 is longer than 1,048,576 characters"),
            (HEADER + b"13,11,19,9,\xff\n", "no text in UTF-8"),
            (lzma.compress(HEADER + GOOD), "compressed .xz., unpack it first"),
            (gzip.compress(HEADER + GOOD, mtime=0), "compressed .gzip., unpack it first"),
        ],
    )
    def test_other_bad_tables(self, tmp_path, content, match):
        self.refuse(tmp_path / "a.csv", content, match)

    def test_what_spreadsheets_write_is_read(self, tmp_path):
        rows = (
            "\ufeffname, Z_A ,Z_B,Z_C,Z_D,formation_energy_eV_per_atom,note\r\n"
            '"elpasolite, ""the"" one",13,11,19,9,-2.9,"two\r\nlines"\r\n\r\nother, 3,11,19,9.0,-2e0,\r\n\r\n'
        )
        (tmp_path / "s.csv").write_bytes(rows.encode())
        own = load_training_set(tmp_path / "s.csv", augment=False)
        assert space.index_to_numbers(own.index).tolist() == [[13, 11, 19, 9], [3, 11, 19, 9]]
        assert own.energy.tolist() == [-2.9, -2.0]

    def test_what_has_no_end_is_not_read(self, tmp_path, monkeypatch):
        os.mkfifo(tmp_path / "pipe.csv")
        os.symlink("/dev/zero", tmp_path / "zero.csv")
        for name in ("pipe.csv", "zero.csv", "zero.csv/x"):
            with pytest.raises(InputError, match="cannot read"):
                load_training_set(tmp_path / name)
        monkeypatch.setattr(dft, "MAX_BYTES", len(HEADER + GOOD) - 1)
        self.refuse(tmp_path / "a.csv", HEADER + GOOD, "larger than 60 bytes")
        self.refuse(tmp_path / "a.txt", b"x", "a training table is a .csv file")

    @pytest.mark.parametrize("name", [b"m\xff.csv", b"a\nb.csv", "ü.csv".encode()])
    def test_any_name_of_a_file(self, tmp_path, name):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(HEADER + GOOD)
        own = load_training_set(path)
        own.name.encode()
        assert "\n" not in own.name
        self.refuse(path, HEADER, "no rows")

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
        assert np.isin(space.images(embedded.index)[0], embedded.index).all()
        assert len(np.unique(embedded.index)) == len(embedded)
        plain = load_training_set("landscape", augment=False)
        energy = dict(zip(embedded.index.tolist(), embedded.energy, strict=True))
        alone = ~np.isin(space.images(plain.index)[0], plain.index)
        for index, swapped in zip(plain.index[alone], space.images(plain.index[alone])[0], strict=True):
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
        assert np.isin(space.images(subset.index)[0], subset.index).all()
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
