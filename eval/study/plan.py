"""What a study runs: models, seeds, a training set, a class; and what a run depends on."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from elpa_env.catalogue import ELPASOLITE_NAME, Benchmark, load_space
from elpa_env.errors import InputError
from elpa_env.files import sha256
from elpa_env.sampler import Preset, check_n_samples
from elpa_env.training import TrainingSet, load_training_set
from eval.judge import default_judge, load_judge
from eval.study.registry import MODELS, PRESETS, ModelSpec, load_agent, model_spec
from eval.study.store import Request, key_of

DEFAULT_PRESET: Final = "default"
SMALL_PRESET: Final = "small"
_MATTER: Final = ("elpasolite", "numpy", "torch", "stable-baselines3")
"""Packages whose version decides what a run gives."""


@dataclass(frozen=True)
class Run:
    """One run: a model with its hyperparameters on a training set, for a class, with a seed.

    Attributes:
        model: name in the registry, ``module:Class``, or the path of an agent.
        preset: name of the hyperparameters, for people; what counts is `identity`.
        seed: of everything random.
        target_class: 1..k; a model that one training makes good for every class is the same run for all.
        device: torch device that trains.
        judge: of an exact solution, what it solves; "" for every other model.
        space: by which `elpa_env.load_space` finds it.
        masking: what an agent of the user may choose from, see `eval.study.registry.load_agent`.
        trust: whether an agent of the user may run code when it is read.
        identity: everything that the result depends on.
    """

    model: str
    preset: str
    seed: int
    target_class: int
    device: str
    judge: str
    space: str
    masking: str | None
    trust: bool
    identity: Mapping[str, Any]

    @functools.cached_property
    def key(self) -> str:
        """Of the run in a store."""
        return key_of(self.identity)

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return model_spec(self.model, self.masking, trust=self.trust)


@dataclass(frozen=True)
class Plan:
    """What to run: every model with every seed on one training set, for one class.

    Attributes:
        models: names from `eval.study.registry.MODELS`, ``module:Class`` of the user's own, or paths of
            agents that SB3 saved.
        seeds: one run each.
        data: what ships with the space by default, see `elpa_env.load_training_set`.
        target_class: 1..k.
        n_samples: valid samples to draw from each.
        preset: "quick", "small", "default" or "paper"; a model without presets has none of them.
        device: "cpu", "cuda" or another torch device.
        augment: add the missing orders of equivalent sites to the training set.
        masking: what agents of the user may choose from, see `eval.study.registry.load_agent`.
        subset: rows of the training set to draw at random, anew for every seed; None = all.
        judges: who scores, see `eval.judge.load_judge`, by default the space's own; the first is the one of
            the pictures' titles.
        trust: whether agents of the user may run code when they are read.
        space: name or TOML file, see `elpa_env.load_space`.
    """

    models: tuple[str, ...]
    seeds: tuple[int, ...]
    data: str = ""
    target_class: int = 1
    n_samples: int = 10_000
    preset: str = DEFAULT_PRESET
    device: str = "cpu"
    augment: bool = True
    masking: str | None = None
    subset: int | None = None
    judges: tuple[str, ...] = ()
    trust: bool = False
    space: str = ELPASOLITE_NAME

    @property
    def benchmark(self) -> Benchmark:
        """The space, and what is known of it."""
        return load_space(self.space)

    @property
    def request(self) -> Request:
        """What is asked of every trained model."""
        return Request(self.target_class, self.n_samples)

    @property
    def target(self) -> str:
        """What texts call the target."""
        return self.benchmark.space.targets.title(self.target_class)

    def named_judges(self) -> tuple[str, ...]:
        """Who scores: the space's own judge unless others are named."""
        return self.judges or (default_judge(self.benchmark),)

    def check(self) -> TrainingSet:
        """Check every value before anything is trained, and load the training set.

        Raises:
            InputError: a value that cannot be used.
        """
        space = self.benchmark.space
        space.targets.check(self.target_class)
        space.require_table("a comparison", "score samples with `elpa score --energy`")
        if not self.models:
            raise InputError(f"name at least one model of {', '.join(MODELS)}")
        if not self.seeds:
            raise InputError("the number of seeds must be at least 1, got 0")
        check_n_samples(self.n_samples)
        presets = {preset for name in self.models for preset in model_spec(name).presets}
        if self.preset not in {*PRESETS, *presets}:
            raise InputError(f"unknown preset {self.preset!r}: choose from {', '.join(PRESETS)}")
        self._check_judges()
        for name in self.models:
            if is_agent_file(name):
                load_agent(
                    name,
                    target_class=self.target_class,
                    masking=self.masking,
                    trust=self.trust,
                    space=space,
                )
            self.hyperparameters(name)
        names = [model_spec(name).name for name in self.models]
        if len(set(names)) < len(names):
            raise InputError(f"models must differ in name, got {', '.join(names)}")
        check_device(self.device)
        return self._checked_training_set()

    def _check_judges(self) -> None:
        """Raise InputError if there is no such judge, or the target is empty under one."""
        for judge in self.named_judges():
            if load_judge(judge, self.space).class_counts[self.target_class] == 0:
                raise InputError(
                    f"no energy of the judge {judge} reaches {self.target}: choose another target"
                )

    def _checked_training_set(self) -> TrainingSet:
        """What the runs of the first seed train on; InputError if it lacks what a model needs."""
        training_set = self.training_set(self.seeds[0])
        if not (training_set.energy_class == self.target_class).any() and self.subset is None:
            needy = [name for name in self.models if model_spec(name).needs_class]
            if needy:
                raise InputError(
                    f"{needy[0]} needs rows of {self.target}, and the training set "
                    f"{training_set.name} has none: leave it out, or aim at another class"
                )
        return training_set

    def hyperparameters(self, model: str) -> Preset | None:
        """Hyperparameters of a model under the plan's preset; None of one that has none.

        Raises:
            InputError: the model has presets, but not this one.
        """
        return hyperparameters(model, self.preset)

    def training_set(self, seed: int) -> TrainingSet:
        """Load what the runs with a seed train on."""
        return load_training_set(
            self.data or None, space=self.space, augment=self.augment, subset=self.subset, seed=seed
        )

    def training_sets(self) -> dict[int, TrainingSet]:
        """What the runs of every seed train on."""
        first = self.training_set(self.seeds[0])
        return {seed: first if self.subset is None else self.training_set(seed) for seed in self.seeds}

    def runs(self, training_sets: Mapping[int, TrainingSet]) -> Iterator[Run]:
        """Every run in the order of the plan; exact solutions once for every judge."""
        for model in self.models:
            for judge in self.named_judges() if model_spec(model).reference else ("",):
                for seed in self.seeds:
                    yield self.run(model, seed, training_sets[seed], judge)

    def run(self, model: str, seed: int, training_set: TrainingSet, judge: str = "") -> Run:
        """One run of the plan."""
        chosen = self.hyperparameters(model)
        identity = {
            "model": model_spec(model).name,
            "config": None if chosen is None else config_record(chosen.config),
            "training_set": training_set.sha256,
            "target_class": None if model_spec(model).every_class else self.target_class,
            "seed": seed,
            "device": self.device,
            "versions": {name: version(name) for name in _MATTER},
        }
        if is_agent_file(model):
            identity |= {"file": sha256(Path(model).read_bytes()), "masking": self.masking}
        if judge:
            identity["judge"] = load_judge(judge, self.space).sha256
        return Run(
            model=model,
            preset=self.preset,
            seed=seed,
            target_class=self.target_class,
            device=self.device,
            judge=judge,
            space=self.space,
            masking=self.masking,
            trust=self.trust,
            identity=identity,
        )


def hyperparameters(model: str, preset: str) -> Preset | None:
    """Hyperparameters of a model; None of one that has none.

    Raises:
        InputError: the model has presets, but not this one.
    """
    presets = model_spec(model).presets
    if presets and preset == SMALL_PRESET and preset not in presets and DEFAULT_PRESET in presets:
        return presets[DEFAULT_PRESET]  # a model of the user's own need not know of smaller data
    if presets and preset not in presets:
        raise InputError(
            f"{model_spec(model).name} has no preset {preset!r}: choose from {', '.join(presets)}"
        )
    return presets.get(preset)


def config_record(config: Any) -> dict[str, Any]:
    """Hyperparameters as they stand in a record.

    Raises:
        InputError: they are no dataclass.
    """
    if not is_dataclass(config) or isinstance(config, type):
        raise InputError(f"hyperparameters must be a dataclass, got {config!r}")
    return plain(asdict(config))  # type: ignore[no-any-return]


def plain(value: Any) -> Any:
    """A value in the types that JSON gives back.

    Raises:
        InputError: it holds something that JSON does not know.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, str | bool | int | float | None):
        return value
    if isinstance(value, Sequence):
        return [plain(entry) for entry in value]
    raise InputError(f"hyperparameters must be numbers, words, and lists of these, got {value!r}")


def is_agent_file(model: str) -> bool:
    """Whether a model of a plan is an agent's file."""
    return model.endswith(".zip")


def check_device(device: str) -> None:
    """Raise InputError if torch cannot use `device` here."""
    import torch as th

    try:
        th.zeros(1, device=device).cpu()
    except Exception as error:
        raise InputError(f"--device {device} is not available here: use --device cpu") from error
