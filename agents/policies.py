"""Q-networks for the observation of compositions: how the digits are read, and what bounds the output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, get_args

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from agents.properties import site_codes, site_properties
from elpa_env.errors import check_choice
from elpa_env.space import ELPASOLITE_SPACE, Space

Encoding = Literal["one-hot", "thermometer"]
Activation = Literal["leaky-relu", "silu"]

NEGATIVE_SLOPE: Final = 0.2
"""Of every LeakyReLU."""


class DigitEncoder(BaseFeaturesExtractor):
    """Reads the digits out of a scaled observation.

    "one-hot" gives every value of a digit an entry of its own: of elpasolite 4 * 6 + 4 * 8. "thermometer"
    gives every step between two values one, +1 above it and -1 below, 0 while the digit is open:
    4 * 5 + 4 * 7 entries; elements that are neighbours in the periodic table then look alike. Both add
    one entry a digit that says "still open". What follows the digits in the observation (a
    one-hot target class, say) is passed on as it is.

    Args:
        observation_space: `Box` of shape (2 S,) or longer.
        encoding: "one-hot" or "thermometer".
        space: of the compositions.
    """

    _half_limits: th.Tensor
    _column: th.Tensor
    _value: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Box,
        encoding: Encoding = "one-hot",
        space: Space = ELPASOLITE_SPACE,
    ) -> None:
        check_choice("encoding", encoding, get_args(Encoding))
        limits = [int(limit) for limit in space.digit_limits]
        values = [limit if encoding == "one-hot" else limit - 1 for limit in limits]
        extra = observation_space.shape[0] - space.n_steps
        super().__init__(observation_space, sum(values) + space.n_steps + extra)
        self.encoding = encoding
        self._n_steps = space.n_steps
        self.register_buffer("_half_limits", th.as_tensor(space.half_limits))
        self.register_buffer("_column", th.repeat_interleave(th.arange(space.n_steps), th.tensor(values)))
        self.register_buffer("_value", th.cat([th.arange(1, n + 1) for n in values]).float())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """(n, features_dim) features of (n, 2 S or more) observations."""
        digits = read_digits(observations, self._half_limits)
        is_open = (digits == 0).float()
        column = digits[:, self._column]
        if self.encoding == "one-hot":
            features = (column == self._value).float()
        else:
            features = (2 * (column > self._value).float() - 1) * (column > 0)
        return th.cat([features, is_open, observations[:, self._n_steps :]], dim=1)


class ElementEmbedding(BaseFeaturesExtractor):
    """Reads what stands on each site, a row alone or an element, through embeddings.

    The sum of one vector a site, then SiLU. An embedding is a free vector plus a linear map of the
    `site_properties`. Equivalent sites share theirs, so that a swap of two elements there changes nothing.
    What follows the digits in the observation (a one-hot target class, say) goes
    through a linear layer of its own into the same sum.

    Args:
        observation_space: `Box` of shape (2 S,) or longer.
        features_dim: entries of an embedding.
        space: of the compositions.
    """

    _half_limits: th.Tensor
    _properties: th.Tensor
    _first_row: th.Tensor

    def __init__(
        self, observation_space: spaces.Box, features_dim: int = 256, space: Space = ELPASOLITE_SPACE
    ) -> None:
        super().__init__(observation_space, features_dim)
        codes, properties = site_codes(space), site_properties(space)
        n_properties = properties.shape[1]
        self._n_steps, self._width = space.n_steps, space.n_columns + 1
        self.register_buffer("_half_limits", th.as_tensor(space.half_limits))
        self.register_buffer("_properties", properties)
        self.register_buffer("_first_row", th.tensor(codes.tables) * codes.n)
        self.free = nn.Parameter(th.randn(codes.n_tables, codes.n, features_dim) * 0.15)
        self.linear = nn.Parameter(th.randn(codes.n_tables, n_properties, features_dim) / n_properties**0.5)
        self.bias = nn.Parameter(th.zeros(features_dim))
        extra = observation_space.shape[0] - space.n_steps
        self.extra = nn.Linear(extra, features_dim, bias=False) if extra else None

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """(n, features_dim) features of (n, 2 S or more) observations."""
        digits = read_digits(observations, self._half_limits)
        code = (digits[:, ::2] * self._width + digits[:, 1::2]).long()  # (n, S)
        table = (self.free + self._properties @ self.linear).flatten(
            end_dim=1
        )  # (n_tables * n_codes, features_dim)
        features = nn.functional.embedding_bag(code + self._first_row, table, mode="sum") + self.bias
        if self.extra is not None:
            features = features + self.extra(observations[:, self._n_steps :])
        return nn.functional.silu(features)


def read_digits(observations: th.Tensor, half_limits: th.Tensor) -> th.Tensor:
    """(n, 2 S) digits of (n, 2 S or more) observations, 0 where open; eq. 1 backwards."""
    scaled = observations[:, : len(half_limits)]
    return ((scaled + 1) * half_limits + 0.5).round() * (scaled != 0)


def soft_offsets(beta: float, gamma: float, space: Space = ELPASOLITE_SPACE) -> list[float]:
    """(2 S,) soft Q-value of any action at each step if every episode earned 0.

    What the soft backup adds for the choices that are still to come, log(number of them) / beta for
    gamma=1. Q-values less this lie where rewards do, and their Boltzmann policy is the same.

    Args:
        beta: inverse temperature.
        gamma: discount factor.
        space: of the compositions.
    """
    offsets = [0.0]
    for limit in space.digit_limits[:0:-1]:
        offsets.insert(0, gamma * (math.log(limit) / beta + offsets[0]))
    return offsets


class BoundedQNetwork(QNetwork):
    """SB3's Q-network with other activations and optionally layer normalisation and Q in (-1, 1).

    Args:
        activation: behind every hidden layer, "leaky-relu" or "silu".
        layer_norm: normalise every hidden layer.
        bounded: end in a hyperbolic tangent; no return of eq. 12 lies outside -1..1.
        offsets: (2 S,) added to Q at each step, beyond the bound; none by default. See `soft_offsets`.
        *args: passed on to SB3's QNetwork.
        **kwargs: passed on to SB3's QNetwork.
    """

    _offsets: th.Tensor

    def __init__(
        self,
        *args: Any,
        activation: Activation = "leaky-relu",
        layer_norm: bool = True,
        bounded: bool = True,
        offsets: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_choice("activation", activation, get_args(Activation))
        self.has_offsets = offsets is not None
        if offsets is not None:
            self.register_buffer("_offsets", th.tensor([*offsets, 0.0]))
        layers: list[nn.Module] = []
        width = self.features_dim
        for hidden in self.net_arch:
            layers.append(nn.Linear(width, hidden))
            if layer_norm:
                layers.append(nn.LayerNorm(hidden))
            layers.append(nn.SiLU() if activation == "silu" else nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))
            width = hidden
        layers.append(nn.Linear(width, int(self.action_space.n)))
        if bounded:
            layers.append(nn.Tanh())
        self.q_net = nn.Sequential(*layers)

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """(n, n_actions) Q-values of (n, ...) observations."""
        q: th.Tensor = super().forward(obs)
        if not self.has_offsets:
            return q
        assert isinstance(obs, th.Tensor)
        n_steps = len(self._offsets) - 1
        return q + self._offsets[(obs[:, :n_steps] != 0).sum(dim=1), None]


class BoundedQPolicy(DQNPolicy):
    """SB3's DQN policy around `BoundedQNetwork`.

    Args:
        activation: see `BoundedQNetwork`.
        layer_norm: see `BoundedQNetwork`.
        bounded: see `BoundedQNetwork`.
        offsets: see `BoundedQNetwork`.
        *args: passed on to SB3's DQNPolicy.
        **kwargs: passed on to SB3's DQNPolicy.
    """

    def __init__(
        self,
        *args: Any,
        activation: Activation = "leaky-relu",
        layer_norm: bool = True,
        bounded: bool = True,
        offsets: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        self._own: dict[str, Any] = {
            "activation": activation,
            "layer_norm": layer_norm,
            "bounded": bounded,
            "offsets": offsets,
        }
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> QNetwork:
        """Build one of the two networks."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        network = BoundedQNetwork(**arguments, **self._own)
        return network.to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._own}
