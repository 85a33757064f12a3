"""What to calculate next: the score that a belief gives every candidate, and the batch that is taken.

All scores are the higher the better. A goal is a target of the space, or the lowest energy of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from agents.discovery.surrogate import Belief
from elpa_env.errors import InputError
from elpa_env.space import Space
from elpa_env.training import TrainingSet

LOWEST: Final = "lowest"
"""The goal that is no target of the space: the lowest energy of all."""
LEAST_LIKELY: Final = 0.01
"""Below which a stated probability is one of tails."""
Acquisition = Literal["probability", "expected-improvement", "thompson", "uncertainty"]


@dataclass(frozen=True)
class Goal:
    """What a campaign looks for.

    Attributes:
        space: of the compositions.
        target: 1..k, a target of the space; 0 for the lowest energy of all.
    """

    space: Space
    target: int

    @classmethod
    def of(cls, space: Space, target: object) -> Goal:
        """The goal that a number, the name of a target, or "lowest" means.

        Raises:
            InputError: there is no such target.
        """
        if target == LOWEST:
            return cls(space, 0)
        try:
            return cls(space, space.targets.check(target))
        except InputError as error:
            raise InputError(f"{error}; or {LOWEST} for the lowest energy of all") from error

    @property
    def name(self) -> str:
        """By which `of` finds it."""
        return LOWEST if self.target == 0 else self.space.targets.names[self.target - 1]

    @property
    def title(self) -> str:
        """What texts call it."""
        return "the lowest energy" if self.target == 0 else self.space.targets.title(self.target)

    def reached(self, energy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) whether (n,) energies reach the goal; of several the lowest alone where that is the goal."""
        if self.target:
            return np.asarray(self.space.targets.classify(energy) == self.target)
        return np.asarray(energy == energy.min()) if len(energy) else np.zeros(0, dtype=bool)

    def limits(self, best: float) -> tuple[float, float]:
        """Between which energies a compound is one that is looked for, `best` being the lowest known."""
        if self.target == 0:
            return -math.inf, best
        return self.space.targets.low[self.target - 1], self.space.targets.high[self.target - 1]

    def probability(self, belief: Belief, best: float) -> NDArray[np.float64]:
        """(n,) that compounds are of those that are looked for."""
        return belief.probability(*self.limits(best))

    def depth(self, energy: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) eV/atom, how far energies lie inside the target's interval; negative outside."""
        if self.target == 0:
            return -energy
        low, high = self.limits(math.inf)
        return np.asarray(np.minimum(energy - low, high - energy))


Score = Callable[[Belief, Goal, float, int, np.random.Generator], NDArray[np.float64]]


def _probability(
    belief: Belief, goal: Goal, best: float, n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Probability of the goal; far from it the nearest compounds, two standard deviations granted.

    Where nothing reaches `LEAST_LIKELY` the tails of distributions would decide, of which labels say nothing:
    they would choose what is known worst. The upper confidence bound leads towards the goal instead (Srinivas
    et al., ICML 2010).
    """
    del n, rng
    p = goal.probability(belief, best)
    if len(p) and p.max() >= LEAST_LIKELY:
        return p
    return goal.depth(belief.energy) + 2 * belief.uncertainty


def _improvement(
    belief: Belief, goal: Goal, best: float, n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    del goal, n, rng
    return belief.improvement(best)


def _uncertainty(
    belief: Belief, goal: Goal, best: float, n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    del goal, best, n, rng
    return belief.uncertainty


def _thompson(
    belief: Belief, goal: Goal, best: float, n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """As many votes as a batch has places: each draws energies from one member, and takes its best.

    A vote is a network of the ensemble with errors drawn about it, so that what the networks agree on is
    taken first (Thompson, Biometrika 1933, 25, 285; for batches Hernández-Lobato et al., ICML 2017).
    """
    del best
    m, k = belief.mean.shape
    score = np.full(k, -np.inf)
    per_member = -(-n // m)
    for place, member in enumerate(rng.permutation(m)):
        drawn = rng.normal(belief.mean[member], belief.scale[member])
        depth = goal.depth(drawn)
        best_first = np.argsort(-depth, kind="stable")
        fresh = best_first[np.isinf(score[best_first])][:per_member]
        # the first choices of all members come before the second ones of any
        score[fresh] = -(np.arange(len(fresh)) * m + place)
    return score


ACQUISITIONS: Final[Mapping[Acquisition, Score]] = {
    "probability": _probability,
    "expected-improvement": _improvement,
    "thompson": _thompson,
    "uncertainty": _uncertainty,
}


def lowest_known(labels: TrainingSet) -> float:
    """eV/atom, the lowest energy of labels; infinite where there are none."""
    return float(labels.energy.min()) if len(labels) else math.inf


def take(
    score: NDArray[np.float64], index: NDArray[np.int64], n: int, space: Space, *, diverse: bool = False
) -> NDArray[np.int64]:
    """Positions of the `n` best candidates, the best first; of equal ones that of the smaller index.

    Args:
        score: (k,) the higher the better.
        index: (k,) compositions.
        n: how many at most.
        space: of the compositions.
        diverse: pass over candidates that differ from a better one in a single site, unless no others are
            left.

    Returns:
        (min(n, k),) positions.
    """
    order = np.lexsort((index, -score))
    if not diverse:
        return order[:n]
    chosen: list[int] = []
    elements = space.index_to_elements(index[order])
    left = np.ones(len(order), dtype=bool)
    while len(chosen) < min(n, len(order)) and left.any():
        first = int(left.argmax())
        chosen.append(first)
        left &= _distance(space, elements, elements[first]) > 1
    rest = np.setdiff1d(np.arange(len(order)), chosen)
    return order[np.array([*chosen, *rest[: n - len(chosen)]], dtype=np.int64)][:n]


def _distance(space: Space, elements: NDArray[np.integer], one: NDArray[np.integer]) -> NDArray[np.int64]:
    """(n,) sites in which compositions differ from one, in the order of equivalent sites that suits best."""
    orders = (tuple(range(space.n_sites)), *space.exchanges)
    differ = [(elements[:, list(order)] != one).sum(axis=1) for order in orders]
    return np.asarray(np.min(differ, axis=0))
