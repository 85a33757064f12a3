"""The conditional models and the baselines from inside: losses, streams, presets, what they saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch as th

from elpa_env import TrainingSet
from elpa_env.checkpoint import read_checkpoint, write_checkpoint
from elpa_env.errors import InputError
from elpa_env.sampler import Access
from elpa_env.space import ELPASOLITE_SPACE as space
from elpa_env.training import ClassBalancedSampler
from generative.baselines import BaselineSampler, pair_distribution, site_distribution
from generative.networks import labelled_rows
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
        assert {"quick", "small", "default", "paper"} <= set(kind.presets)
        assert kind.presets["paper"].config == kind.config_type()
        for name in ("quick", "default", "paper"):
            preset = kind.presets[name]
            assert kind(preset.config).access.chosen_by == preset.chosen_by
        assert kind.presets["paper"].chosen_by == "the paper"

    def test_only_the_tuned_settings_of_the_gan_were_chosen_by_what_judges_it(self):
        words = {name: preset.chosen_by for name, preset in ConditionalWGAN.presets.items()}
        assert words["default"] == "a search by the training set alone"
        assert words["quick"].startswith(words["default"])
        assert [name for name, word in words.items() if "scores" in word] == ["tuned"]

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

    @pytest.mark.parametrize(("rows", "weight"), [(60, 10.0), (21, 10.0), (60, 0.7), (300, 3.0)])
    def test_critic_against_a_double_backward(self, rows, weight):
        generator = th.Generator().manual_seed(0)
        critic = Critic(WGANConfig(hidden=64), generator).double()
        inputs = self.rows(rows, 8, generator).double()
        with th.no_grad():
            closed = critic.loss_gradients(inputs, weight)
        for ours, theirs in zip(closed, double_backward(critic, inputs, weight), strict=True):
            th.testing.assert_close(ours, theirs)

    def test_critic_where_it_is_flat(self):
        """A gradient of length 0 has no direction; nothing is divided by it."""
        critic = Critic(WGANConfig(hidden=4), th.Generator().manual_seed(0))
        with th.no_grad():
            critic.weight[:8] = 0
            closed = critic.loss_gradients(self.rows(6, 8, th.Generator()), 10.0)
        assert all(gradient.isfinite().all() for gradient in closed)

    @pytest.mark.parametrize("rows", [40, 7])
    def test_generator_against_autograd(self, rows):
        generator = th.Generator().manual_seed(1)
        config = WGANConfig(hidden=64)
        network, critic = Generator(config, generator).double(), Critic(config, generator).double()
        inputs = self.rows(rows, 8, generator).double()
        x = th.tanh(
            th.nn.functional.leaky_relu(inputs @ network.weight, 0.2) @ network.readout + network.bias
        )
        th.testing.assert_close(network(inputs), x)
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


class TestHyperparameters:
    def test_of_the_vae(self):
        paper = VAEConfig()
        assert (paper.latent_dim, paper.hidden, paper.kl_weight) == (8, (256, 256), 0.1)
        assert (paper.n_updates, paper.batch_size, paper.learning_rate) == (10_000, 500, 1e-3)
        presets = {name: preset.config for name, preset in ConditionalVAE.presets.items()}
        fewer = replace(paper, n_updates=1_500)
        assert presets == {"quick": fewer, "small": fewer, "default": paper, "paper": paper}
        assert ConditionalVAE.presets["quick"].chosen_by.startswith("the paper, with fewer updates")

    def test_of_the_gan(self):
        paper = WGANConfig()
        assert (paper.latent_dim, paper.hidden, paper.gradient_penalty) == (8, 512, 10.0)
        assert (paper.n_critic, paper.n_updates, paper.batch_size) == (5, 200_000, 100)
        assert (paper.learning_rate, paper.ema_decay) == (1e-5, 0.0)
        presets = {name: preset.config for name, preset in ConditionalWGAN.presets.items()}
        default = replace(
            paper,
            hidden=256,
            gradient_penalty=6.66,
            n_updates=17_000,
            batch_size=200,
            learning_rate=7.2e-4,
            ema_decay=0.999,
        )
        assert presets == {
            "quick": replace(default, n_updates=5_000),
            "small": replace(default, n_updates=3_000),
            "default": default,
            "paper": paper,
            "tuned": replace(paper, n_updates=17_000, learning_rate=1.5e-4, ema_decay=0.9995),
        }

    @kinds
    def test_threads_change_nothing(self, kind):
        """Samples are the same with any number of threads, which is as before afterwards."""
        model = kind(MODELS[kind])
        before = th.get_num_threads()
        drawn = []
        try:
            for threads in (1, 2, 5):
                th.set_num_threads(threads)
                drawn.append(model.sample(100_000, target_class=2, seed=3))
                assert th.get_num_threads() == threads
        finally:
            th.set_num_threads(before)
        np.testing.assert_array_equal(drawn[0], drawn[1])
        np.testing.assert_array_equal(drawn[0], drawn[2])

    @kinds
    def test_checkpoints_bear_the_name(self, kind, tmp_path):
        kind(MODELS[kind]).save(tmp_path / "model.pt")
        record, arrays = read_checkpoint(tmp_path / "model.pt")
        assert record["model"] == kind.name == {ConditionalVAE: "vae", ConditionalWGAN: "gan"}[kind]
        assert kind.load(tmp_path / "model.pt").config == MODELS[kind]
        write_checkpoint(tmp_path / "other.pt", {**record, "model": "other"}, arrays)
        with pytest.raises(InputError, match=f"holds a other, not a {kind.name}"):
            kind.load(tmp_path / "other.pt")
        write_checkpoint(tmp_path / "broken.pt", record, {})
        with pytest.raises(InputError, match=r"broken\.pt is damaged"):
            kind.load(tmp_path / "broken.pt")


def assert_uniform(values, fan_in):
    """Drawn evenly from the range that PyTorch gives a linear layer."""
    bound = fan_in**-0.5
    assert values.abs().max() <= bound
    if values.numel() > 100:
        th.testing.assert_close(values.mean().item(), 0.0, atol=0.2 * bound, rtol=0)
        th.testing.assert_close(values.std().item(), bound / 3**0.5, atol=0.1 * bound, rtol=0)


class TestNetworks:
    def test_of_the_vae(self):
        model = ConditionalVAE(VAEConfig(latent_dim=5, hidden=(128, 200)))
        for network, sizes in ((model.encoder, (18, 128, 200, 10)), (model.decoder, (15, 128, 200, 8))):
            kinds = [type(layer) for layer in network]
            hidden = [th.nn.Linear, th.nn.LayerNorm, th.nn.LeakyReLU]
            assert kinds == [*hidden, *hidden, th.nn.Linear]
            for layer, n_in, n_out in zip(network[0::3], sizes[:-1], sizes[1:], strict=True):
                assert layer.weight.shape == (n_out, n_in)
                assert layer.bias.shape == (n_out,)
                assert_uniform(layer.weight, n_in)
                assert_uniform(layer.bias, n_in)
            assert [norm.normalized_shape for norm in network[1::3]] == [(128,), (200,)]
            assert {activation.negative_slope for activation in network[2::3]} == {0.2}

    def test_of_the_gan(self):
        model = ConditionalWGAN(WGANConfig(latent_dim=5, hidden=300))
        generator, critic = model.generator, model.critic
        assert generator.weight.shape == (5 + 10 + 1, 300)
        assert generator.readout.shape == (300, 8)
        assert generator.bias.shape == (8,)
        assert critic.weight.shape == (8 + 10 + 1, 300)
        assert critic.readout.shape == (300,)
        assert_uniform(generator.weight, 15)
        assert_uniform(critic.weight, 18)
        for values in (generator.readout, generator.bias, critic.readout):
            assert_uniform(values, 300)

    @kinds
    def test_stand_on_the_device(self, kind):
        model = kind(MODELS[kind], device="meta")
        assert model.device == th.device("meta")
        assert {value.device for value in model.parameters()} == {th.device("meta")}


class TestSampling:
    @kinds
    def test_what_is_decoded(self, kind, monkeypatch):
        """Standard normal numbers and the class, one-hot; every row in its place."""
        model = kind(MODELS[kind])
        seen = []

        def decode(inputs):
            seen.append(inputs.clone())
            return th.tanh(inputs[:, :8])

        monkeypatch.setattr(model, "_decode", decode)
        digits = model.sample(10_001, target_class=3, seed=5)
        inputs = th.cat(seen)
        assert inputs.shape == (10_001, 8 + 10)
        assert th.equal(inputs[:, 8:], th.eye(10)[2].expand(10_001, 10))
        np.testing.assert_array_equal(digits, space.decode(th.tanh(inputs[:, :8]).numpy()))
        assert len(inputs[:, :8].unique(dim=0)) == 10_001
        th.testing.assert_close(inputs[:, :8].mean(dim=0), th.zeros(8), atol=0.05, rtol=0)
        th.testing.assert_close(inputs[:, :8].T.cov(), th.eye(8), atol=0.06, rtol=0)

    @kinds
    def test_the_seed_alone_decides(self, kind):
        model = kind(MODELS[kind])
        draws = []
        for number in (1, 2):
            th.manual_seed(number)
            draws.append(model.sample(50, target_class=1, seed=3))
        assert draws[0].dtype == np.int8
        np.testing.assert_array_equal(draws[0], draws[1])

    @kinds
    def test_settings_unless_told_otherwise(self, kind):
        assert kind().config == kind.config_type()

    @kinds
    def test_the_class_decides(self, kind):
        model = kind(MODELS[kind])
        draws = [model.sample(500, target_class=c, seed=0) for c in (1, 10)]
        assert (draws[0] != draws[1]).any()
        for impossible in (0, 11):
            with pytest.raises(InputError, match="target_class"):
                model.sample(5, target_class=impossible)

    @kinds
    def test_the_decoder(self, kind):
        model = kind(MODELS[kind])
        inputs = th.cat([th.randn(30, 8), th.eye(10)[th.arange(30) % 10]], dim=1)
        if kind is ConditionalVAE:
            expected = th.tanh(model.decoder(inputs))
        else:
            expected = model.generator(th.cat([inputs, th.ones(30, 1)], dim=1))
        assert th.equal(model._decode(inputs), expected)


@pytest.fixture
def double_precision(monkeypatch):
    """Everything in 64 bits: Adam makes a step of full length of a gradient that is nothing but rounding."""
    monkeypatch.setattr("generative.wgan_gp.labelled_rows", lambda *args: labelled_rows(*args).double())
    th.set_default_dtype(th.float64)
    yield
    th.set_default_dtype(th.float32)


class TestTraining:
    @kinds
    def test_progress(self, kind, small_set):
        calls = []
        model = kind(replace(MODELS[kind], n_updates=120))
        model.fit(small_set, lambda done, total: calls.append((done, total)))
        step = 50 if kind is ConditionalVAE else 100
        assert calls == [*((done, 120) for done in range(step, 120, step)), (120, 120)]

    @kinds
    def test_what_it_was_trained_on(self, kind, small_set):
        model = kind(MODELS[kind])
        assert model.trained_on is None
        assert model.fit(small_set) is model
        assert model.trained_on == small_set.record()
        empty = TrainingSet(small_set.index[:0], small_set.energy[:0], "nothing")
        with pytest.raises(InputError, match="has no rows"):
            model.fit(empty)

    def test_rows(self, small_set):
        rows = labelled_rows(small_set, th.device("cpu"))
        assert rows.shape == (len(small_set), 18)
        np.testing.assert_array_equal(rows[:, :8].numpy(), small_set.scaled)
        np.testing.assert_array_equal(rows[:, 8:].argmax(dim=1).numpy() + 1, small_set.energy_class)
        assert th.equal(rows[:, 8:].sum(dim=1), th.ones(len(rows)))

    def test_of_the_vae(self, small_set):
        """Against the loop written down again."""
        config = VAEConfig(hidden=(16, 16), n_updates=7, batch_size=30, learning_rate=3e-3)
        model, twin = ConditionalVAE(config, seed=4), ConditionalVAE(config, seed=4)
        model.fit(small_set)
        streams = twin._start()
        rows = labelled_rows(small_set, th.device("cpu"))
        optimizer = th.optim.Adam(twin.parameters(), lr=3e-3)
        balanced = ClassBalancedSampler(small_set.energy_class)
        for chosen in balanced.batches(30, 7, streams.batches):
            optimizer.zero_grad()
            twin.loss(rows[chosen], th.randn(30, 8, generator=streams.noise)).backward()
            optimizer.step()
        th.testing.assert_close(weights(model), weights(twin))

    @pytest.mark.parametrize("decay", [0.0, 0.7])
    def test_of_the_gan(self, small_set, double_precision, decay):
        """Against eqs. 10 and 11 differentiated by autograd, and Adam on every tensor by itself."""
        config = WGANConfig(
            hidden=16, n_updates=6, batch_size=15, n_critic=2, learning_rate=3e-3, ema_decay=decay
        )
        model, twin = ConditionalWGAN(config, seed=4), ConditionalWGAN(config, seed=4)
        model.fit(small_set)
        numbers = twin._random_numbers(small_set, twin._start())
        critic_adam = th.optim.Adam(twin.critic.parameters(), lr=3e-3)
        generator_adam = th.optim.Adam(twin.generator.parameters(), lr=3e-3)
        generator, critic = twin.generator, twin.critic
        average = weights(generator).clone()
        for real, latent, mixing, own_latent in numbers:
            for j in range(2):
                classes = real[j][:, 8:]
                fake = generator(latent[j]).detach()
                between = real[j][:, :8] + mixing[j] * (fake - real[j][:, :8])
                inputs = th.cat([real[j], th.cat([fake, classes], 1), th.cat([between, classes], 1)])
                for value, gradient in zip(
                    critic.parameters(), double_backward(critic, inputs, 10.0), strict=True
                ):
                    value.grad = gradient
                critic_adam.step()
            x = generator(own_latent)
            generator_adam.zero_grad()
            (-critic(th.cat([x, own_latent[:, 8:]], dim=1)).mean()).backward()
            generator_adam.step()
            average = decay * average + (1 - decay) * weights(generator)
        th.testing.assert_close(weights(model.critic), weights(critic))
        th.testing.assert_close(weights(model.generator), average)

    def test_random_numbers_of_the_gan(self, small_set):
        """Classes of real rows and latent vectors agree; more updates than are drawn at once."""
        config = WGANConfig(latent_dim=3, hidden=4, n_critic=2, n_updates=230, batch_size=7)
        model = ConditionalWGAN(config)
        drawn = [*model._random_numbers(small_set, model._start())]
        assert len(drawn) == 230
        rows = {tuple(row) for row in labelled_rows(small_set, th.device("cpu")).tolist()}
        for real, latent, mixing, own_latent in drawn:
            assert (real.shape, latent.shape, mixing.shape) == ((2, 7, 19), (2, 7, 14), (2, 7, 1))
            assert own_latent.shape == (7, 14)
            assert {tuple(row) for row in real.reshape(-1, 19)[:, :18].tolist()} <= rows
            assert th.equal(real[..., 8:], latent[..., 3:])
            for ones in (real, latent, own_latent):
                assert (ones[..., -1] == 1).all()
        latent = th.cat([numbers[1].reshape(-1, 14) for numbers in drawn])
        own = th.cat([numbers[3] for numbers in drawn])
        for z in (latent[:, :3], own[:, :3]):
            assert len(z.unique(dim=0)) == len(z)
            th.testing.assert_close(z.T.cov(), th.eye(3), atol=0.1, rtol=0)
        mixing = th.cat([numbers[2].flatten() for numbers in drawn])
        assert 0 <= mixing.min() < 0.01
        assert 0.99 < mixing.max() < 1
        assert len(mixing.unique()) > 0.99 * len(mixing)
        for classes in (latent[:, 3:13], own[:, 3:13]):
            th.testing.assert_close(classes.mean(dim=0), th.full((10,), 0.1), atol=0.04, rtol=0)
