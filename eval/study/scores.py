"""Figures of stored runs under a judge: made from their counts or distributions, kept beside them.

Nothing is trained or drawn from a model here. The figures are derived data: deleting them costs only the
seconds that it takes to make them again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError
from elpa_env.files import parse_json
from elpa_env.seeds import torch_seed
from elpa_env.space import Space
from elpa_env.training import TrainingSet
from eval.curves import Curve, drawn_curve, expected_curve
from eval.exact import count_distribution, exact_score, new_compounds
from eval.judge import Judge
from eval.metrics import element_distribution, energy_bins, energy_histogram
from eval.scoring import Tally, first_new, score_tally
from eval.study.store import Draws, Request, Store

MAX_KEPT: Final = 1_000_000
"""Samples kept in the order drawn; of a larger number the first million."""
_DRAWS: Final = 1 << 20
"""Spawn key of the draws, which no model's own streams reach."""
VERSION: Final = 3
"""Of the figures; raised when they are reckoned otherwise, so that those that are kept are made again."""


@dataclass(frozen=True, eq=False)
class Scored:
    """One run with its figures under one judge.

    Attributes:
        record: of the run, see `eval.study.store`.
        score: what `eval.scoring.Score.as_dict` gives.
        exact: what `eval.exact.ExactScore.as_dict` gives; None where no distribution is stated.
        elements: (S, n_elements) p(Z|S) of what was drawn.
        bins: (51,) see `eval.metrics.energy_bins`.
        energies: (50,) different compositions drawn in each of `bins`.
    """

    record: Mapping[str, Any]
    score: Mapping[str, Any]
    exact: Mapping[str, Any] | None
    elements: NDArray[np.float64]
    bins: NDArray[np.float64]
    energies: NDArray[np.int64]

    @property
    def name(self) -> str:
        """Of the model."""
        return str(self.record["name"])

    @property
    def title(self) -> str:
        """Of the model's column."""
        return str(self.record["title"])


@dataclass(frozen=True, eq=False)
class Samples:
    """What a run drew, or what it may draw from.

    Attributes:
        distribution: (n_table,) that it states; None if it states none.
        draws: what it drew; None if it states a distribution.
    """

    distribution: NDArray[np.float64] | None = None
    draws: Draws | None = None

    def count(
        self, record: Mapping[str, Any], request: Request, space: Space, *, keep: int = 0
    ) -> tuple[Tally, NDArray[np.int64]]:
        """The samples of a run: counts, and the first of them in the order drawn.

        Args:
            record: of the run.
            request: what was asked of it.
            space: of the compositions.
            keep: samples to return, at most `MAX_KEPT`.
        """
        if self.draws is not None:
            tally = Tally.from_sparse(self.draws.index, self.draws.counts, self.draws.n_raw, space)
            return tally, self.draws.kept[:keep].astype(np.int64)
        assert self.distribution is not None
        seed = draw_seed(record["seed"], request.target_class)
        # always as many in order, on which the counts depend
        tally, kept = count_distribution(
            space,
            self.distribution,
            request.n_samples,
            seed=seed,
            keep=min(request.n_samples, MAX_KEPT),
            name=record["name"],
        )
        return tally, kept[:keep]


def draw_seed(seed: int, target_class: int) -> int:
    """Seed of the draws of a run; it shares nothing with those of its training."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_DRAWS, target_class))
    return torch_seed(sequence)


def stored_samples(store: Store, record: Mapping[str, Any], request: Request) -> Samples:
    """What a stored run drew, or what it may draw from.

    Raises:
        InputError: the run never drew so many and states no distribution.
    """
    key = record["key"]
    distribution = store.distribution(key, request)
    draws = None if distribution is not None else store.draws(key, request)
    if distribution is None and draws is None:
        raise InputError(
            f"run {key} of {record['name']} has no {request.n_samples:,} samples for class "
            f"{request.target_class}: run the comparison again"
        )
    return Samples(distribution, draws)


def can_be_scored(store: Store, key: str, judges: Sequence[Judge], request: Request) -> bool:
    """Whether a stored run has what was asked for: samples, a distribution, or its figures."""
    made = (request.draws_name, request.distribution_name)
    return any(store.has(key, name) for name in made) or all(
        store.has(key, figures_name(judge, request)) for judge in judges
    )


def score_runs(
    store: Store, records: Sequence[Mapping[str, Any]], judge: Judge, request: Request
) -> list[Scored]:
    """Figures of stored runs, made where they are not kept yet.

    Raises:
        InputError: a run lacks what they are made from.
    """
    training_sets: dict[str, TrainingSet] = {}
    return [_score(store, record, judge, request, training_sets) for record in records]


def _score(
    store: Store,
    record: Mapping[str, Any],
    judge: Judge,
    request: Request,
    training_sets: dict[str, TrainingSet],
) -> Scored:
    name = figures_name(judge, request)
    content = _kept(store.read(record["key"], name), _identity(record, judge, request))
    if content is None:
        digest = record["identity"]["training_set"]
        if digest not in training_sets:
            training_sets[digest] = store.training_set(digest)
        samples = stored_samples(store, record, request)
        data = figures(record, samples, judge, request, training_sets[digest])
        store.put(record["key"], name, data)
        content = json.loads(data)
    return Scored(
        record,
        content["score"],
        content["exact"],
        np.array(content["elements"], dtype=np.float64),
        np.array(content["bins"], dtype=np.float64),
        np.array(content["energies"], dtype=np.int64),
    )


def stored_curve(
    store: Store, record: Mapping[str, Any], judge: Judge, request: Request, training_set: TrainingSet
) -> Curve:
    """Generation curve of a stored run under a judge, made where it is not kept yet.

    Raises:
        InputError: the run lacks what it is made from.
    """
    name = curve_name(judge, request)
    identity = _identity(record, judge, request)
    data = store.read(record["key"], name)
    with contextlib.suppress(InputError):
        content = parse_json(data, name) if data is not None else None
        if isinstance(content, dict) and content.get("identity") == identity:
            return Curve.from_dict(content)
    samples = stored_samples(store, record, request)
    how: dict[str, Any] = {"judge": judge, "training_set": training_set}
    if samples.draws is not None:
        curve = drawn_curve(samples.draws.index, samples.draws.first, request.n_samples, **how)
    else:
        assert samples.distribution is not None
        curve = expected_curve(samples.distribution, request.n_samples, **how)
    store.put(record["key"], name, json.dumps({"identity": identity, **curve.as_dict()}).encode())
    return curve


def figures_name(judge: Judge, request: Request) -> str:
    """Name of the file with a run's figures under a judge."""
    return f"score-{judge.sha256[:12]}-{request.target_class}-{request.n_samples}.json"


def curve_name(judge: Judge, request: Request) -> str:
    """Name of the file with a run's generation curve under a judge."""
    return f"curve-{judge.sha256[:12]}-{request.target_class}-{request.n_samples}.json"


def figures(
    record: Mapping[str, Any],
    samples: Samples,
    judge: Judge,
    request: Request,
    training_set: TrainingSet,
) -> bytes:
    """The figures of a run under a judge, as they are kept.

    Args:
        record: of the run.
        samples: that it drew, or may draw from.
        judge: who scores.
        request: what was asked of the run.
        training_set: what the run was trained on, and so what counts as known.
    """
    space = judge.space
    tally, kept = samples.count(record, request, space, keep=MAX_KEPT)
    how: dict[str, Any] = {
        "judge": judge,
        "target_class": request.target_class,
        "training_set": training_set,
    }
    exact = None
    if samples.distribution is None:
        new = first_new(space, kept, training_set)
    else:
        seed = draw_seed(record["seed"], request.target_class)
        new = new_compounds(space, kept, samples.distribution, training_set, seed=seed)
        exact = exact_score(samples.distribution, n_samples=request.n_samples, **how).as_dict()
    unique = np.flatnonzero(tally.counts)
    bins = energy_bins(space, judge.table_energy)
    content = {
        **_identity(record, judge, request),
        "score": score_tally(tally, new=new, **how).as_dict(),
        "exact": exact,
        "elements": element_distribution(space, tally.counts).round(6).tolist(),
        "bins": bins.tolist(),
        "energies": energy_histogram(judge.energy(unique), bins).tolist(),
    }
    return json.dumps(content, allow_nan=False).encode()


def _identity(record: Mapping[str, Any], judge: Judge, request: Request) -> dict[str, Any]:
    """What figures are of."""
    return {"version": VERSION, "key": record["key"], "judge": judge.sha256, **asdict(request)}


def _kept(data: bytes | None, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Figures that are kept; None if there are none, or of something else."""
    try:
        content = parse_json(data, "figures") if data is not None else None
    except InputError:
        return None
    if not isinstance(content, dict) or any(content.get(key) != value for key, value in identity.items()):
        return None
    whole = isinstance(content.get("score"), dict) and {"exact", "elements", "bins", "energies"} <= set(
        content
    )
    return content if whole else None
