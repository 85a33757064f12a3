"""`Elpasolite-v0`: build a composition in eight steps for a sparse reward."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from elpa_env import render, rules, states
from elpa_env.classes import N_CLASSES, check_target_class, one_hot
from elpa_env.errors import InputError, check_choice
from elpa_env.landscape import EnergyModel, load_landscape
from elpa_env.rules import Masking, Outcome, Reward
from elpa_env.space import N_STEPS

RENDER_MODES = ("ansi", "rgb_array")
_ONE = np.uint64(1)


# The tables of `elpa_env.states`, for going one state at a time.
_GAINS: list[int] = states.GAINS.tolist()
_ENTRIES: list[float] = states.ENTRIES.tolist()
_MASKS: NDArray[np.int8] = states.range_masks(rules.N_ACTIONS * np.arange(N_STEPS + 1)).view(np.int8)


@dataclass(frozen=True)
class Settings:
    """The arguments of the environment, checked; single and vector environment share them."""

    target_class: int | None
    energy_model: EnergyModel
    reward: Reward | None
    masking: Masking
    render_mode: str | None

    @classmethod
    def check(
        cls,
        target_class: int | None,
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
            raise InputError(f"energy_model must be callable on atomic numbers (n, 4), got {energy_model!r}")
        if reward is not None and not callable(reward):
            raise InputError(
                f"reward must be callable on numbers, energy, energy class and target class, got {reward!r}"
            )
        if render_mode is not None:
            check_choice("render_mode", render_mode, RENDER_MODES)
        return cls(
            None if target_class is None else check_target_class(target_class),
            load_landscape() if energy_model is None else energy_model,
            reward,
            rules.check_masking(masking),
            render_mode,
        )

    def observation_space(self) -> spaces.Space[NDArray[np.float32]]:
        """Of a single environment."""
        extra = N_CLASSES if self.target_class is None else 0
        box: Any = spaces.Box(-1.0, 1.0, (N_STEPS + extra,), np.float32)
        return box  # type: ignore[no-any-return]

    def action_space(self) -> spaces.Space[np.int64]:
        """Of a single environment."""
        return spaces.Discrete(rules.N_ACTIONS)

    def observe(self, state: NDArray[np.int64], target: NDArray[np.int8]) -> NDArray[np.float32]:
        """(n, 8), or (n, 18) with the target class one-hot, observations."""
        scaled = states.observe(state)
        return scaled if self.target_class is not None else np.concatenate([scaled, one_hot(target)], axis=1)

    def targets(self, key: NDArray[np.uint64], episode: NDArray[np.uint64]) -> NDArray[np.int8]:
        """(n,) target classes of episodes."""
        if self.target_class is None:
            return rules.draw_targets(key, episode)
        return np.full(len(key), self.target_class, dtype=np.int8)

    def finish(self, state: NDArray[np.int64], target: NDArray[np.int8]) -> Outcome:
        """Judge finished episodes."""
        return rules.finish(states.index_of(state), target, self.energy_model, self.reward)


def render_state(
    mode: str,
    state: int,
    mask: NDArray[np.bool_],
    outcome: Outcome | None,
    target_class: int,
) -> str | NDArray[np.uint8]:
    """Text or a picture of one state.

    Args:
        mode: "ansi" or "rgb_array".
        state: see `elpa_env.states`.
        mask: (8,).
        outcome: of that one episode, if it is over.
        target_class: 1..10.
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
    return draw(states.decode(np.array([state]))[0], mask, ending)


class ElpasoliteEnv(gym.Env[NDArray[np.float32], np.int64]):
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
    `Box(-1, 1, (8,), float32)`: row and group of A, B, C, D scaled by eq. 1; 0.0 = unset. With
    `target_class=None` ten more entries give the class of the episode, one-hot.

    ## Rewards
    Eq. 12: 0 until the composition is complete; then +1 if its energy class is `target_class`, else
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

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by Gymnasium
        "render_modes": list(RENDER_MODES),
        "render_fps": 2,
    }

    def __init__(
        self,
        target_class: int | None = 1,
        *,
        energy_model: EnergyModel | None = None,
        reward: Reward | None = None,
        masking: Masking = "digits",
        render_mode: str | None = None,
    ) -> None:
        self.settings = Settings.check(target_class, energy_model, reward, masking, render_mode)
        self.render_mode = render_mode
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
        self._observation[:N_STEPS] = 0
        if self.settings.target_class is None:
            self._observation[N_STEPS:] = one_hot(self._target)[0]
        self._state, self._step, self._running, self._outcome = states.START, 0, True, None
        return self._observation.copy(), {"action_mask": self._mask()}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Make the next choice.

        Raises:
            InputError: an action outside 0..7, or the energy model or the reward failed; `reset`
                starts afresh.
            ResetNeeded: the episode is over.
        """
        if not (isinstance(action, int | np.integer) and 0 <= action < rules.N_ACTIONS):
            action = _one_action(action)
        if not self._running:
            raise gym.error.ResetNeeded("the episode is over: call reset() first")
        step = self._step
        place = rules.N_ACTIONS * step + action
        gain = _GAINS[place]
        if gain and (self.settings.masking == "digits" or _composition_mask(self._state)[action]):
            self._state += gain
            self._observation[step] = _ENTRIES[place]
            self._step = step = step + 1
            if step < N_STEPS:
                return self._observation.copy(), 0.0, False, False, {"action_mask": self._mask()}
        self._running = False
        outcome = self.settings.finish(np.array([self._state]), self._target)
        self.n_queries += int(outcome.index[0] >= 0)
        self._outcome = outcome
        (ending,) = rules.describe(outcome)
        info = {"action_mask": self._mask(), **ending, "n_queries": self.n_queries}
        return self._observation.copy(), float(outcome.reward[0]), True, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """(8,) True where an action is allowed; the name that sb3-contrib looks for."""
        return self._mask().view(bool)

    def render(self) -> str | NDArray[np.uint8] | None:
        """Text or a picture of the state, as `render_mode` says."""
        if self.render_mode is None:
            gym.logger.warn(f"render() shows nothing: make the environment with render_mode={RENDER_MODES}")
            return None
        return render_state(
            self.render_mode, self._state, self.action_masks(), self._outcome, self.target_class
        )

    def _mask(self) -> NDArray[np.int8]:
        """(8,) a fresh copy."""
        if self.settings.masking == "digits":
            mask: NDArray[np.int8] = _MASKS[self._step]
        else:
            mask = _composition_mask(self._state)
        return mask.copy()


def _one_action(action: object) -> int:
    """An action that came as an array of one, as some agents give it.

    Raises:
        InputError: anything else.
    """
    array = np.asarray(action)
    if array.size != 1 or array.dtype.kind not in "iu" or not 0 <= array.item() < rules.N_ACTIONS:
        raise InputError(f"action must be 0..{rules.N_ACTIONS - 1}, got {action!r}")
    return int(array.item())


@functools.lru_cache(maxsize=1 << 16)
def _composition_mask(state: int) -> NDArray[np.int8]:
    """(8,) mask of one state; early states come again and again."""
    masks: NDArray[np.int8] = states.composition_masks(np.array([state])).view(np.int8)
    return masks.reshape(-1)
