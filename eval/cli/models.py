"""Commands that make, sample and score single models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from elpa_env.errors import InputError
from elpa_env.files import atomic_folder, atomic_path, check_target, write_json, write_text
from elpa_env.plugins import import_attribute
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
    SpaceName,
    TargetClass,
    Trust,
)
from eval.progress import progress_bar


def train(
    model: Annotated[
        str,
        typer.Argument(
            help="vae, gan, autoregressive, diffusion; offline: dqn, dqn-max, dqn-soft; against a reward "
            "model: dqn-max-model, dqn-double-model, dqn-soft-model, dqn-soft-any, gflownet; against the "
            "landscape: dqn-max-oracle, dqn-double-oracle, dqn-soft-oracle; or a class of your own as "
            "module:Class."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Checkpoint to write: .zip of an agent, .npz of gflownet, .model of a class of your "
            "own, else .pt."
        ),
    ],
    data: Data = "",
    target_class: TargetClass = "1",
    preset: Preset = "",
    seed: Seed = 0,
    device: Device = "cpu",
    augment: Augment = True,
    space: SpaceName = "elpasolite",
    slim: Annotated[
        bool,
        typer.Option("--slim", help="Of an agent, keep what it acts by alone: a fraction of the size."),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train one model and save it.

    vae, gan, autoregressive, diffusion and dqn-soft-any learn all classes at once, whatever --target-class
    says. Oracles learn from the energies that ship, whatever --data says.
    """
    from agents.train import VARIANTS
    from elpa_env.sampler import access_of
    from eval.study.job import one_thread
    from eval.study.plan import check_device, hyperparameters
    from eval.study.registry import Task, model_spec

    spec = model_spec(model)
    if not spec.suffix:
        raise InputError(f"{model} leaves no checkpoint: draw from it with `elpa sample {model}`")
    benchmark, target_number = common.benchmark(space, target_class)
    chosen = hyperparameters(model, preset or benchmark.preset)
    common.seed_range(seed, 1)
    check_device(device)
    if out.suffix != spec.suffix:
        raise InputError(f"the checkpoint of a {spec.name} ends in {spec.suffix}, got {out}")
    if slim and spec.name not in VARIANTS:
        raise InputError(f"--slim is for {', '.join(VARIANTS)}, not for {model}: leave it out")
    target = check_target(out, overwrite=overwrite, kind="file")
    training_set = common.training_set(data, augment, benchmark)
    with one_thread(), progress_bar(common.console, f"training {spec.name}") as progress:
        config = None if chosen is None else chosen.config
        sampler: Any = spec.train(
            Task(config, training_set, target_number, seed, device, progress, space=benchmark.name)
        )
    sampler.save(target, **({"slim": True} if slim else {}))
    oracle = access_of(sampler).kind == "oracle"
    common.say(f"{spec.name} trained on {'the landscape itself' if oracle else training_set.name}: {out}")


def sample(
    model: Annotated[
        str,
        typer.Argument(
            help="A checkpoint, or what needs none: pretrained, an agent for all classes that ships; random, "
            "sites, pairs, optimal-hard, optimal-soft."
        ),
    ],
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    kind: Annotated[
        str | None,
        typer.Option("--model", help="Class of your own that reads the checkpoint, as module:Class."),
    ] = None,
    target_class: TargetClass = "1",
    n_samples: NSamples = None,
    data: Data = "",
    judge: Judge = None,
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
    space: SpaceName = "elpasolite",
    overwrite: Overwrite = False,
) -> None:
    """Draw valid samples from a trained model, with energy, class and novelty."""
    from elpa_env.sampler import check_n_samples
    from eval.scoring import Seen, draw_unique, draw_valid, sample_table

    benchmark, target_number = common.benchmark(space, target_class)
    n_samples = benchmark.n_samples if n_samples is None else n_samples
    check_n_samples(n_samples)
    common.seed_range(seed, 1)
    judged = _judge(judge, benchmark)
    target = check_target(out, overwrite=overwrite, kind="file")
    training_set = _known(data, benchmark)
    sampler = _sampler(model, training_set, target_number, device, kind, judge, trust, benchmark)
    seen = Seen(benchmark.space)
    with progress_bar(common.console, "sampling") as progress, atomic_path(target) as path:
        draw: dict[str, Any] = {"target_class": target_number, "seed": seed, "progress": progress}
        draw["space"] = benchmark.space
        if unique or novel:
            novel_to = training_set if novel else None
            chunks: Iterable[Any] = [draw_unique(sampler, n_samples, novel_to=novel_to, **draw)]
        else:
            chunks = (chunk for chunk, _ in draw_valid(sampler, n_samples, **draw))
        with path.open("w", encoding="utf-8", newline="") as file:
            for number, index in enumerate(chunks):
                table = sample_table(
                    index, space=benchmark.space, judge=judged, training_set=training_set, seen=seen
                )
                table.to_csv(file, index=False, header=number == 0, lineterminator="\n")
    kind_of = "different compounds" if unique or novel else "samples"
    judged_by = "none" if judged is None else judged.name
    common.say(f"{n_samples:,} {kind_of}: {out}; novelty against: {training_set.name}; judge: {judged_by}")
    trained_on = getattr(getattr(sampler, "model", sampler), "trained_on", None)
    if trained_on and trained_on["sha256"] != training_set.sha256:
        common.warn(f"the model was trained on other rows ({trained_on['name']}): name them with --data")


def score(
    file: Annotated[
        Path | None,
        typer.Argument(help="CSV with a column formula, or one a site such as Z_A, Z_B, Z_C, Z_D."),
    ] = None,
    agent: Annotated[
        str | None, typer.Option(help="Agent (.zip) to score instead, or pretrained, the one that ships.")
    ] = None,
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
    target_class: TargetClass = "1",
    space: SpaceName = "elpasolite",
    data: Data = "",
    judge: Judge = None,
    energy: Annotated[
        str | None,
        typer.Option(
            help="Energies of your own that judge the samples, as module:callable; for spaces without a "
            "table of all energies."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score samples that anybody's model made, or an agent that Stable-Baselines3 saved."""
    benchmark, target_number = common.benchmark(space, target_class)
    if (file is None) == (agent is None):
        raise InputError("name a CSV file to score, or an agent with --agent model.zip")
    chosen = {"algorithm": algorithm, "mode": mode, "beta": beta, "masking": masking}
    for option, value in {**chosen, "n-samples": n_samples, "seed": seed}.items():
        if file is not None and value is not None:
            raise InputError(f"--{option} goes with --agent, not with a file of samples")
    target = check_target(out, overwrite=overwrite, kind="file") if out else None
    judged = None if energy else _judge(judge, benchmark)
    if energy and judge:
        raise InputError("--energy and --judge both decide energies: leave one out")
    if judged is None and not energy:
        raise InputError(
            f"{benchmark.title} has no table of energies to judge by: name your own with --energy "
            "module:callable"
        )
    training_set = _known(data, benchmark)
    how: dict[str, Any] = {"target_class": target_number, "training_set": training_set}
    if file is not None:
        name, drawn = file.name, _read(file, benchmark.space)
    else:
        chosen["trust"] = trust
        number = benchmark.n_samples if n_samples is None else n_samples
        name, drawn = _draw_agent(str(agent), number, seed, device, chosen, target_number, benchmark.space)
    if judged is None:
        from eval.scoring import score_samples

        model: Any = import_attribute(str(energy))
        result, exact = score_samples(drawn, model, space=benchmark.space, **how), None
    else:
        result, exact = _judged(drawn, judged, how)
    common.console.print(
        _score_table(
            name, result, exact, benchmark.space.targets.title(target_number), training_set.name, judged
        )
    )
    if target:
        exactly = None if exact is None else exact.as_dict()
        record = {
            "schema_version": 2,
            "file": name,
            "space": benchmark.space.name,
            "target": benchmark.space.targets.title(target_number),
            "target_class": target_number,
            "judge": judged.record() if judged is not None else {"name": energy},
            "training_set": training_set.record(),
        }
        write_json(target, {**record, **result.as_dict(), "exact": exactly})


def _read(file: Path, space: Any) -> Any:
    """Anybody's samples, chunk by chunk."""
    from eval.samples_csv import read_samples

    return read_samples(file, space)


def _draw_agent(
    agent: str,
    n_samples: int,
    seed: int | None,
    device: str,
    chosen: dict[str, Any],
    target_class: int,
    space: Any,
) -> tuple[str, Any]:
    """Name of an agent, and what it drew: an `eval.exact.Drawn`, or chunks of samples."""
    from elpa_env.sampler import check_n_samples
    from eval.exact import draw
    from eval.scoring import draw_valid

    check_n_samples(n_samples)
    (first,) = common.seed_range(seed or 0, 1)
    sampler = common.agent(agent, target_class, device, space=space, **chosen)
    how: dict[str, Any] = {"target_class": target_class, "seed": first, "space": space}
    with progress_bar(common.console, "sampling") as progress:
        if not space.enumerable:
            return sampler.name, [
                index for index, _ in draw_valid(sampler, n_samples, progress=progress, **how)
            ]
        return sampler.name, draw(sampler, n_samples, keep=min(n_samples, _KEPT), progress=progress, **how)


def _judged(drawn: Any, judge: Any, how: dict[str, Any]) -> tuple[Any, Any]:
    """Score and exact score of samples under a judge."""
    from eval.exact import Drawn, score_drawn
    from eval.scoring import count_chunks

    if not isinstance(drawn, Drawn):
        tally, kept = count_chunks(drawn, judge.space, keep=_KEPT)
        drawn = Drawn(tally, kept, None)
    found = score_drawn(drawn, judge=judge, **how)
    return found.score, found.exact


def _judge(name: str | None, benchmark: Any) -> Any:
    """The judge of that name, or the space's own; None of a space that has none."""
    from eval.judge import load_judge

    if name is None and benchmark.reference is None:
        return None
    return load_judge(name, benchmark.name)


def _known(data: str, benchmark: Any) -> Any:
    """The training set against which samples are new; without rows where none ships and none is named."""
    import numpy as np

    from elpa_env.training import TrainingSet

    if not data and not benchmark.data:
        return TrainingSet(np.zeros(0, np.int64), np.zeros(0), "nothing", benchmark.space)
    return common.training_set(data, augment=True, space=benchmark)


_KEPT: Final = 1_000_000
"""Samples kept in the order drawn."""


def _score_table(name: str, result: Any, exact: Any, target: str, training_set: str, judge: Any) -> Table:
    """A score as a table, what was sampled beside what is exact if that is known."""
    from eval.metrics import METRICS

    by = "energies of your own" if judge is None else f"judge {judge.name}: {judge.what}"
    caption = f"novelty against: {training_set}; {by}"
    if judge is None:
        caption += "\ncoverage and JS distance need a table of all compositions"
    if exact is not None:
        caption += "\nexact: from the distribution; coverages and counts are expected ones"
    table = Table(
        title=escape(f"{name}: {result.n_valid:,} samples for {target}"),
        caption=escape(caption),
        caption_justify="left",
    )
    table.add_column("")
    table.add_column("" if exact is None else "sampled", justify="right")
    if exact is not None:
        table.add_column("exact", justify="right")
    scores = [result] if exact is None else [result, exact]
    for key, metric in METRICS.items():
        table.add_row(metric.title, *(metric.show(one.metrics.get(key)) for one in scores))
    shares = (one.valid_fraction for one in scores)
    table.add_row("valid", *("-" if share != share else f"{share * 100:.2f} %" for share in shares))
    for title in ("novel", "rediscovered", "repeated"):
        table.add_row(title, *(f"{getattr(one, title):,.0f}" for one in scores))
    if exact is not None:
        table.add_row("success rate", "", f"{exact.success_rate * 100:.2f} %")
        table.add_row("entropy", "", f"{exact.entropy_bits:.2f} bits")
        table.add_row("effective compositions", "", f"{exact.effective_compositions:,.0f}")
    return table


def solve(
    target_class: TargetClass = "1",
    beta: Annotated[float, typer.Option(help="Inverse temperature of the Boltzmann policy.")] = 5.0,
    gamma: Annotated[float, typer.Option(help="Discount factor, above 0, at most 1.")] = 1.0,
    n_samples: Annotated[int | None, typer.Option(help="Valid samples, on which coverage depends.")] = None,
    masking: Annotated[
        str, typer.Option(help="Open actions: digits, or composition, which leads to real ones alone.")
    ] = "composition",
    space: SpaceName = "elpasolite",
    judge: Judge = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Solve the environment exactly: what an agent that learned everything would draw."""
    from elpa_env.sampler import check_n_samples
    from eval.exact import exact_table, solve_class
    from eval.judge import load_judge

    benchmark, target_number = common.benchmark(space, target_class)
    n_samples = benchmark.n_samples if n_samples is None else n_samples
    check_n_samples(n_samples)
    target = check_target(out, overwrite=overwrite, kind="file") if out else None
    judged = load_judge(judge, benchmark.name)
    record = solve_class(
        target_number, judge=judged, beta=beta, gamma=gamma, n_samples=n_samples, masking=masking
    )
    common.console.print(exact_table(record))
    if target:
        write_json(target, record)
        common.say(f"results in {out}")


def frontier(
    agents: Annotated[list[str], typer.Argument(help="Agents (.zip) with Q-values, or pretrained.")],
    target_class: TargetClass = "1",
    n_samples: Annotated[int | None, typer.Option(help="Valid samples, on which coverage depends.")] = None,
    betas: Annotated[str, typer.Option(help="Values of beta, in the order of the curve.")] = (
        "0,1,2,3,5,8,12,20,inf"
    ),
    masking: AgentMasking = None,
    trust: Trust = False,
    reference: Reference = True,
    space: SpaceName = "elpasolite",
    judge: Judge = None,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("frontier"),
    overwrite: Overwrite = False,
) -> None:
    """Precision against coverage of trained agents as beta varies, exactly and without training again."""
    from elpa_env.sampler import check_n_samples
    from eval.frontier import check_betas, frontier_table, sweep_agents, write_frontier
    from eval.judge import load_judge

    benchmark, target_number = common.benchmark(space, target_class)
    n_samples = benchmark.n_samples if n_samples is None else n_samples
    check_n_samples(n_samples)
    values = check_betas(betas)
    judged = load_judge(judge, benchmark.name)
    target = check_target(out, overwrite=overwrite, kind="folder")
    how: dict[str, Any] = {"masking": masking, "trust": trust, "space": benchmark.space}
    samplers = [common.agent(path, target_number, device, **how) for path in agents]
    with progress_bar(common.console, "following the policies") as progress:
        record = sweep_agents(
            samplers,
            values,
            judge=judged,
            target_class=target_number,
            n_samples=n_samples,
            reference=reference,
            progress=progress,
        )
    with atomic_folder(target) as folder:
        write_frontier(record, folder)
    common.console.print(frontier_table(record))
    common.say(f"results in {out}")


def reward_model(
    data: Data = "",
    seed: Seed = 0,
    augment: Augment = True,
    space: SpaceName = "elpasolite",
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fit the reward model of the model-based agents, and say how right and how sure of itself it is."""
    from agents.reward_model import RewardModel
    from eval.calibration import SCHEMA_VERSION, calibration_tables
    from eval.study.job import one_thread

    common.seed_range(seed, 1)
    target = check_target(out, overwrite=overwrite, kind="file") if out else None
    from elpa_env.catalogue import load_space

    training_set = common.training_set(data, augment, load_space(space))
    with one_thread(), progress_bar(common.console, "fitting the reward model") as progress:
        report = RewardModel(seed=seed).fit(training_set, progress).report
    common.console.print(
        calibration_tables(
            report, f"Reward model of {training_set.name}, seed {seed}", training_set.space.targets
        )
    )
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
    judge: str | None,
    trust: bool,
    benchmark: Any,
) -> Any:
    """What needs no training by name, or what a checkpoint holds."""
    from agents.pretrained import PRETRAINED
    from eval.study.plan import check_device
    from eval.study.registry import MODELS, Task, load_sampler

    check_device(device)
    if model == PRETRAINED:
        model = common.agent_path(model)
    if model in MODELS and not MODELS[model].suffix:
        return MODELS[model].train(
            Task(None, training_set, target_class, 0, device, judge=judge or "", space=benchmark.name)
        )
    return load_sampler(
        model, target_class=target_class, device=device, model=kind, trust=trust, space=benchmark.space
    )


COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    train,
    sample,
    score,
    solve,
    frontier,
    reward_model,
)
