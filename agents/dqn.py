"""Deep Q-learning with hard and soft backups, Boltzmann sampling and action masks, on SB3's DQN."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import (
    GymEnv,
    MaybeCallback,
    ReplayBufferSamples,
    RolloutReturn,
    Schedule,
    TrainFreq,
    TrainFrequencyUnit,
)
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from agents.buffers import EpisodeReplayBuffer, MixedReplayBuffer
from agents.checkpoint import load_agent, save_agent
from agents.masks import ActionMasks
from agents.policies import BoundedQPolicy, soft_offsets
from agents.vec_env import OfflineEnv
from elpa_env.backups import SOFT_BACKUPS, Backup, boltzmann, check_beta
from elpa_env.errors import InputError, check_choice
from elpa_env.rules import Masking, Reward, check_masking
from elpa_env.sampler import UNKNOWN, Access
from elpa_env.sampling import draw_categories
from elpa_env.seeds import small_seed, spawn, torch_seed
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.training import TrainingSet

SelfDQN = TypeVar("SelfDQN", bound="BoltzmannDQN")


class BoltzmannDQN(DQN):
    """SB3's DQN with hard and soft backups, β sampling and masks; learns online or from episodes alone.

    Actions are drawn with probability proportional to exp(β Q), eq. 16 of Türk et al. 2022, over the
    open actions, in training as in `predict`; `deterministic=True` takes the best open action. All
    other arguments are those of `stable_baselines3.DQN`.

    Everything random flows from `seed`, spawned for the weights, the actions, the environments and the
    replay buffer, so that none of them shares a stream with another or with that of another seed.

    Args:
        policy: as in SB3.
        env: as in SB3; None for an agent that learns offline, which then never meets an environment.
        learning_rate: as in SB3, and so are all that follow down to `max_grad_norm`.
        buffer_size: see there.
        learning_starts: see there.
        batch_size: see there.
        tau: see there.
        gamma: see there.
        train_freq: see there.
        gradient_steps: see there.
        replay_buffer_class: see there.
        replay_buffer_kwargs: see there.
        optimize_memory_usage: see there.
        n_steps: see there; rewards of n steps lack the entropies that a soft backup adds, so that such a
            one needs n_steps=1.
        target_update_interval: see there.
        exploration_fraction: see there.
        exploration_initial_eps: see there.
        exploration_final_eps: see there.
        max_grad_norm: see there.
        beta: inverse temperature β of eq. 16; 0 = uniform, inf = greedy. Soft backups use it too, and
            need one in between.
        backup: value V of the next state from its Q-values over the open actions, see
            `elpa_env.backups.Backup`. With "soft", exact values and gamma=1 the agent draws compositions
            in proportion to exp(β reward), as a GFlowNet does (Tiapkin et al. 2023, arXiv 2310.12934).
            "soft-double" is the sum of π (Q - log(π) / β) with π = softmax(β Q) of the online network
            and Q of the target network; as double Q-learning does for "max", it never exceeds the "soft"
            value and equals it where the networks agree. With a soft backup a `BoundedQPolicy` gets the
            `soft_offsets` of `beta` and `gamma`.
        conservative: weight of the CQL(H) term of Kumar et al. 2020, arXiv 2006.04779, eq. 4: the
            mean of log(sum of exp(Q) over the open actions) - Q of the action taken, added to the mean
            squared error (which has no factor 1/2 here). It pushes down the actions that the data do
            not take. 0 = off.
        masking: what is open, see `elpa_env.rules.action_masks`; None = every action, for
            environments other than this project's; by default the environment's own, "digits" offline.
        target_class: energy class that the agent is trained for, kept with it when it is saved; by
            default the environment's, None if that draws a class for every episode.
        space: of the compositions; by default the environment's, else elpasolite's.
        ema_decay: of an exponential moving average of the weights, an update; actions are drawn by the
            average, training goes on from the weights themselves. 0 = no average.
        stats_window_size: as in SB3, and so are all that follow.
        tensorboard_log: see there.
        policy_kwargs: see there.
        verbose: see there.
        seed: see there.
        device: see there.

    Raises:
        InputError: an argument out of range.
    """

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 1e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 32,
        tau: float = 1.0,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 4,
        gradient_steps: int = 1,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        target_update_interval: int = 10_000,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        max_grad_norm: float = 10,
        *,
        beta: float = 5.0,
        backup: Backup = "double",
        conservative: float = 0.0,
        masking: Masking | Literal["env"] | None = "env",
        target_class: int | None = None,
        space: Space | None = None,
        ema_decay: float = 0.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_beta(beta)
        check_choice("backup", backup, get_args(Backup))
        if backup in SOFT_BACKUPS and not 0 < beta < np.inf:
            raise InputError(f"beta must be above 0 and finite for backup {backup}, got {beta}")
        if backup in SOFT_BACKUPS and n_steps != 1:
            raise InputError(f"n_steps must be 1 for backup {backup}, got {n_steps}")
        if not 0 <= conservative < np.inf:
            raise InputError(f"conservative must be at least 0 and finite, got {conservative}")
        if not 0 <= ema_decay < 1:
            raise InputError(f"ema_decay must be at least 0 and below 1, got {ema_decay}")
        self.trained_on: dict[str, Any] | None = None
        self.access = UNKNOWN
        self.beta = beta
        self.backup: Backup = backup
        self.conservative = conservative
        self.masking: Masking | None = None
        if masking is not None:
            self.masking = "digits" if masking == "env" else check_masking(masking)
        self.space = _space_of(env) if space is None else space
        self.target_class = None if target_class is None else self.space.targets.check(target_class)
        self.ema_decay = ema_decay
        self.q_net_average: AveragedModel | None = None
        self._masks: ActionMasks | None = None
        super().__init__(
            policy,
            OfflineEnv(self.space) if env is None and _init_setup_model else env,  # type: ignore[arg-type]
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            train_freq,
            gradient_steps,
            replay_buffer_class,
            replay_buffer_kwargs,
            optimize_memory_usage,
            n_steps,
            target_update_interval,
            exploration_fraction,
            exploration_initial_eps,
            exploration_final_eps,
            max_grad_norm,
            stats_window_size,
            tensorboard_log,
            policy_kwargs,
            verbose,
            seed,
            device,
            _init_setup_model=False,
        )
        if self.env is not None and self.env.has_attr("settings"):
            settings = self.env.get_attr("settings")[0]
            if self.target_class is None:
                self.target_class = settings.target_class
            if masking == "env":
                self.masking = settings.masking
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        """Set up as SB3 does; a bounded network is told what a soft backup adds."""
        if self.backup in SOFT_BACKUPS and issubclass(self.policy_class, BoundedQPolicy):
            self.policy_kwargs = {
                "offsets": soft_offsets(self.beta, self.gamma, self.space),
                **self.policy_kwargs,
            }
        super()._setup_model()
        if self.ema_decay:
            average = get_ema_multi_avg_fn(self.ema_decay)  # type: ignore[no-untyped-call]
            self.q_net_average = AveragedModel(self.q_net, multi_avg_fn=average)
        if isinstance(self.replay_buffer, MixedReplayBuffer):
            self.replay_buffer.set_seed(spawn(self.seed, 5)[3])

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "q_net_average", "_masks"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, variables = super()._get_torch_save_params()
        return [*modules, *(["q_net_average"] if self.ema_decay else [])], variables

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Go on in another environment, as in SB3.

        Raises:
            InputError: it is for another class or with another masking than the agent.
        """
        before = self.env
        super().set_env(env, force_reset)
        try:
            self.check_env()
        except InputError:
            self.env = before
            raise

    def check_env(self) -> None:
        """Raise InputError if the environment is for another class or with another masking than the agent."""
        if self.env is None or not self.env.has_attr("settings"):
            return
        settings = self.env.get_attr("settings")[0]
        self.space.check_same(settings.space, "the environment")
        for name in ("target_class", "masking"):
            ours, its = getattr(self, name), getattr(settings, name)
            if ours != its and not (name == "masking" and ours is None):
                raise InputError(f"the environment must have {name}={ours!r} as the agent has, got {its!r}")

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed all that draws, each with a stream of its own: see the class."""
        weights, actions, envs, replay, space = spawn(seed, 5)
        self._rng = np.random.default_rng(actions)
        if seed is None:
            return
        set_random_seed(small_seed(weights), using_cuda=self.device.type == "cuda")
        np.random.seed(small_seed(replay))  # noqa: NPY002 - SB3's own replay buffers draw from this one
        self.action_space.seed(small_seed(space))
        if self.env is not None:
            self.env.seed(torch_seed(envs))

    @property
    def sampled_q_net(self) -> QNetwork:
        """The network that actions are drawn by: the average of the weights where there is one."""
        if self.q_net_average is None:
            return self.q_net
        average: QNetwork = self.q_net_average.module  # type: ignore[assignment]
        return average

    def open_actions(self, observations: th.Tensor) -> th.Tensor:
        """(n, n_actions) True where an action of (n, ...) observations is allowed."""
        if self.masking is None:
            assert isinstance(self.action_space, spaces.Discrete)
            shape = len(observations), int(self.action_space.n)
            return th.ones(shape, dtype=th.bool, device=observations.device)
        if self._masks is None or self._masks.masking != self.masking:
            self._masks = ActionMasks(self.space, self.masking, self.device)
        return self._masks(observations)

    @th.no_grad()
    def q_values(self, observation: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, n_actions) Q-values of (n, ...) observations; -inf where an action is not open."""
        self.policy.set_training_mode(False)
        observations = th.as_tensor(observation, device=self.device)
        q = self.sampled_q_net(observations).masked_fill(~self.open_actions(observations), -th.inf)
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
        q = self.q_values(self._last_obs)
        action = self._draw(boltzmann(q, self.beta))
        if uniform.any():
            anything = self._draw((q > -np.inf).astype(np.float64))
            action = np.where(uniform, anything, action)
        return action, action

    def _update_info_buffer(
        self, infos: list[dict[str, Any]], dones: NDArray[np.bool_] | None = None
    ) -> None:
        """Keep how episodes ended, as SB3 does; nothing is looked for in a step that ends none."""
        if dones is None or dones.any():
            super()._update_info_buffer(infos, dones)

    def set_episodes(self, training_set: TrainingSet, *, reward: Reward | None = None) -> None:
        """Learn from the episodes of a training set: `learn` then makes one update a step, and acts no more.

        Args:
            training_set: its rows are the episodes.
            reward: of the episodes; eq. 12 by default.

        Raises:
            InputError: the agent has neither a target class nor an observation that names one, the set
                has no rows, or `n_steps` is not 1.
        """
        assert isinstance(self.observation_space, spaces.Box)
        assert isinstance(self.action_space, spaces.Discrete)
        self.space.check_same(training_set.space, "the training set")
        if self.target_class is None and self.observation_space.shape == (self.space.n_steps,):
            raise InputError("name the class to learn: BoltzmannDQN(..., target_class=1)")
        if self.n_steps != 1:
            raise InputError(f"n_steps must be 1 to learn from a training set, got {self.n_steps}")
        record = training_set.record()
        known = self.num_timesteps == 0 or (self.access.kind == "offline" and self.trained_on == record)
        self.access = Access("offline", training_set.n_labels) if known and reward is None else UNKNOWN
        self.trained_on = record
        self.replay_buffer = EpisodeReplayBuffer(
            training_set,
            self.target_class,
            self.observation_space,
            self.action_space,
            reward=reward,
            device=self.device,
            seed=spawn(self.seed, 5)[3],
        )
        self.learning_starts, self.gradient_steps = 0, 1
        self.train_freq = TrainFreq(1, TrainFrequencyUnit.STEP)  # type: ignore[assignment]

    def learn(
        self: SelfDQN,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str = "BoltzmannDQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfDQN:
        """Learn by acting, as in SB3, or from the episodes of `set_episodes` alone.

        In the second case a step is an update: for the schedule of the learning rate, for the target network
        (synchronised every `target_update_interval`), for callbacks and for the log. No environment is asked.
        In the first, `access` is unknown from then on, since an environment may show anything.

        Args:
            total_timesteps: steps of all environments, or updates.
            callback: as in SB3.
            log_interval: episodes, or updates, between two lines of the log.
            tb_log_name: as in SB3.
            reset_num_timesteps: as in SB3; False goes on where an earlier call stopped.
            progress_bar: as in SB3.

        Raises:
            InputError: nothing to learn is asked for.
        """
        if total_timesteps < 1:
            raise InputError(f"the number of steps to learn must be at least 1, got {total_timesteps}")
        if not isinstance(self.replay_buffer, EpisodeReplayBuffer):
            self.access = UNKNOWN
        elif self.env is None:
            any_class = self.observation_space.shape != (self.space.n_steps,)
            self.set_env(OfflineEnv(self.space, any_class=any_class))
        return super().learn(
            total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
        )

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """Act as SB3 does; where all episodes are there from the start, only count the step."""
        if not isinstance(replay_buffer, EpisodeReplayBuffer):
            return super().collect_rollouts(
                env, callback, train_freq, replay_buffer, action_noise, learning_starts, log_interval
            )
        self.num_timesteps += 1
        callback.update_locals(locals())
        if not callback.on_step():
            return RolloutReturn(1, 0, continue_training=False)
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        self._on_step()
        if log_interval is not None and self.num_timesteps % log_interval == 0:
            self.dump_logs()
        return RolloutReturn(1, 0, continue_training=True)

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
            if self.q_net_average is not None:
                self.q_net_average.update_parameters(self.q_net)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(th.stack(losses).mean()))

    def _loss(self, data: ReplayBufferSamples) -> th.Tensor:
        """() J of eq. 15, the mean of [Q(s, a) - (r + gamma V(s'))]^2, and the conservative term.

        V is the maximum of Q over a' in the paper, and what `backup` says here.
        """
        q = self.q_net(data.observations)
        prediction = q.gather(1, data.actions.long())
        loss = F.mse_loss(prediction, self._targets(data))
        if self.conservative:
            open_q = q.masked_fill(~self.open_actions(data.observations), -th.inf)
            gap = th.logsumexp(open_q, dim=1, keepdim=True) - prediction
            loss = loss + self.conservative * gap.mean()
        return loss

    def _targets(self, data: ReplayBufferSamples) -> th.Tensor:
        """(n, 1) r + gamma V(s'), eq. 13; r alone where the episode ends.

        A replay buffer of n steps gives their discounted sum as r, and gamma^n for each transition.
        """
        targets = data.rewards.clone()
        goes_on = data.dones[:, 0] == 0
        if goes_on.any():
            gamma = self.gamma if data.discounts is None else data.discounts[goes_on]
            targets[goes_on] += gamma * self._next_value(data.next_observations[goes_on])
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

    def save(self, path: str | Path, *, slim: bool = False) -> None:  # type: ignore[override]
        """Write an archive of tensors and JSON, all or nothing; see `agents.checkpoint`.

        SB3's own archive, which holds pickles, is what ``stable_baselines3.DQN.save(model, path)`` writes.

        Args:
            path: file to write.
            slim: keep what the agent acts by alone, see `agents.checkpoint.save_agent`.

        Raises:
            InputError: the agent has parts of the user's own, which such an archive cannot hold.
        """
        if type(self) is not BoltzmannDQN:
            raise InputError(
                f"a {type(self).__name__} cannot be kept without code: use DQN.save(model, path)"
            )
        save_agent(self, path, slim=slim)

    @classmethod
    def load(  # type: ignore[override]
        cls: type[SelfDQN],
        path: str | Path,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        *,
        trust: bool = False,
        **kwargs: Any,
    ) -> SelfDQN:
        """Read an agent.

        Args:
            path: an archive that `save` wrote, or one of SB3.
            env: as in SB3; it must be for the class and with the masking of the agent.
            device: a torch device.
            trust: read an archive of SB3, which can run code that it holds.
            **kwargs: as in SB3, for an archive of SB3.

        Raises:
            InputError: the file is missing or damaged, is SB3's and not to be trusted, or the environment is
                another.
        """
        return load_agent(cls, path, env, device, trust=trust, **kwargs)


def _space_of(env: GymEnv | str | None) -> Space:
    """The space of an environment that says so; elpasolite's otherwise."""
    if env is None or isinstance(env, str):
        return ELPASOLITE_SPACE
    if isinstance(env, VecEnv):
        settings = env.get_attr("settings")[0] if env.has_attr("settings") else None
    else:
        settings = getattr(env.unwrapped, "settings", None)
    space = getattr(settings, "space", None)
    return space if isinstance(space, Space) else ELPASOLITE_SPACE
