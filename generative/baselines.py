"""Baselines that state their distribution exactly: chance, and prevalences in the training set."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.classes import check_target_class
from elpa_env.elements import N_ELEMENTS
from elpa_env.errors import InputError, check_choice
from elpa_env.sampler import Access, sample_distribution
from elpa_env.space import (
    N_COMPOSITIONS,
    N_SITES,
    TABLE_SHAPE,
    composition_mask,
    index_to_elements,
)
from elpa_env.training import TrainingSet


def uniform_distribution(training_set: TrainingSet, target_class: int) -> NDArray[np.float64]:
    """(39^4,) every real composition equally likely; the training set plays no part."""
    del training_set
    check_target_class(target_class)
    return composition_mask() / N_COMPOSITIONS


def site_distribution(training_set: TrainingSet, target_class: int) -> NDArray[np.float64]:
    """(39^4,) product over the sites of how often each element stands there in the class."""
    a, b, c, d = _site_prevalence(_class_elements(training_set, target_class))
    return _normalised(np.einsum("a,b,c,d->abcd", a, b, c, d))


def pair_distribution(training_set: TrainingSet, target_class: int) -> NDArray[np.float64]:
    """(39^4,) from how often each pair of elements stands on each pair of sites in the class.

    Kirkwood's superposition approximation: the product of the six pair prevalences over the squared
    product of the site prevalences.
    """
    elements = _class_elements(training_set, target_class)
    table = np.ones(TABLE_SHAPE)
    for i, j in combinations(range(N_SITES), 2):
        pairs = np.zeros((N_ELEMENTS, N_ELEMENTS))
        np.add.at(pairs, (elements[:, i], elements[:, j]), 1 / len(elements))
        table *= np.expand_dims(pairs, tuple(s for s in range(N_SITES) if s not in (i, j)))
    for site, prevalence in enumerate(_site_prevalence(elements)):
        inverse = np.divide(1, prevalence, out=np.zeros(N_ELEMENTS), where=prevalence > 0) ** 2
        table *= np.expand_dims(inverse, tuple(s for s in range(N_SITES) if s != site))
    return _normalised(table)


def _class_elements(training_set: TrainingSet, target_class: int) -> NDArray[np.int64]:
    check_target_class(target_class)
    rows = training_set.energy_class == target_class
    if not rows.any():
        raise InputError(f"the training set has no row of class {target_class} to count prevalences in")
    return index_to_elements(training_set.index[rows]).astype(np.int64)


def _site_prevalence(elements: NDArray[np.int64]) -> NDArray[np.float64]:
    """(4, 39) share of each element on each site."""
    counts = [np.bincount(elements[:, site], minlength=N_ELEMENTS) for site in range(N_SITES)]
    return np.stack(counts) / len(elements)


def _normalised(table: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = np.where(composition_mask(), table.ravel(), 0.0)
    return np.asarray(flat / flat.sum())


@dataclass(frozen=True)
class Baseline:
    """A baseline.

    Attributes:
        title: heading in tables.
        distribution: its distribution given training set and class.
        uses_labels: whether it looks at the training set.
    """

    title: str
    distribution: Callable[[TrainingSet, int], NDArray[np.float64]]
    uses_labels: bool = True


BASELINES: Final = {
    "pairs": Baseline("pairs", pair_distribution),
    "sites": Baseline("sites", site_distribution),
    "random": Baseline("random", uniform_distribution, uses_labels=False),
}


class BaselineSampler:
    """Draws from one of `BASELINES`.

    Args:
        name: "random", "sites" or "pairs".
        training_set: where prevalences are counted.
    """

    def __init__(self, name: str, training_set: TrainingSet) -> None:
        check_choice("baseline", name, BASELINES)
        self.name = name
        self._training_set = training_set
        labels = training_set.n_labels if BASELINES[name].uses_labels else 0
        self.access = Access("offline", labels=labels, chosen_by="no hyperparameters")
        self.distribution = functools.lru_cache(maxsize=1)(self._distribution)

    def _distribution(self, target_class: int) -> NDArray[np.float64]:
        """(39^4,) probability of every composition."""
        return BASELINES[self.name].distribution(self._training_set, target_class)

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 8) digits; see `elpa_env.Sampler`."""
        return sample_distribution(self.distribution(target_class), n, seed=seed)
