"""The energies of what models generate, over those of the training set."""

from __future__ import annotations

from typing import Any

import numpy as np

from elpa_env.space import ELPASOLITE_SPACE
from eval.judge import Judge
from eval.metrics import energy_histogram
from eval.report.blocks import Frame, Picture
from eval.report.lines import GREY, Trace, line, style
from eval.study.scores import Scored
from eval.study.study import View


def first_seed(shown: View, judge: Judge) -> dict[str, Scored]:
    """The first run of every model."""
    return {name: group[0] for name, group in shown.groups[judge.name].items()}


def of_first(shown: View) -> str:
    """What pictures of the first seed are drawn from, in words."""
    return f"{shown.plan.n_samples:,} valid samples of the first seed of every model"


def energies_picture(shown: View) -> Picture:
    """Energies of the different compositions that every model drew, by judge."""
    frames = [Frame(judge.name, _traces(shown, judge), _layout(shown, judge)) for judge in shown.judges]
    return Picture(
        "Energies of what is generated",
        frames,
        label="judge",
        note=f"Different compositions among {of_first(shown)}; the target is shaded. A tap on a name in the "
        "legend hides its line or brings it back.",
    )


def _traces(shown: View, judge: Judge) -> list[Trace]:
    first = first_seed(shown, judge)
    bins = next(iter(first.values())).bins
    middles = ((bins[1:] + bins[:-1]) / 2).round(6)
    bars: Trace = {
        "type": "bar",
        "name": "training set",
        "x": middles,
        "y": energy_histogram(shown.training_set.energy, bins),
        "marker": {"color": GREY},
        "hovertemplate": "<b>training set</b><br>%{x}: %{y:,}<extra></extra>",
    }
    outlines = [
        line(run.title, middles, run.energies, number, line={**style(number), "width": 2, "shape": "hvh"})
        for number, run in enumerate(first.values())
    ]
    return [bars, *outlines]


def _layout(shown: View, judge: Judge) -> dict[str, Any]:
    """Axes that show all bins in which anything lies, and the target."""
    targets, first = judge.space.targets, first_seed(shown, judge)
    bins = next(iter(first.values())).bins
    target = shown.plan.target_class - 1
    drawn = np.sum([run.energies for run in first.values()], axis=0)
    used = np.flatnonzero(drawn + energy_histogram(shown.training_set.energy, bins))
    ends = (bins[used[0]], bins[used[-1] + 1]) if len(used) else (bins[0], bins[-1])
    quantity = "formation energy" if judge.space == ELPASOLITE_SPACE else targets.quantity.replace("_", " ")
    unit = f" / ({targets.unit})" if targets.unit else ""
    step = f"{bins[1] - bins[0]:.2g} {targets.unit}".strip()
    return {
        "xaxis": {"title": {"text": quantity + unit}, "range": ends},
        "yaxis": {"title": {"text": f"different compositions in {step}"}, "rangemode": "tozero"},
        "bargap": 0,
        "shapes": [_band(max(targets.low[target], bins[0]), min(targets.high[target], bins[-1]))],
    }


def _band(low: float, high: float) -> dict[str, Any]:
    """A shaded range behind the lines."""
    return {
        "type": "rect",
        "x0": low,
        "x1": high,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"width": 0},
        "fillcolor": "rgba(31, 119, 180, 0.1)",
        "layer": "below",
    }
