"""Asking a source for the energies of many compounds: at once, on this machine's cores, or on a Dask cluster.

Every calculation has a slot of its own. A worker process that dies takes one calculation with it and no
other, and its slot gets a new one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from agents.discovery.energies import EnergySource, Outcome, failed
from elpa_env.errors import InputError
from elpa_env.sampler import Progress
from elpa_env.workers import dask_client, end_with, safe_path, silent_restarts

_BATCH: Final = 1 << 16
"""Compounds that a source is asked for at once where it can."""


@runtime_checkable
class _Batched(Protocol):
    """A source that answers for many compounds at once."""

    def many(self, numbers: NDArray[np.int16]) -> NDArray[np.float64]: ...

    def outcome(self, energy: float) -> Outcome: ...


def label_all(
    source: EnergySource,
    numbers: NDArray[np.int16],
    *,
    jobs: int = 1,
    cluster: str = "",
    progress: Progress | None = None,
) -> Iterator[tuple[int, Outcome]]:
    """Label compounds, and give every outcome the moment it arrives.

    Closing the iterator ends what still runs.

    Args:
        source: of the energies.
        numbers: (n, S) atomic numbers on the sites.
        jobs: calculations at a time on this machine.
        cluster: address of a Dask scheduler, whose workers calculate instead; "" for this machine.
        progress: called with the calculations done and their number.

    Yields:
        The position 0..n-1 of a compound and its outcome, in the order in which they arrive.

    Raises:
        InputError: `jobs` is below 1, or the cluster cannot be reached.
    """
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise InputError(f"jobs must be a whole number of at least 1, got {jobs!r}")
    numbers = np.asarray(numbers, dtype=np.int16)
    arriving = _arriving(source, numbers, min(jobs, max(1, len(numbers))), cluster)
    return _told(arriving, len(numbers), progress)


def _told(
    arriving: Iterator[tuple[int, Outcome]], n: int, progress: Progress | None
) -> Iterator[tuple[int, Outcome]]:
    """The same outcomes; `progress` hears of each."""
    with contextlib.closing(arriving):  # type: ignore[type-var]
        for done, (position, outcome) in enumerate(arriving, start=1):
            yield position, outcome
            if progress is not None:
                progress(done, n)


def _arriving(
    source: EnergySource, numbers: NDArray[np.int16], jobs: int, cluster: str
) -> Iterator[tuple[int, Outcome]]:
    """The outcomes as they arrive."""
    if len(numbers) == 0:
        return iter(())
    if source.workers == "none":
        return _at_once(source, numbers)
    if cluster:
        return _on_cluster(source, numbers, cluster)
    if source.workers == "threads":
        return _on_threads(source, numbers, jobs)
    return _in_processes(source, numbers, jobs)


# --- At once ---


def _at_once(source: EnergySource, numbers: NDArray[np.int16]) -> Iterator[tuple[int, Outcome]]:
    """Ask for whole batches; compound by compound where a batch as a whole fails."""
    for start in range(0, len(numbers), _BATCH):
        batch = numbers[start : start + _BATCH]
        energies: NDArray[np.float64] | None = None
        if isinstance(source, _Batched):
            with contextlib.suppress(Exception):  # what one compound raises is no reason to lose the others
                energies = source.many(batch)
        for row in range(len(batch)):
            if energies is None:
                yield start + row, _ask(source, batch[row])
            else:
                assert isinstance(source, _Batched)
                yield start + row, source.outcome(energies[row])


def _ask(source: EnergySource, numbers: NDArray[np.int16]) -> Outcome:
    """One outcome, also of a source that raises against its promise."""
    started = time.perf_counter()
    try:
        return source(numbers)
    except Exception as error:
        return failed(error, time.perf_counter() - started)


# --- Slots ---


def _drive(
    submit: Callable[[int, NDArray[np.int16]], Future[Outcome]], numbers: NDArray[np.int16], slots: int
) -> Iterator[tuple[int, Outcome]]:
    """Keep all slots at work, and give what comes back.

    Args:
        submit: starts the calculation of (S,) atomic numbers in a slot.
        numbers: (n, S) atomic numbers.
        slots: calculations at a time.
    """
    waiting = iter(range(len(numbers)))
    free = list(range(slots))
    at_work: dict[Future[Outcome], tuple[int, int, float]] = {}
    while True:
        while free and (position := next(waiting, None)) is not None:
            slot = free.pop()
            at_work[submit(slot, numbers[position])] = position, slot, time.perf_counter()
        if not at_work:
            return
        done, _ = wait(at_work, return_when=FIRST_COMPLETED)
        for future in done:
            position, slot, started = at_work.pop(future)
            free.append(slot)
            yield position, _result(future, time.perf_counter() - started)


def _result(future: Future[Outcome], seconds: float) -> Outcome:
    """What a slot gave; a worker that died gave an error."""
    try:
        return future.result()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        return failed(f"the worker died ({type(error).__name__}: {reason})", seconds)


def _on_threads(source: EnergySource, numbers: NDArray[np.int16], jobs: int) -> Iterator[tuple[int, Outcome]]:
    """Threads of this process, each of which waits for a process of the source's."""
    executor = ThreadPoolExecutor(jobs)
    finished = False
    try:
        yield from _drive(lambda _, row: executor.submit(_ask, source, row), numbers, jobs)
        finished = True
    finally:
        if not finished:
            source.close()  # the threads wait for what this ends
        executor.shutdown(cancel_futures=True)


def _in_processes(
    source: EnergySource, numbers: NDArray[np.int16], jobs: int
) -> Iterator[tuple[int, Outcome]]:
    """Processes of this machine, an executor each, so that one which dies takes no other with it."""
    with silent_restarts(), _Processes(source) as processes:
        yield from _drive(processes.submit, numbers, jobs)


class _Processes:
    """Executors of one process each, made when they are first needed and again when theirs has died."""

    def __init__(self, source: EnergySource) -> None:
        from loky.backend.reduction import dumps

        self._source = bytes(dumps(source))
        self._executors: dict[int, Any] = {}

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for executor in self._executors.values():
            executor.shutdown(kill_workers=True)

    def submit(self, slot: int, numbers: NDArray[np.int16]) -> Future[Outcome]:
        """Start a calculation in a slot."""
        executor = self._executors.get(slot)
        if executor is not None and executor._flags.broken is not None:
            executor.shutdown(kill_workers=True)
            executor = None
        if executor is None:
            self._executors[slot] = executor = self._start()
        return executor.submit(_ask_pickled, self._source, numbers)

    def _start(self) -> Executor:
        from loky import ProcessPoolExecutor

        with safe_path():
            executor: Executor = ProcessPoolExecutor(1, initializer=end_with, initargs=(os.getpid(),))
            # the process starts here, while the environment says where it may look for code; what it takes to
            # load the source, often a library for networks, is then no growth by which loky finds a leak
            executor.submit(_warm_up, self._source)
        return executor


@functools.lru_cache(maxsize=2)
def _unpickled(source: bytes) -> EnergySource:
    """The source in this worker, made once, with one thread for each calculation."""
    import pickle

    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)
    loaded: EnergySource = pickle.loads(source)
    return loaded


def _warm_up(source: bytes) -> None:
    """Load the source ahead; what goes wrong is told by the first calculation."""
    with contextlib.suppress(Exception):
        _unpickled(source)


def _ask_pickled(source: bytes, numbers: NDArray[np.int16]) -> Outcome:
    """What a worker does."""
    return _ask(_unpickled(source), numbers)


def _forget() -> None:
    """End what the sources of a worker have started."""
    _unpickled.cache_clear()


# --- A cluster ---


def _on_cluster(
    source: EnergySource, numbers: NDArray[np.int16], address: str
) -> Iterator[tuple[int, Outcome]]:
    """The workers of a Dask scheduler; one that dies is retried on another as often as Dask is told to.

    Raises:
        InputError: Dask is not installed, or no scheduler answers.
    """
    from loky.backend.reduction import dumps

    pickled = bytes(dumps(source))
    with dask_client(address) as (client, slots):
        executor = client.get_executor(pure=False, retries=0)
        try:
            yield from _drive(lambda _, row: executor.submit(_ask_pickled, pickled, row), numbers, slots)
        finally:
            executor.shutdown(wait=False)
            client.run(_forget)
