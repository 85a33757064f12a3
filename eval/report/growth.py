"""What further samples bring: generation curves that are kept with the runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from elpa_env.classes import Targets
from elpa_env.errors import InputError
from eval.curves import Curve
from eval.report.blocks import Frame, Picture
from eval.report.energies import first_seed
from eval.report.lines import line
from eval.study.scores import curve_name, stored_curve
from eval.study.store import Store
from eval.study.study import View

Count = Callable[[Curve], NDArray[np.float64]]


def curves_pictures(shown: View, store: Store) -> list[Picture]:
    """One picture of all models whose curve is kept, by what is counted; none without such a model."""
    curves = _kept(shown, store)
    if not curves:
        return []
    counts = _counts(shown.judges[0].space.targets, shown.plan.target_class)
    frames = [
        Frame(what, [line(name, c.n_samples, count(c), number) for name, (number, c) in curves.items()])
        for what, count in counts.items()
    ]
    axis = {"type": "log", "dtick": 1, "tickformat": ","}
    layout = {
        "xaxis": {**axis, "title": {"text": "valid samples"}},
        "yaxis": {**axis, "title": {"text": "of these"}},
    }
    note = (
        f"First seed of every model, judge {shown.judges[0].name}; novel: different, not in the training set."
    )
    return [Picture("What further samples bring", frames, layout, note, label="number of samples that are")]


def _counts(targets: Targets, target_class: int) -> dict[str, Count]:
    """What can be counted along a curve, the target's novel compositions first."""
    found: dict[str, Count] = {
        f"novel, {targets.title(target_class)}": lambda curve: curve.novel[:, target_class - 1]
    }
    for neighbour in targets.neighbours(target_class):
        found[f"novel, {targets.title(neighbour)}"] = lambda curve, c=neighbour: curve.novel[:, c - 1]  # type: ignore[misc]
    found["novel, of any class"] = lambda curve: curve.novel.sum(axis=1)
    found["known from the training set"] = lambda curve: curve.rediscovered
    found["drawn before"] = lambda curve: curve.repeated
    return found


def _kept(shown: View, store: Store) -> dict[str, tuple[int, Curve]]:
    """Title, number among the models, and curve of every model that has one."""
    judge, request = shown.judges[0], shown.plan.request
    found = {}
    for number, run in enumerate(first_seed(shown, judge).values()):
        if store.has(run.record["key"], curve_name(judge, request)):
            training_set = shown.training_set
            with contextlib.suppress(InputError):  # one of an earlier version, whose samples are not here
                found[run.title] = number, stored_curve(store, run.record, judge, request, training_set)
    return found
