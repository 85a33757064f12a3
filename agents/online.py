"""Agents that learn by acting, against a model of the training set or against the landscape itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch as th

from agents.buffers import MixedReplayBuffer, check_step_weights
from agents.callbacks import ReportProgress
from agents.dqn import BoltzmannDQN
from agents.generators import preserved_generators
from agents.policies import BoundedQPolicy, ElementEmbedding
from agents.reward_model import RewardModel, RewardModelConfig
from agents.vec_env import ElpasoliteVecEnv, make_vec_env
from elpa_env.backups import Backup
from elpa_env.errors import InputError, at_least, in_range
from elpa_env.landscape import EnergyModel, Landscape, load_landscape
from elpa_env.rules import Masking
from elpa_env.sampler import Access, Progress
from elpa_env.space import N_STEPS
from elpa_env.training import TrainingSet

WARM_UP: Final = 8
"""Episodes of every environment before the first update, all actions open equally likely."""


@dataclass(frozen=True)
class OnlineConfig:
    """Hyperparameters of an agent that learns by acting.

    Attributes:
        backup: see `BoltzmannDQN`.
        beta: inverse temperature of eq. 16 and of soft backups.
        gamma: discount factor; 1 makes the soft policy proportional to exp(β reward).
        masking: what is open.
        hidden: nodes of the layers; the first is the width of `ElementEmbedding`.
        n_updates: network updates, one for every step of all environments.
        batch_size: transitions an update.
        learning_rate: Adam's at the start; it falls to 0 along a cosine.
        target_update_interval: updates between two synchronisations of the target network.
        n_envs: environments side by side.
        buffer_episodes: episodes of every environment that the replay buffer holds.
        exploration: share of actions drawn from all open ones alike, instead of by β.
        replay_share: share of every batch from the episodes of the training set.
        step_weights: of the steps in the rest of a batch, see `MixedReplayBuffer`.
        reward_model: hyperparameters of the reward model.

    Raises:
        InputError: a value out of range.
    """

    backup: Backup = "soft-double"
    beta: float = 5.5
    gamma: float = 1.0
    masking: Masking = "composition"
    hidden: tuple[int, ...] = (256, 256, 256)
    n_updates: int = 3_000
    batch_size: int = 1_000
    learning_rate: float = 8e-3
    target_update_interval: int = 100
    n_envs: int = 512
    buffer_episodes: int = 40
    exploration: float = 0.5
    replay_share: float = 0.1
    step_weights: Sequence[float] = (1, 1, 1, 1, 2, 4, 10, 20)
    reward_model: RewardModelConfig = field(default_factory=RewardModelConfig)

    def __post_init__(self) -> None:
        at_least(self, 1, "n_updates", "batch_size", "target_update_interval", "n_envs", "buffer_episodes")
        in_range(self, 0, math.inf, "learning_rate")
        in_range(self, 0, 1, "gamma", "exploration", "replay_share")
        if len(self.hidden) < 2 or min(self.hidden) < 1:
            raise InputError(f"hidden must name at least two layers with nodes, got {self.hidden}")
        check_step_weights(self.step_weights)


@dataclass(frozen=True)
class CosineSchedule:
    """Falls from `start` to 0 along half a cosine; a `learning_rate` for SB3.

    Attributes:
        start: value at the beginning.
    """

    start: float

    def __call__(self, remaining: float) -> float:
        """Value where a share `remaining` (1..0) of training is still to come."""
        return self.start * 0.5 * (1 - math.cos(math.pi * remaining))


def train_model_based(
    training_set: TrainingSet,
    target_class: int | None,
    config: OnlineConfig | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    tensorboard_log: str | None = None,
) -> BoltzmannDQN:
    """Train an agent in an environment whose energies come from a model of the training set.

    The landscape is never asked: first a `RewardModel` is fitted to the training set, then the agent
    acts in `Elpasolite-v0` with that model in the landscape's place.

    Args:
        training_set: all that reward model and agent see.
        target_class: 1..10; None for one agent for all ten classes.
        config: hyperparameters.
        seed: of everything random.
        device: a torch device, for the agent.
        progress: called with steps made and steps to make: updates of the reward model, then steps of all
            environments, those of the warm-up included.
        tensorboard_log: folder for TensorBoard, as in SB3.
    """
    config = config or OnlineConfig()
    first = config.reward_model.n_updates
    total = first + _steps(config)

    def ahead(done: int, _: int) -> None:
        if progress:
            progress(done, total)

    reward_model = RewardModel(config.reward_model, seed=seed).fit(training_set, ahead)
    model = train_online(
        reward_model,
        target_class,
        config,
        training_set=training_set,
        seed=seed,
        device=device,
        progress=lambda done, _: ahead(first + done, total),
        tensorboard_log=tensorboard_log,
    )
    model.trained_on = {**training_set.record(), "reward_model": reward_model.report}
    return model


def train_oracle(
    target_class: int | None,
    config: OnlineConfig | None = None,
    *,
    landscape: Landscape | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    tensorboard_log: str | None = None,
) -> BoltzmannDQN:
    """Train an agent in the environment with its true energies: an *oracle*, which queries the landscape.

    It learns what it is later judged by, so it is no competitor of agents that see a training set alone
    but shows what the algorithm makes of perfect energies. `model.access` counts its queries.

    Args:
        target_class: 1..10; None for one agent for all ten classes.
        config: hyperparameters; those of replay and reward model play no part.
        landscape: the shipped one by default.
        seed: of everything random.
        device: a torch device.
        progress: called with steps of all environments made and to make.
        tensorboard_log: folder for TensorBoard, as in SB3.
    """
    return train_online(
        landscape or load_landscape(),
        target_class,
        replace(config or OnlineConfig(), replay_share=0.0),
        seed=seed,
        device=device,
        progress=progress,
        tensorboard_log=tensorboard_log,
    )


def train_online(
    energy_model: EnergyModel,
    target_class: int | None,
    config: OnlineConfig | None = None,
    *,
    training_set: TrainingSet | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    tensorboard_log: str | None = None,
) -> BoltzmannDQN:
    """Train an agent in `Elpasolite-v0` with any energy model.

    `model.access` says what the agent saw; None, unknown, for an energy model of one's own.

    Args:
        energy_model: asked about every composition that the agent completes; one's own, a
            `RewardModel`, or a `Landscape`.
        target_class: 1..10; None for one agent for all ten classes.
        config: hyperparameters; those of the reward model play no part.
        training_set: of the episodes that are replayed beside the agent's own; none by default.
        seed: of everything random.
        device: a torch device.
        progress: called with steps made and steps to make.
        tensorboard_log: folder for TensorBoard, as in SB3.
    """
    config = config or OnlineConfig()
    with preserved_generators():
        env = make_vec_env(
            config.n_envs,
            seed=seed,
            target_class=target_class,
            energy_model=energy_model,
            reward=energy_model.reward if isinstance(energy_model, RewardModel) else None,
            masking=config.masking,
        )
        model = _agent(env, training_set, target_class, config, seed, device, tensorboard_log)
        callback = ReportProgress(progress, _steps(config)) if progress else None
        model.learn(_steps(config) * config.n_envs, callback, log_interval=config.n_envs)
    replayed = training_set.n_labels if training_set is not None and config.replay_share else 0
    model.access = _access(energy_model, replayed, env.env.n_queries)
    return model


def _access(energy_model: EnergyModel, replayed: int, queries: int) -> Access | None:
    """What an agent saw that replayed so many labels and asked an energy model so often."""
    if isinstance(energy_model, Landscape):
        return Access("oracle", labels=replayed, landscape_queries=queries)
    if isinstance(energy_model, RewardModel) and energy_model.trained_on is not None:
        labels = max(replayed, int(energy_model.trained_on["labels"]))
        return Access("model-based", labels=labels, model_queries=queries)
    return None


def _steps(config: OnlineConfig) -> int:
    """Steps of all environments: those of the warm-up, then one an update."""
    return WARM_UP * N_STEPS + -(-config.n_updates // N_STEPS) * N_STEPS


def _agent(
    env: ElpasoliteVecEnv,
    training_set: TrainingSet | None,
    target_class: int | None,
    config: OnlineConfig,
    seed: int,
    device: str,
    tensorboard_log: str | None,
) -> BoltzmannDQN:
    """The untrained agent; it acts for whole episodes, then makes as many updates as steps."""
    replay: dict[str, Any] = {"step_weights": tuple(config.step_weights), "seed": seed}
    if training_set is not None and config.replay_share:
        replay |= {"training_set": training_set, "target_class": target_class, "share": config.replay_share}
    model = BoltzmannDQN(
        BoundedQPolicy,
        env,
        beta=config.beta,
        backup=config.backup,
        learning_rate=CosineSchedule(config.learning_rate),
        buffer_size=config.buffer_episodes * N_STEPS * config.n_envs,
        learning_starts=WARM_UP * N_STEPS * config.n_envs,
        batch_size=config.batch_size,
        gamma=config.gamma,
        train_freq=N_STEPS,
        gradient_steps=N_STEPS,
        replay_buffer_class=MixedReplayBuffer,
        replay_buffer_kwargs=replay,
        target_update_interval=config.target_update_interval * config.n_envs,
        exploration_initial_eps=config.exploration,
        exploration_final_eps=config.exploration,
        policy_kwargs={
            "net_arch": list(config.hidden[1:]),
            "bounded": False,
            "layer_norm": False,
            "features_extractor_class": ElementEmbedding,
            "features_extractor_kwargs": {"features_dim": config.hidden[0]},
            "optimizer_class": th.optim.Adam,
            "optimizer_kwargs": {"fused": True},
        },
        seed=seed,
        device=device,
        tensorboard_log=tensorboard_log,
    )
    model.replay_buffer_kwargs = {"step_weights": replay["step_weights"], "seed": seed}  # no training set
    return model
