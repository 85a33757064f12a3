"""The one interface of everything that generates compositions, and all drawing from a stated distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError
from elpa_env.rules import initial_digits
from elpa_env.space import ELPASOLITE_SPACE, Space

MIN_VALID: Final = 1e-9
"""Share of real compositions below which what a stated distribution holds of them may be rounding alone."""
_ROUNDING: Final = 1e-9
"""What a sum may lack to 1 and still be 1."""
_EXCESS: Final = 1e-6
"""What a sum may exceed 1 by, in single precision."""
MAX_DRAWS: Final = 10**15
"""Candidates that can be counted without loss."""

Progress = Callable[[int, int], None]
"""Called now and then with what is done and what there is to do."""


@dataclass(frozen=True)
class Access:
    """What a generator was allowed to see before it drew anything.

    Attributes:
        kind: "offline" saw labelled compositions alone, "model-based" acted against a model of them,
            "oracle" queried the landscape itself, "reference" knows all of it; "unknown" where the
            generator does not say.
        labels: energies of the training set that were used; those of one compound count once.
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


SEARCHED: Final = "a search by the training set alone"
"""What hyperparameters were chosen by that `elpa search` picked."""
TUNED: Final = "scores against the landscape in class 1"
"""What hyperparameters were chosen by that were tried until they scored well under a judge."""
FEWER: Final = "those for elpasolite, with fewer updates for fewer rows"
"""What the hyperparameters for some thousand rows were chosen by."""
ELSEWHERE: Final = "those for elpasolite, not tried out on this space"
"""What all hyperparameters that ship were chosen by, in any other space."""


def chosen_by(config: object, presets: Iterable[Preset], space: Space = ELPASOLITE_SPACE) -> str:
    """What hyperparameters were chosen by: the word of the preset that they equal, else "the user"."""
    found = next((preset.chosen_by for preset in presets if preset.config == config), "the user")
    return ELSEWHERE if found != "the user" and space != ELPASOLITE_SPACE else found


def access_of(sampler: object) -> Access:
    """What a sampler says that it saw; `UNKNOWN` where it says nothing."""
    access = getattr(sampler, "access", None)
    return access if isinstance(access, Access) else UNKNOWN


@runtime_checkable
class Sampler(Protocol):
    """Anything that draws candidate compositions for a target class.

    A sampler that also has an attribute ``access`` (an `Access`) says what it saw before it drew anything;
    of one that has none this is unknown, see `access_of`. One that draws from another space than elpasolite's
    has it as its attribute ``space``, see `space_of`.
    """

    name: str

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw `n` raw candidates.

        Args:
            n: how many; at least 1.
            target_class: class 1..k to aim at.
            seed: same seed, same candidates; None takes entropy from the system.

        Returns:
            (n, 2 S) digits, in order, repeats and compositions that do not exist included.

        Raises:
            InputError: a class that this sampler was not made for.
        """
        ...


@runtime_checkable
class ExactSampler(Sampler, Protocol):
    """A sampler that can also state its distribution exactly.

    One that cannot do so in its space, which is too large, says so by an attribute ``exact`` that is False;
    see `is_exact`.
    """

    def distribution(self, target_class: int) -> NDArray[np.float64]:
        """(n_table,) probability of every entry of the composition table.

        It sums to the fraction of candidates that are real compositions, at most 1.
        """
        ...


def space_of(sampler: object) -> Space:
    """The space that a sampler says it draws from; elpasolite's where it says nothing."""
    space = getattr(sampler, "space", None)
    return space if isinstance(space, Space) else ELPASOLITE_SPACE


def is_exact(sampler: Sampler) -> TypeGuard[ExactSampler]:
    """Whether a sampler states its distribution."""
    return isinstance(sampler, ExactSampler) and getattr(sampler, "exact", True) is not False


def check_n_samples(n: int, *, most: int = MAX_DRAWS) -> None:
    """Raise InputError unless `n` samples can be drawn and counted."""
    if n < 1:
        raise InputError(f"the number of samples must be at least 1, got {n}")
    if n > most:
        raise InputError(f"the number of samples must be at most {most:,}, got {n:,}")


def sample_distribution(
    space: Space, distribution: NDArray[np.float64], n: int, *, seed: int | None = None
) -> NDArray[np.int8]:
    """Draw candidates from a stated distribution.

    Args:
        space: of the compositions.
        distribution: (n_table,) probability of every entry of the composition table, those that repeat an
            element included. What its sum lacks to 1 is the share of further candidates that are no
            composition.
        n: how many.
        seed: same seed, same candidates.

    Returns:
        (n, 2 S) digits. A candidate that is no entry of the table comes with every digit open, since the
        distribution does not say which of the impossible ones it was.

    Raises:
        InputError: it is no distribution, see `check_distribution`.
    """
    places, p = _support(space, distribution)
    lacking = 1 - p.sum()
    if lacking > _ROUNDING:
        places, p = np.append(places, -1), np.append(p, lacking)
    index = places[_draw(p, n, np.random.default_rng(seed))]
    digits = initial_digits(space, n)
    digits[index >= 0] = space.index_to_digits(index[index >= 0])
    return digits


def count_draws(
    space: Space,
    distribution: NDArray[np.float64],
    n_valid: int,
    *,
    seed: int | None = None,
    keep: int = 0,
    name: str = "the distribution",
) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
    """Draw candidates until `n_valid` are real compositions, and count them all at once.

    It takes the same time for any `n_valid`: the first `keep` are drawn one by one, the counts of the others
    as one multinomial variate, the candidates that are no composition as a negative binomial one.

    Args:
        space: of the compositions.
        distribution: (n_table,) as of `sample_distribution`; what repeats an element is no composition.
        n_valid: how many, at least 1.
        seed: same seed, same draws.
        keep: how many to return, at most `n_valid`.
        name: whose distribution it is, for the message.

    Returns:
        (n_table,) how often each composition was drawn, the candidates that this took, and the index of the
        first `keep` in the order drawn.

    Raises:
        InputError: it is no distribution or holds next to no real composition, or the candidates are too
            many to count.
    """
    places, p = _support(space, distribution, real=True)
    valid = min(float(p.sum()), 1.0)
    if valid < MIN_VALID:
        raise InputError(f"{name} makes too few real compositions: a share of {valid:.1g} of what it draws")
    check_n_samples(n_valid, most=int(MAX_DRAWS * valid))
    p /= p.sum()
    one_by_one, at_once = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(2))
    kept = places[_draw(p, min(keep, n_valid), one_by_one)]
    counts = np.bincount(kept, minlength=space.n_table)
    counts[places] += at_once.multinomial(n_valid - len(kept), p)
    if valid > 1 - _ROUNDING:
        return counts, n_valid, kept
    return counts, n_valid + int(at_once.negative_binomial(n_valid, valid)), kept


def unique_sample(
    space: Space,
    distribution: NDArray[np.float64],
    n: int,
    *,
    seed: int | None = None,
    exclude: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Draw different compounds in the order in which independent draws would first show them.

    Each is drawn in proportion to its probability among those not yet drawn. All at once, compositions in
    that order are those of the smallest E / p with E exponential of mean 1, one for each composition: the
    keys of Efraimidis and Spirakis (Inf. Process. Lett. 2006, 97, 181), or the Gumbel top-n (Kool et al.
    2019, arXiv 1903.06059) by another name. Of the orders of a compound the one that comes first is
    kept: the smaller of their keys is again such a key, of the sum of their probabilities.

    Args:
        space: of the compositions.
        distribution: (n_table,) as of `sample_distribution`.
        n: how many, at most the compounds of positive probability.
        seed: same seed, same compounds.
        exclude: (k,) compositions; their compounds are left out, and all others come in the order in which
            they would come without.

    Returns:
        (n,) index, each of a compound of its own, in the order of its sites that was drawn.

    Raises:
        InputError: it is no distribution, `n` is not positive, or there are fewer than `n` to draw.
    """
    check_n_samples(n)
    places, p = _support(space, distribution, real=True)
    keys = np.full(space.n_table, np.inf)
    keys[places] = np.log(np.random.default_rng(seed).exponential(size=len(places))) - np.log(p)
    if exclude is not None:
        for image in (exclude, *space.images(exclude)):
            keys[image] = np.inf
    before = np.isfinite(keys)
    own = np.arange(space.n_table, dtype=np.int32)
    for other, image in zip(space.mirrored(keys), space.mirrored(own), strict=True):
        # an order of the sites may leave a composition as it is; of two equal keys the smaller index counts
        before &= (keys < other) | ((keys == other) & (own <= image))
    first = np.flatnonzero(before)
    if n > len(first):
        besides = "" if exclude is None else " besides those left out"
        raise InputError(
            f"only {len(first):,} compounds{besides} can be drawn, {n:,} different ones are wanted"
        )
    chosen = first[np.argpartition(keys[first], n - 1)[:n]]
    return chosen[np.argsort(keys[chosen])]


def check_distribution(space: Space, distribution: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(n_table,) float64 of what is a distribution over the entries of the composition table.

    Raises:
        InputError: another shape, a probability that is negative or no number, or a sum above 1.
    """
    p = np.asarray(distribution, dtype=np.float64)
    if p.shape != (space.n_table,):
        raise InputError(f"a distribution must have shape ({space.n_table},), got {p.shape}")
    total, least = float(p.sum()), float(p.min())
    if not least >= 0:  # NaN fails every comparison
        raise InputError(f"probabilities must be at least 0, got {least:.3g}")
    if total > 1 + _EXCESS:
        raise InputError(f"probabilities must sum to at most 1, got {total:.6g}: divide them by their sum")
    return p


def _support(
    space: Space, distribution: NDArray[np.float64], *, real: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Entries of positive probability, and these; with `real` those that are compositions alone."""
    p = check_distribution(space, distribution)
    places = np.flatnonzero((p > 0) & space.composition_mask if real else p > 0)
    return places, p[places]


def _draw(p: NDArray[np.float64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(n,) positions in (k,) positive weights, drawn in proportion to these."""
    cumulative = np.cumsum(p)
    # without the last, so that no rounding leads beyond it
    drawn: NDArray[np.int64] = np.searchsorted(cumulative[:-1], rng.random(n) * cumulative[-1], side="right")
    return drawn
