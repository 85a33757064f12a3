"""The exact soft policy on a reward model: what an agent approaches, without learning to act.

A soft backup without discount and with inverse temperature β makes the Boltzmann policy draw every
composition in proportion to exp(β reward), see `elpa_env.solve`. Where all compositions can be listed, that
is a table.
"""

from __future__ import annotations

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from agents.reward_model import RewardModel
from agents.train import VARIANTS, DQNConfig, reward_model_seed
from elpa_env.errors import InputError
from elpa_env.sampler import Access, Progress, chosen_by, sample_distribution
from elpa_env.space import ELPASOLITE_SPACE
from elpa_env.training import TrainingSet

PRESETS: Final = VARIANTS["dqn-soft-model"].presets
"""Those of the agent, of which β and the reward model matter."""


class OfRewardModel:
    """What an agent's reward model gives by itself, where all compositions can be listed.

    Args:
        config: of the agent that has the same reward model.
        seed: that of the agent.

    Attributes:
        reward_model: what it asks.
        access: what it saw, see `elpa_env.Sampler`.
    """

    needs = "a list of all compositions"
    """What a space that is too large for it is told about."""

    def __init__(self, config: DQNConfig | None = None, *, seed: int = 0) -> None:
        self.config: DQNConfig = config or PRESETS["default"].config
        self.seed = seed
        self.space = ELPASOLITE_SPACE
        self.access = Access("model-based")
        self.reward_model = RewardModel(self.config.reward_model, seed=reward_model_seed(seed))

    def fit(self, training_set: TrainingSet, progress: Progress | None = None) -> Self:
        """Fit the reward model.

        Raises:
            InputError: the compositions of the training set's space are too many to be listed.
        """
        training_set.space.require_table(self.needs)
        self.space = training_set.space
        self.reward_model.fit(training_set, progress)
        self.access = Access(
            "model-based",
            labels=training_set.n_labels,
            model_queries=self.space.n_compositions,
            chosen_by=chosen_by(self.config, PRESETS.values(), self.space),
        )
        return self

    def checked(self, target_class: int) -> int:
        """A class of the space.

        Raises:
            InputError: the reward model has not been fitted, or there is no such class.
        """
        if self.reward_model.trained_on is None:
            raise InputError("the reward model knows nothing yet: call fit(training_set) first")
        return self.space.targets.check(target_class)


class PlanSampler(OfRewardModel):
    """Draws in proportion to exp(β reward), the reward being that of a reward model of the training set.

    Of the agent's configuration it uses `beta` and `reward_model`.
    """

    name = "plan"
    needs = "an exact policy"

    def distribution(self, target_class: int) -> NDArray[np.float64]:
        """(n_table,) probability of every entry of the composition table.

        Raises:
            InputError: the reward model has not been fitted, or there is no such class.
        """
        target_class = self.checked(target_class)
        index = np.flatnonzero(self.space.composition_mask)
        reward = self.reward_model.reward(self.space.index_to_numbers(index), None, None, target_class)
        weight = np.exp(self.config.beta * (reward - reward.max()))
        table = np.zeros(self.space.n_table)
        table[index] = weight / weight.sum()
        return table

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 2 S) digits; see `elpa_env.Sampler`."""
        return sample_distribution(self.space, self.distribution(target_class), n, seed=seed)
