"""The pictures of a comparison, as Figs. 5, 6 and 8 of Türk et al. 2022, and that of a frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from elpa_env.classes import CLASS_WIDTH, ENERGY_MIN
from elpa_env.elements import GROUPS, N_GROUPS, N_ROWS, ROWS, SYMBOLS
from elpa_env.files import atomic_path
from elpa_env.space import SITES

ENERGY_BINS: Final[NDArray[np.float64]] = np.arange(-4.0, 6.01, 0.2)
"""eV/atom; edges of the 0.2 eV bins of Fig. 5."""


def energy_histogram(energy: NDArray[np.floating]) -> NDArray[np.int64]:
    """(50,) compositions in each of `ENERGY_BINS`."""
    return np.histogram(energy, bins=ENERGY_BINS)[0].astype(np.int64)


def draw_energies(
    path: Path,
    training: NDArray[np.int64],
    models: Mapping[str, NDArray[np.int64]],
    *,
    target_class: int,
    caption: str,
) -> None:
    """Fig. 5: formation energies of the unique samples of each model over the training set's.

    Args:
        path: picture to write.
        training: (50,) histogram of the training set.
        models: title and (50,) histogram of each model's unique samples.
        target_class: its range of energies is shaded.
        caption: small print, for the training set's name and the number of samples.
    """
    figure = Figure(figsize=(8, 1.6 + 1.5 * len(models)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(models), 1, sharex=True))
    width = np.diff(ENERGY_BINS)
    low = ENERGY_MIN + (target_class - 1) * CLASS_WIDTH
    edges = (
        ENERGY_BINS[0] if target_class == 1 else low,
        ENERGY_BINS[-1] if target_class == 10 else low + CLASS_WIDTH,
    )
    shown = training + sum(models.values())
    used = np.flatnonzero(shown)
    for number, (panel, (title, histogram)) in enumerate(zip(panels, models.items(), strict=True)):
        panel.axvspan(*edges, color="0.93", label=f"class {target_class}")
        panel.bar(ENERGY_BINS[:-1], training, width, align="edge", color="0.7", label="training set")
        panel.bar(
            ENERGY_BINS[:-1], histogram, width, align="edge", color=f"C{number}", alpha=0.75, label=title
        )
        panel.set_xlim(ENERGY_BINS[used[0]] - 0.2, ENERGY_BINS[used[-1]] + 0.4)
        panel.set_ylabel("compositions")
        panel.legend(loc="upper right", fontsize=8)
    panels[-1].set_xlabel("formation energy / (eV/atom)")
    figure.suptitle(f"Unique compositions generated for class {target_class}", fontsize=11)
    figure.supxlabel(caption, fontsize=7, color="0.4")
    _save(figure, path)


def draw_elements(
    path: Path,
    distributions: Mapping[str, NDArray[np.float64]],
    *,
    target_class: int,
    caption: str,
) -> None:
    """Fig. 6: elements per site as heat maps in the shape of the periodic table.

    Args:
        path: picture to write.
        distributions: title and (4, 39) p(Z|S) of the full class, the training set, each model.
        target_class: 1..10.
        caption: small print.
    """
    rows = len(distributions)
    figure = Figure(figsize=(11, 0.6 + 1.7 * rows), layout="constrained")
    panels = figure.subplots(rows, len(SITES), squeeze=False)
    vmax = max(float(np.quantile(p[:3], 0.99)) for p in distributions.values())
    image = None
    for site, panel in zip(SITES, panels[0], strict=True):
        panel.set_title(f"site {site}", fontsize=10)
    for line, (title, distribution) in zip(panels, distributions.items(), strict=True):
        for panel, shares in zip(line, distribution, strict=True):
            grid = np.full((N_ROWS, N_GROUPS), np.nan)
            grid[ROWS - 1, GROUPS - 1] = shares
            image = panel.imshow(grid, vmin=0, vmax=vmax, cmap="viridis", aspect="auto")
            for symbol, row, group, share in zip(SYMBOLS, ROWS, GROUPS, shares, strict=True):
                colour = "black" if share > 0.6 * vmax else "white"
                panel.text(group - 1, row - 1, symbol, ha="center", va="center", fontsize=6, color=colour)
            panel.set_xticks([])
            panel.set_yticks([])
        line[0].set_ylabel(title, fontsize=9)
    if image is not None:
        bar = figure.colorbar(image, ax=panels, shrink=0.6, extend="max")
        bar.set_label("p(Z|S)")
    figure.suptitle(f"Elements on the four sites, class {target_class}", fontsize=11)
    figure.supxlabel(caption, fontsize=7, color="0.4")
    _save(figure, path)


def draw_frontier(
    path: Path,
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
    references: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    ceiling: float,
    title: str,
    caption: str,
) -> None:
    """Precision against expected coverage as beta varies; labels that would overlap are left out.

    Args:
        path: picture to write.
        curves: title and (beta, coverage, precision) of each agent, NaN where it has none.
        references: the same of the exact solutions, drawn in grey.
        ceiling: best expected coverage of independent samples.
        title: heading.
        caption: small print.
    """
    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    panel = figure.subplots()
    grey = {"color": "0.55", "marker": "."}
    styles: list[dict[str, Any]] = [{"color": f"C{number}", "marker": "o"} for number in range(len(curves))]
    styles += [{**grey, "linestyle": "--" if number else ":"} for number in range(len(references))]
    for (name, points), style in zip([*curves.items(), *references.items()], styles, strict=True):
        panel.plot([x for _, x, _ in points], [y for _, _, y in points], label=name, **style)
        last = (np.inf, np.inf)
        for beta, x, y in points:
            if max(abs(x - last[0]) / ceiling, abs(y - last[1])) > 0.02:
                last = x, y
                text = "∞" if np.isinf(beta) else f"{beta:g}"
                panel.annotate(
                    text, last, (4, 4), textcoords="offset points", fontsize=7, color=style["color"]
                )
    panel.axvline(ceiling, color="black", linewidth=0.8, label="ceiling of independent samples")
    panel.set_xlabel("expected coverage")
    panel.set_ylabel("precision")
    panel.set_ylim(-0.03, 1.06)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    panel.set_title(title, fontsize=11)
    figure.supxlabel(caption, fontsize=7, color="0.4")
    _save(figure, path)


class ModelPoint(NamedTuple):
    """Where a model stands.

    Attributes:
        coverage: of the target class.
        precision: of the target class.
        js_distance: to the full class.
        sees: kind of its `elpa_env.sampler.Access`, or "?".
    """

    coverage: float
    precision: float
    js_distance: float
    sees: str


def draw_models(
    path: Path,
    models: Mapping[str, ModelPoint],
    paper: Mapping[str, tuple[float, float]],
    *,
    ceiling: float,
    title: str,
    caption: str,
) -> None:
    """Precision against coverage of every model, by number.

    The shape of a point says what the model saw, its colour the JS distance.

    Args:
        path: picture to write.
        models: by title.
        paper: title and (coverage, precision) that the paper reports.
        ceiling: best expected coverage of independent samples.
        title: heading.
        caption: small print.
    """
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    panel = figure.subplots()
    shapes = {"offline": "o", "model-based": "^", "oracle": "s", "reference": "*", "?": "X"}
    limit = max((p.js_distance for p in models.values() if np.isfinite(p.js_distance)), default=1.0)
    points = None
    for sees, shape in shapes.items():
        chosen = [p for p in models.values() if p.sees == sees]
        if chosen:
            points = panel.scatter(
                [p.coverage for p in chosen],
                [p.precision for p in chosen],
                c=[p.js_distance for p in chosen],
                marker=shape,
                label=sees,
                s=70,
                cmap="viridis_r",
                vmin=0,
                vmax=limit,
                edgecolors="black",
                linewidths=0.5,
                zorder=3,
            )
    places = {name: (point.coverage, point.precision) for name, point in models.items()} | dict(paper)
    for number, (name, place) in enumerate(places.items(), start=1):
        if name in paper:
            panel.plot(*place, "+", color="0.4", markersize=9)
        panel.annotate(str(number), place, (5, 4), textcoords="offset points", fontsize=7)
    names = [Line2D([], [], linestyle="none", label=f"{n}  {name}") for n, name in enumerate(places, start=1)]
    figure.legend(handles=names, loc="outside right upper", fontsize=7, handlelength=0, handletextpad=0)
    panel.axvline(ceiling, color="black", linewidth=0.8, label="ceiling of independent samples")
    panel.set_xlabel("coverage")
    panel.set_ylabel("precision")
    panel.legend(loc="lower right", fontsize=8)
    if points is not None:
        figure.colorbar(points, ax=panel, shrink=0.7).set_label("JS distance")
    panel.set_title(title, fontsize=11)
    figure.supxlabel(caption, fontsize=7, color="0.4")
    _save(figure, path)


def draw_sizes(
    path: Path,
    sizes: Sequence[int],
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    titles: Mapping[str, str],
    *,
    ceiling: float,
    caption: str,
) -> None:
    """Fig. 8: metrics against the number of training rows, mean and standard deviation.

    Args:
        path: picture to write.
        sizes: rows.
        curves: title of each model, then by metric the (mean, standard deviation) at every size.
        titles: of the metrics, a panel each.
        ceiling: best expected coverage of independent samples.
        caption: small print.
    """
    figure = Figure(figsize=(4 * len(titles), 3.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(titles)))
    for panel, (key, title) in zip(panels, titles.items(), strict=True):
        factor = 1 if key == "js_distance" else 100
        for name, metrics in curves.items():
            mean, deviation = factor * np.array(metrics[key]).T
            (line,) = panel.plot(sizes, mean, "o-", label=name)
            panel.fill_between(sizes, mean - deviation, mean + deviation, alpha=0.2, color=line.get_color())
        if key == "coverage":
            panel.axhline(factor * ceiling, color="black", linewidth=0.8, label="ceiling")
        panel.set_xscale("log")
        panel.set_xlabel("training rows")
        panel.set_ylabel(title)
        panel.legend(fontsize=7)
    figure.supxlabel(caption, fontsize=7, color="0.4")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
