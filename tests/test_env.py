import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import elpa_env
from elpa_env import rules
from elpa_env.errors import InputError
from elpa_env.space import ELPASOLITE_SPACE as space

actions_of_an_episode = st.lists(st.integers(0, 7), min_size=8, max_size=8)


def eq_12(actions, target_class, landscape):
    """Reward and digits of one sequence of actions, read straight from the paper."""
    digits = []
    for step, action in enumerate(actions):
        if action + 1 > (8 if step % 2 else 6):
            return digits, -1.0
        digits.append(action + 1)
    chosen = []
    for row, group in zip(digits[::2], digits[1::2], strict=True):
        match = [e for e in range(39) if space.rows[e] == row and space.columns[e] == group]
        if not match or match[0] in chosen:
            return digits, -1.0
        chosen.append(match[0])
    place = ((chosen[0] * 39 + chosen[1]) * 39 + chosen[2]) * 39 + chosen[3]
    energy = float(landscape.energy([place])[0])
    width = (5.01875829 + 3.06699926) / 10
    energy_class = min(max(int((energy + 3.06699926) // width) + 1, 1), 10)
    return digits, 1.0 if energy_class == target_class else -1.0


def test_registered_on_import():
    env = gym.make("Elpasolite-v0", target_class=1)
    assert isinstance(env.unwrapped, elpa_env.ElpasoliteEnv)
    assert env.action_space == gym.spaces.Discrete(8)
    assert env.observation_space == gym.spaces.Box(-1.0, 1.0, (8,), np.float32)


@pytest.mark.parametrize("masking", ["digits", "composition"])
def test_checkers(masking):
    env = gym.make("Elpasolite-v0", masking=masking).unwrapped
    check_env(env, skip_render_check=True)
    check_env_sb3(env)


@given(actions_of_an_episode, st.integers(1, 10))
def test_an_episode_is_eq_12(landscape, actions, target_class):
    env = elpa_env.ElpasoliteEnv(target_class)
    observation, info = env.reset(seed=0)
    assert (observation == 0).all()
    digits, reward = eq_12(actions, target_class, landscape)
    for step, action in enumerate(actions):
        assert info["action_mask"].tolist() == [1] * 6 + [step % 2] * 2
        observation, earned, terminated, truncated, info = env.step(action)
        assert not truncated
        set_so_far = digits[: step + 1] + [0] * (8 - len(digits[: step + 1]))
        np.testing.assert_array_equal(observation, space.scale(np.array([set_so_far]))[0])
        if terminated:
            break
        assert earned == 0
    assert terminated
    assert earned == reward
    assert info["is_success"] == (reward == 1)
    if info["formula"]:
        index = space.formula_to_index([info["formula"]])
        np.testing.assert_array_equal(space.index_to_digits(index)[0], digits)
        np.testing.assert_array_equal(info["numbers"], space.index_to_numbers(index)[0])
        assert info["energy_class"] == landscape.energy_class(index)[0]
        assert info["energy"] == pytest.approx(landscape.energy(index)[0])
    else:
        assert info["energy_class"] == 0
        assert "energy" not in info
        assert (info["numbers"] == 0).all()
        assert reward == -1
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset()
    env.step(0)


def test_all_rewards_of_the_last_step(landscape):
    """Every composition with A = Cs, B = Ba: 6 x 8 x 6 x 8 endings."""
    ends = np.array(np.meshgrid(range(1, 7), range(1, 9), range(1, 7), range(1, 9))).reshape(4, -1).T
    digits = np.concatenate([np.tile([6, 1, 6, 2], (len(ends), 1)), ends], axis=1).astype(np.int8)
    energy_class = landscape.energy_class(space.digits_to_index(digits))
    rewards = rules.sparse_reward(energy_class, 1)
    expected = [eq_12((row - 1).tolist(), 1, landscape)[1] for row in digits]
    np.testing.assert_array_equal(rewards, expected)


@given(st.lists(st.integers(0, 7), max_size=7))
def test_composition_masks_leave_only_what_can_be_completed(actions):
    digits = rules.initial_digits(space, 1)
    for action in actions:
        mask = rules.action_masks(space, digits, "composition")
        assert mask.any()
        if not mask[0, action]:
            break
        digits, _ = rules.apply_actions(space, digits, np.array([action]))
    while not digits[0, -1]:
        mask = rules.action_masks(space, digits, "composition")
        digits, _ = rules.apply_actions(space, digits, np.array([np.flatnonzero(mask[0])[-1]]))
    assert space.digits_to_index(digits)[0] >= 0


def test_wrong_arguments_are_named():
    with pytest.raises(InputError, match="target_class must be 1..10, got 11"):
        gym.make("Elpasolite-v0", target_class=11)
    with pytest.raises(InputError, match="masking must be one of digits, composition, got 'all'"):
        gym.make("Elpasolite-v0", masking="all")
