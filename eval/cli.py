"""The command line: ``elpa``, or ``python -m eval``."""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from elpa_env.classes import check_target_class
from elpa_env.errors import InputError
from elpa_env.files import atomic_folder, write_text
from eval.progress import progress_bar

UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]
"""Wrong usage, in whatever copy of Click this version of Typer works with."""

console = Console() if sys.stdout.isatty() else Console(width=160)
errors = Console(stderr=True)

app = typer.Typer(
    help="Generate elpasolite compositions of a wanted stability, and score any generator of them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="The DFT table and the energy landscape.", no_args_is_help=True)
app.add_typer(data_app, name="data")

TargetClass = Annotated[int, typer.Option(help="Energy class 1-10 to aim at; 1 is the most stable.")]
NSamples = Annotated[int, typer.Option(help="Valid samples to draw.")]
Data = Annotated[
    str,
    typer.Option(
        help="Training set: 'landscape' (embedded), 'dft' (Faber et al. 2016, see `elpa data fetch`), "
        "or the path of a .csv or .pkl file."
    ),
]
Seed = Annotated[int, typer.Option(help="First seed.")]
Seeds = Annotated[int, typer.Option(help="Number of seeds; results become mean ± standard deviation.")]
Preset = Annotated[str, typer.Option(help="Hyperparameters: quick, default or paper.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or another torch device.")]
AgentMasking = Annotated[
    str | None,
    typer.Option(
        help="Masks for the agent to sample with: digits, composition or none; "
        "by default those that it is known to have learned with."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the models that an interrupted run finished.")
]
Jobs = Annotated[int, typer.Option(help="Models to train side by side; 0 = one a core.")]


class PaperTable(StrEnum):
    """A table of the paper, or the agent against its best models."""

    TABLE1 = "table1"
    TABLE2 = "table2"
    AGENT1 = "agent1"
    AGENT5 = "agent5"
    OFFLINE1 = "offline1"
    FIGURE8 = "figure8"


class ExportFormat(StrEnum):
    """A form in which others read offline data."""

    MINARI = "minari"


@app.command()
def compare(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Model to include; repeat for more. By default the paper's three and the baselines.",
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
        typer.Option("--agent", help="Agent (.zip) saved by Stable-Baselines3 to include; repeat for more."),
    ] = None,
    masking: AgentMasking = None,
    reference: Annotated[
        bool, typer.Option(help="Show the exact solutions of the environment as reference lines.")
    ] = True,
    data: Data = "landscape",
    target_class: TargetClass = 1,
    n_samples: NSamples = 10_000,
    preset: Preset = "default",
    seed: Seed = 0,
    seeds: Seeds = 1,
    device: Device = "cpu",
    jobs: Jobs = 0,
    augment: Annotated[bool, typer.Option(help="Add A/B swaps to the training set.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results"),
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Train the models, draw samples from each, and print the paper's table."""
    from eval.models import BASIC, MODELS, REFERENCES
    from eval.report import comparison, write_results
    from eval.run import Plan, check_partial, run_plan

    if everything and models:
        raise InputError("--all includes every model: leave out --model")
    chosen = [name for name in MODELS if name not in REFERENCES] if everything else models or BASIC
    names = [*chosen, *map(_agent_path, agents or ()), *(REFERENCES if reference else ())]
    plan = Plan(
        models=tuple(dict.fromkeys(names)),
        seeds=_seeds(seed, seeds),
        data=data,
        target_class=target_class,
        n_samples=n_samples,
        preset=preset,
        device=device,
        augment=augment,
        masking=masking,
    )
    training_set = plan.check()
    out, partial = _results_folder(out, overwrite)
    check_partial(plan, partial, resume=resume, overwrite=overwrite)
    _print(f"training set: {training_set.name} ({len(training_set):,} rows)")
    with _interruptible(partial):
        results = run_plan(plan, partial, n_jobs=_jobs(jobs), console=console, resume=resume)
        write_results(plan, results, training_set, partial)
    _publish(partial, out)
    console.print(comparison(plan, results, training_set, width=console.width))
    _print(f"results in {out}")


@app.command()
def reproduce(
    table: Annotated[
        PaperTable,
        typer.Argument(
            help="A table of the paper; figure8: the influence of the training set's size; agent1, agent5: "
            "the model-based agent against the best of the paper's models in class 1 and 5; offline1: the "
            "soft DQN that sees the data alone against the paper's DQN."
        ),
    ],
    data: Data = "dft",
    seeds: Annotated[int, typer.Option(help="Seeds; 0 = the number that the targets name.")] = 0,
    n_samples: Annotated[int, typer.Option(help="Valid samples; 0 = the number that the targets name.")] = 0,
    device: Device = "cpu",
    jobs: Jobs = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Hold a table of the paper against fresh training runs: target, measured, verdict.

    figure8 has no targets: it shows the figures at every size.
    """
    from eval.reproduce import make_plan, reproduce_table
    from eval.run import check_partial
    from eval.sizes import check_partials, plans, run_sizes

    _at_least("--seeds", seeds, 0)
    _at_least("--n-samples", n_samples, 0)
    plan = make_plan(table.value, data=data, n_seeds=seeds, n_samples=n_samples, device=device)
    training_set = plan.check()
    out, partial = _results_folder(out or Path(f"results-{table.value}"), overwrite)
    how: dict[str, Any] = {"n_jobs": _jobs(jobs), "folder": partial, "console": console, "resume": resume}
    if table is PaperTable.FIGURE8:
        sizes = plans(plan, training_set)
        check_partials(sizes, partial, resume=resume, overwrite=overwrite)
        with _interruptible(partial):
            rendered = run_sizes(sizes, training_set, **how)
    else:
        check_partial(plan, partial, resume=resume, overwrite=overwrite)
        with _interruptible(partial):
            rendered = reproduce_table(table.value, plan, training_set, **how)
    _publish(partial, out)
    console.print(rendered)
    _print(f"results in {out}")


@app.command()
def train(
    model: Annotated[
        str,
        typer.Argument(
            help="vae, gan; offline: dqn, dqn-max, dqn-soft; against a reward model: dqn-max-model, "
            "dqn-double-model, dqn-soft-model, dqn-soft-any; against the landscape: dqn-max-oracle, "
            "dqn-double-oracle, dqn-soft-oracle."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")],
    data: Data = "landscape",
    target_class: TargetClass = 1,
    preset: Preset = "default",
    seed: Seed = 0,
    device: Device = "cpu",
    augment: Annotated[bool, typer.Option(help="Add A/B swaps to the training set.")] = True,
    overwrite: Overwrite = False,
) -> None:
    """Train one model and save it.

    vae, gan and dqn-soft-any learn all classes at once, whatever --target-class says. Oracles learn from the
    landscape, whatever --data says.
    """
    from eval.models import Task, access_of, check_model
    from eval.run import check_device

    spec = check_model(model, preset)
    if not spec.suffix:
        raise InputError(f"{model} needs no training: draw from it with `elpa sample {model}`")
    check_target_class(target_class)
    _seeds(seed, 1)
    check_device(device)
    if out.suffix != spec.suffix:
        raise InputError(f"the checkpoint of a {model} ends in {spec.suffix}, got {out}")
    _check_free(out, overwrite)
    training_set = _training_set(data, augment)
    with progress_bar(console, f"training {model}") as progress:
        task = Task(spec.presets[preset], training_set, target_class, seed, device, progress)
        sampler: Any = spec.train(task)
    sampler.save(out)
    access = access_of(sampler, training_set)
    oracle = access is not None and access.kind == "oracle"
    _print(f"{model} trained on {'the landscape itself' if oracle else training_set.name}: {out}")


@app.command()
def sample(
    model: Annotated[
        str,
        typer.Argument(
            help="A checkpoint, or what needs none: random, sites, pairs, optimal-hard, optimal-soft."
        ),
    ],
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    target_class: TargetClass = 1,
    n_samples: NSamples = 10_000,
    data: Data = "landscape",
    seed: Seed = 0,
    device: Device = "cpu",
    unique: Annotated[
        bool,
        typer.Option(
            "--unique", help="Different compounds alone, in the order in which they would first appear."
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw valid samples from a trained model, with energy, class and novelty."""
    from eval.judge import load_judge
    from eval.scoring import draw_unique, draw_valid, sample_table

    check_target_class(target_class)
    _at_least("--n-samples", n_samples, 1)
    _seeds(seed, 1)
    _check_free(out, overwrite, file=True)
    training_set = _training_set(data, augment=True)
    sampler = _sampler(model, training_set, target_class, device)
    import numpy as np

    with progress_bar(console, "sampling") as progress:
        draw: dict[str, Any] = {"target_class": target_class, "seed": seed, "progress": progress}
        if unique:
            index = draw_unique(sampler, n_samples, **draw)
        else:
            index = np.concatenate([chunk for chunk, _ in draw_valid(sampler, n_samples, **draw)])
    table = sample_table(index, judge=load_judge(), training_set=training_set)
    write_text(out, table.to_csv(index=False))
    kind = "different compounds" if unique else "samples"
    _print(f"{n_samples:,} {kind}: {out}; novelty against: {training_set.name}")
    trained_on = getattr(getattr(sampler, "model", sampler), "trained_on", None)
    if trained_on and trained_on["sha256"] != training_set.sha256:
        _warn(f"the model was trained on other rows ({trained_on['name']}): name them with --data")


@app.command()
def score(
    file: Annotated[
        Path | None, typer.Argument(help="CSV with a column formula, or Z_A, Z_B, Z_C, Z_D.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(help="Agent (.zip) that Stable-Baselines3 saved, to score instead.")
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(help="Its class: PPO, MaskablePPO, ... or module:Class; guessed by default."),
    ] = None,
    mode: Annotated[str | None, typer.Option(help="How it acts: stochastic, greedy or boltzmann.")] = None,
    beta: Annotated[float | None, typer.Option(help="Inverse temperature for boltzmann.")] = None,
    masking: AgentMasking = None,
    n_samples: Annotated[
        int | None, typer.Option(help="Valid samples to draw from the agent; 10,000 by default.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of those draws; 0 by default.")] = None,
    device: Device = "cpu",
    target_class: TargetClass = 1,
    data: Data = "landscape",
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score samples that anybody's model made, or an agent that Stable-Baselines3 saved."""
    from eval.exact import evaluate
    from eval.judge import load_judge
    from eval.samples_csv import read_samples
    from eval.scoring import count_chunks, score_tally

    check_target_class(target_class)
    if (file is None) == (agent is None):
        raise InputError("name a CSV file to score, or an agent with --agent model.zip")
    chosen = {"algorithm": algorithm, "mode": mode, "beta": beta, "masking": masking}
    for option, value in {**chosen, "n-samples": n_samples, "seed": seed}.items():
        if file is not None and value is not None:
            raise InputError(f"--{option} goes with --agent, not with a file of samples")
    if out:
        _check_free(out, overwrite, file=True)
    training_set = _training_set(data, augment=True)
    judge = load_judge()
    if file is not None:
        name, exact = file.name, None
        result = score_tally(
            count_chunks(read_samples(file)),
            judge=judge,
            target_class=target_class,
            training_set=training_set,
        )
    else:
        number = 10_000 if n_samples is None else n_samples
        _at_least("--n-samples", number, 1)
        (first,) = _seeds(seed or 0, 1)
        sampler = _agent(str(agent), target_class, device, chosen)
        name = sampler.name
        with progress_bar(console, "sampling") as progress:
            found = evaluate(
                sampler,
                number,
                judge=judge,
                target_class=target_class,
                seed=first,
                training_set=training_set,
                progress=progress,
            )
        result, exact = found.score, found.exact
    console.print(_score_table(name, result, exact, target_class, training_set.name))
    if out:
        record = {
            "schema_version": 1,
            "file": name,
            "target_class": target_class,
            "training_set": {"name": training_set.name, "sha256": training_set.sha256},
            "judged_by": judge.record(),
            **result.as_dict(),
            "exact": None if exact is None else exact.as_dict(),
        }
        write_text(out, json.dumps(record, indent=1))


def _score_table(name: str, result: Any, exact: Any, target_class: int, training_set: str) -> Table:
    """A score as a table, what was sampled beside what is exact if that is known."""
    from eval.metrics import METRICS

    caption = f"judge: {escape(result.judge)}; novelty against: {training_set}"
    if exact is not None:
        caption += "\nexact: from the distribution; coverages and counts are expected ones"
    table = Table(
        title=f"{escape(name)}: {result.n_valid:,} samples for class {target_class}",
        caption=caption,
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


@app.command()
def solve(
    target_class: TargetClass = 1,
    beta: Annotated[float, typer.Option(help="Inverse temperature of the Boltzmann policy.")] = 5.0,
    gamma: Annotated[float, typer.Option(help="Discount factor, above 0, at most 1.")] = 1.0,
    n_samples: Annotated[int, typer.Option(help="Valid samples, on which coverage depends.")] = 10_000,
    masking: Annotated[
        str, typer.Option(help="Open actions: digits, or composition, which leads to real ones alone.")
    ] = "composition",
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Solve the environment exactly: what an agent that learned everything would draw."""
    from eval.exact import exact_table, solve_class
    from eval.judge import load_judge

    _at_least("--n-samples", n_samples, 1)
    if out:
        _check_free(out, overwrite, file=True)
    record = solve_class(
        target_class, judge=load_judge(), beta=beta, gamma=gamma, n_samples=n_samples, masking=masking
    )
    console.print(exact_table(record))
    if out:
        write_text(out, json.dumps(record, indent=1))
        _print(f"results in {out}")


@app.command()
def frontier(
    agents: Annotated[list[str], typer.Argument(help="Agents (.zip) with Q-values.")],
    target_class: TargetClass = 1,
    n_samples: Annotated[int, typer.Option(help="Valid samples, on which coverage depends.")] = 10_000,
    betas: Annotated[str, typer.Option(help="Values of beta, in the order of the curve.")] = (
        "0,1,2,3,5,8,12,20,inf"
    ),
    masking: AgentMasking = None,
    reference: Annotated[
        bool, typer.Option(help="Show the exact solutions of the environment as reference lines.")
    ] = True,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("frontier"),
    overwrite: Overwrite = False,
) -> None:
    """Precision against coverage of trained agents as beta varies, exactly and without training again."""
    from eval.frontier import check_betas, frontier_table, sweep_agents, write_frontier
    from eval.judge import load_judge

    check_target_class(target_class)
    _at_least("--n-samples", n_samples, 1)
    values = check_betas(betas)
    _results_folder(out, overwrite)
    samplers = [_agent(path, target_class, device, {"masking": masking}) for path in agents]
    with progress_bar(console, "following the policies") as progress:
        record = sweep_agents(
            samplers,
            values,
            judge=load_judge(),
            target_class=target_class,
            n_samples=n_samples,
            reference=reference,
            progress=progress,
        )
    with atomic_folder(out) as folder:
        write_frontier(record, folder)
    console.print(frontier_table(record))
    _print(f"results in {out}")


@app.command("reward-model")
def reward_model(
    data: Data = "landscape",
    seed: Seed = 0,
    augment: Annotated[bool, typer.Option(help="Add A/B swaps to the training set.")] = True,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fit the reward model of the model-based agents, and say how right and how sure of itself it is."""
    from agents.reward_model import RewardModel
    from eval.calibration import SCHEMA_VERSION, calibration_tables

    _seeds(seed, 1)
    if out:
        _check_free(out, overwrite, file=True)
    training_set = _training_set(data, augment)
    with progress_bar(console, "fitting the reward model") as progress:
        report = RewardModel(seed=seed).fit(training_set, progress).report
    console.print(calibration_tables(report, f"Reward model of {training_set.name}, seed {seed}"))
    if out:
        record = {"schema_version": SCHEMA_VERSION, "training_set": training_set.record(), "seed": seed}
        write_text(out, json.dumps({**record, **report}, indent=1))
        _print(f"results in {out}")


@data_app.command("fetch")
def data_fetch(
    source: Annotated[
        str | None, typer.Option("--from", help="Folder, file or address; the published one by default.")
    ] = None,
) -> None:
    """Bring the DFT table into your cache, checked by its hash."""
    from elpa_env.dft import fetch

    _print(f"DFT table: {fetch(source)}")


@data_app.command("build-landscape")
def data_build_landscape(
    out: Annotated[Path, typer.Option(help="Folder for landscape.npz and landscape.json.")] = Path(
        "landscape"
    ),
    data: Data = "dft",
    held_out: Annotated[int, typer.Option(help="Rows held out to measure the error.")] = 2000,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Fit the regression anew and hold it against the landscape that ships."""
    from elpa_env.landscape import fit_landscape, load_landscape
    from elpa_env.training import load_training_set

    _check_free(out, overwrite)
    _at_least("--seed", seed, 0)
    training_set = load_training_set(data, augment=False)
    with console.status("fitting (about a minute)"):
        landscape, error = fit_landscape(training_set, held_out=held_out, seed=seed)
    landscape.save(out)
    shipped = load_landscape()
    table = Table(title=f"Landscape fitted to {training_set.name}")
    table.add_column("class", justify="right")
    table.add_column("compositions", justify="right")
    table.add_column("shipped", justify="right")
    for number, (new, old) in enumerate(
        zip(landscape.class_counts[1:], shipped.class_counts[1:], strict=True), start=1
    ):
        table.add_row(str(number), f"{new:,}", f"{old:,}")
    console.print(table)
    console.print(
        f"held-out error {error:.4f} eV/atom on {held_out:,} rows; "
        f"{int((landscape.table_class != shipped.table_class).sum()):,} compositions "
        f"are in another class than in the shipped landscape: {out}",
        highlight=False,
    )


@data_app.command("export")
def data_export(
    out: Annotated[
        Path, typer.Option(help="Folder of datasets, to be named by MINARI_DATASETS_PATH; new or not.")
    ],
    form: Annotated[
        ExportFormat, typer.Option("--format", help="Form of the dataset.")
    ] = ExportFormat.MINARI,
    data: Data = "landscape",
    target_class: TargetClass = 1,
    overwrite: Overwrite = False,
) -> None:
    """Write the training set, A/B swaps added, as episodes for offline reinforcement learning.

    Load them with MINARI_DATASETS_PATH set to the folder and minari.load_dataset of the id that is
    printed, or with minari.MinariDataset of the printed path.
    """
    from elpa_env.export import dataset_folder, dataset_id, export_minari
    from elpa_env.landscape import CITATION

    ours = data in ("dft", "landscape")
    name = data if ours else Path(data).resolve().stem
    _check_free(dataset_folder(out, name, target_class), overwrite)
    training_set = _training_set(data, augment=True)
    with progress_bar(console, f"writing {form.value}") as progress:
        folder = export_minari(
            training_set,
            out,
            name=name,
            target_class=target_class,
            citation=CITATION if ours else None,
            progress=progress,
        )
    console.print(
        f"{len(training_set):,} episodes, {dataset_id(name, target_class)}: {folder / 'data'}",
        highlight=False,
        soft_wrap=True,
    )


@data_app.command("info")
def data_info(data: Data = "landscape") -> None:
    """Show a training set's size, hash and class counts."""
    training_set = _training_set(data, augment=True)
    table = Table(title=f"{training_set.name}: {len(training_set):,} rows")
    for number in range(1, 11):
        table.add_column(str(number), justify="right")
    table.add_row(*(f"{count:,}" for count in training_set.class_counts))
    console.print(table)
    _print(f"sha256 {training_set.sha256}")


def _training_set(data: str, augment: bool) -> Any:
    from elpa_env.training import load_training_set

    return load_training_set(data, augment=augment)


def _sampler(model: str, training_set: Any, target_class: int, device: str) -> Any:
    """What needs no training by name, or what a checkpoint holds."""
    from eval.models import MODELS, Task, load_sampler
    from eval.run import check_device

    check_device(device)
    if model in MODELS and not MODELS[model].suffix:
        return MODELS[model].train(Task(None, training_set, target_class=1, seed=0, device=device))
    return load_sampler(model, target_class=target_class, device=device)


def _agent_path(path: str) -> str:
    """Check that a file can be an agent."""
    if not (path.endswith(".zip") and Path(path).is_file()):
        raise InputError(f"no agent {path}: name a .zip file that Stable-Baselines3 saved")
    return str(Path(path).resolve())


def _agent(path: str, target_class: int, device: str, chosen: dict[str, Any]) -> Any:
    """An agent with the options of the command line."""
    from eval.models import load_agent
    from eval.run import check_device

    check_device(device)
    return load_agent(_agent_path(path), target_class=target_class, device=device, **chosen)


def _at_least(option: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{option} must be at least {least}, got {value}")


def _seeds(first: int, number: int) -> tuple[int, ...]:
    _at_least("--seed", first, 0)
    _at_least("--seeds", number, 1)
    if first + number > 1 << 32:
        raise InputError(f"seeds must be below {1 << 32}, got {first + number - 1}")
    return tuple(range(first, first + number))


def _jobs(jobs: int) -> int:
    _at_least("--jobs", jobs, 0)
    import joblib

    return jobs or int(joblib.cpu_count())


def _check_free(out: Path, overwrite: bool, *, file: bool = False) -> None:
    """Refuse to write where something is, unless told to; and where nothing can be written.

    Args:
        out: file or folder to write.
        overwrite: whether what is there may go.
        file: `out` is to be a file.
    """
    if file and out.is_dir():
        raise InputError(f"{out} is a folder: name a file with --out")
    taken = any(out.iterdir()) if out.is_dir() else out.exists()
    if taken and not overwrite:
        raise InputError(f"{out} is not empty: name another with --out, or pass --overwrite")
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise InputError(f"cannot write {out}: {parent} is no folder that you can write to")


def _results_folder(out: Path, overwrite: bool) -> tuple[Path, Path]:
    """The folder for results, and the one beside it where a run works until it is complete."""
    absolute = out.absolute()
    if absolute == absolute.parent or absolute in (Path.cwd(), *Path.cwd().parents):
        raise InputError(f"--out must be a folder of its own, got {str(out)!r}: the working folder is in it")
    _check_free(out, overwrite)
    return out, out.with_name(f"{out.name}.partial")


def _publish(partial: Path, out: Path) -> None:
    """Move a complete run into place; what was there goes only then."""
    for plan in partial.rglob("plan.json"):
        for name in ("jobs", "progress"):
            shutil.rmtree(plan.parent / name, ignore_errors=True)
        plan.unlink()
    old = out.with_name(f".{out.name}-{uuid.uuid4().hex}")
    if out.exists():
        out.rename(old)
    os.replace(partial, out)
    if old.is_dir():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)


class _interruptible:
    """Say what is kept when a run is interrupted; leave nothing when nothing is finished."""

    def __init__(self, partial: Path) -> None:
        self.partial = partial

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        finished = list(self.partial.rglob("jobs/*.json"))
        if not finished:
            shutil.rmtree(self.partial, ignore_errors=True)
        elif issubclass(kind, KeyboardInterrupt):
            _warn(f"{len(finished)} finished models are kept: add --resume to go on from there")


_INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended; newer versions of Typer return it themselves."""


def _warn(message: str) -> None:
    """One line on standard error."""
    errors.print(f"elpa: {message}", highlight=False, markup=False, soft_wrap=True)


def _print(message: str) -> None:
    """One line on standard output, names in it taken as they are."""
    console.print(message, highlight=False, markup=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: one line and status 2 for bad input, 130 when interrupted."""
    if not (sys.argv[1:] if arguments is None else arguments):
        arguments = ["--help"]
    sys.path.insert(0, "")  # for --algorithm module:Class beside the user
    try:
        status = app(arguments, standalone_mode=False)
    except InputError as error:
        _warn(str(error))
        status = 2
    except UsageError as error:
        _warn(error.format_message())
        status = 2
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        _warn(f"cannot use {error.filename}: {error.strerror}")
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        _warn("interrupted")
    sys.exit(status or 0)


if __name__ == "__main__":
    main()
