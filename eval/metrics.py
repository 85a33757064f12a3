"""The metrics, what is to be known to show them, and how they follow from what was drawn.

The five of Türk et al. 2022 (eqs. 2-6), and the share of the compounds of a class that was found. All are
pure functions on arrays that start from how often each composition was drawn: `counts`, (39^4,), any number
type; exact probabilities serve as well, and `expected_metrics` takes them. `table_class` is (39^4,) the
energy class 1..10 of every composition, 0 where the table holds none. A metric whose denominator is empty is
NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from elpa_env.classes import N_CLASSES, neighbours
from elpa_env.elements import N_ELEMENTS
from elpa_env.sampler import check_n_samples
from elpa_env.space import N_SITES, TABLE_SHAPE, compound_mask, mirrored


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
    """

    key: str
    title: str
    short: str
    unit: Literal["%", ""] = "%"
    better: Literal["higher", "lower", ""] = "higher"
    digits: int = 1
    in_paper: bool = True

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


METRICS: Final[Mapping[str, Metric]] = {
    metric.key: metric
    for metric in (
        Metric("precision", "precision (right class)", "precision"),
        Metric("precision_neighbour", "precision (neigh. class)", "precision, neigh.", better=""),
        Metric("coverage", "coverage (right class)", "coverage"),
        Metric("coverage_neighbour", "coverage (neigh. class)", "coverage, neigh.", better=""),
        Metric("js_distance", "JS distance", "JS distance", unit="", better="lower", digits=3),
        Metric("compounds", "compounds (right class)", "compounds", in_paper=False),
    )
}
"""All metrics by key: the paper's five in the order of its tables, then ours."""

PAPER_METRICS: Final = tuple(key for key, metric in METRICS.items() if metric.in_paper)
"""Keys of the paper's five."""

Counts = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]


def class_totals(counts: Counts, table_class: NDArray[np.int8]) -> NDArray[np.float64]:
    """(11,) draws in each class; entry 0 is what fell on no composition."""
    return np.bincount(table_class, weights=counts, minlength=N_CLASSES + 1).astype(np.float64)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def precision(totals: NDArray[np.float64], *, target_class: int) -> float:
    """Fraction of the draws in the target class, eq. 2; `totals` from `class_totals`."""
    return _share(totals[target_class], totals[1:].sum())


def precision_neighbour(totals: NDArray[np.float64], *, target_class: int) -> float:
    """Fraction of the draws in the classes next to the target, eq. 3."""
    return _share(totals[neighbours(target_class)].sum(), totals[1:].sum())


def coverage(unique: NDArray[np.float64], members: NDArray[np.integer[Any]], *, target_class: int) -> float:
    """Fraction of the target class that was drawn at least once, eq. 4.

    Args:
        unique: (11,) different compositions drawn in each class, or their expected number.
        members: (11,) compositions that each class holds.
        target_class: 1..10.
    """
    return _share(unique[target_class], members[target_class])


def coverage_neighbour(
    unique: NDArray[np.float64], members: NDArray[np.integer[Any]], *, target_class: int
) -> float:
    """Fraction of the classes next to the target that was drawn at least once, eq. 5."""
    beside = neighbours(target_class)
    return _share(unique[beside].sum(), members[beside].sum())


def in_class(values: NDArray[Any], table_class: NDArray[np.int8], target_class: int) -> NDArray[Any]:
    """(39^4,) `values` where a composition is in the class, 0 elsewhere."""
    return np.where(table_class == target_class, values, np.zeros((), values.dtype))


def by_compound(values: NDArray[Any]) -> NDArray[Any]:
    """What a (39^4,) table says of both A/B orders of a compound, added up.

    Returns:
        (k,) of the compounds of which either order has a value that is not 0.
    """
    both: NDArray[Any] = values + mirrored(values)  # of bool: either
    return both[np.flatnonzero(compound_mask() & (both != 0))]


def compound_count(members: NDArray[np.bool_]) -> int:
    """Different compounds among (39^4,) `members`, True where a composition is one of them."""
    return len(by_compound(members))


def element_distribution(counts: Counts) -> NDArray[np.float64]:
    """(4, 39) p(Z|S), the share of each element on each site; NaN if nothing was drawn."""
    table = np.asarray(counts, dtype=np.float64).reshape(TABLE_SHAPE)
    sites = range(N_SITES)
    sums = np.stack([table.sum(axis=tuple(s for s in sites if s != site)) for site in sites])
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / table.sum())


def js_distance(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Jensen-Shannon distance of two elemental distributions, eq. 6.

    Args:
        p: (4, 39) p(Z|S).
        q: (4, 39) the other; the distance is symmetric.

    Returns:
        Mean over the sites of the square root of the divergence in bits: 0 = equal, 1 = disjoint.
    """
    if p.shape != (N_SITES, N_ELEMENTS) or q.shape != p.shape:
        raise ValueError(f"p and q must be ({N_SITES}, {N_ELEMENTS}), got {p.shape} and {q.shape}")
    m = (p + q) / 2
    divergence = (_relative_entropy(p, m) + _relative_entropy(q, m)) / 2
    return float(np.sqrt(np.maximum(divergence, 0)).mean())


def _relative_entropy(p: NDArray[np.float64], m: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4,) bits; 0 log 0 = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p == 0, 0.0, p * np.log2(p / m))
    return np.asarray(terms.sum(axis=1))


def all_metrics(
    counts: NDArray[np.integer[Any]], table_class: NDArray[np.int8], *, target_class: int
) -> dict[str, float]:
    """The metrics of what was drawn, in the order of `METRICS`.

    Args:
        counts: (39^4,) draws of each composition.
        table_class: (39^4,) energy class of each composition, 0 = none.
        target_class: 1..10.
    """
    members = np.bincount(table_class, minlength=N_CLASSES + 1)
    unique = np.bincount(table_class[counts > 0], minlength=N_CLASSES + 1).astype(np.float64)
    found = compound_count(in_class(counts > 0, table_class, target_class))
    return _metrics(counts, unique, members, float(found), table_class, target_class)


def expected_metrics(
    distribution: NDArray[np.floating[Any]],
    table_class: NDArray[np.int8],
    *,
    target_class: int,
    n_samples: int,
) -> dict[str, float]:
    """The metrics of a stated distribution, free of sampling noise.

    Only real compositions count, so that a distribution that sums to less than 1 is scored as its
    valid samples are. The coverages are expectations: a composition of probability p is among N
    independent samples with probability 1 - (1 - p)^N, and a compound with that of both its A/B orders in the
    class together. The precisions are expectations for any N too; the JS distance is that of the distribution
    itself, and N samples of it lie a little further away.

    Args:
        distribution: (39^4,) probability of each composition, up to a common factor.
        table_class: (39^4,) energy class of each composition, 0 = none.
        target_class: 1..10.
        n_samples: N, valid samples drawn independently.

    Raises:
        InputError: no samples.
    """
    check_n_samples(n_samples)
    weights = np.where(table_class > 0, distribution, 0.0)
    total = weights.sum()
    p = weights / total if total > 0 else weights
    members = np.bincount(table_class, minlength=N_CLASSES + 1)
    unique = class_totals(hit_probability(p, n_samples), table_class)
    found = hit_probability(by_compound(in_class(p, table_class, target_class)), n_samples).sum()
    return _metrics(p, unique, members, float(found), table_class, target_class)


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
    counts: Counts,
    unique: NDArray[np.float64],
    members: NDArray[np.integer[Any]],
    compounds_found: float,
    table_class: NDArray[np.int8],
    target_class: int,
) -> dict[str, float]:
    totals = class_totals(counts, table_class)
    drawn = element_distribution(np.where(table_class > 0, counts, 0))
    reference = element_distribution(table_class == target_class)
    return {
        "precision": precision(totals, target_class=target_class),
        "precision_neighbour": precision_neighbour(totals, target_class=target_class),
        "coverage": coverage(unique, members, target_class=target_class),
        "coverage_neighbour": coverage_neighbour(unique, members, target_class=target_class),
        "js_distance": js_distance(drawn, reference),
        "compounds": _share(compounds_found, compound_count(table_class == target_class)),
    }
