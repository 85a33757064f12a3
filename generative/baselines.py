"""Baselines that state their distribution exactly: chance, and prevalences in the training set."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError, check_choice
from elpa_env.sampler import Access, sample_distribution
from elpa_env.space import Space
from elpa_env.training import TrainingSet


def uniform_distribution(training_set: TrainingSet, target_class: int) -> NDArray[np.float64]:
    """(n_table,) every real composition equally likely; the rows of the training set play no part."""
    space = training_set.space
    space.targets.check(target_class)
    return space.composition_mask / space.n_compositions


def site_distribution(training_set: TrainingSet, target_class: int) -> NDArray[np.float64]:
    """(n_table,) product over the sites of how often each element stands there in the class."""
    space = training_set.space
    prevalences = _site_prevalence(space, _class_elements(training_set, target_class))
    table = np.ones(space.table_shape)
    for site, prevalence in enumerate(prevalences):
        table *= _along(space, prevalence, site)
    return _normalised(space, table)


def pair_distribution(training_set: TrainingSet, target_class: int) -> NDArray[np.float64]:
    """(n_table,) from how often each pair of elements stands on each pair of sites in the class.

    Kirkwood's superposition approximation: the product of the pair prevalences over the product of the site
    prevalences to the power of S - 2. Of a single site it is that site's prevalence.
    """
    space = training_set.space
    elements = _class_elements(training_set, target_class)
    table = np.ones(space.table_shape)
    for i, j in combinations(range(space.n_sites), 2):
        pairs = np.zeros((space.table_shape[i], space.table_shape[j]))
        np.add.at(pairs, (elements[:, i], elements[:, j]), 1 / len(elements))
        table *= _along(space, pairs, i, j)
    for site, prevalence in enumerate(_site_prevalence(space, elements)):
        known = np.zeros_like(prevalence)
        inverse = np.power(prevalence, float(2 - space.n_sites), out=known, where=prevalence > 0)
        table *= _along(space, inverse, site)
    return _normalised(space, table)


def _class_elements(training_set: TrainingSet, target_class: int) -> NDArray[np.int64]:
    """(n, S) places of the elements in those that each site takes, of all rows in a class."""
    space = training_set.space
    target_class = space.targets.check(target_class)
    rows = training_set.energy_class == target_class
    if not rows.any():
        raise InputError(
            f"the training set has no row of {space.targets.title(target_class)} to count prevalences in"
        )
    space.require_table("a table of prevalences")
    return np.stack(np.unravel_index(training_set.index[rows], space.table_shape), axis=1).astype(np.int64)


def _site_prevalence(space: Space, elements: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """For each site (elements,) share of each element that it takes."""
    sizes = enumerate(space.table_shape)
    return [np.bincount(elements[:, site], minlength=size) / len(elements) for site, size in sizes]


def _along(space: Space, values: NDArray[np.float64], *sites: int) -> NDArray[np.float64]:
    """`values` of some sites, to be multiplied with a table of all."""
    return np.expand_dims(values, tuple(site for site in range(space.n_sites) if site not in sites))


def _normalised(space: Space, table: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = np.where(space.composition_mask, table.ravel(), 0.0)
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
        training_set.space.require_table(f"the baseline {name}")
        self.space = training_set.space
        self._training_set = training_set
        labels = training_set.n_labels if BASELINES[name].uses_labels else 0
        self.access = Access("offline", labels=labels, chosen_by="no hyperparameters")
        self.distribution = functools.lru_cache(maxsize=1)(self._distribution)

    def _distribution(self, target_class: int) -> NDArray[np.float64]:
        """(n_table,) probability of every composition."""
        return BASELINES[self.name].distribution(self._training_set, target_class)

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 2 S) digits; see `elpa_env.Sampler`."""
        return sample_distribution(self.space, self.distribution(target_class), n, seed=seed)
