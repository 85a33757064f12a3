"""Replay buffers: finished episodes of a training set, and a mixture of these with what an agent met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from elpa_env.errors import InputError
from elpa_env.rules import Reward, finish, observe, sparse_reward
from elpa_env.seeds import Seed, spawn
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.training import ClassBalancedSampler, TrainingSet


class EpisodeReplayBuffer(ReplayBuffer):
    """The training set as episodes of a transition a digit.

    Batches are made of whole episodes (the cost of eq. 15 sums over an episode), drawn so that every
    energy class is equally likely. The buffer is complete from the start: nothing can be added.

    Args:
        training_set: the compositions; their energies decide the rewards.
        target_class: 1..k; None where the observation names the class of the episode: every episode
            drawn then aims, as likely as not, at its own class or at one drawn at random.
        observation_space: of the environment.
        action_space: of the environment.
        reward: of finished episodes, given the energies of the training set; eq. 12 by default.
        device: where samples go.
        seed: of the draws.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        target_class: int | None,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        *,
        reward: Reward | None = None,
        device: th.device | str = "cpu",
        seed: Seed = None,
    ) -> None:
        self._episodes = ClassBalancedSampler(training_set.energy_class)
        self._training_set = training_set
        self._target_class = target_class
        self._reward = reward
        self.space = space = training_set.space
        self._n_steps = n_steps = space.n_steps
        n = len(training_set)
        super().__init__(n * n_steps, observation_space, action_space, device)
        prefixes = space.prefixes(training_set.digits).reshape(-1, n_steps)
        states = observe(space, prefixes).reshape(n, n_steps + 1, -1)
        dones = np.zeros((n, n_steps), dtype=np.float32)
        dones[:, -1] = 1
        self.observations = states[:, :-1].reshape(-1, 1, n_steps)
        self.next_observations = states[:, 1:].reshape(-1, 1, n_steps)
        self.actions = training_set.digits.reshape(-1, 1, 1).astype(np.int64) - 1
        self.dones = dones.reshape(-1, 1)
        self.pos, self.full = 0, True
        self.set_seed(seed)

    def set_seed(self, seed: Seed) -> None:
        """Draw anew from a seed."""
        self._rng = np.random.default_rng(seed)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Draw `batch_size` transitions: whole episodes, the last one cut off if need be."""
        n_steps = self._n_steps
        episodes = self._episodes.draw(-(-batch_size // n_steps), self._rng)
        rows = (episodes[:, None] * n_steps + np.arange(n_steps)).ravel()[:batch_size]
        target = self._targets(episodes)
        observations, next_observations = self.observations[rows, 0], self.next_observations[rows, 0]
        if self._target_class is None:
            classes = self.space.targets.one_hot(target).repeat(n_steps, axis=0)[:batch_size]
            observations = np.concatenate([observations, classes], axis=1)
            next_observations = np.concatenate([next_observations, classes], axis=1)
        rewards = np.zeros((len(episodes), n_steps), dtype=np.float32)
        rewards[:, -1] = self._rewards(episodes, target)
        return ReplayBufferSamples(
            self.to_torch(observations, copy=False),
            self.to_torch(self.actions[rows, 0], copy=False),
            self.to_torch(next_observations, copy=False),
            self.to_torch(self.dones[rows], copy=False),
            self.to_torch(rewards.reshape(-1, 1)[:batch_size], copy=False),
        )

    def add(self, *args: object, **kwargs: object) -> None:
        """Refuse: offline data are fixed."""
        raise TypeError("an EpisodeReplayBuffer holds the training set alone; nothing can be added")

    def _targets(self, episodes: NDArray[np.int64]) -> NDArray[np.int8]:
        """(n,) classes that (n,) episodes aim at."""
        if self._target_class is not None:
            return np.full(len(episodes), self._target_class, dtype=np.int8)
        anything = self._rng.integers(1, self.space.targets.n + 1, len(episodes), dtype=np.int8)
        own = self._training_set.energy_class[episodes]
        own = np.where(own > 0, own, anything)
        return np.where(self._rng.random(len(episodes)) < 0.5, own, anything)

    def _rewards(self, episodes: NDArray[np.int64], target: NDArray[np.int8]) -> NDArray[np.float64]:
        """(n,) what (n,) episodes earn at their end."""
        rows = self._training_set
        if self._reward is None:
            return sparse_reward(rows.energy_class[episodes], target)
        energies = rows.energy[episodes]
        return finish(self.space, rows.index[episodes], target, lambda _: energies, self._reward).reward


class MixedReplayBuffer(ReplayBuffer):
    """SB3's replay buffer, drawn by the step of a transition, with a share of training-set episodes.

    An episode passes the same few states in its first steps and a new one in its last, and the values
    of the last are what all others are made of: `step_weights` says how much of a batch each step gets.
    The episodes of a training set hold the rare classes that exploration would have to find.

    Args:
        *args: of SB3's ReplayBuffer.
        training_set: of the episodes; None = none.
        target_class: of those episodes, see `EpisodeReplayBuffer`.
        reward: of those episodes, see there.
        share: of every batch that is drawn from those episodes, 0..1.
        step_weights: relative weight of the steps in the rest of a batch, see `fit_step_weights`; None =
            alike.
        space: of the compositions.
        seed: of the draws; a `BoltzmannDQN` sets its own.
        **kwargs: of SB3's ReplayBuffer.

    Raises:
        InputError: a share outside 0..1, weights that are not a positive number a step, or SB3's
            `optimize_memory_usage`, which leaves no room for the step of a transition.
    """

    def __init__(
        self,
        *args: Any,
        training_set: TrainingSet | None = None,
        target_class: int | None = None,
        reward: Reward | None = None,
        share: float = 0.1,
        step_weights: Sequence[float] | None = None,
        space: Space = ELPASOLITE_SPACE,
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.space = space
        weights = check_step_weights((1.0,) * space.n_steps if step_weights is None else step_weights, space)
        if not 0 <= share <= 1:
            raise InputError(f"share must be 0..1, got {share}")
        if self.optimize_memory_usage:
            raise InputError("optimize_memory_usage must be False for a MixedReplayBuffer, got True")
        self._keep = weights / weights.max()
        self._step = np.zeros((self.buffer_size, self.n_envs), dtype=np.int8)
        self._share = share if training_set is not None else 0.0
        self._known = None
        if training_set is not None:
            assert isinstance(self.observation_space, spaces.Box)
            assert isinstance(self.action_space, spaces.Discrete)
            self._known = EpisodeReplayBuffer(
                training_set,
                target_class,
                self.observation_space,
                self.action_space,
                reward=reward,
                device=self.device,
            )
        self.set_seed(seed)

    def set_seed(self, seed: Seed) -> None:
        """Draw anew from a seed: transitions met and episodes known, each with a stream of its own."""
        met, known = spawn(seed, 2)
        self._rng = np.random.default_rng(met)
        if self._known is not None:
            self._known.set_seed(known)

    def add(
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Keep one transition of every environment, as SB3's buffer does."""
        self._step[self.pos] = self.space.states.steps_taken(np.asarray(obs)[:, : self.space.n_steps])
        super().add(obs, next_obs, action, reward, done, infos)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Draw `batch_size` transitions: those met first, those of the training set behind them."""
        n_known = int(batch_size * self._share)
        rows, envs = np.divmod(self._draw(batch_size - n_known), self.n_envs)
        met = ReplayBufferSamples(
            self.to_torch(self.observations[rows, envs], copy=False),
            self.to_torch(self.actions[rows, envs], copy=False),
            self.to_torch(self.next_observations[rows, envs], copy=False),
            self.to_torch(self.dones[rows, envs, None] * (1 - self.timeouts[rows, envs, None]), copy=False),
            self.to_torch(self.rewards[rows, envs, None], copy=False),
        )
        if self._known is None or n_known == 0:
            return met
        pairs = zip(met[:5], self._known.sample(n_known)[:5], strict=True)
        return ReplayBufferSamples(*(th.cat(pair) for pair in pairs))

    def _draw(self, n: int) -> NDArray[np.int64]:
        """(n,) places in the flat buffer, by the weights of their steps: draw, and keep some."""
        size = self.size() * self.n_envs
        step = self._step.reshape(-1)
        parts: list[NDArray[np.int64]] = []
        missing = n
        while missing > 0:
            place = self._rng.integers(size, size=2 * missing + 64)
            kept = place[self._rng.random(len(place)) < self._keep[step[place]]][:missing]
            parts.append(kept)
            missing -= len(kept)
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def check_step_weights(step_weights: Sequence[float], space: Space = ELPASOLITE_SPACE) -> NDArray[np.float64]:
    """(2 S,) weights of the steps as an array.

    Raises:
        InputError: they are not a positive number for every step.
    """
    weights = np.asarray(step_weights, dtype=np.float64)
    if weights.shape != (space.n_steps,) or not ((weights > 0) & np.isfinite(weights)).all():
        raise InputError(f"step_weights must be {space.n_steps} positive numbers, got {step_weights}")
    return weights


def fit_step_weights(step_weights: Sequence[float], space: Space) -> tuple[float, ...]:
    """Weights for as many steps as a space has: the last of those given, or the first of them repeated."""
    weights = tuple(step_weights)
    missing = max(0, space.n_steps - len(weights))
    return weights[:1] * missing + weights[max(0, len(weights) - space.n_steps) :]
