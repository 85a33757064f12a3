"""Commands that compare models: ``compare``, ``reproduce``, and what shows their stored runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from elpa_env.errors import InputError
from elpa_env.files import check_target
from eval.cli import common
from eval.cli.common import (
    AgentMasking,
    Augment,
    Cluster,
    Data,
    Device,
    Jobs,
    Judges,
    NSamples,
    Overwrite,
    Preset,
    Reference,
    Retrain,
    Seed,
    Seeds,
    SpaceName,
    TargetClass,
    Trust,
)


def compare(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Model to include, or a class of your own as module:Class; repeat for more. By default the "
            "paper's three, our best agent and the baselines.",
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="All models: also the DQN with every backup, offline, against a reward model, as an oracle.",
        ),
    ] = False,
    agents: Annotated[
        list[str] | None,
        typer.Option(
            "--agent",
            help="Agent (.zip) of your own to include, or pretrained, the one that ships; repeat for more.",
        ),
    ] = None,
    masking: AgentMasking = None,
    trust: Trust = False,
    reference: Reference = True,
    space: SpaceName = "elpasolite",
    data: Data = "",
    target_class: TargetClass = "1",
    n_samples: NSamples = None,
    preset: Preset = "",
    judges: Judges = None,
    seed: Seed = 0,
    seeds: Seeds = 1,
    device: Device = "cpu",
    jobs: Jobs = 0,
    cluster: Cluster = "",
    augment: Augment = True,
    retrain: Retrain = False,
    out: Annotated[
        Path, typer.Option(help="Folder for runs and results; runs that it holds are used again.")
    ] = Path("results"),
) -> None:
    """Train the models, draw samples from each, and print the paper's table.

    The folder only grows: another model, more seeds, another class or number of samples adds runs to it, and
    what is there is not trained again. An interrupted comparison goes on where it was.
    """
    from eval.study.plan import Plan
    from eval.study.registry import BASIC, MODELS, REFERENCES
    from eval.study.study import COMPARE

    benchmark, target = common.benchmark(space, target_class)
    preset = preset or benchmark.preset
    if everything and models:
        raise InputError("--all includes every model: leave out --model")
    if everything:
        chosen = [name for name in MODELS if name not in REFERENCES and _has(name, preset)]
    else:
        chosen = models or [name for name in BASIC if _has(name, preset)]
    names = [*chosen, *map(common.agent_path, agents or ()), *(REFERENCES if reference else ())]
    plan = Plan(
        models=tuple(dict.fromkeys(names)),
        seeds=common.seed_range(seed, seeds),
        data=data,
        target_class=target,
        n_samples=benchmark.n_samples if n_samples is None else n_samples,
        preset=preset,
        device=device,
        augment=augment,
        space=str(Path(space).resolve()) if space.endswith(".toml") else space,
        masking=masking,
        judges=_judges(judges, benchmark),
        trust=trust,
    )
    training_set = plan.check()
    workers = common.workers(jobs, cluster)
    store = _store(out)
    common.say(f"training set: {training_set.name} ({len(training_set):,} rows)")
    _study({COMPARE: [plan]}, store, workers, retrain, out, samples=True)


def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            help="table1, table2, tableS2, tableS3; figure1, figure2, figure4 to figure8, figureS3; "
            "section33: what a discovery costs; figureS4, tableS5 to tableS7: the searches of "
            "hyperparameters; agent1, agent5: our agent against the best of the paper's models; offline1: "
            "the soft DQN that sees the data alone against the paper's DQN; all of them: all."
        ),
    ],
    data: Data = "dft",
    seeds: Annotated[
        int,
        typer.Option(
            help="Seeds; 0 = what each table or figure names: 5, 3, or 1. The paper has 50. Beside the "
            "paper's models our agent gets at most 10; with all, training sets of growing size keep 3."
        ),
    ] = 0,
    n_samples: Annotated[
        int, typer.Option(help="Valid samples; 0 = the number that each table or figure names.")
    ] = 0,
    judges: Judges = None,
    device: Device = "cpu",
    jobs: Jobs = 0,
    cluster: Cluster = "",
    retrain: Retrain = False,
    stored: Annotated[
        bool,
        typer.Option(
            "--stored", help="Show what the folder holds, whichever version made it; nothing is trained."
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for runs and results; one serves all names.")] = Path(
        "results-paper"
    ),
) -> None:
    """Make a table or figure of the paper from training runs: measured beside reported, with a verdict.

    Runs that the folder holds are used again, whichever table they were made for. Everything that was made
    is also put together in reproduction.md.
    """
    from eval.study.reproduce import ALL, RECIPES, names_of, plans_of

    if name not in (*RECIPES, ALL):
        raise InputError(f"nothing is called {name!r}: choose from {', '.join(RECIPES)}, or {ALL}")
    common.at_least("--seeds", seeds, 0)
    common.at_least("--n-samples", n_samples, 0)
    if stored and retrain:
        raise InputError("--stored trains nothing and --retrain does: leave one out")
    chosen = _judges(judges)
    plans = {}
    for one in names_of(name):
        grows = name == ALL and RECIPES[one].grows
        how: dict[str, Any] = {"n_seeds": 0 if grows else seeds, "n_samples": n_samples}
        plans[one] = plans_of(one, data=data, device=device, judges=chosen, **how)
    checked = [plan.check() for group in plans.values() for plan in group if plan.models]
    training_set = checked[0] if checked else common.training_set(data, augment=True)
    workers = common.workers(jobs, cluster)
    store = _store(out)
    common.say(f"training set: {training_set.name} ({len(training_set):,} rows)")
    _study(plans, store, workers, retrain, out, stored=stored)


def show(
    folder: Annotated[Path, typer.Argument(help="Folder that `elpa compare` or `elpa reproduce` filled.")],
    judges: Judges = None,
) -> None:
    """Print the tables of stored runs anew, and make their files and pictures; nothing is trained.

    With --judge the same runs are scored by another one.
    """
    from dataclasses import replace

    from eval.study.present import present
    from eval.study.store import Store
    from eval.study.study import Study, with_references

    store = Store.existing(folder)
    study = Study.load(folder)
    if judges:
        study = study.judged_by(tuple(dict.fromkeys(judges)))
        parts = tuple(with_references(part, store, console=common.console) for part in study.parts)
        study = replace(study, parts=parts)
    table = present(study, store, width=common.console.width)
    study.save(store)
    _page(folder)
    common.console.print(table)


def report(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder that `compare`, `reproduce`, `frontier` or `discover benchmark` filled."),
    ],
) -> None:
    """Write report.html into a folder: tables and pictures of what it holds, in one page."""
    from eval.report import write_page

    common.say(f"report: {write_page(folder)}")


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder that `elpa compare` or `elpa reproduce` filled.")],
    export: Annotated[
        Path | None,
        typer.Option(help="File to write: records of the runs with their figures, without samples."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="Export the runs of this model alone; repeat for more."),
    ] = None,
    bring: Annotated[
        list[Path] | None,
        typer.Option("--import", help="File of records whose runs the folder gains; repeat for more."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """List the runs that a folder holds, write their records into a file, or read such files."""
    from eval.study.records import export_records, import_records
    from eval.study.store import Store

    if bring:
        store = _store(folder)
        for path in bring:
            common.say(f"{path}: {import_records(path, store)} runs")
    store = Store.existing(folder)
    if export:
        target = check_target(export, overwrite=overwrite, kind="file")
        number = export_records(store, target, models=models or ())
        common.say(f"records of {number} runs: {export}")
        return
    if models:
        raise InputError("--model goes with --export")
    table = Table(box=SIMPLE_HEAD, caption_justify="left")
    for title in (
        "run",
        "model",
        "preset",
        "space",
        "class",
        "seed",
        "trained on",
        "samples",
        "training / s",
        "finished",
    ):
        wide = title == "trained on"
        table.add_column(title, no_wrap=not wide, max_width=40 if wide else None)
    records = list(store.records())
    for record in records:
        target = record["target_class"]
        drawn = store.drawn(record["key"])
        table.add_row(
            record["key"],
            escape(record["name"]),
            escape(record["preset"] or ""),
            escape(str(record.get("space", ""))),
            "any" if target is None else str(target),
            str(record["seed"]),
            escape(record["training_set"]["name"]),
            ", ".join(f"{c}: {'any' if n is None else format(n, ',')}" for c, n in drawn),
            f"{record['train_seconds']:.0f}",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(record["finished"])),
        )
    table.caption = f"{len(records)} runs; samples by class: any = the distribution itself is kept"
    common.console.print(table)


def _has(name: str, preset: str) -> bool:
    """Whether a model has that preset, or has none at all."""
    from eval.study.registry import MODELS

    return not MODELS[name].presets or preset in MODELS[name].presets


def _judges(judges: list[str] | None, benchmark: Any = None) -> tuple[str, ...]:
    """Who scores; by default the judge of the space."""
    from elpa_env.catalogue import load_space
    from eval.judge import HELD_OUT, default_judge

    found = benchmark or load_space()
    usual = [default_judge(found)]
    if found.energies is not None:
        usual.append(HELD_OUT)
    return tuple(dict.fromkeys(judges or usual))


def _store(out: Path) -> Any:
    """The store in a folder, which can be written to."""
    from eval.study.store import Store

    return Store(check_target(out, overwrite=True, kind="folder"))


def _study(
    plans: Mapping[str, Sequence[Any]],
    store: Any,
    workers: Any,
    retrain: bool,
    out: Path,
    *,
    samples: bool = False,
    stored: bool = False,
) -> None:
    """Make what the plans of each recipe lack, and show it."""
    from eval.study.present import present
    from eval.study.study import Study, make_part, stored_part, view
    from eval.study.views import write_samples

    parts = []
    made: set[str] = set()
    try:
        for recipe, group in plans.items():
            for plan in group:
                if stored:
                    part = stored_part(plan, store, recipe=recipe)
                else:
                    how: dict[str, Any] = {"console": common.console, "retrain": retrain, "made": made}
                    part = make_part(plan, store, workers, recipe=recipe, **how)
                if part is not None:
                    parts.append(part)
    except KeyboardInterrupt:
        common.warn("what is finished is kept: the same command goes on from there")
        raise
    if not parts:
        raise InputError(f"{out} holds no run of {', '.join(plans)}: leave out --stored")
    study = Study(tuple(parts))
    study.save(store)
    if samples:
        for part in study.parts:
            write_samples(view(part, store), store)
    common.console.print(present(study, store, width=common.console.width))
    _page(out)
    common.say(f"results in {out}")


def _page(out: Path) -> None:
    """Write the folder's page; a line where that cannot be, without which all else is there."""
    from eval.report import write_page

    try:
        write_page(out)
    except InputError as error:
        common.say(f"no report.html: {error}")


COMMANDS: Final[tuple[Callable[..., None], ...]] = (compare, reproduce, show, report, runs)
