"""The pictures of a comparison, as Figs. 5, 6 and 8 of Türk et al. 2022, and that of a frontier.

They look the same for everybody: drawn on the Agg canvas in the style below, whatever the user's matplotlibrc
or MPLBACKEND says. Names and captions are taken as they are, dollar signs and braces included.
"""

from __future__ import annotations

import functools
import os
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elpa_env.classes import Targets
from elpa_env.errors import InputError
from elpa_env.files import atomic_path
from elpa_env.space import ELPASOLITE_SPACE, Space
from eval.metrics import METRICS
from eval.placement import leader_end, place_names


def _import_matplotlib() -> None:
    """Import matplotlib even where MPLBACKEND or a matplotlibrc of the user's would keep it from that.

    What they say still holds for the user's own pictures.

    Raises:
        InputError: a matplotlibrc in the working folder cannot be read.
    """
    if "matplotlib" in sys.modules:
        return
    names = ("MPLBACKEND", "MATPLOTLIBRC")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["MATPLOTLIBRC"] = os.devnull
    try:
        import matplotlib
    except (ValueError, OSError) as error:
        raise InputError(f"matplotlib cannot be used, mend or move ./matplotlibrc: {error}") from error
    finally:
        del os.environ["MATPLOTLIBRC"]
        os.environ.update(before)
    with suppress(ValueError, OSError):
        matplotlib.rcParams.update(matplotlib.rc_params())
        if before.get("MPLBACKEND"):
            matplotlib.rcParams["backend"] = before["MPLBACKEND"]


_import_matplotlib()

import matplotlib  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.collections import PathCollection  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.path import Path as Path2D  # noqa: E402
from matplotlib.textpath import TextPath  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter  # noqa: E402
from matplotlib.transforms import Affine2D  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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


@contextmanager
def picture(path: Path, size: tuple[float, float], *, title: str, caption: str) -> Iterator[Figure]:
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


def short(name: str) -> str:
    """A name that a legend can hold; the middle of a longer one is left out."""
    name = _plain(name)
    if not name.strip("_") or name.startswith("_"):
        name = f" {name}"  # a legend passes over labels that start with an underscore
    half = _LONGEST_NAME // 2 - 1
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def _wrapped(text: str, width: float) -> str:
    """Text in lines of at most `width` characters; its own line breaks stay."""
    lines = (textwrap.wrap(_plain(line), int(width)) or [""] for line in text.split("\n"))
    return "\n".join(line for part in lines for line in part)


def line_styles(n: int) -> list[dict[str, Any]]:
    """Colours and dashes that tell `n` lines apart: ten colours, then the same with other dashes."""
    return [{"color": f"C{i % 10}", "linestyle": _DASHES[i // 10 % len(_DASHES)]} for i in range(n)]


def draw_energies(
    path: Path,
    training: NDArray[np.int64],
    models: Mapping[str, NDArray[np.int64]],
    *,
    bins: NDArray[np.float64],
    space: Space,
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
        bins: (51,) edges of these.
        space: of the compositions.
        target_class: its range of energies is shaded.
        caption: small print, for the training set's name and the number of samples.
    """
    targets = space.targets
    shaded = max(targets.low[target_class - 1], bins[0]), min(targets.high[target_class - 1], bins[-1])
    low, high = _two_ends(targets, target_class, bins)
    used = np.flatnonzero(training + sum(models.values()))
    first = min([max(low, bins[0]), *bins[used[:1]].tolist()])
    last = max([min(high, bins[-1]), *bins[used[-1:] + 1].tolist()])
    near = max(2 * low - high, first), min(2 * high - low, last)
    title = f"Unique compositions generated for {targets.title(target_class)}"
    quantity = "formation energy" if space == ELPASOLITE_SPACE else targets.quantity.replace("_", " ")
    unit = f" / ({targets.unit})" if targets.unit else ""
    with picture(path, (11, 5.5), title=title, caption=caption) as figure:
        whole, close = figure.subplots(1, 2, width_ratios=(5, 4))
        for panel in (whole, close):
            panel.axvspan(*shaded, color="0.94", label=targets.title(target_class))
            panel.stairs(training, bins, fill=True, color="0.75", label="training set")
            for (name, histogram), style in zip(models.items(), line_styles(len(models)), strict=True):
                panel.stairs(histogram, bins, linewidth=1.4, label=short(name), **style)
            panel.set_xlabel(quantity + unit)
            panel.yaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
            panel.yaxis.set_major_formatter(FuncFormatter(thousands))
        step = f"{bins[1] - bins[0]:.2g} {targets.unit}".strip()
        whole.set_ylabel(f"different compositions in {step}")
        whole.set_xlim(first - (bins[1] - bins[0]), last + (bins[1] - bins[0]))
        columns = 1 + len(models) // _MANY
        whole.legend(loc="best" if columns == 1 else "upper right", ncols=columns)
        if columns > 1:  # room for the legend above everything else
            rows = -(-(len(models) + 2) // columns)
            whole.set_ylim(0, whole.dataLim.y1 / max(1 - 0.043 * rows, 0.2))
        close.set_xlim(*near)
        inside = (bins[1:] > near[0]) & (bins[:-1] < near[1])
        highest = max((int(histogram[inside].max()) for histogram in models.values()), default=0)
        close.set_ylim(0, 1.06 * (highest or max(int(training[inside].max()), 1)))


def _two_ends(targets: Targets, target_class: int, bins: NDArray[np.float64]) -> tuple[float, float]:
    """Limits of a class; one that is open at an end is shown as wide as the class beside it."""
    low, high = targets.low[target_class - 1], targets.high[target_class - 1]
    if np.isinf(low) and np.isinf(high):
        return float(bins[0]), float(bins[-1])
    beside = [targets.high[c - 1] - targets.low[c - 1] for c in targets.neighbours(target_class)]
    width = min([*filter(np.isfinite, beside)], default=float(bins[-1] - bins[0]) / 12)
    return (high - width if np.isinf(low) else low), (low + width if np.isinf(high) else high)


def draw_elements(
    path: Path,
    distributions: Mapping[str, NDArray[np.float64]],
    *,
    space: Space,
    target_class: int,
    caption: str,
    title: str = "",
) -> None:
    """Fig. 6: elements per site as heat maps in the shape of the periodic table.

    Args:
        path: picture to write.
        distributions: title and (S, n_elements) p(Z|S) of the full class, the training set, each model.
        space: of the compositions.
        target_class: 1..k.
        caption: small print.
        title: heading; names the class by default.
    """
    rows, height, width = len(distributions), space.n_rows + 1, space.n_columns + 1
    n_sites = space.n_sites
    mosaic = np.full((rows * height - 1, n_sites * width - 1), np.nan)
    corners = np.mgrid[: rows * height : height, : n_sites * width : width].reshape(2, -1, 1)
    y, x = corners + np.stack([space.rows - 1, space.columns - 1])[:, None, :]  # (rows x sites, elements)
    mosaic[y, x] = shares = np.concatenate([np.asarray(p) for p in distributions.values()])
    shown = max(1, n_sites - 1)  # one site often holds few elements, which would outshine the others
    vmax = max(float(np.nanquantile(p[:shown], 0.99)) for p in distributions.values())
    title = title or f"Elements on the sites, {space.targets.title(target_class)}"
    with picture(path, (11, 0.6 + 1.7 * rows), title=title, caption=caption) as figure:
        # one panel for all: a panel a heat map and a text an element take ten times as long
        panel = figure.subplots()
        image = panel.imshow(mosaic, vmin=0, vmax=vmax, cmap="viridis", aspect="auto")
        bright = shares > 0.6 * vmax
        for chosen, colour in ((bright, "black"), (~bright, "white")):
            _write_symbols(panel, space, np.nonzero(chosen)[1], x[chosen], y[chosen], colour)
        names = ["\n".join(textwrap.wrap(short(name), 18)) for name in distributions]
        panel.set_yticks(
            np.arange(rows) * height + (space.n_rows - 1) / 2, names, rotation=90, va="center", fontsize=9
        )
        panel.set_xticks(
            np.arange(n_sites) * width + (space.n_columns - 1) / 2,
            [f"site {s}" for s in space.sites],
            fontsize=10,
        )
        panel.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
        panel.grid(visible=False)
        panel.spines[:].set_visible(False)
        figure.colorbar(image, ax=panel, shrink=0.6, aspect=45, extend="max").set_label("p(Z|S)")


def _write_symbols(
    panel: Axes,
    space: Space,
    elements: NDArray[np.int64],
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    colour: str,
) -> None:
    """Write the symbols of (n,) elements centred on (n,) places."""
    paths = _symbol_paths(space, 6 if space.n_columns * space.n_sites <= 40 else 4)
    symbols = PathCollection(
        [paths[element] for element in elements.tolist()],
        offsets=np.stack([x, y], axis=1),
        offset_transform=panel.transData,
        facecolors=colour,
        linewidths=0,
        snap=False,  # else thin strokes vanish between pixels
    )
    symbols.set_transform(Affine2D().scale(_DPI / 72))
    panel.add_collection(symbols, autolim=False)


@functools.lru_cache(maxsize=8)
def _symbol_paths(space: Space, size: float) -> tuple[Path2D, ...]:
    """Outlines of the elements' symbols in points, each around its centre."""
    outlines = [TextPath((0, 0), symbol, size=size) for symbol in space.symbols]
    boxes = [outline.get_extents() for outline in outlines]
    return tuple(
        outline.transformed(Affine2D().translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2))
        for outline, box in zip(outlines, boxes, strict=True)
    )


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
    with picture(path, (7.5, 5.5), title=title, caption=caption) as figure:
        panel = figure.subplots()
        labelled: list[NDArray[np.float64]] = []
        styles = [{**style, "marker": "o"} for style in line_styles(len(curves))]
        grey = {"color": "0.55", "marker": "."}
        styles += [{**grey, "linestyle": _DASHES[1 + i % 3]} for i in range(len(references))]
        for (name, points), style in zip([*curves.items(), *references.items()], styles, strict=True):
            line = [(beta, c * x.factor, p * y.factor) for beta, c, p in points]
            panel.plot([c for _, c, _ in line], [p for *_, p in line], label=short(name), **style)
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


class SearchPoints(NamedTuple):
    """The trials of a search.

    Attributes:
        x_title: what lies on the horizontal axis.
        y_title: what lies on the vertical axis.
        points: number of each trial, and its (x, y).
        front: numbers of those that no other betters.
        pick: number of the one that was picked.
    """

    x_title: str
    y_title: str
    points: Mapping[int, tuple[float, float]]
    front: Sequence[int]
    pick: int


def draw_search(path: Path, searches: Mapping[str, SearchPoints], *, title: str) -> None:
    """Fig. S4: the trials of each search, and those that no other betters, a panel a search.

    Args:
        path: picture to write.
        searches: by the title of the model.
        title: heading.
    """
    caption = "judged by the training set alone; ringed: the pick"
    columns = min(3, len(searches))
    rows = -(-len(searches) // columns)
    size = (7.5, 5.5) if len(searches) == 1 else (4.5 * columns, 3.8 * rows)
    with picture(path, size, title=title, caption=caption) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(searches) :]:
            panel.set_visible(False)
        for panel, (name, search) in zip(panels, searches.items(), strict=False):
            panel.scatter(*zip(*search.points.values(), strict=True), color="0.7", label="trials")
            best = sorted(search.points[number] for number in search.front)
            panel.plot(*zip(*best, strict=True), "o", color="C0", label="on the front")
            ring: dict[str, Any] = {"s": 160, "facecolors": "none", "edgecolors": "C3", "linewidths": 2}
            panel.scatter(*search.points[search.pick], label="pick", **ring)
            panel.set_title(short(name))
            panel.set_xlabel(search.x_title)
            panel.set_ylabel(search.y_title)
            panel.yaxis.set_major_formatter(FuncFormatter(_general))
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
    missing = [short(name) for name in models if name not in known]
    if missing:
        caption += f"\nwithout figures: {', '.join(missing)}"
    reported = {name: (c * x.factor, p * y.factor) for name, (c, p) in paper.items()}
    with picture(path, (10, 6.5), title=title, caption=caption) as figure:
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
            panel.scatter([], [], marker=shape, color="0.9", label=f"sees: {short(sees)}", **edge)
    return points


def _name_points(
    figure: Figure, panel: Axes, places: Mapping[str, tuple[float, float]], ceiling: float
) -> None:
    """Write names beside points, with a line to those further off; the legend goes where there is room."""
    texts = [
        panel.annotate(short(name), at, (0, 0), textcoords="offset points", fontsize=7.5, zorder=4)
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
    apart: Mapping[str, Mapping[str, Sequence[tuple[int, float, float]]]] | None = None,
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
        apart: title, then by metric the (rows, mean, standard deviation) of what is no subset: crosses.
        title: heading.
    """
    with picture(path, (4 * len(titles), 4.0), title=title, caption=caption) as figure:
        panels = figure.subplots(1, len(titles), squeeze=False)[0]
        for panel, (key, heading) in zip(panels, titles.items(), strict=True):
            factor = METRICS[key].factor
            for (name, metrics), style in zip(curves.items(), line_styles(len(curves)), strict=True):
                mean, deviation = factor * np.array(metrics[key]).T
                panel.plot(sizes, mean, marker="o", label=short(name), **style)
                panel.fill_between(sizes, mean - deviation, mean + deviation, alpha=0.2, color=style["color"])
                for rows, centre, width in (apart or {}).get(name, {}).get(key, ()):
                    panel.errorbar(
                        rows, factor * centre, factor * width, marker="x", markersize=8, color=style["color"]
                    )
            if key == "coverage":
                panel.axhline(factor * ceiling, color="black", linewidth=0.8, label="ceiling")
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(FixedLocator([*sizes]))
            panel.xaxis.set_major_formatter(FuncFormatter(thousands))
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.tick_params(axis="x", labelrotation=30)
            panel.set_xlabel("training rows")
            panel.set_ylabel(heading)
            panel.legend(loc="best")


def _general(value: float, _: int) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}"


def thousands(value: float, _: int) -> str:
    """A number on an axis, thousands parted by commas."""
    return f"{value:,.0f}"
