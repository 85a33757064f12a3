"""The Minari dataset, read back by Minari itself and held against the training set row by row."""

import builtins
import json

import numpy as np
import pytest

from elpa_env import TrainingSet, load_training_set
from elpa_env.errors import InputError
from elpa_env.export import AUTHORS, dataset_id, export_minari
from elpa_env.files import atomic_folder
from elpa_env.landscape import CITATION
from elpa_env.space import ELPASOLITE_SPACE as space
from tests.test_files import full_disk


def expected_returns(training_set, target_class):
    return np.where(training_set.energy_class == target_class, 1.0, -1.0)


def check_dataset(dataset, training_set, target_class):
    """Every episode against its row."""
    assert len(dataset) == dataset.total_episodes == len(training_set)
    assert dataset.total_steps == 8 * len(training_set)
    returns = expected_returns(training_set, target_class)
    states = space.prefixes(training_set.digits)
    n = 0
    for row, episode in enumerate(dataset):
        n += 1
        assert episode.id == row
        assert episode.observations.dtype == np.float32
        np.testing.assert_array_equal(space.unscale(episode.observations), states[row])
        np.testing.assert_array_equal(episode.actions, training_set.digits[row] - 1)
        assert episode.rewards.tolist() == [0.0] * 7 + [returns[row]]
        assert episode.terminations.tolist() == [False] * 7 + [True]
        assert episode.truncations.tolist() == [False] * 8
    assert n == len(training_set)
    records = list(dataset.storage.get_episode_metadata(range(n)))
    np.testing.assert_array_equal(space.formula_to_index([r["formula"] for r in records]), training_set.index)
    np.testing.assert_array_equal([r["energy"] for r in records], training_set.energy)
    np.testing.assert_array_equal([r["energy_class"] for r in records], training_set.energy_class)


class TestMinari:
    @pytest.fixture(autouse=True)
    def minari(self):
        pytest.importorskip("h5py", reason="needs h5py: pip install 'elpasolite[minari]'")
        return pytest.importorskip("minari", reason="needs Minari: pip install 'elpasolite[minari]'")

    @pytest.mark.parametrize("target_class", [1, 10])
    def test_reads_back(self, minari, small_set, tmp_path, monkeypatch, target_class):
        calls = []
        folder = export_minari(
            small_set,
            tmp_path / "root",
            name="few",
            target_class=target_class,
            citation=CITATION,
            progress=lambda done, total: calls.append((done, total)),
        )
        assert calls == [(200, 200)]
        identity = f"elpasolite/few-class{target_class}-v0"
        assert folder == tmp_path / "root" / identity
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
        assert list(minari.list_local_datasets()) == [identity]
        dataset = minari.load_dataset(identity)
        check_dataset(dataset, small_set, target_class)
        check_dataset(minari.MinariDataset(folder / "data"), small_set, target_class)
        metadata = dataset.storage.metadata
        assert metadata["author"] == AUTHORS
        assert metadata["citation"] == CITATION
        assert metadata["training_set"] == small_set.record()
        assert metadata["training_set"]["rows"] == 200
        for word in (small_set.name, small_set.sha256, CITATION, f"class {target_class}"):
            assert word in metadata["description"]
        assert dataset[0].infos == {}

    def test_the_environment_is_recovered_and_replays_the_episodes(self, minari, small_set, tmp_path):
        folder = export_minari(small_set, tmp_path, name="few", target_class=3)
        dataset = minari.MinariDataset(folder / "data")
        env = dataset.recover_environment()
        assert env.unwrapped.target_class == 3
        assert env.observation_space == dataset.observation_space
        assert env.action_space == dataset.action_space
        for episode in dataset:
            observation, _ = env.reset()
            seen = [observation]
            for action, reward, done in zip(
                episode.actions, episode.rewards, episode.terminations, strict=True
            ):
                assert env.action_space.contains(action)
                observation, earned, terminated, _, _ = env.step(action)
                seen.append(observation)
                # The embedded rows carry the energies of the landscape, so the rewards agree too.
                assert (earned, terminated) == (reward, done)
            np.testing.assert_array_equal(seen, episode.observations)

    def test_minari_can_go_on_from_it(self, minari, small_set, tmp_path):
        """Episodes can be added, left out, and split, as in any dataset of Minari's own making."""
        folder = export_minari(small_set, tmp_path, name="few", target_class=1)
        dataset = minari.MinariDataset(folder / "data")
        good = dataset.filter_episodes(lambda episode: episode.rewards[-1] > 0)
        assert len(good) == (small_set.energy_class == 1).sum()
        assert [len(part) for part in minari.split_dataset(dataset, [150, 50], seed=0)] == [150, 50]
        from minari.data_collector import EpisodeBuffer

        first = dataset[0]
        fields = ("observations", "actions", "rewards", "terminations", "truncations")
        dataset.update_dataset_from_buffer([EpisodeBuffer(**{name: getattr(first, name) for name in fields})])
        again = minari.MinariDataset(folder / "data")
        assert len(again) == 201
        np.testing.assert_array_equal(again[200].observations, first.observations)

    def test_a_full_disk_leaves_the_earlier_dataset(self, small_set, tmp_path):
        how = {"name": "few", "target_class": 1}
        folder = export_minari(small_set, tmp_path, **how)
        before = {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")}
        for limit in (0, 100, 100_000):
            with full_disk(limit), pytest.raises(InputError, match="cannot write .*: File too large"):
                export_minari(small_set, tmp_path, **how)
            assert {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")} == before

    def test_command(self, minari, run, small_set, tmp_path, monkeypatch):
        monkeypatch.setattr("elpa_env.training.load_training_set", lambda *_, **__: small_set)
        call = ("data", "export", "--format", "minari", "--target-class", 2, "--out", "m")
        status, out, _ = run(*call)
        assert status == 0
        assert "200 episodes, elpasolite/landscape-class2-v0: m/elpasolite/landscape-class2-v0/data" in out
        folder = tmp_path / "m" / "elpasolite" / "landscape-class2-v0"
        check_dataset(minari.MinariDataset(folder / "data"), small_set, 2)
        (folder / "data" / "precious").write_text("x")
        status, _, err = run(*call)
        assert (status, err.count("\n")) == (2, 1)
        assert "--overwrite" in err
        assert (folder / "data" / "precious").is_file()
        assert run(*call[:-4], "--target-class", 3, "--out", "m")[0] == 0
        assert run(*call, "--overwrite")[0] == 0
        assert not (folder / "data" / "precious").exists()
        assert sorted(path.name for path in (tmp_path / "m" / "elpasolite").iterdir()) == [
            "landscape-class2-v0",
            "landscape-class3-v0",
            "namespace_metadata.json",
        ]

    def test_the_table_of_a_user_is_not_credited_to_others(self, minari, run, tmp_path):
        rows = "Z_A,Z_B,Z_C,Z_D,formation_energy_eV_per_atom\n13,11,19,9,-2.9\n56,20,3,8,-1.0\n"
        (tmp_path / "my table.csv").write_text(rows)
        assert run("data", "export", "--data", "my table.csv", "--out", "m")[0] == 0
        folder = tmp_path / "m" / "elpasolite" / "my-table-class1-v0" / "data"
        check_dataset(minari.MinariDataset(folder), load_training_set(tmp_path / "my table.csv"), 1)
        metadata = json.loads((folder / "metadata.json").read_text())
        assert "author" not in metadata
        assert "citation" not in metadata
        assert "Faber" not in metadata["description"]

    def test_an_interrupted_export_leaves_what_was_there(self, small_set, tmp_path):
        folder = export_minari(small_set, tmp_path, name="few", target_class=1)
        before = (folder / "data" / "metadata.json").read_text()

        def interrupt(done, total):
            raise KeyboardInterrupt

        for target_class in (1, 2):
            with pytest.raises(KeyboardInterrupt):
                export_minari(small_set, tmp_path, name="few", target_class=target_class, progress=interrupt)
        assert (folder / "data" / "metadata.json").read_text() == before
        assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == ["few-class1-v0"]

    @pytest.mark.slow
    @pytest.mark.parametrize("data", ["landscape", "dft"])
    def test_whole_training_set(self, minari, request, tmp_path, data):
        path = request.getfixturevalue("dft_dir") if data == "dft" else data
        training_set = load_training_set(path)
        folder = export_minari(training_set, tmp_path, name=data, target_class=1, citation=CITATION)
        dataset = minari.MinariDataset(folder / "data")
        check_dataset(dataset, training_set, 1)
        if data == "dft":
            assert len(dataset) == 21_112


def test_no_minari(run, monkeypatch, tmp_path):
    imports = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "minari":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return imports(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    status, _, err = run("data", "export", "--out", "m")
    assert (status, err.count("\n")) == (2, 1)
    assert "pip install 'elpasolite[minari]'" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target-class", 11), "target_class must be 1..10, got 11"),
        (("--format", "csv"), "csv"),
        (("--data", "none.csv"), "cannot read none.csv"),
    ],
)
def test_bad_input(run, tmp_path, arguments, message):
    status, _, err = run("data", "export", "--out", "m", *arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_no_rows(tmp_path):
    with pytest.raises(InputError, match="no rows"):
        export_minari(
            TrainingSet(np.zeros(0, np.int64), np.zeros(0), "none"), tmp_path, name="none", target_class=1
        )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("dft", "dft"), ("my table (2)", "my-table--2"), ("энергии", "data"), ("a.b", "a-b")],
)
def test_ids_are_such_as_minari_takes(name, expected):
    assert dataset_id(name, 7) == f"elpasolite/{expected}-class7-v0"


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    target = tmp_path / "a" / "b"
    for text in ("first", "second"):
        with atomic_folder(target) as folder:
            (folder / text).write_text(text)
        assert [path.name for path in target.iterdir()] == [text]
    with pytest.raises(InputError, match="cannot write .*No such file"), atomic_folder(target) as folder:
        (folder / "missing").rename(folder / "third")
    assert [path.name for path in target.iterdir()] == ["second"]
    assert list(target.parent.iterdir()) == [target]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"), atomic_folder(tmp_path / "file" / "c"):
        pass
