"""What a policy network sees of a state."""

from __future__ import annotations

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from elpa_env.space import DIGIT_LIMITS, N_STEPS


class OneHotDigits(BaseFeaturesExtractor):
    """One-hot reading of the digits in a scaled observation.

    Every digit becomes as many entries as it has values, plus one that says "still open":
    4 * (6 + 1) + 4 * (8 + 1) = 64 features. What follows the eight digits in the observation (a
    one-hot target class, say) is passed on as it is.

    Args:
        observation_space: `Box` of shape (8,) or longer.
    """

    def __init__(self, observation_space: spaces.Box) -> None:
        sizes = th.as_tensor(DIGIT_LIMITS.astype("int64")) + 1
        extra = observation_space.shape[0] - N_STEPS
        super().__init__(observation_space, int(sizes.sum()) + extra)
        limits = sizes - 1
        self.register_buffer("_half_limits", limits.float() / 2)
        self.register_buffer("_value", th.cat([th.arange(int(size)) for size in sizes]).float())
        self.register_buffer("_column", th.repeat_interleave(th.arange(N_STEPS), sizes))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """(n, 64 + extra) features of (n, 8 + extra) observations."""
        scaled = observations[:, :N_STEPS]
        digits = ((scaled + 1) * self._half_limits + 0.5).round()
        digits = th.where(scaled == 0, 0.0, digits)
        features = (digits[:, self._column] == self._value).float()
        return th.cat([features, observations[:, N_STEPS:]], dim=1)
