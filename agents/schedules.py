"""How a learning rate falls over training."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class CosineSchedule:
    """Falls from `start` to `end` along half a cosine; a `learning_rate` for SB3.

    Attributes:
        start: value at the beginning.
        end: value at the end.
    """

    start: float
    end: float = 0.0

    def __call__(self, remaining: float) -> float:
        """Value where a share `remaining` (1..0) of training is still to come."""
        return self.end + (self.start - self.end) * 0.5 * (1 - math.cos(math.pi * remaining))
