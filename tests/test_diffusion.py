"""Discrete diffusion: the noise against products of matrices, the loss by hand, a known distribution."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch as th

from elpa_env import TrainingSet, make_space
from elpa_env.errors import InputError
from elpa_env.prototype import Prototype, Site
from elpa_env.sampler import is_exact
from generative.diffusion import DiffusionConfig, DiffusionModel, Noise, _pick
from tests.test_any_prototype import TARGETS

LIMITS = (3, 2)
STEPS = 5
transitions = pytest.mark.parametrize("transition", ["absorbing", "uniform"])


def matrices(transition, limit, n_values, steps):
    """Q_1 ... Q_T of a digit, entry by entry from eqs. 7 and 9 of the paper's appendix."""
    time = np.linspace(0, 1, steps + 1)
    kept = 1 - time if transition == "absorbing" else np.cos(np.pi / 2 * time) ** 2
    kept[-1] = 0
    found = []
    for t in range(1, steps + 1):
        beta = 1 - kept[t] / kept[t - 1]
        q = np.zeros((n_values, n_values))
        for i in range(n_values):
            for j in range(n_values):
                if transition == "absorbing":
                    q[i, j] = (i == j) * (1 - beta) + (j == 0) * beta
                else:
                    q[i, j] = (i == j) * (1 - beta) + (1 <= j <= limit) * beta / limit
        found.append(q)
    return found


@transitions
class TestNoise:
    def test_marginal_is_the_product_of_the_matrices(self, transition):
        noise = Noise(transition, STEPS, LIMITS)
        for place, limit in enumerate(LIMITS):
            product = np.eye(4)
            for t, q in enumerate(matrices(transition, limit, 4, STEPS), start=1):
                product = product @ q
                for start in range(1, limit + 1):
                    x_0 = th.eye(4)[[start, start]][None]
                    found = noise.marginal(x_0, th.tensor([t]))[0, place]
                    np.testing.assert_allclose(found.numpy(), product[start], atol=1e-6)

    def test_posterior_is_bayes(self, transition):
        """Of all pairs of a noisy digit and one at the start that noise can lead to."""
        noise = Noise(transition, STEPS, LIMITS)
        checked = 0
        for place, limit in enumerate(LIMITS):
            steps = matrices(transition, limit, 4, STEPS)
            for t in range(1, STEPS + 1):
                before = np.linalg.multi_dot([np.eye(4), np.eye(4), *steps[: t - 1]])
                for start in range(1, limit + 1):
                    for now in range(4):
                        joint = before[start] * steps[t - 1][:, now]
                        if joint.sum() < 1e-12:
                            continue
                        x_t = th.full((1, 2), now)
                        found = noise.posterior(x_t, th.tensor([t]), th.eye(4)[[start, start]][None])
                        np.testing.assert_allclose(found[0, place].numpy(), joint / joint.sum(), atol=1e-6)
                        checked += 1
        assert checked > 30

    def test_of_guesses_is_the_mean_joint(self, transition):
        """Eq. 4: the sum over guesses of q(x_(t-1), x_t | x_0) p(x_0), normalised."""
        noise, t = Noise(transition, STEPS, LIMITS), 3
        steps = matrices(transition, 3, 4, STEPS)
        guess = np.array([0.0, 0.2, 0.5, 0.3])
        before = guess @ steps[0] @ steps[1]
        now = 0 if transition == "absorbing" else 2
        joint = before * steps[t - 1][:, now]
        x_0 = th.tensor(guess, dtype=th.float32).expand(1, 2, 4)
        found = noise.posterior(th.full((1, 2), now), th.tensor([t]), x_0)[0, 0]
        np.testing.assert_allclose(found.numpy(), joint / joint.sum(), atol=1e-6)

    def test_nothing_is_left_at_the_end(self, transition):
        noise = Noise(transition, STEPS, LIMITS)
        end = noise.marginal(th.eye(4)[[2, 1]][None], th.tensor([STEPS]))
        th.testing.assert_close(end[0], noise.target)


def test_picks_no_value_without_probability():
    """Also at the ends of the range of random numbers."""
    p = th.tensor([0.0, 0.25, 0.0, 0.75, 0.0]).expand(5, -1)
    numbers = th.tensor([0.0, 0.2499, 0.25, 0.5, 1 - 2**-24])
    assert _pick(p, numbers).tolist() == [1, 1, 3, 3, 3]


@pytest.fixture(scope="module")
def tiny():
    """Two sites of four and three elements; an element may stand on both."""
    sites = Site("A", ("Li", "Na", "Be", "Mg")), Site("B", ("Na", "Be", "Li"))
    return make_space(Prototype("tiny", sites, repeats=True), TARGETS)


@pytest.fixture(scope="module")
def rows(tiny):
    """Compositions of two classes, at unequal frequencies."""
    index = np.array([0, 0, 0, 0, 4, 4, 11, 7, 2, 2, 9, 9])
    return TrainingSet(index, np.where(np.arange(12) < 7, -1.0, 0.0), "twelve", tiny)


CONFIG = DiffusionConfig(steps=8, hidden=32, guidance=0.0, n_updates=20, batch_size=32)


class Knows(th.nn.Module):
    """A network that is sure of one composition."""

    n_values = 0

    def __init__(self, x_0, n_values, gap):
        super().__init__()
        self.logits = gap * th.nn.functional.one_hot(x_0, n_values).float()

    def forward(self, x_t, t, classes, generator=None):
        return self.logits


@transitions
class TestLoss:
    def make(self, tiny, transition, auxiliary=0.5):
        return DiffusionModel(replace(CONFIG, transition=transition, auxiliary=auxiliary), space=tiny)

    def noised(self, model, x_0):
        n = len(x_0)
        t = th.arange(n) % model.config.steps + 1
        generator = th.Generator().manual_seed(0)
        known = th.nn.functional.one_hot(x_0, model.network.n_values).float()
        p = model.noise.marginal(known, t)
        return _pick(p, th.rand(p.shape[:-1], generator=generator)), t

    def test_is_zero_for_one_who_knows(self, tiny, rows, transition):
        model = self.make(tiny, transition)
        x_0 = th.as_tensor(rows.digits, dtype=th.int64)
        x_t, t = self.noised(model, x_0)
        n_values = model.network.n_values
        model.network = Knows(x_0, n_values, 200.0)
        classes = th.zeros(len(x_0), dtype=th.int64)
        assert model.loss(x_0, x_t, t, classes).item() == pytest.approx(0, abs=1e-5)
        model.network = Knows(x_0, n_values, 1.0)
        assert model.loss(x_0, x_t, t, classes).item() > 0.1

    def test_by_plain_sums(self, tiny, rows, transition):
        """Eq. 5 from the matrices, digit by digit, with a network that has learnt nothing."""
        model = self.make(tiny, transition)
        x_0 = th.as_tensor(rows.digits, dtype=th.int64)
        x_t, t = self.noised(model, x_0)
        classes = th.as_tensor(rows.energy_class, dtype=th.int64) - 1
        with th.no_grad():
            logits = model.network(x_t, t, classes).double().numpy()
            found = model.loss(x_0, x_t, t, classes).item()
        total, steps = 0.0, model.config.steps
        for n in range(len(x_0)):
            for place, limit in enumerate(tiny.states.widths):
                qs = matrices(transition, limit, logits.shape[2], steps)
                start, now, step = int(x_0[n, place]), int(x_t[n, place]), int(t[n])
                guess = np.exp(logits[n, place])
                guess[0] = guess[limit + 1 :] = 0
                guess /= guess.sum()
                if transition == "absorbing" and now:
                    guess = np.eye(len(guess))[now]
                before = np.linalg.multi_dot([np.eye(len(guess))] * 2 + qs[: step - 1])
                q, p = (
                    vector @ before * qs[step - 1][:, now] for vector in (np.eye(len(guess))[start], guess)
                )
                q, p = q / q.sum(), p / p.sum()
                real = q > 0
                total += steps * (q[real] * np.log(q[real] / p[real])).sum() - 0.5 * np.log(guess[start])
        assert found == pytest.approx(total / len(x_0), rel=1e-4)


@pytest.mark.parametrize(("transition", "steps"), [("absorbing", 24), ("uniform", 24)])
def test_reproduces_a_known_distribution(tiny, rows, transition, steps):
    """Frequencies of the rows of each class, by a network that may learn them by heart."""
    config = replace(
        CONFIG, transition=transition, steps=steps, hidden=64, dropout=0, n_updates=800, batch_size=256,
        weight_decay=0, learning_rate=5e-3,
    )  # fmt: skip
    model = DiffusionModel(config, space=tiny).fit(rows)
    for c in (1, 2):
        of_class = rows.index[rows.energy_class == c]
        known = np.bincount(of_class, minlength=tiny.n_table) / len(of_class)
        index = tiny.digits_to_index(model.sample(4_000, target_class=c, seed=0))
        share = np.bincount(index[index >= 0], minlength=tiny.n_table) / 4_000
        assert np.abs(share - known).sum() / 2 < 0.12


def test_guidance_sharpens_the_class(tiny, rows):
    """More of it leaves less to the other class; without any the class alone counts."""
    config = replace(CONFIG, n_updates=150, dropout=0, batch_size=128, class_dropout=0.3, learning_rate=1e-2)
    shares = []
    for weight in (0.0, 2.0):
        model = DiffusionModel(replace(config, guidance=weight), space=tiny).fit(rows)
        index = tiny.digits_to_index(model.sample(4_000, target_class=2, seed=1))
        shares.append(np.isin(index, rows.index[rows.energy_class == 2]).mean())
    assert shares[1] > shares[0]


def test_states_no_distribution(tiny):
    model = DiffusionModel(CONFIG, space=tiny)
    assert not is_exact(model)
    digits = model.sample(5_000, target_class=1, seed=0)
    assert (digits >= 1).all()
    assert (digits <= tiny.digit_limits).all()


@pytest.mark.parametrize(
    "wrong", [{"transition": "gaussian"}, {"steps": 0}, {"guidance": -1.0}, {"class_dropout": math.inf}]
)
def test_impossible_hyperparameters(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        DiffusionConfig(**wrong)
