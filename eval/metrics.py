"""The metrics, what is to be known to show them, and how they follow from what was drawn.

The five of Türk et al. 2022 (eqs. 2-6), the share of the compounds of a class that was found, and how many of
the first new compounds are right. All are
pure functions on arrays that start from how often each composition was drawn: `counts`, (n_table,), any
number
type; exact probabilities serve as well, and `expected_metrics` takes them. `table_class` is (n_table,) the
class 1..k of every composition of a `Table` or judge, 0 where it knows none. A metric whose denominator is
empty is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from elpa_env.classes import Targets
from elpa_env.sampler import check_n_samples
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.table import Table

N_BINS: Final = 50
"""Bins of a histogram of energies."""


@dataclass(frozen=True)
class Metric:
    """What a metric is called, and how its values are shown.

    Attributes:
        key: under which results hold it.
        title: the paper's name for it.
        short: the same for a narrow column.
        unit: "%" of a share, shown a hundredfold; "" of a plain number.
        better: which way is better; "" where neither is.
        digits: behind the point, of a mean beside its standard deviation. A single exact figure has one
            more, the paper's own figures one less.
        in_paper: whether it stands in the paper's tables.
        exact: whether it follows from a stated distribution; of others it takes samples.
    """

    key: str
    title: str
    short: str
    unit: Literal["%", ""] = "%"
    better: Literal["higher", "lower", ""] = "higher"
    digits: int = 1
    in_paper: bool = True
    exact: bool = True

    @property
    def factor(self) -> int:
        """What a value is multiplied by to be shown in `unit`."""
        return 100 if self.unit else 1

    @property
    def heading(self) -> str:
        """Title with unit: ``precision (right class) / %``."""
        return self.title + (f" / {self.unit}" if self.unit else "")

    @property
    def short_heading(self) -> str:
        """Short title with unit: ``precision / %``."""
        return self.short + (f" / {self.unit}" if self.unit else "")

    def show(self, value: float | None) -> str:
        """A single figure, with its unit: ``83.21 %``, ``0.1634``; ``-`` where there is none."""
        if value is None or math.isnan(value):
            return "-"
        return f"{value * self.factor:.{self.digits + 1}f}{' ' if self.unit else ''}{self.unit}"

    def show_mean(self, mean: float, std: float = math.nan) -> str:
        """A figure over seeds, in units of the heading: ``83.2 ± 0.8``; no ± without a deviation."""
        return self._plus_minus(mean, std, self.digits)

    def show_paper(self, mean: float, std: float = math.nan) -> str:
        """The paper's own rounding: ``83 ± 1``, ``0.16 ± 0.01``."""
        return self._plus_minus(mean, std, self.digits - 1)

    def _plus_minus(self, mean: float, std: float, digits: int) -> str:
        if math.isnan(mean):
            return "-"
        text = f"{mean * self.factor:.{digits}f}"
        return text if math.isnan(std) else f"{text} ± {std * self.factor:.{digits}f}"

    def best(self, values: Iterable[float]) -> float:
        """The best of some values; of a metric with no better way the highest. NaN is never it."""
        known = [value for value in values if not math.isnan(value)]
        return (min if self.better == "lower" else max)(known, default=math.nan)


NEW: Final = 300
"""Different compounds outside the training set, the first that are drawn, on which a metric is."""

METRICS: Final[Mapping[str, Metric]] = {
    metric.key: metric
    for metric in (
        Metric("precision", "precision (right class)", "precision"),
        Metric("precision_neighbour", "precision (neigh. class)", "precision, neigh.", better=""),
        Metric("coverage", "coverage (right class)", "coverage"),
        Metric("coverage_neighbour", "coverage (neigh. class)", "coverage, neigh.", better=""),
        Metric("js_distance", "JS distance", "JS distance", unit="", better="lower", digits=3),
        Metric("compounds", "compounds (right class)", "compounds", in_paper=False),
        Metric(
            "new_precision", f"precision ({NEW} new compounds)", f"{NEW} new", in_paper=False, exact=False
        ),
    )
}
"""All metrics by key: the paper's five in the order of its tables, then ours."""

PAPER_METRICS: Final = tuple(key for key, metric in METRICS.items() if metric.in_paper)
"""Keys of the paper's five."""

Counts = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]


def class_totals(counts: Counts, table: Table) -> NDArray[np.float64]:
    """(k + 1,) draws in each class; entry 0 is what fell on no composition, or on one of no known class."""
    n = table.space.targets.n + 1
    return np.bincount(table.table_class, weights=counts, minlength=n).astype(np.float64)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def precision(totals: NDArray[np.float64], *, target_class: int) -> float:
    """Fraction of the draws in the target class, eq. 2; `totals` from `class_totals`."""
    return _share(totals[target_class], totals[1:].sum())


def precision_neighbour(totals: NDArray[np.float64], targets: Targets, *, target_class: int) -> float:
    """Fraction of the draws in the classes next to the target, eq. 3."""
    return _share(totals[targets.neighbours(target_class)].sum(), totals[1:].sum())


def coverage(unique: NDArray[np.float64], members: NDArray[np.integer[Any]], *, target_class: int) -> float:
    """Fraction of the target class that was drawn at least once, eq. 4.

    Args:
        unique: (k + 1,) different compositions drawn in each class, or their expected number.
        members: (k + 1,) compositions that each class holds.
        target_class: 1..k.
    """
    return _share(unique[target_class], members[target_class])


def coverage_neighbour(
    unique: NDArray[np.float64], members: NDArray[np.integer[Any]], targets: Targets, *, target_class: int
) -> float:
    """Fraction of the classes next to the target that was drawn at least once, eq. 5."""
    beside = targets.neighbours(target_class)
    return _share(unique[beside].sum(), members[beside].sum())


def in_class(values: NDArray[Any], table_class: NDArray[np.int8], target_class: int) -> NDArray[Any]:
    """(n_table,) `values` where a composition is in the class, 0 elsewhere."""
    return np.where(table_class == target_class, values, np.zeros((), values.dtype))


def by_compound(space: Space, values: NDArray[Any]) -> NDArray[Any]:
    """What a (n_table,) table says of all orders of a compound's equivalent sites, added up.

    Returns:
        (k,) of the compounds of which any order has a value that is not 0.
    """
    there = np.flatnonzero(values)
    sums = np.bincount(space.compound_table[there], weights=values[there])
    found: NDArray[Any] = sums[sums != 0]
    return found.astype(bool) if values.dtype == bool else found


def compound_count(space: Space, members: NDArray[np.bool_]) -> int:
    """Different compounds among (n_table,) `members`, True where a composition is one of them."""
    return len(np.unique(space.compound_table[members]))


def element_distribution(space: Space, counts: Counts) -> NDArray[np.float64]:
    """(S, n_elements) p(Z|S), the share of each element on each site; NaN if nothing was drawn."""
    table = np.asarray(counts, dtype=np.float64).reshape(space.table_shape)
    sites = range(space.n_sites)
    shares = np.zeros((space.n_sites, space.n_elements))
    for site in sites:
        sums = table.sum(axis=tuple(s for s in sites if s != site))
        shares[site, space.allowed[site]] = sums
    with np.errstate(invalid="ignore"):
        return np.asarray(shares / table.sum())


def js_distance(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Jensen-Shannon distance of two elemental distributions, eq. 6.

    Args:
        p: (S, n_elements) p(Z|S).
        q: the other; the distance is symmetric.

    Returns:
        Mean over the sites of the square root of the divergence in bits: 0 = equal, 1 = disjoint.
    """
    if p.ndim != 2 or q.shape != p.shape:
        raise ValueError(f"p and q must be alike, (sites, elements), got {p.shape} and {q.shape}")
    m = (p + q) / 2
    divergence = (_relative_entropy(p, m) + _relative_entropy(q, m)) / 2
    return float(np.sqrt(np.maximum(divergence, 0)).mean())


def _relative_entropy(p: NDArray[np.float64], m: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4,) bits; 0 log 0 = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p == 0, 0.0, p * np.log2(p / m))
    return np.asarray(terms.sum(axis=1))


def new_precision(new: NDArray[np.int64], table: Table, *, target_class: int) -> float:
    """Fraction in the target class of different compounds that the training set lacks.

    What someone finds who calculates the first of them: the figure of a list of candidates.

    Args:
        new: (n,) index, each of a compound of its own; those of no known class are left out. Of fewer than
            `NEW` the figure is not known.
        table: of the classes.
        target_class: 1..k.
    """
    if len(new) < NEW:
        return math.nan
    classes = table.energy_class(new)
    return _share(float((classes == target_class).sum()), float((classes > 0).sum()))


def all_metrics(counts: NDArray[np.integer[Any]], table: Table, *, target_class: int) -> dict[str, float]:
    """The metrics of what was drawn, in the order of `METRICS`; that of the first new compounds as NaN.

    Args:
        counts: (n_table,) draws of each composition.
        table: of the classes.
        target_class: 1..k.
    """
    n = table.space.targets.n + 1
    unique = np.bincount(table.table_class[counts > 0], minlength=n).astype(np.float64)
    found = compound_count(table.space, in_class(counts > 0, table.table_class, target_class))
    return _metrics(counts, unique, float(found), table, target_class) | {"new_precision": math.nan}


def expected_metrics(
    distribution: NDArray[np.floating[Any]], table: Table, *, target_class: int, n_samples: int
) -> dict[str, float]:
    """The metrics of a stated distribution, free of sampling noise.

    Only compositions of a known class count, so that a distribution that sums to less than 1 is scored as its
    valid samples are. The coverages are expectations: a composition of probability p is among N
    independent samples with probability 1 - (1 - p)^N, and a compound with that of all its orders in the
    class together. The precisions are expectations for any N too; the JS distance is that of the distribution
    itself, and N samples of it lie a little further away.

    Args:
        distribution: (n_table,) probability of each composition, up to a common factor.
        table: of the classes.
        target_class: 1..k.
        n_samples: N, valid samples drawn independently.

    Raises:
        InputError: no samples.
    """
    check_n_samples(n_samples)
    weights = np.where(table.space.composition_mask, distribution, 0.0)
    total = weights.sum()
    p = weights / total if total > 0 else weights
    unique = class_totals(hit_probability(p, n_samples), table)
    of_class = in_class(p, table.table_class, target_class)
    found = hit_probability(by_compound(table.space, of_class), n_samples).sum()
    return _metrics(p, unique, float(found), table, target_class)


def coverage_ceiling(n_members: int, n_samples: int) -> float:
    """Best expected coverage of a class that independent samples can reach.

    1 - (1 - 1/M)^N, that of the uniform distribution over the M compositions of the class: the expected
    coverage is a concave, symmetric function of their probabilities. NaN if the class is empty.

    Raises:
        InputError: no samples.
    """
    check_n_samples(n_samples)
    if n_members < 1:
        return float("nan")
    return float(hit_probability(np.array([1 / n_members]), n_samples)[0])


def hit_probability(p: NDArray[np.float64], n_samples: int) -> NDArray[np.float64]:
    """1 - (1 - p)^N: whether N independent samples hold a composition of probability p.

    Args:
        p: (...) probabilities; no digits are lost where they are small.
        n_samples: N.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(n_samples * np.log1p(-np.minimum(p, 1.0))))


def _metrics(
    counts: Counts, unique: NDArray[np.float64], compounds_found: float, table: Table, target_class: int
) -> dict[str, float]:
    space, targets = table.space, table.space.targets
    totals, members = class_totals(counts, table), table.class_counts
    drawn = element_distribution(space, np.where(table.table_class > 0, counts, 0))
    of_class = table.table_class == target_class
    reference = element_distribution(space, of_class)
    return {
        "precision": precision(totals, target_class=target_class),
        "precision_neighbour": precision_neighbour(totals, targets, target_class=target_class),
        "coverage": coverage(unique, members, target_class=target_class),
        "coverage_neighbour": coverage_neighbour(unique, members, targets, target_class=target_class),
        "js_distance": js_distance(drawn, reference),
        "compounds": _share(compounds_found, compound_count(space, of_class)),
    }


def energy_bins(space: Space, known: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
    """(51,) edges of the bins of a histogram of energies: of elpasolite the 0.2 eV bins of Fig. 5.

    Args:
        space: of the compositions.
        known: energies of another space, between whose 0.5th and 99.5th percentile the bins lie.
    """
    if space.prototype == ELPASOLITE_SPACE.prototype or known is None:
        return np.linspace(-4.0, 6.0, N_BINS + 1).round(10)
    known = known[np.isfinite(known)]
    limits = [limit for limit in (*space.targets.low, *space.targets.high) if np.isfinite(limit)]
    low, high = np.quantile(known, [0.005, 0.995]) if len(known) else (0.0, 1.0)
    low, high = min([low, *limits]), max([high, *limits])
    return np.linspace(low - 0.05 * (high - low), high + 0.05 * (high - low), N_BINS + 1)


def energy_histogram(energy: NDArray[np.floating], bins: NDArray[np.float64]) -> NDArray[np.int64]:
    """(50,) compositions in each of the `energy_bins`."""
    return np.histogram(energy[np.isfinite(energy)], bins=bins)[0].astype(np.int64)
