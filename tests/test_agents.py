"""Every SB3 agent trains on the environment, and becomes a sampler; `BoltzmannDQN` does what it says."""

import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_util import make_vec_env as sb3_make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor

from agents import AgentSampler, BoltzmannDQN, make_vec_env, train_offline
from agents.dqn import boltzmann
from elpa_env import ElpasoliteEnv, ExactSampler, rules, space, tree
from elpa_env.errors import InputError
from elpa_env.solve import solve
from tests.test_models import TINY

sb3_contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
from sb3_contrib import QRDQN, MaskablePPO  # noqa: E402
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_maskable  # noqa: E402
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported  # noqa: E402

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
                    for key in ("is_success", "formula", "numbers", "energy", "energy_class", "n_queries"):
                        np.testing.assert_equal(np.asarray(info[key]), np.asarray(other[key]))
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
        again = AgentSampler.load(tmp_path / "agent.zip", target_class=1)
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
        digits = tree.codes_to_digits(3, np.arange(50))
        sampler = AgentSampler(model, target_class=1)
        with th.no_grad():
            own = model.policy.get_distribution(th.as_tensor(space.scale(digits))).distribution.probs
        np.testing.assert_allclose(sampler.probabilities(digits, target_class=1), own, rtol=1e-5)
        masked = AgentSampler(trained["MaskablePPO"], target_class=1)
        masks = rules.action_masks(digits)
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
        AgentSampler.load(tmp_path / "dqn.zip", target_class=1)
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
        with pytest.raises(InputError, match="trained on Elpasolite-v0"):
            AgentSampler(PPO("MlpPolicy", "CartPole-v1", device="cpu"), target_class=1)
        trained["PPO"].save(tmp_path / "ppo.zip")
        with pytest.raises(InputError, match="holds no DQN"):
            AgentSampler.load(tmp_path / "ppo.zip", algorithm="DQN")
        with pytest.raises(InputError, match="unknown algorithm 'Nothing'"):
            AgentSampler.load(tmp_path / "ppo.zip", algorithm="Nothing")
        for odd in (":x", ".a:B", "nothing:X"):
            with pytest.raises(InputError, match="unknown algorithm"):
                AgentSampler.load(tmp_path / "ppo.zip", algorithm=odd)
        with pytest.raises(InputError, match="no Stable-Baselines3 algorithm"):
            AgentSampler.load(tmp_path / "ppo.zip", algorithm="collections:Counter")
        custom = AgentSampler.load(
            tmp_path / "ppo.zip", algorithm="stable_baselines3.ppo:PPO", target_class=1
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
        masks = rules.action_masks(space.unscale(data.next_observations.numpy()))
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
        rewards = np.random.default_rng(0).uniform(-1, 1, tree.N_LEAVES)
        model = BoltzmannDQN(
            "MlpPolicy", None, backup=backup, beta=3, masking=masking, buffer_size=1, **SMALL
        )
        levels, after = [], rewards
        for step in reversed(range(8)):
            q = padded(after.reshape(tree.SIZES[step], -1))
            codes = np.flatnonzero(tree.level_masks(step, masking).any(axis=1))
            observation = rules.observe(tree.codes_to_digits(step, codes))
            model.q_net = model.q_net_target = lambda _, q=q[codes]: q
            after = np.full(tree.SIZES[step], np.nan)
            after[codes] = model._next_value(th.as_tensor(observation)).numpy().ravel()
            levels.insert(0, (codes, model.action_probabilities(observation)))
        p = np.ones(1)
        for step, (codes, policy) in enumerate(levels):
            below = np.zeros((tree.SIZES[step], tree.WIDTHS[step]))
            below[codes] = p[codes, None] * policy[:, : tree.WIDTHS[step]]
            p = below.ravel()
        real = tree.leaf_index() >= 0
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
            observation = rules.observe(tree.codes_to_digits(step, np.arange(tree.SIZES[step])))
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
                state = th.as_tensor(rules.observe(tree.codes_to_digits(step, np.arange(5))))
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
        config, gaps = replace(TINY["dqn"], n_updates=100, weight_decay=0.0, ema_decay=0.0), []
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
            moved, legal = rules.apply_actions(np.ascontiguousarray(states[:, step]), actions[:, step])
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
        model.learn_offline(30, log_interval=10)
        events = EventAccumulator(str(tmp_path / "b" / "BoltzmannDQN_1")).Reload()
        assert [event.step for event in events.Scalars("train/loss")] == [10, 20, 30]

    def test_learning_goes_on_where_it_stopped(self, small_set):
        def agent():
            model = BoltzmannDQN("MlpPolicy", None, target_class=1, buffer_size=1, **SMALL)
            model.set_episodes(small_set)
            return model

        whole = agent().learn_offline(20)
        parts = agent().learn_offline(12).learn_offline(8, reset_num_timesteps=False)
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
        again.learn_offline(5, reset_num_timesteps=False)
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
        with pytest.raises(InputError, match="no episodes"):
            model.learn_offline(10)
        model.set_episodes(small_set)
        with pytest.raises(InputError, match="at least 1, got 0"):
            model.learn_offline(0)
        with pytest.raises(TypeError, match="no environment"):
            model.learn(100)


@pytest.mark.parametrize("masking", ["digits", "composition"])
def test_learns_online(masking):
    """A tabular truth: after enough play on an easy class the agent finds it far more often."""
    env = make_vec_env(32, seed=0, target_class=5, masking=masking)
    model = BoltzmannDQN(
        "MlpPolicy", env, masking=masking, learning_rate=1e-3, learning_starts=500, buffer_size=20_000,
        batch_size=128, train_freq=1, gradient_steps=1, target_update_interval=320, gamma=1.0, seed=0,
        device="cpu", policy_kwargs={"net_arch": [64, 64]},
    )  # fmt: skip
    before = AgentSampler(model).distribution(5)
    model.learn(16_000)
    after = AgentSampler(model).distribution(5)
    members = ElpasoliteEnv().settings.energy_model.members(5)
    assert after[members].sum() > before[members].sum() + 0.15
