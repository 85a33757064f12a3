"""The frontier of beta: the sweep against one distribution after another, and what `elpa frontier` leaves."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from stable_baselines3 import PPO

from agents import AgentSampler, BoltzmannDQN, make_vec_env
from elpa_env.errors import InputError
from elpa_env.solve import solve
from elpa_env.space import ELPASOLITE_SPACE as space
from eval.frontier import check_betas, sweep_agents
from eval.judge import load_judge
from eval.metrics import coverage_ceiling

NETWORK = {"policy_kwargs": {"net_arch": [8]}, "seed": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def agent():
    return BoltzmannDQN("MlpPolicy", None, target_class=3, **NETWORK)


def test_tabulate_holds_every_state_that_a_composition_can_follow():
    asked = []

    def values(step, digits):
        asked.append(len(digits))
        return digits * (step + 1.0)

    levels = space.tree.tabulate(values)
    assert sum(asked) == 394_268
    compositions = space.index_to_digits(np.flatnonzero(space.composition_mask))
    for step, level in enumerate(levels):
        assert level.shape == (space.tree.sizes[step], 8)
        known = np.unique(space.tree.digits_to_codes(step, compositions))
        expected = np.full(level.shape, np.nan)
        expected[known] = space.tree.codes_to_digits(step, known) * (step + 1.0)
        np.testing.assert_array_equal(level, expected)


class TestSweep:
    @pytest.mark.parametrize("masking", [None, "digits", "composition"])
    def test_is_one_distribution_after_another(self, agent, masking):
        betas = (0.0, 5.0, 0.5, math.inf)
        sampler = AgentSampler(agent, masking=masking)
        for beta, swept in zip(betas, sampler.sweep(3, betas), strict=True):
            alone = AgentSampler(agent, masking=masking, beta=beta).distribution(3)
            np.testing.assert_allclose(swept, alone, rtol=1e-9, atol=1e-300)

    def test_the_network_is_asked_once(self, agent, monkeypatch):
        sampler, states = AgentSampler(agent), []
        forward = sampler._logits
        monkeypatch.setattr(sampler, "_logits", lambda batch: states.append(len(batch)) or forward(batch))
        assert len(list(sampler.sweep(3, (1.0, 2.0, 3.0)))) == 3
        assert sum(states) == 394_268

    def test_what_has_no_beta(self, agent):
        ppo = AgentSampler(PPO("MlpPolicy", make_vec_env(2, target_class=3), **NETWORK), target_class=3)
        for sampler, word in (
            (ppo, "PPO in mode stochastic"),
            (AgentSampler(agent, mode="greedy"), "greedy"),
        ):
            with pytest.raises(InputError, match=f"no beta to vary: .*{word}"):
                next(sampler.sweep(3, [1.0]))
        with pytest.raises(InputError, match="beta must be at least 0, got nan"):
            next(AgentSampler(agent).sweep(3, [math.nan]))
        with pytest.raises(InputError, match="trained for class 3, not 4"):
            next(AgentSampler(agent).sweep(4, [1.0]))


class TestFrontier:
    def test_record(self, agent, landscape, judge):
        samplers = [AgentSampler(agent, name="a"), AgentSampler(agent, name="b", masking="composition")]
        calls = []
        betas = (0.0, 4.0, math.inf)
        record = sweep_agents(
            samplers,
            betas,
            judge=judge,
            target_class=3,
            n_samples=500,
            progress=lambda *call: calls.append(call),
        )
        assert calls[-1] == (8, 8)
        assert record["coverage_ceiling"] == coverage_ceiling(int(landscape.class_counts[3]), 500)
        curves = {curve["name"]: curve for curve in record["curves"]}
        assert list(curves) == ["a", "b", "optimal-hard", "optimal-soft"]
        assert [curve["reference"] for curve in curves.values()] == [False, False, True, True]
        for name, masking in (("a", "digits"), ("b", "composition")):
            assert curves[name]["masking"] == masking
            assert [point["beta"] for point in curves[name]["points"]] == [0.0, 4.0, "inf"]
            uniform, _, greedy = curves[name]["points"]
            assert uniform["entropy_bits"] > 20
            assert greedy["entropy_bits"] == 0 or greedy["entropy_bits"] is None
        assert curves["b"]["points"][1]["valid_fraction"] == pytest.approx(1)
        for name, backup in (("optimal-hard", "max"), ("optimal-soft", "soft")):
            (point,) = curves[name]["points"]
            p = solve(3, backup=backup, beta=4.0).distribution()
            assert point["success_rate"] == pytest.approx(p[landscape.members(3)].sum(), rel=1e-9)
            assert point["coverage"] <= record["coverage_ceiling"]
        alone = sweep_agents(
            samplers[:1], (2.0,), judge=judge, target_class=3, n_samples=500, reference=False
        )
        assert [curve["name"] for curve in alone["curves"]] == ["a"]

    def test_another_judge(self, agent, judge):
        symmetric = load_judge("symmetric")
        sampler = AgentSampler(agent, name="a", masking="composition")
        papers, other = (
            sweep_agents([sampler], (4.0,), judge=one, target_class=3, n_samples=500)
            for one in (judge, symmetric)
        )
        assert papers["judge"] == judge.record()
        assert other["judge"] == symmetric.record()
        assert other["class_members"] == symmetric.class_counts[3] != papers["class_members"]
        (p,) = sampler.sweep(3, (4.0,))
        for record, one in ((papers, judge), (other, symmetric)):
            curves = {curve["name"]: curve["points"][0] for curve in record["curves"]}
            assert curves["a"]["success_rate"] == pytest.approx(p[one.members(3)].sum(), rel=1e-9)
            solved = solve(3, backup="soft", beta=4.0, landscape=one).distribution()
            assert curves["optimal-soft"]["success_rate"] == pytest.approx(solved[one.members(3)].sum())
            assert curves["a"]["judge"] == one.name

    def test_names_must_differ(self, agent, judge):
        with pytest.raises(InputError, match="agents must differ in name, got dqn, dqn"):
            sweep_agents([AgentSampler(agent)] * 2, (1.0,), judge=judge, target_class=3, n_samples=5)

    @pytest.mark.parametrize("text", ["", "1,x", "1,,2", "-1", "nan", "1,1.0"])
    def test_betas(self, text):
        with pytest.raises(InputError, match="--betas must be"):
            check_betas(text)
        assert check_betas("0, 2.5,inf") == (0.0, 2.5, math.inf)


class TestCommand:
    def test_leaves_everything_it_promises(self, run, agent, tmp_path):
        agent.save(tmp_path / "mine.zip")
        arguments = ("frontier", "mine.zip", "--target-class", 3, "--betas", "0,3,inf", "--n-samples", 200)
        status, out, _ = run(*arguments, "--out", "f")
        assert status == 0
        for word in ("mine", "optimal-soft", "entropy / bits", "inf", "results in f", "judge: paper"):
            assert word in out
        record = json.loads((tmp_path / "f" / "frontier.json").read_text())
        assert (record["schema_version"], record["target_class"], record["n_samples"]) == (1, 3, 200)
        assert (tmp_path / "f" / "figure_frontier.png").read_bytes()[:4] == b"\x89PNG"
        text = (tmp_path / "f" / "table.txt").read_text()
        (mine, *_) = record["curves"]
        assert f"{mine['points'][1]['precision'] * 100:.2f} %" in text
        assert {path.name for path in tmp_path.iterdir()} == {"mine.zip", "f"}
        status, _, err = run(*arguments, "--out", "f")
        assert (status, err.count("\n"), "--overwrite" in err) == (2, 1, True)
        status, out, _ = run(*arguments, "--out", "f", "--overwrite", "--no-reference")
        assert status == 0
        assert "optimal-soft " not in out

    def test_bad_input_is_one_line(self, run, agent, tmp_path):
        agent.save(tmp_path / "mine.zip")
        PPO("MlpPolicy", make_vec_env(2, target_class=3), **NETWORK).save(tmp_path / "ppo.zip")
        for arguments, message in (
            (("none.zip",), "no agent none.zip"),
            (("mine.zip", "--target-class", 4), "trained for class 3, not 4"),
            (("ppo.zip", "--target-class", 3), "pass trust=True (--trust)"),
            (("ppo.zip", "--target-class", 3, "--trust"), "ppo has no beta to vary"),
            (("mine.zip", "--target-class", 3, "--betas", "one"), "numbers parted by commas"),
            (
                ("mine.zip", "--target-class", 3, "--n-samples", 0),
                "number of samples must be at least 1, got 0",
            ),
            (("mine.zip", "mine.zip", "--target-class", 3), "agents must differ in name"),
        ):
            status, _, err = run("frontier", *arguments)
            assert (status, err.count("\n")) == (2, 1)
            assert message in err
        assert {path.name for path in tmp_path.iterdir()} == {"mine.zip", "ppo.zip"}


def test_a_hard_solution_has_the_same_values_at_every_beta():
    """Why the sweep solves the hard backup once."""
    at_two = replace(solve(1, beta=5.0), beta=2.0).distribution()
    np.testing.assert_array_equal(at_two, solve(1, beta=2.0).distribution())
