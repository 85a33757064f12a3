"""The flow network: trajectory balance by hand and by torchgfn, what training comes to, checkpoints."""

import math
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th

from agents.gflownet import (
    ForwardPolicy,
    GFlowNetConfig,
    GFlowNetSampler,
    episodes_of,
    trajectory_balance,
)
from agents.plan import PlanSampler
from agents.reward_model import RewardModelConfig
from agents.train import VARIANTS, WARM_UP
from elpa_env import TrainingSet, make_space
from elpa_env.checkpoint import read_checkpoint, write_checkpoint
from elpa_env.errors import InputError
from elpa_env.prototype import Prototype, Site
from elpa_env.rules import action_masks
from eval.metrics import element_distribution, js_distance
from eval.search import SearchPlan, judge_trial
from eval.study.registry import load_sampler
from tests.test_any_prototype import TARGETS, energies

REWARD_MODEL = RewardModelConfig(members=2, embedding=4, hidden=16, n_updates=200, batch_size=16)
CONFIG = GFlowNetConfig(
    beta=2.0, hidden=(32, 32), n_rounds=WARM_UP + 40, n_episodes=64, n_updates=600, batch_size=64,
    learning_rate=1e-2, reward_model=REWARD_MODEL,
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    """Three sites; no element twice."""
    sites = (Site("A", ("Li", "Na", "K", "Ca")), Site("B", ("Na", "K", "Ti")), Site("C", ("Li", "O", "Cl")))
    return make_space(Prototype("tiny", sites), TARGETS)


@pytest.fixture(scope="module")
def rows(tiny):
    index = np.flatnonzero(tiny.composition_mask)[::2]
    return TrainingSet(index, energies(tiny.index_to_numbers(index)), "every other", tiny)


@pytest.fixture(scope="module")
def trained(tiny, rows):
    return GFlowNetSampler(1, CONFIG, space=tiny, seed=3).fit(rows)


class TestTrajectoryBalance:
    def test_by_hand(self):
        """Two episodes of two steps: (1 + log 1/2 + log 1/3 - 0)² and (1 + log 1/2 + log 2/3 - 1)²."""
        forward = th.tensor([[1 / 2, 1 / 3], [1 / 2, 2 / 3]]).log()
        found = trajectory_balance(th.tensor(1.0), forward, th.tensor([0.0, 1.0]))
        expected = ((1 - math.log(6)) ** 2 + math.log(3) ** 2) / 2
        assert found.item() == pytest.approx(expected, rel=1e-6)

    def test_is_zero_for_the_exact_policy(self, tiny):
        """P_F from sums of R below every state, reckoned from the table of all compositions."""
        real = np.flatnonzero(tiny.composition_mask)
        log_reward = np.sin(np.arange(len(real)) * 1.7)
        digits = tiny.index_to_digits(real)
        log_forward = np.zeros(digits.shape)
        for i in range(len(real)):
            for step in range(tiny.n_steps):
                here, there = (
                    (digits[:, :upto] == digits[i, :upto]).all(axis=1) for upto in (step, step + 1)
                )
                log_forward[i, step] = np.log(
                    np.exp(log_reward[there]).sum() / np.exp(log_reward[here]).sum()
                )
        log_z = th.tensor(np.log(np.exp(log_reward).sum()))
        exact = th.tensor(log_forward), th.tensor(log_reward)
        assert trajectory_balance(log_z, *exact).item() == pytest.approx(0, abs=1e-20)
        assert trajectory_balance(log_z + 0.5, *exact).item() == pytest.approx(0.25)

    def test_against_torchgfn(self, tiny):
        """The loss of torchgfn's class, and its gradient by log Z, given the same log P_F."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what torchgfn itself imports
            their_loss = pytest.importorskip("gfn.gflownet").TBGFlowNet

        rng = np.random.default_rng(0)
        real = np.flatnonzero(tiny.composition_mask)[rng.integers(tiny.n_compositions, size=20)]
        model = GFlowNetSampler(1, CONFIG, space=tiny)
        episodes = episodes_of(tiny, tiny.index_to_digits(real), rng.normal(size=20), th.device("cpu"))
        log_forward = model.policy.along(episodes).detach()

        class Theirs(their_loss):
            def get_pfs_and_pbs(self, trajectories, recalculate_all_logprobs=True):
                return log_forward.T, th.zeros_like(log_forward.T)

        theirs = Theirs(pf=SimpleTable(), pb=None, init_logZ=0.7, constant_pb=True)
        trajectories = SimpleNamespace(
            log_rewards=episodes.log_reward, states=SimpleNamespace(conditions=None), batch_size=20
        )
        expected = theirs.loss(None, trajectories)
        log_z = th.tensor(0.7, requires_grad=True)
        found = trajectory_balance(log_z, log_forward, episodes.log_reward)
        th.testing.assert_close(found, expected)
        expected.backward()
        found.backward()
        th.testing.assert_close(log_z.grad, theirs.logZ.grad)


class SimpleTable(th.nn.Module):
    """What stands in the place of torchgfn's policy, which is not asked."""


class TestEpisodes:
    def test_states_and_masks(self, tiny):
        """Every state before its action, by the rules of the environment, one at a time."""
        real = np.flatnonzero(tiny.composition_mask)
        digits = tiny.index_to_digits(real)
        episodes = episodes_of(tiny, digits, np.zeros(len(real)), th.device("cpu"))
        for step in range(tiny.n_steps):
            state = digits.copy()
            state[:, step:] = 0
            np.testing.assert_array_equal(episodes.observation[:, step], tiny.scale(state))
            np.testing.assert_array_equal(episodes.masks[:, step], action_masks(tiny, state, "composition"))
        np.testing.assert_array_equal(episodes.actions + 1, digits)
        assert episodes.masks.gather(2, episodes.actions[..., None]).all()

    def test_log_p_along_is_the_distribution(self, tiny):
        """Sums along episodes against what walking the tree gives."""
        model = GFlowNetSampler(1, CONFIG, space=tiny, seed=5)
        real = np.flatnonzero(tiny.composition_mask)
        episodes = episodes_of(tiny, tiny.index_to_digits(real), np.zeros(len(real)), th.device("cpu"))
        along = model.policy.along(episodes).sum(dim=1).exp().detach().numpy()
        np.testing.assert_allclose(along, model.distribution(1)[real], rtol=1e-4)
        assert along.sum() == pytest.approx(1, rel=1e-5)

    def test_log_z_starts_near_the_truth(self, tiny):
        """The mean of R / P over random episodes is the sum of R."""
        model = GFlowNetSampler(1, CONFIG, space=tiny)
        digits = model._act(20_000, 1.0, np.random.default_rng(0))
        log_reward = np.cos(tiny.digits_to_index(digits) * 0.9)
        model._guess_log_z(digits, log_reward)
        every = np.exp(np.cos(np.flatnonzero(tiny.composition_mask) * 0.9)).sum()
        assert model.policy.log_z.item() == pytest.approx(np.log(every), abs=0.05)

    def test_acting_follows_the_policy(self, tiny):
        model = GFlowNetSampler(1, CONFIG, space=tiny, seed=2)
        p = model.distribution(1)
        index = tiny.digits_to_index(model._act(20_000, 0.0, np.random.default_rng(1)))
        share = np.bincount(index, minlength=tiny.n_table) / 20_000
        assert (np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / 20_000)).all()


class TestTraining:
    def test_comes_near_the_exact_distribution(self, tiny, rows, trained):
        """That of ``plan`` with the same reward model, far nearer than before training."""
        plan = PlanSampler(
            replace(
                VARIANTS["dqn-soft-model"].presets["default"].config, beta=2.0, reward_model=REWARD_MODEL
            ),
            seed=3,
        ).fit(rows)
        exact = plan.distribution(1)
        assert np.abs(trained.distribution(1) - exact).sum() / 2 < 0.05
        untrained = GFlowNetSampler(1, CONFIG, space=tiny, seed=3).distribution(1)
        assert np.abs(untrained - exact).sum() / 2 > 0.15
        assert (
            js_distance(
                element_distribution(tiny, trained.distribution(1)), element_distribution(tiny, exact)
            )
            < 0.03
        )
        real = np.flatnonzero(tiny.composition_mask)
        reward = plan.reward_model.reward(tiny.index_to_numbers(real), None, None, 1)
        assert trained.policy.log_z.item() == pytest.approx(np.log(np.exp(2.0 * reward).sum()), abs=0.1)

    def test_asks_as_often_as_the_agent_that_it_is_compared_with(self, trained):
        config = GFlowNetConfig()
        agent = VARIANTS["dqn-soft-model"].presets["default"].config
        assert (config.beta, config.reward_model) == (agent.beta, agent.reward_model)
        assert config.n_rounds * config.n_episodes == (WARM_UP + agent.n_updates // 8) * agent.n_envs
        assert trained.access.model_queries == CONFIG.n_rounds * CONFIG.n_episodes

    def test_checkpoint(self, tiny, trained, tmp_path):
        path = tmp_path / "flow.npz"
        trained.save(path)
        again = load_sampler(path, space=tiny)
        assert (again.config, again.access, again.trained_on) == (CONFIG, trained.access, trained.trained_on)
        np.testing.assert_array_equal(again.distribution(1), trained.distribution(1))
        record, arrays = read_checkpoint(path)
        write_checkpoint(path, record, {name: a for name, a in arrays.items() if name != "log_z"})
        with pytest.raises(InputError, match=r"flow\.npz"):
            GFlowNetSampler.load(path)
        write_checkpoint(path, {**record, "config": {**record["config"], "beta": -1.0}}, arrays)
        with pytest.raises(InputError, match=r"flow\.npz"):
            GFlowNetSampler.load(path)

    def test_a_search_sees_what_the_reward_model_expects(self, rows):
        plan = SearchPlan("gflownet", n_samples=50)
        assert plan.objectives[-2:] == ["expected_precision", "expected_coverage"]
        assert set(plan.objectives) <= set(judge_trial(plan, rows, CONFIG, 0))


def test_the_network_keeps_to_the_masks(tiny):
    with th.no_grad():
        masks = th.tensor([[True, False, True, *[False] * (tiny.n_actions - 3)]])
        log_p = ForwardPolicy((8, 8), tiny)(th.zeros(1, tiny.n_steps), masks)
    assert log_p.exp().sum().item() == pytest.approx(1)
    assert th.isneginf(log_p[~masks]).all()


@pytest.mark.parametrize("wrong", [{"hidden": (8,)}, {"beta": -1.0}, {"n_rounds": 0}, {"exploration": 1.5}])
def test_impossible_hyperparameters(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        GFlowNetConfig(**wrong)


def test_one_class_alone(trained):
    for ask in (lambda: trained.sample(5, target_class=2), lambda: trained.distribution(2)):
        with pytest.raises(InputError, match="trained for class 1, not 2"):
            ask()
