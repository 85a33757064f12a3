"""Precision against coverage: every model a point with its name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from eval.figures import short
from eval.judge import Judge
from eval.metrics import METRICS, coverage_ceiling
from eval.placement import place_names
from eval.report.blocks import Frame, Picture
from eval.report.lines import Trace, plain, upright
from eval.study.paper import TABLE_SAMPLES, Figure
from eval.study.plan import Plan
from eval.study.study import View, summarise
from eval.study.tables import paper_figures, seen

KINDS: Final = {
    "offline": ("#1f77b4", "circle"),
    "model-based": ("#d62728", "triangle-up"),
    "oracle": ("#2ca02c", "square"),
    "reference": ("#7f7f7f", "star"),
    "unknown": ("#9467bd", "x"),
}
"""Colour and symbol of a model by what it saw."""
PAPER: Final = ("#8c8c8c", "cross-thin-open")
_WIDE: Final = (860.0, 350.0, 12.0)
_NARROW: Final = (300.0, 300.0, 10.0)
"""Pixels between the axes and of the letters, on a wide and on a narrow screen."""


class Point(NamedTuple):
    """A point of the picture.

    Attributes:
        name: beside it.
        coverage: per cent.
        precision: per cent.
        kind: of `KINDS`, or "reported".
        hover: lines of the label.
    """

    name: str
    coverage: float
    precision: float
    kind: str
    hover: str


def coverage_picture(shown: View) -> Picture:
    """Precision against coverage of every model, by judge."""
    frames = [_frame(shown, judge) for judge in shown.judges]
    drawn = f"{shown.plan.n_samples:,} valid samples"
    return Picture(
        "Precision against coverage",
        frames,
        label="judge",
        note=f"Means over the seeds, {drawn}. The symbol says what a model saw; the line is the most that "
        "independent samples cover on average.",
        height=470,
    )


def _frame(shown: View, judge: Judge) -> Frame:
    points = [*_models(shown, judge), *_reported(shown)]
    members = int(judge.class_counts[shown.plan.target_class])
    ceiling = coverage_ceiling(members, shown.plan.n_samples) * METRICS["coverage"].factor
    right = 1.07 * max([ceiling, 1e-3, *(point.coverage for point in points)])
    x, y = (-0.03 * right, right), (-4.0, 108.0)
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": METRICS["coverage"].heading}, "range": x},
        "yaxis": {"title": {"text": METRICS["precision"].heading}, "range": y},
        "shapes": [upright(ceiling)],
        "annotations": _names(points, x, y, ceiling, _WIDE),
    }
    return Frame(judge.name, _traces(points), layout, {"annotations": _names(points, x, y, ceiling, _NARROW)})


def _models(shown: View, judge: Judge) -> list[Point]:
    """Models that have both figures."""
    found = []
    for group in shown.groups[judge.name].values():
        summary, kind = summarise(group), seen(group, "kind")
        c, p = (summary[key].mean * METRICS[key].factor for key in ("coverage", "precision"))
        lines = [f"<b>{plain(group[0].title)}</b>"]
        lines += [
            f"{metric.short}: {metric.show_mean(*summary[key])} {metric.unit}".rstrip()
            for key, metric in METRICS.items()
        ]
        lines += [f"sees: {kind}, {seen(group, 'labels')} labels", f"seeds: {len(group)}"]
        if math.isfinite(c) and math.isfinite(p):
            found.append(Point(group[0].title, c, p, kind, "<br>".join(lines)))
    return found


def paper_of(plan: Plan) -> Mapping[str, Mapping[str, Figure]]:
    """What the paper has for as many samples as a plan draws, by model; coverage depends on their number."""
    return paper_figures(plan) if TABLE_SAMPLES.get(plan.target_class) == plan.n_samples else {}


def _reported(shown: View) -> list[Point]:
    """What the paper reports of the models that are shown."""
    paper, titles, found = paper_of(shown.plan), shown.titles(), []
    for name in paper.keys() & titles.keys():
        coverage, precision = paper[name]["coverage"], paper[name]["precision"]
        title = f"{titles[name]}, paper"
        lines = [f"<b>{plain(title)}</b>"]
        lines += [
            f"{METRICS[key].short}: {METRICS[key].show_paper(*figure)} {METRICS[key].unit}".rstrip()
            for key, figure in paper[name].items()
        ]
        at = coverage.mean * METRICS["coverage"].factor, precision.mean * METRICS["precision"].factor
        found.append(Point(title, *at, "reported", "<br>".join(lines)))
    return sorted(found)


def _traces(points: Sequence[Point]) -> list[Trace]:
    """A trace a kind of model, so that the legend explains the symbols."""
    traces: list[Trace] = []
    for kind in dict.fromkeys(point.kind for point in points):
        of = [point for point in points if point.kind == kind]
        colour, symbol = PAPER if kind == "reported" else KINDS.get(kind, KINDS["unknown"])
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "reported by the paper" if kind == "reported" else kind,
                "x": [point.coverage for point in of],
                "y": [point.precision for point in of],
                "hovertext": [point.hover for point in of],
                "hoverinfo": "text",
                "marker": {
                    "color": colour,
                    "symbol": symbol,
                    "size": 10,
                    "line": {"color": colour, "width": 2},
                },
                "showlegend": True,
            }
        )
    return traces


def _names(
    points: Sequence[Point],
    x: tuple[float, float],
    y: tuple[float, float],
    ceiling: float,
    screen: tuple[float, float, float],
) -> list[Trace]:
    """The names as annotations: near their points and in each other's way as little as can be."""
    if not points:
        return []
    width, height, letters = screen
    at = np.array([(point.coverage, point.precision) for point in points])
    pixels = (at - (x[0], y[0])) / (x[1] - x[0], y[1] - y[0]) * (width, height)
    names = [short(point.name) for point in points]
    sizes = np.array([(0.56 * letters * len(name) + 4, 1.35 * letters) for name in names])
    upright = (ceiling - x[0]) / (x[1] - x[0]) * width
    line = np.array([(upright - 1, 0.0, upright + 1, height)])
    boxes = place_names(pixels, sizes, (0.0, 0.0, width, height), line)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 - pixels
    return [
        {
            "x": point.coverage,
            "y": point.precision,
            "text": plain(name),
            "ax": float(dx),
            "ay": float(-dy),
            "showarrow": True,
            "arrowhead": 0,
            "arrowwidth": 0.6,
            "arrowcolor": "#a0a4ab",
            "standoff": 6,
            "font": {"size": letters, "color": "#5c5f66" if point.kind == "reported" else "#1d1d1f"},
        }
        for point, name, (dx, dy) in zip(points, names, middle.tolist(), strict=True)
    ]
