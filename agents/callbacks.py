"""SB3 callbacks for training a `BoltzmannDQN`."""

from __future__ import annotations

from stable_baselines3.common.callbacks import BaseCallback

from elpa_env.sampler import Progress


class ReportProgress(BaseCallback):
    """Calls a function with the steps made and the steps to make.

    Args:
        progress: the function.
        n_steps: steps to make.
        every: steps between two calls.
    """

    def __init__(self, progress: Progress, n_steps: int, every: int = 50) -> None:
        super().__init__()
        self.progress = progress
        self.n_steps = n_steps
        self.every = every

    def _on_step(self) -> bool:
        if self.n_calls % self.every == 0 or self.n_calls == self.n_steps:
            self.progress(self.n_calls, self.n_steps)
        return True
