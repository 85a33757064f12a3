"""The rules of the game as pure functions on batches: what is allowed, and what an episode comes to.

A state is the `digits` of a growing composition, (n, 8) int8, 0 = unset, or the same as one integer, see
`elpa_env.states`; the number of digits set is the step. Action a at a step sets the next digit to a + 1: the
row of A, its group, the row of B, and so on (Türk et al. 2022, section 2.3.3). Both environments are thin
shells over this module; nothing here changes its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elpa_env import states
from elpa_env.classes import N_CLASSES, energy_to_class, one_hot
from elpa_env.errors import InputError, check_choice
from elpa_env.landscape import EnergyModel, Landscape
from elpa_env.space import N_SITES, N_STEPS, index_to_formula, index_to_numbers
from elpa_env.states import N_ACTIONS as N_ACTIONS
from elpa_env.states import steps_taken as steps_taken

Masking = Literal["digits", "composition"]
Reward = Callable[[NDArray[np.int16], NDArray[np.float32], NDArray[np.int8], NDArray[np.int8]], ArrayLike]
"""A reward of one's own: (n,) numbers for a batch of finished episodes that made real compositions.

It is called with their atomic numbers (n, 4), energies (n,) in eV/atom, energy classes (n,) 1..10, and the
classes (n,) 1..10 that the episodes aim at.
"""

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


def check_masking(masking: object) -> Masking:
    """Return `masking` if it is a known way to mask.

    Raises:
        InputError: anything but "digits" or "composition".
    """
    check_choice("masking", masking, get_args(Masking))
    return masking  # type: ignore[return-value]


def initial_digits(n: int) -> NDArray[np.int8]:
    """(n, 8) zeros: every digit unset."""
    return np.zeros((n, N_STEPS), dtype=np.int8)


def observe(digits: NDArray[np.int8], target_class: ArrayLike | None = None) -> NDArray[np.float32]:
    """What an agent sees of valid digits: eq. 1, without the checks of `elpa_env.scale`.

    Args:
        digits: (n, 8) states.
        target_class: (n,) or one for all, 1..10, where the observation names the class of the episode.

    Returns:
        (n, 8), or (n, 18) with the class one-hot behind the digits.
    """
    scaled = states.observe(states.encode(digits))
    if target_class is None:
        return scaled
    return np.concatenate([scaled, one_hot(np.broadcast_to(target_class, len(digits)))], axis=1)


def action_masks(digits: NDArray[np.int8], masking: Masking = "digits") -> NDArray[np.bool_]:
    """(n, 8) True where an action is allowed.

    Args:
        digits: (n, 8) states, complete ones included.
        masking: "digits" forbids rows and groups out of range; "composition" allows an action only
            if at least one composition of four different elements can still follow.

    A finished composition allows every action, and no state that allowed actions lead to has an empty
    mask.
    """
    return states.action_masks(states.encode(digits), composition=masking == "composition")


def apply_actions(
    digits: NDArray[np.int8], actions: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Make one choice each.

    Args:
        digits: (n, 8) unfinished states.
        actions: (n,) 0..7.

    Returns:
        (n, 8) the digits after it, and (n,) whether the action was in range; one that was not changes
        nothing and ends the episode.
    """
    state = states.encode(digits)
    state, legal = states.advance(state, states.first_actions(state) + actions)
    return states.decode(state), legal


def sparse_reward(
    energy_class: NDArray[np.int8], target_class: NDArray[np.int8] | int
) -> NDArray[np.float64]:
    """(n,) eq. 12 for finished compositions: +1 in the desired class, else -1, class 0 included."""
    return np.where(energy_class == target_class, 1.0, FAILURE)


def finish(
    index: NDArray[np.int64],
    target_class: NDArray[np.int8] | int,
    energy_model: EnergyModel,
    reward: Reward | None = None,
) -> Outcome:
    """Judge finished episodes.

    Args:
        index: (n,) compositions; -1 = an episode that made none.
        target_class: (n,) or one for all, 1..10.
        energy_model: called once, with the atomic numbers of all that are real compositions.
        reward: eq. 12 by default; one of one's own is asked about real compositions alone, the rest
            earn -1.

    Raises:
        InputError: the energy model or the reward fails, or what it returns is not one number each that
            float32 can hold.
    """
    if isinstance(energy_model, Landscape):
        energy, energy_class = energy_model.energy(index), energy_model.energy_class(index)
    else:
        energy, energy_class = _ask_energies(index, energy_model)
    if reward is None:
        return Outcome(index, energy, energy_class, sparse_reward(energy_class, target_class))
    targets = np.broadcast_to(np.asarray(target_class, dtype=np.int8), index.shape)
    earned = np.full(len(index), FAILURE)
    if len(real := np.flatnonzero(index >= 0)):
        numbers = index_to_numbers(index[real])
        earned[real] = _ask(
            "reward", reward, "numbers", numbers, energy[real], energy_class[real], targets[real]
        )
    return Outcome(index, energy, energy_class, earned)


def _ask_energies(
    index: NDArray[np.int64], energy_model: EnergyModel
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Energies (n,) in eV/atom and energy classes (n,); NaN and 0 where there is no composition."""
    energy = np.full(len(index), np.nan, dtype=np.float32)
    energy_class = np.zeros(len(index), dtype=np.int8)
    if len(real := np.flatnonzero(index >= 0)):
        numbers = index_to_numbers(index[real])
        energy[real] = _ask("energy_model", energy_model, "eV/atom", numbers)
        energy_class[real] = energy_to_class(energy[real])
    return energy, energy_class


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
