"""Every SB3 agent trains on the environment, and becomes a sampler; `BoltzmannDQN` does what it says."""

import base64
import io
import json
import pathlib
import pickle
import warnings
import zipfile
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib import ARS, QRDQN, MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_maskable
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_util import make_vec_env as sb3_make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor

from agents import (
    VARIANTS,
    AgentSampler,
    BoltzmannDQN,
    CompositionVecEnv,
    RewardModel,
    make_vec_env,
    train_dqn,
    train_offline,
)
from agents.masks import ActionMasks
from elpa_env import ElpasoliteEnv, ExactSampler, load_space, rules
from elpa_env.backups import boltzmann
from elpa_env.checkpoint import read_checkpoint, write_checkpoint
from elpa_env.errors import InputError
from elpa_env.sampler import Access, chosen_by
from elpa_env.solve import solve
from elpa_env.space import ELPASOLITE_SPACE as space
from tests.test_models import TINY
from tests.test_online import SMALL as ACTING
from tests.test_online import SMALL_MODEL

SMALL = {"policy_kwargs": {"net_arch": [8]}, "seed": 0, "device": "cpu"}
OFF_POLICY = {"learning_starts": 20, "buffer_size": 500, **SMALL}
KINDS = {
    "PPO": lambda env: PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, **SMALL),
    "A2C": lambda env: A2C("MlpPolicy", env, **SMALL),
    "DQN": lambda env: DQN("MlpPolicy", env, **OFF_POLICY),
    "QRDQN": lambda env: QRDQN("MlpPolicy", env, **OFF_POLICY),
    "MaskablePPO": lambda env: MaskablePPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, **SMALL),
    "BoltzmannDQN": lambda env: BoltzmannDQN("MlpPolicy", env, **OFF_POLICY),
}


@pytest.fixture(scope="module")
def trained():
    return {name: make(make_vec_env(4, seed=0)).learn(200) for name, make in KINDS.items()}


class TestAdapter:
    def test_gives_what_sb3s_own_gives(self):
        """Step by step beside a DummyVecEnv of single environments."""
        n, kwargs = 6, {"target_class": None, "masking": "composition"}
        ours = make_vec_env(n, seed=3, **kwargs)
        theirs = DummyVecEnv([lambda: Monitor(gym.make("Elpasolite-v0", **kwargs))] * n)
        theirs.seed(3)
        np.testing.assert_array_equal(ours.reset(), theirs.reset())
        rng = np.random.default_rng(0)
        for _ in range(40):
            masks = np.stack(ours.env_method("action_masks"))
            np.testing.assert_array_equal(masks, np.stack(theirs.env_method("action_masks")))
            actions = np.where(
                rng.random(n) < 0.8, (rng.random((n, 8)) * masks).argmax(axis=1), rng.integers(8, size=n)
            )
            (obs, rewards, dones, infos), expected = ours.step(actions), theirs.step(actions)
            for one, other in zip((obs, rewards, dones), expected[:3], strict=True):
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)
            for i, (info, other) in enumerate(zip(infos, expected[3], strict=True)):
                assert set(other) == set(info)
                np.testing.assert_array_equal(info["action_mask"], other["action_mask"])
                assert info["TimeLimit.truncated"] is other["TimeLimit.truncated"] is False
                if dones[i]:
                    np.testing.assert_array_equal(info["terminal_observation"], other["terminal_observation"])
                    for key in ("is_success", "formula", "numbers", "energy_class", "n_queries"):
                        np.testing.assert_equal(np.asarray(info[key]), np.asarray(other[key]))
                    assert info.get("energy") == other.get("energy")
                    assert (info["episode"]["r"], info["episode"]["l"]) == (
                        other["episode"]["r"],
                        other["episode"]["l"],
                    )
            np.testing.assert_array_equal(
                [i["action_mask"] for i in ours.reset_infos],
                [i["action_mask"] for i in theirs.reset_infos],
            )

    def test_masks_for_sb3_contrib(self):
        env = make_vec_env(3)
        env.reset()
        assert is_masking_supported(env)
        masks = get_action_masks(env)
        assert masks.shape == (3, 8)
        assert masks[:, :6].all()
        assert not masks[:, 6:].any()

    def test_attributes_and_methods(self):
        env = make_vec_env(3, target_class=4, render_mode="ansi")
        env.reset()
        assert env.get_attr("render_mode") == ["ansi"] * 3
        assert [s.target_class for s in env.get_attr("settings", [0, 2])] == [4, 4]
        assert env.get_attr("target_class") == [4] * 3
        assert env.get_attr("masking", 1) == ["digits"]
        assert env.get_attr("action_space")[0] == gym.spaces.Discrete(8)
        assert env.env_method("get_wrapper_attr", "masking") == ["digits"] * 3
        assert not env.has_attr("nonsense")
        assert env.env_is_wrapped(Monitor) == [True] * 3
        assert env.env_is_wrapped(gym.wrappers.TimeLimit, 1) == [False]
        assert "A" in env.env_method("render", indices=1)[0]
        env.set_attr("mark", 1)
        assert env.get_attr("mark", 0) == [1]
        with pytest.raises(InputError, match="set it for all"):
            env.set_attr("mark", 2, indices=[0])
        with pytest.raises(InputError, match="got 'nonsense'"):
            env.env_method("nonsense")
        pictures = make_vec_env(2, render_mode="rgb_array")
        pictures.reset()
        assert pictures.render().shape[2] == 3

    def test_wrappers_of_sb3(self):
        with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
            env = VecMonitor(make_vec_env(2, seed=0))
        env.reset()
        lengths = []
        for _ in range(20):
            *_, infos = env.step(np.zeros(2, dtype=int))
            lengths += [info["episode"]["l"] for info in infos if "episode" in info]
        assert lengths == [8] * 4

    @pytest.mark.slow
    def test_subprocesses(self):
        env = SubprocVecEnv([lambda: gym.make("elpa_env:Elpasolite-v0")] * 2)
        try:
            assert env.reset().shape == (2, 8)
            assert env.step(np.zeros(2, dtype=int))[0].shape == (2, 8)
        finally:
            env.close()


@pytest.mark.parametrize("name", KINDS)
class TestEveryAgent:
    def test_trains_without_warnings(self, name):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for env in (
                make_vec_env(4, seed=0),
                make_vec_env(4, seed=0, target_class=None, masking="composition"),
                sb3_make_vec_env("Elpasolite-v0", n_envs=2, env_kwargs={"target_class": 2}),
            ):
                model = KINDS[name](env).learn(80)
                evaluate = evaluate_maskable if name == "MaskablePPO" else evaluate_policy
                if env.observation_space.shape == (8,):
                    reward, _ = evaluate(model, make_vec_env(2), 4)
                    assert -1 <= reward <= 1

    def test_becomes_a_sampler(self, trained, name, tmp_path):
        sampler = AgentSampler(trained[name], target_class=1, name=name)
        assert isinstance(sampler, ExactSampler)
        digits = sampler.sample(500, target_class=1, seed=0)
        sampler.save(tmp_path / "agent.zip")
        trust = name != "BoltzmannDQN"
        again = AgentSampler.load(tmp_path / "agent.zip", target_class=1, trust=trust)
        assert type(again.model).__name__ == name
        np.testing.assert_array_equal(again.sample(500, target_class=1, seed=0), digits)
        greedy = AgentSampler(trained[name], target_class=1, mode="greedy").sample(20, target_class=1)
        assert (greedy == greedy[0]).all()

    def test_samples_what_it_says(self, trained, name):
        sampler = AgentSampler(trained[name], target_class=1)
        distribution = sampler.distribution(1)
        assert distribution.sum() <= 1 + 1e-9
        index = space.digits_to_index(sampler.sample(100_000, target_class=1, seed=0))
        valid = (index >= 0).mean()
        assert valid == pytest.approx(distribution.sum(), abs=5 * np.sqrt(0.25 / 100_000))
        first = np.bincount(index[index >= 0] // 39**3, minlength=39) / 100_000
        expected = distribution.reshape(39, -1).sum(axis=1)
        np.testing.assert_allclose(first, expected, atol=5 * np.sqrt(0.25 / 100_000))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PPO, A2C, DQN, QRDQN, MaskablePPO, BoltzmannDQN])
def test_defaults_train_without_warnings(kind):
    """Every argument left as the library has it, on the adapter and on SB3's own environments."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for env in (make_vec_env(4), sb3_make_vec_env("Elpasolite-v0", n_envs=2)):
            model = kind("MlpPolicy", env, device="cpu").learn(600)
            assert model.num_timesteps >= 600


class TestSampler:
    def test_is_the_policy_itself(self, trained):
        """Against SB3's own predict, state by state."""
        model = trained["PPO"]
        digits = space.tree.codes_to_digits(3, np.arange(50))
        sampler = AgentSampler(model, target_class=1)
        with th.no_grad():
            own = model.policy.get_distribution(th.as_tensor(space.scale(digits))).distribution.probs
        np.testing.assert_allclose(sampler.probabilities(digits, target_class=1), own, rtol=1e-5)
        masked = AgentSampler(trained["MaskablePPO"], target_class=1)
        masks = rules.action_masks(space, digits)
        with th.no_grad():
            own = trained["MaskablePPO"].policy.get_distribution(
                th.as_tensor(space.scale(digits)), action_masks=masks
            )
        np.testing.assert_allclose(
            masked.probabilities(digits, target_class=1), own.distribution.probs, rtol=1e-4, atol=1e-6
        )
        greedy = AgentSampler(trained["QRDQN"], target_class=1, mode="greedy")
        best, _ = trained["QRDQN"].predict(space.scale(digits), deterministic=True)
        np.testing.assert_array_equal(greedy.probabilities(digits, target_class=1).argmax(axis=1), best)

    def test_one_agent_for_all_classes(self):
        model = BoltzmannDQN("MlpPolicy", make_vec_env(4, seed=0, target_class=None), **OFF_POLICY)
        assert model.target_class is None
        sampler = AgentSampler(model.learn(100))
        one, five = (sampler.sample(400, target_class=c, seed=0) for c in (1, 5))
        assert (one != five).any()

    def test_a_boltzmann_dqn_knows_its_class(self):
        for env in (make_vec_env(2, target_class=7), gym.make("Elpasolite-v0", target_class=7)):
            assert BoltzmannDQN("MlpPolicy", env, **OFF_POLICY).target_class == 7

    def test_masks_are_those_of_the_environment(self):
        for kind in ("MaskablePPO", "BoltzmannDQN"):
            model = KINDS[kind](make_vec_env(4, seed=0, masking="composition"))
            assert AgentSampler(model, target_class=1).masking == "composition"

    def test_global_generators_are_left_alone(self, trained, small_set, tmp_path):
        trained["DQN"].save(tmp_path / "dqn.zip")
        np.random.seed(0)  # noqa: NPY002 - the global generator is what is watched
        th.manual_seed(0)
        before = np.random.get_state()[1].copy(), th.get_rng_state().clone()  # noqa: NPY002
        AgentSampler.load(tmp_path / "dqn.zip", target_class=1, trust=True)
        train_offline(small_set, 1, TINY["dqn"], seed=3)
        assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
        assert (th.get_rng_state() == before[1]).all()

    def test_errors(self, trained, tmp_path):
        with pytest.raises(InputError, match="name the class"):
            AgentSampler(trained["PPO"])
        with pytest.raises(InputError, match="PPO has no Q-values"):
            AgentSampler(trained["PPO"], target_class=1, mode="boltzmann")
        with pytest.raises(InputError, match="DQN has no distribution"):
            AgentSampler(trained["DQN"], target_class=1, mode="stochastic")
        with pytest.raises(InputError, match="beta is for mode boltzmann"):
            AgentSampler(trained["PPO"], target_class=1, beta=3)
        for beta in (float("nan"), -2):
            with pytest.raises(InputError, match=f"beta must be at least 0, got {beta}"):
                AgentSampler(trained["DQN"], target_class=1, beta=beta)
        with pytest.raises(InputError, match="mode must be one of"):
            AgentSampler(trained["DQN"], target_class=1, mode="best")
        with pytest.raises(InputError, match="trained on the environment of elpasolite"):
            AgentSampler(PPO("MlpPolicy", "CartPole-v1", device="cpu"), target_class=1)
        trained["PPO"].save(tmp_path / "ppo.zip")
        for algorithm, message in (
            ("DQN", "damaged, or holds no such agent"),
            ("Nothing", "unknown algorithm 'Nothing'"),
            (":x", "must be named as module:attribute"),
            ("nothing:X", "cannot import nothing:X"),
            ("collections:Counter", "no Stable-Baselines3 algorithm"),
        ):
            with pytest.raises(InputError, match=message):
                AgentSampler.load(tmp_path / "ppo.zip", algorithm=algorithm, trust=True)
        custom = AgentSampler.load(
            tmp_path / "ppo.zip", algorithm="stable_baselines3.ppo:PPO", target_class=1, trust=True
        )
        assert isinstance(custom.model, PPO)


def padded(q):
    """(n, 8) float32 Q-values of (n, width); what no action in range has is tempting and wrong."""
    return th.nn.functional.pad(th.as_tensor(q, dtype=th.float32), (0, 8 - q.shape[1]), value=99.0)


class TestBoltzmann:
    def test_eq_16_by_hand(self):
        q = np.array([[0.0, 1.0, -np.inf], [2.0, 2.0, 2.0]])
        e = np.exp(2.0)
        np.testing.assert_allclose(boltzmann(q, 2.0), [[1 / (1 + e), e / (1 + e), 0], [1 / 3, 1 / 3, 1 / 3]])
        np.testing.assert_allclose(boltzmann(q, 0), [[0.5, 0.5, 0], [1 / 3] * 3])
        np.testing.assert_allclose(boltzmann(q, np.inf), [[0, 1, 0], [1 / 3] * 3])

    @pytest.mark.parametrize("backup", ["double", "max"])
    def test_targets_by_hand(self, backup, small_set):
        model = BoltzmannDQN(
            "MlpPolicy", None, backup=backup, target_class=1, buffer_size=1, gamma=0.9, **SMALL
        )
        model.set_episodes(small_set)
        with th.no_grad():
            for parameter in model.q_net_target.parameters():
                parameter.add_(th.randn(parameter.shape, generator=th.Generator().manual_seed(0)))
            data = model.replay_buffer.sample(80)
            online, target = (
                net(data.next_observations).numpy() for net in (model.q_net, model.q_net_target)
            )
        masks = rules.action_masks(space, space.unscale(data.next_observations.numpy()))
        expected = []
        for q, judge, mask in zip(online, target, masks, strict=True):
            allowed = np.flatnonzero(mask)
            chooser = q if backup == "double" else judge
            expected.append(judge[allowed[chooser[allowed].argmax()]])
        value = model._next_value(data.next_observations).numpy().ravel()
        np.testing.assert_allclose(value, expected, rtol=1e-6)

    def test_soft_targets_by_hand(self):
        """exp(β Q) = 1..6 over the six rows that are open at the start, and two closed actions."""
        weight, rows = np.arange(1.0, 7), 3
        judge = padded(np.log(weight)[None] / 2).expand(rows, -1)
        shares = np.array([[1 / 6] * 6, weight / 21, [1 / 12, 1 / 12, 1 / 12, 1 / 12, 1 / 6, 1 / 2]])
        chooser = padded(np.log(shares) / 2 + 7)
        values = {}
        for backup in ("soft", "soft-double"):
            model = BoltzmannDQN("MlpPolicy", None, backup=backup, beta=2, buffer_size=1, **SMALL)
            model.q_net, model.q_net_target = (lambda _: chooser), (lambda _: judge)
            values[backup] = model._next_value(th.zeros(rows, 8)).numpy()
            assert values[backup].shape == (rows, 1)
        np.testing.assert_allclose(values["soft"], np.log(21) / 2, rtol=1e-6)
        expected = [
            np.log(720) / 12 + np.log(6) / 2,  # uniform: the mean of Q and the entropy
            np.log(21) / 2,  # the networks agree
            (np.log(24) / 12 + np.log(5) / 6 + np.log(6) / 2 + np.log(12) / 3 + np.log(6) / 6 + np.log(2) / 2)
            / 2,
        ]
        np.testing.assert_allclose(values["soft-double"].ravel(), expected, rtol=1e-6)
        assert (values["soft-double"] <= values["soft"] + 1e-6).all()

    @pytest.mark.parametrize("masking", ["digits", "composition"])
    @pytest.mark.parametrize("backup", ["soft", "soft-double"])
    def test_soft_backup_of_the_whole_tree_draws_by_exp_beta_reward(self, backup, masking):
        """From random rewards of all leaves back to the start, then down again with the policy."""
        rewards = np.random.default_rng(0).uniform(-1, 1, space.tree.n_leaves)
        model = BoltzmannDQN(
            "MlpPolicy", None, backup=backup, beta=3, masking=masking, buffer_size=1, **SMALL
        )
        levels, after = [], rewards
        for step in reversed(range(8)):
            q = padded(after.reshape(space.tree.sizes[step], -1))
            codes = np.flatnonzero(space.tree.level_masks(step, masking).any(axis=1))
            observation = rules.observe(space, space.tree.codes_to_digits(step, codes))
            model.q_net = model.q_net_target = lambda _, q=q[codes]: q
            after = np.full(space.tree.sizes[step], np.nan)
            after[codes] = model._next_value(th.as_tensor(observation)).numpy().ravel()
            levels.insert(0, (codes, model.action_probabilities(observation)))
        p = np.ones(1)
        for step, (codes, policy) in enumerate(levels):
            below = np.zeros((space.tree.sizes[step], space.tree.widths[step]))
            below[codes] = p[codes, None] * policy[:, : space.tree.widths[step]]
            p = below.ravel()
        real = space.tree.leaf_index >= 0
        expected = np.exp(3 * rewards) * (real if masking == "composition" else 1)
        np.testing.assert_allclose(p, expected / expected.sum(), rtol=1e-4)
        assert after[0] == pytest.approx(np.log(expected.sum()) / 3, rel=1e-5)

    @pytest.mark.parametrize("backup", ["soft", "soft-double"])
    def test_exact_soft_values_are_a_fixed_point(self, backup):
        """A network that knows the exact solution gives each state the value that it has there."""
        solution = solve(1, backup="soft", beta=4.0, masking="digits")
        model = BoltzmannDQN("MlpPolicy", None, backup=backup, beta=4, buffer_size=1, **SMALL)
        for step in range(1, 8):
            q = padded(solution.q[step])
            model.q_net = model.q_net_target = lambda _, q=q: q
            observation = rules.observe(
                space, space.tree.codes_to_digits(step, np.arange(space.tree.sizes[step]))
            )
            value = model._next_value(th.as_tensor(observation)).numpy().ravel()
            np.testing.assert_allclose(value, solution.q[step - 1].ravel(), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("gamma", [1.0, 0.9])
    def test_a_bounded_network_reaches_soft_values(self, gamma, small_set, tmp_path):
        """The exact values less the offsets of the agent lie where discounted rewards do."""
        solution = solve(1, backup="soft", beta=4.0, gamma=gamma, masking="digits")
        config = replace(TINY["dqn"], backup="soft", beta=4.0, gamma=gamma)
        model = train_offline(small_set, 1, config)
        model.save(tmp_path / "agent.zip")
        for agent in (model, BoltzmannDQN.load(tmp_path / "agent.zip")):
            for step in range(8):
                state = th.as_tensor(rules.observe(space, space.tree.codes_to_digits(step, np.arange(5))))
                network = agent.q_net
                inner = network.q_net(network.extract_features(state, network.features_extractor))
                offset = (network(state) - inner).detach().numpy()
                np.testing.assert_allclose(offset, offset[0, 0], atol=1e-5)
                rest = solution.q[step] - offset[0, 0]
                assert rest.max() <= gamma ** (7 - step) + 1e-5
                lowest = rest.min()  # that of a branch without a composition of the class
                assert lowest == pytest.approx(-(gamma ** (7 - step)), abs=1e-5 if step else 0.06)

    def test_conservative_term_by_hand(self):
        """exp(Q) = 1..6 over the open actions; 3 was taken; softmax less one is the gradient."""
        model = BoltzmannDQN("MlpPolicy", None, conservative=0.5, buffer_size=1, **SMALL)
        q = padded(np.log(np.arange(1.0, 7))[None]).requires_grad_()
        model.q_net = lambda _: q
        one = th.ones(1, 1)
        data = ReplayBufferSamples(th.zeros(1, 8), 2 * one.long(), th.zeros(1, 8), one, one)
        loss = model._loss(data)
        assert loss.item() == pytest.approx((np.log(3) - 1) ** 2 + np.log(21 / 3) / 2, rel=1e-6)
        loss.backward()
        expected = np.append(np.arange(1.0, 7) / 42, [0, 0])
        expected[2] += 2 * (np.log(3) - 1) - 0.5
        np.testing.assert_allclose(q.grad[0], expected, rtol=1e-5)
        model.conservative = 0.0
        assert model._loss(data).item() == pytest.approx((np.log(3) - 1) ** 2, rel=1e-6)

    def test_conservative_agent_lowers_what_the_data_do_not_take(self, small_set):
        """Against the plain agent: Q of open actions less Q of those taken, averaged over states."""
        config, gaps = replace(TINY["dqn"], n_updates=300, weight_decay=0.0, ema_decay=0.0), []
        for weight in (0.0, 1.0):
            model = train_offline(small_set, 1, replace(config, conservative=weight))
            assert model.conservative == weight
            data = model.replay_buffer.sample(800)
            q = model.q_values(data.observations.numpy())
            taken = np.take_along_axis(q, data.actions.numpy(), axis=1)
            gaps.append(np.mean(np.log(np.exp(q).sum(axis=1, keepdims=True)) - taken))
        assert gaps[1] < gaps[0] - 0.02

    def test_never_plays_a_closed_action(self):
        env = make_vec_env(8, seed=0, masking="composition")
        model = BoltzmannDQN(
            "MlpPolicy", env, masking="composition", learning_starts=100, buffer_size=2000, **SMALL
        )
        played = []

        def look(variables, _):
            played.extend(info["energy_class"] for info in variables["infos"] if "energy_class" in info)
            return True

        model.learn(800, callback=look)
        assert len(played) == 96
        assert min(played) > 0  # every episode made a real composition, in warm-up too
        observation = env.reset()
        for deterministic in (True, False):
            action, _ = model.predict(observation, deterministic=deterministic)
            assert action.shape == (8,)
            assert (action < 6).all()
        assert np.ndim(model.predict(observation[0])[0]) == 0

    def test_the_buffer_holds_the_episodes(self, small_set):
        model = BoltzmannDQN("MlpPolicy", None, target_class=1, buffer_size=1, **SMALL)
        model.set_episodes(small_set)
        data = model.replay_buffer.sample(8 * 500)
        states = space.unscale(data.observations.numpy()).reshape(500, 8, 8)
        after = space.unscale(data.next_observations.numpy()).reshape(500, 8, 8)
        actions = data.actions.numpy().reshape(500, 8)
        for step in range(8):
            moved, legal = rules.apply_actions(space, np.ascontiguousarray(states[:, step]), actions[:, step])
            assert legal.all()
            np.testing.assert_array_equal(moved, after[:, step])
        rows = {tuple(d): c for d, c in zip(small_set.digits.tolist(), small_set.energy_class, strict=True)}
        classes = np.array([rows[tuple(d)] for d in after[:, 7].tolist()])
        rewards = data.rewards.numpy().reshape(500, 8)
        np.testing.assert_array_equal(rewards[:, 7], np.where(classes == 1, 1, -1))
        assert (rewards[:, :7] == 0).all()
        np.testing.assert_array_equal(data.dones.numpy().reshape(500, 8)[:, 7], 1)
        counts = np.bincount(classes, minlength=11)[1:]
        np.testing.assert_allclose(counts, 50, atol=5 * np.sqrt(50))
        with pytest.raises(TypeError, match="nothing can be added"):
            model.replay_buffer.add()

    def test_offline_logs_as_sb3_does(self, small_set, tmp_path):
        train_offline(small_set, 1, TINY["dqn"], tensorboard_log=str(tmp_path))
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        (run,) = tmp_path.iterdir()
        assert run.name == "BoltzmannDQN_1"
        model = BoltzmannDQN(
            "MlpPolicy", None, target_class=1, buffer_size=1, tensorboard_log=str(tmp_path / "b"), **SMALL
        )
        model.set_episodes(small_set)
        model.learn(30, log_interval=10)
        events = EventAccumulator(str(tmp_path / "b" / "BoltzmannDQN_1")).Reload()
        assert [event.step for event in events.Scalars("train/loss")] == [10, 20, 30]

    def test_learning_goes_on_where_it_stopped(self, small_set):
        def agent():
            model = BoltzmannDQN("MlpPolicy", None, target_class=1, buffer_size=1, **SMALL)
            model.set_episodes(small_set)
            return model

        whole = agent().learn(20)
        parts = agent().learn(12).learn(8, reset_num_timesteps=False)
        assert parts.num_timesteps == 20
        for one, other in zip(whole.q_net.parameters(), parts.q_net.parameters(), strict=True):
            assert th.equal(one, other)

    def test_a_saved_agent_goes_on_learning_offline(self, small_set, tmp_path):
        agent = train_offline(small_set, 1, TINY["dqn"])
        assert agent.trained_on == small_set.record()
        agent.save(tmp_path / "agent.zip")
        again = BoltzmannDQN.load(tmp_path / "agent.zip")
        assert again.trained_on == small_set.record()
        again.set_episodes(small_set)
        before = [parameter.detach().clone() for parameter in again.q_net.parameters()]
        again.learn(5, reset_num_timesteps=False)
        assert again.num_timesteps == TINY["dqn"].n_updates + 5
        pairs = zip(again.q_net.parameters(), before, strict=True)
        assert any((one != other).any() for one, other in pairs)

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"beta": -1}, "beta must be at least 0, got -1"),
            ({"backup": "hard"}, "backup must be one of max, double, soft, soft-double, got 'hard'"),
            ({"backup": "soft", "beta": 0}, "beta must be above 0 and finite for backup soft, got 0"),
            ({"backup": "soft-double", "beta": np.inf}, "finite for backup soft-double, got inf"),
            ({"conservative": -0.1}, "conservative must be at least 0 and finite, got -0.1"),
            ({"conservative": np.nan}, "conservative must be at least 0 and finite, got nan"),
            ({"masking": "all"}, "masking must be one of"),
            ({"target_class": 0}, "target_class must be 1..10, got 0"),
            ({"ema_decay": 1.0}, "ema_decay must be at least 0 and below 1, got 1.0"),
            ({"backup": "soft", "n_steps": 2}, "n_steps must be 1 for backup soft, got 2"),
        ],
    )
    def test_wrong_arguments(self, kwargs, message):
        with pytest.raises(InputError, match=message):
            BoltzmannDQN("MlpPolicy", None, **kwargs)

    def test_offline_needs_episodes_and_updates(self, small_set):
        model = BoltzmannDQN("MlpPolicy", None, buffer_size=1, **SMALL)
        with pytest.raises(InputError, match="name the class"):
            model.set_episodes(small_set)
        model = BoltzmannDQN("MlpPolicy", None, target_class=1, buffer_size=1, **SMALL)
        with pytest.raises(InputError, match="this agent has no environment"):
            model.learn(10)
        model.set_episodes(small_set)
        with pytest.raises(InputError, match="at least 1, got 0"):
            model.learn(0)


@pytest.mark.parametrize("masking", ["digits", "composition"])
def test_learns_online(masking):
    """A tabular truth: after enough play on an easy class the agent finds it more often than chance does."""
    env = make_vec_env(32, seed=0, target_class=5, masking=masking)
    model = BoltzmannDQN(
        "MlpPolicy", env, masking=masking, learning_rate=1e-3, learning_starts=500, buffer_size=20_000,
        batch_size=128, train_freq=1, gradient_steps=1, target_update_interval=320, gamma=1.0, seed=0,
        device="cpu", policy_kwargs={"net_arch": [64, 64]},
    )  # fmt: skip
    members = ElpasoliteEnv().settings.energy_model.members(5)
    by_chance = AgentSampler(model, beta=0).distribution(5)[members].sum()
    model.learn(16_000)
    assert AgentSampler(model).distribution(5)[members].sum() > by_chance + 0.1


@pytest.mark.parametrize("masking", ["digits", "composition"])
@pytest.mark.parametrize("step", range(9))
def test_masks_on_the_device_are_those_of_the_rules(masking, step):
    """In every state of the tree, and in every seventh composition."""
    codes = np.arange(space.tree.sizes[step]) if step < 8 else np.arange(0, space.tree.n_leaves, 7)
    digits = space.tree.codes_to_digits(step, codes)
    found = ActionMasks(space, masking)(th.as_tensor(rules.observe(space, digits)))
    np.testing.assert_array_equal(found.numpy(), rules.action_masks(space, digits, masking))


class TestSteps:
    """Returns of several steps."""

    def model(self, n_steps):
        model = BoltzmannDQN("MlpPolicy", None, backup="max", n_steps=n_steps, gamma=0.9, **OFF_POLICY)
        q = padded(np.arange(1.0, 7)[None])
        model.q_net = model.q_net_target = lambda observations: q.expand(len(observations), -1)
        return model

    def test_bootstraps_with_gamma_to_the_number_of_steps(self):
        """Q of the action taken is 3, the best next 6; three steps earn 1 together."""
        one = th.ones(1, 1)
        data = ReplayBufferSamples(
            th.zeros(1, 8), 2 * one.long(), th.zeros(1, 8), 0 * one, one, discounts=0.9**3 * one
        )
        loss = self.model(3)._loss(data).item()
        assert loss == pytest.approx((3 - (1 + 0.9**3 * 6)) ** 2, rel=1e-6)
        alone = ReplayBufferSamples(*data[:5])
        assert self.model(1)._loss(alone).item() == pytest.approx((3 - (1 + 0.9 * 6)) ** 2, rel=1e-6)

    def test_sb3s_buffer_gives_the_powers(self):
        env = make_vec_env(2, seed=0, masking="composition")
        model = BoltzmannDQN("MlpPolicy", env, backup="max", n_steps=3, gamma=0.9, **OFF_POLICY).learn(200)
        data = model.replay_buffer.sample(400)
        ends = data.dones.numpy().ravel() == 1
        powers = np.log(data.discounts.numpy().ravel()[~ends]) / np.log(0.9)
        assert (powers.round() == 3).mean() > 0.9  # fewer where the buffer ends
        np.testing.assert_allclose(powers, powers.round(), atol=1e-5)
        steps = space.states.steps_taken(space.unscale(data.observations.numpy()))
        assert (ends == (steps >= 5)).all()


class TestAverage:
    def agent(self, small_set, decay=0.9):
        model = BoltzmannDQN("MlpPolicy", None, target_class=1, buffer_size=1, ema_decay=decay, **SMALL)
        model.set_episodes(small_set)
        return model

    def test_is_the_exponential_one(self, small_set):
        """Against an average kept by hand; the weights themselves are those of an agent without one."""
        model, plain = self.agent(small_set), self.agent(small_set, 0.0)
        expected = None
        for _ in range(10):
            model.learn(1, reset_num_timesteps=False)
            plain.learn(1, reset_num_timesteps=False)
            now = [p.detach().clone() for p in plain.q_net.parameters()]
            pairs = zip(expected or now, now, strict=True)
            expected = [0.9 * a + 0.1 * b for a, b in pairs]
        for average, theirs in zip(model.sampled_q_net.parameters(), expected, strict=True):
            th.testing.assert_close(average, theirs)
        for ours, theirs in zip(model.q_net.parameters(), plain.q_net.parameters(), strict=True):
            assert th.equal(ours, theirs)

    def test_sampling_follows_the_average(self, small_set):
        model = self.agent(small_set).learn(10)
        observation = rules.observe(space, space.tree.codes_to_digits(2, np.arange(40)))
        with th.no_grad():
            average = model.q_net_average.module(th.as_tensor(observation)).numpy()
            last = model.q_net(th.as_tensor(observation)).numpy()
        found = model.q_values(observation)
        shown = np.isfinite(found)
        np.testing.assert_allclose(found[shown], average[shown], rtol=1e-6)
        assert (np.abs(found - last)[shown] > 1e-6).any()
        sampler = AgentSampler(model)
        digits = space.tree.codes_to_digits(2, np.arange(40))
        np.testing.assert_allclose(
            sampler.probabilities(digits, target_class=1), model.action_probabilities(observation), rtol=1e-5
        )

    def test_training_goes_on_from_the_weights_after_loading(self, small_set, tmp_path):
        """Saved half way and trained on: weights, optimiser and average as without the pause."""
        model = self.agent(small_set).learn(10)
        model.save(tmp_path / "agent.zip")
        again = BoltzmannDQN.load(tmp_path / "agent.zip", device="cpu")
        for agent in (model, again):
            agent.set_episodes(small_set)  # the same batches for both
            agent.learn(10, reset_num_timesteps=False)
        for part in ("q_net", "q_net_target", "q_net_average"):
            one, other = getattr(model, part).state_dict(), getattr(again, part).state_dict()
            assert all(th.equal(one[key], other[key]) for key in one)


class TestSupported:
    """What `AgentSampler` takes, and what it refuses by name."""

    def test_a_subclass_of_maskable_ppo_has_a_distribution(self):
        class Mine(MaskablePPO):
            pass

        env = make_vec_env(2, seed=0, masking="composition")
        sampler = AgentSampler(Mine("MlpPolicy", env, n_steps=16, batch_size=16, **SMALL), target_class=1)
        assert sampler.mode == "stochastic"
        assert sampler.masking == "composition"

    @pytest.mark.parametrize(
        ("kind", "policy", "reason"),
        [(RecurrentPPO, "MlpLstmPolicy", "remembers"), (ARS, "MlpPolicy", "has neither Q-values nor")],
    )
    def test_agents_that_cannot_be_read(self, kind, policy, reason):
        model = kind(policy, gym.make("Elpasolite-v0"), device="cpu")
        with pytest.raises(
            InputError, match=rf"a {kind.__name__} is not supported, since it {reason}.*use PPO"
        ):
            AgentSampler(model, target_class=1)

    @pytest.mark.parametrize(
        ("observations", "actions"),
        [
            (gym.spaces.MultiDiscrete([7, 9] * 4), gym.spaces.Discrete(8)),
            (gym.spaces.Box(-1.0, 1.0, (8,), np.float32), gym.spaces.Discrete(8, start=1)),
            (gym.spaces.Box(0, 255, (8,), np.uint8), gym.spaces.Discrete(8)),
            (gym.spaces.Box(-1.0, 1.0, (8,), np.float32), gym.spaces.Discrete(6)),
        ],
    )
    def test_other_spaces(self, observations, actions):
        class Other(gym.Env):
            observation_space, action_space = observations, actions

            def reset(self, *, seed=None, options=None):
                return self.observation_space.sample(), {}

        model = PPO("MlpPolicy", DummyVecEnv([Other]), device="cpu")
        with pytest.raises(InputError, match="must be trained on the environment of elpasolite"):
            AgentSampler(model, target_class=1)

    def test_access_is_said_by_the_sampler(self, trained, small_set):
        assert AgentSampler(trained["PPO"], target_class=1).access == Access("unknown")
        sampler = AgentSampler(train_offline(small_set, 1, TINY["dqn"]))
        assert sampler.access == Access("offline", small_set.n_labels, chosen_by="the user")
        quick = VARIANTS["dqn"].presets["quick"].config
        assert chosen_by(quick, VARIANTS["dqn"].presets.values()).startswith("a search by the training set")
        tuned = VARIANTS["dqn"].presets["tuned"]
        assert chosen_by(tuned.config, VARIANTS["dqn"].presets.values()).startswith("scores against")


class TestAnotherEnvironment:
    """An agent keeps its class and masking; an environment with others is refused."""

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"target_class": 2}, "must have target_class=1 as the agent has, got 2"),
            ({"target_class": None}, "environment must observe .* as the agent does|spaces do not match"),
            ({"masking": "composition"}, "must have masking='digits' as the agent has, got 'composition'"),
        ],
    )
    def test_is_refused(self, kwargs, message, tmp_path):
        model = BoltzmannDQN("MlpPolicy", make_vec_env(2), **OFF_POLICY)
        model.save(tmp_path / "agent.zip")
        with pytest.raises(InputError, match=message):
            BoltzmannDQN.load(tmp_path / "agent.zip", env=make_vec_env(2, **kwargs), device="cpu")
        error = ValueError if kwargs.get("target_class", 1) is None else InputError  # SB3 compares the spaces
        with pytest.raises(error, match=message):
            model.set_env(make_vec_env(2, **kwargs))
        DQN.save(model, tmp_path / "sb3.zip")
        with pytest.raises(InputError, match=message):
            BoltzmannDQN.load(tmp_path / "sb3.zip", env=make_vec_env(2, **kwargs), device="cpu", trust=True)

    def test_the_same_is_taken(self, tmp_path):
        model = BoltzmannDQN("MlpPolicy", make_vec_env(2, target_class=3), **OFF_POLICY)
        model.save(tmp_path / "agent.zip")
        again = BoltzmannDQN.load(tmp_path / "agent.zip", env=make_vec_env(4, target_class=3), device="cpu")
        assert again.learn(40).num_timesteps >= 40
        assert again.n_envs == 4


@pytest.fixture(scope="module")
def agent(small_set):
    return train_offline(small_set, 1, TINY["dqn"])


class TestArchive:
    """Our agents are kept without code; of others nothing is read unless somebody vouches for them."""

    def test_holds_no_pickle(self, agent, tmp_path):
        agent.save(tmp_path / "agent")
        path = tmp_path / "agent.zip"
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                content = archive.read(name)
                assert content.startswith(b"\x93NUMPY")
                np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
                assert b"numpy" not in content

    def test_everything_comes_back(self, small_set, tmp_path):
        config = replace(TINY["dqn"], backup="max", beta=2.5, masking="composition", ema_decay=0.5)
        model = train_offline(small_set, 4, config, seed=3)
        model.save(tmp_path / "agent.zip")
        again = BoltzmannDQN.load(tmp_path / "agent.zip", device="cpu")
        for name in (
            *("beta", "backup", "conservative", "masking", "target_class", "gamma", "ema_decay", "seed"),
            *("batch_size", "target_update_interval", "num_timesteps", "_n_updates", "_n_calls", "access"),
            *("trained_on", "policy_kwargs", "train_freq", "gradient_steps", "learning_starts"),
        ):
            assert getattr(again, name) == getattr(model, name), name
        assert vars(again.learning_rate) == vars(model.learning_rate)
        for theirs, ours in zip(
            again.policy.optimizer.state_dict()["state"].values(),
            model.policy.optimizer.state_dict()["state"].values(),
            strict=True,
        ):
            assert all(th.equal(theirs[key], ours[key]) for key in ours)

    @pytest.mark.parametrize("ema_decay", [0.0, 0.5])
    def test_a_slim_file_acts_the_same(self, small_set, tmp_path, ema_decay):
        model = train_offline(small_set, 4, replace(TINY["dqn"], ema_decay=ema_decay))
        AgentSampler(model).save(tmp_path / "whole.zip")
        AgentSampler(model).save(tmp_path / "slim.zip", slim=True)
        assert (tmp_path / "slim.zip").stat().st_size < (tmp_path / "whole.zip").stat().st_size / 2
        again = AgentSampler.load(tmp_path / "slim.zip")
        np.testing.assert_array_equal(
            again.sample(200, target_class=4, seed=0), AgentSampler(model).sample(200, target_class=4, seed=0)
        )
        assert (again.access, again.model.trained_on) == (model.access, model.trained_on)
        again.model.set_episodes(small_set)
        again.model.learn(2)  # with a new optimiser
        pairs = zip(again.model.q_net.parameters(), model.sampled_q_net.parameters(), strict=True)
        assert any((ours != theirs).any() for ours, theirs in pairs)

    def test_only_our_agents_are_kept_slim(self, trained, tmp_path):
        with pytest.raises(InputError, match="slim is for a BoltzmannDQN, not for a PPO"):
            AgentSampler(trained["PPO"], target_class=1).save(tmp_path / "ppo.zip", slim=True)

    def test_infinity_and_a_rate_that_stays(self, tmp_path):
        model = BoltzmannDQN("MlpPolicy", make_vec_env(2), beta=np.inf, **OFF_POLICY)
        model.save(tmp_path / "agent.zip")
        again = BoltzmannDQN.load(tmp_path / "agent.zip", device="cpu")
        assert again.beta == np.inf
        assert again.learning_rate == 1e-4

    def test_an_archive_of_sb3_needs_trust(self, trained, agent, tmp_path):
        trained["PPO"].save(tmp_path / "ppo.zip")
        DQN.save(agent, tmp_path / "dqn.zip")
        for name in ("ppo", "dqn"):
            for trust in ({}, {"trust": False}, {"trust": "yes"}):
                with pytest.raises(
                    InputError, match=r"written by Stable-Baselines3.*pass trust=True \(--trust\)"
                ):
                    AgentSampler.load(tmp_path / f"{name}.zip", target_class=1, **trust)
            AgentSampler.load(tmp_path / f"{name}.zip", target_class=1, trust=True)
        with pytest.raises(InputError, match="written by Stable-Baselines3"):
            BoltzmannDQN.load(tmp_path / "dqn.zip")
        again = BoltzmannDQN.load(tmp_path / "dqn.zip", trust=True, device="cpu")
        for part in ("q_net", "q_net_average"):
            one, other = getattr(agent, part).state_dict(), getattr(again, part).state_dict()
            assert all(th.equal(one[key], other[key]) for key in one)

    @pytest.mark.parametrize("keep", [DQN.save, BoltzmannDQN.save])
    def test_an_agent_stays_in_its_space(self, keep, tmp_path):
        other = load_space("abo3").space
        model = BoltzmannDQN("MlpPolicy", make_vec_env(2, space=other), **OFF_POLICY)
        keep(model, tmp_path / "agent.zip")
        again = BoltzmannDQN.load(tmp_path / "agent.zip", trust=True, device="cpu")
        assert again.space == other
        assert AgentSampler(again).sample(5, target_class=1, seed=0).shape == (5, 4)
        BoltzmannDQN.load(tmp_path / "agent.zip", env=make_vec_env(4, space=other), trust=True)

    def test_code_in_an_archive_does_not_run_without_trust(self, tmp_path):
        """A pickle that leaves a mark, as SB3 would run it."""
        mark = tmp_path / "ran"

        class Evil:
            def __reduce__(self):
                return pathlib.Path.touch, (mark,)

        content = base64.b64encode(pickle.dumps(Evil())).decode()
        data = {"policy_class": {":type:": "x", ":serialized:": content, "__module__": "dqn"}}
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
            archive.writestr("data", json.dumps(data))
            archive.writestr("policy.pth", b"")
        for load in (AgentSampler.load, BoltzmannDQN.load):
            with pytest.raises(InputError, match="written by Stable-Baselines3"):
                load(tmp_path / "evil.zip")
        assert not mark.exists()
        with pytest.raises(InputError, match="damaged"):
            AgentSampler.load(tmp_path / "evil.zip", trust=True)
        assert mark.exists()  # the test would see it

    def test_parts_of_the_users_own_cannot_be_kept(self, tmp_path):
        class Mine(BoltzmannDQN):
            pass

        with pytest.raises(InputError, match="a Mine cannot be kept without code"):
            Mine("MlpPolicy", make_vec_env(2), **OFF_POLICY).save(tmp_path / "a.zip")
        model = BoltzmannDQN("MlpPolicy", make_vec_env(2), learning_rate=lambda _: 1e-3, **OFF_POLICY)
        with pytest.raises(InputError, match="learning_rate is .* cannot hold: write one of SB3"):
            model.save(tmp_path / "a.zip")
        other = BoltzmannDQN("MlpPolicy", "CartPole-v1", masking=None, device="cpu")
        with pytest.raises(InputError, match="only agents for this project's environments"):
            other.save(tmp_path / "a.zip")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("settings", "beta"), "warm"),
            (("settings", "beta"), None),
            (("settings", "beta"), -1),
            (("settings", "backup"), "hard"),
            (("settings", "target_class"), 11),
            (("settings", "target_class"), "1"),
            (("settings", "masking"), ["digits"]),
            (("settings", "batch_size"), 2.5),
            (("settings", "nonsense"), 1),
            (("settings",), "words"),
            (("progress", "num_timesteps"), -1),
            (("progress", "exploration_rate"), -7.0),
            (("access", "kind"), "saint"),
            (("access",), None),
            (("trained_on",), [1]),
            (("policy_class",), {"class": "system"}),
            (("policy_class",), {"class": "Adam"}),
            (("policy_class",), "os:system"),
            (("learning_rate",), "fast"),
            (("learning_rate",), {"class": "LinearSchedule", "arguments": {"start": "x"}}),
            (("train_freq",), 4),
            (("train_freq",), [4, "year"]),
            (("policy_kwargs",), "none"),
            (("policy_kwargs", "net_arch"), [10**9, 10**9]),
            (("policy_kwargs", "net_arch"), ["x"]),
            (("policy_kwargs", "net_arch"), [8, 8]),
            (("policy_kwargs", "features_extractor_kwargs"), {"encoding": "words"}),
            (("policy_kwargs", "nonsense"), 1),
            (("replay_buffer_class",), {"class": "Adam"}),
            (("model",), ["BoltzmannDQN"]),
            (("any_class",), True),
        ],
    )
    def test_wrong_content(self, agent, tmp_path, path, value):
        agent.save(tmp_path / "agent.zip")
        record, arrays = read_checkpoint(tmp_path / "agent.zip")
        place = record
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        write_checkpoint(tmp_path / "bad.zip", record, arrays)
        with pytest.raises(InputError) as caught:
            AgentSampler.load(tmp_path / "bad.zip")
        assert "bad.zip" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("key", ["settings", "access", "policy_kwargs", "progress", "format", "model"])
    def test_missing_content(self, agent, tmp_path, key):
        agent.save(tmp_path / "agent.zip")
        record, arrays = read_checkpoint(tmp_path / "agent.zip")
        del record[key]
        write_checkpoint(tmp_path / "bad.zip", record, arrays)
        with pytest.raises(InputError, match=r"bad\.zip"):
            AgentSampler.load(tmp_path / "bad.zip")

    def test_wrong_weights(self, agent, tmp_path):
        agent.save(tmp_path / "agent.zip")
        record, arrays = read_checkpoint(tmp_path / "agent.zip")
        first = next(name for name in arrays if name.startswith("policy/q_net."))
        moment = next(name for name in arrays if name.endswith("exp_avg"))
        some = arrays[first]
        for changed in (
            {first: np.full_like(some, np.nan)},
            {first: some[..., :-1]},
            {moment: arrays[moment][..., :-1]},
            {"policy/more": some},
            {"elsewhere/more": some},
            {"optimizer/x/exp_avg": some},
            {"optimizer/99/exp_avg": some},
        ):
            write_checkpoint(tmp_path / "bad.zip", record, {**arrays, **changed})
            with pytest.raises(InputError, match=r"bad\.zip"):
                AgentSampler.load(tmp_path / "bad.zip")
        for missing in (first, moment):
            rest = {name: array for name, array in arrays.items() if name != missing}
            write_checkpoint(tmp_path / "bad.zip", record, rest)
            if missing == first:
                with pytest.raises(InputError, match=r"bad\.zip"):
                    AgentSampler.load(tmp_path / "bad.zip")

    def test_cut_changed_packed_or_locked(self, agent, tmp_path):
        """One changed byte is found out, or changes nothing that matters."""
        agent.save(tmp_path / "agent.zip")
        whole = (tmp_path / "agent.zip").read_bytes()
        expected = AgentSampler(agent).sample(50, target_class=1, seed=0)
        path, refused = tmp_path / "bad.zip", 0
        for length in (0, 10, 100, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(InputError):
                AgentSampler.load(path)
        for place in np.random.default_rng(0).integers(len(whole), size=60).tolist():
            damaged = bytearray(whole)
            damaged[place] ^= 0x41
            path.write_bytes(damaged)
            try:
                found = AgentSampler.load(path).sample(50, target_class=1, seed=0)
            except InputError:
                refused += 1
                continue
            np.testing.assert_array_equal(found, expected)
        assert refused > 50
        locked = whole.replace(b"PK\x01\x02\x14\x00\x14\x00\x00", b"PK\x01\x02\x14\x00\x14\x00\x01")
        packed = whole.replace(b"PK\x03\x04\x14\x00\x00\x00\x00\x00", b"PK\x03\x04\x14\x00\x00\x00\x63\x00")
        for odd in (locked, packed):
            path.write_bytes(odd)
            if odd != whole:
                with pytest.raises(InputError):
                    AgentSampler.load(path)

    def test_no_file_a_folder_and_deep_json(self, agent, tmp_path):
        with pytest.raises(InputError, match="train one with `elpa train dqn`"):
            AgentSampler.load(tmp_path / "none.zip")
        with pytest.raises(InputError, match="it is a folder"):
            AgentSampler.load(tmp_path)
        agent.save(tmp_path / "agent.zip")
        _, arrays = read_checkpoint(tmp_path / "agent.zip")
        text = b'{"format": 2, "model": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        with (tmp_path / "deep.zip").open("wb") as file:
            np.savez(file, record=np.frombuffer(text, dtype=np.uint8), **arrays)
        with pytest.raises(InputError, match="deep"):
            AgentSampler.load(tmp_path / "deep.zip")


class TestSeeds:
    """Nothing that draws shares a stream with anything else, in one run or in the next."""

    def streams(self, seed, small_set):
        """First numbers of everything random in a training run."""
        drawn = {}
        made = []
        spied = {
            "envs": (CompositionVecEnv, "seed", lambda args: args[1]),
            "torch": (th, "manual_seed", lambda args: args[0]),
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, (owner, attribute, pick) in spied.items():
                original = getattr(owner, attribute)

                def spy(*args, name=name, original=original, pick=pick, **kwargs):
                    made.append((name, pick(args)))
                    return original(*args, **kwargs)

                patch.setattr(owner, attribute, spy)
            generator = th.Generator.manual_seed

            def manual_seed(self, number):
                made.append(("reward model", number))
                return generator(self, number)

            patch.setattr(BoltzmannDQN, "learn", lambda self, *_, **__: self)
            config = replace(ACTING, reward_model=replace(SMALL_MODEL, n_updates=1))
            model = train_dqn(config, 1, training_set=small_set, source="model", seed=seed)
        for name, number in made:
            drawn.setdefault(name, set()).add(int(number))
        buffer = model.replay_buffer
        for name, rng in (
            ("actions", model._rng),
            ("met", buffer._rng),
            ("known", buffer._known._rng),
        ):
            drawn[name] = set(rng.integers(2**63, size=500).tolist())
        return drawn

    def test_ten_seeds_share_nothing(self, small_set):
        seen = {}
        for seed in range(10):
            for name, numbers in self.streams(seed, small_set).items():
                for number in numbers:
                    assert seen.setdefault(number, (seed, name)) == (seed, name)
        assert {name for _, name in seen.values()} >= {"envs", "torch", "actions", "met", "known"}

    def test_environments_of_neighbouring_seeds_differ(self):
        """Sub-environments get a number and those that follow it: two runs must not overlap."""
        firsts = []
        for seed in range(10):
            env = make_vec_env(2)
            BoltzmannDQN("MlpPolicy", env, **{**OFF_POLICY, "seed": seed})
            firsts.append(env._seeds[0])
        assert np.diff(sorted(firsts)).min() > 10_000

    def test_the_reward_models_folds_and_weights(self, small_set):
        models = [RewardModel(SMALL_MODEL, seed=seed).fit(small_set) for seed in (0, 1, 0)]
        assert (models[0]._networks.free != models[1]._networks.free).any()
        assert th.equal(models[0]._networks.free, models[2]._networks.free)


def test_a_default_is_a_default(small_set, monkeypatch):
    """Without a configuration the preset that ships is trained, not the paper's 800,000 updates."""
    seen = []
    monkeypatch.setattr(BoltzmannDQN, "learn", lambda self, steps, *_, **__: seen.append(steps))
    train_offline(small_set, 1)
    assert seen == [VARIANTS["dqn"].presets["default"].config.n_updates]
    with pytest.raises(InputError, match="source offline learns from a training set: pass training_set"):
        train_dqn(None, 1)
    with pytest.raises(InputError, match="source must be one of offline, model, oracle, got 'dream'"):
        train_dqn(None, 1, source="dream")


def test_a_reward_of_ones_own_reaches_the_episodes(small_set):
    """Offline, too: every episode earns what the reward says of its composition and its class."""

    def reward(numbers, energy, energy_class, target_class):
        return -0.1 * energy + (energy_class == target_class) + 1e-3 * numbers[:, 0]

    model = BoltzmannDQN("MlpPolicy", None, target_class=4, buffer_size=1, **SMALL)
    model.set_episodes(small_set, reward=reward)
    assert model.access.kind == "unknown"
    data = model.replay_buffer.sample(8 * 200)
    last = data.dones.numpy().ravel() == 1
    index = space.digits_to_index(space.unscale(data.next_observations.numpy()[last]))
    rows = [np.flatnonzero(small_set.index == i)[0] for i in index]
    expected = reward(
        space.index_to_numbers(index), small_set.energy[rows], small_set.energy_class[rows], np.int8(4)
    )
    np.testing.assert_allclose(data.rewards.numpy().ravel()[last], expected, rtol=1e-5)
