"""Layers and rows that the conditional models are built from."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch as th
from torch import Tensor, nn

from elpa_env.errors import InputError
from elpa_env.training import TrainingSet

NEGATIVE_SLOPE: Final = 0.2
"""Of every LeakyReLU (section 2.3)."""


def uniform(shape: tuple[int, ...], fan_in: int, generator: th.Generator) -> nn.Parameter:
    """A parameter with PyTorch's default initialisation of a linear layer, drawn from `generator`."""
    bound = fan_in**-0.5
    return nn.Parameter(nn.init.uniform_(th.empty(shape), -bound, bound, generator=generator))


def linear(n_in: int, n_out: int, generator: th.Generator) -> nn.Linear:
    """A linear layer with PyTorch's default initialisation, drawn from `generator`."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)  # type: ignore[no-untyped-call]
    layer.weight = uniform((n_out, n_in), n_in, generator)
    layer.bias = uniform((n_out,), n_in, generator)
    return layer


def labelled_rows(training_set: TrainingSet, device: th.device) -> Tensor:
    """(n, 2 S + k) every row as its scaled digits and its class, one-hot.

    Raises:
        InputError: there are no rows.
    """
    if len(training_set) == 0:
        raise InputError("the training set has no rows")
    return th.as_tensor(
        np.concatenate(
            [training_set.scaled, training_set.space.targets.one_hot(training_set.energy_class)], axis=1
        ),
        device=device,
    )
