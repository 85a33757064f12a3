"""`Elpasolite-v0`: build a composition in eight steps for a sparse reward."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from elpa_env import dynamics
from elpa_env.classes import check_target_class
from elpa_env.dynamics import Masking
from elpa_env.landscape import load_landscape
from elpa_env.space import N_STEPS, digits_to_index, index_to_formula, index_to_numbers, scale


class ElpasoliteEnv(gym.Env[NDArray[np.float32], np.int64]):
    """Build an elpasolite composition ABC2D6 of a wanted stability.

    ## Description
    The agent chooses the elements of the four sites of the elpasolite structure one after the other,
    each in two steps: its row of the periodic table, then its main group. After eight steps the
    composition is complete and its formation energy decides the reward (Türk et al., Chem. Mater.
    2022, 34, 9455, section 2.3.3).

    ## Action Space
    `Discrete(8)`. Action a sets the next digit to a + 1. Even steps choose a row, of which there are
    six: actions 6 and 7 are out of range there. Odd steps choose one of eight main groups.

    ## Observation Space
    `Box(-1, 1, (8,), float32)`: row and group of A, B, C, D scaled by eq. 1; 0.0 = still open.

    ## Rewards
    Eq. 12: 0 until the composition is complete; then +1 if its energy class is `target_class`, else
    -1. A composition that does not exist (no element at that row and group) or that repeats an
    element earns -1, as does an action out of range.

    ## Starting State
    All eight choices open.

    ## Episode End
    Terminates after the eighth step, or at once after an action out of range. Never truncates.

    ## Information
    `action_mask`, (8,) int8, 1 = in range, after every reset and step. When the episode ends also
    `is_success`; `formula`, `numbers` (4,) and `energy` in eV/atom, None where there is no such
    composition; and `energy_class`, 0 where there is none.

    ## Arguments
    - `target_class` (1..10, default 1): the energy class to aim at; 1 is the most stable.
    - `masking` ("digits" or "composition"): what `action_mask` allows. "composition" leaves open
      only what at least one composition of four different elements can follow.

    ## Version History
    - v0: initial version
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - declared so by Gymnasium

    def __init__(
        self,
        target_class: int = 1,
        *,
        masking: Masking = "digits",
        render_mode: str | None = None,
    ) -> None:
        self.target_class = check_target_class(target_class)
        self.masking = dynamics.check_masking(masking)
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-1.0, 1.0, (N_STEPS,), np.float32)
        self.action_space = spaces.Discrete(dynamics.N_ACTIONS)
        self._landscape = load_landscape()
        self._digits = dynamics.initial_digits(1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Open all eight choices."""
        super().reset(seed=seed)
        self._digits = dynamics.initial_digits(1)
        return scale(self._digits)[0], {"action_mask": self._mask()}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Make the next choice."""
        if dynamics.steps_taken(self._digits)[0] == N_STEPS:
            raise gym.error.ResetNeeded("the composition is complete: call reset() first")
        in_range = bool(dynamics.action_masks(self._digits)[0, action])
        if in_range:
            self._digits = dynamics.apply_actions(self._digits, np.array([action]))
        terminated = not in_range or bool(self._digits[0, -1])
        observation = scale(self._digits)[0]
        info: dict[str, Any] = {"action_mask": self._mask()}
        if not terminated:
            return observation, 0.0, False, False, info
        index = digits_to_index(self._digits)
        energy_class = self._landscape.energy_class(index)
        reward = float(dynamics.sparse_reward(energy_class, self.target_class)[0])
        exists = bool(index[0] >= 0)
        info |= {
            "is_success": reward > 0,
            "formula": index_to_formula(index)[0] if exists else None,
            "numbers": index_to_numbers(index)[0] if exists else None,
            "energy": float(self._landscape.energy(index)[0]) if exists else None,
            "energy_class": int(energy_class[0]),
        }
        self._digits = np.ones_like(self._digits)
        return observation, reward, True, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """(8,) True where an action is allowed; the name that sb3-contrib looks for."""
        masks = dynamics.action_masks(self._digits, self.masking)
        return masks.ravel()

    def _mask(self) -> NDArray[np.int8]:
        return self.action_masks().astype(np.int8)
