"""Any trained Stable-Baselines3 agent as a `Sampler`."""

from __future__ import annotations

import functools
import importlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from agents.dqn import CHECKPOINT_FORMAT, BoltzmannDQN
from agents.generators import preserved_generators
from agents.sampling import sample_policy
from elpa_env.backups import boltzmann, check_beta
from elpa_env.classes import N_CLASSES, check_target_class
from elpa_env.errors import InputError, check_choice
from elpa_env.files import atomic_path
from elpa_env.rules import N_ACTIONS, Masking, action_masks, check_masking, observe
from elpa_env.space import N_STEPS
from elpa_env.tree import digits_to_codes, policy_distribution, tabulate

Mode = Literal["stochastic", "greedy", "boltzmann"]

DEFAULT_BETA: Final = 5.0


class AgentSampler:
    """Draws compositions from any trained SB3 or sb3-contrib agent for `Elpasolite-v0`.

    An agent trained with `target_class=None` draws for every class, any other for its own alone.

    Args:
        model: the agent: PPO, A2C, DQN, QRDQN, MaskablePPO, `BoltzmannDQN`, or one of their kind.
        mode: "stochastic" draws from the policy's own distribution, "greedy" takes the best action,
            "boltzmann" draws with probability proportional to exp(β Q), eq. 16; by default
            "boltzmann" for agents with Q-values and "stochastic" for others.
        beta: inverse temperature β; a `BoltzmannDQN`'s own by default, 5 otherwise.
        masking: what is open, as in the environment; None = everything. By default a
            `BoltzmannDQN`'s own; for a MaskablePPO that of the environment it still holds, else
            "digits"; None for other agents.
        target_class: class that the agent was trained for, if it does not know its own as a
            `BoltzmannDQN` does.
        name: what to call it; "dqn" or the name of its algorithm by default.

    Raises:
        InputError: an agent for another environment, or a mode that it does not have.
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        *,
        mode: Mode | None = None,
        beta: float | None = None,
        masking: Masking | Literal["own"] | None = "own",
        target_class: int | None = None,
        name: str | None = None,
    ) -> None:
        shape = getattr(model.observation_space, "shape", None)
        any_class = shape == (N_STEPS + N_CLASSES,)
        discrete = isinstance(model.action_space, spaces.Discrete) and model.action_space.n == N_ACTIONS
        if not discrete or not (any_class or shape == (N_STEPS,)):
            raise InputError(
                f"the agent must be trained on Elpasolite-v0, got one for {model.observation_space}"
            )
        maskable = type(model).__name__ == "MaskablePPO"
        has_q = not isinstance(model.policy, ActorCriticPolicy) and not maskable
        self.mode: Mode = mode or ("boltzmann" if has_q else "stochastic")
        check_choice("mode", self.mode, get_args(Mode))
        if self.mode == "boltzmann" and not has_q:
            raise InputError(f"a {type(model).__name__} has no Q-values: use stochastic or greedy")
        if self.mode == "stochastic" and has_q:
            raise InputError(f"a {type(model).__name__} has no distribution: use boltzmann or greedy")
        if beta is not None and self.mode != "boltzmann":
            raise InputError(f"beta is for mode boltzmann, not for {self.mode}: leave it out")
        if beta is not None:
            check_beta(beta)
        default = getattr(model, "masking", _masking_of(model) if maskable else None)
        chosen = default if masking == "own" else masking
        own = getattr(model, "target_class", None)
        self.model = model
        self.name = name or ("dqn" if isinstance(model, BoltzmannDQN) else type(model).__name__)
        self.beta = beta if beta is not None else getattr(model, "beta", DEFAULT_BETA)
        self.masking: Masking | None = None if chosen is None else check_masking(chosen)
        self.target_class = None if any_class else own or target_class
        if self.target_class is None and not any_class:
            raise InputError("name the class that the agent was trained for: target_class 1..10")
        self._logits = _logits_of(model, has_q)

    def save(self, path: str | Path) -> None:
        """Write the agent as SB3 does, all or nothing."""
        with atomic_path(path) as temporary:
            self.model.save(temporary)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        algorithm: str | None = None,
        device: str = "cpu",
        **kwargs: Any,
    ) -> AgentSampler:
        """Read an agent that SB3 saved.

        An SB3 archive may hold pickled objects: load only files that you trust.

        Args:
            path: the archive.
            algorithm: "BoltzmannDQN", "DQN", "PPO", "A2C", one of sb3_contrib's such as "MaskablePPO",
                or ``module:Class``; guessed from the archive by default.
            device: a torch device.
            **kwargs: of the constructor.

        Raises:
            InputError: the file is missing, damaged, or holds no agent for this environment.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"no agent {path}: train one with `elpa train dqn`")
        kind = _algorithm(algorithm or _guess_algorithm(path))
        try:
            with preserved_generators():
                model = kind.load(path, device=device)
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            raise InputError(f"{path} holds no {kind.__name__}, or is damaged ({reason})") from error
        found = getattr(model, "checkpoint_format", CHECKPOINT_FORMAT)
        if found != CHECKPOINT_FORMAT:
            raise InputError(
                f"{path} has format {found}, this version reads {CHECKPOINT_FORMAT}: train the agent again"
            )
        return cls(model, **kwargs)

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 8) digits; see `elpa_env.Sampler`."""
        self.check_class(target_class)
        return sample_policy(
            lambda digits: self.probabilities(digits, target_class=target_class), n, seed=seed
        )

    def distribution(self, target_class: int) -> NDArray[np.float64]:
        """(39^4,) probability of every composition, exactly; see `elpa_env.ExactSampler`."""
        self.check_class(target_class)
        return policy_distribution(lambda _, digits: self.probabilities(digits, target_class=target_class))

    def sweep(self, target_class: int, betas: Iterable[float]) -> Iterator[NDArray[np.float64]]:
        """Exact distributions at several β for little more than the price of one.

        The Q-values of all states are computed once, when the first distribution is asked for.

        Args:
            target_class: 1..10.
            betas: values of β, each at least 0; inf = greedy.

        Yields:
            (39^4,) what `distribution` would give at each β, in their order.

        Raises:
            InputError: an agent without Q-values or for another class, or a β below 0.
        """
        self.check_sweep(target_class)
        levels = tabulate(lambda _, digits: self._scores(digits, target_class))
        for beta in betas:
            policy = functools.partial(_boltzmann_level, levels, check_beta(beta))
            yield policy_distribution(policy)

    def check_sweep(self, target_class: int) -> None:
        """Raise InputError if there is no β to vary, or the agent was trained for another class."""
        self.check_class(target_class)
        if self.mode != "boltzmann":
            raise InputError(
                f"{self.name} has no beta to vary: it takes an agent with Q-values in mode boltzmann, "
                f"not a {type(self.model).__name__} in mode {self.mode}"
            )

    def check_class(self, target_class: int) -> None:
        """Raise InputError if the agent was trained for another class."""
        check_target_class(target_class)
        if self.target_class not in (None, target_class):
            raise InputError(
                f"this agent was trained for class {self.target_class}, not {target_class}: "
                f"train another with --target-class {target_class}"
            )

    def probabilities(self, digits: NDArray[np.int8], *, target_class: int) -> NDArray[np.float64]:
        """(m, 8) action probabilities of (m, 8) unfinished states."""
        beta = {"stochastic": 1.0, "greedy": np.inf, "boltzmann": self.beta}[self.mode]
        return boltzmann(self._scores(digits, target_class).astype(np.float64), beta)

    def _scores(self, digits: NDArray[np.int8], target_class: int) -> NDArray[np.float32]:
        """(m, 8) Q-values or logarithms of probabilities, -inf where an action is closed."""
        observation = observe(
            np.ascontiguousarray(digits), target_class if self.target_class is None else None
        )
        with th.no_grad():
            batch = th.as_tensor(observation, device=self.model.device)
            scores: NDArray[np.float32] = self._logits(batch).cpu().numpy()
        if self.masking is not None:
            scores = np.where(action_masks(digits, self.masking), scores, np.float32(-np.inf))
        return scores


def _boltzmann_level(
    levels: Sequence[NDArray[np.float32]], beta: float, step: int, digits: NDArray[np.int8]
) -> NDArray[np.float64]:
    """(m, 8) probabilities of states at a step from the Q-values of all."""
    return boltzmann(levels[step][digits_to_codes(step, digits)].astype(np.float64), beta)


def _masking_of(model: BaseAlgorithm) -> Masking:
    """The masking of the environment that a freshly trained agent still holds; else "digits"."""
    env = model.get_env()
    if env is not None and env.has_attr("settings"):
        return check_masking(env.get_attr("settings")[0].masking)
    return "digits"


def _logits_of(model: BaseAlgorithm, has_q: bool) -> Callable[[th.Tensor], th.Tensor]:
    """(m, 8) Q-values, or logarithms of the policy's probabilities, of a batch of observations."""
    policy: Any = model.policy
    policy.set_training_mode(False)
    if not has_q:
        return lambda batch: policy.get_distribution(batch).distribution.logits
    if hasattr(policy, "quantile_net"):
        return lambda batch: policy.quantile_net(batch).mean(dim=1)
    if hasattr(policy, "q_net"):
        return lambda batch: policy.q_net(batch)
    raise InputError(f"cannot read Q-values or probabilities off a {type(model).__name__}")


def _algorithm(name: str) -> type[BaseAlgorithm]:
    """The class of an algorithm, by its name or as ``module:Class``.

    Raises:
        InputError: no such algorithm.
    """
    known: dict[str, type[BaseAlgorithm]] = {kind.__name__: kind for kind in (BoltzmannDQN, DQN, PPO, A2C)}
    if name in known:
        return known[name]
    module, _, attribute = name.partition(":") if ":" in name else ("sb3_contrib", "", name)
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InputError(
            f"unknown algorithm {name!r}: {', '.join(known)}, one of sb3_contrib's, or module:Class"
        ) from error
    if not (isinstance(found, type) and issubclass(found, BaseAlgorithm)):
        raise InputError(f"{name} is no Stable-Baselines3 algorithm")
    return found


def _guess_algorithm(path: Path) -> str:
    """Which algorithm wrote an archive, from what it says of its policy."""
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
        module = str(data["policy_class"]["__module__"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no agent that Stable-Baselines3 saved, or is damaged") from error
    if "checkpoint_format" in data:
        return BoltzmannDQN.__name__
    for part, name in (("maskable", "MaskablePPO"), ("qrdqn", "QRDQN"), ("dqn", "DQN")):
        if part in module:
            return name
    return "PPO" if "clip_range" in data else "A2C"
