"""How much training data a model needs: section 3.3 and Fig. 8 of Türk et al. 2022."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from elpa_env.files import write_json
from elpa_env.training import TrainingSet
from eval.figures import draw_sizes
from eval.metrics import METRICS, coverage_ceiling
from eval.provenance import hardware, versions
from eval.study.plan import Plan
from eval.study.study import View, summarise
from eval.study.views import write_table

SIZES: Final = (1_000, 2_000, 5_000, 10_000)
"""Rows of the training subsets, A/B mirror images counted as the paper counts them; then all rows."""
SHOWN: Final = ("precision", "coverage", "js_distance")
SCHEMA_VERSION: Final = 2
"""Of ``sizes.json``; raised whenever a key changes its meaning or goes."""


def plans(plan: Plan, training_set: TrainingSet) -> list[Plan]:
    """The runs of every size: those of `plan` on ever larger subsets, a subset of its own for each seed.

    Raises:
        InputError: a subset cannot be drawn.
    """
    smaller = [size for size in SIZES if size < len(training_set)]
    for size in smaller:
        for seed in plan.seeds:
            training_set.subset(size, seed=seed)
    return [*(replace(plan, subset=size) for size in smaller), plan]


def write_sizes(views: Sequence[View], folder: Path) -> Table:
    """Write ``sizes.json``, ``figure_sizes.png`` and ``table.txt`` of models trained on ever more rows.

    Args:
        views: one a size, the smallest first; the last is of the whole training set.
        folder: where to.

    Returns:
        The table of means and standard deviations.
    """
    plan, training_set, judge = views[-1].plan, views[-1].training_set, views[-1].judges[0]
    sizes = {view.plan.subset or len(view.training_set): view for view in views}
    titles = views[-1].titles()
    write_json(folder / "sizes.json", _record(sizes, titles))
    draw_sizes(
        folder / "figure_sizes.png",
        list(sizes),
        {
            title: {key: [_figure(view, name, key) for view in views] for key in SHOWN}
            for name, title in titles.items()
        },
        {key: METRICS[key].heading for key in SHOWN},
        ceiling=coverage_ceiling(int(judge.class_counts[plan.target_class]), plan.n_samples),
        caption=f"{_heading(plan)}, judge {judge.name}; subsets of: {training_set.name}",
    )
    table = _table(sizes, titles)
    write_table(folder / "table.txt", table, 140)
    return table


def _figure(view: View, name: str, key: str) -> tuple[float, float]:
    """Mean and standard deviation of a metric of one model; no deviation of a single seed."""
    figure = summarise(view.first[name])[key]
    return figure.mean, 0.0 if np.isnan(figure.std) else figure.std


def _heading(plan: Plan) -> str:
    return (
        f"{plan.target}, {plan.n_samples:,} valid samples, preset {plan.preset}, "
        f"{len(plan.seeds)} seeds, each with subsets of its own"
    )


def _table(sizes: Mapping[int, View], titles: Mapping[str, str]) -> Table:
    whole = list(sizes.values())[-1]
    table = Table(
        title=escape(f"Training sets of growing size: {_heading(whole.plan)}"),
        caption=escape(f"rows count A/B mirror images; subsets of: {whole.training_set.name}"),
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("rows", justify="right")
    table.add_column("")
    several = len(whole.judges) > 1
    if several:
        table.add_column("judge")
    for metric in METRICS.values():
        table.add_column(metric.heading, justify="right")
    for size, view in sizes.items():
        for name, title in titles.items():
            for judge in view.judges:
                summary = summarise(view.groups[judge.name][name])
                cells = [metric.show_mean(*summary[key]) for key, metric in METRICS.items()]
                judges = [escape(judge.name)] if several else []
                table.add_row(f"{size:,}", escape(title), *judges, *cells)
    return table


def _record(sizes: Mapping[int, View], titles: Mapping[str, str]) -> dict[str, Any]:
    """What ``sizes.json`` holds."""
    whole = list(sizes.values())[-1]
    plan = whole.plan
    return {
        "schema_version": SCHEMA_VERSION,
        "target_class": plan.target_class,
        "n_samples": plan.n_samples,
        "preset": plan.preset,
        "seeds": list(plan.seeds),
        "training_set": whole.training_set.record(),
        "judges": {
            judge.name: {
                **judge.record(),
                "sizes": {
                    str(size): {name: _model(view, judge.name, name) for name in titles}
                    for size, view in sizes.items()
                },
            }
            for judge in whole.judges
        },
        "versions": versions(),
        "hardware": hardware(plan.device),
    }


def _model(view: View, judge: str, name: str) -> dict[str, Any]:
    group = view.groups[judge][name]
    return {
        **{key: figure.as_dict() for key, figure in summarise(group).items()},
        "keys": [run.record["key"] for run in group],
        "access": [run.record["access"] for run in group],
        "train_seconds": [run.record["train_seconds"] for run in group],
    }
