"""The environments: build a composition digit by digit for a sparse reward.

`CompositionEnv` does it for any prototype; `ElpasoliteEnv` and `PerovskiteEnv` are it with the prototypes,
the targets and the energies that ship.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from elpa_env import catalogue, render, rules, states
from elpa_env.classes import Targets
from elpa_env.errors import InputError, check_choice
from elpa_env.prototype import Prototype
from elpa_env.rules import Masking, Outcome, Reward
from elpa_env.space import ELPASOLITE_SPACE, Space, make_space
from elpa_env.table import EnergyModel, Table

RENDER_MODES = ("ansi", "rgb_array")
_ONE = np.uint64(1)
Target = int | str | Sequence[float] | Mapping[str, Sequence[float]] | Targets | None
"""What `Composition-v0` takes as target: see `resolve_target`."""


@dataclass(frozen=True)
class Settings:
    """The arguments of the environment, checked; single and vector environment share them."""

    space: Space
    target_class: int | None
    energy_model: EnergyModel
    reward: Reward | None
    masking: Masking
    render_mode: str | None

    @classmethod
    def check(
        cls,
        space: Space,
        target_class: int | str | None,
        energy_model: EnergyModel | None,
        reward: Reward | None,
        masking: str,
        render_mode: str | None,
    ) -> Settings:
        """Check every argument.

        Raises:
            InputError: one that cannot be used; the message names it and the way out.
        """
        if energy_model is not None and not callable(energy_model):
            raise InputError(
                f"energy_model must be callable on atomic numbers (n, {space.n_sites}), got {energy_model!r}"
            )
        if isinstance(energy_model, Table):
            space.check_same(energy_model.space, "energy_model")
        if reward is not None and not callable(reward):
            raise InputError(
                f"reward must be callable on numbers, energy, energy class and target class, got {reward!r}"
            )
        if render_mode is not None:
            check_choice("render_mode", render_mode, RENDER_MODES)
        target = None if target_class is None else space.targets.check(target_class)
        model = catalogue.reference(space) if energy_model is None else energy_model
        if isinstance(model, Table):
            wanted = range(1, space.targets.n + 1) if target is None else [target]
            empty = [c for c in wanted if model.class_counts[c] == 0]
            if empty:
                raise InputError(
                    f"no energy reaches {space.targets.title(empty[0])} "
                    f"({space.targets.interval(empty[0])}): choose another target"
                )
        return cls(space, target, model, reward, rules.check_masking(masking), render_mode)

    def observation_space(self) -> spaces.Space[NDArray[np.float32]]:
        """Of a single environment."""
        return observation_space(self.space, any_class=self.target_class is None)

    def action_space(self) -> spaces.Space[np.int64]:
        """Of a single environment."""
        return spaces.Discrete(self.space.n_actions)

    def observe(self, state: NDArray[np.int64], target: NDArray[np.int8]) -> NDArray[np.float32]:
        """(n, 2 S), or (n, 2 S + k) with the target class one-hot, observations."""
        scaled = self.space.states.observe(state)
        if self.target_class is not None:
            return scaled
        return np.concatenate([scaled, self.space.targets.one_hot(target)], axis=1)

    def targets(self, key: NDArray[np.uint64], episode: NDArray[np.uint64]) -> NDArray[np.int8]:
        """(n,) target classes of episodes."""
        if self.target_class is None:
            return rules.draw_targets(key, episode, self.space.targets.n)
        return np.full(len(key), self.target_class, dtype=np.int8)

    def finish(self, state: NDArray[np.int64], target: NDArray[np.int8]) -> Outcome:
        """Judge finished episodes."""
        index = self.space.states.index_of(state)
        return rules.finish(self.space, index, target, self.energy_model, self.reward)


def observation_space(space: Space, *, any_class: bool = False) -> spaces.Space[NDArray[np.float32]]:
    """What an agent sees in a space.

    Args:
        space: of the compositions.
        any_class: whether the observation names the class of the episode.
    """
    width = space.n_steps + space.targets.n * any_class
    box: Any = spaces.Box(-1.0, 1.0, (width,), np.float32)
    return box  # type: ignore[no-any-return]


def resolve_target(
    target: Target, targets: Targets | Mapping[str, Sequence[float]] | None
) -> tuple[Targets, Any]:
    """Targets and the one to aim at, from what `Composition-v0` takes.

    Args:
        target: a name or number of `targets`; None for one drawn for every episode. Without `targets` it
            states them itself: a pair (low, high) of energies, a mapping of names to pairs or `Targets`, of
            which the first is aimed at.
        targets: all that there are.

    Raises:
        InputError: there are none, or not that one.
    """
    if targets is not None:
        if not isinstance(targets, Mapping | Targets):
            raise InputError(f"targets must be a mapping of names to pairs (low, high), got {targets!r}")
        known = targets if isinstance(targets, Targets) else Targets.of(targets)
        if target is not None and not isinstance(target, int | str | np.integer):
            raise InputError(f"target must be one of {', '.join(known.names)}, got {target!r}")
        return known, target
    if isinstance(target, Targets):
        return target, 1
    if isinstance(target, Mapping):
        return Targets.of(target), Targets.of(target).check(next(iter(target), ""))
    if target is None or isinstance(target, int | str | np.integer):
        raise InputError(
            f"target must be a pair (low, high) of energies, or one of targets={{name: (low, high)}}, "
            f"got {target!r}"
        )
    return Targets.of({"target": target}), 1


def render_state(
    space: Space,
    mode: str,
    state: int,
    mask: NDArray[np.bool_],
    outcome: Outcome | None,
    target_class: int,
) -> str | NDArray[np.uint8]:
    """Text or a picture of one state.

    Args:
        space: of the compositions.
        mode: "ansi" or "rgb_array".
        state: see `elpa_env.states`.
        mask: (n_actions,).
        outcome: of that one episode, if it is over.
        target_class: 1..k.
    """
    ending = None
    if outcome is not None:
        (info,) = rules.describe(outcome)
        ending = render.Ending(
            info["formula"] or None,
            info.get("energy"),
            info["energy_class"],
            float(outcome.reward[0]),
            target_class,
        )
    draw = render.render_ansi if mode == "ansi" else render.render_rgb
    return draw(space, space.states.decode(np.array([state]))[0], mask, ending)


class CompositionEnv(gym.Env[NDArray[np.float32], np.int64]):
    """Build a composition of any prototype for a wanted target.

    ## Description
    The agent chooses the elements of the prototype's sites one after the other, each in two steps: its row of
    the periodic table, then its column. After two steps a site the composition is complete, and its energy
    decides the reward. `Elpasolite-v0` and `Perovskite-v0` are this environment with a prototype, targets and
    energies that ship.

    ## Action Space
    `Discrete(n)`, n the larger of the numbers of rows and columns of the periodic table that the prototype's
    elements take up. Action a sets the next digit to a + 1. The actions that the mask allows are called open.

    ## Observation Space
    `Box(-1, 1, (2 S,), float32)`: row and column of the S sites scaled by eq. 1 of Türk et al. (Chem. Mater.
    2022, 34, 9455); 0.0 = unset. With `target=None` an entry a target follows that names that of the episode,
    one-hot.

    ## Rewards
    Eq. 12 of the same: 0 until the composition is complete; then +1 if its energy is in the target, else -1. A
    composition that does not exist (no element at that row and column, none for that site, or one that stands
    twice where it must not) earns -1, as does an action that the mask forbids, and an energy that is not known.

    ## Starting State
    All digits unset.

    ## Episode End
    Terminates after the last step, or at once after an action that the mask forbids. Never truncates.

    ## Information
    `action_mask`, (n,) int8, 1 = open, after every reset and step; all ones once the composition is complete.
    When the episode ends also

    | key | what |
    | --- | --- |
    | `is_success` | whether the reward is positive |
    | `formula` | for example `SrTiO3`; empty where there is no such composition |
    | `numbers` | (S,) atomic numbers on the sites; zeros where there is no such composition |
    | `energy` | the quantity of the targets; the key is left out where it is not known |
    | `energy_class` | number of the target that it is in, from 1; 0 where it is in none |
    | `n_queries` | compositions that this environment has asked its energy model about so far |

    ## Arguments
    | argument | default | what |
    | --- | --- | --- |
    | `prototype` | "elpasolite" | an `elpa_env.Prototype`, or the name or TOML file of a space, see `elpa_env.load_space` |
    | `energy_model` | those of the space | any callable from atomic numbers (n, S) to energies (n,), or to several columns by name; called once a batch of finished compositions |
    | `target` | `None` | name or number of one of `targets`, `None` for one drawn every episode; without `targets` a pair (low, high) of energies |
    | `targets` | those of the space | `elpa_env.Targets`, or a mapping of names to pairs (low, high) |
    | `reward` | eq. 12 | any callable `reward(numbers, energy, energy_class, target_class)` to rewards (n,) |
    | `masking` | "digits" | which actions are open: "digits" rows and columns in range; "composition" only what at least one composition can follow |
    | `render_mode` | `None` | "ansi" or "rgb_array" |

    A reward of one's own is asked once a batch of episodes that made real compositions. Energy model and reward
    get arrays of their own, and must return real numbers that float32 can hold.

    Where sites are equivalent, a compound may be built in every order of them; the environment does not prefer
    one. A prototype may have more compositions than fit into memory: nothing here needs a table of them.

    ```python
    >>> import gymnasium as gym
    >>> import elpa_env
    >>> halides = elpa_env.Prototype(
    ...     "rock-salt", (elpa_env.Site("A", ("Li", "Na", "K")), elpa_env.Site("X", ("F", "Cl")))
    ... )
    >>> env = gym.make(
    ...     "Composition-v0",
    ...     prototype=halides,
    ...     energy_model=lambda numbers: numbers.sum(axis=1) / 10 - 4,
    ...     target=(-3, 0),
    ... )
    >>> observation, info = env.reset(seed=0)

    ```

    ## Version History
    - v0: initial version
    """  # noqa: E501 - a Markdown table keeps a row on one line

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by Gymnasium
        "render_modes": list(RENDER_MODES),
        "render_fps": 2,
    }

    def __init__(
        self,
        prototype: Prototype | Space | str | Path = ELPASOLITE_SPACE,
        *,
        energy_model: EnergyModel | None = None,
        target: Target = None,
        targets: Targets | Mapping[str, Sequence[float]] | None = None,
        reward: Reward | None = None,
        masking: Masking = "digits",
        render_mode: str | None = None,
    ) -> None:
        space, target_class, energy_model = resolve_space(prototype, target, targets, energy_model)
        self._set_up(Settings.check(space, target_class, energy_model, reward, masking, render_mode))

    def _set_up(self, settings: Settings) -> None:
        """Everything but the settings themselves."""
        self.settings = settings
        self.space = settings.space
        self.render_mode = settings.render_mode
        states_ = self.space.states
        # the tables of `elpa_env.states`, for going one state at a time
        self._gains: list[int] = states_.gains.tolist()
        self._entries: list[float] = states_.entries.tolist()
        first = states_.stride * np.arange(self.space.n_steps + 1)
        self._masks: NDArray[np.int8] = states_.unpadded(states_.range_masks(first)).view(np.int8)
        self._stride, self._n_steps = states_.stride, self.space.n_steps
        self._n_actions = self.space.n_actions
        self.observation_space = self.settings.observation_space()
        self.action_space = self.settings.action_space()
        self.n_queries = 0
        self._key = np.zeros(1, dtype=np.uint64)
        self._episode = np.zeros(1, dtype=np.uint64)
        self._target = np.ones(1, dtype=np.int8)
        self._state, self._step = states.START, 0
        self._observation = np.zeros(self.observation_space.shape or (), dtype=np.float32)
        self._running = False
        self._outcome: Outcome | None = None

    @property
    def target_class(self) -> int:
        """Class that the episode aims at."""
        return int(self._target[0]) if self.settings.target_class is None else self.settings.target_class

    @property
    def masking(self) -> Masking:
        """What `action_masks` allows."""
        return self.settings.masking

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start anew with all digits unset, and draw a class if the environment draws one an episode."""
        super().reset(seed=seed)
        if seed is not None:
            self._key[0], self._episode[0] = seed % (1 << 64), 0
        elif self._episode[0] == 0:
            self._key[0] = self.np_random.integers(2**63)
        if self.settings.target_class is None or not self._episode[0]:
            self._target = self.settings.targets(self._key, self._episode)
        self._episode += _ONE
        self._observation[: self._n_steps] = 0
        if self.settings.target_class is None:
            self._observation[self._n_steps :] = self.space.targets.one_hot(self._target)[0]
        self._state, self._step, self._running, self._outcome = states.START, 0, True, None
        return self._observation.copy(), {"action_mask": self._mask()}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Make the next choice.

        Raises:
            InputError: an action out of range, or the energy model or the reward failed; `reset`
                starts afresh.
            ResetNeeded: the episode is over.
        """
        if not (isinstance(action, int | np.integer) and 0 <= action < self._n_actions):
            action = _one_action(action, self._n_actions)
        if not self._running:
            raise gym.error.ResetNeeded("the episode is over: call reset() first")
        step = self._step
        place = self._stride * step + action
        gain = self._gains[place]
        if gain and (self.settings.masking == "digits" or self._composition_mask()[action]):
            self._state += gain
            self._observation[step] = self._entries[place]
            self._step = step = step + 1
            if step < self._n_steps:
                return self._observation.copy(), 0.0, False, False, {"action_mask": self._mask()}
        self._running = False
        outcome = self.settings.finish(np.array([self._state]), self._target)
        self.n_queries += int(outcome.index[0] >= 0)
        self._outcome = outcome
        (ending,) = rules.describe(outcome)
        info = {"action_mask": self._mask(), **ending, "n_queries": self.n_queries}
        return self._observation.copy(), float(outcome.reward[0]), True, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """(n_actions,) True where an action is allowed; the name that sb3-contrib looks for."""
        return self._mask().view(bool)

    def render(self) -> str | NDArray[np.uint8] | None:
        """Text or a picture of the state, as `render_mode` says."""
        if self.render_mode is None:
            gym.logger.warn(f"render() shows nothing: make the environment with render_mode={RENDER_MODES}")
            return None
        return render_state(
            self.space, self.render_mode, self._state, self.action_masks(), self._outcome, self.target_class
        )

    def _mask(self) -> NDArray[np.int8]:
        """(n_actions,) a fresh copy."""
        if self.settings.masking == "digits":
            mask: NDArray[np.int8] = self._masks[self._step]
        else:
            mask = self._composition_mask()
        return mask.copy()

    def _composition_mask(self) -> NDArray[np.int8]:
        return _composition_mask(self.space, self._state)


def resolve_space(
    prototype: Prototype | Space | str | Path,
    target: Target,
    targets: Targets | Mapping[str, Sequence[float]] | None,
    energy_model: EnergyModel | None,
) -> tuple[Space, int | str | None, EnergyModel | None]:
    """The space that an environment's arguments name, the target in it, and what states energies.

    A space that is named with its own targets brings the energies that are known of it, unless others are
    given.

    Raises:
        InputError: they name none.
    """
    reference = None
    if isinstance(prototype, str | Path):
        benchmark = catalogue.load_space(prototype)
        prototype, reference = benchmark.space, benchmark.reference
    if isinstance(prototype, Space):
        if targets is None and (target is None or isinstance(target, int | str | np.integer)):
            if energy_model is None and reference is not None:
                energy_model = reference()
            return prototype, target, energy_model
        prototype = prototype.prototype
    if not isinstance(prototype, Prototype):
        raise InputError(f"prototype must be an elpa_env.Prototype or the name of a space, got {prototype!r}")
    known, chosen = resolve_target(target, targets)
    return make_space(prototype, known), chosen, energy_model


def _one_action(action: object, n_actions: int) -> int:
    """An action that came as an array of one, as some agents give it.

    Raises:
        InputError: anything else.
    """
    array = np.asarray(action)
    if array.size != 1 or array.dtype.kind not in "iu" or not 0 <= array.item() < n_actions:
        raise InputError(f"action must be 0..{n_actions - 1}, got {action!r}")
    return int(array.item())


@functools.lru_cache(maxsize=1 << 16)
def _composition_mask(space: Space, state: int) -> NDArray[np.int8]:
    """(n_actions,) mask of one state; early states come again and again."""
    masks: NDArray[np.int8] = space.states.action_masks(np.array([state]), composition=True).view(np.int8)
    return masks.reshape(-1)


class ElpasoliteEnv(CompositionEnv):
    """Build an elpasolite composition ABC2D6 of a wanted stability.

    ## Description
    The agent chooses the elements of the four sites of the elpasolite structure one after the other,
    each in two steps: its row of the periodic table, then its main group. After eight steps the
    composition is complete and its formation energy decides the reward (Türk et al., Chem. Mater.
    2022, 34, 9455, section 2.3.3).

    ## Action Space
    `Discrete(8)`. Action a sets the next digit to a + 1. Even steps choose a row, of which there are
    six: actions 6 and 7 are out of range there. Odd steps choose one of eight main groups. The actions that
    the mask allows are called open.

    ## Observation Space
    `Box(-1, 1, (8,), float32)`: row and group of A, B, C, D scaled by eq. 1 of Türk et al. (Chem. Mater. 2022,
    34, 9455); 0.0 = unset. With `target_class=None` ten more entries give the class of the episode, one-hot.

    ## Rewards
    Eq. 12 of the same: 0 until the composition is complete; then +1 if its energy class is `target_class`, else
    -1. A composition that does not exist (no element at that row and group) or that repeats an
    element earns -1, as does an action that the mask forbids.

    ## Starting State
    All eight digits unset.

    ## Episode End
    Terminates after the eighth step, or at once after an action that the mask forbids. Never truncates.

    ## Information
    `action_mask`, (8,) int8, 1 = open, after every reset and step; all ones once the composition
    is complete. When the episode ends also

    | key | what |
    | --- | --- |
    | `is_success` | whether the reward is positive |
    | `formula` | for example `AlNaK2F6`; empty where there is no such composition |
    | `numbers` | (4,) atomic numbers of A, B, C, D; zeros where there is no such composition |
    | `energy` | formation energy in eV/atom; the key is left out where there is no such composition |
    | `energy_class` | 1..10; 0 where there is no such composition |
    | `n_queries` | compositions that this environment has asked its energy model about so far |

    ## Arguments
    | argument | default | what |
    | --- | --- | --- |
    | `target_class` | 1 | energy class 1..10 to aim at, 1 = the most stable; `None` draws one for every episode and appends it to the observation |
    | `energy_model` | the landscape | any callable from atomic numbers (n, 4) to eV/atom (n,); called once a batch of finished compositions |
    | `reward` | eq. 12 | any callable `reward(numbers, energy, energy_class, target_class)` to rewards (n,): see below |
    | `masking` | "digits" | which actions are open: "digits" rows and groups in range; "composition" only what at least one composition of four different elements can follow |
    | `render_mode` | `None` | "ansi" or "rgb_array" |

    A reward of one's own is asked once a batch of episodes that made real compositions, with `numbers`
    (n, 4) int16, the atomic numbers; `energy` (n,) float32 in eV/atom; `energy_class` (n,) int8, 1..10; and
    `target_class` (n,) int8, 1..10, the class that each episode aims at. What does not exist earns -1
    whatever the reward. Energy model and reward get arrays of their own, and must return real numbers that
    float32 can hold.

    ```python
    >>> import gymnasium as gym
    >>> import elpa_env
    >>> env = gym.make("Elpasolite-v0", target_class=1, masking="composition")
    >>> observation, info = env.reset(seed=0)

    ```

    ## Version History
    - v0: initial version
    """  # noqa: E501 - a Markdown table keeps a row on one line

    def __init__(
        self,
        target_class: int | None = 1,
        *,
        energy_model: EnergyModel | None = None,
        reward: Reward | None = None,
        masking: Masking = "digits",
        render_mode: str | None = None,
    ) -> None:
        self._set_up(
            Settings.check(ELPASOLITE_SPACE, target_class, energy_model, reward, masking, render_mode)
        )


class PerovskiteEnv(CompositionEnv):
    """Build a perovskite ABO3 of a wanted stability: `CompositionEnv` with energies of 99 % of them.

    ## Description
    A and B are chosen from 73 elements each, row by row and column by column of the periodic table, four steps
    in all; oxygen is fixed, and A may equal B. The energies are those of Emery and Wolverton (Sci. Data 2017,
    4, 170153): density functional theory for 5,276 of the 5,329 compositions, as energy above the convex hull
    of all other compounds.

    ## Arguments
    | argument | default | what |
    | --- | --- | --- |
    | `target` | "stable" | "stable": at most 0.025 eV/atom above the hull; "metastable": at most 0.1; "unstable"; `None` draws one for every episode and appends it to the observation |

    `energy_model`, `reward`, `masking` and `render_mode` are those of `Composition-v0`, and so is everything
    else. A composition whose energy is not known earns -1.

    ```python
    >>> import gymnasium as gym
    >>> import elpa_env
    >>> env = gym.make("Perovskite-v0", target="stable", masking="composition")
    >>> observation, info = env.reset(seed=0)

    ```

    ## Version History
    - v0: initial version
    """  # noqa: E501 - a Markdown table keeps a row on one line

    def __init__(
        self,
        target: int | str | None = "stable",
        *,
        energy_model: EnergyModel | None = None,
        reward: Reward | None = None,
        masking: Masking = "digits",
        render_mode: str | None = None,
    ) -> None:
        space = catalogue.load_space("abo3").space
        self._set_up(Settings.check(space, target, energy_model, reward, masking, render_mode))
