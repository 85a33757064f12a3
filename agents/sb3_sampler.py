"""Any trained Stable-Baselines3 agent as a `Sampler`."""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import sb3_contrib
import torch as th
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy

from agents.checkpoint import check_trust, one_line, written_by_sb3
from agents.dqn import BoltzmannDQN
from agents.generators import preserved_generators
from agents.pretrained import PRETRAINED, pretrained_path
from agents.vec_env import OfflineEnv
from elpa_env.backups import boltzmann, check_beta
from elpa_env.errors import InputError, check_choice
from elpa_env.files import atomic_path
from elpa_env.plugins import import_attribute
from elpa_env.rules import Masking, action_masks, check_masking, observe
from elpa_env.sampler import Access, access_of
from elpa_env.sampling import sample_policy
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.tree import Tree

Mode = Literal["stochastic", "greedy", "boltzmann"]

DEFAULT_BETA: Final = 5.0


class AgentSampler:
    """Draws compositions from any trained SB3 or sb3-contrib agent for this project's environments.

    An agent trained with `target_class=None` draws for every class, any other for its own alone.

    Args:
        model: the agent: PPO, A2C, TRPO, DQN, QRDQN, MaskablePPO, `BoltzmannDQN`, or a subclass of these.
        mode: "stochastic" draws from the policy's own distribution, "greedy" takes the best action,
            "boltzmann" draws with probability proportional to exp(β Q), eq. 16; by default
            "boltzmann" for agents with Q-values and "stochastic" for others.
        beta: inverse temperature β; a `BoltzmannDQN`'s own by default, 5 otherwise.
        masking: what is open, as in the environment; None = everything. By default a
            `BoltzmannDQN`'s own; for a MaskablePPO that of the environment it still holds, else
            "digits"; None for other agents.
        target_class: class that the agent was trained for, if it does not know its own as a
            `BoltzmannDQN` does.
        space: of the compositions; by default that of the agent or of the environment it still holds, else
            elpasolite's.
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
        space: Space | None = None,
        name: str | None = None,
    ) -> None:
        self.space = _space_of(model) if space is None else space
        self.exact = self.space.solvable
        any_class = check_spaces(model, self.space)
        has_q = check_kind(model)
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
        maskable = isinstance(model, MaskablePPO)
        default = getattr(model, "masking", _masking_of(model) if maskable else None)
        chosen = default if masking == "own" else masking
        own = getattr(model, "target_class", None)
        self.model = model
        self.name = name or ("dqn" if isinstance(model, BoltzmannDQN) else type(model).__name__)
        self.beta = beta if beta is not None else getattr(model, "beta", DEFAULT_BETA)
        self.masking: Masking | None = None if chosen is None else check_masking(chosen)
        self.target_class = None if any_class else own or target_class
        if self.target_class is None and not any_class:
            raise InputError(
                f"name the class that the agent was trained for: target_class 1..{self.space.targets.n}"
            )
        self._logits = _logits_of(model, has_q)

    def save(self, path: str | Path, *, slim: bool = False) -> None:
        """Write the agent, all or nothing: a `BoltzmannDQN` without code, any other as SB3 does.

        Args:
            path: file to write.
            slim: of a `BoltzmannDQN`, see there.

        Raises:
            InputError: `slim`, but not for a `BoltzmannDQN`; or what `BoltzmannDQN.save` raises.
        """
        model = self.model
        if slim and not isinstance(model, BoltzmannDQN):
            raise InputError(f"slim is for a BoltzmannDQN, not for a {type(model).__name__}: leave it out")
        with atomic_path(path) as temporary:
            if isinstance(model, BoltzmannDQN):
                model.save(temporary, slim=slim)
            else:
                model.save(temporary)

    @property
    def access(self) -> Access:
        """What the agent saw; unknown of one that does not say."""
        return access_of(self.model)

    @classmethod
    def pretrained(cls, *, device: str = "cpu") -> AgentSampler:
        """The agent that ships: it draws elpasolites of every class without any training.

        It acted against a reward model of the DFT table of Faber et al. 2016 and never saw the landscape;
        ``docs/pretrained.md`` is its model card.

        Args:
            device: a torch device.
        """
        return cls.load(pretrained_path(), device=device, name=PRETRAINED)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        algorithm: str | None = None,
        device: str = "cpu",
        trust: bool = False,
        mode: Mode | None = None,
        beta: float | None = None,
        masking: Masking | Literal["own"] | None = "own",
        target_class: int | None = None,
        space: Space | None = None,
        name: str | None = None,
    ) -> AgentSampler:
        """Read an agent that this project or SB3 saved.

        Args:
            path: the archive.
            algorithm: "BoltzmannDQN", "DQN", "PPO", "A2C", one of sb3_contrib's such as "MaskablePPO",
                or ``module:Class``; guessed from the archive by default.
            device: a torch device.
            trust: read an archive of SB3, which holds pickles and can run code. Our own agents hold none and
                need no trust.
            mode: of the sampler, as are all that follow.
            beta: see there.
            masking: see there.
            target_class: see there.
            space: see there; an agent that knows its own must be for this one.
            name: see there.

        Raises:
            InputError: the file is missing, damaged, not to be trusted, or holds no agent for this
                environment.
        """
        path = Path(path)
        model: BaseAlgorithm
        if not written_by_sb3(path):
            if algorithm not in (None, BoltzmannDQN.__name__):
                raise InputError(f"{path} holds a {BoltzmannDQN.__name__}, not a {algorithm}")
            model = BoltzmannDQN.load(path, device=device)
            if space is not None:
                space.check_same(model.space, str(path))
        else:
            check_trust(path, trust)
            kind = _algorithm(algorithm or _guess_algorithm(path))
            with preserved_generators(), one_line(path):
                if issubclass(kind, BoltzmannDQN):
                    model = kind.load(path, device=device, trust=True)
                else:
                    model = kind.load(path, device=device)
            if space is not None and isinstance(model, BoltzmannDQN):
                space.check_same(model.space, str(path))
        how: dict[str, Any] = {"mode": mode, "beta": beta, "masking": masking, "target_class": target_class}
        return cls(model, space=space, name=name, **how)

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 2 S) digits; see `elpa_env.Sampler`."""
        self.check_class(target_class)
        return sample_policy(
            self.space, lambda digits: self.probabilities(digits, target_class=target_class), n, seed=seed
        )

    def distribution(self, target_class: int) -> NDArray[np.float64]:
        """(n_table,) probability of every composition, exactly; see `elpa_env.ExactSampler`."""
        self.check_class(target_class)
        return self.space.tree.policy_distribution(
            lambda _, digits: self.probabilities(digits, target_class=target_class)
        )

    def sweep(self, target_class: int, betas: Iterable[float]) -> Iterator[NDArray[np.float64]]:
        """Exact distributions at several β for little more than the price of one.

        The Q-values of all states are computed once, when the first distribution is asked for.

        Args:
            target_class: 1..k.
            betas: values of β, each at least 0; inf = greedy.

        Yields:
            (n_table,) what `distribution` would give at each β, in their order.

        Raises:
            InputError: an agent without Q-values or for another class, or a β below 0.
        """
        self.check_sweep(target_class)
        tree = self.space.tree
        levels = tree.tabulate(lambda _, digits: self._scores(digits, target_class))
        for beta in betas:
            policy = functools.partial(_boltzmann_level, tree, levels, check_beta(beta))
            yield tree.policy_distribution(policy)

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
        target_class = self.space.targets.check(target_class)
        if self.target_class not in (None, target_class):
            raise InputError(
                f"this agent was trained for class {self.target_class}, not {target_class}: "
                f"train another with --target-class {target_class}"
            )

    def probabilities(self, digits: NDArray[np.int8], *, target_class: int) -> NDArray[np.float64]:
        """(m, n_actions) action probabilities of (m, 2 S) unfinished states."""
        beta = {"stochastic": 1.0, "greedy": np.inf, "boltzmann": self.beta}[self.mode]
        return boltzmann(self._scores(digits, target_class).astype(np.float64), beta)

    def _scores(self, digits: NDArray[np.int8], target_class: int) -> NDArray[np.float32]:
        """(m, n_actions) Q-values or logarithms of probabilities, -inf where an action is closed."""
        observation = observe(
            self.space, np.ascontiguousarray(digits), target_class if self.target_class is None else None
        )
        with th.no_grad():
            batch = th.as_tensor(observation, device=self.model.device)
            scores: NDArray[np.float32] = self._logits(batch).cpu().numpy()
        if self.masking is not None:
            scores = np.where(action_masks(self.space, digits, self.masking), scores, np.float32(-np.inf))
        return scores


def _boltzmann_level(
    tree: Tree, levels: Sequence[NDArray[np.float32]], beta: float, step: int, digits: NDArray[np.int8]
) -> NDArray[np.float64]:
    """(m, n_actions) probabilities of states at a step from the Q-values of all."""
    return boltzmann(levels[step][tree.digits_to_codes(step, digits)].astype(np.float64), beta)


def _masking_of(model: BaseAlgorithm) -> Masking:
    """The masking of the environment that a freshly trained agent still holds; else "digits"."""
    env = model.get_env()
    if env is not None and env.has_attr("settings"):
        return check_masking(env.get_attr("settings")[0].masking)
    return "digits"


def _space_of(model: BaseAlgorithm) -> Space:
    """The space that an agent, or the environment that it still holds, is for; elpasolite's otherwise."""
    space = getattr(model, "space", None)
    env = model.get_env()
    if not isinstance(space, Space) and env is not None and env.has_attr("settings"):
        space = getattr(env.get_attr("settings")[0], "space", None)
    return space if isinstance(space, Space) else ELPASOLITE_SPACE


def check_spaces(model: BaseAlgorithm, space: Space) -> bool:
    """Find out whether an agent was made for the environment of a space.

    Returns:
        Whether its observation names the class of the episode.

    Raises:
        InputError: its observations or actions are not those of the environment.
    """
    for any_class in (False, True):
        env = OfflineEnv(space, any_class=any_class)
        if model.observation_space == env.observation_space and model.action_space == env.action_space:
            return any_class
    ours = OfflineEnv(space)
    raise InputError(
        f"the agent must be trained on the environment of {space.name}, with {ours.observation_space} and "
        f"{ours.action_space}, "
        f"got one for {model.observation_space} and {model.action_space}"
    )


def check_kind(model: BaseAlgorithm) -> bool:
    """Find out whether an agent has Q-values; the others have a distribution over actions.

    Raises:
        InputError: it has neither, or a memory.
    """
    if isinstance(model, BoltzmannDQN) or isinstance(model.policy, DQNPolicy | QRDQNPolicy):
        return True
    memory = isinstance(model.policy, RecurrentActorCriticPolicy)
    if isinstance(model.policy, ActorCriticPolicy | MaskableActorCriticPolicy) and not memory:
        return False
    why = "it remembers earlier steps" if memory else "it has neither Q-values nor a distribution"
    raise InputError(
        f"a {type(model).__name__} is not supported, since {why}: use PPO, A2C, TRPO, MaskablePPO, DQN, "
        f"QRDQN or BoltzmannDQN, or a subclass of these"
    )


def _logits_of(model: BaseAlgorithm, has_q: bool) -> Callable[[th.Tensor], th.Tensor]:
    """(m, n_actions) Q-values, or logarithms of the policy's probabilities, of a batch of observations."""
    policy: Any = model.policy
    policy.set_training_mode(False)
    if not has_q:
        return lambda batch: policy.get_distribution(batch).distribution.logits
    if isinstance(policy, QRDQNPolicy):
        return lambda batch: policy.quantile_net(batch).mean(dim=1)
    if isinstance(model, BoltzmannDQN):
        return lambda batch: model.sampled_q_net(batch)
    return lambda batch: policy.q_net(batch)


def _algorithm(name: str) -> type[BaseAlgorithm]:
    """The class of an algorithm, by its name or as ``module:Class``.

    Raises:
        InputError: no such algorithm.
    """
    known: dict[str, type[BaseAlgorithm]] = {kind.__name__: kind for kind in (BoltzmannDQN, DQN, PPO, A2C)}
    if name in known:
        return known[name]
    found = import_attribute(name) if ":" in name else getattr(sb3_contrib, name, None)
    if found is None:
        raise InputError(
            f"unknown algorithm {name!r}: {', '.join(known)}, one of sb3_contrib's, or module:Class"
        )
    if not (isinstance(found, type) and issubclass(found, BaseAlgorithm)):
        raise InputError(f"{name} is no Stable-Baselines3 algorithm")
    return found


def _guess_algorithm(path: Path) -> str:
    """Which algorithm wrote an archive, from what it says of its policy."""
    with one_line(path), zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
        module = str(data["policy_class"]["__module__"])
    if "conservative" in data:
        return BoltzmannDQN.__name__
    for part, name in (("maskable", "MaskablePPO"), ("qrdqn", "QRDQN"), ("dqn", "DQN")):
        if part in module:
            return name
    return "PPO" if "clip_range" in data else "A2C"
