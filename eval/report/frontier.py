"""Section on a frontier: precision against coverage of trained agents as beta varies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from elpa_env.errors import InputError
from elpa_env.files import read_json
from eval.frontier import SCHEMA_VERSION
from eval.metrics import METRICS
from eval.report.blocks import Frame, Picture, Section, Table
from eval.report.lines import Trace, line, plain, style, upright

_SHOWN = ("precision", "coverage", "compounds", "js_distance")


def frontier_sections(path: Path) -> list[Section]:
    """One section from a ``frontier.json``; none if there is no such file.

    Raises:
        InputError: it is damaged, or of another version.
    """
    if not path.is_file():
        return []
    record = read_json(path)
    try:
        if record["schema_version"] != SCHEMA_VERSION:
            raise InputError(f"{path} is of another version: make it again with `elpa frontier`")
        return [Section(f"Frontier in β, {record['target']}", [_picture(record), _table(record)])]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is damaged: make it again with `elpa frontier`") from error


def _picture(record: Mapping[str, Any]) -> Picture:
    """All curves; a slider moves a mark along each of them."""
    curves = record["curves"]
    betas = sorted({float(point["beta"]) for curve in curves for point in curve["points"]})
    lines = [_curve(curve, number) for number, curve in enumerate(curves)]
    frames = [Frame(f"β = {_beta(beta)}", [*lines, *_marks(curves, beta)]) for beta in betas]
    ceiling = record["coverage_ceiling"] * METRICS["coverage"].factor
    layout = {
        "xaxis": {"title": {"text": f"expected {METRICS['coverage'].heading}"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": METRICS["precision"].heading}, "range": [-3, 106]},
        "shapes": [upright(ceiling)],
    }
    note = (
        f"Exact figures; coverage expected after {record['n_samples']:,} valid samples, judge "
        f"{record['judge']['name']}. Large marks are at the chosen β; the line upright is the most that "
        "independent samples cover. Optimal: exact solutions, which see what the judge knows."
    )
    return Picture(
        "Precision against coverage as β varies",
        frames,
        layout,
        note,
        "slider",
        "β",
        start=len(betas) // 2,
        height=470,
    )


def _place(point: Mapping[str, Any]) -> tuple[float, float]:
    """(coverage, precision) in per cent; NaN where there is none."""
    x, y = (math.nan if point[key] is None else float(point[key]) for key in ("coverage", "precision"))
    return x * METRICS["coverage"].factor, y * METRICS["precision"].factor


def _curve(curve: Mapping[str, Any], number: int) -> Trace:
    places = [_place(point) for point in curve["points"]]
    hover = [_hover(curve, point) for point in curve["points"]]
    grey = {"line": {"color": "#8c8c8c", "dash": style(10 * number)["dash"], "width": 1.5}}
    return line(
        curve["name"],
        [x for x, _ in places],
        [y for _, y in places],
        number,
        mode="lines+markers",
        marker={"size": 5},
        hovertemplate="%{hovertext}<extra></extra>",
        hovertext=hover,
        **(grey if curve["reference"] else {}),
    )


def _marks(curves: Sequence[Mapping[str, Any]], beta: float) -> list[Trace]:
    """A large mark on every curve that has a point at this beta."""
    marks: list[Trace] = []
    for number, curve in enumerate(curves):
        for point in (point for point in curve["points"] if float(point["beta"]) == beta):
            x, y = _place(point)
            colour = "#8c8c8c" if curve["reference"] else style(number)["color"]
            marks.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [x],
                    "y": [y],
                    "hovertext": [_hover(curve, point)],
                    "hovertemplate": "%{hovertext}<extra></extra>",
                    "marker": {"size": 15, "color": colour, "line": {"color": "#fff", "width": 2}},
                    "showlegend": False,
                }
            )
    return marks


def _hover(curve: Mapping[str, Any], point: Mapping[str, Any]) -> str:
    figures = (f"{METRICS[key].short}: {METRICS[key].show(point[key])}" for key in _SHOWN)
    return "<br>".join([f"<b>{plain(curve['name'])}</b>, β = {_beta(float(point['beta']))}", *figures])


def _beta(beta: float) -> str:
    return "∞" if math.isinf(beta) else f"{beta:g}"


def _table(record: Mapping[str, Any]) -> Table:
    rows = [
        (
            str(curve["name"]),
            _beta(float(point["beta"])),
            *(METRICS[key].show(point[key]) for key in _SHOWN),
            f"{point['valid_fraction'] * 100:.2f} %",
        )
        for curve in record["curves"]
        for point in curve["points"]
    ]
    return Table("By β", ["", "β", *(METRICS[key].short for key in _SHOWN), "valid"], rows)
