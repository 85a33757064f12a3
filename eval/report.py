"""Results as a table on the terminal, a file for the next program, and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table

from elpa_env.files import write_text
from elpa_env.training import TrainingSet
from eval.figures import ModelPoint, draw_elements, draw_energies, draw_models, energy_histogram
from eval.judge import load_judge
from eval.metrics import METRICS, PAPER_METRICS, coverage_ceiling, element_distribution, js_distance
from eval.models import model_spec, short_name
from eval.paper import TABLE_SAMPLES, TABLES, Figure
from eval.run import Plan, hardware, versions

SCHEMA_VERSION: Final = 1
"""Of ``metrics.json``; raised whenever a key changes its meaning or goes."""
_LABEL_WIDTH: Final = 25
_COLUMN_WIDTH: Final = 16
"""Characters that the longest row title and figure take in a comparison, with their padding."""
_FILE_WIDTH: Final = 200
_MANY: Final = 10
"""Models beyond which each is a row of the table instead of a column."""


def summarise(results: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Mean and standard deviation of the metrics over the seeds."""
    values = {key: [result["score"][key] for result in results] for key in METRICS}
    return {
        key: Figure(float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else float("nan"))
        for key, v in values.items()
    }


def by_model(results: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Group results by model, in the order they come."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(result["model"], []).append(result)
    return groups


def format_figure(key: str, figure: Figure) -> str:
    """``83.2 ± 0.8`` in percent, a distance as ``0.163 ± 0.004``; no ± for a single seed."""
    return METRICS[key].show_mean(figure.mean, figure.std)


def format_paper(key: str, figure: Figure) -> str:
    """The paper's own rounding: ``83 ± 1``, ``0.16 ± 0.01``."""
    return METRICS[key].show_paper(figure.mean, figure.std)


def metric_title(key: str) -> str:
    """The paper's name of a metric, with its unit."""
    return METRICS[key].heading


def comparison(
    plan: Plan, results: Sequence[dict[str, Any]], training_set: TrainingSet, *, width: int
) -> Group:
    """Rows as in the paper's Table 1, a column a model, the paper's figures below each.

    What does not fit side by side into `width` characters goes into a further table below. Of more than
    ten models each is a row instead.
    """
    groups = list(by_model(results).items())
    if len(groups) > _MANY:
        tables = [_row_table(dict(groups))]
    else:
        per_table = max(1, (width - _LABEL_WIDTH) // _COLUMN_WIDTH)
        parts = [dict(groups[i : i + per_table]) for i in range(0, len(groups), per_table)]
        tables = [_comparison_table(part, TABLES.get(plan.target_class, {})) for part in parts]
    tables[0].title = (
        f"Class {plan.target_class}, {plan.n_samples:,} valid samples, preset {plan.preset}\n"
        f"trained on: {training_set.name} ({len(training_set):,} rows)"
    )
    tables[-1].caption = _caption(plan)
    return Group(*tables)


def _comparison_table(
    groups: Mapping[str, Sequence[dict[str, Any]]], paper: Mapping[str, Mapping[str, Figure]]
) -> Table:
    table = Table(caption_justify="left", box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for name in groups:
        table.add_column(model_spec(name).title, justify="right", no_wrap=True)
    summaries = {name: summarise(group) for name, group in groups.items()}
    for key in METRICS:
        table.add_row(
            METRICS[key].short_heading, *(format_figure(key, summary[key]) for summary in summaries.values())
        )
        if METRICS[key].in_paper and any(name in paper for name in groups):
            cells = [format_paper(key, paper[name][key]) if name in paper else "" for name in groups]
            table.add_row("  paper", *cells, style="dim")
    table.add_section()
    for title, value in _FURTHER.items():
        table.add_row(title, *(value(group) for group in groups.values()))
    return table


def _row_table(groups: Mapping[str, Sequence[dict[str, Any]]]) -> Table:
    """A row a model: the paper's five metrics, then what it saw and what it cost."""
    table = Table(caption_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    further = [title.replace(" queries", "\nqueries").replace(" / ", "\n/ ") for title in _FURTHER]
    for title in ["prec.\n/ %", "neigh.\n/ %", "cov.\n/ %", "neigh.\n/ %", "JS\ndistance", *further]:
        table.add_column(title, justify="right", no_wrap=True)
    for name, group in groups.items():
        summary = summarise(group)
        cells = [format_figure(key, summary[key]) for key in PAPER_METRICS]
        table.add_row(model_spec(name).title, *cells, *(value(group) for value in _FURTHER.values()))
    return table


def _mean(group: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([result["score"][key] for result in group]))


def _seen(group: Sequence[Mapping[str, Any]], key: str) -> str:
    """What a model was allowed to see: its kind, or a mean number; ? of an agent that does not say."""
    access = [result["access"] for result in group]
    if None in access:
        return "?"
    if key == "kind":
        return str(access[0]["kind"])
    return f"{np.mean([each[key] for each in access]):,.0f}"


_FURTHER: Final[dict[str, Callable[[Sequence[Mapping[str, Any]]], str]]] = {
    "sees": lambda group: _seen(group, "kind"),
    "labels": lambda group: _seen(group, "labels"),
    "model queries": lambda group: _seen(group, "model_queries"),
    "landscape queries": lambda group: _seen(group, "landscape_queries"),
    "valid / %": lambda group: f"{_mean(group, 'valid_fraction') * 100:.1f}",
    "novel": lambda group: f"{_mean(group, 'novel'):,.0f}",
    "rediscovered": lambda group: f"{_mean(group, 'rediscovered'):,.0f}",
    "repeated": lambda group: f"{_mean(group, 'repeated'):,.0f}",
    "training / s": lambda group: f"{np.mean([r['train_seconds'] for r in group]):.0f}",
}


def _caption(plan: Plan) -> str:
    seeds = ", ".join(map(str, plan.seeds))
    text = f"seeds {seeds}; mean ± standard deviation" if len(plan.seeds) > 1 else f"seed {seeds}"
    if plan.target_class in TABLES:
        drawn = TABLE_SAMPLES[plan.target_class]
        if drawn != plan.n_samples:
            text += f"; the paper draws {drawn:,} samples, on which its coverage depends"
        if len(plan.models) <= _MANY:
            text += "; paper: Türk et al. 2022, 50 seeds, trained on DFT energies"
    else:
        text += f"; the paper has no figures for class {plan.target_class}"
    return f"{text}\njudge: {load_judge().name}\n{_reference_caption(plan)}"


def _reference_caption(plan: Plan) -> str:
    """What the results can be held against: the ceiling of coverage, and the exact solutions if shown."""
    judge = load_judge()
    members = int(judge.class_counts[plan.target_class])
    ceiling = coverage_ceiling(members, plan.n_samples) * 100
    text = (
        f"independent samples, {plan.n_samples:,} of them, cover at most "
        f"{ceiling:.1f} % of the {members:,} compositions of class {plan.target_class} on average"
    )
    if any(name.startswith("optimal-") for name in plan.models):
        text += "; optimal: exact solutions that see the landscape"
    if any(name.endswith("-oracle") for name in plan.models):
        text += "; oracle: learns from the landscape itself"
        text += "\nsoft: log-sum-exp backup, that of double Q-learning in agents that act"
    text += (
        "\nsees: offline = labelled compositions alone, model-based = also a model of them, oracle and "
        "reference = the landscape that all are judged by; labels: DFT or training energies used"
    )
    return text


def write_results(
    plan: Plan, results: Sequence[dict[str, Any]], training_set: TrainingSet, folder: Path
) -> None:
    """Write ``metrics.json``, ``table.txt`` and the three pictures into `folder`."""
    write_text(folder / "metrics.json", json.dumps(_record(plan, results, training_set), indent=1))
    with (folder / "table.txt").open("w", encoding="utf-8") as file:
        text = comparison(plan, results, training_set, width=_FILE_WIDTH)
        Console(file=file, width=_FILE_WIDTH).print(text)
    judge = load_judge()
    first = {name: group[0] for name, group in by_model(results).items()}
    caption = f"{plan.n_samples:,} valid samples of seed {plan.seeds[0]}; trained on: {training_set.name}"
    draw_energies(
        folder / "figure_energies.png",
        energy_histogram(training_set.energy),
        {model_spec(n).title: np.array(r["unique_energy_histogram"]) for n, r in first.items()},
        target_class=plan.target_class,
        caption=caption,
    )
    summaries = {name: summarise(group) for name, group in by_model(results).items()}
    members = int(judge.class_counts[plan.target_class])
    draw_models(
        folder / "figure_models.png",
        {
            model_spec(name).title: ModelPoint(
                summary["coverage"].mean,
                summary["precision"].mean,
                summary["js_distance"].mean,
                _seen([first[name]], "kind"),
            )
            for name, summary in summaries.items()
        },
        {
            f"{model_spec(name).title}, paper": (figures["coverage"].mean, figures["precision"].mean)
            for name, figures in TABLES.get(plan.target_class, {}).items()
            if plan.n_samples == TABLE_SAMPLES[plan.target_class]
        },
        ceiling=coverage_ceiling(members, plan.n_samples),
        title=f"Class {plan.target_class}, {plan.n_samples:,} valid samples",
        caption=f"mean over seeds {', '.join(map(str, plan.seeds))}; trained on: {training_set.name}",
    )
    in_class = training_set.index[training_set.energy_class == plan.target_class]
    reference = element_distribution(judge.table_class == plan.target_class)
    distributions = {"full class": reference}
    if len(in_class):
        counts = np.bincount(in_class, minlength=len(judge.table_class))
        distributions["training set"] = element_distribution(counts)
    for name, result in first.items():
        distributions[model_spec(name).title] = np.array(result["element_distribution"])
    draw_elements(
        folder / "figure_elements.png",
        distributions,
        target_class=plan.target_class,
        caption=caption,
    )


def training_js_distance(training_set: TrainingSet, target_class: int) -> float:
    """JS distance of a class in the training set to the full class (Fig. 2 of the paper)."""
    table_class = load_judge().table_class
    in_class = training_set.index[training_set.energy_class == target_class]
    counts = np.bincount(in_class, minlength=len(table_class))
    return js_distance(element_distribution(counts), element_distribution(table_class == target_class))


def _record(plan: Plan, results: Sequence[dict[str, Any]], training_set: TrainingSet) -> dict[str, Any]:
    models = {
        short_name(name): {
            "title": model_spec(name).title,
            "mean": {key: figure.as_dict()["mean"] for key, figure in summarise(group).items()},
            "std": {key: figure.as_dict()["std"] for key, figure in summarise(group).items()},
            "runs": [
                {k: v for k, v in result.items() if k not in ("model", "unique_energy_histogram")}
                for result in group
            ],
        }
        for name, group in by_model(results).items()
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "target_class": plan.target_class,
        "n_samples": plan.n_samples,
        "seeds": list(plan.seeds),
        "preset": plan.preset,
        "training_set": {
            "name": training_set.name,
            "rows": len(training_set),
            "sha256": training_set.sha256,
            "class_counts": training_set.class_counts.tolist(),
            "js_distance_to_full_class": _finite(training_js_distance(training_set, plan.target_class)),
        },
        "judge": load_judge().record(),
        "models": models,
        "versions": versions(),
        "hardware": hardware(plan.device),
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
