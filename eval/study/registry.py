"""The models that can be trained, loaded and compared by name, and those of the user's own.

`MODELS` holds what ships. A class of the user's own joins by its name, ``module:Class``, wherever a model is
named, or through `register_model`. It needs

::

    class MyModel:
        name = "mine"
        presets = {"default": MyConfig()}  # dataclasses; optional, as are title, suffix and access
        def __init__(self, config=None, *, seed=0, device="cpu"): ...
        def fit(self, training_set, *, target_class, progress=None): ...
        def sample(self, n, *, target_class, seed=None): ...  # (n, 2 S) digits, see elpa_env.Sampler

and may have ``distribution(target_class)``, see `elpa_env.ExactSampler`, and ``save(path)`` with a class
method ``load(path, device=...)``, without which it is trained again when another number of samples is wanted.
What it samples is of the space of its training set, ``training_set.space``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from agents import gflownet, plan, rank
from agents.checkpoint import NAME as DQN_NAME
from agents.checkpoint import written_by_sb3
from agents.gflownet import GFlowNetSampler
from agents.plan import PlanSampler
from agents.rank import RankSampler
from agents.sb3_sampler import AgentSampler
from agents.train import SEARCH, VARIANTS, Variant, train_dqn
from elpa_env.backups import ExactBackup
from elpa_env.catalogue import ELPASOLITE_NAME
from elpa_env.checkpoint import read_checkpoint
from elpa_env.errors import InputError
from elpa_env.plugins import import_attribute
from elpa_env.ranges import SearchSpace
from elpa_env.rules import check_masking
from elpa_env.sampler import Preset, Progress, Sampler
from elpa_env.solve import OptimalSampler
from elpa_env.space import Space
from elpa_env.training import TrainingSet
from eval.judge import load_judge
from generative import autoregressive, diffusion, vae, wgan_gp
from generative.autoregressive import AutoregressiveModel
from generative.baselines import BASELINES, BaselineSampler
from generative.checkpoint import load_checkpoint
from generative.conditional import ConditionalModel
from generative.diffusion import DiffusionModel
from generative.vae import ConditionalVAE
from generative.wgan_gp import ConditionalWGAN

PRESETS: Final = ("quick", "small", "default", "paper", "tuned")


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
        target_class: 1..k; conditional models learn all classes at once.
        seed: of everything random.
        device: a torch device.
        progress: called with updates made and updates to make.
        judge: of an exact solution, what it solves; "" for every other model.
        space: by which `elpa_env.load_space` finds it.
    """

    config: Any
    training_set: TrainingSet
    target_class: int
    seed: int
    device: str = "cpu"
    progress: Progress | None = None
    judge: str = ""
    space: str = ELPASOLITE_NAME


@dataclass(frozen=True)
class ModelSpec:
    """One model.

    Attributes:
        name: in tables' keys and file names.
        title: heading of its column.
        train: makes a trained sampler.
        presets: hyperparameters by preset; empty for a model that has none.
        suffix: of its checkpoint; empty for a model that leaves none.
        load: reads a checkpoint, given its path, the target class and a torch device.
        cost: rank by training time, to start the slowest first.
        reference: it is an exact solution, which knows what a judge knows.
        needs_class: it cannot be made from a training set without a row of the target class.
        search: where `elpa search` looks for better hyperparameters; empty for a model that is not searched.
        every_class: one training of it serves all classes.
    """

    name: str
    title: str
    train: Callable[[Task], Sampler]
    presets: Mapping[str, Preset] = field(default_factory=dict)
    suffix: str = ""
    load: Callable[[Path, int, str], Sampler] | None = None
    cost: int = 0
    reference: bool = False
    needs_class: bool = False
    search: SearchSpace = field(default_factory=dict)
    every_class: bool = False


def _conditional(title: str, kind: type[ConditionalModel[Any]], search: SearchSpace, cost: int) -> ModelSpec:
    def train(task: Task) -> Sampler:
        model = kind(task.config, space=task.training_set.space, seed=task.seed, device=task.device)
        return model.fit(task.training_set, task.progress)

    return ModelSpec(
        kind.name,
        title,
        train,
        kind.presets,
        ".pt",
        lambda path, _, device: kind.load(path, device=device),
        cost,
        search=search,
        every_class=True,
    )


def _load_agent(path: Path, target_class: int, device: str) -> AgentSampler:
    return AgentSampler.load(path, target_class=target_class, device=device)


def _dqn(name: str, variant: Variant) -> ModelSpec:
    def train(task: Task) -> AgentSampler:
        agent = train_dqn(
            task.config,
            None if variant.any_class else task.target_class,
            training_set=None if variant.source == "oracle" else task.training_set,
            source=variant.source,
            space=task.training_set.space,
            seed=task.seed,
            device=task.device,
            progress=task.progress,
        )
        return AgentSampler(agent)

    cost = 3 if variant.source == "offline" else 4
    where = SEARCH.get(variant.source, {})
    return ModelSpec(
        name,
        variant.title,
        train,
        variant.presets,
        ".zip",
        _load_agent,
        cost,
        search=where,
        every_class=variant.any_class,
    )


def _baseline(name: str) -> ModelSpec:
    return ModelSpec(
        name,
        BASELINES[name].title,
        lambda task: BaselineSampler(name, task.training_set),
        needs_class=BASELINES[name].uses_labels,
    )


def _train_plan(task: Task) -> PlanSampler:
    return PlanSampler(task.config, seed=task.seed).fit(task.training_set, task.progress)


def _train_rank(task: Task) -> RankSampler:
    return RankSampler(task.config, seed=task.seed).fit(task.training_set, task.progress)


def _train_gflownet(task: Task) -> GFlowNetSampler:
    model = GFlowNetSampler(
        task.target_class, task.config, space=task.training_set.space, seed=task.seed, device=task.device
    )
    return model.fit(task.training_set, task.progress)


def _optimal(name: str, backup: ExactBackup) -> ModelSpec:
    return ModelSpec(
        name,
        name.replace("-", " "),
        lambda task: OptimalSampler(backup, landscape=load_judge(task.judge or None, task.space)),
        reference=True,
    )


_CONDITIONAL: Final[tuple[type[ConditionalModel[Any]], ...]] = (
    ConditionalVAE,
    ConditionalWGAN,
    AutoregressiveModel,
    DiffusionModel,
)
"""Those that one checkpoint format serves."""

_ALL: Final = (
    _dqn("dqn", VARIANTS["dqn"]),
    _conditional("VAE", ConditionalVAE, vae.SEARCH, 1),
    _conditional("GAN", ConditionalWGAN, wgan_gp.SEARCH, 2),
    _conditional("autoregressive", AutoregressiveModel, autoregressive.SEARCH, 2),
    _conditional("diffusion", DiffusionModel, diffusion.SEARCH, 2),
    *(_baseline(name) for name in BASELINES),
    *(_dqn(name, variant) for name, variant in VARIANTS.items() if name != "dqn"),
    ModelSpec(
        "gflownet",
        "GFlowNet",
        _train_gflownet,
        gflownet.PRESETS,
        ".npz",
        lambda path, _, device: GFlowNetSampler.load(path, device=device),
        cost=4,
        search=gflownet.SEARCH,
    ),
    ModelSpec("plan", "plan", _train_plan, plan.PRESETS, cost=2, every_class=True),
    ModelSpec("rank", "rank", _train_rank, rank.PRESETS, cost=2, every_class=True),
    _optimal("optimal-hard", "max"),
    _optimal("optimal-soft", "soft"),
)

MODELS: Final[dict[str, ModelSpec]] = {spec.name: spec for spec in _ALL}
"""All models: the paper's three, the baselines, the DQN with every backup, and the exact solutions.

A DQN is trained offline, from the episodes of the training set; in the environment against a reward
model of that set (``-model``; ``-any``: one agent for all ten classes); or against the landscape
(``-oracle``). ``soft`` is the soft backup. Oracles and exact solutions see what all are judged by, which the
others must not; `elpa_env.sampler.access_of` says what each one saw. ``plan`` is the exact soft policy on
the reward model that ``dqn-soft-model`` acts against: what that agent approaches; ``rank`` lists compositions
by the probability that the same reward model states.
"""

AGENT: Final = "dqn-soft-model"
"""Our best agent: it is to better the best of the paper's three models in every figure at once."""
BASIC: Final = ("dqn", "vae", "gan", AGENT, *BASELINES)
"""What a comparison trains unless told otherwise: the paper's three models, our best agent, the baselines."""
REFERENCES: Final = tuple(spec.name for spec in _ALL if spec.reference)
"""The exact solutions, shown in every comparison; they see what the judge knows."""


def register_model(spec: ModelSpec) -> None:
    """Make a model known by its name, as those that ship are.

    Raises:
        InputError: the name is taken, or cannot be a name.
    """
    if spec.name in MODELS or not spec.name or ":" in spec.name or spec.name.endswith(".zip"):
        raise InputError(f"a model's name must be new and without a colon, got {spec.name!r}")
    MODELS[spec.name] = spec


def model_spec(name: str, masking: str | None = None, *, trust: bool = False) -> ModelSpec:
    """A model by its name, as ``module:Class``, or the agent in a ``.zip`` file of that path.

    Args:
        name: of a model, of a class of the user's own, or the path.
        masking: of an agent, see `load_agent`.
        trust: of an agent, see `load_agent`.

    Raises:
        InputError: no such model.
    """
    if name in MODELS:
        return MODELS[name]
    if name.endswith(".zip"):

        def load(task: Task) -> AgentSampler:
            return load_agent(
                name,
                target_class=task.target_class,
                masking=masking,
                trust=trust,
                device=task.device,
                space=task.training_set.space,
            )

        return ModelSpec(Path(name).stem, Path(name).stem, load)
    if ":" in name:
        return _own_model(name)
    raise InputError(f"unknown model {name!r}: choose from {', '.join(MODELS)}, or name module:Class")


def _own_model(name: str) -> ModelSpec:
    """A class of the user's own, see the head of this module."""
    found: Any = import_attribute(name)
    if isinstance(found, ModelSpec):
        return found
    needed = ("fit", "sample")
    missing = [method for method in needed if not callable(getattr(found, method, None))]
    if not isinstance(found, type) or missing:
        raise InputError(f"{name} must be a class with {' and '.join(needed)}, got {found!r}")
    kind: Any = found
    title = str(getattr(kind, "title", getattr(kind, "name", kind.__name__)))
    presets = {
        str(preset): config if isinstance(config, Preset) else Preset(config, "the user")
        for preset, config in getattr(kind, "presets", {}).items()
    }

    def train(task: Task) -> Sampler:
        model = kind(task.config, seed=task.seed, device=task.device)
        model.fit(task.training_set, target_class=task.target_class, progress=task.progress)
        return model  # type: ignore[no-any-return]

    keeps = callable(getattr(kind, "save", None)) and callable(getattr(kind, "load", None))
    return ModelSpec(
        name=str(getattr(kind, "name", kind.__name__)),
        title=title,
        train=train,
        presets=presets,
        suffix=str(getattr(kind, "suffix", ".model")) if keeps else "",
        load=(lambda path, _, device: kind.load(path, device=device)) if keeps else None,
        cost=max(spec.cost for spec in MODELS.values()) + 1,
    )


def load_agent(
    path: str | Path,
    *,
    target_class: int,
    masking: str | None = None,
    trust: bool = False,
    **kwargs: Any,
) -> AgentSampler:
    """Load any SB3 agent for a class; one that does not know its own is taken to be for that.

    Args:
        path: the ``.zip`` file.
        target_class: 1..k.
        masking: what it may choose from: "digits", "composition" or "none"; None leaves it to the agent.
        trust: whether an archive that Stable-Baselines3 wrote may run code when it is read.
        **kwargs: of `AgentSampler.load`.

    Raises:
        InputError: the file holds no such agent.
    """
    if masking is not None:
        kwargs["masking"] = None if masking == "none" else check_masking(masking)
    sampler = AgentSampler.load(path, target_class=target_class, name=Path(path).stem, trust=trust, **kwargs)
    sampler.check_class(target_class)
    return sampler


def load_sampler(
    path: str | Path,
    *,
    target_class: int | None = None,
    device: str = "cpu",
    model: str | None = None,
    trust: bool = False,
    space: Space | None = None,
) -> Sampler:
    """Load any checkpoint of this project, an agent that Stable-Baselines3 saved, or a user's own model.

    Args:
        path: the file.
        target_class: class of an agent that does not know its own.
        device: a torch device.
        model: ``module:Class`` that wrote it, for a model of the user's own.
        trust: whether an archive that Stable-Baselines3 wrote may run code when it is read.
        space: that it must be of; whatever it is of by default.

    Raises:
        InputError: it is missing, damaged, of another space, or of a model or version that this one cannot
            read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint {path}: train one with `elpa train`")
    if model is not None:
        spec = model_spec(model)
        if spec.load is None:
            raise InputError(f"{model} cannot be loaded: it needs the methods save and load")
        return spec.load(path, target_class or 1, device)
    kept_as = "" if written_by_sb3(path) else read_checkpoint(path)[0].get("model")
    if kept_as == gflownet.NAME:
        flow = GFlowNetSampler.load(path, device=device)
        if space is not None:
            space.check_same(flow.space, str(path))
        return flow
    if kept_as in ("", DQN_NAME):
        return AgentSampler.load(path, device=device, target_class=target_class, trust=trust, space=space)
    content = load_checkpoint(path)
    if space is not None:
        space.check_same(content["space"], str(path))
    name = content["model"]
    for kind in _CONDITIONAL:
        if name == kind.name:
            return kind.load(path, device=device)
    raise InputError(f"{path} holds an unknown model {name!r}")
