"""Holding the paper's tables against stored runs: target, measured, verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from elpa_env.files import write_text
from elpa_env.landscape import held_out_error, load_landscape
from elpa_env.training import load_training_set
from eval.judge import load_judge
from eval.metrics import METRICS, Metric
from eval.study.paper import TABLES
from eval.study.plan import Plan
from eval.study.registry import AGENT, MODELS
from eval.study.scores import Scored
from eval.study.study import View, summarise
from eval.study.views import training_js_distance

_TRAINING_COUNTS: Final = (86, 270, 984, 4688, 9650, 3446, 1200, 566, 186, 36)
_LANDSCAPE_COUNTS: Final = {1: 3756, 2: 19960, 5: 907761}


@dataclass(frozen=True)
class Target:
    """A metric of a model's mean over the seeds must lie in low..high."""

    model: str
    metric: str
    low: float = -math.inf
    high: float = math.inf


def _around(model: str, metric: str, centre: float, margin: float) -> Target:
    return Target(model, metric, centre - margin, centre + margin)


@dataclass(frozen=True)
class TableSpec:
    """One table: what is drawn, what to reach, and which models to train.

    Attributes:
        target_class: 1..10.
        n_samples: valid samples.
        targets: what to reach.
        models: to train.
        seeds: of each.
        rival: model of the paper that models which it does not have are held against; "" = the best of
            its three, figure by figure.
    """

    target_class: int
    n_samples: int
    targets: tuple[Target, ...]
    models: tuple[str, ...] = ("dqn", "vae", "gan")
    seeds: int = 5
    rival: str = ""


SPECS: Final = {
    "table1": TableSpec(
        1,
        10_000,
        (
            _around("vae", "precision", 0.83, 0.02),
            _around("vae", "precision_neighbour", 0.16, 0.02),
            _around("vae", "coverage", 0.54, 0.03),
            _around("vae", "coverage_neighbour", 0.05, 0.01),
            _around("vae", "js_distance", 0.16, 0.015),
            _around("gan", "precision", 0.66, 0.04),
            _around("gan", "precision_neighbour", 0.28, 0.04),
            _around("gan", "coverage", 0.62, 0.04),
            _around("gan", "coverage_neighbour", 0.10, 0.04),
            Target("gan", "js_distance", high=0.18),
            Target("gan", "train_seconds", high=180),
            Target("dqn", "precision", low=0.61),
            Target("dqn", "coverage", low=0.50),
            Target("dqn", "js_distance", high=0.23),
            Target("dqn", "train_seconds", high=300),
        ),
    ),
    "table2": TableSpec(
        5,
        2_500_000,
        (
            _around("vae", "precision", 0.58, 0.02),
            _around("vae", "precision_neighbour", 0.34, 0.02),
            _around("vae", "js_distance", 0.21, 0.015),
            _around("gan", "precision", 0.54, 0.04),
            _around("gan", "precision_neighbour", 0.36, 0.04),
            Target("gan", "js_distance", high=0.18),
            _around("dqn", "precision", 0.87, 0.07),
            _around("dqn", "precision_neighbour", 0.13, 0.07),
            Target("dqn", "js_distance", high=0.63),
        ),
    ),
    "agent1": TableSpec(
        1,
        10_000,
        (
            Target(AGENT, "precision", low=0.84),
            Target(AGENT, "coverage", low=0.72),
            Target(AGENT, "js_distance", high=0.125),
            Target(AGENT, "train_seconds", high=120),
        ),
        models=(AGENT,),
    ),
    "agent5": TableSpec(
        5,
        25_000_000,
        (
            Target(AGENT, "precision", low=0.94),
            Target(AGENT, "coverage", low=0.91),
            Target(AGENT, "js_distance", high=0.06),
            Target(AGENT, "train_seconds", high=120),
        ),
        models=(AGENT,),
    ),
    "offline1": TableSpec(
        1,
        10_000,
        (
            Target("dqn-soft", "precision", low=0.69),
            Target("dqn-soft", "precision_neighbour", high=0.30),
            Target("dqn-soft", "coverage", low=0.53),
            Target("dqn-soft", "coverage_neighbour", high=0.04),
            Target("dqn-soft", "js_distance", high=0.20),
        ),
        models=("dqn-soft",),
        rival="dqn",
    ),
    "figure8": TableSpec(1, 10_000, (), models=("vae", AGENT), seeds=3),
}
"""Table 2 draws class 5 2.5 million times: its precision and JS distance do not depend on the number."""


def verdict(value: float, low: float, high: float, text: Callable[[float], str]) -> str:
    """``reached``, or by how much a value misses low..high."""
    if low <= value <= high:
        return "reached"
    return f"off by {text(low - value if value < low else value - high)}"


def make_plan(
    name: str, *, data: str, n_seeds: int, n_samples: int, device: str, judges: tuple[str, ...]
) -> Plan:
    """The runs that a table needs; 0 seeds or samples are the numbers that its targets name."""
    spec = SPECS[name]
    return Plan(
        models=spec.models,
        seeds=tuple(range(n_seeds or spec.seeds)),
        data=data,
        target_class=spec.target_class,
        n_samples=n_samples or spec.n_samples,
        device=device,
        judges=judges,
    )


def verdicts(name: str, view: View, folder: Path) -> Group:
    """Targets, measured figures and verdicts, a table a judge, also in ``verdicts.md``."""
    tables, text = [], []
    for number, judge in enumerate(view.judges):
        rows = list(_model_rows(SPECS[name], view.groups[judge.name]))
        if name == "table1" and number == 0:
            rows = [*_data_rows(view), *rows]
        heading = (
            f"{name}: class {view.plan.target_class}, {view.plan.n_samples:,} valid samples, "
            f"{len(view.plan.seeds)} seeds, preset {view.plan.preset}, judge {judge.name}"
        )
        note = f"trained on: {view.training_set.name} ({len(view.training_set):,} rows)"
        table = Table(title=escape(f"{heading}\n{note}"))
        for column in COLUMNS:
            table.add_column(column)
        for row in rows:
            table.add_row(*row)
        tables.append(table)
        text += [f"{heading}; {note}.", "", _markdown(COLUMNS), _markdown(["---"] * len(COLUMNS))]
        text += [*map(_markdown, rows), ""]
    write_text(folder / "verdicts.md", "\n".join(text))
    return Group(*tables)


COLUMNS: Final = ("", "paper", "target", "measured", "verdict")


def _markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _model_rows(spec: TableSpec, groups: Mapping[str, Sequence[Scored]]) -> Iterator[tuple[str, ...]]:
    for target in spec.targets:
        group = groups[target.model]
        title = MODELS[target.model].title
        if target.metric == "train_seconds":
            seconds = max(float(run.record["train_seconds"]) for run in group)
            text = verdict(seconds, target.low, target.high, lambda v: f"{v:.0f} s")
            row = f"{title} training, slowest seed", "", f"<= {target.high:.0f} s", f"{seconds:.0f} s"
            yield (*row, text)
            continue
        metric = METRICS[target.metric]
        figure = summarise(group)[target.metric]
        yield (
            f"{title} {metric.heading}",
            _paper(spec, target.model, metric),
            _range(target, metric),
            metric.show_mean(*figure),
            verdict(figure.mean, target.low, target.high, metric.show_mean),
        )


def _paper(spec: TableSpec, model: str, metric: Metric) -> str:
    """The paper's figure of a model; of one that it does not have that of its rival, and its name."""
    figures = TABLES[spec.target_class]
    if model in figures:
        return metric.show_paper(*figures[model][metric.key])
    best = min if metric.better == "lower" else max
    rival = spec.rival or best(figures, key=lambda name: figures[name][metric.key].mean)
    return f"{metric.show_paper(*figures[rival][metric.key])} ({MODELS[rival].title})"


def _range(target: Target, metric: Metric) -> str:
    low, high = (metric.show_mean(value, math.nan) for value in (target.low, target.high))
    if math.isinf(target.low):
        return f"<= {high}"
    if math.isinf(target.high):
        return f">= {low}"
    return f"{low} to {high}"


def _data_rows(view: View) -> Iterator[tuple[str, ...]]:
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
