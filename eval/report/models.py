"""Sections on models: their figures in tables, and the pictures of what they generate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.judge import Judge
from eval.metrics import METRICS, coverage_ceiling
from eval.report.blocks import Block, Section, Table, Words
from eval.report.chapters import Chapter
from eval.report.elements import elements_pictures
from eval.report.energies import energies_picture
from eval.report.growth import curves_pictures
from eval.report.points import coverage_picture, paper_of
from eval.study.reproduce import RECIPES
from eval.study.scores import Scored
from eval.study.store import Store
from eval.study.study import View, summarise
from eval.study.tables import FURTHER, chosen_by
from eval.study.targets import COLUMNS, verdict_rows


def chapter_section(chapter: Chapter, store: Store) -> Section:
    """Everything on the runs of a chapter."""
    return Section(chapter.title, [*_blocks(chapter, store)])


def _blocks(chapter: Chapter, store: Store) -> Iterator[Block]:
    shown = chapter.view
    yield Words(_lead(chapter))
    for judge in shown.judges:
        yield results(shown, judge)
    yield coverage_picture(shown)
    yield energies_picture(shown)
    yield from elements_pictures(shown)
    yield from curves_pictures(shown, store)
    yield access(shown)
    yield from _verdicts(chapter)


def _lead(chapter: Chapter) -> str:
    shown = chapter.view
    rows = f"{shown.training_set.name} ({len(shown.training_set):,} rows)"
    text = (
        f"Space {shown.judges[0].space.name}; trained on {rows}, preset {shown.plan.preset}. "
        "Figures are means over the seeds, ± the standard deviation."
    )
    if chapter.further:
        text += f" Also in this folder, and shown here: {', '.join(chapter.further)}."
    return text


def results(shown: View, judge: Judge) -> Table:
    """The metrics of every model under a judge, a row a model; the paper's figures below them."""
    paper = paper_of(shown.plan)
    rows, faint = [], set()
    for name, group in shown.groups[judge.name].items():
        summary = summarise(group)
        cells = (metric.show_mean(*summary[key]) for key, metric in METRICS.items())
        rows.append((group[0].title, *cells, str(len(group))))
        if name in paper:
            faint.add(len(rows))
            reported = (
                metric.show_paper(*paper[name][key]) if key in paper[name] else ""
                for key, metric in METRICS.items()
            )
            rows.append((f"{group[0].title}, paper", *reported, "50"))
    columns = ["model", *(metric.short_heading for metric in METRICS.values()), "seeds"]
    return Table(f"Results, judge {judge.name}", columns, rows, _ceiling(shown, judge), faint)


def _ceiling(shown: View, judge: Judge) -> str:
    """What the figures under a judge can be held against."""
    plan = shown.plan
    members = int(judge.class_counts[plan.target_class])
    best = METRICS["coverage"].show(coverage_ceiling(members, plan.n_samples))
    return (
        f"The judge: {judge.what}. Of {plan.target} it knows {members:,} compositions; {plan.n_samples:,} "
        f"independent samples cover at most {best} of them on average."
    )


def access(shown: View) -> Table:
    """What every model saw, what chose its hyperparameters, and what it cost."""
    columns = ["model", *FURTHER, "hyperparameters chosen by"]
    rows = [
        (group[0].title, *(value(group) for value in FURTHER.values()), chosen_by(group))
        for group in any_judge(shown).values()
    ]
    note = (
        "Means over the seeds. Offline saw labelled compositions alone, model-based also a model of them, "
        "oracle and reference the energies that all are judged by. Labels: energies of the training set that "
        "were used, those of one compound counted once; queries: compositions asked about, repeats included."
    )
    return Table("What each model saw, and what it cost", columns, rows, note)


def _verdicts(chapter: Chapter) -> Iterator[Table]:
    """What was to be reached, and whether it was."""
    for recipe in (RECIPES[name] for name in chapter.recipes if name in RECIPES):
        for judge in chapter.view.judges:
            if rows := verdict_rows(recipe.targets, chapter.view, judge.name):
                yield Table(f"{recipe.title}: targets, judge {judge.name}", COLUMNS, rows)


def any_judge(shown: View) -> Mapping[str, Sequence[Scored]]:
    """Runs by model; what does not depend on the judge is read off these."""
    found: dict[str, Any] = {}
    for groups in shown.groups.values():
        found = {**groups, **found}
    return found
