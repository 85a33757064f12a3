"""Calculating many compounds, side by side where that is possible; outcomes come as they are there."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)

import numpy as np
from numpy.typing import NDArray

from agents.discovery.energies import BatchSource, EnergySource, one_line
from agents.discovery.outcome import Outcome
from elpa_env.errors import InputError
from elpa_env.workers import Here, cluster, processes


def label_all(
    source: EnergySource, numbers: NDArray[np.int16], *, jobs: int = 1, cluster: str = ""
) -> Generator[tuple[int, Outcome], None, None]:
    """Calculate compounds.

    A worker that dies takes its own calculation with it, which is an outcome with an error, and no other.
    Whoever stops iterating closes the iterator, which ends what is at work.

    Args:
        source: of energies.
        numbers: (n, S) atomic numbers.
        jobs: calculations side by side on this machine.
        cluster: address of a Dask scheduler whose workers calculate instead.

    Yields:
        Positions in `numbers` and their outcomes, in the order in which they arrive.

    Raises:
        InputError: a number of jobs that is not positive, or no such cluster.
    """
    if jobs < 1:
        raise InputError(f"--jobs must be at least 1, got {jobs}")
    if isinstance(source, BatchSource) and not cluster:
        yield from enumerate(source.batch(numbers))
        return
    rest, suspects = list(range(len(numbers))), list[int]()
    while rest:
        with _executor(source, min(jobs, len(rest)), cluster) as (executor, slots):
            left = yield from _work(executor, slots, source, numbers, rest)
        rest, more = left
        suspects += more
    for place in suspects:
        # a worker that dies breaks the pool for all: those at work are tried again, each by itself
        with _executor(source, 1, cluster, alone=True) as (executor, slots):
            _, guilty = yield from _work(executor, slots, source, numbers, [place])
        if guilty:
            yield place, Outcome(math.nan, "its worker process died")


Work = Generator[tuple[int, Outcome], None, tuple[list[int], list[int]]]


def _work(
    executor: Executor, slots: int, source: EnergySource, numbers: NDArray[np.int16], todo: list[int]
) -> Work:
    """Outcomes of some compounds; returns those left and those at work where the executor breaks."""
    waiting, at_work, suspects = list(reversed(todo)), dict[Future[Outcome], int](), list[int]()
    while waiting or at_work:
        while waiting and len(at_work) < slots and not suspects:
            place = waiting.pop()
            try:
                at_work[executor.submit(source, numbers[place])] = place
            except BrokenExecutor:
                waiting.append(place)
                suspects.append(-1)
        if not at_work:
            break
        done, _ = wait(at_work, return_when=FIRST_COMPLETED)
        for future in done:
            place, error = at_work.pop(future), future.exception()
            if error is None:
                yield place, future.result()
            elif isinstance(error, BrokenExecutor):
                suspects.append(place)
            else:
                yield place, Outcome(math.nan, f"its worker failed: {one_line(error)}")
    return list(reversed(waiting)), [place for place in suspects if place >= 0]


@contextlib.contextmanager
def _executor(
    source: EnergySource, jobs: int, address: str, *, alone: bool = False
) -> Iterator[tuple[Executor, int]]:
    """Who calculates, and how many at a time; `alone` in a process of its own."""
    if address:
        with cluster(address) as found:
            yield found
    elif jobs == 1 and not alone:
        yield Here(), 1
    elif source.workers == "processes":
        with processes(jobs) as executor:
            yield executor, jobs
    else:
        threads = ThreadPoolExecutor(jobs)
        try:
            yield threads, jobs
        except BaseException:
            source.close()
            raise
        finally:
            threads.shutdown(cancel_futures=True)
