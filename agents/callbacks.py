"""SB3 callbacks for training a `BoltzmannDQN`."""

from __future__ import annotations

import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

from elpa_env.sampler import Progress


class AveragedWeights(BaseCallback):
    """Leaves the agent with the exponential moving average of its Q-network's weights.

    Args:
        decay: of the average, an update.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self._average: list[th.Tensor] = []

    def _parameters(self) -> list[th.Tensor]:
        assert isinstance(self.model, DQN)
        return [parameter.data for parameter in self.model.q_net.parameters()]

    def _on_training_start(self) -> None:
        self._average = [parameter.clone() for parameter in self._parameters()]

    def _on_step(self) -> bool:
        th._foreach_lerp_(self._average, self._parameters(), 1 - self.decay)
        return True

    def _on_training_end(self) -> None:
        for parameter, average in zip(self._parameters(), self._average, strict=True):
            parameter.copy_(average)


class ReportProgress(BaseCallback):
    """Calls a function with the updates made and the updates to make.

    Args:
        progress: the function.
        n_updates: updates to make.
        every: updates between two calls.
    """

    def __init__(self, progress: Progress, n_updates: int, every: int = 50) -> None:
        super().__init__()
        self.progress = progress
        self.n_updates = n_updates
        self.every = every

    def _on_step(self) -> bool:
        if self.n_calls % self.every == 0 or self.n_calls == self.n_updates:
            self.progress(self.n_calls, self.n_updates)
        return True
