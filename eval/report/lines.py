"""Lines and bands as plotly.js takes them: the colours of models, and how traces of them look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval.figures import short

COLOURS: Final = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
)
"""Of models, in their order; then the same with other dashes."""
DASHES: Final = ("solid", "dash", "dot", "dashdot")
GREY: Final = "#c3c7cd"

Trace = Mapping[str, Any]
Numbers = Sequence[float] | NDArray[np.number[Any]]


def plain(text: str) -> str:
    """A name that plotly.js shows as it is, tags included."""
    return escape(text, quote=False)


def style(number: int) -> dict[str, Any]:
    """Colour and dash of the line of a model by its number."""
    return {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number // len(COLOURS) % len(DASHES)]}


def line(name: str, x: Numbers, y: Numbers, number: int, **more: Any) -> dict[str, Any]:
    """The line of a model; its label says the name, and the values as the axes show them."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": plain(short(name)),
        "x": x,
        "y": y,
        "line": {**style(number), "width": 2},
        "hovertemplate": f"<b>{plain(name)}</b><br>%{{x}}: %{{y}}<extra></extra>",
        **more,
    }


def error_bars(deviation: Sequence[float], colour: str) -> dict[str, Any]:
    """Standard deviations above and below the points of a line."""
    return {"type": "data", "array": deviation, "visible": True, "color": colour, "thickness": 1, "width": 3}


def upright(x: float) -> Trace:
    """A thin line from bottom to top of a picture, as a shape of its layout."""
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": {"width": 1}}
