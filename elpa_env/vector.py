"""Many episodes of `Elpasolite-v0` at once, all in a few array operations a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from elpa_env import rules
from elpa_env.env import ElpasoliteEnv, Settings, render_state
from elpa_env.errors import InputError, check_choice
from elpa_env.landscape import EnergyModel
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
        self._target = np.ones(num_envs, dtype=np.int8)
        self._digits = rules.initial_digits(num_envs)
        self._step = np.zeros(num_envs, dtype=np.int64)
        self._common: int | None = 0  # the step, where all are at the same; `_step` is then behind
        self._observation = self.settings.observe(self._digits, self._target)
        width = self._observation.shape[1]
        self._first_entry = np.arange(0, num_envs * width, width)
        self._ended = np.ones(num_envs, dtype=bool)
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
        self._restart(mask)
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
        restarting = self._ended
        if restarting.any():
            if self.autoreset_mode != AutoresetMode.NEXT_STEP or not self._episode.all():
                raise ResetNeeded(
                    f"{int(restarting.sum())} of {self.num_envs} episodes are over: call reset() first"
                )
            self._restart(restarting)
        legal = restarting if restarting.all() else self._choose(action, restarting)
        complete = np.full(self.num_envs, self._common_or_step() == N_STEPS)
        self._ended = ended = complete | ~(legal | restarting)
        rewards = np.zeros(self.num_envs)
        infos: dict[str, Any] = {}
        if ended.any():
            rewards[ended] = rules.FAILURE
            which = np.flatnonzero(complete)
            outcome = self.settings.finish(_rows(self._digits, which), self._target.take(which))
            rewards[which] = outcome.reward
            self.env_queries[which] += outcome.index >= 0
            infos = self._final_infos(which, outcome, rewards)
            self._remember(which, outcome)
            if self.autoreset_mode == AutoresetMode.SAME_STEP:
                infos = self._finals(infos)
                self._restart(ended)
        infos.update(self._infos())
        truncated = np.zeros(self.num_envs, dtype=bool)
        return self._observe(), rewards, ended.copy(), truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """(num_envs, 8) True where an action is allowed."""
        return rules.action_masks(self._digits, self.settings.masking, step=self._common_or_step())

    def render(self) -> tuple[Any, ...] | None:
        """One text or picture an episode, as `render_mode` says."""
        if self.render_mode is None:
            return None
        masks = self.action_masks()
        return tuple(
            render_state(self.render_mode, self._digits[i], masks[i], self._outcomes[i], int(self._target[i]))
            for i in range(self.num_envs)
        )

    def _choose(self, action: NDArray[np.int64], restarting: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Make one choice in every episode but those that restart.

        Returns:
            (num_envs,) whether the action was in range; False where the episode restarts.
        """
        if restarting.any():
            # out of range in the first step, this action changes nothing
            action = np.where(restarting, rules.N_ACTIONS - 1, action)
        step = self._common_or_step()
        if isinstance(step, int):
            self._observation[:, step] = rules.scaled_entries(action, step)
        else:
            self._observation.reshape(-1)[self._first_entry + step] = rules.scaled_entries(action, step)
        masks = None if self.settings.masking == "digits" else self.action_masks()
        if masks is not None:
            masks[restarting] = False
        self._digits, legal = rules.apply_actions(self._digits, action, step=step, masks=masks)
        if masks is not None:
            self._observation[~legal] = self.settings.observe(self._digits[~legal], self._target[~legal])
        self._common = step + 1 if isinstance(step, int) and legal.all() else None
        if self._common is None:
            self._step = step + legal
        return legal

    def _common_or_step(self) -> int | NDArray[np.int64]:
        """Digits set: one number where it is the same for all, else (num_envs,)."""
        return self._step if self._common is None else self._common

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

    def _restart(self, mask: NDArray[np.bool_]) -> None:
        """Start the episodes of `mask` anew."""
        which: NDArray[np.int64] | slice = slice(None) if mask.all() else np.flatnonzero(mask)
        if isinstance(which, slice):
            self._common = 0
        else:
            self._step = np.where(mask, 0, self._common_or_step())
            self._common = None
        self._digits.view(np.uint64)[which] = 0
        self._observation[which, :N_STEPS] = 0
        if self.settings.target_class is None or not self._episode.all():
            self._target[which] = self.settings.targets(self._key[which], self._episode[which])
            self._observation[which] = self.settings.observe(self._digits[which], self._target[which])
        self._episode += mask
        self._ended = self._ended & ~mask
        for i in np.flatnonzero(mask) if self._outcomes else ():
            self._outcomes[i] = None

    def _observe(self) -> NDArray[np.float32]:
        return self._observation.copy()

    def _infos(self) -> dict[str, Any]:
        """What every `info` holds."""
        masks = self.action_masks().view(np.int8)
        return {"action_mask": masks, "_action_mask": np.ones(self.num_envs, dtype=bool)}

    def _final_infos(
        self, complete: NDArray[np.int64], outcome: Outcome, rewards: NDArray[np.float64]
    ) -> dict[str, Any]:
        """What `info` gains for the episodes that end, in arrays of all `num_envs`.

        Args:
            complete: (m,) episodes with a composition to judge; the others ended early.
            outcome: of those m.
            rewards: (num_envs,).
        """
        ended, n = self._ended.copy(), self.num_envs
        real = np.flatnonzero(outcome.index >= 0)
        places, index = complete.take(real), outcome.index.take(real)
        formula = np.empty(n, dtype=object)
        formula[ended] = ""
        formula[places] = index_to_formula(index)
        numbers = np.zeros(n, dtype=np.uint64)
        numbers[places] = index_to_numbers(index).view(np.uint64).ravel()
        energy = np.where(ended, np.nan, 0.0)
        energy[places] = outcome.energy.take(real)
        energy_class = np.zeros(n, dtype=np.int64)
        energy_class[complete] = outcome.energy_class
        infos: dict[str, Any] = {
            "is_success": rewards > 0,
            "formula": formula,
            "numbers": numbers.view(np.int16).reshape(-1, N_SITES),
            "energy": energy,
            "energy_class": energy_class,
            "n_queries": np.where(ended, self.env_queries, 0),
        }
        return infos | {f"_{key}": ended for key in infos}

    def _finals(self, infos: dict[str, Any]) -> dict[str, Any]:
        """Gymnasium's form of what an episode ended with, beside the start of the next."""
        ended = self._ended.copy()
        observation, masks = self._observe(), self.action_masks().view(np.int8)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(ended):
            final_obs[i] = observation[i]
        final_mask = np.where(ended[:, None], masks, np.int8(0))
        return {
            "final_obs": final_obs,
            "_final_obs": ended,
            "final_info": {**infos, "action_mask": final_mask, "_action_mask": ended},
            "_final_info": ended,
        }

    def _remember(self, complete: NDArray[np.int64], outcome: Outcome) -> None:
        """Keep outcomes for `render`."""
        if self._outcomes:
            for i in np.flatnonzero(self._ended):
                self._outcomes[i] = rules.NO_COMPOSITION
            for row, i in enumerate(complete):
                self._outcomes[i] = outcome.row(row)


def _rows(digits: NDArray[np.int8], which: NDArray[np.int64]) -> NDArray[np.int8]:
    """(m, 8) rows of (n, 8) digits, each moved as one number."""
    return digits.view(np.uint64).take(which).view(np.int8).reshape(-1, N_STEPS)
