"""The paper's agent: a DQN trained offline on the episodes of a training set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import LinearSchedule

from agents.callbacks import AveragedWeights, ReportProgress
from agents.dqn import BoltzmannDQN
from agents.generators import preserved_generators
from agents.policies import BoundedQPolicy, DigitEncoder, Encoding
from elpa_env.backups import Backup
from elpa_env.rules import Masking
from elpa_env.sampler import Progress
from elpa_env.training import TrainingSet


@dataclass(frozen=True)
class DQNConfig:
    """Hyperparameters; the defaults are the paper's (section 2.3.3).

    Attributes:
        hidden: nodes of the hidden layers, each with layer normalisation.
        encoding: how the network reads the digits, see `DigitEncoder`; None = as they are scaled.
        bounded: whether Q ends in a hyperbolic tangent.
        backup: "double", "max", "soft" or "soft-double", see `BoltzmannDQN`.
        conservative: weight of the conservative term, see `BoltzmannDQN`; 0 = off.
        masking: what is open in targets and in sampling.
        beta: inverse temperature of eq. 16, and of soft backups.
        gamma: discount factor.
        n_updates: network updates.
        batch_size: transitions an update, in whole episodes of eight.
        learning_rate: Adam's.
        final_learning_rate: share of the learning rate that it falls to, linearly over training.
        weight_decay: decoupled, AdamW's.
        target_update_interval: updates between two synchronisations of the target network.
        ema_decay: of the average of the weights that is sampled from; 0 = the last weights.
    """

    hidden: tuple[int, ...] = (512,) * 5
    encoding: Encoding | None = None
    bounded: bool = False
    backup: Backup = "double"
    conservative: float = 0.0
    masking: Masking = "digits"
    beta: float = 5.0
    gamma: float = 0.999
    n_updates: int = 800_000
    batch_size: int = 250
    learning_rate: float = 1e-5
    final_learning_rate: float = 1.0
    weight_decay: float = 0.0
    target_update_interval: int = 10
    ema_decay: float = 0.0

    @classmethod
    def default(cls) -> DQNConfig:
        """A small network that reaches the paper's spread in minutes on one core."""
        return cls(
            hidden=(256,) * 3,
            encoding="thermometer",
            bounded=True,
            n_updates=6_000,
            batch_size=256,
            learning_rate=5e-4,
            final_learning_rate=0.5,
            weight_decay=1.0,
            ema_decay=0.999,
        )

    @classmethod
    def soft(cls) -> DQNConfig:
        """`default` with the soft backup, whose values count the compositions of a branch.

        A small conservative term holds down the share of branches without data in that count.
        """
        return replace(cls.default(), backup="soft", beta=6.0, gamma=1.0, conservative=0.05)

    def policy_kwargs(self) -> dict[str, Any]:
        """For the `policy_kwargs` of an SB3 agent with `BoundedQPolicy`."""
        features: dict[str, Any] = {"features_extractor_class": FlattenExtractor}
        if self.encoding:
            features = {
                "features_extractor_class": DigitEncoder,
                "features_extractor_kwargs": {"encoding": self.encoding},
            }
        return {
            "net_arch": list(self.hidden),
            "bounded": self.bounded,
            "optimizer_class": th.optim.AdamW,
            "optimizer_kwargs": {"weight_decay": self.weight_decay, "fused": True},
            **features,
        }


def train_offline(
    training_set: TrainingSet,
    target_class: int,
    config: DQNConfig | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    tensorboard_log: str | None = None,
) -> BoltzmannDQN:
    """Train an agent on the episodes of a training set; no environment, no energy is ever asked.

    Args:
        training_set: all that the agent sees.
        target_class: 1..10.
        config: hyperparameters; the paper's by default.
        seed: of the weights and of the batches.
        device: a torch device.
        progress: called with updates made and updates to make.
        tensorboard_log: folder for TensorBoard, as in SB3.
    """
    config = config or DQNConfig()
    with preserved_generators():
        model = _agent(training_set, target_class, config, seed, device, tensorboard_log)
        return model.learn_offline(config.n_updates, _callbacks(config, progress))


def _agent(
    training_set: TrainingSet,
    target_class: int,
    config: DQNConfig,
    seed: int,
    device: str,
    tensorboard_log: str | None,
) -> BoltzmannDQN:
    """The untrained agent with its episodes."""
    rate = config.learning_rate
    model = BoltzmannDQN(
        BoundedQPolicy,
        None,
        beta=config.beta,
        backup=config.backup,
        conservative=config.conservative,
        masking=config.masking,
        target_class=target_class,
        learning_rate=LinearSchedule(rate, rate * config.final_learning_rate, 1.0),
        buffer_size=1,
        batch_size=config.batch_size,
        gamma=config.gamma,
        target_update_interval=config.target_update_interval,
        policy_kwargs=config.policy_kwargs(),
        seed=seed,
        device=device,
        tensorboard_log=tensorboard_log,
    )
    model.set_episodes(training_set)
    model.trained_on = training_set.record()
    return model


def _callbacks(config: DQNConfig, progress: Progress | None) -> list[BaseCallback]:
    callbacks: list[BaseCallback] = []
    if config.ema_decay:
        callbacks.append(AveragedWeights(config.ema_decay))
    if progress:
        callbacks.append(ReportProgress(progress, config.n_updates))
    return callbacks
