"""Heat maps of the elements on the sites, in the shape of the periodic table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.space import Space
from eval.report.blocks import Frame, Picture
from eval.report.energies import first_seed, of_first
from eval.report.lines import Trace, plain
from eval.study.study import View
from eval.study.views import class_elements

_GAP: Final = 0.03
"""Share of a picture between two maps."""
_SCALE: Final = ((0, "#eff3f7"), (0.5, "#9cc6e6"), (1, "#4a97d2"))
"""Light enough for dark letters everywhere."""


def elements_pictures(shown: View) -> list[Picture]:
    """Two pictures side by side, each of the class, the training set or any model."""
    judge, target = shown.judges[0], shown.plan.target_class
    found = class_elements(shown.training_set, target, judge, first_seed(shown, judge))
    frames = [Frame(name, _maps(shares, judge.space)) for name, shares in found.items()]
    given = len(found) - len(shown.groups[judge.name])
    how: dict[str, Any] = {"layout": _layout(judge.space, found), "half": True, "height": 430}
    note = f"Share p(Z|S) of every element on a site; {of_first(shown)}, judge {judge.name}."
    return [
        Picture("Elements on the sites", frames, label="of", note=note, **how),
        Picture("Beside them", frames, label="those of", start=min(given, len(frames) - 1), **how),
    ]


def _maps(shares: NDArray[np.float64], space: Space) -> list[Trace]:
    """A heat map a site."""
    traces: list[Trace] = []
    symbols = np.full((space.n_rows, space.n_columns), "", dtype=object)
    symbols[space.rows - 1, space.columns - 1] = space.symbols
    for site, of_site in enumerate(shares):
        table = np.full(symbols.shape, np.nan)
        table[space.rows - 1, space.columns - 1] = of_site
        number = str(site + 1) if site else ""
        label = f"site {plain(space.sites[site])}"
        traces.append(
            {
                "type": "heatmap",
                "z": table,
                "text": symbols,
                "texttemplate": "%{text}",
                "textfont": {"size": 10 if space.n_columns <= 8 else 8, "color": "#1d1d1f"},
                "hovertemplate": f"{label}, <b>%{{text}}</b>: %{{z:.3f}}<extra></extra>",
                "hoverongaps": False,
                "xaxis": f"x{number}",
                "yaxis": f"y{number}",
                "coloraxis": "coloraxis",
                "xgap": 1,
                "ygap": 1,
            }
        )
    return traces


def _layout(space: Space, found: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Two maps a row, all of one scale of colours, whoever is shown."""
    shown = max(1, space.n_sites - 1)  # one site often holds few elements, which would outshine the others
    top = max(float(np.nanquantile(shares[:shown], 0.99)) for shares in found.values())
    scale = {"orientation": "h", "thickness": 8, "y": -0.02, "yanchor": "top", "len": 0.9}
    layout: dict[str, Any] = {
        "coloraxis": {"cmin": 0, "cmax": top, "colorscale": _SCALE, "colorbar": scale},
        "margin": {"l": 4, "r": 4, "t": 20, "b": 40},
        "annotations": [],
    }
    rows = -(-space.n_sites // 2)
    for site, name in enumerate(space.sites):
        row, column = divmod(site, 2)
        number = str(site + 1) if site else ""
        x = [column * (0.5 + _GAP / 2), column * (0.5 + _GAP / 2) + 0.5 - _GAP / 2]
        top_edge = 1 - row / rows
        y = [top_edge - 1 / rows + 0.08 / rows, top_edge - 0.06 / rows]
        bare = {"visible": False, "fixedrange": True}
        layout[f"xaxis{number}"] = {**bare, "domain": x, "anchor": f"y{number}"}
        layout[f"yaxis{number}"] = {**bare, "domain": y, "anchor": f"x{number}", "autorange": "reversed"}
        layout["annotations"].append(_title(f"site {plain(name)}", sum(x) / 2, y[1]))
    return layout


def _title(text: str, x: float, y: float) -> dict[str, Any]:
    """Words above a map."""
    at = {"x": x, "y": y, "xref": "paper", "yref": "paper", "yanchor": "bottom"}
    return {**at, "text": text, "showarrow": False, "font": {"size": 12}}
