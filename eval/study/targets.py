"""Holding figures of stored runs against what the paper reports and what is asked of our agents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from elpa_env.landscape import held_out_error, load_landscape
from elpa_env.training import load_training_set
from eval.judge import load_judge
from eval.metrics import METRICS, PAPER_METRICS, Metric
from eval.study.paper import TABLES
from eval.study.registry import AGENT, MODELS
from eval.study.scores import Scored
from eval.study.study import View, summarise
from eval.study.views import training_js_distance

COLUMNS: Final = ("", "paper", "target", "measured", "verdict")
_TRAINING_COUNTS: Final = (86, 270, 984, 4688, 9650, 3446, 1200, 566, 186, 36)
_LANDSCAPE_COUNTS: Final = {1: 3756, 2: 19960, 5: 907761}


@dataclass(frozen=True)
class Target:
    """A metric of a model's mean over the seeds must lie in low..high.

    Attributes:
        model: in the registry.
        metric: of `eval.metrics.METRICS`, or "train_seconds" of the slowest seed.
        low: the least.
        high: the greatest.
        rival: model of the paper that one which it does not have is held against; "" = the best of its
            three.
    """

    model: str
    metric: str
    low: float = -math.inf
    high: float = math.inf
    rival: str = ""


def of_paper(target_class: int) -> tuple[Target, ...]:
    """That every figure lies within the paper's spread: mean ± (standard deviation + half a digit)."""
    found = []
    for model in ("vae", "gan", "dqn"):
        for key in PAPER_METRICS:
            mean, std = TABLES[target_class][model][key]
            margin = std + 0.5 * 10.0 ** -(METRICS[key].digits - 1) / METRICS[key].factor
            found.append(Target(model, key, mean - margin, mean + margin))
    return tuple(found)


AGENT_1: Final = (
    Target(AGENT, "precision", low=0.84),
    Target(AGENT, "coverage", low=0.72),
    Target(AGENT, "js_distance", high=0.125),
)
"""What is asked of our agent in class 1."""
AGENT_5: Final = (
    Target(AGENT, "precision", low=0.94),
    Target(AGENT, "coverage", low=0.91),
    Target(AGENT, "js_distance", high=0.06),
)
"""What is asked of our agent in class 5."""
IN_TIME: Final = (Target(AGENT, "train_seconds", high=120),)
OFFLINE_1: Final = (
    Target("dqn-soft", "precision", low=0.69, rival="dqn"),
    Target("dqn-soft", "precision_neighbour", high=0.30, rival="dqn"),
    Target("dqn-soft", "coverage", low=0.53, rival="dqn"),
    Target("dqn-soft", "coverage_neighbour", high=0.04, rival="dqn"),
    Target("dqn-soft", "js_distance", high=0.20, rival="dqn"),
)
"""What is asked of the soft DQN that sees the data alone, in class 1: the paper's DQN, row by row."""


def verdict(value: float, low: float, high: float, text: Callable[[float], str], better: str = "") -> str:
    """``reached``, or by how much a value misses low..high, in the better direction or not."""
    if math.isnan(value):
        return "no figure"
    if low <= value <= high:
        return "reached"
    above = value > high
    word = "better" if better == ("higher" if above else "lower") else "off"
    return f"{word} by {text(value - high if above else low - value)}"


def verdict_rows(targets: Sequence[Target], view: View, judge: str) -> list[tuple[str, ...]]:
    """Rows of `COLUMNS` under a judge, of those models that the view has."""
    groups = view.groups[judge]
    found = [_row(target, groups, view.plan.target_class) for target in targets if target.model in groups]
    return [row for row in found if row]


def _row(target: Target, groups: Mapping[str, Sequence[Scored]], target_class: int) -> tuple[str, ...]:
    group = groups[target.model]
    title = MODELS[target.model].title
    if target.metric == "train_seconds":
        seconds = max(float(run.record["train_seconds"]) for run in group)
        text = verdict(seconds, target.low, target.high, lambda v: f"{v:.0f} s")
        return f"{title} training, slowest seed", "", f"<= {target.high:.0f} s", f"{seconds:.0f} s", text
    metric = METRICS[target.metric]
    figure = summarise(group)[target.metric]
    return (
        f"{title} {metric.heading}",
        _paper(target, target_class, metric),
        _range(target, metric),
        metric.show_mean(*figure),
        verdict(figure.mean, target.low, target.high, metric.show_mean, metric.better),
    )


def _paper(target: Target, target_class: int, metric: Metric) -> str:
    """The paper's figure of a model; of one that it does not have that of its rival, and its name."""
    figures = TABLES[target_class]
    if target.model in figures:
        return metric.show_paper(*figures[target.model][metric.key])
    best = min if metric.better == "lower" else max
    rival = target.rival or best(figures, key=lambda name: figures[name][metric.key].mean)
    return f"{metric.show_paper(*figures[rival][metric.key])} ({MODELS[rival].title})"


def _range(target: Target, metric: Metric) -> str:
    low, high = (metric.show_mean(value, math.nan) for value in (target.low, target.high))
    if math.isinf(target.low):
        return f"<= {high}"
    if math.isinf(target.high):
        return f">= {low}"
    return f"{low} to {high}"


def data_rows(view: View) -> Iterator[tuple[str, ...]]:
    """Training set and landscape against the counts that the paper and its data give."""
    counts = tuple(int(count) for count in view.training_set.class_counts)
    yield (
        "training set, rows in classes 1-10",
        "",
        " ".join(map(str, _TRAINING_COUNTS)),
        " ".join(map(str, counts)),
        "reached" if counts == _TRAINING_COUNTS else "different",
    )
    members = load_landscape().class_counts
    paper = {1: 3757, 2: 20097, 5: 907094}
    for target_class, count in _LANDSCAPE_COUNTS.items():
        value = int(members[target_class])
        yield (
            f"landscape, class {target_class}",
            f"{paper[target_class]:,}",
            f"{count:,} within 0.5 %",
            f"{value:,}",
            verdict(value, count * 0.995, count * 1.005, lambda v: f"{v:.0f}"),
        )
    error = held_out_error(load_training_set(view.plan.data, augment=False), 2000, np.random.default_rng(0))
    yield (
        "regression, held-out error / (eV/atom)",
        "0.1",
        "0.085 to 0.115",
        f"{error:.3f}",
        verdict(error, 0.085, 0.115, lambda v: f"{v:.3f}"),
    )
    distance = training_js_distance(view.training_set, 1, load_judge())
    yield (
        f"{METRICS['js_distance'].title}, training class 1 to full class 1",
        "0.236",
        "0.233 to 0.239",
        f"{distance:.4f}",
        verdict(distance, 0.233, 0.239, lambda v: f"{v:.4f}"),
    )
