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

from elpa_env import load_training_set
from elpa_env.space import formula_to_index, index_to_compound
from eval import cli, models
from tests.test_models import TINY

COMPARE = ("compare", "--preset", "quick", "--n-samples", 300, "--jobs", 1)


class TestCompare:
    def test_leaves_everything_it_promises(self, run, tmp_path):
        status, out, _ = run(*COMPARE, "--seeds", 2, "--out", "r")
        assert status == 0
        assert "embedded: 10,590 rows drawn from the landscape" in out
        for word in ("DQN", "VAE", "GAN", "pairs", "random", "83 ± 1", "0.16 ± 0.01", "JS distance"):
            assert word in out
        ceiling = 100 * (1 - (1 - 1 / 3756) ** 300)
        assert f"cover at most {ceiling:.1f} % of the 3,756 compositions of class 1" in out
        assert "exact solutions that see the landscape" in out
        assert "…" not in out
        record = json.loads((tmp_path / "r" / "metrics.json").read_text())
        assert record["schema_version"] == 1
        assert record["seeds"] == [0, 1]
        assert record["n_samples"] == 300
        assert record["training_set"]["rows"] > 21_000
        assert len(record["training_set"]["sha256"]) == 64
        assert {"python", "torch", "numpy", "elpasolite"} <= set(record["versions"])
        assert set(record["models"]) == {*models.BASIC, *models.REFERENCES}
        for name, entry in record["models"].items():
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
        kept = {path.name for path in (tmp_path / "r" / "models").iterdir()}
        assert kept == {"dqn-0.zip", "dqn-1.zip", "vae-0.pt", "vae-1.pt", "gan-0.pt", "gan-1.pt"}
        assert {path.name for path in tmp_path.iterdir()} == {"r"}

    def test_all_models_in_one_table(self, run, tmp_path):
        """A row each, with what it saw."""
        status, out, _ = run(*COMPARE, "--all", "--out", "r")
        assert status == 0
        record = json.loads((tmp_path / "r" / "metrics.json").read_text())
        assert set(record["models"]) == set(models.MODELS)
        titles = {spec.title for spec in models.MODELS.values()}
        lines = {
            t: next(x for x in out.splitlines() if re.match(rf" *{re.escape(t)} +\d", x)) for t in titles
        }
        for name, kind in (
            ("dqn-max", "offline"),
            ("dqn-soft-model", "model-based"),
            ("dqn-double-oracle", "oracle"),
            ("optimal-soft", "reference"),
        ):
            line = lines[models.MODELS[name].title]
            access = record["models"][name]["runs"][0]["access"]
            assert access["kind"] == kind
            assert f" {kind} " in line
            assert f" {access['labels']:,} " in line
            assert f" {access['model_queries']:,} " in line
            assert f" {access['landscape_queries']:,} " in line
        assert record["models"]["dqn-soft-model"]["runs"][0]["access"]["labels"] == 10_590
        assert (tmp_path / "r" / "models" / "dqn-soft-model-0.zip").is_file()
        status, _, err = run(*COMPARE, "--all", "--model", "vae", "--out", "other")
        assert (status, err.count("\n")) == (2, 1)
        assert "leave out --model" in err

    def test_a_narrow_terminal_shows_every_figure(self, run, monkeypatch):
        monkeypatch.setattr(cli, "console", Console(width=80))
        chosen = [word for name in models.MODELS if name not in TINY for word in ("--model", name)]
        status, out, _ = run(*COMPARE, *chosen, "--seeds", 2)
        assert status == 0
        assert "…" not in out
        assert out.count("JS distance") == 2
        for title in ("sites", "pairs", "random", "optimal hard", "optimal soft"):
            assert out.count(f" {title} ") == 1
        assert out.count("preset quick") == out.count("cover at most") == 1

    def test_the_seed_decides(self, run, tmp_path):
        for folder in ("a", "b"):
            assert run(*COMPARE, "--out", folder)[0] == 0
        for name in (*models.BASIC, *models.REFERENCES):
            a, b = (tmp_path / f / f"samples_{name}.csv" for f in ("a", "b"))
            assert a.read_text() == b.read_text()

    def test_earlier_results_are_safe(self, run, tmp_path):
        (tmp_path / "r").mkdir()
        (tmp_path / "r" / "precious").write_text("x")
        status, _, err = run(*COMPARE, "--model", "random", "--out", "r")
        assert (status, err.count("\n")) == (2, 1)
        assert "--overwrite" in err
        assert (tmp_path / "r" / "precious").read_text() == "x"
        assert run(*COMPARE, "--model", "random", "--out", "r", "--overwrite")[0] == 0
        assert not (tmp_path / "r" / "precious").exists()
        assert (tmp_path / "r" / "metrics.json").is_file()

    def test_an_interrupted_run_is_resumed(self, run, tmp_path, monkeypatch):
        def interrupt(task):
            raise KeyboardInterrupt

        gan = models.MODELS["gan"]
        monkeypatch.setitem(models.MODELS, "gan", replace(gan, train=interrupt))
        chosen = ("--model", "dqn", "--model", "gan", "--model", "vae", "--out", "r")
        status, _, err = run(*COMPARE, *chosen)
        assert status == 130
        assert "--resume" in err
        assert not (tmp_path / "r").exists()
        monkeypatch.setitem(models.MODELS, "gan", gan)
        dqn = models.MODELS["dqn"]
        monkeypatch.setitem(models.MODELS, "dqn", replace(dqn, train=interrupt))
        assert run(*COMPARE, *chosen, "--resume")[0] == 0
        monkeypatch.setitem(models.MODELS, "dqn", dqn)
        assert run(*COMPARE, *chosen[:-1], "whole")[0] == 0
        for name in ("dqn", "gan", "vae"):
            a, b = (tmp_path / f / f"samples_{name}.csv" for f in ("r", "whole"))
            assert a.read_text() == b.read_text()
        assert {path.name for path in tmp_path.iterdir()} == {"r", "whole"}

    def test_finished_models_of_an_interrupted_run_are_not_lost(self, run, tmp_path, monkeypatch):
        def interrupt(task):
            raise KeyboardInterrupt

        vae = models.MODELS["vae"]
        monkeypatch.setitem(models.MODELS, "vae", replace(vae, train=interrupt))
        chosen = ("--no-reference", "--out", "r", "--model", "gan", "--model", "vae")
        assert run(*COMPARE, *chosen)[0] == 130
        monkeypatch.setitem(models.MODELS, "vae", vae)
        status, _, err = run(*COMPARE, *chosen)
        assert (status, err.count("\n")) == (2, 1)
        assert "holds 1 finished models: --resume goes on with them" in err
        # another plan resumes nothing of it and publishes nothing of it
        other = ("--no-reference", "--out", "r", "--model", "random", "--resume")
        assert run(*COMPARE, *other)[0] == 0
        assert {path.name for path in (tmp_path / "r").glob("*.csv")} == {"samples_random.csv"}
        assert not (tmp_path / "r" / "models").exists()

    def test_a_folder_in_the_way_is_left_alone(self, run, tmp_path):
        (tmp_path / "mine.partial").mkdir()
        (tmp_path / "mine.partial" / "thesis.txt").write_text("x")
        status, _, err = run(*COMPARE, "--model", "random", "--out", "mine")
        assert (status, err.count("\n")) == (2, 1)
        assert "not ours" in err
        assert (tmp_path / "mine.partial" / "thesis.txt").read_text() == "x"

    def test_a_file_is_replaced_by_results(self, run, tmp_path):
        (tmp_path / "r").write_text("x")
        chosen = ("--model", "random", "--no-reference", "--out", "r", "--overwrite")
        assert run(*COMPARE, *chosen)[0] == 0
        assert {path.name for path in tmp_path.iterdir()} == {"r"}

    def test_reference_lines_stand_in_every_comparison(self, run):
        status, out, _ = run(*COMPARE, "--model", "random", "--out", "r")
        assert status == 0
        assert "optimal soft" in out
        assert "optimal hard" in out

    def test_agents_of_the_user(self, run, tmp_path):
        for seed in (0, 1):
            training = ("train", "dqn", "--preset", "quick", "--seed", seed)
            assert run(*training, "--out", f"agent{seed}.zip")[0] == 0
        chosen = ("--model", "random", "--no-reference", "--out", "r")
        agents = ("--agent", "agent0.zip", "--agent", "agent1.zip")
        status, out, _ = run(*COMPARE, *chosen, *agents)
        assert status == 0
        assert "agent0" in out
        record = json.loads((tmp_path / "r" / "metrics.json").read_text())
        assert set(record["models"]) == {"random", "agent0", "agent1"}
        hashes = {record["models"][f"agent{i}"]["runs"][0]["file_sha256"] for i in (0, 1)}
        assert len(hashes) == 2
        assert len(pd.read_csv(tmp_path / "r" / "samples_agent1.csv")) == 300
        status, out, _ = run(*COMPARE, *chosen, *agents, "--overwrite", "--masking", "composition")
        assert status == 0
        masked = json.loads((tmp_path / "r" / "metrics.json").read_text())
        for name, least in (("agent0", 1.0), ("random", 1.0)):
            assert masked["models"][name]["runs"][0]["score"]["valid_fraction"] == least
        assert record["models"]["agent0"]["runs"][0]["score"]["valid_fraction"] < 1
        status, _, err = run(*COMPARE, *chosen, *agents, "--overwrite", "--masking", "all")
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

    def test_interrupted_before_anything_is_finished(self, run, tmp_path, monkeypatch):
        def interrupt(task):
            raise KeyboardInterrupt

        monkeypatch.setitem(models.MODELS, "dqn", replace(models.MODELS["dqn"], train=interrupt))
        assert run(*COMPARE, "--out", "r")[0] == 130
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "--target-class", 0), "target_class must be 1..10, got 0"),
        (("compare", "--target-class", 11), "target_class must be 1..10, got 11"),
        (("compare", "--target-class", "x"), "--target-class"),
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
        (("train", "random", "--out", "x.pt"), "needs no training"),
        (("train", "vae", "--out", "x.txt"), "ends in .pt, got x.txt"),
        (("train", "vae"), "--out"),
        (("sample", "none.pt", "--out", "x.csv"), "no checkpoint none.pt"),
        (("sample", "random", "--out", "x.csv", "--n-samples", 0), "at least 1, got 0"),
        (("score", "none.csv"), "cannot read none.csv"),
        (("score",), "name a CSV file to score, or an agent"),
        (("score", "none.csv", "--beta", 3), "--beta goes with --agent"),
        (("score", "none.csv", "--n-samples", 3), "--n-samples goes with --agent"),
        (("compare", "--out", "."), "--out must be a folder of its own"),
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
        (("solve", "--n-samples", 0), "--n-samples must be at least 1, got 0"),
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

    def test_different_compounds_alone(self, run, tmp_path):
        assert run("train", "dqn", "--preset", "quick", "--out", "m.zip")[0] == 0
        assert run("train", "gan", "--preset", "quick", "--out", "m.pt")[0] == 0
        for model in ("m.zip", "m.pt", "sites"):
            status, out, _ = run("sample", model, "--unique", "--n-samples", 150, "--out", f"{model}.csv")
            assert status == 0
            assert "150 different compounds" in out
            table = pd.read_csv(tmp_path / f"{model}.csv")
            compounds = index_to_compound(formula_to_index(table["formula"]))
            assert len(np.unique(compounds)) == len(table) == 150
            assert set(table["status"]) <= {"novel", "rediscovered"}
        too_many = ("--unique", "--n-samples", 2_000_000, "--out", "x.csv")
        status, _, err = run("sample", "random", *too_many)
        assert (status, err.count("\n")) == (2, 1)
        assert "random: only 987,012 compounds can be drawn, 2,000,000 different ones" in err
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

    def test_reproduce_prints_target_measured_and_verdict(self, run, tmp_path, monkeypatch, tiny_defaults):
        monkeypatch.setattr("eval.reproduce.held_out_error", lambda *_: 0.1)
        status, out, _ = run(
            "reproduce", "table1", "--data", "landscape", "--seeds", 2, "--n-samples", 200, "--jobs", 1
        )
        assert status == 0
        for word in ("target", "measured", "verdict", "reached", "off by", "81.0 to 85.0", "83 ± 1"):
            assert word in out
        verdicts = (tmp_path / "results-table1" / "verdicts.md").read_text()
        assert verdicts.count("\n|") > 15

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

    def test_the_agent_is_held_against_the_best_of_the_paper(self, run, tmp_path, tiny_defaults):
        status, out, _ = run(
            "reproduce", "agent5", "--data", "landscape", "--seeds", 2, "--n-samples", 200, "--jobs", 1
        )
        assert status == 0
        for word in ("87 ± 7 (DQN)", "89 ± 2 (GAN)", "0.16 ± 0.01 (GAN)", ">= 94.0", "<= 0.060", "<= 900 s"):
            assert word in out
        record = json.loads((tmp_path / "results-agent5" / "metrics.json").read_text())
        assert list(record["models"]) == ["dqn-soft-model"]
        call = ("reproduce", "offline1", "--data", "landscape", "--seeds", 1, "--n-samples", 200, "--jobs", 1)
        status, out, _ = run(*call)
        assert status == 0
        for word in ("69 ± 8 (DQN)", "0.20 ± 0.03 (DQN)", "<= 4.0", ">= 53.0"):
            assert word in out

    def test_training_sets_of_growing_size(self, run, tmp_path, monkeypatch, tiny_defaults):
        """Every seed has a subset of its own and nothing else; what was interrupted goes on."""
        monkeypatch.setattr("eval.sizes.SIZES", (200, 400))
        call = ("reproduce", "figure8", "--data", "landscape", "--seeds", 2, "--n-samples", 200, "--jobs", 1)

        def interrupt(task):
            raise KeyboardInterrupt

        (tmp_path / "mine.partial").mkdir()
        (tmp_path / "mine.partial" / "thesis.txt").write_text("x")
        status, _, err = run(*call, "--out", "mine")
        assert (status, err.count("\n")) == (2, 1)
        assert "not of this run" in err
        assert (tmp_path / "mine.partial" / "thesis.txt").read_text() == "x"
        vae = models.MODELS["vae"]
        monkeypatch.setitem(models.MODELS, "vae", replace(vae, train=interrupt))
        assert run(*call)[0] == 130
        monkeypatch.setitem(models.MODELS, "vae", vae)
        status, _, err = run(*call)
        assert (status, err.count("\n")) == (2, 1)
        assert "--resume" in err
        status, out, _ = run(*call, "--resume")
        assert status == 0
        assert "DQN soft, model" in out
        folder = tmp_path / "results-figure8"
        record = json.loads((folder / "sizes.json").read_text())
        assert list(record["sizes"]) == ["200", "400", "21120"]
        for size, entry in record["sizes"].items():
            subsets = [load_training_set(subset=int(size), seed=seed) for seed in (0, 1)]
            for name in ("vae", "dqn-soft-model"):
                labels = [seen["labels"] for seen in entry[name]["access"]]
                assert labels == [subset.n_labels for subset in subsets]
        assert (folder / "figure_sizes.png").read_bytes()[:4] == b"\x89PNG"
        hashes = set()
        for seed in (0, 1):
            from agents import AgentSampler

            agent = AgentSampler.load(folder / "size-200" / "models" / f"dqn-soft-model-{seed}.zip")
            assert agent.model.trained_on["rows"] == 200
            hashes.add(agent.model.trained_on["sha256"])
        assert len(hashes) == 2
        assert not list(folder.rglob("plan.json"))
        assert run(*call, "--out", "whole")[0] == 0
        again = json.loads((tmp_path / "whole" / "sizes.json").read_text())
        for size in record["sizes"]:
            for name in ("vae", "dqn-soft-model"):
                for key in ("precision", "coverage", "js_distance"):
                    assert record["sizes"][size][name][key] == again["sizes"][size][name][key]

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
def test_ctrl_c_in_training_leaves_nothing_half_done(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "old").write_text("old")
    call = [sys.executable, "-m", "eval", "compare", "--out", "r", "--overwrite", "--jobs", "2"]
    process = subprocess.Popen(
        call, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    started = time.monotonic()
    while not list(tmp_path.glob("r.partial/progress/*")) and time.monotonic() - started < 120:
        time.sleep(0.5)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["old"]
    assert not list(tmp_path.rglob("*.json"))


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
