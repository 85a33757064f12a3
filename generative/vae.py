"""Conditional variational autoencoder, section 2.3.1 of Türk et al., Chem. Mater. 2022, 34, 9455.

The encoder turns a composition and its energy class into a normal distribution over latent vectors
(eq. 8), the decoder a latent vector and a class into a composition (eq. 7). Training minimises the
squared error of the reconstruction plus λ times the Kullback-Leibler divergence from the standard
normal distribution (eq. 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch as th
from numpy.typing import NDArray
from torch import Tensor, nn

from elpa_env.classes import N_CLASSES
from elpa_env.sampler import Progress
from elpa_env.space import N_STEPS
from elpa_env.training import TrainingSet
from generative.checkpoint import checked_content, load_checkpoint, save_checkpoint
from generative.networks import (
    NEGATIVE_SLOPE,
    balanced_batches,
    labelled_rows,
    linear,
    sample_decoder,
)


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


class ConditionalVAE:
    """Conditional VAE; one model serves every energy class.

    Args:
        config: hyperparameters.
        seed: of the weights and of everything random in `fit`.
        device: where to train and sample.
    """

    name = "vae"

    def __init__(
        self, config: VAEConfig | None = None, *, seed: int = 0, device: th.device | str = "cpu"
    ) -> None:
        self.config = config = config or VAEConfig()
        self.seed = seed
        self.device = th.device(device)
        self.trained_on: dict[str, Any] | None = None
        generator = th.Generator().manual_seed(seed)
        n_z = config.latent_dim
        self.encoder = _mlp(N_STEPS + N_CLASSES, config.hidden, 2 * n_z, generator).to(self.device)
        self.decoder = _mlp(n_z + N_CLASSES, config.hidden, N_STEPS, generator).to(self.device)

    def loss(self, batch: Tensor, noise: Tensor) -> Tensor:
        """Mean of eq. 9 over a batch.

        Args:
            batch: (n, 18) scaled compositions and one-hot classes.
            noise: (n, latent_dim) standard normal numbers.
        """
        x, classes = batch[:, :N_STEPS], batch[:, N_STEPS:]
        mu, logvar = self.encoder(batch).chunk(2, dim=1)
        z = th.addcmul(mu, noise, (0.5 * logvar).exp())
        decoded = th.tanh(self.decoder(th.cat([z, classes], dim=1)))
        reconstruction = nn.functional.mse_loss(decoded, x, reduction="sum")
        divergence = 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum()
        loss: Tensor = (reconstruction + self.config.kl_weight * divergence) / len(batch)
        return loss

    def fit(self, training_set: TrainingSet, progress: Progress | None = None) -> Self:
        """Train on class-balanced batches of a training set."""
        config = self.config
        rows = labelled_rows(training_set, self.device)
        generator = th.Generator().manual_seed(self.seed + 1)
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        optimizer = th.optim.Adam(parameters, lr=config.learning_rate, fused=True)
        batches = balanced_batches(rows, training_set, config.batch_size, config.n_updates, self.seed)
        for update, batch in enumerate(batches, start=1):
            noise = th.randn(len(batch), config.latent_dim, generator=generator).to(self.device)
            optimizer.zero_grad()
            self.loss(batch, noise).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if progress and (update % 50 == 0 or update == config.n_updates):
                progress(update, config.n_updates)
        self.trained_on = training_set.record()
        return self

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 8) digits; see `elpa_env.Sampler`."""
        return sample_decoder(
            lambda inputs: th.tanh(self.decoder(inputs)),
            n,
            latent_dim=self.config.latent_dim,
            target_class=target_class,
            seed=seed,
            device=self.device,
        )

    def save(self, path: str | Path) -> None:
        """Write a checkpoint, all or nothing."""
        state = {"encoder": self.encoder.state_dict(), "decoder": self.decoder.state_dict()}
        save_checkpoint(path, model=self.name, config=self.config, state=state, trained_on=self.trained_on)

    @classmethod
    def load(cls, path: str | Path, *, device: th.device | str = "cpu") -> Self:
        """Read a checkpoint; InputError if it is not a VAE's."""
        content = load_checkpoint(path, model=cls.name)
        with checked_content(path):
            model = cls(VAEConfig(**content["config"]), device=device)
            model.encoder.load_state_dict(content["state"]["encoder"])
            model.decoder.load_state_dict(content["state"]["decoder"])
            model.trained_on = content["trained_on"]
        return model


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
