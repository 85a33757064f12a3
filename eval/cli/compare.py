"""Commands that compare models: ``compare``, ``reproduce``, and what shows their stored runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
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
    Preset,
    Reference,
    Retrain,
    Seed,
    Seeds,
    SpaceName,
    TargetClass,
    Trust,
)


class Reproducible(StrEnum):
    """A table or figure of the paper, or our agent against its best models."""

    TABLE1 = "table1"
    TABLE2 = "table2"
    AGENT1 = "agent1"
    AGENT5 = "agent5"
    OFFLINE1 = "offline1"
    FIGURE8 = "figure8"


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
        typer.Option("--agent", help="Agent (.zip) of your own to include; repeat for more."),
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
    _study(COMPARE, [plan], store, workers, retrain, out, samples=True)


def reproduce(
    name: Annotated[
        Reproducible,
        typer.Argument(
            help="A table of the paper; figure8: the influence of the training set's size; agent1, agent5: "
            "the model-based agent against the best of the paper's models in class 1 and 5; offline1: the "
            "soft DQN that sees the data alone against the paper's DQN."
        ),
    ],
    data: Data = "dft",
    seeds: Annotated[int, typer.Option(help="Seeds; 0 = the number that the targets name.")] = 0,
    n_samples: Annotated[int, typer.Option(help="Valid samples; 0 = the number that the targets name.")] = 0,
    judges: Judges = None,
    device: Device = "cpu",
    jobs: Jobs = 0,
    cluster: Cluster = "",
    retrain: Retrain = False,
    out: Annotated[Path | None, typer.Option(help="Folder for runs and results.")] = None,
) -> None:
    """Hold a table of the paper against training runs: target, measured, verdict.

    figure8 has no targets: it shows the figures at every size.
    """
    from eval.study.present import SIZES
    from eval.study.reproduce import make_plan
    from eval.study.sizes import plans

    common.at_least("--seeds", seeds, 0)
    common.at_least("--n-samples", n_samples, 0)
    plan = make_plan(
        name.value, data=data, n_seeds=seeds, n_samples=n_samples, device=device, judges=_judges(judges)
    )
    training_set = plan.check()
    workers = common.workers(jobs, cluster)
    out = out or Path(f"results-{name.value}")
    store = _store(out)
    common.say(f"training set: {training_set.name} ({len(training_set):,} rows)")
    all_plans = plans(plan, training_set) if name.value == SIZES else [plan]
    _study(name.value, all_plans, store, workers, retrain, out)


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
    common.console.print(table)


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder that `elpa compare` or `elpa reproduce` filled.")],
) -> None:
    """List the runs that a folder holds."""
    from eval.study.store import Store

    store = Store.existing(folder)
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
    name: str, plans: list[Any], store: Any, workers: Any, retrain: bool, out: Path, *, samples: bool = False
) -> None:
    """Make what the plans lack, and show it."""
    from eval.study.present import present
    from eval.study.study import Study, make_part, view
    from eval.study.views import write_samples

    how: dict[str, Any] = {"console": common.console, "retrain": retrain}
    try:
        study = Study(name, tuple(make_part(plan, store, workers, **how) for plan in plans))
    except KeyboardInterrupt:
        common.warn("what is finished is kept: the same command goes on from there")
        raise
    study.save(store)
    if samples:
        for part in study.parts:
            write_samples(view(part, store), store)
    common.console.print(present(study, store, width=common.console.width))
    common.say(f"results in {out}")


COMMANDS: Final[tuple[Callable[..., None], ...]] = (compare, reproduce, show, runs)
