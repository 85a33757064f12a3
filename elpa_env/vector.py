"""Many episodes of `Elpasolite-v0` at once, all in a few array operations a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from elpa_env import rules, states
from elpa_env.classes import one_hot
from elpa_env.env import ElpasoliteEnv, Settings, render_state
from elpa_env.errors import InputError, check_choice
from elpa_env.landscape import EnergyModel
from elpa_env.late import LateInfo
from elpa_env.rules import Masking, Outcome, Reward
from elpa_env.space import N_SITES, N_STEPS, index_to_formula, index_to_numbers


class ElpasoliteVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[Any]]):
    """`num_envs` episodes of `ElpasoliteEnv` side by side, with the same rules and the same arrays.

    Energies are asked for all compositions that a step completes in one call.

    Args:
        num_envs: episodes.
        target_class: as in `ElpasoliteEnv`, and so are the four that follow.
        energy_model: see there.
        reward: see there.
        masking: see there.
        render_mode: see there; `render` gives a tuple of one frame an episode.
        autoreset_mode: when an episode that ended starts anew: in the next step, whose action is
            ignored (Gymnasium's default); in the same step, with `final_obs` and `final_info` in
            `info`; or never, until `reset(options={"reset_mask": ...})`.

    Raises:
        InputError: an argument that cannot be used.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        target_class: int | None = 1,
        energy_model: EnergyModel | None = None,
        reward: Reward | None = None,
        masking: Masking = "digits",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        if not isinstance(num_envs, int | np.integer) or isinstance(num_envs, bool) or num_envs < 1:
            raise InputError(f"num_envs must be a whole number of at least 1, got {num_envs!r}")
        if not isinstance(autoreset_mode, AutoresetMode):
            check_choice("autoreset_mode", autoreset_mode, [mode.value for mode in AutoresetMode])
        self.settings = Settings.check(target_class, energy_model, reward, masking, render_mode)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**ElpasoliteEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.settings.observation_space()
        self.single_action_space = self.settings.action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.env_queries = np.zeros(num_envs, dtype=np.int64)
        self._key = np.zeros(num_envs, dtype=np.uint64)
        self._episode = np.zeros(num_envs, dtype=np.uint64)
        self._target = np.full(num_envs, self.settings.target_class or 1, dtype=np.int8)
        self._state = np.full(num_envs, states.START)
        self._step: int | None = None  # of all episodes, where they are at the same one
        self._first = states.first_actions(self._state)
        self._masks = states.composition_masks(self._state) if masking == "composition" else None
        self._first_action = np.arange(0, num_envs * rules.N_ACTIONS, rules.N_ACTIONS)
        # Up to date where all episodes are at the same step; the class of the episode is always.
        self._observation = self.settings.observe(self._state, self._target)
        self._over = np.arange(num_envs)
        self._outcomes: list[Outcome | None] = [None] * num_envs if render_mode else []

    @property
    def n_queries(self) -> int:
        """Compositions that the energy model was asked about so far."""
        return int(self.env_queries.sum())

    @property
    def masking(self) -> Masking:
        """What `action_masks` allows."""
        return self.settings.masking

    @property
    def target_classes(self) -> NDArray[np.int8]:
        """(num_envs,) class that each episode aims at."""
        return self._target.copy()

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start all episodes, or those of `options["reset_mask"]`, anew.

        Args:
            seed: one a sub-environment; a single number s gives s, s + 1, ...
            options: `reset_mask`, (num_envs,) bool.
        """
        n = self.num_envs
        mask = np.asarray((options or {}).get("reset_mask", np.ones(n, dtype=bool)))
        if mask.shape != (n,) or mask.dtype != bool or not mask.any():
            raise InputError(f"reset_mask must be ({n},) bool with a True in it, got {mask!r}")
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
            seeds: list[int | None] = [int(seed) + i for i in range(n)]
        else:
            seeds = [None] * n if seed is None else list(seed)
        if len(seeds) != n:
            raise InputError(f"seed must be one number or {n} of them, got {len(seeds)}")
        seeded = np.array([s is not None for s in seeds]) & mask
        fresh = mask & ~seeded & (self._episode == 0)
        if fresh.any():
            self._key[fresh] = self.np_random.integers(2**63, size=int(fresh.sum()))
        if any(s is not None and s < 0 for s in seeds):
            raise InputError(f"seeds must not be negative, got {seeds}")
        self._key[seeded] = [s % (1 << 64) for s, m in zip(seeds, mask, strict=True) if s is not None and m]
        self._episode[seeded] = 0
        self._over = self._over[~mask[self._over]]
        self._restart(np.flatnonzero(mask), states.START)
        return self._observe(), self._infos()

    def step(
        self, actions: ArrayLike
    ) -> tuple[
        NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        """Make the next choice in every episode.

        Raises:
            InputError: actions of the wrong shape or outside 0..7, or a failing energy model or
                reward; `reset` starts afresh.
            ResetNeeded: an episode is over.
        """
        action = self._checked(actions)
        if len(self._over) == 0:
            ended = self._choose(action)
        elif self.autoreset_mode != AutoresetMode.NEXT_STEP or not self._episode.all():
            raise ResetNeeded(f"{len(self._over)} of {self.num_envs} episodes are over: call reset() first")
        elif len(self._over) == self.num_envs:
            self._restart(self._over, states.START)
            ended = np.zeros(self.num_envs, dtype=bool)
        else:
            self._restart(self._over, states.OVER)
            ended = self._choose(action)
        self._over = np.flatnonzero(ended)
        rewards, truncated = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=bool)
        if len(self._over) == 0:
            return self._observe(), rewards, ended, truncated, self._infos()
        endings = self._finish()
        rewards[self._over] = endings.outcome.reward
        gained = endings.infos
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            self._restart(self._over, states.START)
            self._over = self._over[:0]
            gained = endings.of_the_same_step
        return self._observe(), rewards, ended, truncated, LateInfo(self._infos(), gained)

    def action_masks(self) -> NDArray[np.bool_]:
        """(num_envs, 8) True where an action is allowed."""
        return states.range_masks(self._first) if self._masks is None else self._masks.copy()

    def render(self) -> tuple[Any, ...] | None:
        """One text or picture an episode, as `render_mode` says."""
        if self.render_mode is None:
            return None
        masks = self.action_masks()
        return tuple(
            render_state(
                self.render_mode, int(self._state[i]), masks[i], self._outcomes[i], int(self._target[i])
            )
            for i in range(self.num_envs)
        )

    def _choose(self, action: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Make one choice in every episode.

        Returns:
            (num_envs,) whether the episode ends with it.
        """
        allowed = None
        if self._masks is not None:
            allowed = self._masks.reshape(-1).take(self._first_action + action)
        step = self._step
        if step is not None and (action.max() < states.WIDTHS[step] if allowed is None else allowed.all()):
            self._state, self._observation[:, step] = states.advance_together(self._state, step, action)
            self._first += rules.N_ACTIONS
            self._step = step + 1
            ended = np.full(self.num_envs, self._step == N_STEPS)
        else:
            self._state, legal = states.advance(self._state, self._first + action, allowed)
            self._first = states.first_actions(self._state)
            self._step = None
            ended = (self._first == states.COMPLETE) | ~legal
        if self._masks is not None:
            self._masks = states.composition_masks(self._state)
        return ended

    def _observe(self) -> NDArray[np.float32]:
        """(num_envs, 8 or 18) a fresh array."""
        if self._step is not None:
            return self._observation.copy()
        scaled = states.observe(self._state)
        if self.settings.target_class is not None:
            return scaled
        observation = self._observation.copy()
        observation[:, :N_STEPS] = scaled
        return observation

    def _finish(self) -> _Endings:
        """Judge the episodes that are over."""
        over = self._over
        state, target = self._state.take(over), self._target.take(over)
        outcome = self.settings.finish(state, target)
        self.env_queries[over] = queries = self.env_queries.take(over) + (outcome.index >= 0)
        for row, i in enumerate(over if self._outcomes else ()):
            self._outcomes[i] = outcome.row(row)
        return _Endings(self.settings, self.num_envs, over, state, target, outcome, queries)

    def _checked(self, actions: ArrayLike) -> NDArray[np.int64]:
        action = np.asarray(actions)
        if action.shape != (self.num_envs,) or action.dtype.kind not in "iu":
            raise InputError(
                f"actions must be ({self.num_envs},) integers, got {action.dtype} of shape {action.shape}"
            )
        action = action.astype(np.int64, copy=False)
        # a negative action is a very large one when read without its sign
        if action.view(np.uint64).max() >= rules.N_ACTIONS:
            bad = action[(action < 0) | (action >= rules.N_ACTIONS)][0]
            raise InputError(f"actions must be 0..{rules.N_ACTIONS - 1}, got {bad}")
        return action

    def _restart(self, which: NDArray[np.int64], state: int) -> None:
        """Start (m,) episodes anew: from `states.START` now, or from `states.OVER` with the next action."""
        everyone = len(which) == self.num_envs
        places = slice(None) if everyone else which
        self._state[places] = state
        self._first[places] = states.first_actions(np.array([state]))
        self._step = 0 if everyone else None
        if everyone:
            self._observation[:, :N_STEPS] = 0
        if self._masks is not None:
            self._masks[places] = states.composition_masks(np.array([state]))
        if self.settings.target_class is None:
            target = self.settings.targets(self._key[places], self._episode[places])
            self._target[places], self._observation[places, N_STEPS:] = target, one_hot(target)
        self._episode[places] += np.uint64(1)
        for i in which if self._outcomes else ():
            self._outcomes[i] = None

    def _infos(self) -> dict[str, Any]:
        """What every `info` holds."""
        masks = self.action_masks().view(np.int8)
        return {"action_mask": masks, "_action_mask": np.ones(self.num_envs, dtype=bool)}


class _Endings(NamedTuple):
    """What `over`, (m,) of `num_envs` episodes, ended with."""

    settings: Settings
    num_envs: int
    over: NDArray[np.int64]
    state: NDArray[np.int64]
    target: NDArray[np.int8]
    outcome: Outcome
    queries: NDArray[np.int64]

    def infos(self) -> dict[str, Any]:
        """What `info` gains, in arrays of all `num_envs`."""
        outcome = self.outcome
        real = np.flatnonzero(outcome.index >= 0)
        index = outcome.index.take(real)
        formula = np.full(len(self.over), "", dtype=object)
        formula[real] = index_to_formula(index)
        numbers = np.zeros((len(self.over), N_SITES), dtype=np.int16)
        numbers[real] = index_to_numbers(index)
        values = {
            "is_success": outcome.reward > 0,
            "formula": formula,
            "numbers": numbers,
            "energy": outcome.energy.astype(np.float64),
            "energy_class": outcome.energy_class.astype(np.int64),
            "n_queries": self.queries,
        }
        return self._spread(values)

    def of_the_same_step(self) -> dict[str, Any]:
        """Gymnasium's form of what an episode ended with, beside the start of the next."""
        masks = states.action_masks(self.state, composition=self.settings.masking == "composition")
        observation = self.settings.observe(self.state, self.target)
        rows = np.fromiter(observation, dtype=object, count=len(self.over))
        final_info = self._spread({"action_mask": masks.view(np.int8)}) | self.infos()
        return self._spread({"final_obs": rows}) | {
            "final_info": final_info,
            "_final_info": final_info["_action_mask"],
        }

    def _spread(self, values: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """Arrays of all `num_envs`, zero or None where no episode ended, and which these are."""
        ended = np.zeros(self.num_envs, dtype=bool)
        ended[self.over] = True
        infos: dict[str, Any] = {}
        for key, value in values.items():
            shape = (self.num_envs, *value.shape[1:])
            infos[key] = np.empty(shape, object) if value.dtype == object else np.zeros(shape, value.dtype)
            infos[key][self.over] = value
        return infos | {f"_{key}": ended for key in values}
