"""What a worker does: train one model, or load it, and draw from it. It writes nothing but its progress.

The result travels back to the process that owns the store, so that a worker may run on another machine, and
one that outlives its master can harm nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from elpa_env.files import write_text
from elpa_env.sampler import Progress, Sampler, access_of, is_exact
from elpa_env.training import TrainingSet
from eval.curves import Appearances
from eval.judge import load_judge
from eval.provenance import hardware, versions
from eval.scoring import count_samples
from eval.study.plan import Run, hyperparameters
from eval.study.registry import Task, TrainedSampler
from eval.study.scores import MAX_KEPT, Samples, draw_seed, figures, figures_name
from eval.study.store import (
    Draws,
    Request,
    RunResult,
    distribution_from_bytes,
    distribution_to_bytes,
    now,
)

POLL: Final = 0.2
"""Seconds between two reports of progress."""


@dataclass(frozen=True)
class Job:
    """One run to be made.

    Attributes:
        run: what to train.
        training_set: all that it may see.
        request: what to draw, unless the model states its distribution.
        judges: who scores what is drawn.
        checkpoint: of a run that is trained and has to draw again; None trains.
        record: of that run.
        progress: folder for reports of progress, on this machine; "" for none.
    """

    run: Run
    training_set: TrainingSet
    request: Request
    judges: tuple[str, ...] = ()
    checkpoint: bytes | None = None
    record: dict[str, Any] | None = None
    progress: str = ""


def execute(job: Job) -> RunResult:
    """Train a model or load it, draw from it, score it; with one thread, the caller's number given back."""
    with one_thread():
        spec, report = job.run.spec, _reporter(job)
        files: dict[str, bytes] = {}
        if job.checkpoint is None:
            started = time.perf_counter()
            sampler = spec.train(_task(job, report("training")))
            record = _record(job, sampler, time.perf_counter() - started)
            if spec.suffix and isinstance(sampler, TrainedSampler):
                files[record["checkpoint"]] = _saved(sampler, spec.suffix)
        else:
            assert job.record is not None
            record, sampler = job.record, _loaded(job)
        if is_exact(sampler):
            # what is scored is what is stored, rounding included
            data = distribution_to_bytes(sampler.distribution(job.request.target_class))
            files[job.request.distribution_name] = data
            samples = Samples(distribution=distribution_from_bytes(data))
        else:
            draws = _draw(sampler, job, report("sampling"))
            files[job.request.draws_name] = draws.to_bytes()
            samples = Samples(draws=draws)
        for name in job.judges:
            judge = load_judge(name, job.run.space)
            files[figures_name(judge, job.request)] = figures(
                record, samples, judge, job.request, job.training_set
            )
        return RunResult(job.run.key, record, files)


def _task(job: Job, progress: Progress) -> Task:
    run, chosen = job.run, hyperparameters(job.run.model, job.run.preset)
    return Task(
        config=None if chosen is None else chosen.config,
        training_set=job.training_set,
        target_class=run.target_class,
        seed=run.seed,
        device=run.device,
        progress=progress,
        judge=run.judge,
        space=run.space,
    )


def _draw(sampler: Sampler, job: Job, progress: Progress) -> Draws:
    """What the sampler draws."""
    started = time.perf_counter()
    request = job.request
    appearances = Appearances(job.training_set.space, request.n_samples)
    tally, kept = count_samples(
        sampler,
        request.n_samples,
        target_class=request.target_class,
        seed=draw_seed(job.run.seed, request.target_class),
        keep=min(request.n_samples, MAX_KEPT),
        space=job.training_set.space,
        progress=progress,
        watch=appearances.see,
    )
    seconds = round(time.perf_counter() - started, 2)
    index, counts = tally.sparse()
    return Draws(index, counts, tally.n_raw, kept.astype(np.int32), appearances.first[index], seconds)


def _record(job: Job, sampler: Sampler, seconds: float) -> dict[str, Any]:
    """What is kept of a run beside its files."""
    run, spec = job.run, job.run.spec
    return {
        "key": run.key,
        "identity": dict(run.identity),
        "name": spec.name,
        "title": spec.title,
        "preset": run.preset if spec.presets else None,
        "seed": run.seed,
        "target_class": run.identity["target_class"],
        "judge": run.judge,
        "space": job.training_set.space.name,
        "training_set": job.training_set.record(),
        "access": asdict(access_of(sampler)),
        "checkpoint": f"model{spec.suffix}" if spec.suffix else None,
        "train_seconds": round(seconds, 2),
        "versions": versions(),
        "hardware": hardware(run.device),
        "finished": now(),
    }


def _saved(sampler: TrainedSampler, suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        sampler.save(path)
        return path.read_bytes()


def _loaded(job: Job) -> Sampler:
    spec = job.run.spec
    assert spec.load is not None
    assert job.checkpoint is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{spec.suffix}"
        path.write_bytes(job.checkpoint)
        return spec.load(path, job.run.target_class, job.run.device)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one thread: models are trained side by side, and another number rounds differently."""
    import torch as th

    threads = th.get_num_threads()
    th.set_num_threads(1)
    try:
        yield
    finally:
        th.set_num_threads(threads)


def _reporter(job: Job) -> Callable[[str], Progress]:
    """Reports of progress by stage, into a file that the master on this machine looks at."""
    path = Path(job.progress) / job.run.key if job.progress else None
    last = [0.0]

    def stage(name: str) -> Progress:
        def report(done: int, total: int) -> None:
            time_now = time.monotonic()
            if path is not None and (time_now - last[0] > POLL or done >= total) and path.parent.is_dir():
                last[0] = time_now
                write_text(path, f"{name} {done} {total}")

        return report

    return stage
