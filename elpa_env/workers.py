"""Executors of `concurrent.futures` for long work: this process, its worker processes, or a Dask cluster."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Final

from elpa_env.errors import InputError

POLL: Final = 0.2
"""Seconds between two looks at whether the master process is still there."""
_SAFE_PATH: Final = "PYTHONSAFEPATH"


class Here(ThreadPoolExecutor):
    """Runs what is submitted at once, in the caller's own thread, so that Ctrl-C reaches it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the function now."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextlib.contextmanager
def processes(jobs: int) -> Iterator[Executor]:
    """Worker processes of this machine; they end at once when the block fails, and with their master."""
    with safe_path():
        from loky import ProcessPoolExecutor

        executor = ProcessPoolExecutor(jobs, initializer=end_with, initargs=(os.getpid(),))
        try:
            with silent_restarts():
                yield executor
        except BaseException:
            executor.shutdown(kill_workers=True)
            raise
        executor.shutdown()


@contextlib.contextmanager
def silent_restarts() -> Iterator[None]:
    """Say nothing of a worker that loads a potential, is taken for one that leaks, and restarts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A worker was restarted while some jobs", UserWarning)
        yield


@contextlib.contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """The workers of a Dask scheduler and how many there are; work whose worker dies goes to another one.

    Raises:
        InputError: see `dask_client`.
    """
    with dask_client(address) as (client, threads):
        yield client.get_executor(pure=False, retries=3), threads


@contextlib.contextmanager
def dask_client(address: str) -> Iterator[tuple[Any, int]]:
    """A client of a Dask scheduler, and how many threads its workers have.

    Raises:
        InputError: Dask is not installed, no scheduler answers, or it has no workers.
    """
    try:
        import distributed
    except ImportError as error:
        raise InputError("--cluster needs Dask: pip install 'elpasolite[cluster]'") from error
    try:
        client: Any = distributed.Client(address, timeout=10, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"--cluster {address}: no Dask scheduler answers there") from error
    try:
        threads = sum(client.nthreads().values())
        if threads == 0:
            raise InputError(f"--cluster {address} has no workers: start some with `dask worker {address}`")
        yield client, threads
    finally:
        client.close()


def end_with(master: int) -> None:
    """End this process soon after its master, however that ended; for worker processes.

    Args:
        master: process id of the master, which started this process.
    """

    def watch() -> None:
        while os.getppid() == master:
            time.sleep(POLL)
        os._exit(1)

    if os.getpid() != master:
        threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """New processes of Python look for no code in the working folder, as they otherwise do first."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before
