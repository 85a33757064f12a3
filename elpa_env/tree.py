"""The state tree of an environment as arrays, level by level.

At step t a state is numbered by its `code`, the mixed-radix number of its digits, the digit chosen last
counting
fastest. The child that action a leads to is then `code * width + a`, so an array (n_t, width) over states and
actions of one level, read flat, is an array over the states of the next. For elpasolite there are 790,615
inner states on eight levels, and 5,308,416 leaves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elpa_env.errors import InputError
from elpa_env.rules import Masking, action_masks, sparse_reward
from elpa_env.space import Space


class EnergyClasses(Protocol):
    """Anything that knows the class of every composition: a `Table`, or another judge."""

    @property
    def space(self) -> Space:
        """Of the compositions."""
        ...

    def energy_class(self, index: ArrayLike) -> NDArray[np.int8]:
        """(n,) class 1..k at (n,) index; 0 where index is -1."""
        ...


LevelPolicy = Callable[[int, NDArray[np.int8]], NDArray[np.floating]]
"""Action probabilities (m, n_actions) of states at a step, given the step and their digits (m, 2 S)."""

_CHUNK: Final = 1 << 13
"""States at a time: few enough that a network's activations stay in the cache."""


class Tree:
    """All states of a space.

    Attributes:
        space: see there.
        widths: actions in range at each step.
        sizes: states at each step, then the leaves.
        n_inner: states that are no leaves.
        n_leaves: leaves, whether they are compositions or not.

    Raises:
        InputError: there are too many states.
    """

    def __init__(self, space: Space) -> None:
        if not space.solvable:
            leaves = float(space.n_rows * space.n_columns) ** space.n_sites
            raise InputError(
                f"exact figures need all states, and {space.name} has {leaves:.2g}: draw samples instead"
            )
        self.space = space
        self.widths = space.states.widths
        self.sizes = tuple(int(np.prod(self.widths[:step])) for step in range(space.n_steps + 1))
        self.n_inner = sum(self.sizes[:-1])
        self.n_leaves = self.sizes[-1]
        self.level_masks = functools.cache(self._level_masks)

    def codes_to_digits(self, step: int, codes: NDArray[np.int64]) -> NDArray[np.int8]:
        """(m, 2 S) digits of (m,) codes of states at `step`; the last step is the leaves."""
        digits = np.zeros((len(codes), self.space.n_steps), dtype=np.int8)
        for place in range(step - 1, -1, -1):
            codes, action = np.divmod(codes, self.widths[place])
            digits[:, place] = action + 1
        return digits

    def digits_to_codes(self, step: int, digits: NDArray[np.int8]) -> NDArray[np.int64]:
        """(m,) codes of (m, 2 S) digits of states at `step`."""
        codes = np.zeros(len(digits), dtype=np.int64)
        for place in range(step):
            codes *= self.widths[place]
            codes += digits[:, place] - 1
        return codes

    def _level_masks(self, step: int, masking: Masking) -> NDArray[np.bool_]:
        """(n_step, width) True where an action of a state at `step` is open; see `rules.action_masks`."""
        masks = np.empty((self.sizes[step], self.widths[step]), dtype=bool)
        for part in _chunks(self.sizes[step]):
            digits = self.codes_to_digits(step, np.arange(part.start, part.stop))
            masks[part] = action_masks(self.space, digits, masking)[:, : self.widths[step]]
        masks.setflags(write=False)
        return masks

    @functools.cached_property
    def leaf_index(self) -> NDArray[np.int32]:
        """(n_leaves,) index of each leaf in the table of compositions; -1 where it is no composition."""
        index = np.empty(self.n_leaves, dtype=np.int32)
        for part in _chunks(self.n_leaves):
            leaves = self.codes_to_digits(self.space.n_steps, np.arange(part.start, part.stop))
            index[part] = self.space.digits_to_index(leaves)
        index.setflags(write=False)
        return index

    def leaf_rewards(self, target_class: int, energies: EnergyClasses) -> NDArray[np.float64]:
        """(n_leaves,) reward of each leaf: +1 in the class, else -1, eq. 12.

        Args:
            target_class: 1..k.
            energies: of the classes.

        Raises:
            InputError: there is no such class.
        """
        target_class = self.space.targets.check(target_class)
        return sparse_reward(energies.energy_class(self.leaf_index), target_class)

    def tabulate(self, level_values: LevelPolicy) -> tuple[NDArray[np.float32], ...]:
        """Values of all actions in every inner state that a composition can follow, each asked once.

        Args:
            level_values: given a step and digits (m, 2 S) of states at that step, their values (m,
                n_actions).

        Returns:
            For each step (n_step, n_actions), states by their code; NaN where no composition can follow. 25
            MB in all for elpasolite.
        """
        levels = []
        viable = np.ones(1, dtype=bool)
        for step in range(self.space.n_steps):
            codes = np.flatnonzero(viable)
            table = np.full((self.sizes[step], self.space.n_actions), np.nan, dtype=np.float32)
            for part in _chunks(len(codes)):
                table[codes[part]] = level_values(step, self.codes_to_digits(step, codes[part]))
            levels.append(table)
            viable = (self.level_masks(step, "composition") & viable[:, None]).ravel()
        return tuple(levels)

    def policy_distribution(self, level_probabilities: LevelPolicy) -> NDArray[np.float64]:
        """Probability of every composition under a policy, by walking it down the tree.

        The policy is asked, in chunks, only about states that it reaches and that a composition can follow:
        for elpasolite at most 394,268 of the 790,615.

        Args:
            level_probabilities: given a step and digits (m, 2 S) of states at that step, m > 0, their action
                probabilities (m, n_actions). Rows need not sum to 1: each is divided by its sum.

        Returns:
            (n_table,); its sum is the share of episodes that end in a real composition. The rest repeat an
            element, choose one that does not exist, or take an action out of range.

        Raises:
            InputError: a state whose probabilities are negative, not finite, or all 0.
        """
        codes, probability = np.zeros(1, dtype=np.int64), np.ones(1)
        for step in range(self.space.n_steps):
            parts = [
                self._descend(level_probabilities, step, codes[part], probability[part])
                for part in _chunks(len(codes))
            ]
            if not parts:
                break
            codes, probability = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        distribution = np.zeros(self.space.n_table)
        if len(codes):
            distribution[self.leaf_index[codes]] = probability
        return distribution

    def _descend(
        self,
        level_probabilities: LevelPolicy,
        step: int,
        codes: NDArray[np.int64],
        probability: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Codes and probabilities of the children that are reached and that a composition can follow."""
        width = self.widths[step]
        digits = self.codes_to_digits(step, codes)
        policy = np.asarray(level_probabilities(step, digits), dtype=np.float64)
        expected = (len(codes), self.space.n_actions)
        if policy.shape != expected:
            raise InputError(f"action probabilities must have shape {expected}, got {policy.shape}")
        total = policy.sum(axis=1)
        bad = ~((total > 0) & np.isfinite(total) & (policy >= 0).all(axis=1))
        if bad.any():
            where = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"action probabilities must be at least 0 with a positive sum, "
                f"got {policy[where].tolist()} in state {digits[where].tolist()}"
            )
        children = (probability / total)[:, None] * policy[:, :width]
        reached = (children > 0) & self.level_masks(step, "composition")[codes]
        return (codes[:, None] * width + np.arange(width))[reached], children[reached]


def _chunks(size: int) -> list[slice]:
    return [slice(start, min(start + _CHUNK, size)) for start in range(0, size, _CHUNK)]
