"""Pieces that both generative models are built from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch as th
from numpy.typing import NDArray
from torch import Tensor, nn

from elpa_env.classes import N_CLASSES, check_target_class, one_hot
from elpa_env.errors import InputError
from elpa_env.space import N_STEPS, decode
from elpa_env.training import ClassBalancedSampler, TrainingSet

NEGATIVE_SLOPE: Final = 0.2
"""Of every LeakyReLU (section 2.3)."""
_SAMPLE_CHUNK: Final = 8192


def linear(n_in: int, n_out: int, generator: th.Generator) -> nn.Linear:
    """A linear layer with PyTorch's default initialisation, drawn from `generator`."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)  # type: ignore[no-untyped-call]
    bound = n_in**-0.5
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer


def labelled_rows(training_set: TrainingSet, device: th.device) -> Tensor:
    """(n, 8 + 10) every row as its scaled digits and its class, one-hot."""
    if len(training_set) == 0:
        raise InputError("the training set has no rows")
    return th.as_tensor(
        np.concatenate([training_set.scaled, one_hot(training_set.energy_class)], axis=1), device=device
    )


def balanced_batches(
    rows: Tensor, training_set: TrainingSet, batch_size: int, n_batches: int, seed: int
) -> Iterator[Tensor]:
    """Yield (batch_size, 18) class-balanced batches of `labelled_rows`."""
    balanced = ClassBalancedSampler(training_set.energy_class)
    rng = np.random.default_rng([seed, 0])
    for chosen in balanced.batches(batch_size, n_batches, rng):
        yield rows[th.as_tensor(chosen, device=rows.device)]


@th.no_grad()
def sample_decoder(
    decoder: Callable[[Tensor], Tensor],
    n: int,
    *,
    latent_dim: int,
    target_class: int,
    seed: int | None,
    device: th.device,
) -> NDArray[np.int8]:
    """Draw (n, 8) digits by decoding standard normal latent vectors.

    Args:
        decoder: (m, latent_dim + 10) latent vectors and one-hot classes to (m, 8) vectors.
        n: candidates.
        latent_dim: entries of a latent vector.
        target_class: 1..10.
        seed: same seed, same candidates; None takes entropy from the system.
        device: where the decoder is.
    """
    check_target_class(target_class)
    generator = th.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    digits = np.empty((n, N_STEPS), dtype=np.int8)
    inputs = th.zeros(min(n, _SAMPLE_CHUNK), latent_dim + N_CLASSES, device=device)
    inputs[:, latent_dim + target_class - 1] = 1
    for start in range(0, n, _SAMPLE_CHUNK):
        m = min(_SAMPLE_CHUNK, n - start)
        inputs[:m, :latent_dim] = th.randn(m, latent_dim, generator=generator).to(device)
        digits[start : start + m] = decode(decoder(inputs[:m]).cpu().numpy())
    return digits
