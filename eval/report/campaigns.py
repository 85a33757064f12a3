"""Sections on campaigns of discovery: what they found against the labels that they paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from elpa_env.errors import InputError
from eval.discovery import benchmark_rows, read_curves, summarise
from eval.report.blocks import Frame, Picture, Section, Table
from eval.report.lines import COLOURS, Trace, line

_MOST_POINTS: Final = 400
"""Of a curve; more cannot be seen."""


def campaign_sections(folder: Path) -> list[Section]:
    """A section a field that `elpa discover benchmark` tried campaigns on; none of another folder.

    Raises:
        InputError: a file is damaged.
    """
    if not any(folder.glob("*-seed*.json")):
        return []
    try:
        fields: dict[str, list[Mapping[str, Any]]] = {}
        for record in read_curves(folder):
            fields.setdefault(record["field"], []).append(record)
        return [_section(name, records) for name, records in fields.items()]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"a campaign in {folder} is damaged: delete its file and run it again") from error


def _section(name: str, records: Sequence[Mapping[str, Any]]) -> Section:
    summary = summarise(records)
    columns, rows = benchmark_rows(summary)
    first = next(iter(summary.values()))
    note = f"{records[0]['what']}; {first['pool']:,} compounds, {first['targets']:,} of them looked for."
    layout = {
        "xaxis": {"title": {"text": "labels"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "found"}, "rangemode": "tozero"},
    }
    frames = [Frame("", [*_traces(summary)], layout)]
    words = "Medians of the seeds, quartiles shaded; dotted: screening at random."
    return Section(
        f"Campaigns on {name}",
        [Picture("Found against labels", frames, note=words), Table("What it cost", columns, rows, note)],
    )


def _traces(summary: Mapping[str, Mapping[str, Any]]) -> list[Trace]:
    """Median and quartiles of every way to choose, and what screening at random finds."""
    traces: list[Trace] = []
    for number, (name, one) in enumerate(summary.items()):
        curves = np.array(one["quartiles"])
        at = np.unique(np.linspace(0, curves.shape[1] - 1, _MOST_POINTS).astype(np.int64))
        low, median, high = curves[:, at]
        bare: dict[str, Any] = {"hoverinfo": "skip", "hovertemplate": None, "showlegend": False}
        bare |= {"legendgroup": name, "line": {"width": 0}}
        shade = {"fill": "tonexty", "fillcolor": f"{COLOURS[number % len(COLOURS)]}33"}
        traces += [
            line(name, at + 1, low, number, **bare),
            line(name, at + 1, high, number, **bare, **shade),
            line(name, at + 1, median, number, legendgroup=name),
        ]
    first = next(iter(summary.values()))
    ends = np.array([0, max(one["labels"] for one in summary.values())])
    share = (first["targets"] + 1) / (first["pool"] + 1)
    grey = {"color": "#7f7f7f", "dash": "dot", "width": 1.5}
    return [*traces, line("at random", ends, ends * share, 0, line=grey)]
