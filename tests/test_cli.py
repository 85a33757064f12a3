"""The command line from outside: what it prints, writes, refuses and leaves untouched."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from elpa_env import formula_to_index, load_training_set
from elpa_env.space import ELPASOLITE_SPACE as space
from eval.cli import common
from eval.study import registry
from eval.study.registry import BASIC, MODELS, REFERENCES
from eval.study.reproduce import FOUR
from tests.test_models import TINY

COMPARE = ("compare", "--preset", "quick", "--n-samples", 300, "--jobs", 1)


def results(folder, judge="paper"):
    """Models of a comparison by name, from its metrics.json."""
    return json.loads((folder / "metrics.json").read_text())["judges"][judge]["models"]


@pytest.fixture
def trained(monkeypatch):
    """Which models were trained, with their seeds."""
    calls = []
    for name, spec in list(MODELS.items()):

        def train(task, spec=spec):
            calls.append((spec.name, task.seed))
            return spec.train(task)

        monkeypatch.setitem(registry.MODELS, name, replace(MODELS[name], train=train))
    return calls


def interrupt(task):
    raise KeyboardInterrupt


class TestCompare:
    def test_leaves_everything_it_promises(self, run, tmp_path):
        status, out, _ = run(*COMPARE, "--seeds", 2, "--out", "r")
        assert status == 0
        assert "embedded: 10,590 rows drawn from the landscape" in out
        for word in ("DQN", "VAE", "GAN", "pairs", "random", "83 ± 1", "0.16 ± 0.01", "JS distance"):
            assert word in out
        ceiling = 100 * (1 - (1 - 1 / 3756) ** 300)
        words = " ".join(out.split())
        assert (
            f"cover at most {ceiling:.1f} % of the 3,756 compositions (2,213 compounds) of class 1" in words
        )
        assert "exact solutions, which see all that the judge knows" in words
        assert "hyperparameters chosen by the user: DQN, VAE, GAN, DQN soft, model" in words
        assert "…" not in out
        record = json.loads((tmp_path / "r" / "metrics.json").read_text())
        assert record["schema_version"] == 2
        assert record["seeds"] == [0, 1]
        assert record["n_samples"] == 300
        assert record["training_set"]["rows"] > 21_000
        assert len(record["training_set"]["sha256"]) == 64
        assert {"python", "torch", "numpy", "elpasolite"} <= set(record["versions"])
        assert list(record["judges"]) == ["paper"]
        assert len(record["judges"]["paper"]["sha256"]) == 64
        models = results(tmp_path / "r")
        assert set(models) == {*BASIC, *REFERENCES}
        for name, entry in models.items():
            values = [run["score"]["precision"] for run in entry["runs"]]
            assert entry["mean"]["precision"] == pytest.approx(np.mean(values))
            assert entry["std"]["precision"] == pytest.approx(np.std(values, ddof=1))
            table = pd.read_csv(tmp_path / "r" / f"samples_{name}.csv")
            assert len(table) == 300
            exact = entry["runs"][0]["exact"]
            assert (exact is None) == (name in ("vae", "gan"))
            if exact:
                assert exact["n_samples"] == 300
                assert values[0] == pytest.approx(exact["precision"], abs=5 * 0.5 / np.sqrt(300))
            assert (tmp_path / "r" / f"samples_{name}_seed1.csv").is_file()
            right = (table["energy_class"] == 1).mean()
            assert right == pytest.approx(values[0])
            counts = table["status"].value_counts()
            for status_name in ("novel", "rediscovered", "repeated"):
                assert counts.get(status_name, 0) == entry["runs"][0]["score"][status_name]
        for picture in ("figure_energies.png", "figure_elements.png", "figure_models.png"):
            assert (tmp_path / "r" / picture).read_bytes()[:4] == b"\x89PNG"
        kept = {path.parent.name.split("-class")[0] for path in (tmp_path / "r").glob("runs/*/model.*")}
        assert kept == {"dqn", "vae", "gan", "dqn-soft-model"}
        assert {path.name for path in tmp_path.iterdir()} == {"r"}

    @pytest.mark.slow
    def test_all_models_in_one_table(self, run, tmp_path):
        """A row each, with what it saw."""
        status, out, _ = run(*COMPARE, "--all", "--out", "r")
        assert status == 0
        assert "…" not in out
        models = results(tmp_path / "r")
        assert set(models) == set(MODELS)
        titles = {spec.title for spec in MODELS.values()}
        lines = {
            t: next(x for x in out.splitlines() if re.match(rf" *{re.escape(t)} +\d", x)) for t in titles
        }
        for name, kind in (
            ("dqn-max", "offline"),
            ("dqn-soft-model", "model-based"),
            ("dqn-double-oracle", "oracle"),
            ("optimal-soft", "reference"),
        ):
            line = lines[MODELS[name].title]
            access = models[name]["runs"][0]["access"]
            assert access["kind"] == kind
            assert f" {kind} " in line
            assert f" {access['labels']:,} " in line
            assert f" {access['model_queries']:,} " in line
            assert f" {access['landscape_queries']:,} " in line
        assert models["dqn-soft-model"]["runs"][0]["access"]["labels"] == 10_590
        status, _, err = run(*COMPARE, "--all", "--model", "vae", "--out", "other")
        assert (status, err.count("\n")) == (2, 1)
        assert "leave out --model" in err

    @pytest.mark.slow
    def test_a_narrow_terminal_shows_every_figure(self, run, monkeypatch):
        monkeypatch.setattr(common, "console", Console(width=80))
        chosen = [word for name in MODELS if name not in TINY for word in ("--model", name)]
        status, out, _ = run(*COMPARE, *chosen, "--seeds", 2)
        assert status == 0
        assert "…" not in out
        assert out.count("JS distance") == 3
        for title in ("sites", "pairs", "random", "optimal hard", "optimal soft"):
            assert out.count(f" {title} ") == 1
        assert out.count("preset quick") == out.count("cover at most") == 1

    @pytest.mark.slow
    def test_the_seed_decides(self, run, tmp_path):
        for folder in ("a", "b"):
            assert run(*COMPARE, "--out", folder)[0] == 0
        for name in (*BASIC, *REFERENCES):
            a, b = (tmp_path / f / f"samples_{name}.csv" for f in ("a", "b"))
            assert a.read_text() == b.read_text()

    def test_what_is_not_ours_is_left_alone(self, run, tmp_path):
        (tmp_path / "r").mkdir()
        (tmp_path / "r" / "precious").write_text("x")
        status, _, err = run(*COMPARE, "--model", "random", "--out", "r")
        assert (status, err.count("\n")) == (2, 1)
        assert "name another folder with --out" in err
        assert (tmp_path / "r" / "precious").read_text() == "x"
        assert {path.name for path in tmp_path.rglob("*")} == {"r", "precious"}

    @pytest.mark.usefixtures("no_pictures")
    def test_reference_lines_stand_in_every_comparison(self, run):
        status, out, _ = run(*COMPARE, "--model", "random", "--out", "r")
        assert status == 0
        assert "optimal soft" in out
        assert "optimal hard" in out

    @pytest.mark.slow
    def test_agents_of_the_user(self, run, tmp_path):
        for seed in (0, 1):
            training = ("train", "dqn", "--preset", "quick", "--seed", seed)
            assert run(*training, "--out", f"agent{seed}.zip")[0] == 0
        chosen = ("--model", "random", "--no-reference", "--out", "r")
        agents = ("--agent", "agent0.zip", "--agent", "agent1.zip")
        status, out, _ = run(*COMPARE, *chosen, *agents)
        assert status == 0
        assert "agent0" in out
        models = results(tmp_path / "r")
        assert set(models) == {"random", "agent0", "agent1"}
        hashes = {models[f"agent{i}"]["runs"][0]["file_sha256"] for i in (0, 1)}
        assert len(hashes) == 2
        assert len(pd.read_csv(tmp_path / "r" / "samples_agent1.csv")) == 300
        assert run(*COMPARE, *chosen, *agents, "--masking", "composition")[0] == 0
        masked = results(tmp_path / "r")
        for name in ("agent0", "random"):
            assert masked[name]["runs"][0]["score"]["valid_fraction"] == 1
        assert models["agent0"]["runs"][0]["score"]["valid_fraction"] < 1
        status, _, err = run(*COMPARE, *chosen, *agents, "--masking", "all")
        assert (status, err.count("\n")) == (2, 1)
        chosen_beta = ("--n-samples", 200, "--beta", 2, "--out", "s.json")
        status, out, _ = run("score", "--agent", "agent0.zip", *chosen_beta)
        assert status == 0
        for word in ("agent0: 200 samples for class 1", "sampled", "exact", "effective compositions"):
            assert word in out
        record = json.loads((tmp_path / "s.json").read_text())
        assert record["n_valid"] == record["exact"]["n_samples"] == 200
        assert record["valid_fraction"] == pytest.approx(record["exact"]["valid_fraction"], abs=0.2)
        assert f"{record['exact']['success_rate'] * 100:.2f} %" in out
        for wrong, message in (
            (("--agent", "agent0.zip", "--target-class", 5), "trained for class 1, not 5"),
            (("--agent", "none.zip"), "no agent none.zip"),
            (("--agent", "agent0.zip", "--beta", "nan"), "beta must be at least 0, got nan"),
            (("--agent", "agent0.zip", "--masking", "all"), "masking must be one of"),
            (("--agent", "agent0.zip", "--mode", "stochastic"), "has no distribution"),
        ):
            status, _, err = run("score", *wrong)
            assert (status, err.count("\n")) == (2, 1)
            assert message in err


class TestTheStoreGrows:
    """What is there is never trained again, whatever the next command asks for."""

    FEW = ("--model", "vae", "--model", "sites", "--model", "dqn", "--no-reference", "--out", "r")

    @pytest.mark.slow
    @pytest.mark.usefixtures("no_pictures")
    def test_seeds_models_samples_judges_and_classes_are_added(self, run, tmp_path, trained):
        assert run(*COMPARE, *self.FEW)[0] == 0
        assert sorted(trained) == [("dqn", 0), ("sites", 0), ("vae", 0)]
        first = results(tmp_path / "r")
        trained.clear()
        assert run(*COMPARE, *self.FEW, "--seeds", 3)[0] == 0
        assert sorted(trained) == [(name, seed) for name in ("dqn", "sites", "vae") for seed in (1, 2)]
        for name, entry in results(tmp_path / "r").items():
            assert entry["runs"][0] == first[name]["runs"][0]
        trained.clear()
        for more in (("--model", "gan"), ("--n-samples", 301), ("--judge", "symmetric")):
            assert run(*COMPARE, *self.FEW, *more)[0] == 0
        assert trained == [("gan", 0)]
        assert run(*COMPARE, *self.FEW, "--target-class", 5)[0] == 0
        assert sorted(trained[1:]) == [("dqn", 0), ("sites", 0)]  # one VAE serves all classes
        trained.clear()
        assert run(*COMPARE, *self.FEW)[0] == 0
        assert results(tmp_path / "r") == first
        assert trained == []
        status, out, _ = run("runs", "r")
        assert status == 0
        assert "12 runs" in out
        assert "1: 300, 1: 301, 5: 300" in out
        assert run(*COMPARE, *self.FEW, "--retrain")[0] == 0
        assert sorted(trained) == [("dqn", 0), ("sites", 0), ("vae", 0)]
        again = results(tmp_path / "r")
        assert again["vae"]["runs"][0]["score"] == first["vae"]["runs"][0]["score"]

    @pytest.mark.slow
    def test_is_shown_anew_without_its_models(self, run, tmp_path, trained, monkeypatch):
        assert run(*COMPARE, *self.FEW, "--seeds", 2)[0] == 0
        before = results(tmp_path / "r")
        for path in (tmp_path / "r").glob("*.*"):
            if path.name not in ("store.json", "study.json"):
                path.unlink()
        trained.clear()
        monkeypatch.setenv("HOME", str(tmp_path))
        status, out, _ = run("show", "r")
        assert status == 0
        assert "JS distance" in out
        assert results(tmp_path / "r") == before
        for name in ("figure_models.png", "figure_energies.png", "figure_elements.png", "table.txt"):
            assert (tmp_path / "r" / name).is_file()
        status, out, _ = run("show", "r", "--judge", "paper", "--judge", "symmetric")
        assert status == 0
        assert "judge paper, symmetric" in out
        assert "  symmetric judge" in out
        assert results(tmp_path / "r") == before
        other = results(tmp_path / "r", "symmetric")
        exact = [models["sites"]["runs"][0]["exact"]["precision"] for models in (before, other)]
        assert exact[0] != pytest.approx(exact[1], rel=1e-4)
        assert (tmp_path / "r" / "figure_models_symmetric.png").is_file()
        assert trained == []

    @pytest.mark.usefixtures("no_pictures")
    def test_the_caller_keeps_its_threads(self, run):
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(3)
        try:
            assert run(*COMPARE, "--model", "vae", "--no-reference", "--out", "r")[0] == 0
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(before)

    @pytest.mark.usefixtures("no_pictures")
    def test_figures_that_are_kept_are_the_figures(self, run, tmp_path):
        assert run(*COMPARE, *self.FEW)[0] == 0
        before = results(tmp_path / "r")
        kept = list((tmp_path / "r").rglob("score-*.json"))
        assert len(kept) == 3
        kept[0].write_text("{")
        kept[1].write_text(kept[2].read_text())
        kept[2].unlink()
        assert run("show", "r")[0] == 0
        assert results(tmp_path / "r") == before

    @pytest.mark.usefixtures("no_pictures")
    def test_interrupted_and_gone_on(self, run, tmp_path, monkeypatch):
        gan, dqn = MODELS["gan"], MODELS["dqn"]
        chosen = ("--model", "dqn", "--model", "gan", "--model", "vae", "--no-reference", "--out", "r")
        monkeypatch.setitem(registry.MODELS, "gan", replace(gan, train=interrupt))
        status, _, err = run(*COMPARE, *chosen)
        assert status == 130
        assert "the same command goes on from there" in err
        assert len(list((tmp_path / "r").glob("runs/dqn-*/run.json"))) == 1
        monkeypatch.setitem(registry.MODELS, "gan", gan)
        monkeypatch.setitem(registry.MODELS, "dqn", replace(dqn, train=interrupt))
        assert run(*COMPARE, *chosen)[0] == 0
        monkeypatch.setitem(registry.MODELS, "dqn", dqn)
        assert run(*COMPARE, *chosen[:-1], "whole")[0] == 0
        for name in ("dqn", "gan", "vae"):
            a, b = (tmp_path / f / f"samples_{name}.csv" for f in ("r", "whole"))
            assert a.read_text() == b.read_text()

    @pytest.mark.usefixtures("no_pictures")
    def test_a_failing_replacement_loses_nothing(self, run, tmp_path, monkeypatch):
        """However the move of a run trained again fails, the earlier one is still there."""
        chosen = ("--model", "sites", "--no-reference", "--out", "r")
        assert run(*COMPARE, *chosen)[0] == 0
        before = results(tmp_path / "r")

        def fail(*_, **__):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            for function in ("replace", "rename"):
                patch.setattr(os, function, fail)
            status, _, err = run(*COMPARE, *chosen, "--retrain")
        assert (status, err.count("\n")) == (2, 1)
        assert run("show", "r")[0] == 0
        assert results(tmp_path / "r") == before
        assert not [path for path in (tmp_path / "r").rglob(".elpa-tmp-*")]


@pytest.mark.usefixtures("no_pictures")
class TestWhereResultsMayGo:
    def test_around_the_working_folder(self, run, tmp_path, monkeypatch):
        inner = tmp_path / "work" / "sub"
        inner.mkdir(parents=True)
        (tmp_path / "work" / "precious").write_text("x")
        (tmp_path / "link").symlink_to("work")
        monkeypatch.chdir(inner)
        for out in ("../../work", "..", "../sub", tmp_path / "link", "/"):
            for command in (
                (*COMPARE, "--model", "random", "--out", out),
                ("frontier", "a.zip", "--out", out, "--overwrite"),
                ("data", "build-landscape", "--out", out, "--overwrite"),
            ):
                status, _, err = run(*command)
                assert (status, err.count("\n")) == (2, 1)
                assert "--out must be a folder of its own" in err
        assert (tmp_path / "work" / "precious").read_text() == "x"

    @pytest.mark.parametrize(
        ("out", "message"),
        [
            ("/dev/null", "is a device"),
            ("folder.csv", "is a folder"),
            ("dangling.csv", "link that leads nowhere"),
            ("x" * 300 + ".csv", "cannot write"),
            ("file/x.csv", "cannot write"),
        ],
    )
    def test_is_known_before_the_work(self, run, tmp_path, monkeypatch, out, message):
        (tmp_path / "folder.csv").mkdir()
        (tmp_path / "dangling.csv").symlink_to("nowhere")
        (tmp_path / "file").write_text("x")
        monkeypatch.setitem(registry.MODELS, "vae", replace(MODELS["vae"], train=interrupt))
        commands = [("sample", "random", "--out", out, "--overwrite")]
        if out != "/dev/null":
            commands.append(("train", "vae", "--out", out.replace(".csv", ".pt"), "--overwrite"))
        for suffix in (".pt", ".csv"):
            if not (tmp_path / f"folder{suffix}").exists():
                (tmp_path / f"folder{suffix}").mkdir()
                (tmp_path / f"dangling{suffix}").symlink_to("nowhere")
        for command in commands:
            status, _, err = run(*command)
            assert (status, err.count("\n")) == (2, 1), err
            assert message in err

    def test_a_long_name_is_written(self, run, tmp_path):
        name = "x" * 244 + ".csv"
        assert run("sample", "random", "--n-samples", 5, "--out", name)[0] == 0
        assert {path.name for path in tmp_path.iterdir()} == {name}

    def test_a_link_stays_a_link(self, run, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "r").symlink_to("elsewhere")
        chosen = ("--model", "random", "--no-reference", "--out", "r")
        assert run(*COMPARE, *chosen)[0] == 0
        assert (tmp_path / "r").is_symlink()
        assert (tmp_path / "elsewhere" / "metrics.json").is_file()

    def test_a_class_that_the_training_set_lacks(self, run, tmp_path, trained):
        table = tmp_path / "t.csv"
        table.write_text("Z_A,Z_B,Z_C,Z_D,formation_energy_eV_per_atom\n13,11,19,9,-2.9\n13,11,37,9,-2.8\n")
        chosen = ("--data", "t.csv", "--target-class", 5, "--model", "vae", "--model", "sites", "--out", "r")
        status, _, err = run(*COMPARE, *chosen)
        assert (status, err.count("\n")) == (2, 1)
        assert "sites needs rows of class 5" in err
        assert trained == []
        assert {path.name for path in tmp_path.iterdir()} == {"t.csv"}


@pytest.mark.usefixtures("no_pictures")
class TestModelsOfTheUser:
    def test_in_every_command(self, run, tmp_path, own_model):
        chosen = ("--model", "mine:Echo", "--n-samples", 300, "--no-reference", "--jobs", 1, "--out", "r")
        status, out, _ = run("compare", *chosen)
        assert status == 0
        assert "Echo of mine" in out
        (entry,) = results(tmp_path / "r").values()
        assert entry["runs"][0]["config"] == {"seconds": 0.0, "width": 3}
        assert entry["runs"][0]["access"]["kind"] == "unknown"
        assert run("compare", *chosen, "--n-samples", 400)[0] == 0
        assert (tmp_path / "log").read_text() == "begin 0\nend 0\n"
        assert run("train", "mine:Echo", "--out", "m.model")[0] == 0
        drawn = ("--n-samples", 50, "--out", "s.csv")
        assert run("sample", "m.model", "--model", "mine:Echo", *drawn)[0] == 0
        assert set(pd.read_csv(tmp_path / "s.csv")["status"]) <= {"rediscovered", "repeated"}

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("mine:Nothing", "cannot import mine:Nothing"),
            ("nowhere:Echo", "cannot import nowhere:Echo"),
            ("mine:Config", "must be a class with fit and sample"),
            (":", "module:attribute"),
            ("mine:", "module:attribute"),
        ],
    )
    def test_what_is_none(self, run, own_model, name, message):
        status, _, err = run("compare", "--model", name)
        assert (status, err.count("\n")) == (2, 1)
        assert message in err

    @pytest.mark.slow
    def test_nothing_else_looks_into_the_working_folder(self, tmp_path):
        for name in ("torch", "loky", "agents", "rich", "pandas"):
            (tmp_path / f"{name}.py").write_text("raise SystemExit('foreign code ran')")
        chosen = ("--model", "sites", "--model", "random", "--no-reference", "--n-samples", "50")
        call = [sys.executable, "-P", "-m", "eval", "compare", *chosen, "--jobs", "2"]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "--target-class", 0), "target_class must be 1..10, got 0"),
        (("compare", "--target-class", 11), "target_class must be 1..10, got 11"),
        (("compare", "--target-class", "x"), "target_class must be 1..10, got 'x'"),
        (("compare", "--n-samples", 0), "at least 1, got 0"),
        (("compare", "--n-samples", -5), "at least 1, got -5"),
        (("compare", "--seeds", 0), "--seeds must be at least 1, got 0"),
        (("compare", "--seed", -1), "--seed must be at least 0, got -1"),
        (("compare", "--jobs", -1), "--jobs must be at least 0, got -1"),
        (("compare", "--model", "bert"), "unknown model 'bert'"),
        (("compare", "--preset", "huge"), "unknown preset 'huge'"),
        (("compare", "--device", "nonsense"), "--device nonsense is not available"),
        (("compare", "--data", "none.csv"), "cannot read none.csv"),
        (("compare", "--nonsense"), "nonsense"),
        (("train", "bert", "--out", "x.pt"), "unknown model 'bert'"),
        (("train", "random", "--out", "x.pt"), "leaves no checkpoint"),
        (("train", "vae", "--out", "x.txt"), "ends in .pt, got x.txt"),
        (("train", "vae"), "--out"),
        (("sample", "none.pt", "--out", "x.csv"), "no checkpoint none.pt"),
        (("sample", "random", "--out", "x.csv", "--n-samples", 0), "at least 1, got 0"),
        (("score", "none.csv"), "cannot read none.csv"),
        (("score",), "name a CSV file to score, or an agent"),
        (("score", "none.csv", "--beta", 3), "--beta goes with --agent"),
        (("score", "none.csv", "--n-samples", 3), "--n-samples goes with --agent"),
        (("compare", "--out", "."), "--out must be a folder of its own"),
        (("compare", "--judge", "nobody"), "judge must be paper, symmetric or the folder"),
        (("show", "none"), "none holds no runs"),
        (("runs", "none"), "none holds no runs"),
        pytest.param(
            ("compare", "--cluster", "tcp://127.0.0.1:1"), "no Dask scheduler answers", marks=pytest.mark.slow
        ),
        (
            ("compare", "--model", "vae", "--model", "dqn-soft-model", "--preset", "paper"),
            "dqn-soft-model has no preset",
        ),
        (("compare", "--n-samples", 1 << 63), "number of samples must be"),
        (("compare", "--seeds", 4 * 10**9), "--seeds must be at most"),
        (("compare", "--seed", 1 << 32), f"seeds must be below {1 << 32}"),
        (("train", "vae", "--out", "/proc/none/m.pt"), "cannot write /proc/none/m.pt"),
        (("train", "dqn", "--out", "x.zip", "--seed", 1 << 32), "seeds must be below"),
        (("sample", "random", "--out", "/tmp"), "/tmp is a folder"),
        (("solve", "--beta", "nan"), "beta must be"),
        (("data", "fetch", "--from", "none"), "cannot read none"),
        (("solve", "--target-class", 11), "target_class must be 1..10, got 11"),
        (("solve", "--beta", 0), "beta must be 1e-6..1e6, got 0.0"),
        (("solve", "--beta", "x"), "--beta"),
        (("solve", "--gamma", 1.5), "gamma must be above 0 and at most 1, got 1.5"),
        (("solve", "--n-samples", 0), "number of samples must be at least 1, got 0"),
        (("solve", "--masking", "all"), "masking must be one of digits, composition, got 'all'"),
        (("reproduce", "table3"), "table3"),
        (("data", "info", "--data", "nowhere"), "cannot read nowhere"),
        (("nonsense",), "nonsense"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, tmp_path, arguments, message):
    status, out, err = run(*arguments)
    assert status == 2
    assert message in err
    assert err.startswith("elpa: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []


def test_no_cuda(run):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    status, _, err = run("compare", "--device", "cuda")
    assert (status, err.count("\n")) == (2, 1)
    assert "use --device cpu" in err


def test_no_dft_table(run, no_dft):
    status, _, err = run("compare", "--data", "dft")
    assert (status, err.count("\n")) == (2, 1)
    assert "elpa data fetch" in err


class TestSmallCommands:
    def test_train_sample_score(self, run, tmp_path):
        assert run("train", "vae", "--preset", "quick", "--out", "m.pt")[0] == 0
        assert run("sample", "m.pt", "--n-samples", 200, "--out", "s.csv")[0] == 0
        status, out, _ = run("score", "s.csv", "--out", "s.json")
        assert status == 0
        assert "precision (right class)" in out
        record = json.loads((tmp_path / "s.json").read_text())
        assert record["n_valid"] == 200
        assert record["exact"] is None
        assert "sampled" not in out
        table = pd.read_csv(tmp_path / "s.csv")
        assert record["precision"] == pytest.approx((table["energy_class"] == 1).mean())
        other = tmp_path / "other.csv"
        other.write_text("Z_A,Z_B,Z_C,Z_D,formation_energy_eV_per_atom\n13,11,19,9,-2.9\n")
        status, out, err = run("sample", "m.pt", "--n-samples", 20, "--data", "other.csv", "--out", "t.csv")
        assert status == 0
        assert "novelty against: other.csv" in out
        assert "trained on other rows (embedded" in err
        for again in (("sample", "m.pt", "--out", "s.csv"), ("train", "vae", "--out", "m.pt")):
            status, _, err = run(*again)
            assert (status, "--overwrite" in err) == (2, True)

    def test_an_agent_of_another_class(self, run):
        assert run("train", "dqn", "--preset", "quick", "--out", "m.zip")[0] == 0
        status, _, err = run("sample", "m.zip", "--target-class", 5, "--out", "s.csv")
        assert (status, err.count("\n")) == (2, 1)
        assert "trained for class 1, not 5" in err

    def test_baselines_need_no_checkpoint(self, run, tmp_path):
        assert run("sample", "sites", "--n-samples", 50, "--out", "s.csv")[0] == 0
        assert len(pd.read_csv(tmp_path / "s.csv")) == 50

    def test_solve(self, run, tmp_path):
        status, out, _ = run("solve", "--target-class", 2, "--n-samples", 500, "--out", "s.json")
        assert status == 0
        for word in ("precision (right class)", "JS distance", "optimal-hard", "optimal-soft", "ceiling"):
            assert word in out
        record = json.loads((tmp_path / "s.json").read_text())
        assert (record["target_class"], record["n_samples"], record["beta"]) == (2, 500, 5)
        columns = record["columns"]
        members = record["class_members"]
        assert columns["ceiling"]["coverage"] == pytest.approx(1 - (1 - 1 / members) ** 500)
        assert columns["ceiling"]["precision"] == 1
        assert columns["optimal-hard"]["start_value"] == 1
        assert f"{columns['optimal-soft']['coverage'] * 100:.2f} %" in out
        assert all(c["coverage"] <= columns["ceiling"]["coverage"] for c in columns.values())
        status, _, err = run("solve", "--out", "s.json")
        assert (status, err.count("\n"), "--overwrite" in err) == (2, 1, True)

    def test_different_compositions_alone(self, run, tmp_path):
        assert run("train", "dqn", "--preset", "quick", "--out", "m.zip")[0] == 0
        assert run("train", "gan", "--preset", "quick", "--out", "m.pt")[0] == 0
        for model in ("m.zip", "m.pt", "sites"):
            status, out, _ = run("sample", model, "--unique", "--n-samples", 150, "--out", f"{model}.csv")
            assert status == 0
            assert "150 different compounds" in out
            table = pd.read_csv(tmp_path / f"{model}.csv")
            compounds = space.index_to_compound(formula_to_index(table["formula"]))
            assert len(set(compounds.tolist())) == len(table) == 150
            assert set(table["status"]) <= {"novel", "rediscovered"}
            new = ("--novel", "--n-samples", 150, "--out", f"{model}-new.csv")
            assert run("sample", model, *new)[0] == 0
            assert set(pd.read_csv(tmp_path / f"{model}-new.csv")["status"]) == {"novel"}
        too_many = ("--unique", "--n-samples", 1_000_000, "--out", "x.csv")
        status, _, err = run("sample", "random", *too_many)
        assert (status, err.count("\n")) == (2, 1)
        assert "random: only 987,012 compounds can be drawn, 1,000,000 different ones" in err
        assert not (tmp_path / "x.csv").exists()

    def test_draws_from_the_exact_solution(self, run, tmp_path):
        assert run("sample", "optimal-soft", "--n-samples", 300, "--out", "s.csv")[0] == 0
        assert (pd.read_csv(tmp_path / "s.csv")["energy_class"] == 1).mean() > 0.9

    def test_data_info_and_fetch(self, run, dft_dir, no_dft):
        status, out, _ = run("data", "info")
        assert status == 0
        assert "embedded" in out
        assert run("data", "fetch", "--from", dft_dir)[0] == 0
        status, out, _ = run("data", "info", "--data", "dft")
        assert status == 0
        assert "DFT (Faber et al. 2016)" in out
        assert "21,112" in out

    @pytest.mark.slow
    def test_reproduce_prints_target_measured_and_verdict(self, run, tmp_path, monkeypatch, tiny_defaults):
        monkeypatch.setattr("eval.study.targets.held_out_error", lambda *_: 0.1)
        status, out, _ = run(
            "reproduce", "table1", "--data", "landscape", "--seeds", 2, "--n-samples", 200, "--jobs", 1
        )
        assert status == 0
        for word in ("target", "measured", "verdict", "reached", "off by", "81.5 to 84.5", "83 ± 1"):
            assert word in out
        verdicts = (tmp_path / "results-paper" / "table1.md").read_text()
        assert verdicts.count("\n|") > 15
        assert verdicts in (tmp_path / "results-paper" / "reproduction.md").read_text()

    def test_reward_model(self, run, tmp_path, monkeypatch):
        from agents import reward_model
        from tests.test_online import SMALL_MODEL

        monkeypatch.setattr(reward_model, "RewardModelConfig", lambda: SMALL_MODEL)
        status, out, _ = run("reward-model", "--out", "r.json")
        assert status == 0
        record = json.loads((tmp_path / "r.json").read_text())
        assert record["rows"] == record["training_set"]["labels"] == 10_590
        assert f"{record['mae']:.4f}" in out
        for tenth in record["calibration"]["class 1"]:
            assert f"{tenth['n']:,}" in out
        status, _, err = run("reward-model", "--out", "r.json")
        assert (status, err.count("\n")) == (2, 1)
        assert "--overwrite" in err

    @pytest.mark.slow
    def test_the_agent_is_held_against_the_best_of_the_paper(self, run, tmp_path, tiny_defaults):
        status, out, _ = run(
            "reproduce", "agent5", "--data", "landscape", "--seeds", 2, "--n-samples", 200, "--jobs", 1
        )
        assert status == 0
        for word in ("87 ± 7 (DQN)", "89 ± 2 (GAN)", "0.16 ± 0.01 (GAN)", ">= 94.0", "<= 0.060", "<= 120 s"):
            assert word in out
        record = json.loads((tmp_path / "results-paper" / "agent5.json").read_text())
        assert list(record["judges"]["paper"]["models"]) == ["dqn-soft-model"]
        call = ("reproduce", "offline1", "--data", "landscape", "--seeds", 1, "--n-samples", 200, "--jobs", 1)
        status, out, _ = run(*call)
        assert status == 0
        for word in ("69 ± 8 (DQN)", "0.20 ± 0.03 (DQN)", "<= 4.0", ">= 53.0"):
            assert word in out

    @pytest.mark.slow
    def test_training_sets_of_growing_size(self, run, tmp_path, monkeypatch, tiny_defaults):
        """Every seed has a subset of its own and nothing else; what was interrupted goes on."""
        monkeypatch.setattr("eval.study.sizes.SIZES", (200, 400))
        call = ("reproduce", "figure8", "--data", "landscape", "--seeds", 2, "--n-samples", 200, "--jobs", 1)
        vae = MODELS["vae"]
        monkeypatch.setitem(registry.MODELS, "vae", replace(vae, train=interrupt))
        assert run(*call)[0] == 130
        monkeypatch.setitem(registry.MODELS, "vae", vae)
        status, out, _ = run(*call)
        assert status == 0
        assert "DQN soft, model" in out
        folder = tmp_path / "results-paper"
        record = json.loads((folder / "figure8.json").read_text())
        sizes = record["judges"]["paper"]["sizes"]
        assert list(sizes) == ["200", "400", "10,590 as they are", "21,120"]
        for size, entry in sizes.items():
            how = {"subset": int(size)} if len(size) == 3 else {"augment": "as" not in size}
            subsets = [load_training_set(seed=seed, **how) for seed in (0, 1)]
            for name in FOUR:
                labels = [seen["labels"] for seen in entry[name]["access"]]
                assert labels == [subset.n_labels for subset in subsets]
        assert (folder / "figure8.png").read_bytes()[:4] == b"\x89PNG"
        hashes = set()
        for path in folder.glob("runs/dqn-soft-model-*/run.json"):
            trained_on = json.loads(path.read_text())["training_set"]
            if trained_on["rows"] == 200:
                hashes.add(trained_on["sha256"])
        assert len(hashes) == 2
        assert run(*call, "--out", "whole")[0] == 0
        again = json.loads((tmp_path / "whole" / "figure8.json").read_text())["judges"]["paper"]["sizes"]
        for size in sizes:
            for name in FOUR:
                for key in ("precision", "coverage", "js_distance"):
                    assert sizes[size][name][key] == again[size][name][key]
        status, shown, _ = run("show", "results-paper", "--judge", "symmetric")
        assert status == 0
        assert "DQN soft, model" in shown

    @pytest.mark.slow
    def test_build_landscape(self, run, dft_dir, tmp_path):
        status, out, _ = run("data", "build-landscape", "--data", dft_dir, "--out", "l")
        assert status == 0
        assert "held-out error 0.09" in out
        assert (tmp_path / "l" / "landscape.npz").is_file()


def test_python_m_eval_is_elpa(tmp_path):
    call = [sys.executable, "-m", "eval", "score", "none.csv"]
    result = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "elpa: cannot read none.csv: No such file or directory\n"


@pytest.mark.slow
def test_ctrl_c_in_train_leaves_nothing(tmp_path):
    call = [sys.executable, "-m", "eval", "train", "vae", "--out", "m.pt"]
    process = subprocess.Popen(call, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    time.sleep(12)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "elpa: interrupted\n"
    assert list(tmp_path.iterdir()) == []
