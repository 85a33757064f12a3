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

from elpa_env.files import write_json, write_text
from elpa_env.training import TrainingSet
from eval.figures import draw_sizes
from eval.judge import Judge
from eval.metrics import METRICS, coverage_ceiling
from eval.provenance import hardware, versions
from eval.study.plan import Plan
from eval.study.study import View, summarise
from eval.study.tables import markdown
from eval.study.views import write_table

SIZES: Final = (1_000, 2_000, 5_000, 10_000)
"""Rows of the training subsets, A/B mirror images counted as the paper counts them; then all rows."""
SHOWN: Final = ("precision", "coverage", "js_distance")
SCHEMA_VERSION: Final = 3
"""Of ``figure8.json``; raised whenever a key changes its meaning or goes."""


def plans(plan: Plan, training_set: TrainingSet) -> list[Plan]:
    """The runs of every size: those of `plan` on ever larger subsets, a subset of its own for each seed.

    Before the whole training set stand its rows as they are, without the mirror images that are added.

    Raises:
        InputError: a subset cannot be drawn.
    """
    smaller = [size for size in SIZES if size < len(training_set)]
    for size in smaller:
        for seed in plan.seeds:
            training_set.subset(size, seed=seed)
    return [*(replace(plan, subset=size) for size in smaller), replace(plan, augment=False), plan]


def rows_of(view: View) -> str:
    """The size of what a view was trained on, in words."""
    return f"{view.plan.subset or len(view.training_set):,}" + ("" if view.plan.augment else " as they are")


def write_sizes(views: Sequence[View], folder: Path, name: str) -> Table:
    """Write models trained on ever more rows: ``<name>.json``, ``.png``, ``.txt`` and ``.md``.

    Args:
        views: one a size, the smallest first; the last is of the whole training set.
        folder: where to.
        name: of the files.

    Returns:
        The table of means and standard deviations.
    """
    plan, training_set, judge = views[-1].plan, views[-1].training_set, views[-1].judges[0]
    grown = {rows_of(view): view for view in views}
    titles = views[-1].titles()
    write_json(folder / f"{name}.json", _record(grown, titles))
    draw_sizes(
        folder / f"{name}.png",
        [view.plan.subset or len(view.training_set) for view in views if view.plan.augment],
        {
            title: {key: [_figure(view, model, key) for view in views if view.plan.augment] for key in SHOWN}
            for model, title in titles.items()
        },
        {key: METRICS[key].heading for key in SHOWN},
        ceiling=coverage_ceiling(int(judge.class_counts[plan.target_class]), plan.n_samples),
        caption=f"{_heading(plan)}, judge {judge.name}; subsets of: {training_set.name}",
        apart={
            title: {
                key: [
                    (len(view.training_set), *_figure(view, model, key))
                    for view in views
                    if not view.plan.augment
                ]
                for key in SHOWN
            }
            for model, title in titles.items()
        },
    )
    columns, rows = _rows(grown, titles)
    note = f"Training sets of growing size: {_heading(plan)}"
    more = f"rows count A/B mirror images, but where they are as they are; subsets of: {training_set.name}"
    return _written(folder, name, note, more, columns, rows)


def _written(
    folder: Path, name: str, note: str, more: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> Table:
    """A table, written as text and as Markdown, too."""
    table = Table(title=escape(note), caption=escape(more), caption_justify="left", box=SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if number == 1 else "right", no_wrap=number < 2)
    for row in rows:
        table.add_row(*map(escape, row))
    write_table(folder / f"{name}.txt", table, 160)
    lines = [f"{note}; {more}.", "", *markdown(columns, rows), ""]
    write_text(folder / f"{name}.md", "\n".join(lines))
    return table


COSTS: Final = (
    "rows",
    "model",
    "labels",
    "to verify",
    "found, class 1",
    "found, class 2",
    "calculations a find",
    "random screening",
    "fewer, verified",
    "fewer, all",
)


def write_costs(views: Sequence[View], folder: Path, name: str) -> Table:
    """Section 3.3: what it costs to find compounds of the class: ``<name>.txt`` and ``.md``.

    Labels are the energies that a model was trained on; to verify are the compositions that it shows and
    the training set lacks. Random screening takes as many calculations for the same finds as the space has
    compositions for each of the class. It is held against the verified ones alone, as in the paper, and
    against all calculations, labels included.

    Args:
        views: see `write_sizes`.
        folder: where to.
        name: of the files.
    """
    whole = views[-1]
    judge = whole.judges[0]
    note = f"What a discovery costs: {_heading(whole.plan)}, judge {judge.name}"
    more = (
        "labels: energies in the training set; to verify: different compositions outside it; found: "
        "different compositions of the class; random screening: calculations for as many of class "
        f"{whole.plan.target_class}; fewer: times less than these, without and with the labels"
    )
    return _written(folder, name, note, more, COSTS, cost_rows(views))


def cost_rows(views: Sequence[View]) -> list[tuple[str, ...]]:
    """Rows of `COSTS` under the first judge, one a size and model, of views as `write_sizes` takes them."""
    whole = views[-1]
    return [
        (rows_of(view), title, *_cost(view, model, whole.judges[0]))
        for view in views
        for model, title in whole.titles().items()
        if model in view.first
    ]


def _cost(view: View, model: str, judge: Judge) -> tuple[str, ...]:
    """A row of `COSTS` behind the model's title: means over the seeds."""
    group = view.first[model]
    target, members = view.plan.target_class, judge.class_counts
    beside = sum(int(members[c]) for c in judge.space.targets.neighbours(target))
    labels = np.mean([run.record["access"]["labels"] for run in group])
    verify = np.mean([run.score["novel"] for run in group])
    found = np.mean([run.score["coverage"] for run in group]) * members[target]
    near = np.mean([run.score["coverage_neighbour"] for run in group]) * beside
    screening = found * judge.space.n_compositions / members[target]
    numbers = [f"{value:,.0f}" for value in (labels, verify, found, near)]
    each = f"{(labels + verify) / found:.2f}" if found else "-"
    fewer = [f"{screening / cost:.1f}" if cost else "-" for cost in (verify, labels + verify)]
    return (*numbers, each, f"{screening:,.0f}", *fewer)


def _figure(view: View, name: str, key: str) -> tuple[float, float]:
    """Mean and standard deviation of a metric of one model; no deviation of a single seed."""
    figure = summarise(view.first[name])[key]
    return figure.mean, 0.0 if np.isnan(figure.std) else figure.std


def _heading(plan: Plan) -> str:
    return (
        f"{plan.target}, {plan.n_samples:,} valid samples, preset {plan.preset}, "
        f"{len(plan.seeds)} seeds, each with subsets of its own"
    )


def _rows(grown: Mapping[str, View], titles: Mapping[str, str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Columns and rows of the table: a row a size, model and judge."""
    whole = list(grown.values())[-1]
    columns = ["rows", "model", "judge", *(metric.heading for metric in METRICS.values())]
    rows = []
    for size, view in grown.items():
        for name, title in titles.items():
            for judge in whole.judges:
                summary = summarise(view.groups[judge.name][name])
                cells = (metric.show_mean(*summary[key]) for key, metric in METRICS.items())
                rows.append((size, title, judge.name, *cells))
    return columns, rows


def _record(sizes: Mapping[str, View], titles: Mapping[str, str]) -> dict[str, Any]:
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
                    size: {name: _model(view, judge.name, name) for name in titles}
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
