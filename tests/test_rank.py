"""The list of a reward model: its order against plain sorting, ties, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.plan import PlanSampler
from agents.rank import RankSampler, first_places
from elpa_env.errors import InputError
from elpa_env.sampler import is_exact
from elpa_env.space import ELPASOLITE_SPACE as space
from tests.test_online import SMALL


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 40), st.integers(0, 9))
def test_the_largest_first(values, n, seed):
    probability = np.array(values) / 4
    places = first_places(probability, n, seed)
    assert len(set(places.tolist())) == len(places) == min(n, len(values))
    assert probability[places].tolist() == sorted(probability, reverse=True)[:n]
    np.testing.assert_array_equal(places, first_places(probability, n, seed))


def test_ties_are_broken_evenly():
    """Of two equal numbers beside a smaller one either comes first as often."""
    first = [first_places(np.array([0.5, 0.1, 0.5]), 1, seed)[0] for seed in range(400)]
    assert set(first) == {0, 2}
    assert np.mean(np.array(first) == 0) == pytest.approx(0.5, abs=0.1)


@pytest.fixture(scope="module")
def fitted(small_set):
    return RankSampler(SMALL, seed=3).fit(small_set)


def test_the_most_probable_of_the_class(fitted, small_set):
    drawn = space.digits_to_index(fitted.sample(5_000, target_class=1, seed=0))
    assert len(np.unique(drawn)) == 5_000
    every = np.flatnonzero(space.composition_mask)
    p = fitted.reward_model.class_probability(every, 1)
    shown = fitted.reward_model.class_probability(drawn, 1)
    np.testing.assert_allclose(shown, np.sort(p)[::-1][:5_000], rtol=1e-6)
    assert (np.diff(shown) <= 1e-6 * shown[:-1]).all()


def test_the_seed_orders_equals_alone(fitted):
    """The two orders of a compound are equally probable, so that what is listed is the same."""
    one, two = (space.digits_to_index(fitted.sample(2_000, target_class=1, seed=seed)) for seed in (0, 1))
    assert (one != two).any()
    p = [fitted.reward_model.class_probability(index, 1) for index in (one, two)]
    np.testing.assert_allclose(p[0], p[1], rtol=1e-6)
    np.testing.assert_array_equal(
        fitted.sample(9, target_class=1, seed=0), fitted.sample(2_000, target_class=1, seed=0)[:9]
    )


def test_has_the_reward_model_of_the_plan(fitted, small_set):
    plan = PlanSampler(SMALL, seed=3).fit(small_set)
    index = small_set.index
    np.testing.assert_array_equal(plan.reward_model.energy(index), fitted.reward_model.energy(index))


def test_states_no_distribution(fitted):
    assert not is_exact(fitted)
    assert fitted.access.kind == "model-based"


def test_refuses(fitted):
    with pytest.raises(InputError, match="call fit"):
        RankSampler(SMALL).sample(5, target_class=1)
    with pytest.raises(InputError, match="at least 1"):
        fitted.sample(0, target_class=1)
    with pytest.raises(InputError, match="target_class"):
        fitted.sample(5, target_class=11)


def test_starts_again_at_the_end(fitted, monkeypatch):
    """A list of three compositions, asked for seven."""
    few = np.flatnonzero(space.composition_mask)[:3]
    mask = np.zeros(space.n_table, dtype=bool)
    mask[few] = True

    class Small:
        targets, composition_mask = space.targets, mask
        index_to_digits = staticmethod(space.index_to_digits)

    monkeypatch.setattr(fitted, "space", Small)
    monkeypatch.setattr(fitted, "_probability", {1: np.array([0.2, 0.9, 0.5])})
    drawn = space.digits_to_index(fitted.sample(7, target_class=1, seed=0))
    np.testing.assert_array_equal(drawn, few[[1, 2, 0, 1, 2, 0, 1]])
