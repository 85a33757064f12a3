"""The loss of the DQN by hand, and the settings that it has unless told otherwise."""

import inspect

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from agents import BoltzmannDQN
from elpa_env.space import ELPASOLITE_SPACE

SMALL = {"policy_kwargs": {"net_arch": [8]}, "seed": 0, "device": "cpu", "buffer_size": 1}


def test_defaults_are_those_of_sb3_and_of_the_plain_agent():
    ours, theirs = (inspect.signature(kind).parameters for kind in (BoltzmannDQN, DQN))
    for name, parameter in theirs.items():
        assert ours[name].default == parameter.default, name
    own = {name: ours[name].default for name in ours if name not in theirs}
    assert own == {
        "beta": 5.0,
        "backup": "double",
        "conservative": 0.0,
        "masking": "env",
        "target_class": None,
        "space": None,
        "ema_decay": 0.0,
    }
    model = BoltzmannDQN("MlpPolicy", None, **SMALL)
    assert (model.beta, model.backup, model.conservative) == (5.0, "double", 0.0)
    assert (model.masking, model.target_class, model.ema_decay) == ("digits", None, 0.0)
    assert model.space is ELPASOLITE_SPACE


class TestLoss:
    """Three transitions from the start, where six of eight actions are open; the last one ends an episode."""

    Q = th.tensor([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 9.0, 9.0]]) * th.tensor([[1.0], [-1.0], [2.0]])
    NEXT = th.tensor([[0.3, 0.1, 0.2, 0.0, -0.1, 0.25, 7.0, 7.0]]) * th.tensor([[1.0], [3.0], [5.0]])
    ACTIONS = th.tensor([[2], [0], [5]])
    REWARDS = th.tensor([[0.5], [-0.25], [1.0]])
    DONES = th.tensor([[0.0], [0.0], [1.0]])

    def model(self, **kwargs):
        model = BoltzmannDQN("MlpPolicy", None, backup="max", gamma=0.9, **kwargs, **SMALL)
        model.q_net = lambda observations: self.Q[: len(observations)]
        model.q_net_target = lambda observations: self.NEXT[: len(observations)]
        return model

    def data(self, discounts=None):
        # zeros are the start; it stands for the next state, too, whose open actions are the same
        return ReplayBufferSamples(
            th.zeros(3, 8), self.ACTIONS, th.zeros(3, 8), self.DONES, self.REWARDS, discounts
        )

    def test_targets(self):
        expected = [[0.5 + 0.9 * 0.3], [-0.25 + 0.9 * 0.9], [1.0]]
        th.testing.assert_close(self.model()._targets(self.data()), th.tensor(expected))
        assert self.REWARDS[0, 0] == 0.5  # the buffer's own array stays

    def test_targets_of_several_steps(self):
        """The buffer says gamma to the power of the steps that a transition sums over."""
        discounts = th.tensor([[0.729], [0.81], [0.9]])
        expected = [[0.5 + 0.729 * 0.3], [-0.25 + 0.81 * 0.9], [1.0]]
        th.testing.assert_close(self.model()._targets(self.data(discounts)), th.tensor(expected))

    def test_targets_where_every_episode_ends(self):
        data = self.data()._replace(dones=th.ones(3, 1))
        model = self.model()
        model.q_net_target = None  # nobody asks
        th.testing.assert_close(model._targets(data), self.REWARDS)

    def test_mean_squared_error(self):
        errors = np.array([0.3 - 0.77, -0.1 - 0.56, 1.2 - 1.0])
        assert self.model()._loss(self.data()).item() == pytest.approx((errors**2).mean(), rel=1e-5)

    def test_conservative_term(self):
        """CQL(H): over open actions alone, the mean of log(sum of exp(Q)) less Q of the action taken."""
        q = self.Q.numpy().astype(np.float64)
        taken = q[np.arange(3), self.ACTIONS[:, 0]]
        gap = np.log(np.exp(q[:, :6]).sum(axis=1)) - taken
        plain = self.model()._loss(self.data()).item()
        for weight in (0.3, 2.0):
            loss = self.model(conservative=weight)._loss(self.data()).item()
            assert loss == pytest.approx(plain + weight * gap.mean(), rel=1e-5)

    @pytest.mark.parametrize("backup", ["max", "double", "soft", "soft-double"])
    def test_values_of_next_states(self, backup):
        chooser, judge = th.tensor([[0.3, 0.1, 0.2, 0.0, -0.1, 0.25, 9.0, 9.0]]), self.NEXT[1:2] - 1
        model = BoltzmannDQN("MlpPolicy", None, backup=backup, beta=3.0, **SMALL)
        model.q_net, model.q_net_target = lambda _: chooser, lambda _: judge
        value = model._next_value(th.zeros(1, 8))
        online, target = (q[0, :6].numpy().astype(np.float64) for q in (chooser, judge))
        policy = np.exp(3 * online) / np.exp(3 * online).sum()
        expected = {
            "max": target.max(),
            "double": target[online.argmax()],
            "soft": np.log(np.exp(3 * target).sum()) / 3,
            "soft-double": (policy * (target - np.log(policy) / 3)).sum(),
        }[backup]
        assert value.shape == (1, 1)
        assert value.item() == pytest.approx(expected, rel=1e-5)
        assert not value.requires_grad


class TestWhatItSays:
    """Of what was open, of what it saw, and in its log."""

    def test_without_masks_every_action_is_open(self):
        model = BoltzmannDQN("MlpPolicy", None, masking=None, **SMALL)
        is_open = model.open_actions(th.zeros(3, 8))
        assert is_open.dtype == th.bool
        assert is_open.shape == (3, 8)
        assert is_open.all()

    def test_observations_of_any_precision(self):
        model = BoltzmannDQN("MlpPolicy", None, **SMALL)
        action, _ = model.predict(np.zeros(8, dtype=np.float64), deterministic=True)
        again, _ = model.predict(np.zeros(8, dtype=np.float32), deterministic=True)
        assert action == again

    def test_a_reward_of_ones_own_makes_unknown_what_it_saw(self, small_set):
        for reward, kind in ((None, "offline"), (lambda *seen: np.ones(len(seen[0])), "unknown")):
            model = BoltzmannDQN("MlpPolicy", None, target_class=1, **SMALL)
            model.set_episodes(small_set, reward=reward)
            assert model.access.kind == kind

    def test_updates_are_logged_on_the_terminal_alone(self, small_set):
        model = BoltzmannDQN("MlpPolicy", None, target_class=1, batch_size=16, **SMALL)
        model.set_episodes(small_set)
        model.learn(3, log_interval=100)
        assert model.logger.name_to_value["train/n_updates"] == 3
        assert model.logger.name_to_excluded["train/n_updates"] == ("tensorboard",)
