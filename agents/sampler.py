"""A trained agent as a `Sampler`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.dqn import BoltzmannDQN
from agents.sampling import sample_policy
from elpa_env.errors import InputError
from elpa_env.space import scale


class AgentSampler:
    """Draws compositions with β sampling from a trained `BoltzmannDQN`.

    Args:
        model: the agent.
        beta: inverse temperature of eq. 16; the agent's own by default.
        name: what to call it.
    """

    def __init__(self, model: BoltzmannDQN, *, beta: float | None = None, name: str = "dqn") -> None:
        self.model = model
        self.beta = model.beta if beta is None else beta
        self.name = name

    def probabilities(self, digits: NDArray[np.int8]) -> NDArray[np.float64]:
        """(m, 8) action probabilities of (m, 8) unfinished states."""
        return self.model.action_probabilities(scale(digits), beta=self.beta)

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 8) digits; see `elpa_env.Sampler`."""
        if target_class != self.model.target_class:
            raise InputError(
                f"this agent was trained for class {self.model.target_class}, not {target_class}: "
                f"train another with --target-class {target_class}"
            )
        return sample_policy(self.probabilities, n, seed=seed)
