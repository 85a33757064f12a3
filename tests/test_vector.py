"""The vector environment is the single one, many times over; and both are safe to use."""

import copy
import itertools
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, check_step_determinism, data_equivalence
from gymnasium.utils.env_match import check_environments_match
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from elpa_env import ElpasoliteEnv, ElpasoliteVectorEnv, rules
from elpa_env.errors import InputError
from elpa_env.space import ELPASOLITE_SPACE as space


def light(numbers):
    """A user's own energy model: light compositions are stable."""
    return numbers.sum(axis=1) / 40 - 3


def stability(numbers, energy, energy_class, target_class):
    """A user's own reward."""
    return -energy + (energy_class == target_class) + numbers[:, 0] / 100


VARIANTS = {
    "plain": {},
    "composition": {"masking": "composition"},
    "any class": {"target_class": None},
    "own energies": {"energy_model": light, "target_class": 3},
    "own reward": {"reward": stability, "target_class": None, "masking": "composition"},
}


def equal(left, right, key=""):
    """Every array of two nested infos."""
    assert set(left) == set(right), key
    for name, value in left.items():
        if isinstance(value, dict):
            equal(value, right[name], f"{key}/{name}")
        elif value.dtype == object:
            for one, other in zip(value, right[name], strict=True):
                np.testing.assert_array_equal(one, other, err_msg=f"{key}/{name}")
        else:
            assert value.dtype == right[name].dtype, f"{key}/{name}"
            np.testing.assert_array_equal(value, right[name], err_msg=f"{key}/{name}")


def drive(kwargs, mode, seed, *, n=13, steps=60, legal=0.8):
    """Play the same actions in the vector environment and in as many single ones."""
    ours = ElpasoliteVectorEnv(n, autoreset_mode=mode, **kwargs)
    theirs = SyncVectorEnv([lambda: ElpasoliteEnv(**kwargs)] * n, autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    rng = np.random.default_rng(seed)
    observations, infos = ours.reset(seed=seed)
    expected, expected_infos = theirs.reset(seed=seed)
    for _ in range(steps):
        assert observations.dtype == expected.dtype
        np.testing.assert_array_equal(observations, expected)
        equal(infos, expected_infos)
        weights = rng.random((n, 8)) * np.where(rng.random((n, 1)) < legal, infos["action_mask"], 1)
        actions = weights.argmax(axis=1)
        observations, *ours_rest, infos = ours.step(actions)
        expected, *theirs_rest, expected_infos = theirs.step(actions)
        for one, other in zip(ours_rest, theirs_rest, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        if mode == AutoresetMode.DISABLED and (over := ours_rest[1]).any():
            options = {"reset_mask": over}
            observations, infos = ours.reset(options=options)
            expected, reset_infos = theirs.reset(options={"reset_mask": over.copy()})
            np.testing.assert_array_equal(observations[over], expected[over])
            np.testing.assert_array_equal(infos["action_mask"][over], reset_infos["action_mask"][over])
            expected, expected_infos = observations, infos


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", VARIANTS)
def test_vector_and_single_are_the_same(name, mode):
    drive(VARIANTS[name], mode, seed=7)


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.sampled_from(list(VARIANTS)), st.sampled_from(list(AutoresetMode)))
def test_vector_and_single_are_the_same_for_any_seed(seed, name, mode):
    drive(VARIANTS[name], mode, seed=seed, n=5, steps=25, legal=0.6)


@pytest.mark.parametrize("name", VARIANTS)
def test_checkers(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(ElpasoliteEnv(**VARIANTS[name]), skip_render_check=True)
        check_env_sb3(ElpasoliteEnv(**VARIANTS[name]))


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_checkers_with_pictures(mode):
    check_env(gym.make("Elpasolite-v0", render_mode=mode).unwrapped)


def episode(env, seed, actions_seed=0):
    rng = np.random.default_rng(actions_seed)
    log = [env.reset(seed=seed)]
    for _ in range(30):
        mask = env.unwrapped.action_masks()
        log.append(env.step(int(rng.choice(np.flatnonzero(mask)))))
        if log[-1][2]:
            log.append(env.reset())
    return log


def same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        np.testing.assert_equal(one, other)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_seed_decides(name):
    kwargs = VARIANTS[name]
    same(episode(gym.make("Elpasolite-v0", **kwargs), 5), episode(gym.make("Elpasolite-v0", **kwargs), 5))


@pytest.mark.parametrize("name", VARIANTS)
def test_gymnasiums_checks_of_determinism(name):
    """Sampled actions, most of which end an episode early: no `info` holds what differs from itself."""
    env, twin = (gym.make("Elpasolite-v0", disable_env_checker=True, **VARIANTS[name]) for _ in range(2))
    for seed in range(60):
        check_step_determinism(env.unwrapped, seed)
        check_environments_match(env, twin, num_steps=20, seed=seed)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", VARIANTS)
def test_vector_rollouts_are_deterministic(name, mode):
    env, twin = (ElpasoliteVectorEnv(7, autoreset_mode=mode, **VARIANTS[name]) for _ in range(2))
    for seed in range(40):
        assert data_equivalence(env.reset(seed=seed), twin.reset(seed=seed), exact=True)
        env.action_space.seed(seed)
        for _ in range(10):
            actions = env.action_space.sample()
            result = env.step(actions)
            assert data_equivalence(result, twin.step(actions), exact=True)
            if mode == AutoresetMode.DISABLED and result[2].any():
                assert data_equivalence(*(e.reset(options={"reset_mask": result[2]}) for e in (env, twin)))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_gymnasiums_wrappers_see_the_same_infos(mode):
    """Episode statistics are added to an `info`, and an `info` becomes a list of dicts."""
    ours, theirs = (
        DictInfoToList(RecordEpisodeStatistics(env))
        for env in (
            ElpasoliteVectorEnv(5, autoreset_mode=mode),
            SyncVectorEnv([ElpasoliteEnv] * 5, autoreset_mode=mode),
        )
    )
    rng = np.random.default_rng(0)
    np.testing.assert_equal(ours.reset(seed=1)[1], theirs.reset(seed=1)[1])
    ended = 0
    for _ in range(60):
        actions = np.where(rng.random(5) < 0.8, rng.integers(6, size=5), 7)
        infos, expected = ours.step(actions)[-1], theirs.step(actions)[-1]
        for info, other in zip(infos, expected, strict=True):
            for record in (info.get("episode"), other.get("episode")):
                ended += record is not None and record.pop("t") >= 0
            np.testing.assert_equal(info, other)
    assert ended > 20


def test_any_class_draws_all_classes_evenly_and_shows_them():
    env = ElpasoliteVectorEnv(4000, target_class=None)
    observations, _ = env.reset(seed=0)
    assert observations.shape == (4000, 18)
    shown = observations[:, 8:]
    assert (shown.sum(axis=1) == 1).all()
    counts = shown.sum(axis=0)
    np.testing.assert_allclose(counts, 400, atol=5 * np.sqrt(400))
    other, _ = env.reset(seed=10_000)
    assert (other != observations).any()
    without_seed, _ = env.reset()
    assert (without_seed != other).any()


def test_the_reward_is_for_the_class_that_is_shown(landscape):
    env = ElpasoliteEnv(target_class=None)
    for seed in range(40):
        observation, _ = env.reset(seed=seed)
        shown = int(observation[8:].argmax()) + 1
        assert env.target_class == shown
        digits = space.index_to_digits(landscape.members(shown)[:1])[0]
        for digit in digits:
            *_, info = (result := env.step(digit - 1))
        assert result[1] == 1.0
        assert info["energy_class"] == shown


@pytest.mark.parametrize("name", VARIANTS)
def test_copies_go_on_alike(name):
    env = ElpasoliteEnv(**VARIANTS[name])
    env.reset(seed=3)
    env.step(2)
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        np.testing.assert_equal(twin.step(1), copy.deepcopy(env).step(1))
    many = ElpasoliteVectorEnv(3, **VARIANTS[name])
    many.reset(seed=3)
    many.step(np.array([1, 2, 3]))
    for twin in (copy.deepcopy(many), pickle.loads(pickle.dumps(many))):
        np.testing.assert_equal(twin.step([1, 1, 1]), copy.deepcopy(many).step([1, 1, 1]))


def test_copies_share_the_landscape():
    env = ElpasoliteEnv()
    assert len(pickle.dumps(env)) < 10_000
    assert copy.deepcopy(env).settings.energy_model is env.settings.energy_model


@pytest.mark.slow
def test_in_processes():
    n = 3
    make = [lambda: gym.make("elpa_env:Elpasolite-v0", target_class=None)] * n
    parallel, plain = AsyncVectorEnv(make), SyncVectorEnv(make)
    try:
        np.testing.assert_array_equal(parallel.reset(seed=1)[0], plain.reset(seed=1)[0])
        for action in range(12):
            actions = np.full(n, action % 6)
            one, other = parallel.step(actions), plain.step(actions)
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])
    finally:
        parallel.close()


def test_make_vec_gives_the_vector_environment():
    env = gym.make_vec("Elpasolite-v0", 4, target_class=2, masking="composition")
    assert isinstance(env.unwrapped, ElpasoliteVectorEnv)
    assert env.reset(seed=0)[0].shape == (4, 8)


class TestMasks:
    """Against brute force: what of the 1,974,024 compositions starts with these digits?"""

    def expected(self, step):
        """(n_step, width) by looking down the tree, composition by composition."""
        digits = space.index_to_digits(np.flatnonzero(space.composition_mask))
        codes = space.tree.digits_to_codes(step + 1, digits)
        reached = np.zeros(space.tree.sizes[step + 1], dtype=bool)
        reached[codes] = True
        return reached.reshape(space.tree.sizes[step], space.tree.widths[step])

    @pytest.mark.parametrize("step", range(7))
    def test_on_every_state_down_to_depth_6(self, step):
        expected = self.expected(step)
        digits = space.tree.codes_to_digits(step, np.arange(space.tree.sizes[step]))
        masks = rules.action_masks(space, digits, "composition")
        alive = expected.any(axis=1)
        np.testing.assert_array_equal(masks[alive, : space.tree.widths[step]], expected[alive])
        assert not masks[alive, space.tree.widths[step] :].any()

    def test_on_a_large_sample_below(self):
        expected = self.expected(7)
        codes = np.random.default_rng(0).choice(space.tree.sizes[7], 100_000, replace=False)
        masks = rules.action_masks(space, space.tree.codes_to_digits(7, codes), "composition")
        alive = expected[codes].any(axis=1)
        np.testing.assert_array_equal(masks[alive], expected[codes][alive])

    def test_digits_masks_are_the_ranges(self):
        for step in range(8):
            digits = (np.arange(8) < step).astype(np.int8)[None]
            mask = rules.action_masks(space, digits)[0]
            np.testing.assert_array_equal(mask, np.arange(8) < (8 if step % 2 else 6))
        assert rules.action_masks(space, np.ones((1, 8), dtype=np.int8), "composition").all()

    @given(st.integers(0, 2**31))
    def test_legal_play_always_ends_in_a_composition(self, seed):
        env = ElpasoliteVectorEnv(50, masking="composition", autoreset_mode="SameStep")
        _, infos = env.reset(seed=seed)
        rng = np.random.default_rng(seed)
        for step in range(16):
            assert infos["action_mask"].any(axis=1).all()
            actions = (rng.random((50, 8)) * infos["action_mask"]).argmax(axis=1)
            _, _, terminated, _, infos = env.step(actions)
            assert terminated.all() == (step % 8 == 7)
            if terminated.any():
                assert (infos["final_info"]["energy_class"] > 0).all()


def test_a_masked_action_ends_the_episode():
    """Row 1 holds H and He alone: group 2 of it is masked, as is H once it is taken."""
    for actions in ([0, 1], [0, 0, 0, 0], [0, 0, 0, 7, 0]):
        single, many = ElpasoliteEnv(masking="composition"), ElpasoliteVectorEnv(2, masking="composition")
        single.reset(seed=0)
        many.reset(seed=0)
        for action in actions[:-1]:
            assert not single.step(action)[2]
            many.step([action, action])
        _, reward, terminated, _, info = single.step(actions[-1])
        assert (reward, terminated, info["energy_class"]) == (-1.0, True, 0)
        _, rewards, ended, _, _ = many.step([actions[-1]] * 2)
        assert (rewards == -1).all()
        assert ended.all()


class TestErrors:
    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"target_class": 0}, "target_class must be 1..10, got 0"),
            ({"target_class": "one"}, "target_class must be 1..10, got 'one'"),
            ({"masking": "all"}, "masking must be one of digits, composition, got 'all'"),
            ({"energy_model": 3}, "energy_model must be callable .* got 3"),
            ({"reward": "sparse"}, "reward must be callable .* got 'sparse'"),
            ({"render_mode": "human"}, "render_mode must be one of ansi, rgb_array, got 'human'"),
        ],
    )
    def test_wrong_arguments(self, kwargs, message):
        for make in (ElpasoliteEnv, ElpasoliteVectorEnv):
            with pytest.raises(ValueError, match=message):
                make(**kwargs)

    def test_wrong_vector_arguments(self):
        for bad in (0, -1, 2.5, "3", None, True):
            with pytest.raises(InputError, match=f"at least 1, got {bad!r}"):
                ElpasoliteVectorEnv(bad)
        with pytest.raises(InputError, match="autoreset_mode must be one of .* got 'foo'"):
            ElpasoliteVectorEnv(1, autoreset_mode="foo")
        env = ElpasoliteVectorEnv(3)
        with pytest.raises(gym.error.ResetNeeded, match=r"call reset\(\) first"):
            env.step([0, 0, 0])
        env.reset()
        for actions, message in (
            ([0, 0], r"must be \(3,\) integers, got int64 of shape \(2,\)"),
            ([0.0, 0.0, 0.0], "got float64"),
            ([0, 8, 0], "0..7, got 8"),
            ([0, -1, 0], "0..7, got -1"),
        ):
            with pytest.raises(InputError, match=message):
                env.step(actions)
        with pytest.raises(InputError, match="reset_mask"):
            env.reset(options={"reset_mask": np.zeros(3, dtype=bool)})
        for seed, message in (
            ([1, 2], "3 of them, got 2"),
            (1.5, "3 of them, got 1.5"),
            (-1, "at least 0, or None, got -1"),
            ([0, None, 1.0], "at least 0, or None, got 1.0"),
            ("abc", "at least 0, or None, got 'a'"),
        ):
            with pytest.raises(InputError, match=message):
                env.reset(seed=seed)
        with pytest.raises(InputError, match=f"0..7, got {2**64 - 1}"):
            env.step(np.array([0, 1, 2**64 - 1], dtype=np.uint64))

    def test_seeds_of_numpy_are_seeds(self):
        env = ElpasoliteVectorEnv(3, target_class=None)
        expected, _ = env.reset(seed=[4, 5, 6])
        np.testing.assert_array_equal(env.reset(seed=np.arange(4, 7))[0], expected)
        np.testing.assert_array_equal(env.reset(seed=np.int64(4))[0], expected)

    @pytest.mark.parametrize("action", [8, -1, 1.5, "a", None])
    def test_actions_outside_the_space(self, action):
        env = ElpasoliteEnv()
        env.reset()
        with pytest.raises(InputError, match=f"action must be 0..7, got {action!r}"):
            env.step(action)

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (lambda numbers: np.full(len(numbers), np.nan), "returned nan for .*finite eV/atom"),
            (lambda numbers: 1.0, r"returned shape \(\) for 1 compositions: it must return \(1,\)"),
            (lambda numbers: numbers, r"returned shape \(1, 4\)"),
            (lambda numbers: 1 / 0, "failed: ZeroDivisionError: division by zero"),
            (lambda numbers: "low", r"returned str values: it must return \(1,\)"),
            (lambda numbers: None, "returned object values"),
            (lambda numbers: ["-1.5"], "returned str values"),
            (lambda numbers: np.array([-1.5], dtype=object), "returned object values"),
            (lambda numbers: np.array([-1.5 + 0j]), "returned complex128 values"),
            (lambda numbers: np.ma.array([-1.5], mask=[True]), "returned masked values"),
            (lambda numbers: np.array([1e300]), r"returned 1e\+300 for .* between -3.4e\+38 and 3.4e\+38"),
            (lambda numbers: np.array([-np.inf]), "returned -inf for .*finite eV/atom"),
        ],
    )
    def test_failing_energy_models_are_named_and_leave_a_usable_environment(self, model, message):
        model.__qualname__ = "my_model"
        for role, kwargs in (
            ("energy_model", {"energy_model": model}),
            ("reward", {"reward": lambda numbers, energy, energy_class, target_class: model(energy)}),
        ):
            if role == "reward" and "1, 4" in message:
                continue
            single = ElpasoliteEnv(**kwargs)
            many = ElpasoliteVectorEnv(1, **kwargs)
            digits = space.index_to_digits(space.formula_to_index(["AlNaK2F6"]))[0]
            for _ in range(2):
                single.reset(seed=0)
                many.reset(seed=0)
                for digit in digits[:-1]:
                    single.step(digit - 1)
                    many.step([digit - 1])
                expected = message.replace("eV/atom", "") if role == "reward" else f"my_model {message}"
                for step in (lambda env=single: env.step(6), lambda env=many: env.step([6])):
                    with pytest.raises(InputError, match=f"^{role} .*{expected}.*$"):
                        step()
            with pytest.raises(gym.error.ResetNeeded):
                single.step(0)

    @pytest.mark.parametrize("n", [1, 40])
    def test_who_changes_what_it_is_given_changes_nothing_else(self, n):
        """The energy model spoils the numbers, the reward all that it sees; nobody notices."""
        seen = []

        def spoiling(numbers):
            energy = light(numbers)
            numbers[:] = -1
            return energy

        def spoiled(numbers, energy, energy_class, target_class):
            seen.extend(numbers.tolist())
            earned = stability(numbers, energy, energy_class, target_class)
            for array in (numbers, energy, energy_class, target_class):
                array[:] = -1
            return earned

        plain, rough = (
            ElpasoliteVectorEnv(n, masking="composition", energy_model=model, reward=reward)
            for model, reward in ((light, stability), (spoiling, spoiled))
        )
        _, infos = plain.reset(seed=0)
        rough.reset(seed=0)
        rng = np.random.default_rng(0)
        for _ in range(8):
            actions = (rng.random((n, 8)) * infos["action_mask"]).argmax(axis=1)
            (*arrays, infos), (*others, other_infos) = plain.step(actions), rough.step(actions)
            np.testing.assert_equal(others, arrays)
        np.testing.assert_equal(dict(other_infos), dict(infos))
        np.testing.assert_array_equal(seen, infos["numbers"])

    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.longdouble, np.int8, np.uint64, bool, None])
    def test_real_numbers_of_any_kind_are_taken(self, kind):
        ones = [1.0] if kind is None else np.ones(1, dtype=kind)
        env = ElpasoliteEnv(energy_model=lambda numbers: ones, reward=lambda *_: ones)
        env.reset(seed=0)
        for digit in space.index_to_digits(space.formula_to_index(["AlNaK2F6"]))[0]:
            _, reward, *_, info = env.step(digit - 1)
        assert info["energy"] == reward == 1.0

    def test_queries_are_counted(self):
        calls = []

        def counted(numbers):
            calls.append(len(numbers))
            return light(numbers)

        env = ElpasoliteVectorEnv(64, energy_model=counted, autoreset_mode="SameStep")
        env.reset(seed=0)
        rng = np.random.default_rng(0)
        total = 0
        for _ in range(40):
            *_, ended, _, infos = env.step(rng.integers(6, size=64))
            if ended.any():
                total += int((infos["final_info"]["energy_class"] > 0).sum())
        assert env.n_queries == sum(calls) == total
        assert len(calls) == 5  # once a batch of finished compositions


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_render(mode):
    single = ElpasoliteEnv(render_mode=mode)
    many = ElpasoliteVectorEnv(2, render_mode=mode, autoreset_mode="Disabled")
    single.reset(seed=0)
    many.reset(seed=0)
    frames = [single.render()]
    for digit in space.index_to_digits(space.formula_to_index(["AlNaK2F6"]))[0]:
        single.step(digit - 1)
        frames.append(single.render())
        if many.step([digit - 1, 0 if digit - 1 != 6 else 1])[2].any():
            break
    np.testing.assert_array_equal(many.render()[0], frames[-1])
    for before, after in itertools.pairwise(frames):
        assert np.any(before != after)
    if mode == "ansi":
        assert "AlNaK2F6" in frames[-1]
        assert "class 1" in frames[-1]
    early = ElpasoliteVectorEnv(1, render_mode=mode, autoreset_mode="Disabled")
    early.reset()
    early.step([7])
    alone = ElpasoliteEnv(render_mode=mode)
    alone.reset()
    alone.step(7)
    np.testing.assert_array_equal(early.render()[0], alone.render())
