"""Pictures of campaigns: compounds found against labels paid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from eval.figures import line_styles, picture, short, thousands


def draw_campaign(path: Path, found: NDArray[np.int64], *, goal: str, title: str, n_given: int = 0) -> None:
    """The curve of one campaign.

    Args:
        path: picture to write.
        found: (n,) compounds found after each label.
        goal: what is looked for.
        title: heading.
        n_given: labels at the start that were not asked for.
    """
    with picture(path, (6.5, 4.2), title=title, caption=f"labels given at the start: {n_given:,}") as figure:
        panel = figure.subplots()
        labels = np.arange(len(found) + 1)
        panel.step(labels, np.concatenate([[0], found]), where="post")
        panel.set_xlabel("labels")
        panel.set_ylabel(f"found: {goal}")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(FuncFormatter(thousands))
        panel.set_ylim(bottom=0)


def draw_benchmark(path: Path, summary: Mapping[str, Mapping[str, Any]], *, title: str, caption: str) -> None:
    """Curves of campaigns with their quartiles, all labels, and those of screening at random.

    Args:
        path: picture to write.
        summary: see `eval.discovery.summarise`.
        title: heading.
        caption: small print.
    """
    with picture(path, (7.5, 4.6), title=title, caption=caption) as figure:
        panel = figure.subplots()
        first = next(iter(summary.values()))
        longest = max(one["labels"] for one in summary.values())
        for (name, one), style in zip(summary.items(), line_styles(len(summary)), strict=True):
            low, median, high = np.array(one["quartiles"])
            labels = np.arange(1, len(median) + 1)
            panel.plot(labels, median, label=f"{short(name)} ({one['seeds']} seeds)", **style)
            panel.fill_between(labels, low, high, alpha=0.2, color=style["color"])
        share = (first["targets"] + 1) / (first["pool"] + 1)
        panel.plot([0, longest], [0, longest * share], color="grey", linestyle=":", label="at random")
        panel.axhline(first["targets"], color="black", linewidth=0.8)
        panel.set_xlabel("labels")
        panel.set_ylabel(f"found of {first['targets']:,}")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(FuncFormatter(thousands))
        panel.set_xlim(0, longest)
        panel.set_ylim(0, 1.04 * first["targets"])
        panel.legend(loc="best")
