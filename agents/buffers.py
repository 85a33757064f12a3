"""A replay buffer of finished episodes, drawn class-balanced."""

from __future__ import annotations

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from elpa_env.dynamics import sparse_reward
from elpa_env.space import N_STEPS, prefixes, scale
from elpa_env.training import ClassBalancedSampler, TrainingSet


class EpisodeReplayBuffer(ReplayBuffer):
    """The training set as episodes of eight transitions each.

    Batches are made of whole episodes (the cost of eq. 15 sums over an episode), drawn so that every
    energy class is equally likely. The buffer is complete from the start: nothing can be added.

    Args:
        training_set: the compositions; their energies decide the rewards.
        target_class: 1..10.
        observation_space: of the environment.
        action_space: of the environment.
        device: where samples go.
        seed: of the draws.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        target_class: int,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        device: th.device | str = "cpu",
        seed: int | None = None,
    ) -> None:
        self._episodes = ClassBalancedSampler(training_set.energy_class)
        n = len(training_set)
        super().__init__(n * N_STEPS, observation_space, action_space, device)
        states = scale(prefixes(training_set.digits).reshape(-1, N_STEPS)).reshape(n, N_STEPS + 1, -1)
        rewards = np.zeros((n, N_STEPS), dtype=np.float32)
        rewards[:, -1] = sparse_reward(training_set.energy_class, target_class)
        dones = np.zeros((n, N_STEPS), dtype=np.float32)
        dones[:, -1] = 1
        self.observations = states[:, :-1].reshape(-1, 1, N_STEPS)
        self.next_observations = states[:, 1:].reshape(-1, 1, N_STEPS)
        self.actions = training_set.digits.reshape(-1, 1, 1).astype(np.int64) - 1
        self.rewards = rewards.reshape(-1, 1)
        self.dones = dones.reshape(-1, 1)
        self.pos, self.full = 0, True
        self._rng = np.random.default_rng(seed)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Draw `batch_size` transitions: whole episodes, the last one cut off if need be."""
        episodes = self._episodes.draw(-(-batch_size // N_STEPS), self._rng)
        rows = (episodes[:, None] * N_STEPS + np.arange(N_STEPS)).ravel()[:batch_size]
        return ReplayBufferSamples(
            self.to_torch(self.observations[rows, 0], copy=False),
            self.to_torch(self.actions[rows, 0], copy=False),
            self.to_torch(self.next_observations[rows, 0], copy=False),
            self.to_torch(self.dones[rows], copy=False),
            self.to_torch(self.rewards[rows], copy=False),
        )

    def add(self, *args: object, **kwargs: object) -> None:
        """Refuse: offline data are fixed."""
        raise TypeError("an EpisodeReplayBuffer holds the training set alone; nothing can be added")
