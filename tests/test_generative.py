"""The conditional models and the baselines from inside: losses, streams, presets, what they saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch as th

from elpa_env import TrainingSet, space
from elpa_env.errors import InputError
from elpa_env.sampler import Access
from generative.baselines import BaselineSampler, pair_distribution, site_distribution
from generative.vae import ConditionalVAE, VAEConfig
from generative.wgan_gp import ConditionalWGAN, Critic, Generator, WGANConfig

MODELS = {
    ConditionalVAE: VAEConfig(hidden=(16, 16), n_updates=20, batch_size=50),
    ConditionalWGAN: WGANConfig(hidden=32, n_updates=12, batch_size=20, ema_decay=0.9),
}
kinds = pytest.mark.parametrize("kind", MODELS)


def weights(model):
    return th.cat([value.flatten() for value in model.state_dict().values()])


@pytest.fixture
def streams(monkeypatch):
    """Where every stream of random numbers that is opened starts."""
    opened = []
    default_rng, generator = np.random.default_rng, th.Generator

    def watched_rng(seed=None):
        rng = default_rng(seed)
        opened.append(str(rng.bit_generator.state))
        return rng

    class Watched(generator):
        def manual_seed(self, seed):
            opened.append(seed)
            return super().manual_seed(seed)

    monkeypatch.setattr(np.random, "default_rng", watched_rng)
    monkeypatch.setattr(th, "Generator", Watched)
    return opened


class TestSeeds:
    @kinds
    def test_neighbours_share_no_stream(self, kind, small_set, streams):
        config = replace(MODELS[kind], n_updates=2)
        opened = []
        for seed in range(6):
            model = kind(config, seed=seed).fit(small_set)
            opened.append(set(streams))
            streams.clear()
            model.sample(10, target_class=1, seed=seed)
            opened.append(set(streams))
            streams.clear()
        assert {len(found) for found in opened[0::2]} == {3}  # weights, batches, noise
        assert {len(found) for found in opened[1::2]} == {1}
        assert len(set.union(*opened)) == 6 * 4

    @kinds
    def test_same_seed_same_bits(self, kind, small_set):
        first, same, other = (kind(MODELS[kind], seed=seed).fit(small_set) for seed in (3, 3, 4))
        assert th.equal(weights(first), weights(same))
        assert not th.equal(weights(first), weights(other))

    @kinds
    def test_training_starts_anew(self, kind, small_set):
        other = TrainingSet(small_set.index[::2], small_set.energy[::2], "half")
        once = kind(MODELS[kind]).fit(small_set)
        twice = kind(MODELS[kind]).fit(other).fit(small_set)
        assert th.equal(weights(once), weights(twice))
        assert twice.access.labels == small_set.n_labels


class TestAccess:
    @kinds
    def test_goes_with_the_checkpoint(self, kind, small_set, tmp_path):
        model = kind(MODELS[kind])
        assert model.access == Access("offline", labels=0, chosen_by="the user")
        model.fit(small_set).save(tmp_path / "model.pt")
        assert model.access == Access("offline", labels=small_set.n_labels, chosen_by="the user")
        again = kind.load(tmp_path / "model.pt")
        assert (again.access, again.trained_on) == (model.access, model.trained_on)

    @kinds
    def test_presets_say_what_they_were_chosen_by(self, kind):
        assert set(kind.presets) == {"quick", "default", "paper"}
        assert kind.presets["paper"].config == kind.config_type()
        for preset in kind.presets.values():
            assert kind(preset.config).access.chosen_by == preset.chosen_by
        assert kind.presets["paper"].chosen_by == "the paper"

    def test_the_settings_of_the_gan_were_chosen_by_what_judges_it(self):
        for name in ("quick", "default"):
            assert ConditionalWGAN.presets[name].chosen_by == "scores against the landscape in class 1"

    def test_of_baselines(self, small_set):
        for name, labels in (("pairs", small_set.n_labels), ("sites", small_set.n_labels), ("random", 0)):
            expected = Access("offline", labels=labels, chosen_by="no hyperparameters")
            assert BaselineSampler(name, small_set).access == expected


def test_prevalences_by_hand(landscape):
    formulas = ["AlNaK2F6", "AlNaRb2F6", "GaNaK2F6"]
    index = space.formula_to_index(formulas)
    rows = TrainingSet(index, np.full(3, -3.0), "three")
    sites = site_distribution(rows, 1)
    probability = {f: sites[space.formula_to_index([f])[0]] for f in [*formulas, "GaNaRb2F6"]}
    assert probability["AlNaK2F6"] == pytest.approx(4 / 9)
    assert probability["GaNaRb2F6"] == pytest.approx(1 / 9)
    pairs = pair_distribution(rows, 1)
    assert pairs[index].sum() == pytest.approx(1)  # no pair Ga-Rb was seen
    np.testing.assert_allclose(pairs[index], _kirkwood(["Al", "Al", "Ga"], ["K", "Rb", "K"]))
    with pytest.raises(InputError, match="no row of class 5"):
        site_distribution(rows, 5)


def _kirkwood(a, c):
    """Pair prevalences over squared site prevalences; B is always Na and D always F."""
    weight = []
    for x, y in zip(a, c, strict=True):
        p_ac = sum((u, v) == (x, y) for u, v in zip(a, c, strict=True)) / 3
        p_a, p_c = a.count(x) / 3, c.count(y) / 3
        weight.append(p_ac * p_a**2 * p_c**2 / (p_a * p_c) ** 2)
    return np.array(weight) / sum(weight)


def double_backward(critic, inputs, gradient_penalty):
    n = len(inputs) // 3
    inputs = inputs.clone().requires_grad_(True)
    scores = critic(inputs)
    gradient = th.autograd.grad(scores[2 * n :].sum(), inputs, create_graph=True)[0][2 * n :, :8]
    penalty = ((gradient.norm(dim=1) - 1) ** 2).mean()
    loss = -scores[:n].mean() + scores[n : 2 * n].mean() + gradient_penalty * penalty
    return th.autograd.grad(loss, list(critic.parameters()))


class TestClosedForms:
    def rows(self, n, width, generator):
        one_hot = th.eye(10)[th.randint(10, (n,), generator=generator)]
        return th.cat([th.randn(n, width, generator=generator), one_hot, th.ones(n, 1)], dim=1)

    def test_critic_against_a_double_backward(self):
        generator = th.Generator().manual_seed(0)
        critic = Critic(WGANConfig(hidden=64), generator).double()
        inputs = self.rows(60, 8, generator).double()
        with th.no_grad():
            closed = critic.loss_gradients(inputs, 10.0)
        for ours, theirs in zip(closed, double_backward(critic, inputs, 10.0), strict=True):
            th.testing.assert_close(ours, theirs)

    def test_generator_against_autograd(self):
        generator = th.Generator().manual_seed(1)
        config = WGANConfig(hidden=64)
        network, critic = Generator(config, generator).double(), Critic(config, generator).double()
        inputs = self.rows(40, 8, generator).double()
        x = th.tanh(
            th.nn.functional.leaky_relu(inputs @ network.weight, 0.2) @ network.readout + network.bias
        )
        loss = -critic(th.cat([x, inputs[:, 8:]], dim=1)).mean()
        expected = th.autograd.grad(loss, list(network.parameters()))
        with th.no_grad():
            closed = network.loss_gradients(inputs, critic)
        for ours, theirs in zip(closed, expected, strict=True):
            th.testing.assert_close(ours, theirs)


def test_vae_loss_is_eq_9():
    model = ConditionalVAE(VAEConfig(hidden=(16,)), seed=0)
    generator = th.Generator().manual_seed(0)
    x, noise = th.rand(30, 8, generator=generator) * 2 - 1, th.randn(30, 8, generator=generator)
    batch = th.cat([x, th.eye(10)[th.arange(30) % 10]], dim=1)
    mu, logvar = model.encoder(batch).chunk(2, dim=1)
    q = th.distributions.Normal(mu, (logvar / 2).exp())
    decoded = th.tanh(model.decoder(th.cat([mu + noise * q.stddev, batch[:, 8:]], dim=1)))
    kl = th.distributions.kl_divergence(q, th.distributions.Normal(0.0, 1.0)).sum(dim=1)
    expected = ((x - decoded) ** 2).sum(dim=1) + 0.1 * kl
    th.testing.assert_close(model.loss(batch, noise), expected.mean())
