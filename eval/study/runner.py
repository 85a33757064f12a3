"""Making the runs that a plan lacks: on the cores of this machine, or on a Dask cluster.

Both are reached through executors of `concurrent.futures`: loky's processes here, Dask's scheduler there.
This process alone owns the store. Before it hands out a run it takes the lock of that run, so that two
processes on one store share the work and train nothing twice.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import filelock
from rich.console import Console

from elpa_env.training import TrainingSet
from elpa_env.workers import Here, cluster, processes
from eval.progress import progress_bars
from eval.study.job import POLL, Job, execute
from eval.study.plan import Plan, Run
from eval.study.store import Request, RunResult, Store

_WAIT: Final = 1.0
"""Seconds between two looks at a run that another process trains."""


@dataclass
class Workers:
    """Who trains.

    Attributes:
        jobs: processes on this machine; 1 = this process itself.
        cluster: address of a Dask scheduler; "" for this machine.
    """

    jobs: int = 1
    cluster: str = ""

    def at_most(self, runs: int) -> Workers:
        """No more processes than there are runs."""
        return Workers(min(self.jobs, runs), self.cluster)


def run_plan(
    plan: Plan,
    training_sets: Mapping[int, TrainingSet],
    store: Store,
    workers: Workers,
    *,
    console: Console,
    retrain: bool = False,
    made: set[str] | None = None,
) -> list[Run]:
    """Make every run of a plan that the store lacks, and return all of them in the plan's order.

    Whatever is finished is in the store, also when this raises.

    Args:
        plan: what to run.
        training_sets: of every seed, from `Plan.training_sets`.
        store: where runs are kept.
        workers: who trains.
        console: for progress.
        retrain: train again what is there.
        made: keys of runs that are not to be trained again all the same, since they were just now, for
            another plan; gains those of this one.

    Raises:
        InputError: a run failed, or the cluster cannot be reached.
    """
    runs = list(plan.runs(training_sets))
    again = {run.key for run in runs} - (made or set()) if retrain else set()
    todo = [run for run in runs if run.key in again or not is_complete(store, run, plan.request)]
    if todo:
        todo.sort(key=lambda run: -run.spec.cost)
        workers = workers.at_most(len(todo))
        with _progress(console, todo, workers) as show, _executor(workers) as (executor, slots):
            for training_set in training_sets.values():
                store.put_training_set(training_set)
            _Dispatch(plan, training_sets, store, executor, slots, show, again).make(todo)
    if made is not None:
        made |= {run.key for run in runs}
    return runs


def is_complete(store: Store, run: Run, request: Request) -> bool:
    """Whether the store has a run with its distribution, or with the samples that are asked for."""
    stated = store.read(run.key, request.distribution_name) is not None
    return stated or store.draws(run.key, request) is not None


@dataclass
class _Show:
    """What the user sees of it.

    Attributes:
        folder: for reports of progress; "" where they cannot be seen.
        finished: called with the result of a run.
        waiting: called with the number of runs that another process trains.
    """

    folder: str
    finished: Callable[[RunResult], None]
    waiting: Callable[[int], None]


@dataclass
class _Dispatch:
    """Hands out runs and stores what comes back."""

    plan: Plan
    training_sets: Mapping[int, TrainingSet]
    store: Store
    executor: Executor
    slots: int
    show: _Show
    again: set[str]
    at_work: dict[Future[RunResult], filelock.BaseFileLock] = field(default_factory=dict)

    def make(self, todo: Sequence[Run]) -> None:
        """Make all of these runs, or wait for another process that makes them."""
        waiting, elsewhere = deque(todo), deque[Run]()
        told = False
        try:
            while waiting or elsewhere or self.at_work:
                while waiting and len(self.at_work) < self.slots:
                    run = waiting.popleft()
                    if not self._hand_out(run):
                        elsewhere.append(run)
                if self.at_work:
                    self._collect(_WAIT if elsewhere else None)
                elif elsewhere:
                    if not told:
                        self.show.waiting(len(elsewhere))
                        told = True
                    time.sleep(_WAIT)
                if not waiting and elsewhere:
                    waiting, elsewhere = elsewhere, waiting
        finally:
            for lock in self.at_work.values():
                lock.release()

    def _hand_out(self, run: Run) -> bool:
        """Give a run to a worker; False if another process trains it."""
        lock = self.store.claim(run.key)
        if lock is None:
            return False
        if run.key not in self.again and is_complete(self.store, run, self.plan.request):
            lock.release()  # another process has made it in the meantime
            return True
        try:
            future = self.executor.submit(execute, self._job(run))
        except BaseException:
            lock.release()
            raise
        self.at_work[future] = lock
        return True

    def _job(self, run: Run) -> Job:
        """What a worker is to do; with the checkpoint of a run that is trained and has to draw again."""
        record = None if run.key in self.again else self.store.record(run.key)
        name = record["checkpoint"] if record else None
        return Job(
            run,
            self.training_sets[run.seed],
            self.plan.request,
            (run.judge,) if run.judge else self.plan.judges,
            self.store.read(run.key, name) if name else None,
            record,
            self.show.folder,
        )

    def _collect(self, timeout: float | None) -> None:
        """Store what has come back."""
        done, _ = wait(self.at_work, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            lock = self.at_work[future]
            try:
                result = future.result()
                self.store.add(result, replace=result.key in self.again)
            finally:
                del self.at_work[future]
                lock.release()
            self.show.finished(result)


@contextlib.contextmanager
def _executor(workers: Workers) -> Iterator[tuple[Executor, int]]:
    """An executor and how many runs it works on at a time; it ends at once when the block fails."""
    if workers.cluster:
        with cluster(workers.cluster) as found:
            yield found
    elif workers.jobs == 1:
        yield Here(), 1
    else:
        with processes(workers.jobs) as executor:
            yield executor, workers.jobs


@contextlib.contextmanager
def _progress(console: Console, todo: Sequence[Run], workers: Workers) -> Iterator[_Show]:
    """Bars with time left on a terminal, one line a finished run everywhere."""
    bars = progress_bars(console)
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = {run.key: bars.add_task(f"{run.spec.name} seed {run.seed}", total=1) for run in todo}
        labels = {run.key: f"{run.spec.name} seed {run.seed}" for run in todo}

        def poll() -> None:
            while not stop.wait(POLL):
                for path in folder.glob("[0-9a-f]*"):
                    words = path.read_text(encoding="utf-8").split()
                    if path.name in tasks and len(words) == 3:
                        stage, done, total = words
                        bars.update(
                            tasks[path.name],
                            completed=int(done),
                            total=int(total),
                            description=f"{labels[path.name]} {stage}",
                        )

        def finished(result: RunResult) -> None:
            task = tasks[result.key]
            bars.update(task, completed=1, total=1)
            verb = "solved" if result.record["judge"] else "trained"
            text = f"{labels[result.key]}: {verb} in {result.record['train_seconds']:.0f} s"
            console.print(text, highlight=False, markup=False)

        def waiting(number: int) -> None:
            console.print(f"waiting for {number} runs of another process on this store", highlight=False)

        watcher = threading.Thread(target=poll, daemon=True)
        with bars:
            watcher.start()
            try:
                yield _Show("" if workers.cluster else name, finished, waiting)
            finally:
                stop.set()
                watcher.join()
