"""The state tree of the environment as arrays, level by level.

At step t a state is numbered by its `code`, the mixed-radix number of its digits: 6 for a row, 8 for a
group, the digit chosen last counting fastest. The child that action a leads to is then
`code * width + a`, so an array (n_t, width) over states and actions of one level, read flat, is an array
over the states of the next. There are 790,615 inner states on eight levels, and 5,308,416 leaves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elpa_env.classes import check_target_class
from elpa_env.errors import InputError
from elpa_env.landscape import load_landscape
from elpa_env.rules import Masking, action_masks, sparse_reward
from elpa_env.space import N_STEPS, N_TABLE, digits_to_index
from elpa_env.states import N_ACTIONS, WIDTHS


class EnergyClasses(Protocol):
    """Anything that knows the energy class of every composition: a `Landscape`, or another judge."""

    def energy_class(self, index: ArrayLike) -> NDArray[np.int8]:
        """(n,) energy class 1..10 at (n,) index; 0 where index is -1."""
        ...


LevelPolicy = Callable[[int, NDArray[np.int8]], NDArray[np.floating]]
"""Action probabilities (m, 8) of states at a step, given the step and their digits (m, 8)."""

SIZES: Final[tuple[int, ...]] = tuple(int(np.prod(WIDTHS[:step])) for step in range(N_STEPS + 1))
"""States at steps 0..7, then the leaves."""
N_INNER: Final = sum(SIZES[:-1])
N_LEAVES: Final = SIZES[-1]

_CHUNK: Final = 1 << 13
"""States at a time: few enough that a network's activations stay in the cache."""


def codes_to_digits(step: int, codes: NDArray[np.int64]) -> NDArray[np.int8]:
    """(m, 8) digits of (m,) codes of states at `step`; step 8 is the leaves."""
    digits = np.zeros((len(codes), N_STEPS), dtype=np.int8)
    for place in range(step - 1, -1, -1):
        codes, action = np.divmod(codes, WIDTHS[place])
        digits[:, place] = action + 1
    return digits


def digits_to_codes(step: int, digits: NDArray[np.int8]) -> NDArray[np.int64]:
    """(m,) codes of (m, 8) digits of states at `step`."""
    codes = np.zeros(len(digits), dtype=np.int64)
    for place in range(step):
        codes *= WIDTHS[place]
        codes += digits[:, place] - 1
    return codes


def _chunks(size: int) -> list[slice]:
    return [slice(start, min(start + _CHUNK, size)) for start in range(0, size, _CHUNK)]


@functools.cache
def level_masks(step: int, masking: Masking) -> NDArray[np.bool_]:
    """(n_step, width) True where an action of a state at `step` is open; see `rules.action_masks`."""
    masks = np.empty((SIZES[step], WIDTHS[step]), dtype=bool)
    for part in _chunks(SIZES[step]):
        digits = codes_to_digits(step, np.arange(part.start, part.stop))
        masks[part] = action_masks(digits, masking)[:, : WIDTHS[step]]
    masks.setflags(write=False)
    return masks


@functools.cache
def leaf_index() -> NDArray[np.int32]:
    """(5,308,416,) index of each leaf in the 39^4 table; -1 where it is no composition."""
    index = np.empty(N_LEAVES, dtype=np.int32)
    for part in _chunks(N_LEAVES):
        index[part] = digits_to_index(codes_to_digits(N_STEPS, np.arange(part.start, part.stop)))
    index.setflags(write=False)
    return index


def leaf_rewards(target_class: int, landscape: EnergyClasses | None = None) -> NDArray[np.float64]:
    """(5,308,416,) reward of each leaf: +1 in the class, else -1, eq. 12.

    Args:
        target_class: 1..10.
        landscape: of the classes; the shipped one by default.

    Raises:
        InputError: the class is not 1..10.
    """
    check_target_class(target_class)
    return sparse_reward((landscape or load_landscape()).energy_class(leaf_index()), target_class)


def tabulate(level_values: LevelPolicy) -> tuple[NDArray[np.float32], ...]:
    """Values of the eight actions in every inner state that a composition can follow, each asked once.

    Args:
        level_values: given a step and digits (m, 8) of states at that step, their values (m, 8).

    Returns:
        For each of the eight steps (n_step, 8), states by their code; NaN where no composition can
        follow. 25 MB in all.
    """
    levels = []
    viable = np.ones(1, dtype=bool)
    for step in range(N_STEPS):
        codes = np.flatnonzero(viable)
        table = np.full((SIZES[step], N_ACTIONS), np.nan, dtype=np.float32)
        for part in _chunks(len(codes)):
            table[codes[part]] = level_values(step, codes_to_digits(step, codes[part]))
        levels.append(table)
        viable = (level_masks(step, "composition") & viable[:, None]).ravel()
    return tuple(levels)


def policy_distribution(level_probabilities: LevelPolicy) -> NDArray[np.float64]:
    """Probability of every composition under a policy, by walking it down the tree.

    The policy is asked, in chunks, only about states that it reaches and that a composition can follow:
    at most 394,268 of the 790,615.

    Args:
        level_probabilities: given a step and digits (m, 8) of states at that step, m > 0, their action
            probabilities (m, 8). Rows need not sum to 1: each is divided by its sum.

    Returns:
        (39^4,); its sum is the share of episodes that end in a real composition. The rest repeat an
        element, choose one that does not exist, or take an action out of range.

    Raises:
        InputError: a state whose probabilities are negative, not finite, or all 0.
    """
    codes, probability = np.zeros(1, dtype=np.int64), np.ones(1)
    for step in range(N_STEPS):
        parts = [
            _descend(level_probabilities, step, codes[part], probability[part])
            for part in _chunks(len(codes))
        ]
        if not parts:
            break
        codes, probability = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    distribution = np.zeros(N_TABLE)
    if len(codes):
        distribution[leaf_index()[codes]] = probability
    return distribution


def _descend(
    level_probabilities: LevelPolicy,
    step: int,
    codes: NDArray[np.int64],
    probability: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Codes and probabilities of the children that are reached and that a composition can follow."""
    width = WIDTHS[step]
    digits = codes_to_digits(step, codes)
    policy = np.asarray(level_probabilities(step, digits), dtype=np.float64)
    expected = (len(codes), N_ACTIONS)
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
    reached = (children > 0) & level_masks(step, "composition")[codes]
    return (codes[:, None] * width + np.arange(width))[reached], children[reached]
