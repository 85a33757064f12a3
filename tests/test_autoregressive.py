"""The autoregressive network: its likelihood against enumeration, its distribution against its draws."""

import itertools
import math

import numpy as np
import pytest
import torch as th

from elpa_env import TrainingSet, make_space
from elpa_env.errors import InputError
from elpa_env.prototype import Prototype, Site
from elpa_env.rules import action_masks
from elpa_env.sampler import is_exact
from elpa_env.space import ELPASOLITE_SPACE as space
from generative.autoregressive import AutoregressiveConfig, AutoregressiveModel, masks_along
from tests.test_any_prototype import TARGETS

CONFIG = AutoregressiveConfig(hidden=32, n_updates=300, batch_size=64, dropout=0.1, learning_rate=1e-2)


@pytest.fixture(scope="module")
def tiny():
    """Two sites of four and three elements, of which two are the same."""
    return make_space(
        Prototype("tiny", (Site("A", ("Li", "Na", "K", "Ca")), Site("B", ("Na", "K", "Ti")))), TARGETS
    )


@pytest.fixture(scope="module")
def rows(tiny):
    """Seven compositions, some of them several times, in two classes."""
    index = np.flatnonzero(tiny.composition_mask)[[0, 0, 0, 1, 2, 2, 5, 6, 6, 8]]
    energy = np.where(np.arange(10) < 6, -1.0, 0.0)
    return TrainingSet(index, energy, "ten", tiny)


def batch(rows):
    one_hot = th.as_tensor(rows.space.targets.one_hot(rows.energy_class))
    return th.as_tensor(rows.digits, dtype=th.int64), one_hot, th.as_tensor(masks_along(rows))


def test_loss_is_the_likelihood(tiny, rows):
    """-log of what `distribution`, which walks the tree of states, says of every row."""
    model = AutoregressiveModel(CONFIG, space=tiny, seed=1)
    expected = [
        -math.log(model.distribution(int(c))[i]) for i, c in zip(rows.index, rows.energy_class, strict=True)
    ]
    assert model.loss(*batch(rows)).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_distribution_by_enumeration(tiny):
    """Products of conditional probabilities over every string of digits, states one at a time."""
    model = AutoregressiveModel(CONFIG, space=tiny, seed=2)
    found = model.distribution(2)
    assert found.sum() == pytest.approx(1)
    assert found[~tiny.composition_mask].sum() == 0
    total = 0.0
    for digits in itertools.product(*(range(1, width + 1) for width in tiny.states.widths)):
        p = 1.0
        for step, digit in enumerate(digits):
            state = np.array([[*digits[:step], *[0] * (tiny.n_steps - step)]], dtype=np.int8)
            if not action_masks(tiny, state, "composition")[0, digit - 1]:
                p = 0.0
                break
            p *= model.probabilities(state, target_class=2)[0, digit - 1]
        index = tiny.digits_to_index(np.array([digits], dtype=np.int8))[0]
        # in single precision a network says slightly different things of a state alone and in a batch
        assert p == pytest.approx(found[index] if index >= 0 else 0.0, rel=1e-5)
        total += p
    assert total == pytest.approx(1)


def test_learns_frequencies(tiny, rows):
    """With nothing held back it comes near the frequencies of each class, and classes stay apart."""
    config = AutoregressiveConfig(hidden=32, n_updates=600, batch_size=64, dropout=0, weight_decay=0)
    model = AutoregressiveModel(config, space=tiny).fit(rows)
    for c in (1, 2):
        of_class = rows.index[rows.energy_class == c]
        known = np.bincount(of_class, minlength=tiny.n_table) / len(of_class)
        assert np.abs(model.distribution(c) - known).sum() < 0.1
    assert model.access.labels == rows.n_labels


def test_draws_follow_the_distribution(tiny, rows):
    model = AutoregressiveModel(CONFIG, space=tiny).fit(rows)
    p = model.distribution(1)
    drawn = tiny.digits_to_index(model.sample(20_000, target_class=1, seed=0))
    assert (drawn >= 0).all()
    share = np.bincount(drawn, minlength=tiny.n_table) / 20_000
    assert (np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / 20_000)).all()


def test_masks_of_rows(small_set):
    """Every digit of a row is open, and what is open never leads to an element twice."""
    few = small_set.take(np.arange(20), "few")
    masks = masks_along(few)
    assert masks.shape == (20, 8, space.n_actions)
    assert np.take_along_axis(masks, few.digits[..., None].astype(int) - 1, axis=2).all()
    for step in (1, 3, 5, 7):
        row, action = np.nonzero(masks[:, step])
        digits = np.where(np.arange(8) < step, few.digits[row], 0).astype(np.int8)
        digits[:, step] = action + 1
        assert (space.digits_to_elements(digits)[:, step // 2] >= 0).all()


def test_every_sample_is_a_composition(small_set):
    model = AutoregressiveModel(AutoregressiveConfig(hidden=16, n_updates=5), seed=0).fit(small_set)
    assert is_exact(model)
    assert (space.digits_to_index(model.sample(5_000, target_class=1, seed=0)) >= 0).all()
    assert model.distribution(1).sum() == pytest.approx(1)


def test_dropout_is_seeded_and_of_training_alone(tiny, rows):
    model = AutoregressiveModel(CONFIG, space=tiny)
    arguments = batch(rows)
    dropped = [model.loss(*arguments, th.Generator().manual_seed(seed)).item() for seed in (0, 0, 1)]
    assert dropped[0] == dropped[1] != dropped[2]
    assert model.loss(*arguments).item() == model.loss(*arguments).item()


@pytest.mark.parametrize(
    "wrong", [{"hidden": 0}, {"dropout": 1.0}, {"learning_rate": math.nan}, {"layers": 0}]
)
def test_impossible_hyperparameters(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        AutoregressiveConfig(**wrong)
