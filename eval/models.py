"""The models that can be trained, loaded and compared by name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from agents.offline import DQNConfig, train_offline
from agents.online import OnlineConfig, train_model_based, train_oracle
from agents.sampler import AgentSampler
from elpa_env.backups import ExactBackup
from elpa_env.errors import InputError
from elpa_env.rules import check_masking
from elpa_env.sampler import Access, Progress, Sampler
from elpa_env.solve import OptimalSampler
from elpa_env.space import N_COMPOSITIONS
from elpa_env.training import TrainingSet
from generative.baselines import BASELINES, BaselineSampler
from generative.checkpoint import load_checkpoint
from generative.vae import ConditionalVAE, VAEConfig
from generative.wgan_gp import ConditionalWGAN, WGANConfig

PRESETS: Final = ("quick", "default", "paper")


@runtime_checkable
class TrainedSampler(Sampler, Protocol):
    """A sampler that can be kept."""

    def save(self, path: str | Path) -> None:
        """Write a checkpoint, all or nothing."""
        ...


@dataclass(frozen=True)
class Task:
    """What a model is to be trained for.

    Attributes:
        config: its dataclass of hyperparameters.
        training_set: all that it may see.
        target_class: 1..10; conditional models learn all classes at once.
        seed: of everything random.
        device: a torch device.
        progress: called with updates made and updates to make.
    """

    config: Any
    training_set: TrainingSet
    target_class: int
    seed: int
    device: str = "cpu"
    progress: Progress | None = None


@dataclass(frozen=True)
class ModelSpec:
    """One model.

    Attributes:
        title: heading of its column.
        train: makes a trained sampler.
        presets: hyperparameters by preset; empty for a model that has none.
        suffix: of its checkpoint; empty for a model that needs none.
        cost: rank by training time, to start the slowest first.
    """

    title: str
    train: Callable[[Task], Sampler]
    presets: Mapping[str, Any]
    suffix: str = ""
    cost: int = 0


def _train_dqn(task: Task) -> AgentSampler:
    return AgentSampler(
        train_offline(
            task.training_set,
            task.target_class,
            task.config,
            seed=task.seed,
            device=task.device,
            progress=task.progress,
        )
    )


def _train_model_based(task: Task) -> AgentSampler:
    return _act_against_model(task, task.target_class)


def _train_any_class(task: Task) -> AgentSampler:
    return _act_against_model(task, None)


def _act_against_model(task: Task, target_class: int | None) -> AgentSampler:
    return AgentSampler(
        train_model_based(
            task.training_set,
            target_class,
            task.config,
            seed=task.seed,
            device=task.device,
            progress=task.progress,
        )
    )


def _train_oracle(task: Task) -> AgentSampler:
    return AgentSampler(
        train_oracle(
            task.target_class, task.config, seed=task.seed, device=task.device, progress=task.progress
        )
    )


def _train_vae(task: Task) -> ConditionalVAE:
    model = ConditionalVAE(task.config, seed=task.seed, device=task.device)
    return model.fit(task.training_set, task.progress)


def _train_gan(task: Task) -> ConditionalWGAN:
    model = ConditionalWGAN(task.config, seed=task.seed, device=task.device)
    return model.fit(task.training_set, task.progress)


def _baseline(name: str) -> Callable[[Task], BaselineSampler]:
    return lambda task: BaselineSampler(name, task.training_set)


def _optimal(backup: ExactBackup) -> Callable[[Task], OptimalSampler]:
    return lambda task: OptimalSampler(backup)


def _offline(title: str, config: DQNConfig, paper: DQNConfig) -> ModelSpec:
    """A DQN that learns from the training set's episodes alone."""
    presets = {"quick": replace(config, n_updates=2_000), "default": config, "paper": paper}
    return ModelSpec(title, _train_dqn, presets, ".zip", cost=3)


def _online(title: str, config: OnlineConfig, train: Callable[[Task], AgentSampler]) -> ModelSpec:
    """A DQN that acts; the paper has none, so its preset is the default one."""
    reward_model = replace(config.reward_model, n_updates=1_000)
    quick = replace(config, n_updates=config.n_updates // 3, reward_model=reward_model)
    return ModelSpec(title, train, {"quick": quick, "default": config, "paper": config}, ".zip", cost=4)


_ACTING = OnlineConfig()
_ORACLE = OnlineConfig(n_updates=8_000, exploration=0.1)
"""True classes have sharper edges than a model's probabilities, and take longer to learn."""
_DQN = DQNConfig.default()
_GAN = WGANConfig(n_updates=17_000, learning_rate=1.5e-4, ema_decay=0.9995)

MODELS: Final[dict[str, ModelSpec]] = {
    "dqn": _offline("DQN", _DQN, DQNConfig()),
    "vae": ModelSpec(
        title="VAE",
        train=_train_vae,
        presets={
            "quick": VAEConfig(n_updates=1_500),
            "default": VAEConfig(),
            "paper": VAEConfig(),
        },
        suffix=".pt",
        cost=1,
    ),
    "gan": ModelSpec(
        title="GAN",
        train=_train_gan,
        presets={
            "quick": replace(_GAN, n_updates=7_000, learning_rate=3e-4, ema_decay=0.999),
            "default": _GAN,
            "paper": WGANConfig(),
        },
        suffix=".pt",
        cost=2,
    ),
    **{
        name: ModelSpec(title=baseline.title, train=_baseline(name), presets={})
        for name, baseline in BASELINES.items()
    },
    "dqn-max": _offline("DQN max", replace(_DQN, backup="max"), DQNConfig(backup="max")),
    "dqn-soft": _offline("DQN soft", DQNConfig.soft(), DQNConfig(backup="soft")),
    "dqn-max-model": _online("DQN max, model", replace(_ACTING, backup="max"), _train_model_based),
    "dqn-double-model": _online("DQN double, model", replace(_ACTING, backup="double"), _train_model_based),
    "dqn-soft-model": _online("DQN soft, model", _ACTING, _train_model_based),
    "dqn-soft-any": _online("DQN soft, any class", replace(_ACTING, n_updates=6_000), _train_any_class),
    "dqn-max-oracle": _online("DQN max, oracle", replace(_ORACLE, backup="max"), _train_oracle),
    "dqn-double-oracle": _online("DQN double, oracle", replace(_ORACLE, backup="double"), _train_oracle),
    "dqn-soft-oracle": _online("DQN soft, oracle", _ORACLE, _train_oracle),
    "optimal-hard": ModelSpec(title="optimal hard", train=_optimal("max"), presets={}),
    "optimal-soft": ModelSpec(title="optimal soft", train=_optimal("soft"), presets={}),
}
"""All models: the paper's three, the baselines, the DQN with every backup, and the exact solutions.

A DQN is trained offline, from the episodes of the training set; in the environment against a reward
model of that set (``-model``; ``-any``: one agent for all ten classes); or against the landscape
(``-oracle``). ``soft`` is the soft backup, in acting agents that of double Q-learning. Oracles and exact
solutions see what all are judged by, which the others must not; `access_of` says what each one saw.
"""

BASIC: Final = ("dqn", "vae", "gan", *BASELINES)
"""What a comparison trains unless told otherwise: the paper's three models and the baselines."""

REFERENCES: Final = ("optimal-hard", "optimal-soft")
"""The exact solutions, shown in every comparison; they see the landscape."""


def access_of(sampler: Sampler, training_set: TrainingSet) -> Access | None:
    """What a sampler saw; None for an agent of the user, which does not say."""
    if isinstance(sampler, AgentSampler):
        access: Access | None = getattr(sampler.model, "access", None)
        return access
    if isinstance(sampler, OptimalSampler):
        return Access("reference", landscape_queries=N_COMPOSITIONS)
    return Access("offline", labels=0 if sampler.name == "random" else training_set.n_labels)


def model_spec(name: str, masking: str | None = None) -> ModelSpec:
    """The model of that name, or the agent in a ``.zip`` file of that path.

    Args:
        name: of a model, or the path.
        masking: of an agent, see `load_agent`.
    """
    if name in MODELS:
        return MODELS[name]

    def load(task: Task) -> AgentSampler:
        return load_agent(name, target_class=task.target_class, masking=masking, device=task.device)

    return ModelSpec(title=short_name(name), train=load, presets={})


def short_name(name: str) -> str:
    """A model's name, or the stem of an agent's path, for headings and file names."""
    return name if name in MODELS else Path(name).stem


def load_agent(
    path: str | Path, *, target_class: int, masking: str | None = None, **kwargs: Any
) -> AgentSampler:
    """Load any SB3 agent for a class; one that does not know its own is taken to be for that.

    Args:
        path: the ``.zip`` file.
        target_class: 1..10.
        masking: what it may choose from: "digits", "composition" or "none"; None leaves it to the agent.
        **kwargs: of `AgentSampler.load`.

    Raises:
        InputError: the file holds no such agent.
    """
    if masking is not None:
        kwargs["masking"] = None if masking == "none" else check_masking(masking)
    sampler = AgentSampler.load(path, target_class=target_class, name=short_name(str(path)), **kwargs)
    sampler.check_class(target_class)
    return sampler


def check_model(name: str, preset: str = "default") -> ModelSpec:
    """The model of that name.

    Raises:
        InputError: no such model or preset.
    """
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}: choose from {', '.join(MODELS)}")
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}: choose from {', '.join(PRESETS)}")
    return MODELS[name]


def load_sampler(path: str | Path, *, target_class: int | None = None, device: str = "cpu") -> Sampler:
    """Load any checkpoint of this project, or an agent that Stable-Baselines3 saved.

    Args:
        path: the file.
        target_class: class of an agent that does not know its own.
        device: a torch device.

    Raises:
        InputError: it is missing, damaged, or of a model or version that this one cannot read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint {path}: train one with `elpa train`")
    if _is_agent(path):
        return AgentSampler.load(path, device=device, target_class=target_class)
    name = load_checkpoint(path)["model"]
    if name == ConditionalVAE.name:
        return ConditionalVAE.load(path, device=device)
    if name == ConditionalWGAN.name:
        return ConditionalWGAN.load(path, device=device)
    raise InputError(f"{path} holds an unknown model {name!r}")


def _is_agent(path: Path) -> bool:
    """Whether a file is an archive as Stable-Baselines3 writes it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "policy.pth" in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
