r"""Energies by a command of the user's: one JSON line a structure on its input, one on its output.

The command is started once for each calculation that runs side by side, without a shell, and stays. A line
that it reads (here broken) holds

    {"id": 3, "formula": "AlNaK2F6", "numbers": {"A": 13, "B": 11, "C": 19, "D": 9},
     "symbols": ["Al", ...], "cell": [[0.0, 4.1, 4.1], ...], "scaled_positions": [[0.0, 0.0, 0.0], ...],
     "parameters": {"a": 8.2, "x": 0.22},
     "derivatives": {"a": {"cell": [[...]], "scaled_positions": [[...]]}, "x": {...}},
     "cif": "..."}

``symbols``, ``cell`` (angstrom) and ``scaled_positions`` are the primitive cell at the ``parameters``, where
covalent radii touch; ``derivatives`` is how it changes with each of them, so that a command can relax it
within its symmetry; ``cif`` is the conventional cell. A prototype without a structure has none of these.
The command answers

    {"id": 3, "energy": -2.51}

in the quantity of the space's targets, which is the formation energy in eV/atom unless it is said otherwise,
perhaps with ``"parameters"`` as relaxed; or ``{"id": 3, "error": "why not"}``. Everything else that it
prints belongs on its standard error.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from agents.discovery.energies import COMMAND, Outcome, Workers, failed
from elpa_env.dft import MAX_ENERGY
from elpa_env.errors import InputError, printable
from elpa_env.space import Space

_MAX_LINE: Final = 1 << 20
_MAX_WAITING: Final = 100
"""Lines that are read before anybody asks for them."""
_PATIENCE: Final = 2.0
"""Seconds that a command has to end by itself when its input ends."""
_FIRST_LOOK: Final = 0.5
"""Seconds after its start in which a command that dies is taken for one that cannot be started."""
_QUOTED: Final = 80
_POLL: Final = 0.2


_GUARD: Final = f"""
import os, signal, subprocess, sys
master = int(sys.argv[1])
try:
    command = subprocess.Popen(sys.argv[2:])
except OSError as error:
    sys.exit(error.strerror)
while True:
    try:
        status = command.wait({_POLL})
        sys.exit(status if status >= 0 else 128 - status)
    except subprocess.TimeoutExpired:
        if os.getppid() != master:
            os.killpg(0, signal.SIGKILL)
"""
"""What stands between this process and the command, to end it with this process however that ends: a command
that calculates for hours looks at its input only afterwards."""


class _TryError(Exception):
    """A try that failed: the command died or answered nonsense."""


class CommandEnergy:
    """Energies by a long-lived command, a process for each thread that asks at the same time.

    A process that dies, answers nonsense or runs over its time is ended with all that it started, and
    another takes its place.

    Args:
        command: as a shell would split it; no shell is run.
        space: of the compounds.
        time_limit: seconds for a compound, all tries together.
        retries: tries for a compound beyond the first, where the command died or answered nonsense; an error
            that it states is final.

    Attributes:
        name: see `agents.discovery.energies.EnergySource`.
        restarts: processes that were ended because a try failed.

    Raises:
        InputError: the command cannot be started.
    """

    workers: Workers = "threads"

    def __init__(self, command: str, space: Space, *, time_limit: float = 3600.0, retries: int = 2) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise InputError(f"cannot read the command {command!r} ({error}): close its quotes") from error
        if not self._arguments:
            raise InputError(f"{COMMAND} names no command: write '{COMMAND} python3 label.py'")
        self.name = f"{COMMAND} {printable(command)}"
        self._space = space
        self._time_limit = time_limit
        self._retries = retries
        self._prepare()
        with self._lock:
            process = self._start()
        if not process.lives_for(_FIRST_LOOK):
            reason = process.obituary()
            self.close()
            raise InputError(f"cannot use the command {command!r}: {reason}")
        self._idle.append(process)

    def _prepare(self) -> None:
        """What belongs to this process alone."""
        self.restarts = 0
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = 0
        self._idle: list[_Process] = []
        self._processes: set[_Process] = set()
        weakref.finalize(self, _end_all, self._processes)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker elsewhere needs to start the command for itself."""
        kept = ("name", "_arguments", "_space", "_time_limit", "_retries")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start nothing yet."""
        self.__dict__.update(state)
        self._prepare()

    def __call__(self, numbers: NDArray[np.int16]) -> Outcome:
        """The outcome for (S,) atomic numbers."""
        started = time.perf_counter()
        closed = self._closed
        try:
            request = self._request(numbers)
        except InputError as error:
            return failed(error, time.perf_counter() - started)
        reason, until = "", started + self._time_limit
        for tries in range(1, self._retries + 2):
            try:
                outcome = self._try(request, until, closed)
            except _TryError as error:
                reason = str(error) if tries == 1 else f"{error} ({tries} tries)"
                if self._closed != closed:
                    reason = "it was stopped"
                    break
            except InputError as error:
                reason = str(error)
                break
            except TimeoutError:
                reason = f"it takes longer than {self._time_limit:g} s"
                break
            else:
                energy, seconds = outcome.energy, time.perf_counter() - started
                return Outcome(energy, outcome.error, seconds, outcome.parameters)
        return failed(reason, time.perf_counter() - started)

    def close(self) -> None:
        """End all processes; a calculation that runs fails, and a later one starts anew."""
        with self._lock:
            self._closed += 1
            self._idle.clear()
            processes = list(self._processes)
            self._processes.clear()
        _end_all(processes)

    # --- one try ---

    def _try(self, request: Mapping[str, Any], until: float, closed: int) -> Outcome:
        """Ask once.

        Raises:
            _TryError: it failed.
            TimeoutError: there is no time left.
        """
        number = next(self._ids)
        line = json.dumps({"id": number, **request}).encode() + b"\n"
        with self._process(closed) as process:
            answer = process.ask(line, until)
            return self._understand(answer, number)

    @contextlib.contextmanager
    def _process(self, closed: int) -> Iterator[_Process]:
        """A process that nobody else asks; it is ended where the block raises."""
        with self._lock:
            if self._closed != closed:
                raise _TryError("it was stopped")
            process = self._idle.pop() if self._idle else self._start()
        try:
            yield process
        except BaseException:
            with self._lock:
                self.restarts += self._closed == closed
                self._processes.discard(process)
            process.end()
            raise
        with self._lock:
            if self._closed == closed:
                self._idle.append(process)

    def _start(self) -> _Process:
        """A new process, with the lock held.

        Raises:
            InputError: it cannot be started.
        """
        try:
            process = _Process(self._arguments)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"cannot start the command {self._arguments[0]!r}: {reason}") from error
        self._processes.add(process)
        return process

    # --- what is said ---

    def _request(self, numbers: NDArray[np.int16]) -> dict[str, Any]:
        """What the command is told of a compound."""
        space = self._space
        (formula,) = space.index_to_formula(space.numbers_to_index(numbers[None]))
        of_site = dict(zip(space.sites, numbers.tolist(), strict=True))
        request: dict[str, Any] = {"formula": str(formula), "numbers": of_site}
        if space.prototype.structure is None:
            return request
        from agents.discovery.relax import Geometry

        geometry = Geometry(space.prototype, numbers)
        values = geometry.start
        derivatives = {
            name: {
                "cell": geometry.cell_slope(name, values).tolist(),
                "scaled_positions": geometry.slopes[name].tolist(),
            }
            for name in geometry.names
        }
        return request | {
            "symbols": geometry.symbols,
            "cell": geometry.cell(values).tolist(),
            "scaled_positions": geometry.positions(values).tolist(),
            "parameters": values,
            "derivatives": derivatives,
            "cif": space.prototype.cif(numbers, **values),
        }

    def _understand(self, line: bytes, number: int) -> Outcome:
        """The outcome that an answer states.

        Raises:
            _TryError: it states none.
        """
        text = line.decode("utf-8", errors="replace").strip()
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            raise _nonsense(text, "no JSON") from None
        if not isinstance(answer, dict):
            raise _nonsense(text, "no JSON object")
        if answer.get("id") != number or isinstance(answer.get("id"), bool):
            raise _nonsense(text, f"its id must be {number}")
        if answer.get("error") is not None:
            return failed(str(answer["error"]))
        energy = _finite(answer.get("energy"))
        if energy is None:
            raise _nonsense(text, "its energy must be a finite number")
        if self._space.targets.unit == "eV/atom" and abs(energy) > MAX_ENERGY:
            raise _nonsense(text, f"the energy must be within ±{MAX_ENERGY:g} eV/atom")
        parameters = answer.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise _nonsense(text, "its parameters must be finite numbers by name")
        known = {name: n for name, value in parameters.items() if (n := _finite(value)) is not None}
        if len(known) < len(parameters):
            raise _nonsense(text, "its parameters must be finite numbers by name")
        return Outcome(energy, parameters=known)


def _finite(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            if math.isfinite(number := float(value)):
                return number
    return None


def _nonsense(text: str, why: str) -> _TryError:
    shown = text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
    return _TryError(f"the command answered {printable(shown)!r}: {why}")


def _end_all(processes: Sequence[_Process] | set[_Process]) -> None:
    """End processes side by side: all of their inputs first."""
    for process in list(processes):
        process.close_input()
    until = time.perf_counter() + _PATIENCE
    for process in list(processes):
        process.end(until)


# --- A process ---


class _Process:
    """A running command in a process group of its own, so that all that it starts can be ended with it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        if shutil.which(arguments[0]) is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such program")
        pipe = subprocess.PIPE
        guard = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid())]
        self._popen = subprocess.Popen(
            [*guard, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._input: IO[bytes] = self._popen.stdin
        self._lines: queue.Queue[bytes | None] = queue.Queue(_MAX_WAITING)
        self._last_words = ""
        self._ended = threading.Event()
        self._readers = [
            threading.Thread(target=self._read_answers, args=(self._popen.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._popen.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def lives_for(self, seconds: float) -> bool:
        """Whether it has not ended so many seconds from now."""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def ask(self, line: bytes, until: float) -> bytes:
        """Its answer to a line.

        Raises:
            _TryError: it has ended, or did instead of answering.
            TimeoutError: there is none until then.
        """
        remaining = until - time.perf_counter()
        if remaining <= 0:
            raise TimeoutError
        # a command that does not read leaves its input full: writing to it ends when it is killed
        killer = threading.Timer(remaining, self._kill)
        killer.start()
        try:
            self._input.write(line)
            self._input.flush()
        except (OSError, ValueError):
            if time.perf_counter() >= until:
                raise TimeoutError from None
            raise _TryError(self.obituary()) from None
        finally:
            killer.cancel()
        return self._answer(until)

    def _answer(self, until: float) -> bytes:
        """The next line that is not blank."""
        while (remaining := until - time.perf_counter()) > 0:
            try:
                line = self._lines.get(timeout=remaining)
            except queue.Empty:
                break
            if line is None:
                raise _TryError(self.obituary())
            if line.strip():
                return line
        raise TimeoutError

    def obituary(self) -> str:
        """How it ended, and the last that it wrote on its standard error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_PATIENCE)
        self._readers[1].join(_POLL)
        status = self._popen.poll()
        how = "closed its output" if status is None else f"ended with status {status}"
        return f"the command {how}" + (f": {self._last_words}" if self._last_words else "")

    def close_input(self) -> None:
        """Tell it that there is nothing more to come."""
        with contextlib.suppress(OSError, ValueError):
            self._input.close()

    def end(self, until: float = 0.0) -> None:
        """End it and all that it started, and wait for that; by itself until then, by force afterwards."""
        self._ended.set()
        if until:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(max(0.0, until - time.perf_counter()))
        self._kill()
        self._popen.wait()
        self.close_input()
        for reader in self._readers:
            reader.join(_PATIENCE)
        with contextlib.suppress(queue.Empty, queue.Full):
            if self._lines.full():
                self._lines.get_nowait()
            self._lines.put_nowait(None)  # who still waits for an answer waits in vain

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def _read_answers(self, stream: IO[bytes]) -> None:
        """Keep lines for whoever asks; a command that writes on and on has to wait."""
        with stream:
            for line in _lines(stream):
                self._put(line)
        self._put(None)

    def _put(self, line: bytes | None) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=_POLL)
                return

    def _read_errors(self, stream: IO[bytes]) -> None:
        with stream:
            for line in _lines(stream):
                if words := printable(line.decode("utf-8", errors="replace").strip()):
                    self._last_words = words[-2 * _QUOTED :]


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Its lines to the end, cut where they are too long."""
    with contextlib.suppress(OSError, ValueError):
        while line := stream.readline(_MAX_LINE):
            yield line
