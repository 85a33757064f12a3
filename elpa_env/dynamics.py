"""The rules of the game as pure functions on batches: initial state, masks, actions, reward.

A state is the `digits` of a growing composition, (n, 8) int8, 0 = still open; the number of digits
set is the step. Action a at a step sets the next digit to a + 1: the row of A, its group, the row of
B, and so on (Türk et al. 2022, section 2.3.3). Both environments are thin shells over this module.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from elpa_env.elements import ELEMENT_OF_ROW_GROUP, N_ELEMENTS, N_GROUPS, N_ROWS, ROWS
from elpa_env.errors import InputError
from elpa_env.space import DIGIT_LIMITS, N_STEPS, digits_to_elements

Masking = Literal["digits", "composition"]

N_ACTIONS: Final = max(N_ROWS, N_GROUPS)

_IN_RANGE: Final = np.vstack(
    [np.arange(N_ACTIONS) < DIGIT_LIMITS[:, None], np.ones((1, N_ACTIONS), dtype=bool)]
)
"""(9, 8) actions in range at each step; a finished composition allows all, since none matters."""
_EXISTS: Final = ELEMENT_OF_ROW_GROUP[:, 1:] >= 0
"""(7, 8) whether an element stands at [row, group - 1]."""
_ROW_SIZE: Final = np.bincount(ROWS, minlength=N_ROWS + 1)
"""(7,) elements in each row."""


def check_masking(masking: object) -> Masking:
    """Return `masking` if it is a known way to mask.

    Raises:
        InputError: anything but "digits" or "composition".
    """
    known = get_args(Masking)
    if masking not in known:
        raise InputError(f"masking must be one of {', '.join(known)}, got {masking!r}")
    return masking  # type: ignore[return-value]


def initial_digits(n: int) -> NDArray[np.int8]:
    """(n, 8) zeros: every choice open."""
    return np.zeros((n, N_STEPS), dtype=np.int8)


def steps_taken(digits: NDArray[np.int8]) -> NDArray[np.int64]:
    """(n,) number of digits set."""
    steps: NDArray[np.int64] = np.count_nonzero(digits, axis=1)
    return steps


def action_masks(digits: NDArray[np.int8], masking: Masking = "digits") -> NDArray[np.bool_]:
    """(n, 8) True where an action is allowed.

    Args:
        digits: (n, 8) states.
        masking: "digits" forbids rows and groups out of range; "composition" allows an action only
            if at least one composition of four different elements can still follow.

    A finished composition allows every action, so that no mask is ever empty.
    """
    step = steps_taken(digits)
    masks: NDArray[np.bool_] = _IN_RANGE[step]
    if masking == "digits":
        return masks
    n = len(digits)
    elements = digits_to_elements(digits)
    used = np.zeros((n, N_ELEMENTS + 1), dtype=bool)
    np.put_along_axis(used, np.where(elements < 0, N_ELEMENTS, elements).astype(np.int64), True, 1)
    used = used[:, :N_ELEMENTS]
    choosing_group = step % 2 == 1
    if choosing_group.any():
        row = digits[choosing_group, step[choosing_group] - 1]
        taken = used[choosing_group][:, ELEMENT_OF_ROW_GROUP[:, 1:]]
        masks[choosing_group] = _EXISTS[row] & ~taken[np.arange(len(row)), row]
    choosing_row = (step % 2 == 0) & (step < N_STEPS)
    if choosing_row.any():
        per_row = np.add.reduceat(used[choosing_row], _ROW_STARTS, axis=1, dtype=np.int64)
        masks[choosing_row, :N_ROWS] &= per_row < _ROW_SIZE[1:]
    return masks


_ROW_STARTS: Final = np.searchsorted(ROWS, np.arange(1, N_ROWS + 1))


def apply_actions(digits: NDArray[np.int8], actions: NDArray[np.integer[Any]]) -> NDArray[np.int8]:
    """(n, 8) states after one action each.

    Args:
        digits: (n, 8) unfinished states.
        actions: (n,) 0..7; whether they are allowed is for `action_masks` to say.
    """
    after = digits.copy()
    after[np.arange(len(digits)), steps_taken(digits)] = actions + 1
    return after


def sparse_reward(
    energy_class: NDArray[np.int8], target_class: NDArray[np.int8] | int
) -> NDArray[np.float64]:
    """(n,) eq. 12 for finished compositions: +1 in the desired class, else -1 (class 0 included)."""
    return np.where(energy_class == target_class, 1.0, -1.0)
