"""The command that searches hyperparameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from elpa_env.files import check_target, write_json
from eval.cli import common
from eval.cli.common import Augment, Data, Device, Overwrite, Preset, Seed, SpaceName, TargetClass


def search(
    model: Annotated[
        str,
        typer.Argument(
            help="vae, gan, autoregressive, diffusion, gflownet, dqn and its variants, an agent that acts, "
            "such as dqn-soft-model, or reward-model: the reward model of these by itself."
        ),
    ],
    n_trials: Annotated[int, typer.Option(help="Complete trials that the storage is to hold.")] = 20,
    storage: Annotated[
        str,
        typer.Option(
            help="File that processes share, or a database that machines share (postgresql://...); "
            "search-MODEL.journal by default."
        ),
    ] = "",
    show: Annotated[bool, typer.Option("--show", help="Only print and draw what the storage holds.")] = False,
    sampler: Annotated[str, typer.Option(help="random, tpe or nsgaii.")] = "random",
    held_out: Annotated[
        float, typer.Option(help="Share of the compounds that trials do not train on and are judged on.")
    ] = 0.0,
    finalists: Annotated[int, typer.Option(help="The best trials, which are trained again.")] = 5,
    repeats: Annotated[
        int,
        typer.Option(help="How often: with other seeds and other rows held out; the best mean is picked."),
    ] = 2,
    n_samples: Annotated[int, typer.Option(help="Valid samples that a trial draws.")] = 10_000,
    preset: Preset = "default",
    space: SpaceName = "elpasolite",
    data: Data = "",
    target_class: TargetClass = "1",
    augment: Augment = True,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="JSON file to write; a picture stands beside it.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Search hyperparameters by what the training set alone can tell; an interrupted search goes on.

    Several of these commands at once, on one machine or many, share the trials of one storage.
    """
    from eval.figures import draw_search
    from eval.search import (
        SearchPlan,
        default_storage,
        existing_study,
        open_study,
        run_trials,
        search_points,
        search_record,
        search_table,
    )
    from eval.study.plan import check_device

    target = check_target(out, overwrite=overwrite, kind="file") if out else None
    storage = storage or default_storage(model)
    if show:
        study: Any = existing_study(storage, model)
    else:
        common.at_least("--n-trials", n_trials, 1)
        common.seed_range(seed, 1)
        check_device(device)
        benchmark, number = common.benchmark(space, target_class)
        plan = SearchPlan(model, preset, number, n_samples, held_out, seed)
        training_set = common.training_set(data, augment, benchmark)
        open_study(storage, plan, training_set)

        def report(done: int, wanted: int, line: str) -> None:
            common.say(f"{done}/{wanted} {line}")

        try:
            how: dict[str, Any] = {"sampler": sampler, "finalists": finalists, "repeats": repeats}
            run_trials(storage, plan, training_set, n_trials, device=device, report=report, **how)
        except KeyboardInterrupt:
            common.warn("what is finished is kept: the same command goes on from there")
            raise
        study = existing_study(storage, model)
    common.console.print(search_table(study))
    if target:
        record = search_record(study)
        write_json(target, record)
        draw_search(target.with_suffix(".png"), {model: search_points(record)}, title=f"Search of {model}")
        common.say(f"results in {out}")


COMMANDS: Final[tuple[Callable[..., None], ...]] = (search,)
