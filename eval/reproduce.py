"""Holding the paper's tables against fresh runs: target, measured, verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from elpa_env.files import write_text
from elpa_env.landscape import held_out_error
from elpa_env.training import TrainingSet, load_training_set
from eval.judge import load_judge
from eval.metrics import METRICS
from eval.models import MODELS
from eval.paper import TABLES, Figure
from eval.report import (
    by_model,
    format_figure,
    format_paper,
    metric_title,
    summarise,
    training_js_distance,
    write_results,
)
from eval.run import Plan, run_plan

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
        quick: those of `models` that train with their quick preset.
        rival: model of the paper that models which it does not have are held against; "" = the best of
            its three, figure by figure.
    """

    target_class: int
    n_samples: int
    targets: tuple[Target, ...]
    models: tuple[str, ...] = ("dqn", "vae", "gan")
    seeds: int = 5
    quick: tuple[str, ...] = ()
    rival: str = ""


AGENT: Final = "dqn-soft-model"
"""The agent that is to better the best of the paper's three models in every figure at once."""


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
            Target(AGENT, "train_seconds", high=900),
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
            Target(AGENT, "train_seconds", high=900),
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
    "figure8": TableSpec(1, 10_000, (), models=("vae", AGENT), seeds=3, quick=(AGENT,)),
}
"""Table 2 draws class 5 2.5 million times: its precision and JS distance do not depend on the number."""


def verdict(value: float, low: float, high: float, text: Callable[[float], str]) -> str:
    """``reached``, or by how much a value misses low..high."""
    if low <= value <= high:
        return "reached"
    return f"off by {text(low - value if value < low else value - high)}"


def make_plan(name: str, *, data: str, n_seeds: int, n_samples: int, device: str) -> Plan:
    """The runs that a table needs; 0 seeds or samples are the numbers that its targets name."""
    spec = SPECS[name]
    return Plan(
        models=spec.models,
        seeds=tuple(range(n_seeds or spec.seeds)),
        data=data,
        target_class=spec.target_class,
        n_samples=n_samples or spec.n_samples,
        device=device,
        quick=spec.quick,
    )


def reproduce_table(
    name: str,
    plan: Plan,
    training_set: TrainingSet,
    *,
    n_jobs: int,
    folder: Path,
    console: Console,
    resume: bool,
) -> Table:
    """Run everything that a table needs and write the results into `folder`.

    Returns:
        The table of targets, measured figures and verdicts, also in ``verdicts.md``.
    """
    spec = SPECS[name]
    console.print(f"training set: {training_set.name} ({len(training_set):,} rows)", highlight=False)
    results = run_plan(plan, folder, n_jobs=n_jobs, console=console, resume=resume)
    write_results(plan, results, training_set, folder)
    rows = list(_model_rows(spec, results))
    if name == "table1":
        rows = [*_data_rows(training_set, plan.data), *rows]
    heading = (
        f"{name}: class {spec.target_class}, {plan.n_samples:,} valid samples, "
        f"{len(plan.seeds)} seeds, preset default"
    )
    note = f"trained on: {training_set.name} ({len(training_set):,} rows)"
    columns = ("", "paper", "target", "measured", "verdict")
    table = Table(title=f"{heading}\n{note}")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    lines = [f"{heading}; {note}.", "", _markdown(columns), _markdown(["---"] * len(columns))]
    write_text(folder / "verdicts.md", "\n".join([*lines, *map(_markdown, rows)]) + "\n")
    return table


def _markdown(cells: Iterator[str] | tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _model_rows(spec: TableSpec, results: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    groups = by_model(results)
    for target in spec.targets:
        group = groups[target.model]
        title = MODELS[target.model].title
        if target.metric == "train_seconds":
            seconds = max(result["train_seconds"] for result in group)
            text = verdict(seconds, target.low, target.high, lambda v: f"{v:.0f} s")
            row = f"{title} training, slowest seed", "", f"<= {target.high:.0f} s", f"{seconds:.0f} s"
            yield (*row, text)
            continue
        key = target.metric
        figure = summarise(group)[key]
        one = lambda value, key=key: format_figure(key, Figure(value, math.nan))  # noqa: E731
        yield (
            f"{title} {metric_title(key)}",
            _paper(spec, target.model, key),
            _range(target, one),
            format_figure(key, figure),
            verdict(figure.mean, target.low, target.high, one),
        )


def _paper(spec: TableSpec, model: str, key: str) -> str:
    """The paper's figure of a model; of one that it does not have that of its rival, and its name."""
    figures = TABLES[spec.target_class]
    if model in figures:
        return format_paper(key, figures[model][key])
    best = METRICS[key].best(figure[key].mean for figure in figures.values())
    rival = spec.rival or next(name for name, figure in figures.items() if figure[key].mean == best)
    return f"{format_paper(key, figures[rival][key])} ({MODELS[rival].title})"


def _range(target: Target, text: Callable[[float], str]) -> str:
    if math.isinf(target.low):
        return f"<= {text(target.high)}"
    if math.isinf(target.high):
        return f">= {text(target.low)}"
    return f"{text(target.low)} to {text(target.high)}"


def _data_rows(training_set: TrainingSet, data: str) -> Iterator[tuple[str, ...]]:
    """Training set and landscape against the counts that the paper and its data give."""
    counts = tuple(int(count) for count in training_set.class_counts)
    yield (
        "training set, rows in classes 1-10",
        "",
        " ".join(map(str, _TRAINING_COUNTS)),
        " ".join(map(str, counts)),
        "reached" if counts == _TRAINING_COUNTS else "different",
    )
    members = load_judge().class_counts
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
    error = held_out_error(load_training_set(data, augment=False), 2000, np.random.default_rng(0))
    yield (
        "regression, held-out error / (eV/atom)",
        "0.1",
        "0.085 to 0.115",
        f"{error:.3f}",
        verdict(error, 0.085, 0.115, lambda v: f"{v:.3f}"),
    )
    distance = training_js_distance(training_set, 1)
    yield (
        f"{METRICS['js_distance'].title}, training class 1 to full class 1",
        "0.236",
        "0.233 to 0.239",
        f"{distance:.4f}",
        verdict(distance, 0.233, 0.239, lambda v: f"{v:.4f}"),
    )
