"""What conditional generative models share: seeds, files, what they saw, and drawing from latent vectors."""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar

import numpy as np
import torch as th
from numpy.typing import NDArray
from torch import Tensor, nn

from elpa_env.checkpoint import restore
from elpa_env.errors import InputError
from elpa_env.sampler import Access, Preset, Progress, chosen_by
from elpa_env.seeds import spawn, torch_seed
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.training import TrainingSet
from generative.checkpoint import checked_content, load_checkpoint, save_checkpoint

_CHUNK: Final = 512
"""Samples that are decoded at once: few enough for what a layer makes of them to stay in the cache."""
_BLOCK: Final = 64 * _CHUNK
"""Samples whose latent vectors are drawn at once; a thread decodes a block."""


class _LatentConfig(Protocol):
    """What the hyperparameters of every model with latent vectors have."""

    @property
    def latent_dim(self) -> int:
        """Entries of the latent vector."""
        ...


Config = TypeVar("Config")
LatentConfig = TypeVar("LatentConfig", bound=_LatentConfig)


@dataclass(frozen=True)
class Streams:
    """One generator for each thing in the training of a model that draws; no two share a stream."""

    batches: np.random.Generator
    noise: th.Generator


class ConditionalModel(nn.Module, abc.ABC, Generic[Config]):
    """Networks that make compositions of a class; one training serves every class.

    A model is one file: it makes its networks in `_build`, learns in `_train` and draws in `sample`.

    Args:
        config: hyperparameters; the defaults of `config_type`.
        space: of the compositions.
        seed: of the weights and of everything random in `fit`.
        device: where to train and sample.

    Attributes:
        name: of the kind of model, in checkpoints and tables.
        presets: hyperparameters that ship with it.
        trained_on: record of the training set, see `TrainingSet.record`; None before training.
        access: what it saw, see `elpa_env.Sampler`.
    """

    name: str
    config_type: ClassVar[type[Any]]
    presets: ClassVar[Mapping[str, Preset]]

    def __init__(
        self,
        config: Config | None = None,
        *,
        space: Space = ELPASOLITE_SPACE,
        seed: int = 0,
        device: th.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.config: Config = self.config_type() if config is None else config
        if not isinstance(space, Space):
            raise InputError(
                f"space must be an elpa_env.Space, got {space!r}: take elpa_env.load_space(...).space"
            )
        self.space = space
        self.n_digits, self.n_classes = space.n_steps, space.targets.n
        self.seed = seed
        self.device = th.device(device)
        self.trained_on: dict[str, Any] | None = None
        self.access = self._access(labels=0)
        self._start()

    @abc.abstractmethod
    def _build(self, generator: th.Generator) -> None:
        """Make the networks, with weights drawn from `generator`, as attributes."""

    @abc.abstractmethod
    def _train(self, training_set: TrainingSet, streams: Streams, progress: Progress | None) -> None:
        """Train the networks on a training set."""

    @abc.abstractmethod
    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 2 S) digits; see `elpa_env.Sampler`."""

    def fit(self, training_set: TrainingSet, progress: Progress | None = None) -> Self:
        """Train from the start on class-balanced batches of a training set; an earlier training is forgotten.

        Args:
            training_set: all that the model sees.
            progress: called with updates made and updates to make.

        Raises:
            InputError: the training set has no rows, or is of another space.
        """
        self.space.check_same(training_set.space, "the training set")
        self._train(training_set, self._start(), progress)
        self.trained_on = training_set.record()
        self.access = self._access(labels=training_set.n_labels)
        return self

    def _start(self) -> Streams:
        """Make the networks anew; return the streams of their training."""
        weights, batches, noise = spawn(self.seed, 3)
        self._build(th.Generator().manual_seed(torch_seed(weights)))
        self.to(self.device)
        return Streams(np.random.default_rng(batches), th.Generator().manual_seed(torch_seed(noise)))

    def _access(self, *, labels: int) -> Access:
        return Access(
            "offline", labels=labels, chosen_by=chosen_by(self.config, self.presets.values(), self.space)
        )

    def save(self, path: str | Path) -> None:
        """Write a checkpoint, all or nothing."""
        save_checkpoint(
            path,
            model=self.name,
            config=self.config,
            space=self.space,
            state={name: network.state_dict() for name, network in self.named_children()},
            trained_on=self.trained_on,
            access=self.access,
        )

    @classmethod
    def load(cls, path: str | Path, *, device: th.device | str = "cpu") -> Self:
        """Read a checkpoint.

        Raises:
            InputError: it is none, is damaged, or is not of this kind of model.
        """
        content = load_checkpoint(path, model=cls.name)
        with checked_content(path):
            config = restore(cls.config_type, content["config"])
            with th.device("meta"):  # weights take no memory before they are known to fit
                model = cls(config, space=content["space"], device="meta")
            networks = dict(model.named_children())
            if set(networks) != set(content["state"]):
                raise InputError(f"it must hold the networks {', '.join(networks)}")
            for name, network in networks.items():
                network.load_state_dict(content["state"][name], assign=True)
        model.trained_on = content["trained_on"]
        model.access = content["access"]
        model.device = th.device(device)
        return model.to(model.device)


class LatentModel(ConditionalModel[LatentConfig]):
    """A network that makes compositions from standard normal latent vectors, which it decodes in `_decode`.

    See `ConditionalModel` for its arguments.
    """

    @abc.abstractmethod
    def _decode(self, inputs: Tensor) -> Tensor:
        """(n, 2 S) vectors of (n, latent_dim + k) rows [latent vector, one-hot class]."""

    @th.no_grad()
    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 2 S) digits; see `elpa_env.Sampler`.

        As many threads as torch has decode blocks of samples side by side; their number changes nothing.
        """
        target_class = self.space.targets.check(target_class)
        # the root of the seed: no stream of a training, which are its children
        generator = th.Generator().manual_seed(torch_seed(np.random.SeedSequence(seed)))
        digits = np.empty((n, self.n_digits), dtype=np.int8)
        blocks = (digits[start : start + _BLOCK] for start in range(0, n, _BLOCK))
        threads = th.get_num_threads() if self.device.type == "cpu" else 1

        def fill(block: NDArray[np.int8], latent: Tensor) -> None:
            with th.inference_mode():
                self._fill(block, latent, target_class)

        if threads == 1 or n <= _BLOCK:
            for block in blocks:
                fill(block, self._latent(len(block), generator))
            return digits
        th.set_num_threads(1)  # of each of the threads below
        try:
            with ThreadPoolExecutor(threads) as executor:
                at_work: deque[Future[None]] = deque()
                for block in blocks:
                    if len(at_work) > threads:
                        at_work.popleft().result()
                    at_work.append(executor.submit(fill, block, self._latent(len(block), generator)))
                for future in at_work:
                    future.result()
        finally:
            th.set_num_threads(threads)
        return digits

    def _latent(self, n: int, generator: th.Generator) -> Tensor:
        """(n, latent_dim) standard normal numbers."""
        return th.randn(n, self.config.latent_dim, generator=generator)

    def _fill(self, block: NDArray[np.int8], latent: Tensor, target_class: int) -> None:
        """Decode (n, latent_dim) vectors into (n, 2 S) digits."""
        latent_dim = self.config.latent_dim
        inputs = th.zeros(min(len(block), _CHUNK), latent_dim + self.n_classes, device=self.device)
        inputs[:, latent_dim + target_class - 1] = 1
        for start in range(0, len(block), _CHUNK):
            rows = inputs[: len(block) - start]
            rows[:, :latent_dim] = latent[start : start + _CHUNK]
            block[start : start + _CHUNK] = self.space.decode(self._decode(rows).cpu().numpy())
