"""Conditional Wasserstein GAN with gradient penalty, section 2.3.2 of Türk et al. 2022.

A generator turns a latent vector and an energy class into a composition; a critic scores
compositions given their class. Training alternates eq. 10 for the critic and eq. 11 for the generator.

Both networks have one hidden layer, which makes every gradient a closed form; no update goes through
autograd. With inputs u = [x, one-hot class, 1] the critic is D = lrelu(u W) r. LeakyReLU multiplies by
slopes s (1 or 0.2) that are constant almost everywhere, so dD/du = (s * r) W^T and D = <u, dD/du>. Any
sum over rows F = sum_b <v_b, dD/du_b> with constant vectors v_b has, with T = v^T s, the gradients

    dF/dW = T * r    and    dF/dr = sum_i (W * T)_i.

Every term of eq. 10 has the gradient of such an F: real rows with v = -u / n, fake rows with v = u / n,
and the penalty λ mean (|g| - 1)^2, g = dD/dx between real and fake, with v = 2 λ / n (1 - 1 / |g|) g.
A critic update is three matrix products instead of a double backward pass.

A real row, its fake partner and the point between them share one class; only x is penalised. A constant
added to D changes neither loss, so the critic has no output bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import torch as th
from torch import Tensor, nn

from elpa_env.ranges import Between, Choice, SearchSpace
from elpa_env.sampler import FEWER, SEARCHED, TUNED, Preset, Progress
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.training import ClassBalancedSampler, TrainingSet
from generative.conditional import LatentModel, Streams
from generative.networks import NEGATIVE_SLOPE, labelled_rows, uniform

_BLOCK: Final = 100
"""Generator updates whose random numbers are drawn at once."""


@dataclass(frozen=True)
class WGANConfig:
    """Hyperparameters; the defaults are the paper's.

    Attributes:
        latent_dim: entries of the latent vector.
        hidden: nodes of the one hidden layer of generator and critic.
        gradient_penalty: λ of eq. 10.
        n_critic: critic updates before each generator update.
        n_updates: generator updates.
        batch_size: real compositions an update, and as many fake ones.
        learning_rate: Adam's, for both networks.
        ema_decay: decay an update of the average of the generator's weights that is sampled from;
            0 samples from the last weights.
    """

    latent_dim: int = 8
    hidden: int = 512
    gradient_penalty: float = 10.0
    n_critic: int = 5
    n_updates: int = 200_000
    batch_size: int = 100
    learning_rate: float = 1e-5
    ema_decay: float = 0.0


_DEFAULT: Final = WGANConfig(
    hidden=256,
    gradient_penalty=6.66,
    n_updates=17_000,
    batch_size=200,
    learning_rate=7.2e-4,
    ema_decay=0.999,
)
_TUNED: Final = WGANConfig(n_updates=17_000, learning_rate=1.5e-4, ema_decay=0.9995)
PRESETS: Final = {
    "quick": Preset(replace(_DEFAULT, n_updates=5_000), f"{SEARCHED}, with fewer updates to save time"),
    "small": Preset(replace(_DEFAULT, n_updates=3_000), FEWER),
    "default": Preset(_DEFAULT, SEARCHED),
    "paper": Preset(WGANConfig(), "the paper"),
    "tuned": Preset(_TUNED, TUNED),
}
"""Hyperparameters that ship with the GAN."""
SEARCH: Final[SearchSpace] = {
    "latent_dim": Choice((4, 8, 16)),
    "hidden": Choice((128, 256, 512, 1024)),
    "gradient_penalty": Between(1.0, 30.0, log=True),
    "n_critic": Choice((3, 5)),
    "learning_rate": Between(3e-5, 1e-3, log=True),
    "batch_size": Choice((50, 100, 200)),
    "n_updates": Choice((5_000, 10_000, 17_000)),
    "ema_decay": Choice((0.0, 0.999, 0.9995)),
}
"""Where a search looks; ours, since the paper's Table S4 is not to hand."""


class Generator(nn.Module):
    """G(z, c) = tanh(lrelu([z, one-hot c, 1] W) V + b).

    Attributes:
        weight: W, (latent_dim + k + 1, hidden); its last row is the hidden layer's bias.
        readout: V, (hidden, 2 S).
        bias: b, (2 S,).
    """

    def __init__(self, config: WGANConfig, generator: th.Generator, space: Space = ELPASOLITE_SPACE) -> None:
        super().__init__()
        self.n_conditions = space.targets.n + 1  # the class, one-hot, and a 1
        n_in = config.latent_dim + space.targets.n
        self.weight = uniform((n_in + 1, config.hidden), n_in, generator)
        self.readout = uniform((config.hidden, space.n_steps), config.hidden, generator)
        self.bias = uniform((space.n_steps,), config.hidden, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, 2 S) scaled compositions of (n, latent_dim + k + 1) rows [z, one-hot class, 1]."""
        return self._output(self._hidden(inputs))

    def _hidden(self, inputs: Tensor) -> Tensor:
        return nn.functional.leaky_relu_(inputs @ self.weight, NEGATIVE_SLOPE)

    def _output(self, hidden: Tensor) -> Tensor:
        # transposed, since a product with few columns is slow and one with few rows is not
        return th.addmm(self.bias[:, None], self.readout.T, hidden.T).T.tanh()

    def loss_gradients(self, inputs: Tensor, critic: Critic) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of eq. 11, -mean D(G(z, c), c), in the order of the parameters.

        Args:
            inputs: (n, latent_dim + k + 1) rows [z, one-hot class, 1].
            critic: D.
        """
        hidden = self._hidden(inputs)
        x = self._output(hidden)
        active = critic.active(th.cat([x, inputs[:, -self.n_conditions :]], dim=1))
        delta = critic.input_gradient(active) * (x * x - 1) / len(inputs)
        d_readout = hidden.T @ delta
        slopes = hidden.gt_(0).mul_(1 - NEGATIVE_SLOPE).add_(NEGATIVE_SLOPE)
        d_weight = inputs.T @ slopes.mul_(delta @ self.readout.T)
        return d_weight, d_readout, delta.sum(dim=0)


class Critic(nn.Module):
    """D(x, c) = lrelu([x, one-hot c, 1] W) r.

    Attributes:
        weight: W, (2 S + k + 1, hidden); its last row is the hidden layer's bias.
        readout: r, (hidden,).
    """

    def __init__(self, config: WGANConfig, generator: th.Generator, space: Space = ELPASOLITE_SPACE) -> None:
        super().__init__()
        self.n_digits = space.n_steps
        n_in = space.n_steps + space.targets.n
        self.weight = uniform((n_in + 1, config.hidden), n_in, generator)
        self.readout = uniform((config.hidden,), config.hidden, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n,) scores of (n, 2 S + k + 1) rows [x, one-hot class, 1]."""
        return nn.functional.leaky_relu(inputs @ self.weight, NEGATIVE_SLOPE) @ self.readout

    def active(self, inputs: Tensor) -> Tensor:
        """(n, hidden) 1.0 where a hidden node is above zero; its slope is 0.2 + 0.8 of that."""
        return (inputs @ self.weight).gt_(0)

    def input_gradient(self, active: Tensor) -> Tensor:
        """(n, 2 S) dD/dx."""
        paths = (self.weight[: self.n_digits] * self.readout).T
        return th.addmm(paths.sum(dim=0), active, paths, beta=NEGATIVE_SLOPE, alpha=1 - NEGATIVE_SLOPE)

    def loss_gradients(self, inputs: Tensor, gradient_penalty: float) -> tuple[Tensor, Tensor]:
        """Gradients of eq. 10 in the order of the parameters.

        Args:
            inputs: (3 n, 2 S + k + 1) rows [x, one-hot class, 1]: n real, n fake, n between them.
            gradient_penalty: λ.
        """
        n = len(inputs) // 3
        active = self.active(inputs)
        slope = self.input_gradient(active[2 * n :])
        norm = th.linalg.vector_norm(slope, dim=1, keepdim=True).clamp_min_(1e-12)
        v = th.zeros_like(inputs)
        th.div(inputs[:n], -n, out=v[:n])
        th.div(inputs[n : 2 * n], n, out=v[n : 2 * n])
        v[2 * n :, : self.n_digits] = slope * (1 - 1 / norm) * (2 * gradient_penalty / n)
        pulled = th.addmm(v.sum(dim=0)[:, None], v.T, active, beta=NEGATIVE_SLOPE, alpha=1 - NEGATIVE_SLOPE)
        d_readout = th.linalg.vecdot(self.weight, pulled, dim=0)
        return pulled.mul_(self.readout), d_readout


class _FlatAdam:
    """Adam on one vector that all parameters of a module are views of: one tensor to update."""

    def __init__(self, module: nn.Module, learning_rate: float) -> None:
        parameters = list(module.parameters())
        self.values = nn.Parameter(nn.utils.parameters_to_vector(parameters).detach())
        nn.utils.vector_to_parameters(self.values.data, parameters)
        self.values.grad = th.zeros_like(self.values)
        self._adam = th.optim.Adam([self.values], lr=learning_rate, fused=True)

    def step(self, gradients: tuple[Tensor, ...]) -> None:
        """Step along gradients given in the order of the module's parameters."""
        th.cat([gradient.flatten() for gradient in gradients], out=self.values.grad)
        self._adam.step()


class ConditionalWGAN(LatentModel[WGANConfig]):
    """Conditional WGAN-GP, see `ConditionalModel` for its arguments."""

    name = "gan"
    config_type = WGANConfig
    presets = PRESETS

    def _build(self, generator: th.Generator) -> None:
        self.generator = Generator(self.config, generator, self.space)
        self.critic = Critic(self.config, generator, self.space)

    @th.no_grad()
    def _train(self, training_set: TrainingSet, streams: Streams, progress: Progress | None) -> None:
        config = self.config
        critic_adam = _FlatAdam(self.critic, config.learning_rate)
        generator_adam = _FlatAdam(self.generator, config.learning_rate)
        average = generator_adam.values.detach().clone()
        update, n_digits = 0, self.n_digits
        for real, latent, mixing, own_latent in self._random_numbers(training_set, streams):
            for j in range(config.n_critic):
                fake = self.generator(latent[j])
                rows = real[j].repeat(3, 1)
                rows[config.batch_size : -config.batch_size, :n_digits] = fake
                between = rows[-config.batch_size :, :n_digits]
                between += mixing[j] * (fake - between)
                critic_adam.step(self.critic.loss_gradients(rows, config.gradient_penalty))
            generator_adam.step(self.generator.loss_gradients(own_latent, self.critic))
            average.lerp_(generator_adam.values, 1 - config.ema_decay)
            update += 1
            if progress and (update % _BLOCK == 0 or update == config.n_updates):
                progress(update, config.n_updates)
        nn.utils.vector_to_parameters(average, self.generator.parameters())

    def _random_numbers(
        self, training_set: TrainingSet, streams: Streams
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Everything random that one generator update needs.

        Yields:
            real (m, n, 2 S + k + 1) rows [x, one-hot class, 1]; latent (k, n, latent_dim + 11) of the same
            classes; mixing (k, n, 1) in [0, 1); and own_latent (n, latent_dim + k + 1), with k critic
            updates of n rows.
        """
        config, device = self.config, self.device
        k, n = config.n_critic, config.batch_size
        labelled = labelled_rows(training_set, device)
        labelled = th.cat([labelled, th.ones(len(labelled), 1, device=device)], dim=1)
        balanced = ClassBalancedSampler(training_set.energy_class)
        for start in range(0, config.n_updates, _BLOCK):
            block = min(_BLOCK, config.n_updates - start)
            chosen = balanced.draw(block * (k + 1) * n, streams.batches)
            rows = labelled[th.as_tensor(chosen, device=device)].view(block, k + 1, n, -1)
            z = th.randn(block, k + 1, n, config.latent_dim, generator=streams.noise).to(device)
            latent = th.cat([z, rows[..., self.n_digits :]], dim=-1)
            mixing = th.rand(block, k, n, 1, generator=streams.noise).to(device)
            for i in range(block):
                yield rows[i, :k], latent[i, :k], mixing[i], latent[i, k]

    def _decode(self, inputs: Tensor) -> Tensor:
        x: Tensor = self.generator(nn.functional.pad(inputs, (0, 1), value=1.0))
        return x
