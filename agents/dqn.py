"""Deep Q-learning with hard and soft backups, Boltzmann sampling and action masks, on SB3's DQN."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, get_args

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, ReplayBufferSamples
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.dqn.policies import DQNPolicy
from torch.nn import functional as F

from agents.buffers import EpisodeReplayBuffer
from agents.masks import ActionMasks
from agents.policies import BoundedQPolicy, soft_offsets
from agents.sampling import draw_categories
from elpa_env.backups import SOFT_BACKUPS, Backup, boltzmann, check_beta
from elpa_env.classes import check_target_class
from elpa_env.errors import InputError, check_choice
from elpa_env.rules import N_ACTIONS, Masking, check_masking
from elpa_env.sampler import Access
from elpa_env.space import N_STEPS
from elpa_env.training import TrainingSet

CHECKPOINT_FORMAT = 1
"""Kept with every saved agent; raised when an older one can no longer be read."""

SelfDQN = TypeVar("SelfDQN", bound="BoltzmannDQN")


class OfflineEnv(gym.Env[NDArray[np.float32], np.int64]):
    """The spaces of `Elpasolite-v0` and nothing else: what an agent that learns offline gets."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (N_STEPS,), np.float32)
        self.action_space = spaces.Discrete(N_ACTIONS)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """All choices open; SB3 asks once."""
        super().reset(seed=seed)
        return np.zeros(N_STEPS, dtype=np.float32), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Refuse: an agent that learns offline meets no environment."""
        raise TypeError("this agent has no environment: pass one, or call learn_offline")


class BoltzmannDQN(DQN):
    """SB3's DQN with hard and soft backups, β sampling and masks; learns online or from episodes alone.

    Actions are drawn with probability proportional to exp(β Q), eq. 16 of Türk et al. 2022, over the
    open actions, in training as in `predict`; `deterministic=True` takes the best open action. All
    other arguments are those of `stable_baselines3.DQN`.

    Args:
        policy: as in SB3.
        env: as in SB3; None for an agent that learns offline, which then never meets an environment.
        beta: inverse temperature β of eq. 16; 0 = uniform, inf = greedy. Soft backups use it too, and
            need one in between.
        backup: value V of the next state from its Q-values over the open actions. "max": the largest of
            the target network (eq. 13). "double": the target network judges the action that the online
            network prefers (van Hasselt et al. 2016). "soft": log(sum of exp(β Q)) / β of the target
            network (Haarnoja et al. 2017, arXiv 1702.08165); with exact values and gamma=1 the agent
            draws compositions in proportion to exp(β reward), as a GFlowNet does (Tiapkin et al. 2023,
            arXiv 2310.12934). "soft-double": sum of π (Q - log(π) / β) with π = softmax(β Q) of the
            online network and Q of the target network; as double Q-learning does for "max", it never
            exceeds the "soft" value and equals it where the networks agree. With a soft backup a
            `BoundedQPolicy` gets the `soft_offsets` of `beta` and `gamma`.
        conservative: weight of the CQL(H) term of Kumar et al. 2020, arXiv 2006.04779, eq. 4: the
            mean of log(sum of exp(Q) over the open actions) - Q of the action taken, added to the mean
            squared error (which has no factor 1/2 here). It pushes down the actions that the data do
            not take. 0 = off.
        masking: what is open, see `elpa_env.rules.action_masks`; None = every action, for
            environments other than this project's; by default the environment's own, "digits" offline.
        target_class: energy class that the agent is trained for, kept with it when it is saved; by
            default the environment's, None if that draws a class for every episode.
        **kwargs: passed on to `stable_baselines3.DQN`.

    Raises:
        InputError: an argument out of range.
    """

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: GymEnv | str | None,
        *,
        beta: float = 5.0,
        backup: Backup = "double",
        conservative: float = 0.0,
        masking: Masking | Literal["env"] | None = "env",
        target_class: int | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        check_beta(beta)
        check_choice("backup", backup, get_args(Backup))
        if backup in SOFT_BACKUPS and not 0 < beta < np.inf:
            raise InputError(f"beta must be above 0 and finite for backup {backup}, got {beta}")
        if not 0 <= conservative < np.inf:
            raise InputError(f"conservative must be at least 0 and finite, got {conservative}")
        self.checkpoint_format = CHECKPOINT_FORMAT
        self.trained_on: dict[str, Any] | None = None
        self.access: Access | None = None
        self._masks: ActionMasks | None = None
        self.beta = beta
        self.backup = backup
        self.conservative = conservative
        self.masking: Masking | None = None
        if masking is not None:
            self.masking = "digits" if masking == "env" else check_masking(masking)
        self.target_class = None if target_class is None else check_target_class(target_class)
        if env is None and _init_setup_model:
            env = OfflineEnv()
        super().__init__(policy, env, _init_setup_model=_init_setup_model, **kwargs)  # type: ignore[arg-type]
        if self.env is not None and self.env.has_attr("settings"):
            settings = self.env.get_attr("settings")[0]
            if self.target_class is None:
                self.target_class = settings.target_class
            if masking == "env":
                self.masking = settings.masking

    def _setup_model(self) -> None:
        """Set up as SB3 does; a bounded network is told what a soft backup adds."""
        if self.backup in SOFT_BACKUPS and issubclass(self.policy_class, BoundedQPolicy):
            self.policy_kwargs = {"offsets": soft_offsets(self.beta, self.gamma), **self.policy_kwargs}
        super()._setup_model()

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed as SB3 does, and the generator that actions are drawn with."""
        super().set_random_seed(seed)
        self._rng = np.random.default_rng(seed)

    def open_actions(self, observations: th.Tensor) -> th.Tensor:
        """(n, n_actions) True where an action of (n, ...) observations is allowed."""
        if self.masking is None:
            assert isinstance(self.action_space, spaces.Discrete)
            shape = len(observations), int(self.action_space.n)
            return th.ones(shape, dtype=th.bool, device=observations.device)
        if self._masks is None or self._masks.masking != self.masking:
            self._masks = ActionMasks(self.masking, self.device)
        return self._masks(observations)

    @th.no_grad()
    def q_values(self, observation: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, n_actions) Q-values of (n, ...) observations; -inf where an action is not open."""
        self.policy.set_training_mode(False)
        observations = th.as_tensor(observation, device=self.device)
        q = self.q_net(observations).masked_fill(~self.open_actions(observations), -th.inf)
        return np.asarray(q.cpu().double().numpy())

    def action_probabilities(
        self, observation: NDArray[np.float32], *, beta: float | None = None
    ) -> NDArray[np.float64]:
        """(n, n_actions) probabilities of the open actions, eq. 16.

        Args:
            observation: (n, ...) observations.
            beta: the agent's own by default.
        """
        return boltzmann(self.q_values(observation), self.beta if beta is None else beta)

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Draw actions with β sampling, or take the best open ones; see `stable_baselines3.DQN`."""
        array = np.asarray(observation, dtype=np.float32)
        single = array.ndim == 1
        batch = array[None] if single else array
        if deterministic:
            action = self.q_values(batch).argmax(axis=1)
        else:
            action = self._draw(self.action_probabilities(batch))
        return (action[0] if single else action), state

    def _draw(self, weights: NDArray[np.float64]) -> NDArray[np.int64]:
        """(n,) one action a row, with probability proportional to its weight."""
        return draw_categories(np.cumsum(weights, axis=1), self._rng)

    def _sample_action(
        self,
        learning_starts: int,
        action_noise: ActionNoise | None = None,
        n_envs: int = 1,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Explore: β sampling, and with `exploration_rate` (always in warm-up) any open action."""
        assert isinstance(self._last_obs, np.ndarray)
        warming_up = self.num_timesteps < learning_starts
        uniform = np.full(n_envs, warming_up) | (self._rng.random(n_envs) < self.exploration_rate)
        action, _ = self.predict(self._last_obs)
        if uniform.any():
            open_ = self.open_actions(th.as_tensor(self._last_obs, device=self.device))
            anything = self._draw(open_.cpu().double().numpy())
            action = np.where(uniform, anything, action)
        return action, action

    def learn(self: SelfDQN, *args: Any, **kwargs: Any) -> SelfDQN:
        """Learn by acting, as in SB3; `access` is unknown then, since an environment may show anything."""
        self.access = None
        return super().learn(*args, **kwargs)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Make `gradient_steps` updates on batches from the replay buffer, eq. 15."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        assert self.replay_buffer is not None
        losses = []
        for _ in range(gradient_steps):
            loss = self._loss(self.replay_buffer.sample(batch_size, env=self._vec_normalize_env))
            self.policy.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            losses.append(loss.detach())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(th.stack(losses).mean()))

    def _loss(self, data: ReplayBufferSamples) -> th.Tensor:
        """() mean squared error of eq. 15, and the conservative term."""
        q = self.q_net(data.observations)
        current = q.gather(1, data.actions.long())
        loss = F.mse_loss(current, self._targets(data))
        if self.conservative:
            open_q = q.masked_fill(~self.open_actions(data.observations), -th.inf)
            gap = th.logsumexp(open_q, dim=1, keepdim=True) - current
            loss = loss + self.conservative * gap.mean()
        return loss

    def _targets(self, data: ReplayBufferSamples) -> th.Tensor:
        """(n, 1) reward, plus the discounted value of the next state where the episode goes on."""
        goes_on = data.dones[:, 0] == 0
        targets = data.rewards.clone()
        targets[goes_on] += self.gamma * self._next_value(data.next_observations[goes_on])
        return targets

    @th.no_grad()
    def _next_value(self, observations: th.Tensor) -> th.Tensor:
        """(n, 1) value of (n, ...) next states according to `backup`, over the open actions."""
        closed = ~self.open_actions(observations)
        judged = self.q_net_target(observations).masked_fill(closed, -th.inf)
        value: th.Tensor
        if self.backup == "max":
            value = judged.max(dim=1, keepdim=True).values
            return value
        if self.backup == "soft":
            value = th.logsumexp(self.beta * judged, dim=1, keepdim=True) / self.beta
            return value
        chooser = self.q_net(observations).masked_fill(closed, -th.inf)
        if self.backup == "double":
            value = judged.gather(1, chooser.argmax(dim=1, keepdim=True))
            return value
        log_policy = th.log_softmax(self.beta * chooser, dim=1)
        terms = log_policy.exp() * (judged - log_policy / self.beta)
        value = terms.masked_fill(closed, 0).sum(dim=1, keepdim=True)
        return value

    def set_episodes(self, training_set: TrainingSet) -> None:
        """Fill the replay buffer with the episodes of a training set, for `learn_offline`.

        Raises:
            InputError: the agent has no target class, or the set no rows.
        """
        if self.target_class is None:
            raise InputError("name the class to learn: BoltzmannDQN(..., target_class=1)")
        assert isinstance(self.observation_space, spaces.Box)
        assert isinstance(self.action_space, spaces.Discrete)
        new = self.num_timesteps == 0
        self.access = Access("offline", labels=training_set.n_labels) if new else None
        self.replay_buffer = EpisodeReplayBuffer(
            training_set,
            self.target_class,
            self.observation_space,
            self.action_space,
            device=self.device,
            seed=self.seed,
        )

    def learn_offline(
        self: SelfDQN,
        n_updates: int,
        callback: MaybeCallback = None,
        *,
        log_interval: int = 100,
        tb_log_name: str = "BoltzmannDQN",
        reset_num_timesteps: bool = True,
    ) -> SelfDQN:
        """Learn from the replay buffer alone; no environment is ever asked.

        One update counts as one timestep: for the learning rate's schedule, for the target network
        (synchronised every `target_update_interval` updates), for callbacks and the log.

        Args:
            n_updates: network updates.
            callback: as in SB3; `on_step` is called after every update and may end training.
            log_interval: updates between two lines of the log.
            tb_log_name: as in SB3.
            reset_num_timesteps: as in SB3; False goes on where an earlier call stopped.

        Raises:
            InputError: `n_updates` is not positive, or there are no episodes yet.
        """
        if n_updates < 1:
            raise InputError(f"n_updates must be at least 1, got {n_updates}")
        if self.replay_buffer is None or self.replay_buffer.size() == 0:
            raise InputError("there are no episodes to learn from: call set_episodes(training_set) first")
        if self.env is None:
            self.set_env(OfflineEnv())
        total, callback = self._setup_learn(n_updates, callback, reset_num_timesteps, tb_log_name)
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total:
            self.num_timesteps += 1
            self._update_current_progress_remaining(self.num_timesteps, total)
            self.train(1, self.batch_size)
            if self.num_timesteps % self.target_update_interval == 0:
                polyak_update(self.q_net.parameters(), self.q_net_target.parameters(), self.tau)
            if self.num_timesteps % log_interval == 0:
                self.logger.dump(self.num_timesteps)
            callback.update_locals(locals())
            if not callback.on_step():
                break
        callback.on_training_end()
        return self
