"""The replay buffers, transition by transition."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from agents.buffers import EpisodeReplayBuffer, MixedReplayBuffer, check_step_weights, fit_step_weights
from elpa_env import ABO3, TrainingSet, make_space
from elpa_env.errors import InputError
from elpa_env.space import ELPASOLITE_SPACE as space

STATES = spaces.Box(-1.0, 1.0, (8,), np.float32)
STATES_AND_CLASS = spaces.Box(-1.0, 1.0, (18,), np.float32)
CHOICES = spaces.Discrete(8)
FORMULAS = ["AlNaK2F6", "CsAlK2F6", "HHeLi2Be6"]


@pytest.fixture
def three():
    """Classes 1, 2 and 10."""
    return TrainingSet(space.formula_to_index(FORMULAS), np.array([-3.0, -2.0, 4.9]), "three")


def arrays(data):
    """Observations, actions, next observations, dones and rewards, a row an episode where they are whole."""
    return [part.numpy() for part in data[:5]]


class TestEpisodes:
    def test_hold_every_transition(self, three):
        data = EpisodeReplayBuffer(three, 2, STATES, CHOICES, seed=0).sample(8 * 300)
        observations, actions, after, dones, rewards = arrays(data)
        assert (dones.dtype, rewards.dtype, observations.dtype) == (np.float32,) * 3
        assert (actions.shape, dones.shape, rewards.shape) == ((2400, 1),) * 3
        paths = {tuple(digits): row for row, digits in enumerate(three.digits.tolist())}
        episodes = np.zeros(300, dtype=int)
        for episode, taken in enumerate((actions + 1).reshape(300, 8).tolist()):
            episodes[episode] = row = paths[tuple(taken)]
            states = space.scale(space.prefixes(three.digits[row : row + 1])[0])
            steps = slice(8 * episode, 8 * episode + 8)
            np.testing.assert_array_equal(observations[steps], states[:8])
            np.testing.assert_array_equal(after[steps], states[1:])
        np.testing.assert_array_equal(dones.reshape(300, 8), np.eye(8)[[7] * 300])
        earned = np.where(episodes == 1, 1.0, -1.0)
        np.testing.assert_array_equal(rewards.reshape(300, 8), earned[:, None] * np.eye(8)[7])
        assert (abs(np.bincount(episodes) - 100) < 5 * np.sqrt(100 * 2 / 3)).all()

    def test_of_rare_classes_are_as_likely(self, small_set):
        """Nine rows of one class and one of another: half of the episodes are of that one."""
        chosen = [
            *np.flatnonzero(small_set.energy_class == 5)[:9],
            *np.flatnonzero(small_set.energy_class == 1)[:1],
        ]
        rows = TrainingSet(small_set.index[chosen], small_set.energy[chosen], "ten")
        rewards = arrays(EpisodeReplayBuffer(rows, 1, STATES, CHOICES, seed=0).sample(8 * 1000))[4]
        assert (rewards == 1).sum() == pytest.approx(500, abs=5 * np.sqrt(250))

    @pytest.mark.parametrize("size", [1, 7, 8, 9, 20])
    def test_are_cut_off_at_the_end_of_a_batch(self, three, size):
        for target, states, width in ((1, STATES, 8), (None, STATES_AND_CLASS, 18)):
            data = EpisodeReplayBuffer(three, target, states, CHOICES, seed=3).sample(size)
            assert [len(part) for part in data[:5]] == [size] * 5
            observations, *_, dones, rewards = arrays(data)
            assert observations.shape == (size, width)
            steps = space.states.steps_taken(space.unscale(observations[:, :8]))
            np.testing.assert_array_equal(steps, np.arange(size) % 8)
            np.testing.assert_array_equal(dones[:, 0], steps == 7)
            np.testing.assert_array_equal(rewards[:, 0] != 0, steps == 7)

    def test_aim_at_their_own_class_or_at_any(self, three):
        data = EpisodeReplayBuffer(three, None, STATES_AND_CLASS, CHOICES, seed=0).sample(8 * 4000)
        observations, actions, after, _, rewards = arrays(data)
        classes = observations[:, 8:].reshape(4000, 8, 10)
        np.testing.assert_array_equal(after[:, 8:], observations[:, 8:])
        assert (classes == classes[:, :1]).all()  # one for the whole episode
        aimed = classes[:, 0].argmax(axis=1) + 1
        np.testing.assert_array_equal(classes[:, 0], np.eye(10)[aimed - 1])
        own = {tuple(d): c for d, c in zip(three.digits.tolist(), three.energy_class.tolist(), strict=True)}
        true = np.array([own[tuple(taken)] for taken in (actions + 1).reshape(4000, 8).tolist()])
        np.testing.assert_array_equal(rewards.reshape(4000, 8)[:, 7], np.where(aimed == true, 1, -1))
        others = np.bincount(aimed[aimed != true], minlength=11)
        assert others[0] == 0
        # of the half that aim at any class, nine in ten aim at another one
        assert others.sum() == pytest.approx(1800, abs=5 * np.sqrt(990))
        for other in range(1, 11):
            share = 2 / 3 if other in own.values() else 1  # of rows that it is another class for
            assert others[other] == pytest.approx(200 * share, abs=5 * np.sqrt(200))

    def test_may_earn_what_a_reward_of_ones_own_says(self, three):
        def reward(numbers, energy, energy_class, target_class):
            return numbers[:, 0] + energy + 100.0 * energy_class + 1000.0 * target_class

        buffer = EpisodeReplayBuffer(three, 4, STATES, CHOICES, reward=reward, seed=0)
        _, actions, _, _, rewards = arrays(buffer.sample(8 * 50))
        values = {13: 13 - 3.0 + 100, 55: 55 - 2.0 + 200, 1: 1 + 4.9 + 1000}
        for taken, earned in zip((actions + 1).reshape(50, 8), rewards.reshape(50, 8), strict=True):
            first = int(space.index_to_numbers(space.digits_to_index(taken[None].astype(np.int8)))[0, 0])
            assert earned[7] == pytest.approx(values[first] + 4000)
            assert not earned[:7].any()

    def test_the_seed_decides(self, small_set):
        def drawn(buffer):
            return buffer.sample(800).actions

        buffer = EpisodeReplayBuffer(small_set, 1, STATES, CHOICES, seed=5)
        first = drawn(buffer)
        assert not th.equal(first, drawn(buffer))
        assert th.equal(first, drawn(EpisodeReplayBuffer(small_set, 1, STATES, CHOICES, seed=5)))
        buffer.set_seed(5)
        assert th.equal(first, drawn(buffer))
        unseeded = [drawn(EpisodeReplayBuffer(small_set, 1, STATES, CHOICES)) for _ in range(2)]
        assert not th.equal(*unseeded)

    def test_are_complete_from_the_start(self, three):
        buffer = EpisodeReplayBuffer(three, 1, STATES, CHOICES, device="meta")
        assert buffer.size() == 3 * 8
        assert buffer.device == th.device("meta")
        with pytest.raises(TypeError, match="nothing can be added"):
            buffer.add()


class Met(MixedReplayBuffer):
    """One buffer filled with transitions that are told apart by their rewards: 10 * number + environment."""

    def __init__(self, n=24, n_envs=2, **kwargs):
        observation_space = kwargs.pop("observation_space", STATES)
        super().__init__(kwargs.pop("size", 200), observation_space, CHOICES, n_envs=n_envs, **kwargs)
        whole = space.index_to_digits(space.formula_to_index(FORMULAS[:2]))
        states = space.scale(space.prefixes(whole).reshape(-1, 8)).reshape(2, 9, 8)
        for number in range(n):
            step, done = number % 8, number % 8 == 7
            # the second environment is cut off by a limit of time at the same moment
            infos = [{}, {"TimeLimit.truncated": done}]
            action = whole[:, step] - 1
            reward = 10.0 * number + np.arange(2)
            self.add(states[:, step], states[:, step + 1], action, reward, np.full(2, done), infos)
        self.states, self.whole = states, whole


class TestMixed:
    def test_what_was_met_comes_as_it_was(self):
        buffer = Met(seed=0)
        assert isinstance(buffer, ReplayBuffer)
        observations, actions, after, dones, rewards = arrays(buffer.sample(4000))
        number, env = np.divmod(rewards[:, 0].astype(int), 10)
        step = number % 8
        np.testing.assert_array_equal(observations, buffer.states[env, step])
        np.testing.assert_array_equal(after, buffer.states[env, step + 1])
        np.testing.assert_array_equal(actions[:, 0], buffer.whole[env, step] - 1)
        np.testing.assert_array_equal(dones[:, 0], (step == 7) & (env == 0))
        counts = np.bincount(2 * number + env, minlength=48)
        assert (abs(counts - 4000 / 48) < 5 * np.sqrt(4000 / 48)).all()

    def test_only_what_has_been_met_is_drawn(self):
        rewards = arrays(Met(n=1, seed=0).sample(500))[4]
        assert set(rewards[:, 0].tolist()) == {0.0, 1.0}

    def test_the_oldest_make_room(self):
        rewards = arrays(Met(n=24, size=20, seed=0).sample(2000))[4][:, 0]
        assert set((rewards // 10).tolist()) == set(range(14, 24))

    def test_steps_are_weighted(self):
        weights = np.array([1, 2, 3, 4, 5, 6, 7, 12.0])
        rewards = arrays(Met(seed=1, step_weights=weights).sample(20_000))[4][:, 0]
        counts = np.bincount((rewards // 10).astype(int) % 8)
        expected = 20_000 * weights / weights.sum()
        assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()

    @pytest.mark.parametrize(("share", "known"), [(0.0, 0), (0.25, 25), (0.999, 99), (1.0, 100), (None, 10)])
    def test_a_share_is_known(self, small_set, share, known):
        kwargs = {} if share is None else {"share": share}
        rows = small_set.energy_class == 10
        of_class = TrainingSet(small_set.index[rows], small_set.energy[rows], "class 10")
        buffer = Met(training_set=of_class, target_class=10, seed=0, **kwargs)
        _, _, after, _, rewards = arrays(buffer.sample(100))
        assert [len(part) for part in buffer.sample(100)[:5]] == [100] * 5
        index = space.digits_to_index(space.unscale(after[100 - known :]))
        assert np.isin(index[index >= 0], of_class.index).all()
        assert (index >= 0).sum() == (rewards[100 - known :] == 1).sum() == known // 8
        met = rewards[: 100 - known, 0]
        assert ((met % 10 == 0) | (met % 10 == 1)).all()

    def test_nothing_known_nothing_shared(self):
        assert len(arrays(Met(share=0.9, seed=0).sample(100))[4]) == 100

    def test_what_is_passed_to_the_episodes(self, three):
        buffer = Met(
            training_set=three,
            target_class=2,
            reward=lambda numbers, energy, energy_class, target_class: (
                1000.0 + energy_class + 100.0 * target_class
            ),
            share=1.0,
            seed=0,
        )
        rewards = arrays(buffer.sample(800))[4][7::8, 0]
        assert set(rewards.tolist()) == {1201.0, 1202.0, 1210.0}

    def test_the_seed_decides_and_gives_each_its_own(self, small_set):
        def drawn(buffer):
            return buffer.sample(200).rewards, buffer._known.sample(200).actions

        how = {"training_set": small_set, "target_class": 1, "share": 0.5}
        first = drawn(Met(seed=4, **how))
        assert all(map(th.equal, first, drawn(Met(seed=4, **how))))
        again = Met(seed=5, **how)
        assert not any(map(th.equal, first, drawn(again)))
        again.set_seed(4)
        assert all(map(th.equal, first, drawn(again)))
        assert again._rng.bit_generator.state != again._known._rng.bit_generator.state
        unseeded = [drawn(Met(**how)) for _ in range(2)]
        assert not any(map(th.equal, *unseeded))

    def test_stands_on_the_device(self, three):
        buffer = MixedReplayBuffer(8, STATES, CHOICES, device="meta", training_set=three, target_class=1)
        assert buffer._known.device == buffer.device == th.device("meta")

    @pytest.mark.parametrize("share", [-0.01, 1.01, np.nan])
    def test_what_is_no_share(self, share):
        with pytest.raises(InputError, match="share must be 0..1"):
            MixedReplayBuffer(8, STATES, CHOICES, share=share)

    def test_no_room_for_steps(self):
        with pytest.raises(InputError, match="optimize_memory_usage must be False"):
            MixedReplayBuffer(
                8, STATES, CHOICES, optimize_memory_usage=True, handle_timeout_termination=False
            )

    def test_weights_of_steps(self):
        weights = check_step_weights(range(1, 9))
        assert weights.dtype == np.float64
        np.testing.assert_array_equal(weights, [1, 2, 3, 4, 5, 6, 7, 8])
        for wrong in ([1] * 7, [1] * 9, [[1] * 8], [1] * 7 + [0], [1] * 7 + [np.inf], [1] * 7 + [np.nan]):
            with pytest.raises(InputError, match="step_weights must be 8 positive numbers"):
                check_step_weights(wrong)

    def test_weights_of_steps_of_another_space(self):
        """The last of them count; the first stands in for those that are missing."""
        abo3 = make_space(ABO3)
        assert abo3.n_steps == 4
        weights = (1, 1, 1, 1, 2, 4, 10, 20)
        assert fit_step_weights(weights, space) == weights
        assert fit_step_weights(weights, abo3) == (2, 4, 10, 20)
        assert fit_step_weights((3, 5), abo3) == (3, 3, 3, 5)
        np.testing.assert_array_equal(check_step_weights((3, 3, 3, 5), abo3), [3, 3, 3, 5])
        with pytest.raises(InputError, match="step_weights must be 4 positive numbers"):
            check_step_weights(weights, abo3)
