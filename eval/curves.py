"""Generation curves: how many new compositions of each class N samples bring, Figs. 4 and 7 of the paper.

Of samples they are counted while these are drawn; of a stated distribution they are expectations, without
sampling noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError
from elpa_env.space import Space
from elpa_env.training import TrainingSet
from eval.judge import Judge
from eval.metrics import hit_probability

_PER_DECADE: Final = (1, 1.5, 2, 3, 5, 7)
_PARTS: Final = ("novel", "rediscovered", "repeated")
_EVEN: Final = 20
"""Checkpoints at even distances, beside those at even ratios."""


def checkpoints(n_samples: int) -> NDArray[np.int64]:
    """(m,) numbers of samples at which a curve is known, ascending, the last is `n_samples`; m < 256."""
    decades = 10.0 ** np.arange(len(str(n_samples)))
    ratios = np.multiply.outer(decades, _PER_DECADE).ravel()
    even = n_samples * np.arange(1, _EVEN + 1) / _EVEN
    found = np.unique(np.ceil(np.concatenate([ratios, even])).astype(np.int64))
    return np.append(found[found < n_samples], n_samples)


class Appearances:
    """By which checkpoint each composition was first drawn, learnt while samples are drawn.

    Args:
        space: of the compositions.
        n_samples: valid samples that will be drawn.

    Attributes:
        first: (n_table,) uint8 number of the first checkpoint by which a composition was drawn; 255 of one
            that was not.
    """

    def __init__(self, space: Space, n_samples: int) -> None:
        self._ends = checkpoints(n_samples)
        self.first = np.full(space.n_table, 255, dtype=np.uint8)
        self._n = 0

    def see(self, index: NDArray[np.int64]) -> None:
        """Take note of the next (n,) valid samples."""
        new = np.flatnonzero(self.first[index] == 255)[::-1]
        # backwards, so that of several appearances the first is what stays
        self.first[index[new]] = np.searchsorted(self._ends, self._n + 1 + new)
        self._n += len(index)


@dataclass(frozen=True, eq=False)
class Curve:
    """What the first samples of a model hold, at every checkpoint.

    Attributes:
        n_samples: (m,) samples.
        novel: (m, k) different compositions outside the training set, by class.
        rediscovered: (m,) different compositions of the training set.
        repeated: (m,) samples that had been drawn before.
    """

    n_samples: NDArray[np.int64]
    novel: NDArray[np.float64]
    rediscovered: NDArray[np.float64]
    repeated: NDArray[np.float64]

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        return {
            "n_samples": self.n_samples.tolist(),
            "novel": self.novel.round(1).tolist(),
            "rediscovered": self.rediscovered.round(1).tolist(),
            "repeated": self.repeated.round(1).tolist(),
        }

    @classmethod
    def from_dict(cls, content: Any) -> Curve:
        """What `as_dict` gave.

        Raises:
            InputError: it is damaged.
        """
        try:
            n = np.array(content["n_samples"], dtype=np.int64)
            novel, *others = (np.array(content[key], dtype=np.float64) for key in _PARTS)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError("a generation curve is damaged: make it again") from error
        if any(part.shape != n.shape for part in others) or novel.shape[:1] != n.shape or novel.ndim != 2:
            raise InputError("a generation curve is damaged: make it again")
        return cls(n, novel, *others)


def drawn_curve(
    index: NDArray[np.integer[Any]],
    first: NDArray[np.uint8],
    n_samples: int,
    *,
    judge: Judge,
    training_set: TrainingSet,
) -> Curve:
    """The curve of samples.

    Args:
        index: (k,) different compositions that were drawn.
        first: (k,) checkpoint by which each was, see `Appearances`.
        n_samples: valid samples that were drawn.
        judge: decides their classes.
        training_set: what counts as known.
    """
    ends = checkpoints(n_samples)
    classes = np.where(np.isin(index, training_set.index), 0, judge.table_class[index])
    width = judge.space.targets.n + 1
    cell = first.astype(np.int64) * width + classes
    new = np.bincount(cell, minlength=len(ends) * width).reshape(len(ends), width).cumsum(axis=0)
    return _curve(ends, new.astype(np.float64))


def expected_curve(
    distribution: NDArray[np.float64], n_samples: int, *, judge: Judge, training_set: TrainingSet
) -> Curve:
    """The expectation of the curve of independent samples of a distribution.

    Args:
        distribution: (n_table,) probability of every entry of the composition table.
        n_samples: valid samples.
        judge: decides their classes.
        training_set: what counts as known.
    """
    ends = checkpoints(n_samples)
    classes = judge.table_class.copy()
    classes[training_set.index] = 0
    there = np.flatnonzero((distribution > 0) & judge.space.composition_mask)
    p, classes = distribution[there] / distribution[there].sum(), classes[there]
    width = judge.space.targets.n + 1
    sums = [np.bincount(classes, weights=hit_probability(p, int(n)), minlength=width) for n in ends]
    return _curve(ends, np.array(sums))


def _curve(ends: NDArray[np.int64], new: NDArray[np.float64]) -> Curve:
    """The curve of (m, k + 1) different compositions drawn; column 0 holds those of the training set."""
    return Curve(ends, new[:, 1:], new[:, 0], ends - new.sum(axis=1))
