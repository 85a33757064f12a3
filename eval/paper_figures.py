"""Pictures of the paper that show data, distances and generation curves: Figs. 1, 2, 4 and 7."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from elpa_env.space import Space
from eval.curves import Curve
from eval.figures import picture, short, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_energy_landscape(
    path: Path,
    training: NDArray[np.floating[Any]],
    table: NDArray[np.floating[Any]],
    held_out: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    bins: NDArray[np.float64],
    space: Space,
    caption: str,
) -> None:
    """Fig. 1 e and f: energies of the training set and of the whole space, and the regression against DFT.

    Args:
        path: picture to write.
        training: (n,) energies of the training set, eV/atom.
        table: (N,) energies of all compositions, eV/atom.
        held_out: (m,) energies of rows, and what a regression of the other rows makes of them, eV/atom.
        bins: (b + 1,) edges of the histograms, eV/atom.
        space: whose classes are marked.
        caption: small print.
    """
    targets = space.targets
    edges = [edge for edge in targets.low[1:] if np.isfinite(edge)]
    with picture(path, (11, 4.8), title="Formation energies and their classes", caption=caption) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(6, 5))
        left.hist(table, bins=bins, color="0.75", label=f"space ({len(table):,} compositions)")
        left.hist(
            training,
            bins=bins,
            histtype="step",
            color="C0",
            linewidth=1.4,
            label=f"training set ({len(training):,} rows)",
        )
        for edge in edges:
            left.axvline(edge, color="0.4", linewidth=0.6, linestyle=":")
        limits = [bins[0], *edges, bins[-1]]
        for number, (low, high) in enumerate(pairwise(limits), start=1):
            place = (low + high) / 2, 0.995
            across = left.get_xaxis_transform()
            left.text(*place, str(number), ha="center", va="top", fontsize=8, transform=across)
        left.set_yscale("log")
        left.set_xlabel(f"formation energy / ({targets.unit})")
        left.set_ylabel(f"compositions in {bins[1] - bins[0]:.2g} {targets.unit}")
        left.yaxis.set_major_formatter(FuncFormatter(thousands))
        left.legend(loc="lower center")
        energy, predicted = held_out
        ends = np.array([min(energy.min(), predicted.min()), max(energy.max(), predicted.max())])
        right.plot(ends, ends, color="0.4", linewidth=0.8)
        right.plot(energy, predicted, ".", markersize=3, alpha=0.4, color="C0")
        error = np.abs(predicted - energy).mean()
        right.set_title(
            f"{len(energy):,} rows left out of the fit:\noff by {error:.3f} {targets.unit} on average"
        )
        right.set_xlabel(f"DFT / ({targets.unit})")
        right.set_ylabel(f"regression / ({targets.unit})")


def draw_distances(path: Path, distances: NDArray[np.float64], *, caption: str) -> None:
    """Fig. 2: JS distance of every class of the training set to every class of the space.

    Args:
        path: picture to write.
        distances: (k, k), a row a class of the training set; NaN of one without rows.
        caption: small print.
    """
    k = len(distances)
    title = "JS distance between training set and space, class by class"
    with picture(path, (7.2, 6.4), title=title, caption=caption) as figure:
        panel = figure.subplots()
        image = panel.imshow(distances, vmin=0, vmax=1, cmap="viridis")
        for (row, column), value in np.ndenumerate(distances):
            colour = "black" if value > 0.6 else "white"
            if np.isfinite(value):
                panel.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
        panel.set_xticks(range(k), map(str, range(1, k + 1)))
        panel.set_yticks(range(k), map(str, range(1, k + 1)))
        panel.set_xlabel("class of the space")
        panel.set_ylabel("class of the training set")
        panel.grid(visible=False)
        figure.colorbar(image, ax=panel, shrink=0.8).set_label("JS distance")


def draw_curves(
    path: Path, curves: Mapping[str, Curve], *, space: Space, target_class: int, caption: str
) -> None:
    """Figs. 4 and 7: what the samples of each model are, against how many there are.

    A column a model: above, all samples stacked by what they are, on a linear axis that ends where
    most are repeated; below, the same numbers as lines, on logarithmic ones.

    Args:
        path: picture to write.
        curves: by title of the model.
        space: of the compositions.
        target_class: that was aimed at.
        caption: small print.
    """
    title = f"What is generated for {space.targets.title(target_class)}"
    with picture(path, (3.6 * len(curves), 7.2), title=title, caption=caption) as figure:
        panels = figure.subplots(2, len(curves), squeeze=False)
        for column, (name, curve) in enumerate(curves.items()):
            parts = _parts(curve, space, target_class)
            above, below = panels[:, column]
            above.stackplot(
                curve.n_samples,
                [values for values, _ in parts.values()],
                labels=list(parts),
                colors=[colour for _, colour in parts.values()],
                linewidth=0,
            )
            for label, (values, colour) in parts.items():
                below.plot(curve.n_samples, values, color=colour, label=label, linewidth=1.6)
            above.set_title(short(name))
            # what is new would vanish beside what is repeated
            above.set_ylim(0, min(curve.n_samples[-1], 3 * (curve.n_samples - curve.repeated).max()))
            _axes(above, below, first=column == 0)
        panels[0, 0].legend(loc="upper left", fontsize=7)
        panels[1, 0].legend(loc="upper left", fontsize=7)


def _axes(above: Axes, below: Axes, *, first: bool) -> None:
    """Scales and titles of the two panels of a model."""
    below.set_xscale("log")
    below.set_yscale("log")
    below.set_ylim(bottom=0.8)
    below.xaxis.set_major_formatter(FuncFormatter(thousands))
    below.yaxis.set_major_formatter(FuncFormatter(thousands))
    below.tick_params(axis="x", labelrotation=30)
    above.xaxis.set_major_formatter(FuncFormatter(thousands))
    above.yaxis.set_major_formatter(FuncFormatter(thousands))
    above.tick_params(axis="x", labelrotation=30)
    above.margins(x=0)
    below.set_xlabel("valid samples")
    if first:
        above.set_ylabel("samples")
        below.set_ylabel("samples")


def _parts(curve: Curve, space: Space, target_class: int) -> dict[str, tuple[NDArray[np.float64], str]]:
    """Numbers and colour of each kind of sample; novel ones by class, the target darkest."""
    targets = space.targets
    beside = targets.neighbours(target_class)
    rest = [c for c in range(1, targets.n + 1) if c != target_class and c not in beside]
    found = {f"novel, {targets.title(target_class)}": (curve.novel[:, target_class - 1], "0.15")}
    for neighbour, shade in zip(beside, ("0.45", "0.6"), strict=False):
        found[f"novel, {targets.title(neighbour)}"] = (curve.novel[:, neighbour - 1], shade)
    found["novel, other"] = (curve.novel[:, [c - 1 for c in rest]].sum(axis=1), "0.8")
    found["rediscovered"] = (curve.rediscovered, "C1")
    found["repeated"] = (curve.repeated, "C0")
    return found
