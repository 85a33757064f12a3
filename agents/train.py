"""Training a DQN: one configuration, one function; where its experience comes from is an argument."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypedDict, Unpack, get_args

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from agents.buffers import MixedReplayBuffer, fit_step_weights
from agents.callbacks import ReportProgress
from agents.dqn import BoltzmannDQN
from agents.generators import preserved_generators
from agents.policies import Activation, BoundedQPolicy, DigitEncoder, ElementEmbedding, Encoding
from agents.reward_model import RewardModel, RewardModelConfig
from agents.schedules import CosineSchedule
from agents.vec_env import CompositionVecEnv, OfflineEnv, make_vec_env
from elpa_env import catalogue
from elpa_env.backups import Backup
from elpa_env.errors import InputError, at_least, check_choice, in_range
from elpa_env.ranges import Between, Choice, SearchSpace
from elpa_env.rules import Masking, Reward
from elpa_env.sampler import FEWER, SEARCHED, TUNED, Access, Preset, Progress, chosen_by
from elpa_env.seeds import Seed, small_seed, spawn
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.table import EnergyModel, Table
from elpa_env.training import TrainingSet

Source = Literal["offline", "model", "oracle"]
"""Where experience comes from.

"offline": the episodes of the training set alone, as in the paper; no environment, no energy is ever asked.
"model": the agent acts in the environment against a `RewardModel` of the training set. "oracle": it acts
against the landscape itself. An oracle learns what it is later judged by, so it is no competitor of agents
that see a training set alone but shows what the algorithm makes of perfect energies.
"""

WARM_UP: Final = 8
"""Episodes of every environment before the first update, all actions open equally likely."""


@dataclass(frozen=True)
class DQNConfig:
    """Hyperparameters of a DQN, of how it learns and, unless it learns offline, of how it acts.

    Attributes:
        backup: see `BoltzmannDQN`.
        beta: inverse temperature of eq. 16 and of soft backups.
        gamma: discount factor; 1 makes the soft policy proportional to exp(β reward).
        conservative: weight of the conservative term, see `BoltzmannDQN`; 0 = off.
        masking: what is open, in targets and in sampling.
        encoding: how the network reads the digits, see `DigitEncoder` and `ElementEmbedding`; None = as they
            are scaled.
        hidden: nodes of the hidden layers; with "embedding" the first is the width of the embedding.
        bounded: whether Q ends in a hyperbolic tangent.
        activation: of hidden layers, "leaky-relu" or "silu".
        layer_norm: whether hidden layers are normalised.
        n_updates: network updates.
        batch_size: transitions an update; offline in whole episodes.
        learning_rate: AdamW's at the start.
        schedule: along which the learning rate falls, "linear" or "cosine".
        final_learning_rate: share of the learning rate that it falls to.
        weight_decay: decoupled, AdamW's.
        target_update_interval: updates between two synchronisations of the target network.
        ema_decay: of the average of the weights that is sampled from; 0 = the weights themselves.
        n_envs: environments side by side, which make one step an update.
        buffer_episodes: episodes of every environment that the replay buffer holds.
        exploration: share of actions drawn from all open ones alike, instead of by β.
        replay_share: share of every batch from the episodes of the training set.
        step_weights: of the last steps in the rest of a batch, see `MixedReplayBuffer` and
            `fit_step_weights`.
        reward_model: hyperparameters of the reward model.

    Raises:
        InputError: a value out of range.
    """

    backup: Backup = "soft"
    beta: float = 6.3
    gamma: float = 1.0
    conservative: float = 0.0
    masking: Masking = "composition"
    encoding: Encoding | Literal["embedding"] | None = "embedding"
    hidden: tuple[int, ...] = (256, 128, 128)
    bounded: bool = False
    activation: Activation = "silu"
    layer_norm: bool = False
    n_updates: int = 4_000
    batch_size: int = 1_000
    learning_rate: float = 8e-3
    schedule: Literal["linear", "cosine"] = "cosine"
    final_learning_rate: float = 0.0
    weight_decay: float = 0.0
    target_update_interval: int = 100
    ema_decay: float = 0.0
    n_envs: int = 512
    buffer_episodes: int = 40
    exploration: float = 0.5
    replay_share: float = 0.1
    step_weights: Sequence[float] = (1, 1, 1, 1, 2, 4, 10, 20)
    reward_model: RewardModelConfig = field(default_factory=RewardModelConfig)

    def __post_init__(self) -> None:
        at_least(self, 1, "n_updates", "batch_size", "target_update_interval", "n_envs", "buffer_episodes")
        in_range(self, 0, math.inf, "learning_rate", "weight_decay", "conservative")
        in_range(self, 0, 1, "gamma", "exploration", "replay_share", "final_learning_rate", "ema_decay")
        check_choice("schedule", self.schedule, ("linear", "cosine"))
        choices = (*get_args(Encoding), "embedding")
        if self.encoding is not None:
            check_choice("encoding", self.encoding, choices)
        if len(self.hidden) < 1 + (self.encoding == "embedding") or min(self.hidden) < 1:
            raise InputError(f"hidden must name layers with nodes, two for an embedding, got {self.hidden}")
        if not self.step_weights or not all(math.isfinite(w) and w > 0 for w in self.step_weights):
            raise InputError(f"step_weights must be positive numbers, got {self.step_weights}")

    def rate(self) -> LinearSchedule | CosineSchedule:
        """The learning rate over training, for SB3."""
        end = self.learning_rate * self.final_learning_rate
        if self.schedule == "linear":
            return LinearSchedule(self.learning_rate, end, 1.0)
        return CosineSchedule(self.learning_rate, end)

    def policy_kwargs(self, space: Space = ELPASOLITE_SPACE) -> dict[str, Any]:
        """For the `policy_kwargs` of an SB3 agent with `BoundedQPolicy`, in a space."""
        layers = list(self.hidden)
        extractor: type[BaseFeaturesExtractor] = FlattenExtractor
        arguments: dict[str, Any] = {}
        if self.encoding == "embedding":
            extractor, arguments = ElementEmbedding, {"features_dim": layers.pop(0), "space": space}
        elif self.encoding is not None:
            extractor, arguments = DigitEncoder, {"encoding": self.encoding, "space": space}
        return {
            "net_arch": layers,
            "bounded": self.bounded,
            "activation": self.activation,
            "layer_norm": self.layer_norm,
            "features_extractor_class": extractor,
            "features_extractor_kwargs": arguments,
            "optimizer_class": th.optim.AdamW,
            "optimizer_kwargs": {"weight_decay": self.weight_decay, "fused": True},
        }


@dataclass(frozen=True)
class Variant:
    """A DQN that ships.

    Attributes:
        title: what tables call it.
        source: where its experience comes from.
        presets: its hyperparameters by preset.
        any_class: whether one agent serves all classes.
    """

    title: str
    source: Source
    presets: Mapping[str, Preset]
    any_class: bool = False


_TUNED_ACTING: Final = (
    "scores against the landscape in classes 1 and 5; network and reward model by the training set alone"
)
"""The reward model by its held-out error, the network by the distance to its exact soft policy."""
_OFFLINE: Final = DQNConfig(
    backup="double",
    beta=5.16,
    gamma=0.999,
    conservative=0.02,
    masking="digits",
    encoding="one-hot",
    hidden=(256,) * 2,
    bounded=True,
    activation="leaky-relu",
    layer_norm=True,
    n_updates=2_000,
    batch_size=256,
    learning_rate=6.09e-4,
    schedule="linear",
    final_learning_rate=0.5,
    weight_decay=0.0231,
    target_update_interval=30,
    ema_decay=0.999,
)
"""A small network, trained in some twenty seconds on one core."""
_OFFLINE_SOFT: Final = replace(
    _OFFLINE,
    backup="soft",
    beta=5.35,
    gamma=1.0,
    conservative=0.05,
    hidden=(128,) * 2,
    learning_rate=1.64e-3,
    weight_decay=1.51,
    target_update_interval=10,
)
"""Soft values count the compositions of a branch; the conservative term holds down those without data."""
_OFFLINE_TUNED: Final = replace(
    _OFFLINE,
    beta=5.0,
    conservative=0.0,
    encoding="thermometer",
    hidden=(256,) * 3,
    n_updates=6_000,
    learning_rate=5e-4,
    weight_decay=1.0,
    target_update_interval=10,
)
_OFFLINE_SOFT_TUNED: Final = replace(_OFFLINE_TUNED, backup="soft", beta=6.0, gamma=1.0, conservative=0.05)
_PAPER: Final = DQNConfig(
    backup="double",
    beta=5.0,
    gamma=0.999,
    masking="digits",
    encoding=None,
    hidden=(512,) * 5,
    activation="leaky-relu",
    layer_norm=True,
    n_updates=800_000,
    batch_size=250,
    learning_rate=1e-5,
    schedule="linear",
    final_learning_rate=1.0,
    target_update_interval=10,
)
"""Section 2.3.3 of the paper."""
_ACTING: Final = DQNConfig(
    beta=5.88,
    learning_rate=7.09e-3,
    exploration=0.624,
    replay_share=0.0,
    reward_model=RewardModelConfig(sharpness=0.671),
)
_ACTING_TUNED: Final = DQNConfig(
    reward_model=RewardModelConfig(
        embedding=24, hidden=128, n_updates=1_500, batch_size=256, learning_rate=2e-2, weight_decay=0.05
    )
)
_ORACLE: Final = replace(
    _ACTING_TUNED, backup="soft-double", beta=5.0, hidden=(256,) * 3, n_updates=12_000, exploration=0.1
)
"""True classes have sharper edges than a model's probabilities: a wider network, and longer to learn."""


def _offline(title: str, config: DQNConfig, by: str, **more: Preset) -> Variant:
    few = replace(config, n_updates=1_000)
    presets = {
        "quick": Preset(few, f"{by}, with fewer updates to save time"),
        "small": Preset(few, FEWER),
        "default": Preset(config, by),
    }
    return Variant(title, "offline", {**presets, **more})


def _acting(
    title: str, source: Source, config: DQNConfig, by: str, *, any_class: bool = False, **more: Preset
) -> Variant:
    reward_model = replace(config.reward_model, n_updates=config.reward_model.n_updates // 2)
    quick = replace(config, n_updates=config.n_updates // 3, reward_model=reward_model)
    small = replace(
        config,
        n_updates=min(config.n_updates, 1_000),
        n_envs=128,
        batch_size=500,
        reward_model=replace(config.reward_model, n_updates=600),
    )
    presets = {
        "quick": Preset(quick, f"{by}, with fewer updates to save time"),
        "small": Preset(small, FEWER),
        "default": Preset(config, by),
    }
    return Variant(title, source, {**presets, **more}, any_class)


VARIANTS: Final[dict[str, Variant]] = {
    "dqn": _offline(
        "DQN", _OFFLINE, SEARCHED, paper=Preset(_PAPER, "the paper"), tuned=Preset(_OFFLINE_TUNED, TUNED)
    ),
    "dqn-max": _offline("DQN max", replace(_OFFLINE, backup="max"), f"{SEARCHED}, for another backup"),
    "dqn-soft": _offline("DQN soft", _OFFLINE_SOFT, SEARCHED, tuned=Preset(_OFFLINE_SOFT_TUNED, TUNED)),
    "dqn-max-model": _acting(
        "DQN max, model", "model", replace(_ACTING, backup="max"), f"{SEARCHED}, for another backup"
    ),
    "dqn-double-model": _acting(
        "DQN double, model", "model", replace(_ACTING, backup="double"), f"{SEARCHED}, for another backup"
    ),
    "dqn-soft-model": _acting(
        "DQN soft, model", "model", _ACTING, SEARCHED, tuned=Preset(_ACTING_TUNED, _TUNED_ACTING)
    ),
    "dqn-soft-any": _acting(
        "DQN soft, any class",
        "model",
        replace(_ACTING, n_updates=8_000),
        f"{SEARCHED}, for class 1",
        any_class=True,
    ),
    "dqn-max-oracle": _acting("DQN max, oracle", "oracle", replace(_ORACLE, backup="max"), _TUNED_ACTING),
    "dqn-double-oracle": _acting(
        "DQN double, oracle", "oracle", replace(_ORACLE, backup="double"), _TUNED_ACTING
    ),
    "dqn-soft-oracle": _acting("DQN soft, oracle", "oracle", _ORACLE, _TUNED_ACTING),
}
"""The DQNs that ship, by name."""
SEARCH: Final[dict[Source, SearchSpace]] = {
    "offline": {
        "beta": Between(2.0, 15.0, log=True),
        "learning_rate": Between(1e-4, 2e-2, log=True),
        "hidden": Choice(((128,) * 2, (256,) * 2, (256,) * 3, (512,) * 3)),
        "encoding": Choice(("one-hot", "thermometer")),
        "bounded": Choice((False, True)),
        "weight_decay": Between(1e-2, 3.0, log=True),
        "batch_size": Choice((128, 256, 512)),
        "n_updates": Choice((2_000, 4_000, 6_000)),
        "target_update_interval": Choice((10, 30, 100)),
        "conservative": Choice((0.0, 0.02, 0.05, 0.1)),
        "ema_decay": Choice((0.0, 0.99, 0.999)),
    },
    "model": {
        "beta": Between(4.0, 8.0),
        "reward_model.sharpness": Between(0.5, 1.0),
        "learning_rate": Between(4e-3, 1.2e-2, log=True),
        "exploration": Between(0.3, 0.7),
        "replay_share": Choice((0.0, 0.1, 0.3)),
    },
}
"""Where a search looks, by source; an oracle is not searched, since it learns what it is judged by.

A reward model is searched by itself, see `agents.reward_model.SEARCH`. The network of an agent that acts was
chosen by how near it comes to the exact soft policy on its own reward model.
"""
_DEFAULT_OF: Final = {"offline": "dqn", "model": "dqn-soft-model", "oracle": "dqn-soft-oracle"}


class Common(TypedDict, total=False):
    """Arguments of `train_dqn` that do not depend on the source."""

    reward: Reward | None
    seed: int
    device: str
    progress: Progress | None
    tensorboard_log: str | None
    weights: Mapping[str, NDArray[Any]] | None


def train_offline(
    training_set: TrainingSet,
    target_class: int,
    config: DQNConfig | None = None,
    **common: Unpack[Common],
) -> BoltzmannDQN:
    """Train an agent on the episodes of a training set alone: `train_dqn` with source "offline"."""
    return train_dqn(config, target_class, training_set=training_set, source="offline", **common)


def train_model_based(
    training_set: TrainingSet,
    target_class: int | None,
    config: DQNConfig | None = None,
    **common: Unpack[Common],
) -> BoltzmannDQN:
    """Train an agent against a reward model of a training set: `train_dqn` with source "model"."""
    return train_dqn(config, target_class, training_set=training_set, source="model", **common)


def train_dqn(
    config: DQNConfig | None,
    target_class: int | None,
    *,
    training_set: TrainingSet | None = None,
    source: Source | EnergyModel = "offline",
    space: Space | None = None,
    reward: Reward | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    tensorboard_log: str | None = None,
    weights: Mapping[str, NDArray[Any]] | None = None,
) -> BoltzmannDQN:
    """Train an agent.

    `model.access` says what the agent saw. It is unknown where energies or rewards are of the user's own.

    Args:
        config: hyperparameters; by default those of `VARIANTS` for the source: "dqn" offline,
            "dqn-soft-oracle" against a landscape, else "dqn-soft-model".
        target_class: 1..k; None for one agent for all classes.
        training_set: of the episodes, and of the reward model. Without one, which the sources "oracle" and an
            energy model allow, nothing is replayed but what the agent met.
        source: see `Source`; or an energy model that is asked about every composition that the agent
            completes: one's own, a `Table` such as the landscape, or a `RewardModel`.
        space: of the compositions; by default that of training set, energy model or elpasolite.
        reward: of every finished episode; by default a reward model's own, else eq. 12.
        seed: of everything random.
        device: a torch device, for the agent.
        progress: called with steps made and steps to make: updates of the reward model, then those of the
            agent, the steps of its warm-up included.
        tensorboard_log: folder for TensorBoard, as in SB3.
        weights: of the network of an agent to go on from, by name as in its `state_dict`; none or empty for
            new ones.

    Raises:
        InputError: there is no training set where one is needed, or the weights are of another network.
    """
    if isinstance(source, str):
        check_choice("source", source, get_args(Source))
    if training_set is None and source in ("offline", "model"):
        raise InputError(f"source {source} learns from a training set: pass training_set")
    config = config or _default(source)
    space = _space(space, training_set, source)
    agent_seed, _ = spawn(seed, 2)
    steps = _steps(config, source, space)
    first = config.reward_model.n_updates if source == "model" else 0

    def ahead(done: int) -> None:
        if progress:
            progress(done, first + steps)

    energy_model = _energy_model(source, space)
    if source == "model":
        assert training_set is not None
        energy_model = RewardModel(config.reward_model, seed=reward_model_seed(seed))
        energy_model.fit(training_set, lambda done, _: ahead(done))
    with preserved_generators():
        env = None
        if energy_model is not None:
            env = _environment(space, energy_model, target_class, config, reward)
        model = _agent(space, config, target_class, env, training_set, reward, small_seed(agent_seed), device)
        model.tensorboard_log = tensorboard_log
        if weights:
            _go_on_from(model, weights)
        callback = ReportProgress(lambda done, _: ahead(first + done), steps) if progress else None
        model.learn(steps * model.n_envs, callback, log_interval=max(model.n_envs, 100))
    model.access = _access(model, energy_model, training_set, reward, config)
    model.trained_on = _trained_on(energy_model, training_set)
    return model


def _go_on_from(model: BoltzmannDQN, weights: Mapping[str, NDArray[Any]]) -> None:
    """Give an agent the weights of another.

    Raises:
        InputError: they are of another network.
    """
    state = {name: th.as_tensor(np.array(value)) for name, value in weights.items()}
    networks: list[nn.Module] = [model.q_net, model.q_net_target]
    if model.q_net_average is not None:
        networks.append(model.q_net_average.module)
    for network in networks:
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(
                "weights are of another network than hyperparameters and space ask for"
            ) from error


def reward_model_seed(seed: int) -> Seed:
    """Seed of the reward model of an agent with a seed."""
    return spawn(seed, 2)[1]


def _default(source: Source | EnergyModel) -> DQNConfig:
    """The hyperparameters that ship for a source."""
    if isinstance(source, Table):
        source = "oracle"
    name = _DEFAULT_OF.get(source if isinstance(source, str) else "model", "dqn-soft-model")
    config: DQNConfig = VARIANTS[name].presets["default"].config
    return config


def _space(space: Space | None, training_set: TrainingSet | None, source: Source | EnergyModel) -> Space:
    """The space that all arguments agree on.

    Raises:
        InputError: they do not.
    """
    named = {"space": space, "the training set": None if training_set is None else training_set.space}
    if isinstance(source, Table | RewardModel):
        named["the energy model"] = source.space
    given = {what: one for what, one in named.items() if one is not None}
    chosen = next(iter(given.values()), ELPASOLITE_SPACE)
    for what, one in given.items():
        chosen.check_same(one, what)
    return chosen


def _energy_model(source: Source | EnergyModel, space: Space) -> EnergyModel | None:
    """What is asked for energies; None where nothing is, or where a reward model is yet to be fitted."""
    if source == "oracle":
        return catalogue.reference(space)
    return None if isinstance(source, str) else source


def _steps(config: DQNConfig, source: Source | EnergyModel, space: Space) -> int:
    """Steps to make: one an update; where the agent acts in whole episodes, those of the warm-up first."""
    if source == "offline":
        return config.n_updates
    return (WARM_UP + -(-config.n_updates // space.n_steps)) * space.n_steps


def _environment(
    space: Space,
    energy_model: EnergyModel,
    target_class: int | None,
    config: DQNConfig,
    reward: Reward | None,
) -> CompositionVecEnv:
    """The environments that the agent acts in; it seeds them."""
    if reward is None and isinstance(energy_model, RewardModel):
        reward = energy_model.reward
    return make_vec_env(
        config.n_envs,
        space=space,
        target_class=target_class,
        energy_model=energy_model,
        reward=reward,
        masking=config.masking,
    )


def _agent(
    space: Space,
    config: DQNConfig,
    target_class: int | None,
    env: CompositionVecEnv | None,
    training_set: TrainingSet | None,
    reward: Reward | None,
    seed: int,
    device: str,
) -> BoltzmannDQN:
    """The untrained agent; one that acts does so for whole episodes, then makes as many updates as steps."""
    n_steps = space.n_steps
    replay: dict[str, Any] = {"step_weights": fit_step_weights(config.step_weights, space), "space": space}
    known: dict[str, Any] = {"training_set": training_set, "target_class": target_class, "reward": reward}
    if training_set is not None and config.replay_share:
        known["share"] = config.replay_share
    n_envs = 1 if env is None else config.n_envs
    model = BoltzmannDQN(
        BoundedQPolicy,
        OfflineEnv(space, any_class=target_class is None) if env is None else env,
        config.rate(),
        buffer_size=1 if env is None else config.buffer_episodes * n_steps * n_envs,
        learning_starts=WARM_UP * n_steps * n_envs,
        batch_size=config.batch_size,
        gamma=config.gamma,
        train_freq=n_steps,
        gradient_steps=n_steps,
        replay_buffer_class=None if env is None else MixedReplayBuffer,
        replay_buffer_kwargs=None if env is None else replay | (known if "share" in known else {}),
        target_update_interval=config.target_update_interval * n_envs,
        exploration_initial_eps=config.exploration,
        exploration_final_eps=config.exploration,
        beta=config.beta,
        backup=config.backup,
        conservative=config.conservative,
        masking=config.masking,
        target_class=target_class,
        space=space,
        ema_decay=config.ema_decay,
        policy_kwargs=config.policy_kwargs(space),
        seed=seed,
        device=device,
    )
    if env is None:
        assert training_set is not None
        model.set_episodes(training_set, reward=reward)
    else:
        model.replay_buffer_kwargs = replay  # what is saved with the agent holds no training set
    return model


def _access(
    model: BoltzmannDQN,
    energy_model: EnergyModel | None,
    training_set: TrainingSet | None,
    reward: Reward | None,
    config: DQNConfig,
) -> Access:
    """What an agent saw."""
    presets = (preset for variant in VARIANTS.values() for preset in variant.presets.values())
    labels = 0 if training_set is None else training_set.n_labels
    if energy_model is None:
        kind: Literal["offline", "model-based", "oracle", "unknown"] = "offline"
        queries = 0
    else:
        assert isinstance(model.env, CompositionVecEnv)
        queries = model.env.env.n_queries
        labels = labels if config.replay_share else 0
        kind = "oracle" if isinstance(energy_model, Table) else "unknown"
    if isinstance(energy_model, RewardModel) and energy_model.trained_on is not None:
        kind, labels = "model-based", max(labels, int(energy_model.trained_on["labels"]))
    return Access(
        "unknown" if reward is not None else kind,
        labels=labels,
        model_queries=0 if isinstance(energy_model, Table) else queries,
        landscape_queries=queries if isinstance(energy_model, Table) else 0,
        chosen_by=chosen_by(config, presets, model.space),
    )


def _trained_on(energy_model: EnergyModel | None, training_set: TrainingSet | None) -> dict[str, Any] | None:
    """What is kept of the labels that an agent learnt from, and of how well a reward model knew them."""
    if isinstance(energy_model, RewardModel):
        return {**(energy_model.trained_on or {}), "reward_model": energy_model.report}
    return None if training_set is None else training_set.record()
