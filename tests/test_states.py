"""A state as one integer says what the digits say; and an `info` that is made late is a dict like another."""

import copy
import json
import pickle

import numpy as np
import pytest

from elpa_env import rules
from elpa_env.late import LateInfo
from elpa_env.space import ELPASOLITE_SPACE as space
from elpa_env.states import START


def some(step, n=5_000):
    """Digits of all states at a step, or of a sample."""
    rng = np.random.default_rng(step)
    codes = (
        np.arange(space.tree.sizes[step])
        if space.tree.sizes[step] <= n
        else rng.integers(space.tree.sizes[step], size=n)
    )
    return space.tree.codes_to_digits(step, codes)


@pytest.mark.parametrize("step", range(9))
class TestStates:
    def test_hold_the_digits(self, step):
        digits = some(step)
        state = space.states.encode(digits)
        np.testing.assert_array_equal(space.states.decode(state), digits)
        np.testing.assert_array_equal(space.states.steps_taken(digits), step)
        np.testing.assert_array_equal(space.states.first_actions(state), 8 * step)
        assert len(np.unique(state)) == len(np.unique(digits, axis=0))

    def test_show_the_scaled_digits(self, step):
        digits = some(step)
        observation = space.states.observe(space.states.encode(digits))
        assert observation.dtype == np.float32
        np.testing.assert_array_equal(observation, space.scale(digits))

    def test_know_their_composition(self, step):
        digits = some(step, 200_000)
        np.testing.assert_array_equal(
            space.states.index_of(space.states.encode(digits)), space.digits_to_index(digits)
        )

    def test_move_with_an_allowed_action_alone(self, step):
        if step == 8:
            return
        digits = some(step, 500)
        state = space.states.encode(digits)
        width = 8 if step % 2 else 6
        for action in range(8):
            actions = np.full(len(digits), action)
            after, legal = space.states.advance(state, space.states.first_actions(state) + actions)
            forbidden, none = space.states.advance(
                state, space.states.first_actions(state) + actions, np.zeros(len(digits), dtype=bool)
            )
            np.testing.assert_array_equal(forbidden, state)
            assert not none.any()
            expected = digits.copy()
            if action < width:
                expected[:, step] = action + 1
                together, entries = space.states.advance_together(state, step, actions)
                np.testing.assert_array_equal(together, after)
                np.testing.assert_array_equal(entries, space.scale(expected)[:, step])
            np.testing.assert_array_equal(legal, action < width)
            np.testing.assert_array_equal(space.states.decode(after), expected)
            moved, in_range = rules.apply_actions(space, digits, actions)
            np.testing.assert_array_equal(moved, expected)
            np.testing.assert_array_equal(in_range, legal)


def test_masks_are_bool_and_their_own():
    state = space.states.encode(some(3, 10))
    for composition in (False, True):
        masks = space.states.action_masks(state, composition=composition)
        assert (masks.dtype, masks.shape) == (bool, (len(state), 8))
        masks[:] = False
        assert space.states.action_masks(state, composition=composition).any(axis=1).all()


def test_from_the_end_of_an_episode_any_action_leads_to_the_start():
    over = np.full(8, space.states.over)
    after, legal = space.states.advance(over, space.states.first_actions(over) + np.arange(8))
    assert (after == START).all()
    assert legal.all()
    assert space.states.action_masks(over).all()
    assert space.states.action_masks(over, composition=True).all()


class TestLateInfo:
    WHOLE = {"mask": [1], "formula": "AlNaK2F6", "energy": -2.9}  # noqa: RUF012

    @pytest.fixture
    def made(self):
        return []

    @pytest.fixture
    def info(self, made):
        def rest():
            made.append(1)
            return {"formula": "AlNaK2F6", "energy": -2.9}

        return LateInfo({"mask": [1]}, rest)

    def test_what_is_known_costs_nothing(self, info, made):
        assert info["mask"] == [1]
        assert info.get("mask") == [1]
        info["mine"] = 2
        assert not made
        assert dict(info) == {**self.WHOLE, "mine": 2}

    def test_the_rest_is_made_once(self, info, made):
        assert info["formula"] == "AlNaK2F6"
        assert info.get("energy") == -2.9
        assert info.get("nothing", 7) == 7
        with pytest.raises(KeyError, match="nothing"):
            info["nothing"]
        assert made == [1]

    @pytest.mark.parametrize(
        "ask",
        [
            lambda info: dict(info),
            lambda info: {**info},
            lambda info: info.copy(),
            lambda info: copy.copy(info),
            lambda info: copy.deepcopy(info),
            lambda info: pickle.loads(pickle.dumps(info)),
            lambda info: json.loads(json.dumps(info)),
            lambda info: {key: info[key] for key in info},
            lambda info: dict(zip(info.keys(), info.values(), strict=True)),
            lambda info: dict(info.items()),
            lambda info: {key: info[key] for key in reversed(info)},
            lambda info: info | {},
            lambda info: {} | info,
            lambda info: eval(repr(info)),
            lambda info: (lambda **kwargs: kwargs)(**info),
            lambda info: {key: info.pop(key) for key in ("energy", "mask", "formula")},
            lambda info: dict(info.popitem() for _ in range(3)),
            lambda info: dict.fromkeys(("mask", "energy", "formula")) | info,
        ],
    )
    def test_whoever_asks_sees_a_dict_with_all_its_keys(self, info, ask):
        answer = ask(info)
        assert type(answer) is dict
        assert answer == self.WHOLE

    def test_it_compares_and_counts_as_a_dict(self, info):
        assert isinstance(info, dict)
        assert "formula" in info
        assert info == self.WHOLE
        assert not info != self.WHOLE
        assert len(info) == 3

    def test_changes_are_kept(self, info, made):
        info["energy"] = 5
        assert info.setdefault("formula", "other") == "AlNaK2F6"
        assert made == [1]
        del info["mask"]
        info.update(more=1)
        info |= {"last": 2}
        assert info == {"formula": "AlNaK2F6", "energy": 5, "more": 1, "last": 2}
        info.clear()
        assert info == {}
