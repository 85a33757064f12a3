"""Figures of stored runs under a judge: made from their counts or distributions, kept beside them.

Nothing is trained or drawn from a model here. The figures are derived data: deleting them costs only the
seconds that it takes to make them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError
from elpa_env.training import TrainingSet
from eval.exact import count_distribution, exact_score
from eval.figures import energy_histogram
from eval.judge import Judge
from eval.metrics import element_distribution
from eval.scoring import Tally, score_tally
from eval.study.job import MAX_KEPT, draw_seed
from eval.study.store import Store

VERSION: Final = 1
"""Of the figures; raised when they are reckoned otherwise, so that those that are kept are made again."""


@dataclass(frozen=True, eq=False)
class Scored:
    """One run with its figures under one judge.

    Attributes:
        record: of the run, see `eval.study.store`.
        score: what `eval.scoring.Score.as_dict` gives.
        exact: what `eval.exact.ExactScore.as_dict` gives; None where no distribution is stated.
        elements: (4, 39) p(Z|S) of what was drawn.
        energies: (50,) different compositions drawn in each of `eval.figures.ENERGY_BINS`.
    """

    record: Mapping[str, Any]
    score: Mapping[str, Any]
    exact: Mapping[str, Any] | None
    elements: NDArray[np.float64]
    energies: NDArray[np.int64]

    @property
    def name(self) -> str:
        """Of the model."""
        return str(self.record["name"])

    @property
    def title(self) -> str:
        """Of the model's column."""
        return str(self.record["title"])


def drawn(
    store: Store, record: Mapping[str, Any], n_samples: int, *, keep: int = 0
) -> tuple[Tally, NDArray[np.int64]]:
    """The samples of a stored run: counts, and the first of them in the order drawn.

    Args:
        store: where it is.
        record: of the run.
        n_samples: valid samples.
        keep: samples to return, at most `eval.study.job.MAX_KEPT`.

    Raises:
        InputError: the run never drew so many and states no distribution.
    """
    key = record["key"]
    keep = min(keep, n_samples, MAX_KEPT)
    distribution = store.distribution(key)
    if distribution is not None:
        seed = draw_seed(record["seed"], record["target_class"])
        return count_distribution(distribution, n_samples, seed=seed, keep=keep, name=record["name"])
    draws = store.draws(key, n_samples)
    if draws is None:
        raise InputError(
            f"run {key} of {record['name']} never drew {n_samples:,} samples: run the comparison again"
        )
    return Tally.from_sparse(draws.index, draws.counts, draws.n_raw), draws.kept[:keep].astype(np.int64)


def score_runs(
    store: Store, records: Sequence[Mapping[str, Any]], judge: Judge, n_samples: int
) -> list[Scored]:
    """Figures of stored runs, made where they are not kept yet.

    Raises:
        InputError: a run lacks what they are made from.
    """
    training_sets: dict[str, TrainingSet] = {}
    return [_score(store, record, judge, n_samples, training_sets) for record in records]


def _score(
    store: Store,
    record: Mapping[str, Any],
    judge: Judge,
    n_samples: int,
    training_sets: dict[str, TrainingSet],
) -> Scored:
    name = f"score-{judge.sha256[:12]}-{n_samples}.json"
    identity = {"version": VERSION, "key": record["key"], "judge": judge.sha256, "n_samples": n_samples}
    kept = _kept(store.read(record["key"], name), identity)
    if kept is None:
        digest = record["identity"]["training_set"]
        if digest not in training_sets:
            training_sets[digest] = store.training_set(digest)
        kept = {**identity, **_figures(store, record, judge, n_samples, training_sets[digest])}
        store.put(record["key"], name, json.dumps(kept, allow_nan=False).encode())
    return Scored(
        record,
        kept["score"],
        kept["exact"],
        np.array(kept["elements"], dtype=np.float64),
        np.array(kept["energies"], dtype=np.int64),
    )


def _kept(data: bytes | None, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Figures that are kept; None if there are none, or of something else."""
    try:
        content = json.loads(data) if data is not None else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or any(content.get(key) != value for key, value in identity.items()):
        return None
    whole = isinstance(content.get("score"), dict) and {"exact", "elements", "energies"} <= set(content)
    return content if whole else None


def _figures(
    store: Store, record: Mapping[str, Any], judge: Judge, n_samples: int, training_set: TrainingSet
) -> dict[str, Any]:
    tally, _ = drawn(store, record, n_samples)
    how: dict[str, Any] = {
        "judge": judge,
        "target_class": record["target_class"],
        "training_set": training_set,
    }
    distribution = store.distribution(record["key"])
    exact = None if distribution is None else exact_score(distribution, n_samples=n_samples, **how)
    unique = np.flatnonzero(tally.counts)
    return {
        "score": score_tally(tally, **how).as_dict(),
        "exact": None if exact is None else exact.as_dict(),
        "elements": element_distribution(tally.counts).round(6).tolist(),
        "energies": energy_histogram(judge.energy(unique)).tolist(),
    }
