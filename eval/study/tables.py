"""A comparison as a table: on the terminal, in ``table.txt``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from elpa_env.catalogue import ELPASOLITE_NAME
from eval.metrics import METRICS, coverage_ceiling
from eval.study.paper import TABLE_SAMPLES, TABLES, Figure
from eval.study.plan import Plan
from eval.study.registry import REFERENCES
from eval.study.scores import Scored
from eval.study.study import View, summarise

_LABEL_WIDTH: Final = 29
_COLUMN_WIDTH: Final = 18
"""Characters that the longest row title and figure take in a comparison, with their padding."""
MANY: Final = 10
"""Models beyond which each is a row of the table instead of a column."""


def comparison(view: View, *, width: int) -> Group:
    """Rows as in the paper's Table 1, a column a model, the paper's figures below each.

    With several judges every figure stands once a judge, side by side. What does not fit into `width`
    characters goes into a further table below. Of more than ten models each is a row instead.
    """
    names = list(view.titles())
    if len(names) > MANY:
        tables = [_row_table(view)]
    else:
        per_table = max(1, (width - _LABEL_WIDTH) // _COLUMN_WIDTH)
        parts = [names[i : i + per_table] for i in range(0, len(names), per_table)]
        tables = [_column_table(view, part) for part in parts]
    plan, training_set = view.plan, view.training_set
    tables[0].title = escape(
        f"{plan.target.capitalize()}, {plan.n_samples:,} valid samples, preset {plan.preset}, "
        f"judge {', '.join(judge.name for judge in view.judges)}\n"
        f"trained on: {training_set.name} ({len(training_set):,} rows)"
    )
    return Group(*tables, Text(_caption(view), style="dim italic"))


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    cells = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]


def _column_table(view: View, names: Sequence[str]) -> Table:
    """A column a model."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(escape(view.titles()[name]), justify="right", no_wrap=True)
    paper = paper_figures(view.plan)
    for key, metric in METRICS.items():
        for number, judge in enumerate(view.judges):
            heading = metric.heading if number == 0 else f"  {judge.name} judge"
            groups = view.groups[judge.name]
            cells = [
                metric.show_mean(*summarise(groups[name])[key]) if name in groups else "" for name in names
            ]
            table.add_row(escape(heading), *cells)
        if metric.in_paper and any(name in paper for name in names):
            cells = [metric.show_paper(*paper[name][key]) if name in paper else "" for name in names]
            table.add_row("  paper", *cells, style="dim")
    table.add_section()
    groups = _any_judge(view)
    for title, value in FURTHER.items():
        table.add_row(title, *(value(groups[name]) for name in names))
    return table


def _row_table(view: View) -> Table:
    """A row a model, or one a model and judge: the metrics, then what it saw and what it cost."""
    table = Table(box=SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    several = len(view.judges) > 1
    if several:
        table.add_column("judge", no_wrap=True)
    further = {title: value for title, value in FURTHER.items() if title != "seeds"}
    for title in [*(metric.short_heading for metric in METRICS.values()), *further]:
        table.add_column(_stacked(title), justify="right", no_wrap=True)
    for name, title in view.titles().items():
        for judge in view.judges:
            group = view.groups[judge.name].get(name)
            if group is None:
                continue
            summary = summarise(group)
            cells = [metric.show_mean(*summary[key]) for key, metric in METRICS.items()]
            judges = [escape(judge.name)] if several else []
            table.add_row(escape(title), *judges, *cells, *(value(group) for value in further.values()))
    return table


def _stacked(heading: str) -> str:
    """A heading a word a line, so that all columns fit side by side."""
    words, slash, unit = (
        heading.replace("rediscovered", "redis- covered").replace("training", "train- ing").partition(" / ")
    )
    return "\n".join([*words.replace(",", "").split(), *([f"/ {unit}"] if slash else [])])


def paper_figures(plan: Plan) -> Mapping[str, Mapping[str, Figure]]:
    """What the paper has for a plan's class, by model; nothing for another space than its own."""
    return TABLES.get(plan.target_class, {}) if plan.space == ELPASOLITE_NAME else {}


def _any_judge(view: View) -> dict[str, Sequence[Scored]]:
    """Runs by model; what is read off them does not depend on the judge."""
    found: dict[str, Sequence[Scored]] = {}
    for groups in view.groups.values():
        found = {**groups, **found}
    return found


def _mean(group: Sequence[Scored], key: str) -> float:
    return float(np.mean([run.score[key] for run in group]))


def seen(group: Sequence[Scored], key: str) -> str:
    """What a model was allowed to see: its kind, or a mean number; ? of one that does not say."""
    access: list[Mapping[str, Any]] = [run.record["access"] for run in group]
    kind = str(access[0]["kind"])
    if key == "kind":
        return kind
    return "?" if kind == "unknown" else f"{np.mean([each[key] for each in access]):,.0f}"


def chosen_by(group: Sequence[Scored]) -> str:
    """What the hyperparameters were chosen by; nothing of a model that has none."""
    record = group[0].record
    return str(record["access"]["chosen_by"]) if record["identity"]["config"] is not None else ""


FURTHER: Final[dict[str, Callable[[Sequence[Scored]], str]]] = {
    "seeds": lambda group: str(len(group)),
    "sees": lambda group: seen(group, "kind"),
    "labels": lambda group: seen(group, "labels"),
    "model queries": lambda group: seen(group, "model_queries"),
    "landscape queries": lambda group: seen(group, "landscape_queries"),
    "valid / %": lambda group: f"{_mean(group, 'valid_fraction') * 100:.1f}",
    "novel": lambda group: f"{_mean(group, 'novel'):,.0f}",
    "rediscovered": lambda group: f"{_mean(group, 'rediscovered'):,.0f}",
    "repeated": lambda group: f"{_mean(group, 'repeated'):,.0f}",
    "training / s": lambda group: f"{np.mean([r.record['train_seconds'] for r in group]):.0f}",
}
"""Rows behind the metrics."""


def _caption(view: View) -> str:
    plan = view.plan
    seeds = ", ".join(map(str, plan.seeds))
    text = f"seeds {seeds}; mean ± standard deviation" if len(plan.seeds) > 1 else f"seed {seeds}"
    if paper_figures(plan):
        drawn = TABLE_SAMPLES[plan.target_class]
        if drawn != plan.n_samples:
            text += f"; the paper draws {drawn:,} samples, on which its coverage depends"
        if len(view.titles()) <= MANY:
            text += "; paper: Türk et al. 2022, 50 seeds, trained on DFT energies"
    elif plan.space == ELPASOLITE_NAME:
        text += f"; the paper has no figures for class {plan.target_class}"
    lines = [text, *(_ceiling(view, number) for number in range(len(view.judges))), *_glossary(view)]
    return "\n".join(lines)


def _ceiling(view: View, number: int) -> str:
    """What the coverage can be held against under one judge."""
    plan, judge = view.plan, view.judges[number]
    members = int(judge.class_counts[plan.target_class])
    compounds = int(judge.compound_counts[plan.target_class])
    ceiling = coverage_ceiling(members, plan.n_samples) * 100
    return (
        f"judge {judge.name} ({judge.what}): independent samples, {plan.n_samples:,} of them, cover at most "
        f"{ceiling:.1f} % of the {members:,} compositions ({compounds:,} compounds) of "
        f"{plan.target} on average"
    )


def _glossary(view: View) -> list[str]:
    """Words of the table that need explaining."""
    names = view.titles()
    lines = []
    if any(name in REFERENCES for name in names):
        lines.append("optimal: exact solutions, which see all that the judge knows")
    if any(name.endswith("-oracle") for name in names):
        lines.append(
            "oracle: learns from the landscape itself; soft: log-sum-exp backup, in agents that act that of "
            "double Q-learning"
        )
    lines.append(
        "sees: offline = labelled compositions alone, model-based = also a model of them, oracle and "
        "reference = the landscape that all are judged by; labels: DFT or training energies used"
    )
    chosen: dict[str, list[str]] = {}
    for name, group in _any_judge(view).items():
        if word := chosen_by(group):
            chosen.setdefault(word, []).append(names[name])
    if chosen:
        lines.append(
            "hyperparameters chosen by "
            + "; ".join(f"{word}: {', '.join(who)}" for word, who in chosen.items())
        )
    return lines
