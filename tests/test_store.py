"""Runs that are never lost: keys, what is kept, locks, and what is not taken for a run."""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elpa_env.errors import InputError
from elpa_env.sampler import Access
from eval.study.store import (
    Draws,
    Request,
    RunResult,
    Store,
    distribution_from_bytes,
    distribution_to_bytes,
    key_of,
)


def result(seed=0, **files):
    identity = {"model": "mine", "config": {"width": 3}, "seed": seed, "training_set": "abc"}
    key = key_of(identity)
    record = {
        "key": key,
        "identity": identity,
        "name": "mine",
        "title": "Mine",
        "preset": "default",
        "seed": seed,
        "target_class": 1,
        "judge": "",
        "access": asdict(Access("offline")),
        "training_set": {"name": "some rows", "rows": 3, "sha256": "abc"},
        "versions": {},
        "hardware": {},
        "checkpoint": "model.pt",
        "train_seconds": 1.5,
        "finished": 100.0 + seed,
    }
    return RunResult(key, record, {"model.pt": b"weights", **files})


SEVEN = Request(1, 7)


def some_draws(n=7):
    return Draws(
        np.array([3, 10, 900], dtype=np.int32),
        np.array([1, n - 2, 1]),
        n + 4,
        np.array([10, 3], np.int32),
        np.array([0, 1, 0], np.uint8),
    )


class TestKey:
    def test_depends_on_everything_and_on_no_order(self):
        one = {"model": "vae", "seed": 0, "config": {"a": 1, "b": [1, 2]}}
        same = {"config": {"b": [1, 2], "a": 1}, "seed": 0, "model": "vae"}
        assert key_of(one) == key_of(same)
        others = [{**one, "seed": 1}, {**one, "config": {"a": 1, "b": [2, 1]}}, {**one, "device": "cpu"}]
        assert len({key_of(one), *map(key_of, others)}) == 4

    def test_is_known(self):
        """The key of a store that was written long ago is still that of the same run."""
        assert key_of({"model": "vae", "seed": 0}) == "c13c7fe5e33106bc"


class TestForms:
    @given(
        st.dictionaries(st.integers(0, 2_313_440), st.integers(1, 1 << 40), min_size=1, max_size=50),
        st.integers(0, 100),
    )
    def test_draws_come_back(self, counts, failed):
        index = np.array(sorted(counts), dtype=np.int32)
        number = np.array([counts[i] for i in index.tolist()])
        first = (index % 200).astype(np.uint8)
        draws = Draws(index, number, int(number.sum()) + failed, index[::-1].copy(), first, 2.5)
        again = Draws.from_bytes(draws.to_bytes())
        np.testing.assert_array_equal(again.index, index)
        np.testing.assert_array_equal(again.counts, number)
        np.testing.assert_array_equal(again.kept, index[::-1])
        np.testing.assert_array_equal(again.first, first)
        assert (again.n_raw, again.seconds) == (draws.n_raw, 2.5)

    def test_a_distribution_comes_back(self):
        rng = np.random.default_rng(0)
        p = rng.exponential(size=1000) * (rng.random(1000) < 0.4)
        p *= 0.9 / p.sum()
        again = distribution_from_bytes(distribution_to_bytes(p))
        np.testing.assert_allclose(again, p, rtol=1e-6)
        assert again.sum() == pytest.approx(0.9, abs=1e-14)
        np.testing.assert_array_equal(again == 0, p == 0)

    @pytest.mark.parametrize("cut", [0, 1, 30, 200])
    def test_what_is_damaged_is_said_to_be(self, cut):
        for data, read in (
            (some_draws().to_bytes(), Draws.from_bytes),
            (distribution_to_bytes(np.array([0.5, 0, 0.5])), distribution_from_bytes),
        ):
            with pytest.raises(ValueError):  # noqa: PT011 - any, the store asks for no more
                read(data[:cut])


class TestStore:
    def test_keeps_what_it_is_given(self, tmp_path):
        store = Store(tmp_path / "s")
        given = result(**{"draws-1-7.npz": some_draws().to_bytes()})
        store.add(given)
        again = Store(tmp_path / "s")
        assert again.record(given.key)["title"] == "Mine"
        assert again.read(given.key, "model.pt") == b"weights"
        assert int(again.draws(given.key, SEVEN).counts.sum()) == 7
        assert again.draws(given.key, Request(1, 8)) is None
        assert again.drawn(given.key) == [(1, 7)]
        assert again.record("0" * 16) is None
        assert [record["seed"] for record in again.records()] == [0]

    def test_grows(self, tmp_path):
        store = Store(tmp_path / "s")
        for seed in (2, 0, 1):
            store.add(result(seed))
        assert [record["seed"] for record in store.records()] == [0, 1, 2]
        more = result(0, **{"draws-1-7.npz": some_draws().to_bytes(), "model.pt": b"other"})
        store.add(more)
        assert store.read(more.key, "model.pt") == b"weights"
        assert store.draws(more.key, SEVEN) is not None
        store.add(RunResult(more.key, more.record, {"model.pt": b"again"}), replace=True)
        assert store.read(more.key, "model.pt") == b"again"
        assert store.draws(more.key, SEVEN) is None

    def test_a_result_of_another_run_is_refused(self, tmp_path):
        store = Store(tmp_path / "s")
        one, other = result(0), result(1)
        with pytest.raises(InputError, match="is not of it"):
            store.add(RunResult(one.key, other.record, one.files))
        changed = {**one.record, "identity": {**one.record["identity"], "seed": 5}}
        with pytest.raises(InputError, match="is not of it"):
            store.add(RunResult(one.key, changed, one.files))
        assert list(store.records()) == []

    @pytest.mark.parametrize(
        "content",
        ["", "{", "[]", "null", '{"key": 3}', "[" * 100_000, '{"key": "%s", "identity": {}}'],
    )
    def test_what_is_no_run_is_not_taken_for_one(self, tmp_path, content):
        store = Store(tmp_path / "s")
        store.add(result(0))
        store.add(result(1))
        key = result(0).key
        path = store.path(key) / "run.json"
        path.write_text(content.replace("%s", key))
        assert store.record(key) is None
        assert [record["seed"] for record in store.records()] == [1]
        store.add(result(0))
        assert store.read(key, "model.pt") == b"weights"

    def test_a_run_in_another_runs_place_is_not_taken_for_it(self, tmp_path):
        """A model of class 5 never passes for one of class 1."""
        store = Store(tmp_path / "s")
        store.add(result(0))
        store.add(result(1))
        zero, one = store.path(result(0).key), store.path(result(1).key)
        (zero / "run.json").write_bytes((one / "run.json").read_bytes())
        assert store.record(result(0).key) is None

    def test_a_damaged_file_is_not_used_and_can_be_mended(self, tmp_path):
        store = Store(tmp_path / "s")
        store.add(result())
        key = result().key
        (store.path(key) / "model.pt").write_bytes(b"weightz")
        assert store.read(key, "model.pt") is None
        store.add(result())
        assert store.read(key, "model.pt") == b"weights"

    def test_a_killed_write_leaves_no_run(self, tmp_path, monkeypatch):
        store = Store(tmp_path / "s")

        class Killed(BaseException):
            pass

        def killed(*_, **__):
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr("os.rename", killed)
            patch.setattr("os.replace", killed)
            patch.setattr("shutil.rmtree", killed)
            with pytest.raises(Killed):
                store.add(result())
        assert list(store.records()) == []
        store.add(result())
        assert len(list(store.records())) == 1

    def test_stores_can_be_copied_together(self, tmp_path):
        import shutil

        here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
        here.add(result(0))
        there.add(result(0))
        there.add(result(1))
        shutil.copytree(there.folder, here.folder, dirs_exist_ok=True)
        assert [record["seed"] for record in here.records()] == [0, 1]

    def test_other_folders_are_left_alone(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("x")
        with pytest.raises(InputError, match="is not empty and holds no runs"):
            Store(tmp_path)
        with pytest.raises(InputError, match="holds no runs"):
            Store.existing(tmp_path)
        (tmp_path / "s").mkdir()
        for content in ('{"format": 99}', "[]", "nonsense"):
            (tmp_path / "s" / "store.json").write_text(content)
            with pytest.raises(InputError, match="this version reads 2"):
                Store(tmp_path / "s")
        assert (tmp_path / "thesis.txt").read_text() == "x"

    def test_training_sets(self, tmp_path, small_set):
        store = Store(tmp_path / "s")
        store.put_training_set(small_set)
        again = store.training_set(small_set.sha256)
        np.testing.assert_array_equal(again.index, small_set.index)
        np.testing.assert_array_equal(again.energy, small_set.energy)
        assert again.name == small_set.name
        (path,) = (store.folder / "training_sets").iterdir()
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(InputError, match="missing or damaged"):
            store.training_set(small_set.sha256)


class TestLocks:
    def test_one_at_a_time(self, tmp_path):
        store = Store(tmp_path / "s")
        lock = store.claim("a" * 16)
        assert lock is not None
        assert store.claim("a" * 16) is None
        assert store.claim("b" * 16) is not None
        lock.release()
        assert store.claim("a" * 16) is not None

    def test_ends_with_its_process_however_that_ends(self, tmp_path):
        store = Store(tmp_path / "s")
        code = (
            "import sys, time; from eval.study.store import Store;"
            "lock = Store(sys.argv[1]).claim('a' * 16); print('claimed', flush=True); time.sleep(60)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, store.folder], stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout.readline() == "claimed\n"
            assert store.claim("a" * 16) is None
            process.kill()
            process.wait()
            assert store.claim("a" * 16) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def fuzz(folder, data):
    """Put something wrong into one file of a store: nobody stumbles, and no wrong run is taken for one."""
    store = Store(folder)
    given_result = result(0, **{"draws-1-7.npz": some_draws().to_bytes(), "distribution-1.npz": b""})
    given_result.files["distribution-1.npz"] = distribution_to_bytes(np.array([0.25, 0, 0.5, 0.25]))
    store.add(given_result)
    path = store.path(given_result.key)
    name = data.draw(st.sampled_from(["run.json", "draws-1-7.npz", "distribution-1.npz", "model.pt"]))
    whole = (path / name).read_bytes()
    if name == "run.json" and data.draw(st.booleans()):
        record = json.loads(whole)
        place = record
        while isinstance(place, dict) and place and data.draw(st.booleans()):
            key = data.draw(st.sampled_from(sorted(place)))
            if not isinstance(place[key], dict):
                break
            place = place[key]
        if isinstance(place, dict) and place:
            place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
        wrong = json.dumps(record).encode()
    else:
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, len(whole)))
        wrong = whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:]
    (path / name).write_bytes(wrong)
    record = store.record(given_result.key)
    if record is not None:
        assert key_of(record["identity"]) == given_result.key
        assert isinstance(record["access"]["kind"], str)
        assert isinstance(record["training_set"]["name"], str)
    list(store.records())
    draws = store.draws(given_result.key, SEVEN)
    assert draws is None or int(draws.counts.sum()) == 7
    distribution = store.distribution(given_result.key, SEVEN)
    assert distribution is None or distribution.sum() == pytest.approx(1)
    assert store.read(given_result.key, "model.pt") in (None, b"weights")


class TestFuzz:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(data=st.data())
    def test_briefly(self, data):
        with tempfile.TemporaryDirectory() as folder:
            fuzz(folder, data)

    @pytest.mark.slow
    @settings(max_examples=3_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(data=st.data())
    def test_for_a_minute(self, data):
        with tempfile.TemporaryDirectory() as folder:
            fuzz(folder, data)


def test_records_are_plain_json(tmp_path):
    store = Store(tmp_path / "s")
    store.add(result())
    text = (store.path(result().key) / "run.json").read_text()
    assert json.loads(text)["identity"] == result().record["identity"]
