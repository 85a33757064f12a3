"""The rules of the game as pure functions on batches: what is allowed, and what an episode comes to.

A state is the `digits` of a growing composition, (n, 2 S) int8, 0 = unset, or the same as one integer, see
`elpa_env.states`; the number of digits set is the step. Action a at a step sets the next digit to a + 1: the
row of the first site, its column, the row of the second, and so on (Türk et al. 2022, section 2.3.3). Both
environments are thin shells over this module; nothing here changes its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elpa_env.errors import InputError, check_choice
from elpa_env.space import Space
from elpa_env.table import EnergyModel, Table

Masking = Literal["digits", "composition"]
Reward = Callable[[NDArray[np.int16], NDArray[np.float32], NDArray[np.int8], NDArray[np.int8]], ArrayLike]
"""A reward of one's own: (n,) numbers for a batch of finished episodes that made real compositions.

It is called with their atomic numbers (n, S), energies (n,), energy classes (n,) 1..k, 0 where an energy is
in none or not known, and the classes (n,) 1..k that the episodes aim at.
"""

FAILURE: Final = -1.0
"""Reward of an action out of range and of a composition that does not exist."""
LARGEST: Final = float(np.finfo(np.float32).max)
"""An energy or a reward beyond it would be infinite as float32, in which agents see them."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What finished episodes come to.

    Attributes:
        space: of the compositions.
        index: (n,) int64, -1 = no such composition.
        energy_class: (n,) int8, 0 where there is none.
        reward: (n,) float64.
        energies: what `energy` gives, or the table where it is looked up.
    """

    space: Space
    index: NDArray[np.int64]
    energy_class: NDArray[np.int8]
    reward: NDArray[np.float64]
    energies: NDArray[np.float32] | Table

    @property
    def energy(self) -> NDArray[np.float32]:
        """(n,) NaN where there is no composition, or its energy is not known."""
        return self.energies.energy(self.index) if isinstance(self.energies, Table) else self.energies

    def row(self, i: int) -> Outcome:
        """The outcome of one episode."""
        one = slice(i, i + 1)
        energies = self.energies if isinstance(self.energies, Table) else self.energies[one]
        return Outcome(self.space, self.index[one], self.energy_class[one], self.reward[one], energies)


def check_masking(masking: object) -> Masking:
    """Return `masking` if it is a known way to mask.

    Raises:
        InputError: anything but "digits" or "composition".
    """
    check_choice("masking", masking, get_args(Masking))
    return masking  # type: ignore[return-value]


def initial_digits(space: Space, n: int) -> NDArray[np.int8]:
    """(n, 2 S) zeros: every digit unset."""
    return np.zeros((n, space.n_steps), dtype=np.int8)


def observe(
    space: Space, digits: NDArray[np.int8], target_class: ArrayLike | None = None
) -> NDArray[np.float32]:
    """What an agent sees of valid digits: eq. 1, without the checks of `Space.scale`.

    Args:
        space: of the compositions.
        digits: (n, 2 S) states.
        target_class: (n,) or one for all, 1..k, where the observation names the class of the episode.

    Returns:
        (n, 2 S), or (n, 2 S + k) with the class one-hot behind the digits.
    """
    scaled = space.states.observe(space.states.encode(digits))
    if target_class is None:
        return scaled
    classes = space.targets.one_hot(np.broadcast_to(target_class, len(digits)))
    return np.concatenate([scaled, classes], axis=1)


def action_masks(space: Space, digits: NDArray[np.int8], masking: Masking = "digits") -> NDArray[np.bool_]:
    """(n, n_actions) True where an action is allowed.

    Args:
        space: of the compositions.
        digits: (n, 2 S) states, complete ones included.
        masking: "digits" forbids rows and columns out of range; "composition" allows an action only
            if at least one composition can still follow.

    A finished composition allows every action, and no state that allowed actions lead to has an empty
    mask.
    """
    return space.states.action_masks(space.states.encode(digits), composition=masking == "composition")


def apply_actions(
    space: Space, digits: NDArray[np.int8], actions: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Make one choice each.

    Args:
        space: of the compositions.
        digits: (n, 2 S) unfinished states.
        actions: (n,) from 0.

    Returns:
        (n, 2 S) the digits after it, and (n,) whether the action was in range; one that was not changes
        nothing and ends the episode.
    """
    states = space.states
    state = states.encode(digits)
    state, legal = states.advance(state, states.first_actions(state) + actions)
    return states.decode(state), legal


def sparse_reward(
    energy_class: NDArray[np.int8], target_class: NDArray[np.int8] | int
) -> NDArray[np.float64]:
    """(n,) eq. 12 for finished compositions: +1 in the desired class, else -1, class 0 included."""
    return np.where(energy_class == target_class, 1.0, FAILURE)


def finish(
    space: Space,
    index: NDArray[np.int64],
    target_class: NDArray[np.int8] | int,
    energy_model: EnergyModel,
    reward: Reward | None = None,
) -> Outcome:
    """Judge finished episodes.

    Args:
        space: of the compositions.
        index: (n,) compositions; -1 = an episode that made none.
        target_class: (n,) or one for all, 1..k.
        energy_model: called once, with the atomic numbers of all that are real compositions.
        reward: eq. 12 by default; one of one's own is asked about real compositions alone, the rest
            earn -1.

    Raises:
        InputError: the energy model or the reward fails, or what it returns is not one number each that
            float32 can hold.
    """
    energies: NDArray[np.float32] | Table
    if isinstance(energy_model, Table):
        energies, energy_class = energy_model, energy_model.energy_class(index)
    else:
        energies = ask_energies(space, index, energy_model)
        energy_class = space.targets.classify(energies)
    outcome = Outcome(space, index, energy_class, sparse_reward(energy_class, target_class), energies)
    if reward is None:
        return outcome
    return replace(outcome, reward=_ask_rewards(outcome, target_class, reward))


def ask_energies(space: Space, index: NDArray[np.int64], energy_model: EnergyModel) -> NDArray[np.float32]:
    """(n,) energies of (n,) compositions, NaN where there is none; the model is asked once.

    Raises:
        InputError: it fails, or what it returns is not one number each that float32 can hold.
    """
    energy = np.full(len(index), np.nan, dtype=np.float32)
    if len(real := np.flatnonzero(index >= 0)):
        targets = space.targets
        numbers = space.index_to_numbers(index[real])
        energy[real] = _ask("energy_model", energy_model, targets.unit, numbers, column=targets.quantity)
    return energy


def _ask_rewards(
    outcome: Outcome, target_class: NDArray[np.int8] | int, reward: Reward
) -> NDArray[np.float64]:
    """(n,) rewards; -1 where there is no composition."""
    earned = np.full(len(outcome.index), FAILURE)
    if len(real := np.flatnonzero(outcome.index >= 0)):
        numbers = outcome.space.index_to_numbers(outcome.index[real])
        targets = np.broadcast_to(np.asarray(target_class, dtype=np.int8), outcome.index.shape)
        seen = numbers, outcome.energy[real], outcome.energy_class[real], targets[real]
        earned[real] = _ask("reward", reward, "numbers", *seen)
    return earned


def _ask(
    role: str,
    function: Callable[..., ArrayLike | Mapping[str, ArrayLike]],
    unit: str,
    *arguments: NDArray[Any],
    column: str = "",
) -> NDArray[np.float64]:
    """Call a user's function on a batch, with arrays of its own, and check what comes back.

    Of several columns by name that of `column` counts.
    """
    who = f"{role} {getattr(function, '__qualname__', type(function).__name__)}"
    n = len(arguments[0])
    try:
        answer = function(*(argument.copy() for argument in arguments))
        if column and isinstance(answer, Mapping):
            if column not in answer:
                raise InputError(f"it has no {column}, got {', '.join(map(str, answer)) or 'nothing'}")
            answer = answer[column]
        values = np.asarray(answer)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"{who} failed: {type(error).__name__}: {reason}") from error
    kind = "masked" if isinstance(answer, np.ma.MaskedArray) else values.dtype.type.__name__.strip("_")
    if kind == "masked" or values.dtype.kind not in "biuf":
        raise InputError(f"{who} returned {kind} values: it must return ({n},) {unit} as real numbers")
    if values.shape != (n,):
        raise InputError(
            f"{who} returned shape {values.shape} for {n} compositions: it must return ({n},) {unit}"
        )
    with np.errstate(over="ignore"):
        values = values.astype(np.float64)
    bad = ~(np.abs(values) <= LARGEST)
    if bad.any():
        first = arguments[0][int(bad.argmax())]
        raise InputError(
            f"{who} returned {values[bad][0]} for {first.tolist()}: "
            f"it must return finite {unit} between -{LARGEST:.1e} and {LARGEST:.1e}"
        )
    return values


def draw_targets(key: NDArray[np.uint64], episode: NDArray[np.uint64], n_classes: int) -> NDArray[np.int8]:
    """(n,) target classes 1..k, each decided by a seed and the number of the episode alone.

    The mixing function of SplitMix64 (Steele, Lea and Flood 2014): one class an episode needs no
    generator an environment, and a batch draws what its members would draw by themselves.
    """
    with np.errstate(over="ignore"):
        x = _mix(key + np.uint64(0x9E3779B97F4A7C15)) + episode * np.uint64(0x9E3779B97F4A7C15)
        return (_mix(x) % np.uint64(n_classes)).astype(np.int8) + np.int8(1)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def describe(outcome: Outcome) -> list[dict[str, Any]]:
    """For each episode the keys that `info` gains at its end, but for the number of queries.

    Where there is no composition, or its energy is not known, there is no energy.
    """
    formulas, numbers = texts_and_numbers(outcome.space, outcome.index)
    energies: list[float] = outcome.energy.tolist()
    infos: list[dict[str, Any]] = [
        {"is_success": success, "formula": formula, "numbers": row, "energy_class": energy_class}
        for success, formula, row, energy_class in zip(
            (outcome.reward > 0).tolist(), formulas, numbers, outcome.energy_class.tolist(), strict=True
        )
    ]
    for i in np.flatnonzero(np.isfinite(energies)).tolist():
        infos[i]["energy"] = energies[i]
    return infos


def texts_and_numbers(
    space: Space, index: NDArray[np.int64]
) -> tuple[NDArray[np.object_], NDArray[np.int16]]:
    """(n,) formulas and (n, S) atomic numbers; empty and zero where there is no composition."""
    formulas = np.full(len(index), "", dtype=object)
    numbers = np.zeros((len(index), space.n_sites), dtype=np.int16)
    if len(real := np.flatnonzero(index >= 0)):
        formulas[real] = space.index_to_formula(index[real])
        numbers[real] = space.index_to_numbers(index[real])
    return formulas, numbers
