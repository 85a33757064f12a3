"""The one interface of everything that generates compositions, and draws from a stated distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError
from elpa_env.rules import initial_digits
from elpa_env.space import index_to_digits

_ROUNDING: Final = 1e-9


Progress = Callable[[int, int], None]
"""Called now and then with what is done and what there is to do."""


@dataclass(frozen=True)
class Access:
    """What a generator was allowed to see before it drew anything.

    Attributes:
        kind: "offline" saw labelled compositions alone, "model-based" acted against a model of them,
            "oracle" queried the landscape itself, "reference" knows all of it; "unknown" where the
            generator does not say.
        labels: energies of the training set that were used; A/B mirror images count once.
        model_queries: compositions that a model of those labels was asked about, repeats included.
        landscape_queries: compositions that the landscape was asked about, repeats included.
        chosen_by: what the hyperparameters were chosen by, in words: a paper, scores on a training set, or
            scores against the landscape; "unknown" where nobody says.
    """

    kind: Literal["offline", "model-based", "oracle", "reference", "unknown"]
    labels: int = 0
    model_queries: int = 0
    landscape_queries: int = 0
    chosen_by: str = "unknown"


UNKNOWN: Final = Access("unknown")
"""Of a generator that does not say what it saw."""


@dataclass(frozen=True)
class Preset:
    """Hyperparameters that ship with a model.

    Attributes:
        config: the model's dataclass of hyperparameters.
        chosen_by: what they were chosen by, see `Access`.
    """

    config: Any
    chosen_by: str


def chosen_by(config: object, presets: Iterable[Preset]) -> str:
    """What hyperparameters were chosen by: the word of the preset that they equal, else "the user"."""
    return next((preset.chosen_by for preset in presets if preset.config == config), "the user")


def access_of(sampler: object) -> Access:
    """What a sampler says that it saw; `UNKNOWN` where it says nothing."""
    access = getattr(sampler, "access", None)
    return access if isinstance(access, Access) else UNKNOWN


@runtime_checkable
class Sampler(Protocol):
    """Anything that draws candidate compositions for a target class.

    A sampler that also has an attribute ``access`` (an `Access`) says what it saw before it drew anything;
    of one that has none this is unknown, see `access_of`.
    """

    name: str

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw `n` raw candidates.

        Args:
            n: how many; at least 1.
            target_class: energy class 1..10 to aim at.
            seed: same seed, same candidates; None takes entropy from the system.

        Returns:
            (n, 8) digits, in order, repeats and compositions that do not exist included.

        Raises:
            InputError: a class that this sampler was not made for.
        """
        ...


@runtime_checkable
class ExactSampler(Sampler, Protocol):
    """A sampler that can also state its distribution exactly."""

    def distribution(self, target_class: int) -> NDArray[np.float64]:
        """(39^4,) probability of every entry of the composition table.

        It sums to the fraction of candidates that are real compositions, at most 1.
        """
        ...


def unique_sample(distribution: NDArray[np.float64], n: int, *, seed: int | None = None) -> NDArray[np.int64]:
    """Draw different compositions in the order in which independent draws would first show them.

    Each is drawn in proportion to its probability among those not yet drawn. All at once, these are the
    n smallest of E / p with E exponential of mean 1, one for each composition: the keys of Efraimidis
    and Spirakis (Inf. Process. Lett. 2006, 97, 181), or the Gumbel top-n (Kool et al. 2019, arXiv
    1903.06059) by another name.

    Args:
        distribution: (39^4,) probability of every entry of the composition table, up to a factor.
        n: how many, at most the entries of positive probability.
        seed: same seed, same compositions.

    Returns:
        (n,) index.

    Raises:
        InputError: `n` is not positive, or fewer than `n` entries have a positive probability.
    """
    if n < 1:
        raise InputError(f"the number of samples must be at least 1, got {n}")
    places = np.flatnonzero(distribution > 0)
    if n > len(places):
        raise InputError(f"only {len(places):,} compositions can be drawn, {n:,} different ones are wanted")
    keys = np.log(np.random.default_rng(seed).exponential(size=len(places))) - np.log(distribution[places])
    first = np.argpartition(keys, n - 1)[:n]
    return places[first[np.argsort(keys[first])]]


def sample_distribution(
    distribution: NDArray[np.float64], n: int, *, seed: int | None = None
) -> NDArray[np.int8]:
    """Draw candidates from a stated distribution.

    Args:
        distribution: (39^4,) probability of every entry of the composition table. What its sum lacks
            to 1 is the share of candidates that are no composition.
        n: how many.
        seed: same seed, same candidates.

    Returns:
        (n, 8) digits. A candidate that is no composition comes with every digit open, since the
        distribution does not say which of the impossible ones it was.
    """
    cumulative = np.cumsum(distribution)
    total = cumulative[-1]
    uniform = np.random.default_rng(seed).random(n)
    if total > 1 - _ROUNDING:
        uniform *= total
    index = np.searchsorted(cumulative, uniform, side="right")
    real = index < len(cumulative)
    if real.all():
        return index_to_digits(index)
    digits = initial_digits(n)
    digits[real] = index_to_digits(index[real])
    return digits
