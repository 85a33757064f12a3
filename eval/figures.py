"""The pictures of a comparison, as Figs. 5, 6 and 8 of Türk et al. 2022, and that of a frontier.

They look the same for everybody: drawn on the Agg canvas in the style below, whatever the user's matplotlibrc
or MPLBACKEND says. Names and captions are taken as they are, dollar signs and braces included.
"""

from __future__ import annotations

import os
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elpa_env.classes import CLASS_WIDTH, ENERGY_MIN, N_CLASSES
from elpa_env.elements import GROUPS, N_GROUPS, N_ROWS, ROWS, SYMBOLS
from elpa_env.errors import InputError
from elpa_env.files import atomic_path
from elpa_env.space import SITES
from eval.metrics import METRICS
from eval.placement import leader_end, place_names


def _import_matplotlib() -> None:
    """Import matplotlib even where MPLBACKEND or a matplotlibrc of the user's keeps it from being imported.

    Raises:
        InputError: it cannot be imported even without them.
    """
    try:
        import matplotlib
    except (ValueError, OSError):
        settings = {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            import matplotlib  # noqa: F401
        except (ValueError, OSError) as error:
            raise InputError(f"matplotlib cannot be used, mend or move ./matplotlibrc: {error}") from error
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


_import_matplotlib()

import matplotlib  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

ENERGY_BINS: Final[NDArray[np.float64]] = np.arange(-4.0, 6.01, 0.2)
"""eV/atom; edges of the 0.2 eV bins of Fig. 5."""

_STYLE: Final[dict[Any, Any]] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.titlesize": 11,
    "grid.color": "0.92",
    "legend.fontsize": 8,
    "legend.framealpha": 0.9,
    "text.parse_math": False,
}
"""Beyond the library's defaults."""
_DPI: Final = 130
_CEILING: Final = "ceiling of independent samples"
_MANY: Final = 12
"""Models beyond which a legend takes two columns."""
_PATCH: Final = {"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
"""Behind a label that stands on a line."""
_APART: Final = 0.02
"""Share of a panel that the points of two labels must be apart."""
_LONGEST_NAME: Final = 36
_DASHES: Final = ("-", "--", ":", "-.")


def energy_histogram(energy: NDArray[np.floating]) -> NDArray[np.int64]:
    """(50,) compositions in each of `ENERGY_BINS`."""
    return np.histogram(energy, bins=ENERGY_BINS)[0].astype(np.int64)


@contextmanager
def _picture(path: Path, size: tuple[float, float], *, title: str, caption: str) -> Iterator[Figure]:
    """A figure to draw in, which is then written to `path`; title above, caption in small print below."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # a name in a script that the font lacks is drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(_wrapped(title, size[0] * 11))
        figure.supxlabel(_wrapped(caption, size[0] * 16), fontsize=7, color="0.4")
        yield figure
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=path.suffix.lstrip(".") or "png")


def _plain(text: str) -> str:
    """Text without what no font has: line breaks, control characters, halves of characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _short(name: str) -> str:
    """A name that a legend can hold; the middle of a longer one is left out."""
    name = _plain(name)
    half = _LONGEST_NAME // 2 - 1
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def _wrapped(text: str, width: float) -> str:
    """Text in lines of at most `width` characters; its own line breaks stay."""
    lines = (textwrap.wrap(_plain(line), int(width)) or [""] for line in text.split("\n"))
    return "\n".join(line for part in lines for line in part)


def _line_styles(n: int) -> list[dict[str, Any]]:
    """Colours and dashes that tell `n` lines apart: ten colours, then the same with other dashes."""
    return [{"color": f"C{i % 10}", "linestyle": _DASHES[i // 10 % len(_DASHES)]} for i in range(n)]


def draw_energies(
    path: Path,
    training: NDArray[np.int64],
    models: Mapping[str, NDArray[np.int64]],
    *,
    target_class: int,
    caption: str,
) -> None:
    """Fig. 5: formation energies of the unique samples of each model over the training set's.

    An outline a model, in one panel for all energies that occur; beside it the class and its surroundings,
    enlarged.

    Args:
        path: picture to write.
        training: (50,) histogram of the training set.
        models: title and (50,) histogram of each model's unique samples.
        target_class: its range of energies is shaded.
        caption: small print, for the training set's name and the number of samples.
    """
    low = ENERGY_MIN + (target_class - 1) * CLASS_WIDTH
    high = low + CLASS_WIDTH
    used = np.flatnonzero(training + sum(models.values()))
    first, last = (ENERGY_BINS[used[[0, -1]] + (0, 1)] if len(used) else ENERGY_BINS[[0, -1]]).tolist()
    near = max(low - CLASS_WIDTH, first), min(high + CLASS_WIDTH, last)
    shaded = (
        ENERGY_BINS[0] if target_class == 1 else low,
        ENERGY_BINS[-1] if target_class == N_CLASSES else high,
    )
    title = f"Unique compositions generated for class {target_class}"
    with _picture(path, (11, 5.5), title=title, caption=caption) as figure:
        whole, close = figure.subplots(1, 2, width_ratios=(5, 4))
        for panel in (whole, close):
            panel.axvspan(*shaded, color="0.94", label=f"class {target_class}")
            panel.stairs(training, ENERGY_BINS, fill=True, color="0.75", label="training set")
            for (name, histogram), style in zip(models.items(), _line_styles(len(models)), strict=True):
                panel.stairs(histogram, ENERGY_BINS, linewidth=1.4, label=_short(name), **style)
            panel.set_xlabel("formation energy / (eV/atom)")
            panel.yaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
            panel.yaxis.set_major_formatter(FuncFormatter(_thousands))
        whole.set_ylabel("different compositions in 0.2 eV/atom")
        whole.set_xlim(first - 0.2, last + 0.2)
        columns = 1 + len(models) // _MANY
        whole.legend(loc="best" if columns == 1 else "upper right", ncols=columns)
        if columns > 1:  # room for the legend above everything else
            rows = -(-(len(models) + 2) // columns)
            whole.set_ylim(0, whole.dataLim.y1 / max(1 - 0.043 * rows, 0.2))
        close.set_xlim(*near)
        inside = (ENERGY_BINS[1:] > near[0]) & (ENERGY_BINS[:-1] < near[1])
        highest = max((int(histogram[inside].max()) for histogram in models.values()), default=0)
        close.set_ylim(0, 1.06 * (highest or max(int(training[inside].max()), 1)))


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
    title = f"Elements on the four sites, class {target_class}"
    with _picture(path, (11, 0.6 + 1.7 * rows), title=title, caption=caption) as figure:
        panels = figure.subplots(rows, len(SITES), squeeze=False)
        vmax = max(float(np.nanquantile(p[:3], 0.99)) for p in distributions.values())
        image = None
        for site, panel in zip(SITES, panels[0], strict=True):
            panel.set_title(f"site {site}", fontsize=10)
        for line, (name, distribution) in zip(panels, distributions.items(), strict=True):
            for panel, shares in zip(line, distribution, strict=True):
                grid = np.full((N_ROWS, N_GROUPS), np.nan)
                grid[ROWS - 1, GROUPS - 1] = shares
                image = panel.imshow(grid, vmin=0, vmax=vmax, cmap="viridis", aspect="auto")
                for symbol, row, group, share in zip(SYMBOLS, ROWS, GROUPS, shares, strict=True):
                    colour = "black" if share > 0.6 * vmax else "white"
                    panel.text(group - 1, row - 1, symbol, ha="center", va="center", fontsize=6, color=colour)
                panel.set_xticks([])
                panel.set_yticks([])
            line[0].set_ylabel("\n".join(textwrap.wrap(_short(name), 18)), fontsize=9)
        if image is not None:
            bar = figure.colorbar(image, ax=panels, shrink=0.6, extend="max")
            bar.set_label("p(Z|S)")


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
    x, y = METRICS["coverage"], METRICS["precision"]
    with _picture(path, (7.5, 5.5), title=title, caption=caption) as figure:
        panel = figure.subplots()
        labelled: list[NDArray[np.float64]] = []
        styles = [{**style, "marker": "o"} for style in _line_styles(len(curves))]
        grey = {"color": "0.55", "marker": "."}
        styles += [{**grey, "linestyle": _DASHES[1 + i % 3]} for i in range(len(references))]
        for (name, points), style in zip([*curves.items(), *references.items()], styles, strict=True):
            line = [(beta, c * x.factor, p * y.factor) for beta, c, p in points]
            panel.plot([c for _, c, _ in line], [p for *_, p in line], label=_short(name), **style)
            for beta, *at in line:
                place = np.array([at[0] / (x.factor * ceiling), at[1] / y.factor])
                if all(np.abs(place - other).max() > _APART for other in labelled):
                    labelled.append(place)
                    text = "∞" if np.isinf(beta) else f"{beta:g}"
                    how = {"fontsize": 7, "color": style["color"], "bbox": _PATCH}
                    panel.annotate(text, (at[0], at[1]), (4, 4), textcoords="offset points", **how)
        panel.axvline(
            x.factor * ceiling, color="black", linewidth=0.8, label="ceiling of independent samples"
        )
        panel.set_xlabel(f"expected {x.heading}")
        panel.set_ylabel(y.heading)
        panel.set_ylim(-0.03 * y.factor, 1.06 * y.factor)
        panel.legend(loc="best")


class ModelPoint(NamedTuple):
    """Where a model stands.

    Attributes:
        coverage: of the target class.
        precision: of the target class.
        js_distance: to the full class.
        sees: kind of its `elpa_env.sampler.Access`.
    """

    coverage: float
    precision: float
    js_distance: float
    sees: str


_SHAPES: Final = {"offline": "o", "model-based": "^", "oracle": "s", "reference": "*"}
_OTHER_SHAPE: Final = "X"
_REPORTED: Final = "reported by the paper"
_NEAR: Final = 15
"""Pixels from a point within which its name needs no line to it."""
_MARGIN: Final = 40
"""Pixels around a legend in which points would have no room for their names."""


def draw_models(
    path: Path,
    models: Mapping[str, ModelPoint],
    paper: Mapping[str, tuple[float, float]],
    *,
    ceiling: float,
    title: str,
    caption: str,
) -> None:
    """Precision against coverage of every model, each with its name.

    The shape of a point says what the model saw, its colour the JS distance.

    Args:
        path: picture to write.
        models: by title.
        paper: title and (coverage, precision) that the paper reports.
        ceiling: best expected coverage of independent samples.
        title: heading.
        caption: small print.
    """
    x, y = METRICS["coverage"], METRICS["precision"]
    known = {
        name: p._replace(coverage=p.coverage * x.factor, precision=p.precision * y.factor)
        for name, p in models.items()
        if np.isfinite(p.coverage) and np.isfinite(p.precision)
    }
    missing = [_short(name) for name in models if name not in known]
    if missing:
        caption += f"\nwithout figures: {', '.join(missing)}"
    reported = {name: (c * x.factor, p * y.factor) for name, (c, p) in paper.items()}
    with _picture(path, (10, 6.5), title=title, caption=caption) as figure:
        panel = figure.subplots()
        points = _scatter_models(panel, [*known.values()])
        if reported:
            panel.plot(*zip(*reported.values(), strict=True), "+", color="0.4", markersize=9, label=_REPORTED)
        line = ceiling * x.factor
        panel.axvline(line, color="black", linewidth=0.8, label=_CEILING)
        places = {name: (point.coverage, point.precision) for name, point in known.items()} | reported
        right = np.nanmax([line, *(coverage for coverage, _ in places.values()), 1e-3]) * 1.07
        panel.set_xlim(-0.03 * right, right)
        panel.set_ylim(-0.03 * y.factor, 1.07 * y.factor)
        panel.set_xlabel(x.heading)
        panel.set_ylabel(y.heading)
        if points is not None:
            figure.colorbar(points, ax=panel, shrink=0.7).set_label(METRICS["js_distance"].heading)
        _name_points(figure, panel, places, line)


def _scatter_models(panel: Axes, models: Sequence[ModelPoint]) -> PathCollection | None:
    """Points of a shape for each kind of access, coloured by JS distance; what a colour bar is made of."""
    points = None
    limit = max((p.js_distance for p in models if np.isfinite(p.js_distance)), default=1.0)
    edge: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.5}
    for sees in dict.fromkeys([*_SHAPES, *(p.sees for p in models)]):
        chosen = [p for p in models if p.sees == sees]
        shape = _SHAPES.get(sees, _OTHER_SHAPE)
        if chosen:
            points = panel.scatter(
                [p.coverage for p in chosen],
                [p.precision for p in chosen],
                c=[p.js_distance for p in chosen],
                marker=shape,
                s=130 if shape == "*" else 60,
                cmap=matplotlib.colormaps["viridis_r"].with_extremes(bad="0.8"),
                vmin=0,
                vmax=limit,
                zorder=3,
                plotnonfinite=True,
                **edge,
            )
            panel.scatter([], [], marker=shape, color="0.9", label=f"sees: {_short(sees)}", **edge)
    return points


def _name_points(
    figure: Figure, panel: Axes, places: Mapping[str, tuple[float, float]], ceiling: float
) -> None:
    """Write names beside points, with a line to those further off; the legend goes where there is room."""
    texts = [
        panel.annotate(_short(name), at, (0, 0), textcoords="offset points", fontsize=7.5, zorder=4)
        for name, at in places.items()
    ]
    for text in texts:
        text.set_in_layout(False)  # else the panel shrinks for names that are yet to be moved
    figure.draw_without_rendering()
    points = panel.transData.transform(np.array([*places.values()]).reshape(-1, 2))
    legend = _roomy_legend(panel, points)
    left, bottom, right, top = panel.get_window_extent().extents
    line = panel.transData.transform((ceiling, 0))[0]
    obstacles = np.array([legend, (line - 1, bottom, line + 1, top)])
    extents = [text.get_window_extent() for text in texts]
    sizes = np.array([(extent.width + 4, extent.height + 1) for extent in extents]).reshape(-1, 2)
    for text, point, box in zip(
        texts, points, place_names(points, sizes, (left, bottom, right, top), obstacles), strict=True
    ):
        to_points = 72 / figure.dpi
        text.set_position((box[:2] + np.array([2, 1]) - point) * to_points)
        end = leader_end(point, box)
        if np.linalg.norm(end - point) > _NEAR:
            panel.annotate(
                "",
                text.xy,
                (end - point) * to_points,
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2},
                zorder=2,
            ).set_in_layout(False)


def _roomy_legend(panel: Axes, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put the legend where the fewest points, (n, 2) pixels, are; (4,) its box."""
    boxes = {}
    places: Any = ("lower right", "lower left", "upper left", "upper right", "center left", "lower center")
    for place in places:
        boxes[place] = np.array(panel.legend(loc=place).get_window_extent().extents)

    def crowd(place: str) -> int:
        low, high = boxes[place][:2] - _MARGIN, boxes[place][2:] + _MARGIN
        return int(((low < points) & (points < high)).all(axis=1).sum())

    best = min(boxes, key=crowd)
    panel.legend(loc=best)
    return boxes[best]


def draw_sizes(
    path: Path,
    sizes: Sequence[int],
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    titles: Mapping[str, str],
    *,
    ceiling: float,
    caption: str,
    title: str = "Training sets of growing size",
) -> None:
    """Fig. 8: metrics against the number of training rows, mean and standard deviation.

    Args:
        path: picture to write.
        sizes: rows.
        curves: title of each model, then by metric the (mean, standard deviation) at every size.
        titles: of the metrics, a panel each, by the keys of `eval.metrics.METRICS`.
        ceiling: best expected coverage of independent samples.
        caption: small print.
        title: heading.
    """
    with _picture(path, (4 * len(titles), 4.0), title=title, caption=caption) as figure:
        panels = figure.subplots(1, len(titles), squeeze=False)[0]
        for panel, (key, heading) in zip(panels, titles.items(), strict=True):
            factor = METRICS[key].factor
            for (name, metrics), style in zip(curves.items(), _line_styles(len(curves)), strict=True):
                mean, deviation = factor * np.array(metrics[key]).T
                panel.plot(sizes, mean, marker="o", label=_short(name), **style)
                panel.fill_between(sizes, mean - deviation, mean + deviation, alpha=0.2, color=style["color"])
            if key == "coverage":
                panel.axhline(factor * ceiling, color="black", linewidth=0.8, label="ceiling")
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(FixedLocator([*sizes]))
            panel.xaxis.set_major_formatter(FuncFormatter(_thousands))
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.tick_params(axis="x", labelrotation=30)
            panel.set_xlabel("training rows")
            panel.set_ylabel(heading)
            panel.legend(loc="best")


def _thousands(value: float, _: int) -> str:
    return f"{value:,.0f}"
