"""Many episodes at once, all in a few array operations a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from elpa_env import catalogue, rules, states
from elpa_env.classes import Targets
from elpa_env.env import CompositionEnv, Settings, Target, render_state, resolve_space
from elpa_env.errors import InputError, check_choice
from elpa_env.late import LateInfo
from elpa_env.prototype import Prototype
from elpa_env.rules import Masking, Outcome, Reward
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.table import EnergyModel


class CompositionVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[Any]]):
    """`num_envs` episodes of `CompositionEnv` side by side, with the same rules and the same arrays.

    Energies are asked for all compositions that a step completes in one call. What `info` gains where
    episodes end is in arrays of all `num_envs`, a key `_x` beside a key `x` says which of them have one, and
    what none has is left out, as Gymnasium does it. It is made when it is first looked at.

    Args:
        num_envs: episodes.
        prototype: as in `CompositionEnv`, and so are the six that follow.
        energy_model: see there.
        target: see there.
        targets: see there.
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
        prototype: Prototype | Space | str | Path = ELPASOLITE_SPACE,
        energy_model: EnergyModel | None = None,
        target: Target = None,
        targets: Targets | Mapping[str, Sequence[float]] | None = None,
        reward: Reward | None = None,
        masking: Masking = "digits",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        space, target_class, energy_model = resolve_space(prototype, target, targets, energy_model)
        settings = Settings.check(space, target_class, energy_model, reward, masking, render_mode)
        self._set_up(num_envs, settings, autoreset_mode)

    def _set_up(self, num_envs: int, settings: Settings, autoreset_mode: AutoresetMode | str) -> None:
        """Everything but the settings themselves."""
        if not isinstance(num_envs, int | np.integer) or isinstance(num_envs, bool) or num_envs < 1:
            raise InputError(f"num_envs must be a whole number of at least 1, got {num_envs!r}")
        if not isinstance(autoreset_mode, AutoresetMode):
            check_choice("autoreset_mode", autoreset_mode, [mode.value for mode in AutoresetMode])
        self.settings = settings
        self.space = settings.space
        self._states = self.space.states
        self.num_envs = num_envs
        self.render_mode = settings.render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**CompositionEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.settings.observation_space()
        self.single_action_space = self.settings.action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.env_queries = np.zeros(num_envs, dtype=np.int64)
        self._key = np.zeros(num_envs, dtype=np.uint64)
        self._episode = np.zeros(num_envs, dtype=np.uint64)  # those begun, or 1 where no class is drawn
        self._target = np.full(num_envs, self.settings.target_class or 1, dtype=np.int8)
        self._state = np.full(num_envs, states.START)
        self._step: int | None = None  # of all episodes, where they are at the same one
        self._first = self._states.first_actions(self._state)
        composition = settings.masking == "composition"
        self._masks = self._states.composition_masks(self._state) if composition else None
        self._first_action = np.arange(0, num_envs * self._states.stride, self._states.stride)
        # Up to date where all episodes are at the same step; the class of the episode is always.
        self._observation = self.settings.observe(self._state, self._target)
        self._over = self._everyone = np.arange(num_envs)
        self._outcomes: list[Outcome | None] = [None] * num_envs if self.render_mode else []

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

        Raises:
            InputError: seeds or a mask that cannot be used.
        """
        n = self.num_envs
        mask = np.asarray((options or {}).get("reset_mask", np.ones(n, dtype=bool)))
        if mask.shape != (n,) or mask.dtype != bool or not mask.any():
            raise InputError(f"reset_mask must be ({n},) bool with a True in it, got {mask!r}")
        seeds = self._seeds(seed)
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
        seeded = mask & [s is not None for s in seeds]
        fresh = mask & ~seeded & (self._episode == 0)
        if fresh.any():
            self._key[fresh] = self.np_random.integers(2**63, size=int(fresh.sum()))
        self._key[seeded] = [s % (1 << 64) for s, m in zip(seeds, seeded, strict=True) if s is not None and m]
        self._episode[seeded] = 0
        self._over = self._over[~mask[self._over]]
        self._restart(np.flatnonzero(mask), states.START)
        np.maximum(self._episode, 1, out=self._episode, where=mask)
        return self.observe(), self._infos()

    def step(
        self, actions: ArrayLike
    ) -> tuple[
        NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        """Make the next choice in every episode.

        Raises:
            InputError: actions of the wrong shape or out of range, or a failing energy model or
                reward; `reset` starts afresh.
            ResetNeeded: an episode is over.
        """
        rewards, ended, endings = self.advance(actions)
        infos = self._infos()
        if endings:
            same_step = self.autoreset_mode == AutoresetMode.SAME_STEP
            infos = LateInfo(infos, endings.of_the_same_step if same_step else endings.infos)
        return self.observe(), rewards, ended, np.zeros(self.num_envs, dtype=bool), infos

    def advance(self, actions: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_], Endings | None]:
        """Make a step without what it shows: rewards (num_envs,), which episodes end (num_envs,), and how.

        Raises:
            InputError: see `step`.
            ResetNeeded: see there.
        """
        action, highest = self._checked(actions)
        if len(self._over) == 0:
            ended = self._choose(action, highest)
        elif self.autoreset_mode != AutoresetMode.NEXT_STEP or not self._episode.all():
            raise ResetNeeded(f"{len(self._over)} of {self.num_envs} episodes are over: call reset() first")
        elif len(self._over) == self.num_envs:
            self._restart(self._over, states.START)
            self._over, ended = self._over[:0], np.zeros(self.num_envs, dtype=bool)
        else:
            self._restart(self._over, self._states.over)
            ended = self._choose(action, highest)
        rewards = np.zeros(self.num_envs)
        if len(self._over) == 0:
            return rewards, ended, None
        endings = self._finish()
        rewards[self._over] = endings.outcome.reward
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            self._restart(self._over, states.START)
            self._over = self._over[:0]
        return rewards, ended, endings

    def observe(self) -> NDArray[np.float32]:
        """(num_envs, ...) what the agent sees, a fresh array."""
        if self._step is not None:
            return self._observation.copy()
        scaled = self._states.observe(self._state)
        if self.settings.target_class is not None:
            return scaled
        observation = self._observation.copy()
        observation[:, : self.space.n_steps] = scaled
        return observation

    def action_masks(self) -> NDArray[np.bool_]:
        """(num_envs, n_actions) True where an action is allowed."""
        if self._masks is None:
            return self._states.unpadded(self._states.range_masks(self._first))
        padded = self._states.n_actions < self._states.stride
        return self._states.unpadded(self._masks) if padded else self._masks.copy()

    def render(self) -> tuple[Any, ...] | None:
        """One text or picture an episode, as `render_mode` says."""
        if self.render_mode is None:
            return None
        masks = self.action_masks()
        return tuple(
            render_state(
                self.space,
                self.render_mode,
                int(self._state[i]),
                masks[i],
                self._outcomes[i],
                int(self._target[i]),
            )
            for i in range(self.num_envs)
        )

    def _choose(self, action: NDArray[np.int64], highest: int) -> NDArray[np.bool_]:
        """Make one choice in every episode; `highest` of all actions.

        Returns:
            (num_envs,) whether the episode ends with it; `_over` says it, too.
        """
        allowed = None
        if self._masks is not None:
            allowed = self._masks.reshape(-1).take(self._first_action + action)
        step = self._step
        if step is not None and (highest < self._states.widths[step] if allowed is None else allowed.all()):
            self._state, self._observation[:, step] = self._states.advance_together(self._state, step, action)
            self._first += self._states.stride
            self._step = step + 1
            ended = np.full(self.num_envs, self._step == self.space.n_steps)
            self._over = self._everyone if self._step == self.space.n_steps else self._everyone[:0]
        else:
            self._state, legal = self._states.advance(self._state, self._first + action, allowed)
            self._first = self._states.first_actions(self._state)
            self._step = None
            ended = (self._first == self._states.complete) | ~legal
            self._over = np.flatnonzero(ended)
        if self._masks is not None:
            self._masks = self._states.composition_masks(self._state)
        return ended

    def _finish(self) -> Endings:
        """Judge the episodes that are over."""
        over = self._over
        state, target = self._state.take(over), self._target.take(over)
        outcome = self.settings.finish(state, target)
        self.env_queries[over] = queries = self.env_queries.take(over) + (outcome.index >= 0)
        for row, i in enumerate(over if self._outcomes else ()):
            self._outcomes[i] = outcome.row(row)
        return Endings(self.settings, self.num_envs, over, state, target, outcome, queries)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """One a sub-environment."""
        n = self.num_envs
        if isinstance(seed, int | np.integer):
            seeds: list[int | None] = [int(seed) + i for i in range(n)]
        elif isinstance(seed, Sequence | np.ndarray):
            seeds = list(seed)
        elif seed is None:
            return [None] * n
        else:
            raise InputError(f"seed must be one number or {n} of them, got {seed!r}")
        if len(seeds) != n:
            raise InputError(f"seed must be one number or {n} of them, got {len(seeds)}")
        for one in seeds:
            if one is not None and not (isinstance(one, int | np.integer) and one >= 0):
                raise InputError(f"seeds must be whole numbers of at least 0, or None, got {one!r}")
        return [None if one is None else int(one) for one in seeds]

    def _checked(self, actions: ArrayLike) -> tuple[NDArray[np.int64], int]:
        """The actions, and the highest of them."""
        given = np.asarray(actions)
        if given.shape != (self.num_envs,) or given.dtype.kind not in "iu":
            raise InputError(
                f"actions must be ({self.num_envs},) integers, got {given.dtype} of shape {given.shape}"
            )
        action = given.astype(np.int64, copy=False)
        # a negative action is a very large one when read without its sign
        highest = int(action.view(np.uint64).max())
        n_actions = self.space.n_actions
        if highest >= n_actions:
            bad = given[(given < 0) | (given >= n_actions)][0]
            raise InputError(f"actions must be 0..{n_actions - 1}, got {bad}")
        return action, highest

    def _restart(self, which: NDArray[np.int64], state: int) -> None:
        """Start (m,) episodes anew: from `states.START` now, or from `States.over` with the next action."""
        everyone = len(which) == self.num_envs
        places = slice(None) if everyone else which
        self._state[places] = state
        self._first[places] = state  # neither has a digit set: they are their own first action
        self._step = 0 if everyone else None
        if everyone:
            self._observation[:, : self.space.n_steps] = 0
        if self._masks is not None:
            self._masks[places] = self._states.composition_masks(np.array([state]))
        if self.settings.target_class is None:
            target = self.settings.targets(self._key[places], self._episode[places])
            self._target[places] = target
            self._observation[places, self.space.n_steps :] = self.space.targets.one_hot(target)
            self._episode[places] += np.uint64(1)
        for i in which if self._outcomes else ():
            self._outcomes[i] = None

    def _infos(self) -> dict[str, Any]:
        """What every `info` holds."""
        masks = self.action_masks().view(np.int8)
        return {"action_mask": masks, "_action_mask": np.ones(self.num_envs, dtype=bool)}


class Endings(NamedTuple):
    """How m of `num_envs` episodes ended in a step.

    Attributes:
        settings: of the environment.
        num_envs: of the environment.
        over: (m,) the episodes.
        state: (m,) that they ended in.
        target: (m,) class 1..k that they aimed at.
        outcome: what they came to.
        queries: (m,) compositions that each environment has asked its energy model about so far.
    """

    settings: Settings
    num_envs: int
    over: NDArray[np.int64]
    state: NDArray[np.int64]
    target: NDArray[np.int8]
    outcome: Outcome
    queries: NDArray[np.int64]

    def observations(self) -> NDArray[np.float32]:
        """(m, ...) at the end."""
        return self.settings.observe(self.state, self.target)

    def masks(self) -> NDArray[np.int8]:
        """(m, n_actions) at the end."""
        composition = self.settings.masking == "composition"
        states_ = self.settings.space.states
        masks: NDArray[np.int8] = states_.action_masks(self.state, composition=composition).view(np.int8)
        return masks

    def lengths(self) -> NDArray[np.int64]:
        """(m,) choices made, the one that ended the episode included."""
        states_ = self.settings.space.states
        taken = states_.first_actions(self.state) // states_.stride
        return np.minimum(taken + 1, self.settings.space.n_steps)

    def infos(self) -> dict[str, Any]:
        """What the `info` of all environments gains."""
        outcome = self.outcome
        formulas, numbers = rules.texts_and_numbers(outcome.space, outcome.index)
        values: dict[str, NDArray[Any]] = {
            "is_success": outcome.reward > 0,
            "formula": formulas,
            "numbers": numbers,
            "energy_class": outcome.energy_class.astype(np.int64),
            "n_queries": self.queries,
        }
        infos = self._spread(self.over, values)
        energy = outcome.energy
        if len(known := np.flatnonzero(np.isfinite(energy))):
            infos |= self._spread(self.over[known], {"energy": energy[known].astype(np.float64)})
        return infos

    def of_the_same_step(self) -> dict[str, Any]:
        """The same in Gymnasium's form for episodes that start anew in the step that ends them."""
        rows = np.fromiter(self.observations(), dtype=object, count=len(self.over))
        info = self._spread(self.over, {"action_mask": self.masks()}) | self.infos()
        infos = self._spread(self.over, {"final_obs": rows})
        return {**infos, "final_info": info, "_final_info": info["_action_mask"]}

    def _spread(self, where: NDArray[np.int64], values: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Arrays of all environments, zero or None but where some have a value, and which these are."""
        has = np.zeros(self.num_envs, dtype=bool)
        has[where] = True
        infos: dict[str, NDArray[Any]] = {}
        for key, value in values.items():
            shape = (self.num_envs, *value.shape[1:])
            infos[key] = np.empty(shape, object) if value.dtype == object else np.zeros(shape, value.dtype)
            infos[key][where] = value
            infos[f"_{key}"] = has
        return infos


class ElpasoliteVectorEnv(CompositionVectorEnv):
    """`num_envs` episodes of `ElpasoliteEnv`; see there and `CompositionVectorEnv` for the arguments."""

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
        how = energy_model, reward, masking, render_mode
        self._set_up(num_envs, Settings.check(ELPASOLITE_SPACE, target_class, *how), autoreset_mode)


class PerovskiteVectorEnv(CompositionVectorEnv):
    """`num_envs` episodes of `PerovskiteEnv`; see there and `CompositionVectorEnv` for the arguments."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        target: int | str | None = "stable",
        energy_model: EnergyModel | None = None,
        reward: Reward | None = None,
        masking: Masking = "digits",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        space = catalogue.load_space("abo3").space
        how = energy_model, reward, masking, render_mode
        self._set_up(num_envs, Settings.check(space, target, *how), autoreset_mode)
