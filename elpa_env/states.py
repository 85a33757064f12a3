"""The state of an episode as one integer, and all that is looked up by it, in batches.

A state holds the number of digits set and the digits themselves, 0 = unset, as a mixed-radix number. From the
lowest bits upwards::

    N_ACTIONS * step | code of A and B | code of C and D

The lowest bits with an action added are the place of both in a table, and what an allowed action adds to the
state depends on these two alone. What a state shows, which elements it has used and which composition it is
come together from what its parts, of two sites each, say by themselves, so that every table is small. All
tables are made here, from the widths of the steps and the table of elements.
"""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elpa_env import space
from elpa_env.elements import GROUPS, N_ELEMENTS, ROWS
from elpa_env.space import DIGIT_LIMITS, N_SITES, N_STEPS, N_TABLE

WIDTHS: Final[tuple[int, ...]] = tuple(int(limit) for limit in DIGIT_LIMITS)
"""Actions in range at each of the eight steps."""
N_ACTIONS: Final = max(WIDTHS)
START: Final = 0
"""The state with all digits unset."""
OVER: Final = N_ACTIONS * (N_STEPS + 1)
"""The state of an episode that is over, from which any action leads to `START`."""
COMPLETE: Final = N_ACTIONS * N_STEPS
"""What `first_actions` says of a state with all digits set."""

_STEP_BITS: Final = (OVER + N_ACTIONS - 1).bit_length()
_STEP_MASK: Final = (1 << _STEP_BITS) - 1
_RADICES: Final = np.array(WIDTHS) + 1
_STEPS_A_PART: Final = 4
_PART_STEPS: Final = [slice(first, first + _STEPS_A_PART) for first in range(0, N_STEPS, _STEPS_A_PART)]
_PART_SIZES: Final = [int(_RADICES[steps].prod()) for steps in _PART_STEPS]
_PART_BITS: Final = (max(_PART_SIZES) - 1).bit_length()
_PART_MASK: Final = (1 << _PART_BITS) - 1
_SHIFTS: Final = [_STEP_BITS + part * _PART_BITS for part in range(len(_PART_STEPS))]

# An element is a bit, those of a row a byte; the highest byte is free for the row of an unfinished site.
_ELEMENT_BIT: Final = 1 << (8 * (ROWS - 1) + GROUPS - 1).astype(np.int64)
_ALL_ELEMENTS: Final = np.bitwise_or.reduce(_ELEMENT_BIT)
_ROW_SHIFT: Final = 56
_ALL_ACTIONS: Final = np.ones(N_ACTIONS, dtype=bool).view(np.int64)[0]
_BITS_OF_BYTE: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")


class _Part(NamedTuple):
    """What some neighbouring sites say of a state: tables over their codes, the last digit counting fastest.

    Attributes:
        scaled: (n, 4) float32, their share of the observation.
        used: (n,) int64, elements of the finished sites; in the highest byte 8 (row - 1) of one just begun.
        place: (n,) int64, what they add to the index of a composition; far below zero where it is none.
    """

    scaled: NDArray[np.float32]
    used: NDArray[np.int64]
    place: NDArray[np.int64]


def _part(steps: slice) -> _Part:
    """The sites whose digits these steps set."""
    radices: list[int] = _RADICES[steps].tolist()
    digits = np.zeros((np.prod(radices), N_STEPS), dtype=np.int8)
    digits[:, steps] = np.indices(radices).reshape(len(radices), -1).T
    sites = slice(steps.start // 2, steps.stop // 2)
    elements = space.digits_to_elements(digits)[:, sites]
    rows, groups = (digits[:, steps][:, place::2].astype(np.int64) for place in (0, 1))
    bits = np.where(elements >= 0, _ELEMENT_BIT[elements], 0)
    begun = np.where((rows > 0) & (groups == 0), 8 * (rows - 1), 0)
    strides = N_ELEMENTS ** np.arange(N_SITES - 1, -1, -1)[sites]
    return _Part(
        space.scale(digits)[:, steps],
        np.bitwise_or.reduce(bits, axis=1) | begun.sum(axis=1) << _ROW_SHIFT,
        np.where((elements < 0).any(axis=1), -N_TABLE, elements @ strides),
    )


def _places() -> NDArray[np.int64]:
    """(8,) what one more in a digit adds to the state."""
    places = []
    for steps, shift in zip(_PART_STEPS, _SHIFTS, strict=True):
        radices = _RADICES[steps]
        places += [int(radices[place + 1 :].prod()) << shift for place in range(len(radices))]
    return np.array(places)


def _gains() -> NDArray[np.int64]:
    """(80,) what an action adds to the state, by step and action; 0 where it is out of range."""
    gains = np.zeros((N_STEPS + 2, N_ACTIONS), dtype=np.int64)
    for step, width in enumerate(WIDTHS):
        gains[step, :width] = np.arange(1, width + 1) * _PLACES[step] + N_ACTIONS
    gains[N_STEPS + 1] = START - OVER
    return gains.ravel()


def _entries() -> NDArray[np.float32]:
    """(64,) what an action sets in the observation, by step and action; 0.0 where it is out of range."""
    digits = np.zeros((N_STEPS, N_ACTIONS, N_STEPS), dtype=np.int8)
    for step, width in enumerate(WIDTHS):
        digits[step, :width, step] = np.arange(1, width + 1)
    return np.asarray(space.scale(digits.reshape(-1, N_STEPS)).sum(axis=1))


def _range_masks() -> NDArray[np.bool_]:
    """(80, 8) actions in range, by step and any action; all where no digit is left to set."""
    masks = np.ones((N_STEPS + 2, N_ACTIONS), dtype=bool)
    masks[:N_STEPS] = np.arange(N_ACTIONS) < np.array(WIDTHS)[:, None]
    return masks.repeat(N_ACTIONS, axis=0)


_PLACES: Final = _places()
GAINS: Final = _gains()
"""(80,) what an action adds to the state, by step and action; 0 where it is out of range."""
ENTRIES: Final = _entries()
"""(64,) what an action sets in the observation, by step and action; 0.0 where it is out of range."""
_RANGE_MASKS: Final = _range_masks()
_PARTS: Final = [_part(steps) for steps in _PART_STEPS]
# The observation of all parts is looked up at once, in their tables one behind the other.
_SCALED: Final = np.concatenate([part.scaled for part in _PARTS])
_SCALED_STARTS: Final = [sum(_PART_SIZES[:part]) for part in range(len(_PART_SIZES))]


def steps_taken(digits: NDArray[np.int8]) -> NDArray[np.int64]:
    """(n,) number of digits set."""
    # a product of floats is several times faster than a count along short rows
    return np.asarray(((digits != 0) @ np.ones(N_STEPS)).astype(np.int64))


def encode(digits: NDArray[np.int8]) -> NDArray[np.int64]:
    """(n,) states of (n, 8) digits, which are known to be in range and set from the first on."""
    # floats hold these numbers exactly, and their product is faster, too
    codes = (digits @ _PLACES.astype(np.float64)).astype(np.int64)
    return np.asarray(codes + N_ACTIONS * steps_taken(digits))


def decode(state: NDArray[np.int64]) -> NDArray[np.int8]:
    """(n, 8) digits of (n,) states."""
    parts = state[:, None] & (_PART_MASK << np.array(_SHIFTS))
    return np.asarray((parts.repeat(_STEPS_A_PART, axis=1) // _PLACES % _RADICES).astype(np.int8))


def first_actions(state: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) N_ACTIONS * step: the place of a state's first action in the tables by step and action."""
    return state & _STEP_MASK


def advance(
    state: NDArray[np.int64], place: NDArray[np.int64], allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Make one choice each.

    Args:
        state: (n,) incomplete or `OVER`.
        place: (n,) `first_actions` of the states, plus the actions 0..7.
        allowed: (n,) whether the mask allows the action; by default what is in range.

    Returns:
        (n,) the states after it, and (n,) whether the action was allowed; one that was not changes nothing.
    """
    gain = GAINS.take(place)
    if allowed is not None:
        gain *= allowed
    return state + gain, gain != 0


def advance_together(
    state: NDArray[np.int64], step: int, action: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Make one choice each where all states are at one step and all actions are allowed.

    Returns:
        (n,) the states after it, and (n,) what it sets in the observation.
    """
    of_step = slice(N_ACTIONS * step, N_ACTIONS * (step + 1))
    return state + GAINS[of_step].take(action), ENTRIES[of_step].take(action)


def observe(state: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, 8) digits scaled by eq. 1; 0.0 where unset."""
    places = np.empty((len(state), len(_PARTS)), dtype=np.int64)
    for column, (start, (_, code)) in enumerate(zip(_SCALED_STARTS, _of_parts(state), strict=True)):
        np.add(code, start, out=places[:, column])
    return _SCALED.take(places, axis=0).reshape(-1, N_STEPS)


def index_of(state: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) position in the table of all compositions; -1 = incomplete, not existing, or an element twice."""
    index = functools.reduce(np.add, [part.place.take(code) for part, code in _of_parts(state)])
    # the first entry of the table repeats an element, as good as one that does not exist
    real = space.composition_mask().take(index, mode="clip")
    return np.where(real, index, -1)


def action_masks(state: NDArray[np.int64], *, composition: bool = False) -> NDArray[np.bool_]:
    """(n, 8) True where an action is in range, or rather where a composition can still follow."""
    return composition_masks(state) if composition else range_masks(first_actions(state))


def range_masks(first: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n, 8) True where an action is in range, and everywhere once the composition is complete.

    Args:
        first: (n,) of `first_actions`.
    """
    return _RANGE_MASKS.take(first, axis=0)


def composition_masks(state: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n, 8) True where a composition can follow, and everywhere once it is complete."""
    used = functools.reduce(np.bitwise_or, [part.used.take(code) for part, code in _of_parts(state)])
    free = _ALL_ELEMENTS & ~used
    rows = free.astype("<i8", copy=False).view(np.uint8).reshape(-1, 8) != 0
    groups = _BITS_OF_BYTE.take((free >> (used >> _ROW_SHIFT)) & 255, axis=0).view(bool)
    first = first_actions(state)
    # a row of eight bools travels as one number
    masks = np.where(first & N_ACTIONS, groups.view(np.int64).ravel(), rows.view(np.int64).ravel())
    masks[first >= COMPLETE] = _ALL_ACTIONS
    return np.asarray(masks.view(bool).reshape(-1, N_ACTIONS))


def _of_parts(state: NDArray[np.int64]) -> list[tuple[_Part, NDArray[np.int64]]]:
    """Each part with its codes (n,)."""
    codes = [state >> shift for shift in _SHIFTS]
    for code in codes[:-1]:  # nothing stands above the last
        code &= _PART_MASK
    return list(zip(_PARTS, codes, strict=True))
