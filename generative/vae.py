"""Conditional variational autoencoder, section 2.3.1 of Türk et al., Chem. Mater. 2022, 34, 9455.

The encoder turns a composition and its energy class into a normal distribution over latent vectors
(eq. 8), the decoder a latent vector and a class into a composition (eq. 7). Training minimises the
squared error of the reconstruction plus λ times the Kullback-Leibler divergence from the standard
normal distribution (eq. 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch as th
from torch import Tensor, nn

from elpa_env.ranges import Between, Choice, SearchSpace
from elpa_env.sampler import FEWER, Preset, Progress
from elpa_env.training import ClassBalancedSampler, TrainingSet
from generative.conditional import LatentModel, Streams
from generative.networks import NEGATIVE_SLOPE, labelled_rows, linear


@dataclass(frozen=True)
class VAEConfig:
    """Hyperparameters; the defaults are the paper's.

    Attributes:
        latent_dim: entries of the latent vector.
        hidden: nodes of the hidden layers of encoder and decoder.
        kl_weight: λ of eq. 9.
        n_updates: network updates.
        batch_size: compositions an update.
        learning_rate: Adam's.
    """

    latent_dim: int = 8
    hidden: tuple[int, ...] = (256, 256)
    kl_weight: float = 0.1
    n_updates: int = 10_000
    batch_size: int = 500
    learning_rate: float = 1e-3


PRESETS: Final = {
    "quick": Preset(VAEConfig(n_updates=1_500), "the paper, with fewer updates to save time"),
    "small": Preset(VAEConfig(n_updates=1_500), FEWER),
    "default": Preset(VAEConfig(), "the paper"),
    "paper": Preset(VAEConfig(), "the paper"),
}
"""Hyperparameters that ship with the VAE."""
SEARCH: Final[SearchSpace] = {
    "latent_dim": Choice((4, 8, 16)),
    "hidden": Choice(((128,), (256,), (512,), (128, 128), (256, 256), (512, 512), (256, 256, 256))),
    "kl_weight": Between(0.01, 1.0, log=True),
    "learning_rate": Between(1e-4, 3e-3, log=True),
    "batch_size": Choice((100, 250, 500)),
    "n_updates": Choice((2_500, 5_000, 10_000)),
}
"""Where a search looks; ours, since the paper's Table S4 is not to hand."""


class ConditionalVAE(LatentModel[VAEConfig]):
    """Conditional VAE, see `ConditionalModel` for its arguments."""

    name = "vae"
    config_type = VAEConfig
    presets = PRESETS

    def _build(self, generator: th.Generator) -> None:
        n_z, hidden = self.config.latent_dim, self.config.hidden
        self.encoder = _mlp(self.n_digits + self.n_classes, hidden, 2 * n_z, generator)
        self.decoder = _mlp(n_z + self.n_classes, hidden, self.n_digits, generator)

    def loss(self, batch: Tensor, noise: Tensor) -> Tensor:
        """Mean of eq. 9 over a batch.

        Args:
            batch: (n, 2 S + k) scaled compositions and one-hot classes.
            noise: (n, latent_dim) standard normal numbers.
        """
        x, classes = batch[:, : self.n_digits], batch[:, self.n_digits :]
        mu, logvar = self.encoder(batch).chunk(2, dim=1)
        z = th.addcmul(mu, noise, (0.5 * logvar).exp())
        decoded = self._decode(th.cat([z, classes], dim=1))
        reconstruction = nn.functional.mse_loss(decoded, x, reduction="sum")
        divergence = 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum()
        loss: Tensor = (reconstruction + self.config.kl_weight * divergence) / len(batch)
        return loss

    def _train(self, training_set: TrainingSet, streams: Streams, progress: Progress | None) -> None:
        config = self.config
        rows = labelled_rows(training_set, self.device)
        balanced = ClassBalancedSampler(training_set.energy_class)
        optimizer = th.optim.Adam(self.parameters(), lr=config.learning_rate, fused=True)
        batches = balanced.batches(config.batch_size, config.n_updates, streams.batches)
        for update, chosen in enumerate(batches, start=1):
            batch = rows[th.as_tensor(chosen, device=self.device)]
            noise = th.randn(len(batch), config.latent_dim, generator=streams.noise).to(self.device)
            optimizer.zero_grad()
            self.loss(batch, noise).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if progress and (update % 50 == 0 or update == config.n_updates):
                progress(update, config.n_updates)

    def _decode(self, inputs: Tensor) -> Tensor:
        return th.tanh(self.decoder(inputs))


def _mlp(n_in: int, hidden: tuple[int, ...], n_out: int, generator: th.Generator) -> nn.Sequential:
    """Hidden layers with layer normalisation and LeakyReLU, then a linear map."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [
            linear(n_in, width, generator),
            nn.LayerNorm(width),
            nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
        ]
        n_in = width
    return nn.Sequential(*layers, linear(n_in, n_out, generator))
