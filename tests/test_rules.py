"""The rules of the game, by hand: what is seen, what is allowed, and what an episode comes to."""

import itertools

import numpy as np
import pytest

from elpa_env import rules
from elpa_env.errors import InputError
from elpa_env.space import ELPASOLITE_SPACE as space

FORMULAS = ["AlNaK2F6", "CsAlK2F6", "HHeLi2Be6"]
INDEX = np.append(space.formula_to_index(FORMULAS), -1)
NUMBERS = [[13, 11, 19, 9], [55, 13, 19, 9], [1, 2, 3, 4], [0, 0, 0, 0]]
ENERGIES = [-3.0, -2.0, 4.9]
"""Of the first three; classes 1, 2 and 10."""


def energies(numbers):
    of = dict(zip(map(tuple, NUMBERS[:3]), ENERGIES, strict=True))
    return [of[tuple(row)] for row in numbers.tolist()]


@pytest.fixture
def outcome():
    return rules.finish(space, INDEX, 2, energies)


class TestStates:
    def test_at_the_start_every_digit_is_unset(self):
        digits = rules.initial_digits(space, 3)
        assert digits.shape == (3, 8)
        assert digits.dtype == np.int8
        assert not digits.any()

    def test_shown_with_a_class(self):
        digits = np.array([[3, 3, 0, 0, 0, 0, 0, 0], [3, 1, 2, 4, 6, 8, 1, 1]], dtype=np.int8)
        np.testing.assert_array_equal(rules.observe(space, digits), space.scale(digits))
        for classes, rows in (([4, 10], (3, 9)), (7, (6, 6))):
            shown = rules.observe(space, digits, classes)
            assert shown.dtype == np.float32
            np.testing.assert_array_equal(shown[:, :8], space.scale(digits))
            np.testing.assert_array_equal(shown[:, 8:], np.eye(10)[list(rows)])

    def test_masks_by_default_are_those_of_digits(self):
        digits = np.array([[0] * 8, [1, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 8, 0, 0, 0, 0]], dtype=np.int8)
        in_range = [[True] * 6 + [False] * 2, [True] * 8, [True] * 6 + [False] * 2]
        np.testing.assert_array_equal(rules.action_masks(space, digits), in_range)
        np.testing.assert_array_equal(rules.action_masks(space, digits, "digits"), in_range)
        # row 1 holds hydrogen and helium alone, and both are used
        possible = [in_range[0], [True] + [False] * 6 + [True], [False] + [True] * 5 + [False] * 2]
        np.testing.assert_array_equal(rules.action_masks(space, digits, "composition"), possible)

    def test_ways_to_mask(self):
        assert [rules.check_masking(masking) for masking in ("digits", "composition")] == [
            "digits",
            "composition",
        ]
        with pytest.raises(InputError, match="masking must be one of digits, composition, got 'none'"):
            rules.check_masking("none")

    def test_an_action_out_of_range_changes_nothing(self):
        digits = np.array([[0] * 8, [2, 0, 0, 0, 0, 0, 0, 0], [0] * 8], dtype=np.int8)
        after, legal = rules.apply_actions(space, digits, np.array([5, 7, 6]))
        np.testing.assert_array_equal(after[:, :2], [[6, 0], [2, 8], [0, 0]])
        assert legal.tolist() == [True, True, False]
        assert not digits[:, 1].any()  # the arguments stay


class TestFinish:
    def test_by_an_energy_model(self, outcome):
        np.testing.assert_array_equal(outcome.index, INDEX)
        np.testing.assert_array_equal(outcome.energy, np.float32([*ENERGIES, np.nan]))
        assert outcome.energy.dtype == np.float32
        assert outcome.energy_class.tolist() == [1, 2, 10, 0]
        assert outcome.reward.tolist() == [-1, 1, -1, -1]

    def test_by_the_landscape(self, landscape):
        found = rules.finish(space, INDEX, np.array([1, 2, 3, 4]), landscape)
        np.testing.assert_array_equal(found.energy, landscape.energy(INDEX))
        np.testing.assert_array_equal(found.energy_class, landscape.energy_class(INDEX))
        np.testing.assert_array_equal(
            found.reward, [1 if c == t else -1 for c, t in zip(found.energy_class, [1, 2, 3, 4], strict=True)]
        )

    @pytest.mark.parametrize("target", [np.array([1, 5, 7, 9], dtype=np.int8), 3])
    def test_by_a_reward_of_ones_own(self, target):
        seen = []

        def reward(numbers, energy, energy_class, target_class):
            seen.append((numbers, energy, energy_class, target_class))
            return energy_class * 10 + target_class

        found = rules.finish(space, INDEX, target, energies, reward)
        targets = np.broadcast_to(target, 4).tolist()
        assert found.reward.tolist() == [10 + targets[0], 20 + targets[1], 100 + targets[2], -1]
        ((numbers, energy, energy_class, target_class),) = seen
        np.testing.assert_array_equal(numbers, NUMBERS[:3])
        np.testing.assert_array_equal(energy, np.float32(ENERGIES))
        assert energy_class.tolist() == [1, 2, 10]
        assert target_class.tolist() == targets[:3]
        dtypes = [argument.dtype for argument in (numbers, energy, energy_class, target_class)]
        assert dtypes == [np.int16, np.float32, np.int8, np.int8]

    def test_nobody_is_asked_about_nothing(self):
        def never(*_):
            raise AssertionError("there is nothing to ask about")

        found = rules.finish(space, np.array([-1, -1]), 1, never, never)
        assert found.reward.tolist() == [-1, -1]
        assert np.isnan(found.energy).all()
        assert found.energy_class.tolist() == [0, 0]

    def test_a_row(self, outcome):
        row = outcome.row(1)
        assert (row.index.tolist(), row.energy.tolist()) == ([INDEX[1]], [-2.0])
        assert (row.energy_class.tolist(), row.reward.tolist()) == ([2], [1.0])

    def test_the_largest_number_that_is_left_finite(self):
        largest = float(np.finfo(np.float32).max)
        for value in (largest, -largest):
            found = rules.finish(space, INDEX[:1], 1, energies, lambda *_, value=value: [value])
            assert found.reward.tolist() == [value]
        for value in (np.nextafter(largest, np.inf), -np.inf, np.nan):
            with pytest.raises(InputError, match=r"reward .*<lambda> returned .* for \[13, 11, 19, 9\]"):
                rules.finish(space, INDEX[:1], 1, energies, lambda *_, value=value: [value])

    def test_what_a_user_keeps_is_his_own(self):
        kept = []

        def modifies(numbers):
            kept.append(numbers)
            numbers[:] = 0
            return np.zeros(len(numbers))

        seen = []
        rules.finish(space, INDEX, 1, modifies, lambda numbers, *_: seen.append(numbers) or np.ones(3))
        np.testing.assert_array_equal(seen[0], NUMBERS[:3])

    def test_who_failed_is_named(self):
        class Model:
            def __call__(self, numbers):
                raise RuntimeError("first line\nsecond line")

        with pytest.raises(InputError, match=r"^energy_model Model failed: RuntimeError: first line$"):
            rules.finish(space, INDEX, 1, Model())

        def silent(*_):
            raise RuntimeError

        with pytest.raises(InputError, match=r"reward .*silent failed: RuntimeError: $"):
            rules.finish(space, INDEX, 1, energies, silent)

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (
                lambda *_: [1.0, 2.0],
                r"returned shape \(2,\) for 3 compositions: it must return \(3,\) numbers",
            ),
            (lambda *_: ["a", "b", "c"], r"returned str values: it must return \(3,\) numbers as real"),
            (lambda *_: np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]), "returned masked values"),
            (
                lambda *_: [0.0, np.inf, 0.0],
                r"returned inf for \[55, 13, 19, 9\]: it must return finite numbers",
            ),
        ],
    )
    def test_what_is_no_reward(self, answer, message):
        with pytest.raises(InputError, match=f"reward .*lambda> {message}"):
            rules.finish(space, INDEX, 1, energies, answer)

    def test_what_is_no_energy(self):
        with pytest.raises(
            InputError, match=r"energy_model .*lambda> returned .* must return \(3,\) eV/atom"
        ):
            rules.finish(space, INDEX, 1, lambda numbers: [1.0])

    def test_booleans_and_whole_numbers_are_rewards(self):
        for answer, reward in (([True, False, True], [1, 0, 1]), (np.arange(3, dtype=np.uint8), [0, 1, 2])):
            found = rules.finish(space, INDEX, 1, energies, lambda *_, answer=answer: answer)
            assert found.reward.tolist() == [*reward, -1]


class TestDescribe:
    def test_an_outcome(self, outcome):
        infos = rules.describe(outcome)
        assert [info["is_success"] for info in infos] == [False, True, False, False]
        assert [info["formula"] for info in infos] == [*FORMULAS, ""]
        assert [info["numbers"].tolist() for info in infos] == NUMBERS
        assert [info["energy_class"] for info in infos] == [1, 2, 10, 0]
        assert [info.get("energy") for info in infos] == [*np.float32(ENERGIES).tolist(), None]
        assert "energy" not in infos[3]
        assert set(infos[0]) == {"is_success", "formula", "numbers", "energy_class", "energy"}

    def test_success_is_a_reward_above_nothing(self):
        found = rules.finish(space, INDEX[:3], 1, energies, lambda *_: [0.0, 1e-9, -1e-9])
        assert [info["is_success"] for info in rules.describe(found)] == [False, True, False]

    def test_texts_and_numbers(self):
        formulas, numbers = rules.texts_and_numbers(space, INDEX)
        assert formulas.tolist() == [*FORMULAS, ""]
        np.testing.assert_array_equal(numbers, NUMBERS)
        assert numbers.dtype == np.int16
        formulas, numbers = rules.texts_and_numbers(space, INDEX[3:])
        assert formulas.tolist() == [""]
        assert numbers.tolist() == [[0] * 4]


GOLDEN = 0x9E3779B97F4A7C15
WORD = (1 << 64) - 1


def splitmix(x):
    """SplitMix64's mixing function in whole numbers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


class TestTargets:
    def test_the_mixing_function_gives_the_numbers_that_are_published(self):
        published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
        states = [(1234567 + k * GOLDEN) & WORD for k in (1, 2, 3)]
        assert [splitmix(state) for state in states] == published
        assert rules._mix(np.array(states, dtype=np.uint64)).tolist() == published

    def test_of_seed_and_episode(self):
        keys, episodes = [0, 5, WORD, 1 << 63], [0, 1, 77, WORD]
        pairs = np.array([*itertools.product(keys, episodes)], dtype=np.uint64)
        drawn = rules.draw_targets(pairs[:, 0], pairs[:, 1], 10)
        assert drawn.dtype == np.int8
        assert drawn.tolist() == [
            splitmix((splitmix((key + GOLDEN) & WORD) + episode * GOLDEN) & WORD) % 10 + 1
            for key, episode in itertools.product(keys, episodes)
        ]

    def test_every_class_is_as_likely(self):
        drawn = rules.draw_targets(np.zeros(50_000, np.uint64), np.arange(50_000, dtype=np.uint64), 10)
        counts = np.bincount(drawn, minlength=11)
        assert counts[0] == 0
        assert (abs(counts[1:] - 5_000) < 5 * np.sqrt(5_000)).all()


def test_the_elements_of_row_1():
    """What the masks above take for granted."""
    assert (space.element_of_row_column[1] >= 0).tolist() == [False, True, *[False] * 6, True]
