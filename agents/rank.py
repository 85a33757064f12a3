"""The reward model alone, without learning to act: compositions in the order of their class probability.

What an agent learns from a reward model is worth something only if it is more than the model's own list, from
the most probable composition of the class downwards.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from agents.plan import PRESETS as PLAN_PRESETS
from agents.reward_model import RewardModel
from agents.train import DQNConfig, reward_model_seed
from elpa_env.errors import InputError
from elpa_env.sampler import Access, Progress, check_n_samples, chosen_by
from elpa_env.space import ELPASOLITE_SPACE
from elpa_env.training import TrainingSet

PRESETS: Final = PLAN_PRESETS
"""Those of ``dqn-soft-model``, of which the reward model alone matters."""


class RankSampler:
    """Lists the compositions of a space by the probability of the class, as a reward model states it.

    `sample` takes the n most probable ones, the first first, and each once; the seed orders those of equal
    probability, as the orders of a compound's equivalent sites are. Asked for more than there are, it starts
    again from the top. So its precision on n samples is the share of the class among its first n, its
    coverage the share of the class that it finds there, and neither can be read as that of independent draws.
    It draws the same few however often it is asked, and has no distribution to state.

    Args:
        config: of the agent that has the same reward model: `reward_model` is used.
        seed: that of the agent.

    Attributes:
        reward_model: what it asks.
        access: what it saw, see `elpa_env.Sampler`.
    """

    name = "rank"

    def __init__(self, config: DQNConfig | None = None, *, seed: int = 0) -> None:
        self.config: DQNConfig = config or PRESETS["default"].config
        self.seed = seed
        self.space = ELPASOLITE_SPACE
        self.access = Access("model-based")
        self.reward_model = RewardModel(self.config.reward_model, seed=reward_model_seed(seed))
        self._probability: dict[int, NDArray[np.float64]] = {}

    def fit(self, training_set: TrainingSet, progress: Progress | None = None) -> RankSampler:
        """Fit the reward model.

        Raises:
            InputError: the compositions of the training set's space are too many to be listed.
        """
        training_set.space.require_table("a list of all compositions")
        self.space = training_set.space
        self.reward_model.fit(training_set, progress)
        self._probability = {}
        self.access = Access(
            "model-based",
            labels=training_set.n_labels,
            model_queries=self.space.n_compositions,
            chosen_by=chosen_by(self.config, PRESETS.values(), self.space),
        )
        return self

    def probability(self, target_class: int) -> NDArray[np.float64]:
        """(n_compositions,) probability of the class, compositions in the order of their index.

        Raises:
            InputError: the reward model has not been fitted, or there is no such class.
        """
        target_class = self.space.targets.check(target_class)
        if self.reward_model.trained_on is None:
            raise InputError("the list is empty yet: call fit(training_set) first")
        if target_class not in self._probability:
            index = np.flatnonzero(self.space.composition_mask)
            self._probability = {target_class: self.reward_model.class_probability(index, target_class)}
        return self._probability[target_class]

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """(n, 2 S) digits of the most probable compositions of a class, the most probable first.

        Args:
            n: how many; beyond the number of compositions the list starts again.
            target_class: 1..k.
            seed: of the order of equally probable compositions.
        """
        check_n_samples(n)
        probability = self.probability(target_class)
        index = np.flatnonzero(self.space.composition_mask)
        return self.space.index_to_digits(np.resize(index[first_places(probability, n, seed)], n))


def first_places(probability: NDArray[np.float64], n: int, seed: int | None = None) -> NDArray[np.int64]:
    """(min(n, m),) places of the largest of (m,) numbers, the largest first; a seed orders equal ones."""
    n = min(n, len(probability))
    # what equals the last of them may be among them
    least = np.partition(probability, len(probability) - n)[len(probability) - n]
    places = np.flatnonzero(probability >= least)
    # a key for every place, not for these alone, so that a short list begins a longer one
    key = np.random.default_rng(seed).random(len(probability))[places]
    return places[np.lexsort((key, -probability[places]))[:n]]
