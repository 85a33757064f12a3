"""The state tree and its exact solution, against recursion, closed forms, the environment and draws."""

import math

import gymnasium as gym
import numpy as np
import pytest

from elpa_env import ExactSampler
from elpa_env.errors import InputError
from elpa_env.rules import action_masks
from elpa_env.sampler import sample_distribution
from elpa_env.sampling import sample_policy
from elpa_env.solve import OptimalSampler, solve
from elpa_env.space import ELPASOLITE_SPACE as space
from eval.judge import load_judge
from eval.metrics import element_distribution, expected_metrics
from eval.scoring import count_samples, score_tally

MASKINGS = ("digits", "composition")
BACKUPS = ("max", "soft")
ELEMENT = {
    (int(row), int(group)): e for e, (row, group) in enumerate(zip(space.rows, space.columns, strict=True))
}


@pytest.fixture(scope="module")
def solutions():
    return {backup: solve(1, backup=backup) for backup in BACKUPS}


@pytest.fixture(scope="module")
def symmetric():
    return load_judge("symmetric")


@pytest.fixture(scope="module")
def distributions(solutions):
    return {backup: solution.distribution() for backup, solution in solutions.items()}


class TestTree:
    def test_sizes(self):
        assert space.tree.sizes == (1, 6, 48, 288, 2_304, 13_824, 110_592, 663_552, 5_308_416)
        assert space.tree.n_inner == 790_615

    @pytest.mark.parametrize("step", range(9))
    def test_codes_and_digits(self, step):
        rng = np.random.default_rng(step)
        codes = np.append(rng.integers(0, space.tree.sizes[step], 500), space.tree.sizes[step] - 1)
        digits = space.tree.codes_to_digits(step, codes)
        assert (np.count_nonzero(digits, axis=1) == step).all()
        assert (digits[:, step:] == 0).all()
        np.testing.assert_array_equal(space.as_digits(digits), digits)
        np.testing.assert_array_equal(space.tree.digits_to_codes(step, digits), codes)
        if step < 8:
            width = space.tree.widths[step]
            child = space.tree.codes_to_digits(step + 1, codes * width + width - 1)
            np.testing.assert_array_equal(child[:, :step], digits[:, :step])
            assert (child[:, step] == width).all()
            for masking in MASKINGS:
                np.testing.assert_array_equal(
                    space.tree.level_masks(step, masking)[codes],
                    action_masks(space, digits, masking)[:, :width],
                )

    def test_leaves(self, landscape):
        index = space.tree.leaf_index
        real = index[index >= 0]
        assert len(real) == len(np.unique(real)) == space.n_compositions
        some = np.random.default_rng(0).integers(0, space.tree.n_leaves, 1000)
        np.testing.assert_array_equal(index[some], space.digits_to_index(space.tree.codes_to_digits(8, some)))
        rewards = space.tree.leaf_rewards(1, landscape)
        assert (rewards == 1).sum() == landscape.class_counts[1]
        assert (rewards[index < 0] == -1).all()
        np.testing.assert_array_equal(space.tree.leaf_rewards("1", landscape), rewards)


class TestPolicyDistribution:
    def test_uniform_over_all_eight_actions(self):
        p = space.tree.policy_distribution(lambda _, digits: np.ones((len(digits), 8), np.float32))
        np.testing.assert_allclose(p[space.composition_mask], 8.0**-8)
        assert p[~space.composition_mask].sum() == 0

    def test_any_policy_is_a_product_along_the_path(self):
        table = np.random.default_rng(0).random((8, 97, 8)) ** 3

        def policy(step, digits):
            return table[step, digits.astype(np.int64) @ [1, 2, 3, 5, 7, 11, 13, 17] % 97]

        p = space.tree.policy_distribution(policy)
        for index in np.random.default_rng(1).choice(np.flatnonzero(space.composition_mask), 50):
            whole = space.index_to_digits([index])
            expected = 1.0
            for step in range(8):
                state = np.where(np.arange(8) < step, whole, 0)
                row = policy(step, state)[0]
                expected *= row[whole[0, step] - 1] / row.sum()
            assert p[index] == pytest.approx(expected, rel=1e-12)
        assert 0 < p.sum() < 1

    def test_a_policy_that_makes_nothing_real(self):
        first = np.eye(8)[0]
        p = space.tree.policy_distribution(lambda _, digits: np.tile(first, (len(digits), 1)))
        assert p.shape == (space.n_table,)
        assert p.sum() == 0

    def test_what_is_no_policy(self):
        for row in (np.zeros(8), np.full(8, np.nan), np.eye(8)[0] - np.eye(8)[1] / 2):
            with pytest.raises(InputError, match="at least 0 with a positive sum"):
                space.tree.policy_distribution(lambda _, digits, row=row: np.tile(row, (len(digits), 1)))
        with pytest.raises(InputError, match=r"must have shape \(1, 8\), got \(1, 6\)"):
            space.tree.policy_distribution(lambda _, digits: np.ones((len(digits), 6)))


def class_of(digits, landscape):
    """Energy class of eight digits by the definition; 0 if they are no composition."""
    elements = [ELEMENT.get((digits[2 * s], digits[2 * s + 1]), -1) for s in range(4)]
    if -1 in elements or len(set(elements)) < 4:
        return 0
    return int(landscape.table_class[np.ravel_multi_index(elements, space.table_shape)])


def completions(digits):
    """Real compositions that can follow."""
    if len(digits) == 8:
        elements = [ELEMENT.get((digits[2 * s], digits[2 * s + 1])) for s in range(4)]
        return None not in elements and len(set(elements)) == 4
    limit = 8 if len(digits) % 2 else 6
    return any(completions([*digits, value]) for value in range(1, limit + 1))


def recursive_q(digits, landscape, *, target, backup, beta, gamma, masking):
    """Q of every open action by plain recursion, {} if none is open."""
    q = {}
    for value in range(1, (8 if len(digits) % 2 else 6) + 1):
        after = [*digits, value]
        if masking == "composition" and not completions(after):
            continue
        if len(after) == 8:
            q[value - 1] = 1.0 if class_of(after, landscape) == target else -1.0
            continue
        below = recursive_q(
            after, landscape, target=target, backup=backup, beta=beta, gamma=gamma, masking=masking
        ).values()
        if backup == "max":
            q[value - 1] = gamma * max(below)
        else:
            q[value - 1] = gamma * math.log(sum(math.exp(beta * v) for v in below)) / beta
    return q


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("backup", BACKUPS)
def test_against_recursion(backup, masking, landscape):
    settings = {"backup": backup, "beta": 2.0, "gamma": 0.9, "masking": masking}
    solution = solve(3, **settings)
    rng = np.random.default_rng(0)
    compositions = rng.choice(landscape.members(3), 12, replace=False)
    for number, whole in enumerate(space.index_to_digits(compositions)):
        step = 5 + number % 3 if number else 4
        state = np.where(np.arange(8) < step, whole, 0).astype(np.int8)
        expected = recursive_q(state[:step].tolist(), landscape, target=3, **settings)
        q = solution.q[step][space.tree.digits_to_codes(step, state[None])[0]]
        assert set(np.flatnonzero(q > -np.inf).tolist()) == set(expected)
        for action, value in expected.items():
            assert q[action] == pytest.approx(value, rel=1e-12)
        policy = solution.action_probabilities(state[None])[0]
        weight = np.array([math.exp(2 * expected[a]) if a in expected else 0.0 for a in range(8)])
        np.testing.assert_allclose(policy, weight / weight.sum(), rtol=1e-12)


class TestSoft:
    def test_draws_in_proportion_to_exp_beta_reward(self, distributions, landscape):
        p = distributions["soft"]
        right, real = landscape.table_class == 1, space.composition_mask
        wrong = real & ~right
        z = right.sum() * math.exp(5) + wrong.sum() * math.exp(-5)
        np.testing.assert_allclose(p[right], math.exp(5) / z, rtol=1e-9)
        np.testing.assert_allclose(p[wrong], math.exp(-5) / z, rtol=1e-9)
        assert p[right].mean() / p[wrong].mean() == pytest.approx(math.exp(10), rel=1e-9)
        assert (p[~real] == 0).all()
        assert p.sum() == pytest.approx(1, abs=1e-12)

    def test_start_value_is_the_partition_function(self, solutions, landscape):
        right = landscape.class_counts[1]
        wrong = space.n_compositions - right
        z = right * math.exp(5) + wrong * math.exp(-5)
        assert solutions["soft"].start_value == pytest.approx(math.log(z) / 5, rel=1e-12)

    def test_masks_of_digits_leave_impossible_leaves_their_share(self, landscape):
        p = solve(1, backup="soft", beta=1.0, masking="digits").distribution()
        right = landscape.class_counts[1]
        z = right * math.e + (space.tree.n_leaves - right) / math.e
        in_class = landscape.table_class == 1
        np.testing.assert_allclose(p[in_class], math.e / z, rtol=1e-9)
        valid = (right * math.e + (space.n_compositions - right) / math.e) / z
        assert p.sum() == pytest.approx(valid, rel=1e-9)


def test_another_judge_decides_what_is_solved(symmetric):
    """Soft: in proportion to exp(beta reward) over its class, both A/B orders alike."""
    p = OptimalSampler("soft", landscape=symmetric).distribution(1)
    right = symmetric.table_class == 1
    z = 3714 * math.exp(5) + (space.n_compositions - 3714) * math.exp(-5)
    np.testing.assert_allclose(p[right], math.exp(5) / z, rtol=1e-9)
    np.testing.assert_allclose(p, space.mirrored(p)[0], rtol=1e-9)
    assert (space.tree.leaf_rewards(1, symmetric) > 0).sum() == 3714


class TestHard:
    @pytest.mark.parametrize("gamma", [1.0, 0.9])
    def test_value_is_one_wherever_the_class_can_still_be_reached(self, gamma, landscape):
        solution = solve(1, gamma=gamma)
        reachable = space.tree.leaf_rewards(1, landscape) > 0
        for step in reversed(range(8)):
            reachable = reachable.reshape(space.tree.sizes[step], -1).any(axis=1)
            value = solution.q[step].max(axis=1)
            discount = gamma ** (7 - step)
            np.testing.assert_allclose(value[reachable], discount)
            lost = value[~reachable & (value > -np.inf)]
            np.testing.assert_allclose(lost, -discount)
        assert solution.start_value == pytest.approx(gamma**7)

    @pytest.mark.parametrize("target_class", [1, 10])
    def test_greedy_play_earns_the_value_in_the_environment(self, target_class):
        solution = solve(target_class, masking="digits")
        env = gym.make("Elpasolite-v0", target_class=target_class)
        env.reset(seed=0)
        state = np.zeros((1, 8), dtype=np.int8)
        for step in range(8):
            action = solution.action_probabilities(state)[0].argmax()
            state[0, step] = action + 1
            _, reward, terminated, _, _ = env.step(action)
        assert (reward, terminated) == (1.0, True)
        assert solution.start_value == 1


@pytest.mark.parametrize("backup", BACKUPS)
def test_distribution_is_what_episodes_show(backup, solutions, distributions):
    n = 200_000
    drawn = space.digits_to_index(sample_policy(space, solutions[backup].action_probabilities, n, seed=0))
    assert (drawn >= 0).all()
    counts = np.bincount(drawn, minlength=space.n_table)
    p = distributions[backup]
    assert (p[drawn] > 0).all()
    expected = element_distribution(space, p)
    spread = np.sqrt(expected * (1 - expected) / n)
    assert (np.abs(element_distribution(space, counts) - expected) <= 5.5 * spread + 1e-12).all()
    top = np.argsort(p)[-200:]
    share = p[top].sum()
    assert np.isin(drawn, top).mean() == pytest.approx(share, abs=5 * math.sqrt(share / n))


def test_known_figures_of_class_1(distributions, landscape):
    known = {"max": (0.999, 0.65, 0.225), "soft": (0.977, 0.926, 0.056)}
    for backup, p in distributions.items():
        result = expected_metrics(p, landscape, target_class=1, n_samples=10_000)
        found = (result["precision"], result["coverage"], result["js_distance"])
        assert found == pytest.approx(known[backup], abs=0.002)


@pytest.mark.parametrize("backup", BACKUPS)
def test_scores_of_draws_scatter_about_the_expected(backup, distributions, landscape, judge):
    expected = expected_metrics(distributions[backup], landscape, target_class=1, n_samples=10_000)
    sampler = OptimalSampler(backup)
    scores = []
    for seed in range(8):
        tally, _ = count_samples(sampler, 10_000, target_class=1, seed=seed)
        scores.append(score_tally(tally, judge=judge, target_class=1).metrics)
    for key in ("precision", "coverage"):
        values = [score[key] for score in scores]
        assert np.mean(values) == pytest.approx(expected[key], abs=5 * np.std(values, ddof=1) / math.sqrt(8))


@pytest.mark.parametrize(
    "target_class", [5, *(pytest.param(c, marks=pytest.mark.slow) for c in range(1, 11) if c != 5)]
)
@pytest.mark.parametrize("backup", BACKUPS)
def test_every_class(target_class, backup, landscape):
    sampler = OptimalSampler(backup)
    assert isinstance(sampler, ExactSampler)
    p = sampler.distribution(target_class)
    assert p.sum() == pytest.approx(1)
    result = expected_metrics(p, landscape, target_class=target_class, n_samples=10_000)
    assert result["precision"] > 0.95
    index = space.digits_to_index(sampler.sample(5_000, target_class=target_class, seed=0))
    assert (landscape.energy_class(index) == target_class).mean() == pytest.approx(
        result["precision"], abs=0.02
    )


@pytest.mark.parametrize("beta", [1e-6, 1e6])
@pytest.mark.parametrize("backup", BACKUPS)
def test_extreme_beta(beta, backup):
    p = solve(1, backup=backup, beta=beta).distribution()
    assert p.sum() == pytest.approx(1)
    assert np.isfinite(p).all()


class TestSettings:
    def test_defaults(self):
        solution = solve(2)
        settings = (solution.target_class, solution.backup, solution.beta, solution.gamma, solution.masking)
        assert settings == (2, "max", 5.0, 1.0, "composition")

    @pytest.mark.parametrize("settings", [{}, {"beta": 2.0, "gamma": 0.9, "masking": "digits"}])
    def test_reach_the_sampler(self, settings, symmetric):
        if settings:
            settings = {**settings, "landscape": symmetric}
        sampler = OptimalSampler("soft", **settings)
        p = solve(1, backup="soft", **settings).distribution()
        np.testing.assert_array_equal(sampler.distribution(1), p)
        assert sampler.distribution(1) is sampler.distribution(1)  # solved once
        drawn = sampler.sample(50, target_class=1, seed=3)
        np.testing.assert_array_equal(drawn, sample_distribution(space, p, 50, seed=3))

    def test_names(self):
        assert {backup: OptimalSampler(backup).name for backup in BACKUPS} == {
            "max": "optimal-hard",
            "soft": "optimal-soft",
        }

    def test_access(self):
        seen = OptimalSampler("max").access
        assert (seen.kind, seen.labels, seen.landscape_queries) == ("reference", 0, space.n_compositions)


class TestBadArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"target_class": 0}, "target_class must be 1..10, got 0"),
            ({"backup": "medium"}, "backup must be one of max, soft, got 'medium'"),
            ({"masking": "none"}, "masking must be one of digits, composition, got 'none'"),
            ({"beta": 0.0}, "beta must be 1e-6..1e6, got 0.0"),
            ({"beta": 0.99e-6}, "beta must be 1e-6..1e6, got 9.9e-07"),
            ({"beta": 1.01e6}, "beta must be 1e-6..1e6, got 1010000.0"),
            ({"beta": float("nan")}, "beta must be 1e-6..1e6, got nan"),
            ({"gamma": 0.0}, "gamma must be above 0 and at most 1, got 0.0"),
            ({"gamma": 1.1}, "gamma must be above 0 and at most 1, got 1.1"),
        ],
    )
    def test_solve(self, arguments, message):
        with pytest.raises(InputError, match=message):
            solve(**{"target_class": 1, **arguments})

    def test_sampler(self):
        with pytest.raises(InputError, match="backup must be one of"):
            OptimalSampler("medium")

    def test_finished_states_have_no_next_action(self, solutions):
        with pytest.raises(InputError, match="finished composition"):
            solutions["max"].action_probabilities(np.ones((1, 8), dtype=np.int8))


def test_states_at_different_steps_and_lost_ones(solutions):
    """H and He are the whole of row 1: nothing can follow a row 1 after them."""
    states = np.array([[0] * 8, [1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 8, 1, 0, 0, 0]], dtype=np.int8)
    policy = solutions["soft"].action_probabilities(states)
    np.testing.assert_allclose(policy.sum(axis=1), [1, 1, 0])
    assert (policy[:2, 6:] == 0).all()


def test_draws_from_a_distribution_that_is_not_all_valid():
    p = np.zeros(space.n_table)
    real = np.flatnonzero(space.composition_mask)[[5, -1]]
    p[real] = 0.25, 0.5
    digits = sample_distribution(space, p, 40_000, seed=0)
    index = space.digits_to_index(digits)
    assert (digits[index < 0] == 0).all()
    for value, share in ((real[0], 0.25), (real[1], 0.5), (-1, 0.25)):
        assert (index == value).mean() == pytest.approx(share, abs=0.015)
