"""A trained agent as a `Sampler`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.dqn import CHECKPOINT_FORMAT, BoltzmannDQN
from agents.sampling import sample_policy
from elpa_env.errors import InputError
from elpa_env.files import atomic_path
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

    def save(self, path: str | Path) -> None:
        """Write the agent as SB3 does, all or nothing."""
        with atomic_path(path) as temporary:
            self.model.save(temporary)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> AgentSampler:
        """Read an agent that `save` wrote.

        An SB3 archive may hold pickled objects: load only files that you trust.

        Raises:
            InputError: the file is missing, damaged, or holds another kind of agent.
        """
        try:
            model = BoltzmannDQN.load(path, device=device)
        except FileNotFoundError as error:
            raise InputError(f"no agent {path}: train one with `elpa train dqn`") from error
        except Exception as error:
            raise InputError(f"{path} holds no BoltzmannDQN, or is damaged") from error
        found = getattr(model, "checkpoint_format", None)
        if found != CHECKPOINT_FORMAT:
            raise InputError(
                f"{path} has format {found}, this version reads {CHECKPOINT_FORMAT}: train the agent again"
            )
        return cls(model)

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
