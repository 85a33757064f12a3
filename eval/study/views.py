"""What a comparison leaves for the next program and for the eye, made from stored runs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console, RenderableType

from elpa_env.files import write_json, write_text
from elpa_env.training import TrainingSet
from eval.figures import ModelPoint, draw_elements, draw_energies, draw_models
from eval.judge import Judge
from eval.metrics import coverage_ceiling, element_distribution, energy_histogram, js_distance
from eval.provenance import hardware, versions
from eval.scoring import sample_table
from eval.study.paper import TABLE_SAMPLES
from eval.study.scores import MAX_KEPT, Scored, stored_samples
from eval.study.store import Store
from eval.study.study import View, summarise
from eval.study.tables import comparison, paper_figures, seen

SCHEMA_VERSION: Final = 2
"""Of ``metrics.json``; raised whenever a key changes its meaning or goes."""
FILE_WIDTH: Final = 200
"""Characters of a line in ``table.txt``."""


def write_view(view: View, folder: Path) -> None:
    """Write ``metrics.json``, ``table.txt`` and three pictures a judge into `folder`."""
    write_json(folder / "metrics.json", record_of(view))
    write_table(folder / "table.txt", comparison(view, width=FILE_WIDTH), FILE_WIDTH)
    for number, judge in enumerate(view.judges):
        _draw(view, judge, folder, f"_{_plain(judge)}" if number else "")


def write_table(path: Path, table: RenderableType, width: int) -> None:
    """Write a table as text."""
    text = io.StringIO()
    Console(file=text, width=width, emoji=False, color_system=None, force_terminal=False).print(table)
    # names of files need not be UTF-8
    write_text(path, text.getvalue().encode("utf-8", "backslashreplace").decode())


def samples_file(name: str, seed: int, seeds: Sequence[int]) -> str:
    """Name of a run's samples: the first seed's is ``samples_<model>.csv``."""
    stem = f"samples_{name}"
    return f"{stem}.csv" if seed == seeds[0] else f"{stem}_seed{seed}.csv"


def write_samples(view: View, store: Store) -> None:
    """Write the samples of every run, the first million of each, as the first judge sees them."""
    judge, plan = view.judges[0], view.plan
    for name, group in view.first.items():
        for run in group:
            samples = stored_samples(store, run.record, plan.request)
            _, kept = samples.count(run.record, plan.request, judge.space, keep=MAX_KEPT)
            training_set = store.training_set(run.record["identity"]["training_set"])
            table = sample_table(kept, judge=judge, training_set=training_set)
            file = samples_file(name, run.record["seed"], plan.seeds)
            write_text(store.folder / file, table.to_csv(index=False))


def record_of(view: View) -> dict[str, Any]:
    """The content of ``metrics.json``."""
    plan, training_set, judge = view.plan, view.training_set, view.judges[0]
    return {
        "schema_version": SCHEMA_VERSION,
        "space": judge.space.name,
        "target": plan.target,
        "target_class": plan.target_class,
        "n_samples": plan.n_samples,
        "seeds": list(plan.seeds),
        "preset": plan.preset,
        "training_set": {**training_set.record(), "class_counts": training_set.class_counts.tolist()},
        "judges": {judge.name: _judged(view, judge) for judge in view.judges},
        "versions": versions(),
        "hardware": hardware(plan.device),
    }


def _judged(view: View, judge: Judge) -> dict[str, Any]:
    """The figures under one judge."""
    plan = view.plan
    distance = training_js_distance(view.training_set, plan.target_class, judge)
    models = {}
    for name, group in view.groups[judge.name].items():
        summary = {key: figure.as_dict() for key, figure in summarise(group).items()}
        models[name] = {
            "title": group[0].title,
            "mean": {key: figure["mean"] for key, figure in summary.items()},
            "std": {key: figure["std"] for key, figure in summary.items()},
            "runs": [_run(run) for run in group],
        }
    return {
        **judge.record(),
        "coverage_ceiling": _finite(
            coverage_ceiling(int(judge.class_counts[plan.target_class]), plan.n_samples)
        ),
        "training_js_distance_to_full_class": _finite(distance),
        "models": models,
    }


def _run(run: Scored) -> dict[str, Any]:
    """One run in ``metrics.json``."""
    record = run.record
    return {
        "key": record["key"],
        "seed": record["seed"],
        "config": record["identity"]["config"],
        "training_set": record["training_set"],
        "file_sha256": record["identity"].get("file"),
        "access": record["access"],
        "score": run.score,
        "exact": run.exact,
        "element_distribution": run.elements.tolist(),
        "train_seconds": record["train_seconds"],
        "versions": record["versions"],
        "hardware": record["hardware"],
    }


def _draw(view: View, judge: Judge, folder: Path, suffix: str) -> None:
    """The three pictures under one judge."""
    plan = view.plan
    draw_class_energies(view, judge, folder / f"figure_energies{suffix}.png")
    groups = view.groups[judge.name]
    paper = paper_figures(plan)
    draw_models(
        folder / f"figure_models{suffix}.png",
        {group[0].title: _point(group) for group in groups.values()},
        {
            f"{groups[name][0].title}, paper": (figures["coverage"].mean, figures["precision"].mean)
            for name, figures in paper.items()
            if plan.n_samples == TABLE_SAMPLES[plan.target_class] and name in groups
        },
        ceiling=coverage_ceiling(int(judge.class_counts[plan.target_class]), plan.n_samples),
        title=f"{plan.target.capitalize()}, {plan.n_samples:,} valid samples",
        caption=f"mean over seeds {', '.join(map(str, plan.seeds))}; {_trained(view, judge)}",
    )
    draw_class_elements(view, judge, folder / f"figure_elements{suffix}.png")


def _trained(view: View, judge: Judge) -> str:
    return f"trained on: {view.training_set.name}; judge: {judge.name}"


def _caption(view: View, judge: Judge) -> str:
    """Small print of a picture of the first seed."""
    plan = view.plan
    return f"{plan.n_samples:,} valid samples of seed {plan.seeds[0]}; {_trained(view, judge)}"


def _first(view: View, judge: Judge) -> dict[str, Scored]:
    """The first seed of every model."""
    return {name: group[0] for name, group in view.groups[judge.name].items()}


def draw_class_energies(view: View, judge: Judge, path: Path) -> None:
    """Fig. 5: energies of the unique samples of the first seed of every model."""
    first = _first(view, judge)
    bins = next(iter(first.values())).bins
    draw_energies(
        path,
        energy_histogram(view.training_set.energy, bins),
        {run.title: run.energies for run in first.values()},
        bins=bins,
        space=judge.space,
        target_class=view.plan.target_class,
        caption=_caption(view, judge),
    )


def draw_class_elements(view: View, judge: Judge, path: Path) -> None:
    """Fig. 6: elements on the sites, of the class and of the first seed of every model."""
    draw_elements(
        path,
        class_elements(view.training_set, view.plan.target_class, judge, _first(view, judge)),
        space=judge.space,
        target_class=view.plan.target_class,
        caption=_caption(view, judge),
    )


def _point(group: Sequence[Scored]) -> ModelPoint:
    summary = summarise(group)
    return ModelPoint(
        summary["coverage"].mean,
        summary["precision"].mean,
        summary["js_distance"].mean,
        seen(group, "kind"),
    )


def class_elements(
    training_set: TrainingSet, target_class: int, judge: Judge, first: Mapping[str, Scored]
) -> dict[str, Any]:
    """(S, n_elements) p(Z|S) of the full class, of the training set, and of every model."""
    found = {"full class": element_distribution(judge.space, judge.table_class == target_class)}
    in_class = training_set.index[training_set.energy_class == target_class]
    if len(in_class):
        found["training set"] = element_distribution(
            judge.space, np.bincount(in_class, minlength=judge.space.n_table)
        )
    return found | {run.title: run.elements for run in first.values()}


def training_js_distance(training_set: TrainingSet, target_class: int, judge: Judge) -> float:
    """JS distance of a class in the training set to the full class (Fig. 2 of the paper)."""
    in_class = training_set.index[training_set.energy_class == target_class]
    counts = np.bincount(in_class, minlength=judge.space.n_table)
    drawn = element_distribution(judge.space, counts)
    return js_distance(drawn, element_distribution(judge.space, judge.table_class == target_class))


def _plain(judge: Judge) -> str:
    """A judge's name for file names."""
    return judge.name if judge.name.isidentifier() else judge.sha256[:8]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
