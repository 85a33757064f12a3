"""The search: what a trial is judged by, what a storage holds, and what several processes make of one."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elpa_env import TrainingSet, load_training_set
from elpa_env.errors import InputError
from elpa_env.ranges import Between, Choice
from elpa_env.space import ELPASOLITE_SPACE as space
from eval import search
from eval.search import SearchPlan, complete, existing_study, front, judge_trial, open_study, pick, run_trials
from eval.study import registry
from generative.vae import VAEConfig

optuna = search.import_optuna()


@pytest.fixture
def quick(monkeypatch):
    """A search of the VAE whose trials take a blink."""
    ranges = {
        "hidden": Choice(((4,), (8, 8))),
        "learning_rate": Between(1e-4, 1e-2, log=True),
        "latent_dim": Between(2, 5, whole=True),
    }
    spec = replace(registry.MODELS["vae"], search=ranges)
    presets = {
        **spec.presets,
        "quick": replace(spec.presets["quick"], config=VAEConfig(n_updates=2, batch_size=8)),
    }
    monkeypatch.setitem(registry.MODELS, "vae", replace(spec, presets=presets))


PLAN = {"preset": "quick", "n_samples": 40}


class TestTrials:
    def test_depend_on_seed_and_number_alone(self, quick, small_set, tmp_path):
        plan = SearchPlan("vae", **PLAN)
        run_trials(str(tmp_path / "a"), plan, small_set, 4)
        run_trials(str(tmp_path / "b"), plan, small_set, 2)
        run_trials(str(tmp_path / "b"), plan, small_set, 4)  # goes on
        one, other = (
            [(t.params, t.values) for t in existing_study(str(tmp_path / n), "vae").trials] for n in "ab"
        )
        assert one == other
        assert len({str(params) for params, _ in one}) == 4
        run_trials(str(tmp_path / "c"), replace(plan, seed=1), small_set, 1)
        assert existing_study(str(tmp_path / "c"), "vae").trials[0].params != one[0][0]

    def test_configurations_are_in_range(self, quick, small_set, tmp_path):
        run_trials(str(tmp_path / "a"), SearchPlan("vae", **PLAN), small_set, 3)
        for trial in existing_study(str(tmp_path / "a"), "vae").trials:
            config = trial.user_attrs["config"]
            assert tuple(config["hidden"]) in ((4,), (8, 8))
            assert 1e-4 <= config["learning_rate"] <= 1e-2
            assert config["latent_dim"] in range(2, 6)
            assert config["n_updates"] == 2

    def test_fields_of_fields(self):
        from agents.train import SEARCH, DQNConfig

        trial = optuna.trial.FixedTrial(
            {name: 0 if isinstance(r, Choice) else r.low for name, r in SEARCH["model"].items()}
        )
        config = search.suggest(trial, SEARCH["model"], DQNConfig())
        assert config.replay_share == SEARCH["model"]["replay_share"].values[0]
        assert config.reward_model.sharpness == SEARCH["model"]["reward_model.sharpness"].low

    @pytest.mark.parametrize("name", [name for name, spec in registry.MODELS.items() if spec.search])
    def test_every_range_is_of_a_field(self, name):
        spec = registry.MODELS[name]
        study = optuna.create_study(directions=["minimize"])
        for _ in range(5):
            search.suggest(study.ask(), spec.search, spec.presets["default"].config)

    def test_figures_by_hand(self, monkeypatch):
        """A sampler that repeats three known rows, one of them held out, and one new composition."""
        formulas = ["AlNaK2F6", "CsAlK2F6", "NaSrCs2F6", "CaRbCs2F6", "LiRbBa2F6", "InTlI2Br6"]
        rows = TrainingSet(
            space.formula_to_index(formulas), np.array([-3.0, -2.9, -2.8, -2.7, -2.6, 1.0]), "six"
        )
        kept, left = search._split(rows, 0.34, 0)
        assert (len(kept), len(left)) == (4, 2)
        assert set(kept.index) | set(left.index) == set(rows.index)
        new = space.formula_to_index(["CsRbNa2Cl6"])
        drawn = np.concatenate([kept.index[:2], left.index, new])

        class Repeats:
            name = "repeats"

            def sample(self, n, *, target_class, seed=None):
                return space.index_to_digits(np.resize(drawn, n))

        seen = []

        def train(task):
            seen.append(task.training_set)
            return Repeats()

        monkeypatch.setitem(registry.MODELS, "vae", replace(registry.MODELS["vae"], train=train))
        found = judge_trial(SearchPlan("vae", n_samples=50, held_out=0.34), rows, VAEConfig(), 0)
        assert set(seen[0].index) == set(kept.index)
        assert found["new"] == 3  # what is held out is new to the model
        right = (left.energy_class == 1).mean()
        assert found["held_out_precision"] == pytest.approx(right)
        assert found["held_out_coverage"] == 1
        assert 0 < found["js_distance"] < 1
        whole = judge_trial(SearchPlan("vae", n_samples=50), rows, VAEConfig(), 0)
        assert list(whole) == ["js_distance", "new"]
        assert whole["new"] == 1

    def test_orders_of_a_compound_are_held_out_together(self):
        rows = load_training_set()
        kept, left = search._split(rows, 0.2, 3)
        assert not np.isin(space.index_to_compound(left.index), space.index_to_compound(kept.index)).any()
        assert len(left) / len(rows) == pytest.approx(0.2, abs=0.01)

    def test_one_that_fails_is_kept_and_passed_over(self, quick, small_set, tmp_path, monkeypatch):
        calls = []

        def fails(plan, training_set, config, number, device, repeat=0):
            calls.append(number)
            if number % 2 == 0:
                raise InputError("it diverged")
            return {"js_distance": 0.5, "new": 3.0}

        monkeypatch.setattr(search, "judge_trial", fails)
        lines = []
        run_trials(
            str(tmp_path / "a"),
            SearchPlan("vae", **PLAN),
            small_set,
            2,
            report=lambda *line: lines.append(line),
        )
        study = existing_study(str(tmp_path / "a"), "vae")
        assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "FAIL", "COMPLETE"]
        assert study.trials[0].user_attrs["failed"] == "it diverged"
        assert lines[0] == (0, 2, "trial 0 failed: it diverged")
        monkeypatch.setattr(search, "judge_trial", lambda *a: fails(a[0], a[1], a[2], 0, a[4]))
        with pytest.raises(InputError, match="trials failed, the last one since it diverged"):
            run_trials(str(tmp_path / "b"), SearchPlan("vae", **PLAN), small_set, 1)


class TestFront:
    def study(self, values, model="vae", xs=None, **plan):
        plan = SearchPlan(model, **plan)
        study = optuna.create_study(directions=[search._DIRECTIONS[name] for name in plan.objectives])
        study.set_user_attr("plan", {**plan.record(load_training_set()), "seed": 0})
        where = {"x": optuna.distributions.IntDistribution(0, 99)}
        for x, each in zip(xs or range(99), values, strict=False):
            made = optuna.trial.create_trial(params={"x": x}, distributions=where, values=list(each))
            study.add_trial(made)
        return study

    def test_by_hand(self):
        study = self.study([(0.3, 900), (0.2, 500), (0.1, 300), (0.25, 400), (0.4, 1000), (0.2, 450)])
        assert [trial.number for trial in front(study)] == [2, 1, 0, 4]
        assert pick(study).number == 1  # trial 2 shows less than half of 1,000

    def test_held_out_rows_decide(self):
        """Harmonic means 0.6, 0.48, 0.62, 0: neither the most right ones nor the most found ones alone."""
        values = [(0.3, 900, 0.9, 0.45), (0.2, 600, 0.4, 0.6), (0.1, 300, 0.7, 0.56), (0.5, 10, 1.0, 0.0)]
        assert pick(self.study(values, held_out=0.3)).number == 2

    def test_a_reward_model_demands_precision(self):
        values = [(0.3, 900, 0.89, 0.9), (0.2, 600, 0.91, 0.6), (0.1, 300, 0.95, 0.5)]
        assert pick(self.study(values, "dqn-soft-model")).number == 1
        assert pick(self.study(values[:1], "dqn-soft-model")).number == 0
        with_rows = [(*v[:2], 0.5, 0.5, *v[2:]) for v in values]
        assert pick(self.study(with_rows, "dqn-soft-model", held_out=0.2)).number == 1

    def test_luck_does_not_last(self):
        """Setting 0 was best once; of those that were trained again the best mean is picked."""
        once = [(0.3, 900, 0.9, 0.9), (0.3, 900, 0.7, 0.7), (0.3, 900, 0.6, 0.6)]
        again = [(0.3, 900, 0.3, 0.3), (0.3, 900, 0.7, 0.7)]
        study = self.study([*once, *again], held_out=0.3, xs=[0, 1, 2, 0, 1])
        assert pick(study).number == 1
        assert [(s.number, s.trials) for s in search.settings(study)] == [(0, 2), (1, 2), (2, 1)]
        assert search.settings(study)[0].values == pytest.approx((0.3, 900, 0.6, 0.6))

    @given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
    def test_the_front_is_optunas(self, values):
        study = self.study(values)
        assert {s.number for s in front(study)} == {t.number for t in study.best_trials}

    def test_a_reward_model_by_itself(self):
        assert pick(self.study([(0.3,), (0.1,), (0.2,)], "reward-model")).number == 1

    def test_of_nothing(self):
        with pytest.raises(InputError, match="no trial is complete yet"):
            pick(self.study([]))


class TestExpected:
    def test_by_hand(self):
        """Two compositions of probability 1 and 0.5 in the class, drawn with 0.75 and 0.25."""
        index = np.flatnonzero(space.composition_mask)[[5, 9]]

        class Knows:
            def __init__(self):
                self.space = space

            def class_probability(self, asked, target_class):
                assert target_class == 2
                return np.where(asked == index[0], 1.0, np.where(asked == index[1], 0.5, 0.0))

        distribution = np.zeros(space.n_table)
        distribution[index] = 0.6, 0.2  # a fifth of the candidates is no composition
        found = search.expected_figures(Knows(), distribution, target_class=2, n_samples=3)
        assert found["expected_precision"] == pytest.approx(0.75 + 0.25 * 0.5)
        covered = (1 * (1 - 0.25**3) + 0.5 * (1 - 0.75**3)) / 1.5
        assert found["expected_coverage"] == pytest.approx(covered)

    @pytest.mark.slow
    def test_of_an_agent_and_its_reward_model(self, monkeypatch):
        """What a trial states is what its own reward model says of its distribution."""
        from agents.train import VARIANTS

        rows = load_training_set()
        config = VARIANTS["dqn-soft-model"].presets["small"].config
        config = replace(config, n_updates=80, n_envs=16, batch_size=64)
        config = replace(config, reward_model=replace(config.reward_model, n_updates=60))
        kept = []
        trained = registry.MODELS["dqn-soft-model"].train
        spec = replace(
            registry.MODELS["dqn-soft-model"], train=lambda task: kept.append(trained(task)) or kept[0]
        )
        monkeypatch.setitem(registry.MODELS, "dqn-soft-model", spec)
        plan = SearchPlan("dqn-soft-model", n_samples=500)
        found = judge_trial(plan, rows, config, 0)
        assert list(found)[:4] == plan.objectives
        model = search._reward_model(kept[0])
        again = search.expected_figures(model, kept[0].distribution(1), target_class=1, n_samples=500)
        assert {key: found[key] for key in again} == again
        assert found["class_log_loss"] == model.report["log_loss"]

    def test_the_reward_model_is_judged_by_what_it_left_out(self, small_set):
        from tests.test_online import SMALL_MODEL

        found = judge_trial(SearchPlan("reward-model"), small_set, SMALL_MODEL, 0)
        assert found == judge_trial(SearchPlan("reward-model"), small_set, SMALL_MODEL, 0)
        assert set(found) == {"class_log_loss", "mae"}
        with pytest.raises(InputError, match="--held-out does not go with reward-model"):
            SearchPlan("reward-model", held_out=0.1)


class TestRepeats:
    def run(self, small_set, tmp_path, n=3, **how):
        run_trials(str(tmp_path / "a"), SearchPlan("vae", **PLAN, held_out=0.3), small_set, n, **how)
        return existing_study(str(tmp_path / "a"), "vae")

    def test_the_best_are_trained_again_on_other_rows(self, quick, small_set, tmp_path, monkeypatch):
        seen = []

        def counted(plan, training_set, config, number, device, repeat=0):
            seen.append((number, repeat, config.hidden, config.learning_rate))
            value = 0.1 + number % 3 / 10
            return dict(zip(plan.objectives, (0.5, 3.0, value, value), strict=True))

        monkeypatch.setattr(search, "judge_trial", counted)
        study = self.run(small_set, tmp_path, finalists=2, repeats=2)
        assert [each[:2] for each in seen] == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2)]
        assert [each[2:] for each in seen[3:]] == [seen[i][2:] for i in (2, 1, 2, 1)]
        assert [(s.number, s.trials) for s in search.settings(study)] == [(0, 1), (1, 3), (2, 3)]
        self.run(small_set, tmp_path, finalists=2, repeats=2)  # nothing is left to do
        assert len(seen) == 7
        self.run(small_set, tmp_path, finalists=2, repeats=3)
        assert [each[1] for each in seen[7:]] == [3, 3]

    def test_what_a_dead_process_left_is_made(self, quick, small_set, tmp_path, monkeypatch):
        study = self.run(small_set, tmp_path, finalists=1, repeats=0)
        best = search.ranked(study, search.settings(study))[0]
        study.enqueue_trial(best.params, user_attrs={"repeat": 1})
        dead = study.ask()
        assert dead.user_attrs["repeat"] == 1
        self.run(small_set, tmp_path, finalists=1, repeats=1)  # it may still be at work
        assert len(complete(study)) == 3
        monkeypatch.setattr(search, "_PATIENCE", 0)
        self.run(small_set, tmp_path, finalists=1, repeats=1)
        assert len(complete(study)) == 4

    def test_every_repeat_has_rows_of_its_own(self):
        rows = load_training_set()
        left = [search._split(rows, 0.3, 0, repeat)[1].sha256 for repeat in range(3)]
        assert len(set(left)) == 3

    def test_numbers_out_of_range(self, quick, small_set, tmp_path):
        for wrong in ({"finalists": 0}, {"repeats": -1}):
            with pytest.raises(InputError, match="--finalists must be at least 1 and --repeats 0"):
                self.run(small_set, tmp_path, **wrong)


def test_a_record_as_a_table_and_as_points(quick, small_set, tmp_path):
    how = {"finalists": 1, "repeats": 1}
    run_trials(str(tmp_path / "a"), SearchPlan("vae", **PLAN, held_out=0.3), small_set, 3, **how)
    record = search.search_record(existing_study(str(tmp_path / "a"), "vae"))
    columns, rows = search.trial_rows(record)
    assert len(rows) == 3
    assert {len(row) for row in rows} == {len(columns)}
    assert rows[0][0] == f"{record['pick']} *"
    points = search.search_points(record)
    assert len(record["trials"]) == 4
    assert sorted(setting["trials"] for setting in record["settings"]) == [1, 1, 2]
    by_number = {setting["number"]: setting for setting in record["settings"]}
    assert points.points == {n: (t["js_distance"], t["new"]) for n, t in by_number.items()}
    assert points.pick == record["pick"]
    assert record["rule"] == search.RULES["held_out"]


class TestStorage:
    def test_of_another_plan(self, quick, small_set, tmp_path):
        storage = str(tmp_path / "a")
        open_study(storage, SearchPlan("vae", **PLAN), small_set)
        with pytest.raises(InputError, match="a search of vae with n_samples 40, not 41"):
            open_study(storage, SearchPlan("vae", preset="quick", n_samples=41), small_set)

    @pytest.mark.parametrize(
        ("storage", "message"),
        [
            ("", "must be a file"),
            ("nowhere/a", "must be a file"),
            ("text", "is no storage"),
            ("postgresql://x", "cannot use"),
        ],
    )
    def test_that_is_none(self, quick, small_set, tmp_path, monkeypatch, storage, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "text").write_text("hello")
        with pytest.raises(InputError, match=message):
            open_study(storage or ".", SearchPlan("vae", **PLAN), small_set)

    def test_a_database_of_optuna(self, quick, small_set, tmp_path):
        pytest.importorskip("sqlalchemy")
        storage = f"sqlite:///{tmp_path / 'a.db'}"
        run_trials(storage, SearchPlan("vae", **PLAN), small_set, 1)
        assert len(complete(existing_study(storage, "vae"))) == 1


class TestCommand:
    ARGUMENTS = ("search", "vae", "--preset", "quick", "--n-samples", 30, "--repeats", 0)

    def test_searches_goes_on_and_shows(self, run, quick, tmp_path):
        status, out, err = run(*self.ARGUMENTS, "--n-trials", 2)
        assert (status, err) == (0, "")
        assert "2/2 trial 1: JS distance to the training set 0." in out
        assert "front of 2 trials" in out
        status, out, _ = run(*self.ARGUMENTS, "--n-trials", 3, "--out", "s.json")
        assert status == 0
        assert "trial 0:" not in out
        record = json.loads((tmp_path / "s.json").read_text())
        assert [trial["state"] for trial in record["trials"]] == ["complete"] * 3
        assert record["pick"] in record["front"]
        assert (tmp_path / "s.png").stat().st_size > 5_000
        status, out, _ = run("search", "vae", "--show")
        assert status == 0
        assert "front of 3 trials" in out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("search", "vae", "--show"), "no search in search-vae.journal"),
            (("search", "pairs"), "pairs has nothing to search"),
            (("search", "dqn-soft-oracle"), "dqn-soft-oracle has nothing to search"),
            (("search", "vae", "--held-out", "0.9"), "--held-out must be 0..0.5, got 0.9"),
            (
                ("search", "vae", "--sampler", "grid"),
                "sampler must be one of random, tpe, nsgaii, got 'grid'",
            ),
            (("search", "vae", "--preset", "huge"), "vae has no preset 'huge'"),
            (("search", "vae", "--n-trials", "0"), "--n-trials must be at least 1, got 0"),
        ],
    )
    def test_bad_input(self, run, arguments, message):
        status, _, err = run(*arguments)
        assert status == 2
        assert message in err
        assert err.count("\n") == 1

    def test_other_samplers_and_another_space(self, run, quick):
        for sampler in ("tpe", "nsgaii"):
            arguments = (*self.ARGUMENTS, "--space", "abo3", "--sampler", sampler, "--storage", sampler)
            assert run(*arguments, "--n-trials", 2)[0] == 0


SCRIPT = """
import sys, time
import numpy as np
from eval import search
from tests.test_search import ROWS

def trial(plan, training_set, config, number, device, repeat):
    time.sleep(0.4)
    return {"js_distance": 1 / (number + 2), "new": float(number)}

search.judge_trial = trial
search.run_trials(sys.argv[1], search.SearchPlan("vae"), ROWS, 8)
"""
ROWS = TrainingSet(space.formula_to_index(["AlNaK2F6", "CsAlK2F6"]), np.array([-3.0, -2.9]), "two")


@pytest.mark.slow
def test_two_processes_share_a_storage_and_one_is_killed(tmp_path):
    """What is complete stays; the other goes on to the number that was asked for, no trial made twice."""
    storage = str(tmp_path / "s")
    command = [sys.executable, "-c", SCRIPT, storage]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        time.sleep(0.2)
        if (tmp_path / "s").is_file() and len(complete(existing_study(storage, "vae"))) >= 3:
            break
    both[0].send_signal(signal.SIGKILL)
    both[0].wait()
    assert both[1].wait(timeout=100) == 0
    study = existing_study(storage, "vae")
    assert 8 <= len(complete(study)) <= 9
    assert len({str(trial.params) for trial in study.trials}) == len(study.trials)
