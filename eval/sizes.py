"""How much training data a model needs: section 3.3 and Fig. 8 of Türk et al. 2022."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from elpa_env.errors import InputError
from elpa_env.files import write_text
from elpa_env.training import TrainingSet
from eval.figures import draw_sizes
from eval.judge import load_judge
from eval.metrics import METRICS, coverage_ceiling
from eval.models import MODELS
from eval.report import by_model, format_figure, metric_title, summarise
from eval.run import Plan, check_partial, hardware, run_plan, versions

SIZES: Final = (1_000, 2_000, 5_000, 10_000)
"""Rows of the training subsets, A/B mirror images counted as the paper counts them; then all rows."""
SHOWN: Final = ("precision", "coverage", "js_distance")
SCHEMA_VERSION: Final = 1
"""Of ``sizes.json``."""


def plans(plan: Plan, training_set: TrainingSet) -> dict[int, Plan]:
    """The runs of every size: those of `plan` on ever larger subsets, a subset of its own for each seed.

    Raises:
        InputError: a subset cannot be drawn.
    """
    n = len(training_set)
    smaller = {size: replace(plan, subset=size) for size in SIZES if size < n}
    for size in smaller:
        for seed in plan.seeds:
            training_set.subset(size, seed=seed)
    return {**smaller, n: plan}


def check_partials(plans: Mapping[int, Plan], folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to lose what an interrupted run has left; see `eval.run.check_partial`.

    Raises:
        InputError: something is in the way.
    """
    ours = {_folder(folder, size) for size in plans}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path not in ours:
            raise InputError(f"{path} is in the way and not of this run: move it, or name another --out")
    for size, plan in plans.items():
        check_partial(plan, _folder(folder, size), resume=resume, overwrite=overwrite)


def run_sizes(
    plans: Mapping[int, Plan],
    training_set: TrainingSet,
    *,
    n_jobs: int,
    folder: Path,
    console: Console,
    resume: bool,
) -> Table:
    """Train and score every model on every size; write ``sizes.json`` and ``figure_sizes.png``.

    Returns:
        The table of means and standard deviations, also in ``table.txt``.
    """
    results: dict[int, list[dict[str, Any]]] = {}
    for size, plan in plans.items():
        console.print(f"{size:,} rows", highlight=False)
        results[size] = run_plan(plan, _folder(folder, size), n_jobs=n_jobs, console=console, resume=resume)
    plan = next(iter(plans.values()))
    write_text(
        folder / "sizes.json", json.dumps(_record(plan, results, training_set), indent=1, allow_nan=False)
    )
    curves = {
        MODELS[name].title: {key: [_figure(results[size], name, key) for size in results] for key in SHOWN}
        for name in plan.models
    }
    members = int(load_judge().class_counts[plan.target_class])
    draw_sizes(
        folder / "figure_sizes.png",
        list(results),
        curves,
        {key: metric_title(key) for key in SHOWN},
        ceiling=coverage_ceiling(members, plan.n_samples),
        caption=f"{_heading(plan)}; subsets of: {training_set.name}",
    )
    table = _table(plan, results, training_set)
    with (folder / "table.txt").open("w", encoding="utf-8") as file:
        Console(file=file, width=120).print(table)
    return table


def _folder(folder: Path, size: int) -> Path:
    return folder / f"size-{size}"


def _figure(results: Sequence[dict[str, Any]], name: str, key: str) -> tuple[float, float]:
    """Mean and standard deviation of a metric of one model; no deviation of a single seed."""
    figure = summarise(by_model(results)[name])[key]
    return figure.mean, 0.0 if np.isnan(figure.std) else figure.std


def _heading(plan: Plan) -> str:
    quick = "".join(f" ({MODELS[name].title}: quick)" for name in plan.quick)
    return (
        f"class {plan.target_class}, {plan.n_samples:,} valid samples, preset {plan.preset}{quick}, "
        f"{len(plan.seeds)} seeds, each with subsets of its own"
    )


def _table(plan: Plan, results: Mapping[int, Sequence[dict[str, Any]]], training_set: TrainingSet) -> Table:
    table = Table(
        title=f"Training sets of growing size: {_heading(plan)}",
        caption=f"rows count A/B mirror images; subsets of: {training_set.name}",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("rows", justify="right")
    table.add_column("")
    for key in METRICS:
        table.add_column(metric_title(key), justify="right")
    for size, runs in results.items():
        for name, group in by_model(runs).items():
            summary = summarise(group)
            cells = [format_figure(key, summary[key]) for key in METRICS]
            table.add_row(f"{size:,}", MODELS[name].title, *cells)
    return table


def _record(
    plan: Plan, results: Mapping[int, Sequence[dict[str, Any]]], training_set: TrainingSet
) -> dict[str, Any]:
    """What ``sizes.json`` holds."""
    return {
        "schema_version": SCHEMA_VERSION,
        "target_class": plan.target_class,
        "n_samples": plan.n_samples,
        "preset": plan.preset,
        "quick": list(plan.quick),
        "seeds": list(plan.seeds),
        "training_set": training_set.record(),
        "sizes": {
            str(size): {
                name: {
                    **{key: figure.as_dict() for key, figure in summarise(group).items()},
                    "access": [run["access"] for run in group],
                    "train_seconds": [run["train_seconds"] for run in group],
                }
                for name, group in by_model(runs).items()
            }
            for size, runs in results.items()
        },
        "versions": versions(),
        "hardware": hardware(plan.device),
    }
