"""Generation curves: counted while samples are drawn, expected from a distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elpa_env import TrainingSet
from elpa_env.errors import InputError
from elpa_env.space import ELPASOLITE_SPACE as space
from eval.curves import Appearances, Curve, checkpoints, drawn_curve, expected_curve
from eval.judge import load_judge
from eval.scoring import count_samples


@given(st.integers(1, 10**12))
def test_checkpoints(n):
    found = checkpoints(n)
    assert found[0] == 1
    assert found[-1] == n
    assert (np.diff(found) > 0).all()
    assert len(found) < 255


class Fixed:
    """A sampler that shows the same compositions in the same order, again and again."""

    name = "fixed"

    def __init__(self, index):
        self.index, self.at = index, 0

    def sample(self, n, *, target_class, seed=None):
        places = np.arange(self.at, self.at + n) % len(self.index)
        self.at += n
        return space.index_to_digits(self.index[places])


@pytest.mark.parametrize("n", [1, 7, 50, 200])
def test_counted_by_hand(n, monkeypatch):
    """Against a loop over the samples, one by one, in chunks of all sizes."""
    monkeypatch.setattr("eval.scoring.CHUNK", 13)
    judge = load_judge()
    rng = np.random.default_rng(0)
    shown = rng.choice(np.flatnonzero(space.composition_mask), 40, replace=False)[rng.integers(0, 40, 300)]
    known = TrainingSet(np.unique(shown)[:5], np.zeros(5), "five")
    seen = Appearances(space, n)
    tally, kept = count_samples(Fixed(shown), n, target_class=1, seed=0, keep=n, watch=seen.see)
    index, _ = tally.sparse()
    curve = drawn_curve(index, seen.first[index], n, judge=judge, training_set=known)
    assert (seen.first == 255).sum() == space.n_table - len(index)
    for row, end in enumerate(curve.n_samples):
        unique = np.unique(kept[:end])
        new = unique[~np.isin(unique, known.index)]
        by_class = np.bincount(judge.energy_class(new), minlength=11)[1:]
        np.testing.assert_array_equal(curve.novel[row], by_class)
        assert curve.rediscovered[row] == len(unique) - len(new)
        assert curve.repeated[row] == end - len(unique)


def test_expected_is_the_mean_of_many(small_set):
    judge = load_judge()
    rng = np.random.default_rng(1)
    places = np.concatenate([rng.choice(np.flatnonzero(space.composition_mask), 200), small_set.index[:20]])
    distribution = np.zeros(space.n_table)
    distribution[places] = rng.exponential(size=len(places))
    distribution /= 2 * distribution.sum()  # half of the candidates are no composition
    expected = expected_curve(distribution, 300, judge=judge, training_set=small_set)
    curves = []
    for _ in range(200):
        shown = rng.choice(len(distribution), 300, p=2 * distribution)
        seen = Appearances(space, 300)
        seen.see(shown[:100])
        seen.see(shown[100:])
        index = np.unique(shown)
        curves.append(drawn_curve(index, seen.first[index], 300, judge=judge, training_set=small_set))
    for part in ("novel", "rediscovered", "repeated"):
        mean = np.mean([getattr(curve, part) for curve in curves], axis=0)
        np.testing.assert_allclose(mean, getattr(expected, part), atol=1.0)


def test_comes_back_from_a_file(small_set):
    distribution = space.composition_mask / space.n_compositions
    curve = expected_curve(distribution, 1000, judge=load_judge(), training_set=small_set)
    again = Curve.from_dict(curve.as_dict())
    np.testing.assert_allclose(again.novel, curve.novel, atol=0.05)
    total = curve.novel.sum(axis=1) + curve.rediscovered + curve.repeated
    np.testing.assert_allclose(total, curve.n_samples)
    for damaged in ({}, None, {**curve.as_dict(), "repeated": [1]}, {**curve.as_dict(), "novel": ["x"]}):
        with pytest.raises(InputError, match="is damaged"):
            Curve.from_dict(damaged)
