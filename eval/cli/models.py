"""Commands that make, sample and score single models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from elpa_env.classes import check_target_class
from elpa_env.errors import InputError
from elpa_env.files import atomic_folder, atomic_path, check_target, write_text
from eval.cli import common
from eval.cli.common import (
    AgentMasking,
    Augment,
    Data,
    Device,
    Judge,
    NSamples,
    Overwrite,
    Preset,
    Reference,
    Seed,
    TargetClass,
    Trust,
)
from eval.progress import progress_bar

_PAPER: Final = "paper"


def train(
    model: Annotated[
        str,
        typer.Argument(
            help="vae, gan; offline: dqn, dqn-max, dqn-soft; against a reward model: dqn-max-model, "
            "dqn-double-model, dqn-soft-model, dqn-soft-any; against the landscape: dqn-max-oracle, "
            "dqn-double-oracle, dqn-soft-oracle; or a class of your own as module:Class."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")],
    data: Data = "landscape",
    target_class: TargetClass = 1,
    preset: Preset = "default",
    seed: Seed = 0,
    device: Device = "cpu",
    augment: Augment = True,
    overwrite: Overwrite = False,
) -> None:
    """Train one model and save it.

    vae, gan and dqn-soft-any learn all classes at once, whatever --target-class says. Oracles learn from the
    landscape, whatever --data says.
    """
    from elpa_env.sampler import access_of
    from eval.study.plan import check_device, hyperparameters
    from eval.study.registry import Task, model_spec

    spec = model_spec(model)
    if not spec.suffix:
        raise InputError(f"{model} leaves no checkpoint: draw from it with `elpa sample {model}`")
    chosen = hyperparameters(model, preset)
    check_target_class(target_class)
    common.seed_range(seed, 1)
    check_device(device)
    if out.suffix != spec.suffix:
        raise InputError(f"the checkpoint of a {spec.name} ends in {spec.suffix}, got {out}")
    target = check_target(out, overwrite=overwrite, kind="file")
    training_set = common.training_set(data, augment)
    with progress_bar(common.console, f"training {spec.name}") as progress:
        config = None if chosen is None else chosen.config
        sampler: Any = spec.train(Task(config, training_set, target_class, seed, device, progress))
    sampler.save(target)
    oracle = access_of(sampler).kind == "oracle"
    common.say(f"{spec.name} trained on {'the landscape itself' if oracle else training_set.name}: {out}")


def sample(
    model: Annotated[
        str,
        typer.Argument(
            help="A checkpoint, or what needs none: random, sites, pairs, optimal-hard, optimal-soft."
        ),
    ],
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    kind: Annotated[
        str | None,
        typer.Option("--model", help="Class of your own that reads the checkpoint, as module:Class."),
    ] = None,
    target_class: TargetClass = 1,
    n_samples: NSamples = 10_000,
    data: Data = "landscape",
    judge: Judge = _PAPER,
    seed: Seed = 0,
    device: Device = "cpu",
    unique: Annotated[
        bool,
        typer.Option(
            "--unique",
            help="Different compounds alone, in the order in which they would first appear; ABCD and BACD "
            "are one compound.",
        ),
    ] = False,
    novel: Annotated[
        bool, typer.Option("--novel", help="Of these, compounds alone that the training set lacks.")
    ] = False,
    trust: Trust = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw valid samples from a trained model, with energy, class and novelty."""
    import numpy as np

    from elpa_env.sampler import check_n_samples
    from elpa_env.space import N_TABLE
    from eval.judge import load_judge
    from eval.scoring import draw_unique, draw_valid, sample_table

    check_target_class(target_class)
    check_n_samples(n_samples)
    common.seed_range(seed, 1)
    judged = load_judge(judge)
    target = check_target(out, overwrite=overwrite, kind="file")
    training_set = common.training_set(data, augment=True)
    sampler = _sampler(model, training_set, target_class, device, kind, judge, trust)
    seen = np.zeros(N_TABLE, dtype=bool)
    with progress_bar(common.console, "sampling") as progress, atomic_path(target) as path:
        draw: dict[str, Any] = {"target_class": target_class, "seed": seed, "progress": progress}
        if unique or novel:
            novel_to = training_set if novel else None
            chunks: Iterable[Any] = [draw_unique(sampler, n_samples, novel_to=novel_to, **draw)]
        else:
            chunks = (chunk for chunk, _ in draw_valid(sampler, n_samples, **draw))
        with path.open("w", encoding="utf-8", newline="") as file:
            for number, index in enumerate(chunks):
                table = sample_table(index, judge=judged, training_set=training_set, seen=seen)
                table.to_csv(file, index=False, header=number == 0, lineterminator="\n")
    kind_of = "different compounds" if unique or novel else "samples"
    common.say(f"{n_samples:,} {kind_of}: {out}; novelty against: {training_set.name}; judge: {judged.name}")
    trained_on = getattr(getattr(sampler, "model", sampler), "trained_on", None)
    if trained_on and trained_on["sha256"] != training_set.sha256:
        common.warn(f"the model was trained on other rows ({trained_on['name']}): name them with --data")


def score(
    file: Annotated[
        Path | None, typer.Argument(help="CSV with a column formula, or Z_A, Z_B, Z_C, Z_D.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Agent (.zip) to score instead.")] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(help="Its class: PPO, MaskablePPO, ... or module:Class; guessed by default."),
    ] = None,
    mode: Annotated[str | None, typer.Option(help="How it acts: stochastic, greedy or boltzmann.")] = None,
    beta: Annotated[float | None, typer.Option(help="Inverse temperature for boltzmann.")] = None,
    masking: AgentMasking = None,
    trust: Trust = False,
    n_samples: Annotated[
        int | None, typer.Option(help="Valid samples to draw from the agent; 10,000 by default.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of those draws; 0 by default.")] = None,
    device: Device = "cpu",
    target_class: TargetClass = 1,
    data: Data = "landscape",
    judge: Judge = _PAPER,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score samples that anybody's model made, or an agent that Stable-Baselines3 saved."""
    from eval.judge import load_judge

    check_target_class(target_class)
    if (file is None) == (agent is None):
        raise InputError("name a CSV file to score, or an agent with --agent model.zip")
    chosen = {"algorithm": algorithm, "mode": mode, "beta": beta, "masking": masking}
    for option, value in {**chosen, "n-samples": n_samples, "seed": seed}.items():
        if file is not None and value is not None:
            raise InputError(f"--{option} goes with --agent, not with a file of samples")
    target = check_target(out, overwrite=overwrite, kind="file") if out else None
    judged = load_judge(judge)
    training_set = common.training_set(data, augment=True)
    how: dict[str, Any] = {"judge": judged, "target_class": target_class, "training_set": training_set}
    if file is not None:
        name, result, exact = _score_file(file, how)
    else:
        chosen["trust"] = trust
        name, result, exact = _score_agent(str(agent), n_samples, seed, device, chosen, how)
    common.console.print(_score_table(name, result, exact, target_class, training_set.name, judged))
    if target:
        record = {
            "schema_version": 2,
            "file": name,
            "target_class": target_class,
            "judge": judged.record(),
            "training_set": training_set.record(),
            **result.as_dict(),
            "exact": None if exact is None else exact.as_dict(),
        }
        write_text(target, json.dumps(record, indent=1, allow_nan=False) + "\n")


def _score_file(file: Path, how: dict[str, Any]) -> tuple[str, Any, Any]:
    """Name and score of anybody's samples."""
    from eval.samples_csv import read_samples
    from eval.scoring import count_chunks, score_tally

    return file.name, score_tally(count_chunks(read_samples(file)), **how), None


def _score_agent(
    agent: str,
    n_samples: int | None,
    seed: int | None,
    device: str,
    chosen: dict[str, Any],
    how: dict[str, Any],
) -> tuple[str, Any, Any]:
    """Name, score and exact score of an agent."""
    from elpa_env.sampler import check_n_samples
    from eval.exact import evaluate

    number = 10_000 if n_samples is None else n_samples
    check_n_samples(number)
    (first,) = common.seed_range(seed or 0, 1)
    sampler = common.agent(agent, how["target_class"], device, **chosen)
    with progress_bar(common.console, "sampling") as progress:
        found = evaluate(sampler, number, seed=first, progress=progress, **how)
    return sampler.name, found.score, found.exact


def _score_table(
    name: str, result: Any, exact: Any, target_class: int, training_set: str, judge: Any
) -> Table:
    """A score as a table, what was sampled beside what is exact if that is known."""
    from eval.metrics import METRICS

    caption = f"novelty against: {training_set}; judge {judge.name}: {judge.what}"
    if exact is not None:
        caption += "\nexact: from the distribution; coverages and counts are expected ones"
    table = Table(
        title=escape(f"{name}: {result.n_valid:,} samples for class {target_class}"),
        caption=escape(caption),
        caption_justify="left",
    )
    table.add_column("")
    table.add_column("" if exact is None else "sampled", justify="right")
    if exact is not None:
        table.add_column("exact", justify="right")
    scores = [result] if exact is None else [result, exact]
    for key, metric in METRICS.items():
        table.add_row(metric.title, *(metric.show(one.metrics[key]) for one in scores))
    table.add_row("valid", *(f"{one.valid_fraction * 100:.2f} %" for one in scores))
    for title in ("novel", "rediscovered", "repeated"):
        table.add_row(title, *(f"{getattr(one, title):,.0f}" for one in scores))
    if exact is not None:
        table.add_row("success rate", "", f"{exact.success_rate * 100:.2f} %")
        table.add_row("entropy", "", f"{exact.entropy_bits:.2f} bits")
        table.add_row("effective compositions", "", f"{exact.effective_compositions:,.0f}")
    return table


def solve(
    target_class: TargetClass = 1,
    beta: Annotated[float, typer.Option(help="Inverse temperature of the Boltzmann policy.")] = 5.0,
    gamma: Annotated[float, typer.Option(help="Discount factor, above 0, at most 1.")] = 1.0,
    n_samples: Annotated[int, typer.Option(help="Valid samples, on which coverage depends.")] = 10_000,
    masking: Annotated[
        str, typer.Option(help="Open actions: digits, or composition, which leads to real ones alone.")
    ] = "composition",
    judge: Judge = _PAPER,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Solve the environment exactly: what an agent that learned everything would draw."""
    from elpa_env.sampler import check_n_samples
    from eval.exact import exact_table, solve_class
    from eval.judge import load_judge

    check_n_samples(n_samples)
    target = check_target(out, overwrite=overwrite, kind="file") if out else None
    record = solve_class(
        target_class, judge=load_judge(judge), beta=beta, gamma=gamma, n_samples=n_samples, masking=masking
    )
    common.console.print(exact_table(record))
    if target:
        write_text(target, json.dumps(record, indent=1, allow_nan=False) + "\n")
        common.say(f"results in {out}")


def frontier(
    agents: Annotated[list[str], typer.Argument(help="Agents (.zip) with Q-values.")],
    target_class: TargetClass = 1,
    n_samples: Annotated[int, typer.Option(help="Valid samples, on which coverage depends.")] = 10_000,
    betas: Annotated[str, typer.Option(help="Values of beta, in the order of the curve.")] = (
        "0,1,2,3,5,8,12,20,inf"
    ),
    masking: AgentMasking = None,
    trust: Trust = False,
    reference: Reference = True,
    judge: Judge = _PAPER,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("frontier"),
    overwrite: Overwrite = False,
) -> None:
    """Precision against coverage of trained agents as beta varies, exactly and without training again."""
    from elpa_env.sampler import check_n_samples
    from eval.frontier import check_betas, frontier_table, sweep_agents, write_frontier
    from eval.judge import load_judge

    check_target_class(target_class)
    check_n_samples(n_samples)
    values = check_betas(betas)
    judged = load_judge(judge)
    target = check_target(out, overwrite=overwrite, kind="folder")
    samplers = [common.agent(path, target_class, device, masking=masking, trust=trust) for path in agents]
    with progress_bar(common.console, "following the policies") as progress:
        record = sweep_agents(
            samplers,
            values,
            judge=judged,
            target_class=target_class,
            n_samples=n_samples,
            reference=reference,
            progress=progress,
        )
    with atomic_folder(target) as folder:
        write_frontier(record, folder)
    common.console.print(frontier_table(record))
    common.say(f"results in {out}")


def reward_model(
    data: Data = "landscape",
    seed: Seed = 0,
    augment: Augment = True,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fit the reward model of the model-based agents, and say how right and how sure of itself it is."""
    from agents.reward_model import RewardModel
    from eval.calibration import SCHEMA_VERSION, calibration_tables

    common.seed_range(seed, 1)
    target = check_target(out, overwrite=overwrite, kind="file") if out else None
    training_set = common.training_set(data, augment)
    with progress_bar(common.console, "fitting the reward model") as progress:
        report = RewardModel(seed=seed).fit(training_set, progress).report
    common.console.print(calibration_tables(report, f"Reward model of {training_set.name}, seed {seed}"))
    if target:
        record = {"schema_version": SCHEMA_VERSION, "training_set": training_set.record(), "seed": seed}
        write_text(target, json.dumps({**record, **report}, indent=1) + "\n")
        common.say(f"results in {out}")


def _sampler(
    model: str,
    training_set: Any,
    target_class: int,
    device: str,
    kind: str | None,
    judge: str,
    trust: bool,
) -> Any:
    """What needs no training by name, or what a checkpoint holds."""
    from eval.study.plan import check_device
    from eval.study.registry import MODELS, Task, load_sampler

    check_device(device)
    if model in MODELS and not MODELS[model].suffix:
        return MODELS[model].train(Task(None, training_set, 1, 0, device, judge=judge))
    return load_sampler(model, target_class=target_class, device=device, model=kind, trust=trust)


COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    train,
    sample,
    score,
    solve,
    frontier,
    reward_model,
)
