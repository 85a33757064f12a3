"""The reward model alone, without learning to act: compositions in the order of their class probability.

What an agent learns from a reward model is worth something only if it is more than the model's own list, from
the most probable composition of the class downwards.
"""

from __future__ import annotations

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from agents.plan import PRESETS as PLAN_PRESETS
from agents.plan import OfRewardModel
from agents.train import DQNConfig
from elpa_env.sampler import Progress, check_n_samples
from elpa_env.training import TrainingSet

PRESETS: Final = PLAN_PRESETS
"""Those of ``dqn-soft-model``, of which the reward model alone matters."""


class RankSampler(OfRewardModel):
    """Lists the compositions of a space by the probability of the class, as a reward model states it.

    `sample` takes the n most probable ones, the first first, and each once; the seed orders those of equal
    probability, as the orders of a compound's equivalent sites are. Asked for more than there are, it starts
    again from the top. So its precision on n samples is the share of the class among its first n, its
    coverage the share of the class that it finds there, and neither can be read as that of independent draws.
    It draws the same few however often it is asked, and has no distribution to state.

    Of the agent's configuration it uses `reward_model`.
    """

    name = "rank"

    def __init__(self, config: DQNConfig | None = None, *, seed: int = 0) -> None:
        super().__init__(config, seed=seed)
        self._probability: dict[int, NDArray[np.float64]] = {}

    def fit(self, training_set: TrainingSet, progress: Progress | None = None) -> Self:
        """Fit the reward model; see `OfRewardModel.fit`."""
        self._probability = {}
        return super().fit(training_set, progress)

    def probability(self, target_class: int) -> NDArray[np.float64]:
        """(n_compositions,) probability of the class, compositions in the order of their index.

        Raises:
            InputError: the reward model has not been fitted, or there is no such class.
        """
        target_class = self.checked(target_class)
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
