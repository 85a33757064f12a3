"""The rules of the game as pure functions on batches: state, observation, masks, actions, outcome.

A state is the `digits` of a growing composition, (n, 8) int8, 0 = still open; the number of digits
set is the step. Action a at a step sets the next digit to a + 1: the row of A, its group, the
row of B, and so on (Türk et al. 2022, section 2.3.3). Both environments are thin shells over this
module; nothing here changes its arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elpa_env.classes import N_CLASSES, energy_to_class, one_hot
from elpa_env.elements import GROUPS, N_GROUPS, N_ROWS, ROWS
from elpa_env.errors import InputError, check_choice
from elpa_env.landscape import EnergyModel, Landscape
from elpa_env.space import (
    DIGIT_LIMITS,
    N_PAIR_CODES,
    N_SITES,
    N_STEPS,
    PAIR_CODE_OF_ELEMENT,
    index_to_formula,
    index_to_numbers,
    known_digits_to_index,
    pair_codes,
    scale,
)

Masking = Literal["digits", "composition"]
Reward = Callable[[NDArray[np.int16], NDArray[np.float32], NDArray[np.int8], NDArray[np.int8]], ArrayLike]
"""A reward of one's own: (n,) numbers for a batch of finished episodes that made real compositions.

It is called with their atomic numbers (n, 4), energies (n,) in eV/atom, energy classes (n,) 1..10, and the
classes (n,) 1..10 that the episodes aim at.
"""

N_ACTIONS: Final = max(N_ROWS, N_GROUPS)
FAILURE: Final = -1.0
"""Reward of an action out of range and of a composition that does not exist."""


@dataclass(frozen=True)
class Outcome:
    """What finished episodes come to.

    Attributes:
        index: (n,) int64, -1 = no such composition.
        energy: (n,) float32, eV/atom, NaN where there is no composition.
        energy_class: (n,) int8, 0 where there is none.
        reward: (n,) float64.
    """

    index: NDArray[np.int64]
    energy: NDArray[np.float32]
    energy_class: NDArray[np.int8]
    reward: NDArray[np.float64]

    def row(self, i: int) -> Outcome:
        """The outcome of one episode."""
        one = slice(i, i + 1)
        return Outcome(self.index[one], self.energy[one], self.energy_class[one], self.reward[one])


NO_COMPOSITION: Final = Outcome(
    np.array([-1]), np.array([np.nan], dtype=np.float32), np.zeros(1, dtype=np.int8), np.array([FAILURE])
)
"""Of one episode that ended early, by an action out of range."""


def _in_range() -> NDArray[np.bool_]:
    """(9, 8) actions in range at each step; all once the composition is complete."""
    rows = np.arange(N_ACTIONS) < DIGIT_LIMITS[:, None]
    return np.vstack([rows, np.ones((1, N_ACTIONS), dtype=bool)])


def _by_code(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(72,) values of elements by the pair code of their row and group; 0 for no element."""
    table = np.zeros(N_PAIR_CODES, dtype=np.uint64)
    table[PAIR_CODE_OF_ELEMENT] = values
    return table


def _scaled_by_code() -> NDArray[np.uint64]:
    """(72,) the two scaled digits of a pair code, as 64 bits."""
    row, group = np.meshgrid(np.arange(N_ROWS + 1), np.arange(N_GROUPS + 1), indexing="ij")
    pair = np.stack([row.ravel(), group.ravel()], axis=-1).astype(np.int8)
    table = np.zeros(N_PAIR_CODES, dtype=np.uint64)
    scaled = scale(np.tile(pair, N_SITES))[:, :2]
    table[8 * pair[:, 1] + pair[:, 0]] = np.ascontiguousarray(scaled).view(np.uint64).ravel()
    return table


# Rows of eight bools travel as one 64-bit number: one look-up a state instead of eight.
_IN_RANGE: Final = _in_range()
_DIGIT_OF_CHOICE: Final = (_IN_RANGE * np.arange(1, N_ACTIONS + 1)).astype(np.int8).ravel()
_IN_RANGE_64: Final = _IN_RANGE.view(np.uint64).ravel()
_BITS_64: Final = np.ascontiguousarray(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
).view(np.uint64)
# Element at row r, group g = bit 8 (r - 1) + g - 1, so that a row is a byte.
_ELEMENT_BIT: Final = np.uint64(1) << (8 * (ROWS - 1) + GROUPS - 1).astype(np.uint64)
_ALL_ELEMENTS: Final = np.bitwise_or.reduce(_ELEMENT_BIT)
_BIT_OF_CODE: Final = _by_code(_ELEMENT_BIT)
_SCALED_OF_CODE: Final = _scaled_by_code()


def check_masking(masking: object) -> Masking:
    """Return `masking` if it is a known way to mask.

    Raises:
        InputError: anything but "digits" or "composition".
    """
    check_choice("masking", masking, get_args(Masking))
    return masking  # type: ignore[return-value]


def initial_digits(n: int) -> NDArray[np.int8]:
    """(n, 8) zeros: every choice open."""
    return np.zeros((n, N_STEPS), dtype=np.int8)


def steps_taken(digits: NDArray[np.int8]) -> NDArray[np.int64]:
    """(n,) number of digits set."""
    steps: NDArray[np.int64] = np.count_nonzero(digits, axis=1)
    return steps


def observe(digits: NDArray[np.int8], target_class: ArrayLike | None = None) -> NDArray[np.float32]:
    """What an agent sees of valid digits: eq. 1, without the checks of `elpa_env.scale`.

    Args:
        digits: (n, 8) states, contiguous.
        target_class: (n,) or one for all, 1..10, where the observation names the class of the episode.

    Returns:
        (n, 8), or (n, 18) with the class one-hot behind the digits.
    """
    scaled = _SCALED_OF_CODE.take(pair_codes(digits)).view(np.float32)
    if target_class is None:
        return scaled
    return np.concatenate([scaled, one_hot(np.broadcast_to(target_class, len(digits)))], axis=1)


def action_masks(
    digits: NDArray[np.int8],
    masking: Masking = "digits",
    *,
    step: NDArray[np.int64] | int | None = None,
) -> NDArray[np.bool_]:
    """(n, 8) True where an action is allowed.

    Args:
        digits: (n, 8) states, complete ones included.
        masking: "digits" forbids rows and groups out of range; "composition" allows an action only
            if at least one composition of four different elements can still follow.
        step: (n,) digits set, for callers that know it; one number where it is the same for all.

    A finished composition allows every action, and no state that allowed actions lead to has an empty
    mask.
    """
    if masking == "digits" and isinstance(step, int):
        return np.full(len(digits), _IN_RANGE_64[step]).view(bool).reshape(-1, N_ACTIONS)
    if step is None or isinstance(step, int):
        step = steps_taken(digits)
    masks = _IN_RANGE_64.take(step)
    if masking == "composition":
        used = np.bitwise_or.reduce(_BIT_OF_CODE.take(pair_codes(digits)), axis=1)
        free = (_ALL_ELEMENTS & ~used).view(np.uint8).reshape(-1, 8)
        places = np.arange(len(free))
        row = digits[places, np.maximum(step - 1, 0)]
        groups = _BITS_64.take(free[places, np.maximum(row, 1) - 1])
        rows = (free != 0).view(np.uint64).ravel()
        masks = np.where(step == N_STEPS, masks, np.where(step % 2 == 1, groups, rows))
    return masks.view(bool).reshape(-1, N_ACTIONS)


def apply_actions(
    digits: NDArray[np.int8],
    actions: NDArray[np.integer[Any]],
    *,
    step: NDArray[np.int64] | int | None = None,
    masks: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Make one choice each.

    Args:
        digits: (n, 8) unfinished states.
        actions: (n,) 0..7.
        step: (n,) digits set, for callers that know it; one number where it is the same for all.
        masks: (n, 8) True where an action is allowed, of `action_masks`; by default what is in range.

    Returns:
        (n, 8) the digits after it, and (n,) whether the action was allowed; one that was not
        changes nothing and ends the episode.
    """
    step = steps_taken(digits) if step is None else step
    digit = _DIGIT_OF_CHOICE.take(step * N_ACTIONS + actions)
    if masks is not None:
        digit *= masks.reshape(-1).take(np.arange(0, digits.size, N_STEPS) + actions)
    after = digits.copy()
    if isinstance(step, int):
        after[:, step] = digit
        return after, digit > 0
    after.reshape(-1)[np.arange(0, digits.size, N_STEPS) + step] = digit
    return after, digit > 0


def scaled_entries(actions: NDArray[np.integer[Any]], step: NDArray[np.int64] | int) -> NDArray[np.float32]:
    """(n,) what `observe` shows of (n,) actions once they are made; 0.0 of one out of range."""
    return _entries().take(step * N_ACTIONS + actions)


@functools.cache
def _entries() -> NDArray[np.float32]:
    """(64,) what `apply_actions` and `observe` make of every step and action."""
    step, actions = np.divmod(np.arange(N_STEPS * N_ACTIONS), N_ACTIONS)
    before = (np.arange(N_STEPS) < step[:, None]).astype(np.int8)
    after, _ = apply_actions(before, actions, step=step)
    return observe(after)[np.arange(len(step)), step]


class Tables(NamedTuple):
    """What the batched functions say of every step and action, for going one state at a time.

    Attributes:
        legal: [step][action] whether the action is in range.
        scaled: [step][action] the entry that it sets in the observation.
        masks: [step] (8,) int8 "digits" mask.
    """

    legal: list[list[bool]]
    scaled: list[list[float]]
    masks: tuple[NDArray[np.int8], ...]


def tables() -> Tables:
    """Ask the batched functions once for every step and action."""
    states = np.tri(N_STEPS + 1, N_STEPS, -1, dtype=np.int8)
    masks = action_masks(states)
    scaled = _entries().reshape(N_STEPS, N_ACTIONS)
    return Tables(masks[:N_STEPS].tolist(), scaled.tolist(), tuple(masks.view(np.int8)))


def sparse_reward(
    energy_class: NDArray[np.int8], target_class: NDArray[np.int8] | int
) -> NDArray[np.float64]:
    """(n,) eq. 12 for finished compositions: +1 in the desired class, else -1, class 0 included."""
    return np.where(energy_class == target_class, 1.0, FAILURE)


def finish(
    digits: NDArray[np.int8],
    target_class: NDArray[np.int8] | int,
    energy_model: EnergyModel,
    reward: Reward | None = None,
) -> Outcome:
    """Judge finished episodes.

    Args:
        digits: (n, 8); a digit 0 says that the episode ended early, by an action out of range.
        target_class: (n,) or one for all, 1..10.
        energy_model: called once, with the atomic numbers of all that are real compositions.
        reward: eq. 12 by default; one of one's own is asked about real compositions alone, the rest
            earn -1.

    Raises:
        InputError: the energy model or the reward fails, or returns the wrong shape or NaN.
    """
    index = known_digits_to_index(digits)
    real = np.flatnonzero(index >= 0)
    energy = np.full(len(index), np.nan, dtype=np.float32)
    energy_class = np.zeros(len(index), dtype=np.int8)
    numbers = index_to_numbers(index.take(real))
    if isinstance(energy_model, Landscape):
        energy[real] = energy_model.energy(index.take(real))
        energy_class[real] = energy_model.energy_class(index.take(real))
    elif len(real):
        energy[real] = _ask("energy_model", energy_model, "eV/atom", numbers)
        energy_class[real] = energy_to_class(energy.take(real))
    if reward is None:
        return Outcome(index, energy, energy_class, sparse_reward(energy_class, target_class))
    earned = np.full(len(index), FAILURE)
    if len(real):
        targets = np.broadcast_to(np.asarray(target_class, dtype=np.int8), index.shape)[real]
        earned[real] = _ask("reward", reward, "numbers", numbers, energy[real], energy_class[real], targets)
    return Outcome(index, energy, energy_class, earned)


def _ask(
    role: str, function: Callable[..., ArrayLike], unit: str, *arguments: NDArray[Any]
) -> NDArray[np.float64]:
    """Call a user's function on a batch and check what comes back."""
    name = getattr(function, "__qualname__", type(function).__name__)
    n = len(arguments[0])
    try:
        values = np.asarray(function(*arguments), dtype=np.float64)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"{role} {name} failed: {type(error).__name__}: {reason}") from error
    if values.shape != (n,):
        raise InputError(
            f"{role} {name} returned shape {values.shape} for {n} compositions: it must return ({n},) {unit}"
        )
    bad = ~np.isfinite(values)
    if bad.any():
        first = arguments[0][int(bad.argmax())]
        raise InputError(
            f"{role} {name} returned {values[bad][0]} for {first.tolist()}: it must return finite {unit}"
        )
    return values


def draw_targets(key: NDArray[np.uint64], episode: NDArray[np.uint64]) -> NDArray[np.int8]:
    """(n,) target classes 1..10, each decided by a seed and the number of the episode alone.

    The mixing function of SplitMix64 (Steele, Lea and Flood 2014): one class an episode needs no
    generator an environment, and a batch draws what its members would draw by themselves.
    """
    with np.errstate(over="ignore"):
        x = _mix(key + np.uint64(0x9E3779B97F4A7C15)) + episode * np.uint64(0x9E3779B97F4A7C15)
        return (_mix(x) % np.uint64(N_CLASSES)).astype(np.int8) + np.int8(1)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def describe(outcome: Outcome) -> dict[str, Any]:
    """The keys that `info` gains at the end of an episode, from the outcome of that one."""
    index = outcome.index
    exists = bool(index[0] >= 0)
    return {
        "is_success": bool(outcome.reward[0] > 0),
        "formula": index_to_formula(index)[0] if exists else "",
        "numbers": index_to_numbers(index)[0] if exists else np.zeros(N_SITES, dtype=np.int16),
        "energy": float(outcome.energy[0]),
        "energy_class": int(outcome.energy_class[0]),
    }
