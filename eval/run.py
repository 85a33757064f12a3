"""Training, sampling and scoring of many models and seeds, side by side and resumable."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
from rich.console import Console

from elpa_env.classes import check_target_class
from elpa_env.errors import InputError
from elpa_env.files import sha256, write_text
from elpa_env.training import TrainingSet, load_training_set
from eval.exact import evaluate
from eval.figures import energy_histogram
from eval.judge import load_judge
from eval.metrics import element_distribution
from eval.models import (
    MODELS,
    Task,
    TrainedSampler,
    access_of,
    check_model,
    load_agent,
    model_spec,
    short_name,
)
from eval.progress import progress_bars
from eval.scoring import sample_table

MAX_CSV_ROWS: Final = 1_000_000
"""Samples written to a CSV file; of a larger number the first million."""
_POLL: Final = 0.2
_PLAN: Final = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What to run: every model with every seed on one training set, for one class.

    Attributes:
        models: names from `eval.models.MODELS`, or paths of agents that SB3 saved.
        seeds: one run each.
        data: "landscape", "dft" or a path, see `elpa_env.load_training_set`.
        target_class: 1..10.
        n_samples: valid samples to draw from each.
        preset: "quick", "default" or "paper".
        device: "cpu", "cuda" or another torch device.
        augment: add the missing A/B swaps to the training set.
        masking: what agents of the user may choose from, see `eval.models.load_agent`.
        subset: rows of the training set to draw at random, anew for every seed; None = all.
        quick: those of `models` that train with their quick preset, whatever `preset` says.
    """

    models: tuple[str, ...]
    seeds: tuple[int, ...]
    data: str = "landscape"
    target_class: int = 1
    n_samples: int = 10_000
    preset: str = "default"
    device: str = "cpu"
    augment: bool = True
    masking: str | None = None
    subset: int | None = None
    quick: tuple[str, ...] = ()

    def config(self, model: str) -> Any:
        """Hyperparameters of a model; None of one that has none."""
        preset = "quick" if model in self.quick else self.preset
        return model_spec(model).presets.get(preset)

    def check(self) -> TrainingSet:
        """Check every value and load the training set.

        Raises:
            InputError: a value that cannot be used.
        """
        check_target_class(self.target_class)
        for name in self.models:
            if name.endswith(".zip"):
                load_agent(name, target_class=self.target_class, masking=self.masking)
            else:
                check_model(name, self.preset)
        if len({short_name(name) for name in self.models}) < len(self.models):
            raise InputError(f"models must differ in name, got {', '.join(self.models)}")
        if not self.models:
            raise InputError(f"name at least one model of {', '.join(MODELS)}")
        if not self.seeds:
            raise InputError("the number of seeds must be at least 1, got 0")
        if self.n_samples < 1:
            raise InputError(f"the number of samples must be at least 1, got {self.n_samples}")
        check_device(self.device)
        return self.training_set(self.seeds[0])

    def training_set(self, seed: int) -> TrainingSet:
        """Load what the runs with a seed train on."""
        return load_training_set(self.data, augment=self.augment, subset=self.subset, seed=seed)

    def jobs(self) -> list[tuple[str, int]]:
        """Every (model, seed); the slowest models first."""
        order = sorted(self.models, key=lambda name: -model_spec(name).cost)
        return [(name, seed) for name in order for seed in self.seeds]


def check_device(device: str) -> None:
    """Raise InputError if torch cannot use `device` here."""
    import torch as th

    try:
        th.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"--device {device} is not available here: use --device cpu") from error


def samples_file(model: str, seed: int, seeds: Sequence[int]) -> str:
    """Name of a run's samples: the first seed's is ``samples_<model>.csv``."""
    stem = f"samples_{short_name(model)}"
    return f"{stem}.csv" if seed == seeds[0] else f"{stem}_seed{seed}.csv"


def run_job(plan: Plan, model: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train one model, draw from it, score it; leave checkpoint, samples and result in `folder`."""
    import torch as th

    th.set_num_threads(1)
    name = f"{short_name(model)}-{seed}"
    training_set = plan.training_set(seed)
    spec = model_spec(model, plan.masking)
    config = plan.config(model)
    started = time.perf_counter()
    task = Task(
        config,
        training_set,
        plan.target_class,
        seed,
        plan.device,
        _reporter(folder, name, "training"),
    )
    sampler = spec.train(task)
    access = access_of(sampler, training_set)
    trained = time.perf_counter()
    sample_seed = int(np.random.SeedSequence([seed, plan.target_class]).generate_state(1)[0])
    judge = load_judge()
    found = evaluate(
        sampler,
        plan.n_samples,
        judge=judge,
        target_class=plan.target_class,
        seed=sample_seed,
        training_set=training_set,
        keep=min(plan.n_samples, MAX_CSV_ROWS),
        progress=_reporter(folder, name, "sampling"),
    )
    sampled = time.perf_counter()
    unique = np.flatnonzero(found.tally.counts)
    table = sample_table(found.kept, judge=judge, training_set=training_set)
    write_text(folder / samples_file(model, seed, plan.seeds), table.to_csv(index=False))
    if spec.suffix and isinstance(sampler, TrainedSampler):
        sampler.save(folder / "models" / f"{name}{spec.suffix}")
    result = {
        "model": model,
        "file_sha256": sha256(Path(model).read_bytes()) if _is_file(model) else None,
        "seed": seed,
        "config": None if config is None else asdict(config),
        "access": None if access is None else asdict(access),
        "score": found.score.as_dict(),
        "exact": None if found.exact is None else found.exact.as_dict(),
        "train_seconds": round(trained - started, 2),
        "sample_seconds": round(sampled - trained, 2),
        "samples_in_csv": len(found.kept),
        "element_distribution": element_distribution(found.tally.counts).round(6).tolist(),
        "unique_energy_histogram": energy_histogram(judge.energy(unique)).tolist(),
    }
    write_text(folder / "jobs" / f"{name}.json", json.dumps(result))
    return result


def _reporter(folder: Path, name: str, stage: str) -> Callable[[int, int], None]:
    """Progress into a file of its own, which works across processes and machines."""
    path = folder / "progress" / name
    last = [0.0]

    def report(done: int, total: int) -> None:
        now = time.monotonic()
        if now - last[0] > _POLL or done >= total:
            last[0] = now
            write_text(path, f"{stage} {done} {total}")

    return report


def run_plan(
    plan: Plan, folder: Path, *, n_jobs: int, console: Console, resume: bool
) -> list[dict[str, Any]]:
    """Run every job of a plan, `n_jobs` at a time, and return the results in the plan's order.

    What is finished stays in `folder`; with `resume` a later call of the same plan goes on from
    there. The jobs run through joblib, so that `joblib.parallel_config(backend="dask")` spreads them
    over a cluster whose machines share `folder`.
    """
    done = _prepare(plan, folder, resume)
    todo = [job for job in plan.jobs() if job not in done]
    results = dict(done)
    with _progress_display(plan, todo, folder, console) as finished:
        parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
        calls = (joblib.delayed(run_job)(plan, model, seed, folder) for model, seed in todo)
        for result in parallel(calls):
            results[result["model"], result["seed"]] = result
            finished(result)
    return [results[model, seed] for model in plan.models for seed in plan.seeds]


def check_partial(plan: Plan, folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to lose what an interrupted run, or anybody, has left in the working folder.

    Raises:
        InputError: it holds something, and neither `resume` nor `overwrite` says what to do with it.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / _PLAN).is_file():
        raise InputError(f"{folder} is in the way and not ours: move it, or name another --out")
    finished = len(list((folder / "jobs").glob("*.json")))
    if finished and not resume and not overwrite:
        raise InputError(
            f"{folder} holds {finished} finished models: --resume goes on with them, --overwrite drops them"
        )


def _prepare(plan: Plan, folder: Path, resume: bool) -> dict[tuple[str, int], dict[str, Any]]:
    """Results already in `folder`, which is emptied unless it holds runs of this very plan."""
    identity = _identity(plan)
    if not (resume and _read_json(folder / _PLAN) == identity):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder / "progress", ignore_errors=True)
    write_text(folder / _PLAN, json.dumps(identity))
    results = [_read_json(file) for file in sorted((folder / "jobs").glob("*.json"))]
    return {(result["model"], result["seed"]): result for result in results if result}


def _read_json(path: Path) -> Any:
    """What a file holds; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _identity(plan: Plan) -> dict[str, Any]:
    """Everything that the results of a plan depend on."""
    configs = {name: repr(plan.config(name)) for name in plan.models}
    return {
        "models": {name: sha256(Path(name).read_bytes()) if _is_file(name) else "" for name in plan.models},
        "data": plan.training_set(plan.seeds[0]).sha256,
        "subset": plan.subset,
        "target_class": plan.target_class,
        "n_samples": plan.n_samples,
        "preset": plan.preset,
        "masking": plan.masking,
        "device": plan.device,
        "seeds": list(plan.seeds),
        "configs": configs,
        "judge": load_judge().sha256,
        "versions": versions(),
    }


def _is_file(name: str) -> bool:
    """Whether a model of a plan is an agent's file."""
    return name not in MODELS


@contextmanager
def _progress_display(
    plan: Plan, todo: list[tuple[str, int]], folder: Path, console: Console
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Bars with time left on a terminal, one line a finished job elsewhere."""
    bars = progress_bars(console)
    tasks = {
        f"{short_name(model)}-{seed}": bars.add_task(f"{short_name(model)} seed {seed}", total=1)
        for model, seed in todo
    }
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(_POLL):
            for name, task in tasks.items():
                path = folder / "progress" / name
                if path.is_file():
                    stage, done, total = path.read_text(encoding="utf-8").split()
                    model, seed = name.rsplit("-", 1)
                    bars.update(
                        task,
                        completed=int(done),
                        total=int(total),
                        description=f"{model} seed {seed} {stage}",
                    )

    def finished(result: dict[str, Any]) -> None:
        console.print(
            f"{short_name(result['model'])} seed {result['seed']}: "
            f"trained in {result['train_seconds']:.0f} s, sampled in {result['sample_seconds']:.0f} s",
            highlight=False,
        )

    watcher = threading.Thread(target=poll, daemon=True)
    with bars:
        watcher.start()
        try:
            yield finished
        finally:
            stop.set()
            watcher.join()


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    packages = ("elpasolite", "numpy", "torch", "stable-baselines3", "gymnasium", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def hardware(device: str) -> dict[str, Any]:
    """What a result was computed on."""
    return {
        "device": device,
        "machine": platform.machine(),
        "system": sys.platform,
        "cpus": joblib.cpu_count(),
    }
