"""Section on training sets of growing size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from eval.figures import short
from eval.judge import Judge
from eval.metrics import METRICS
from eval.report.blocks import Block, Frame, Picture, Section, Table
from eval.report.chapters import grows
from eval.report.lines import error_bars, line, style
from eval.study.sizes import COSTS, cost_rows, rows_of
from eval.study.store import Store
from eval.study.study import Study, View, summarise, view

_FIRST: Final = ("precision", "coverage", "js_distance")
"""Metrics that a reader sees first."""


def sizes_sections(study: Study, store: Store) -> list[Section]:
    """One section; none of a study without such runs.

    Raises:
        InputError: a run is missing.
    """
    recipe = next((part.recipe for part in study.parts if grows(part)), None)
    parts = [part for part in study.parts if part.recipe == recipe]
    if recipe is None:
        return []
    views = [view(part, store) for part in parts]
    blocks: list[Block] = [_picture(views), *(_table(views, judge) for judge in views[0].judges)]
    blocks.append(
        Table(
            "What a discovery costs",
            [COSTS[1], COSTS[0], *COSTS[2:]],
            [(row[1], row[0], *row[2:]) for row in cost_rows(views)],
            "Labels: energies in the training set; to verify: different compositions outside it. Screening "
            "at random needs so many calculations for as many finds; fewer: times less than these, without "
            "and with the labels.",
        )
    )
    return [Section("Training sets of growing size", blocks)]


def _picture(views: Sequence[View]) -> Picture:
    """A metric of every model against the rows that it was trained on, by metric."""
    judge = views[0].judges[0]
    keys = [*_FIRST, *(key for key in METRICS if key not in _FIRST)]
    frames = [
        Frame(
            METRICS[key].title,
            [_line(views, name, title, number, key) for number, (name, title) in enumerate(_titles(views))],
            {"yaxis": {"title": {"text": METRICS[key].heading}}},
        )
        for key in keys
    ]
    layout: dict[str, Any] = {
        "xaxis": {
            "type": "log",
            "title": {"text": "training rows"},
            "tickvals": sorted(
                {one.plan.subset or len(one.training_set) for one in views if one.plan.augment}
            ),
            "tickformat": ",",
        },
        "yaxis": {"rangemode": "nonnegative"},
    }
    plan = views[0].plan
    note = (
        f"{plan.target.capitalize()}, {plan.n_samples:,} valid samples, judge {judge.name}; mean ± deviation."
    )
    return Picture("Figures against the size of the training set", frames, layout, note, label="figure")


def _titles(views: Sequence[View]) -> list[tuple[str, str]]:
    """Name and title of every model."""
    found: dict[str, str] = {}
    for one in views:
        found = {**one.titles(), **found}
    return list(found.items())


def _line(views: Sequence[View], name: str, title: str, number: int, key: str) -> dict[str, Any]:
    """One model; training sets without added mirror images lie apart, and are in the table alone."""
    chosen = [one for one in views if one.plan.augment and name in one.first]
    figures = [summarise(one.first[name])[key] for one in chosen]
    factor = METRICS[key].factor
    deviation = np.nan_to_num([figure.std for figure in figures]) * factor
    return line(
        short(title),
        [one.plan.subset or len(one.training_set) for one in chosen],
        [figure.mean * factor for figure in figures],
        number,
        mode="lines+markers",
        error_y=error_bars(deviation.tolist(), style(number)["color"]),
    )


def _table(views: Sequence[View], judge: Judge) -> Table:
    rows = [
        (title, rows_of(one), *(metric.show_mean(*figures[key]) for key, metric in METRICS.items()))
        for name, title in _titles(views)
        for one in views
        if (group := one.groups[judge.name].get(name)) and (figures := summarise(group))
    ]
    columns = ["model", "rows", *(metric.short_heading for metric in METRICS.values())]
    note = "Rows count A/B mirror images, but where they are as they are."
    return Table(f"Results by size, judge {judge.name}", columns, rows, note)
