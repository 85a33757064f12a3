"""Energies by a program of the user's own, in whatever environment it needs.

The program runs on. It reads a line of JSON for every structure and answers each with a line of JSON: ::

    {"id": "7", "formula": "AlNaK2F6", "numbers": {"A": 13, ...}, "parameters": {"a": 8.5, "x": 0.25},
     "symbols": ["Al", ...], "cell": [[...], ...], "scaled_positions": [[...], ...], "cif": "..."}

    {"id": "7", "energy": -2.91}  or  {"id": "7", "error": "did not converge"}

``energy`` is the formation energy in eV/atom; ``parameters``, the relaxed ones, may stand beside it. The
structure is missing where the prototype has none. What the program writes to its standard error goes to that
of this process's log file, and its last line stands in the message where the program ends.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from typing import IO, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from agents.discovery.outcome import Outcome
from elpa_env.errors import InputError, printable
from elpa_env.space import Space

MAX_ENERGY: Final = 25.0
"""eV/atom; a larger one is in other units."""
MAX_LINE: Final = 1 << 20
"""Characters of an answer."""
_GRACE: Final = 2.0
"""Seconds that a program has to end by itself."""


class Failed(Exception):
    """A try did not give an energy; what it says is one line."""


class CommandEnergy:
    """Energies by a command; threads have a process of it each.

    Args:
        command: program and arguments, as a shell would read them; no shell is used.
        space: of the compositions.
        time_limit: seconds for a structure.
        retries: further tries for a structure whose process hangs, ends or answers nonsense.

    Raises:
        InputError: the command is empty or there is no such program.
    """

    workers: Literal["threads", "processes"] = "threads"

    def __init__(self, command: str, space: Space, time_limit: float = 3600.0, retries: int = 2) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise InputError(f"the command {command!r} cannot be read: {error}") from error
        if not self._words:
            raise InputError("the command is empty: write 'command: PROGRAM ARGUMENTS'")
        if shutil.which(self._words[0]) is None:
            raise InputError(f"the command cannot be started: there is no program {self._words[0]!r}")
        if not time_limit > 0:
            raise InputError(f"the time limit must be above 0 seconds, got {time_limit:g}")
        if retries < 0:
            raise InputError(f"the number of retries must be at least 0, got {retries}")
        self.name = printable(f"command: {command}")
        self.space, self.time_limit, self.retries = space, time_limit, retries
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._number = 0

    def __call__(self, numbers: NDArray[np.int16]) -> Outcome:
        """See `EnergySource`."""
        began = time.perf_counter()
        request = structure_request(self.space, numbers)
        error = ""
        for _ in range(1 + self.retries):
            process = None
            try:
                process = self._take()
                with self._lock:
                    self._number += 1
                    name = str(self._number)
                energy, parameters = _answer(process.ask({"id": name, **request}, self.time_limit), name)
            except _Said as said:
                assert process is not None
                self._give_back(process)
                return Outcome(math.nan, str(said), time.perf_counter() - began)
            except Failed as failed:
                error = str(failed)
                if process is not None:
                    self._drop(process)
                if self._closed:
                    break
                continue
            except BaseException:
                if process is not None:
                    self._drop(process)
                raise
            self._give_back(process)
            return Outcome(energy, "", time.perf_counter() - began, parameters)
        tries = f" ({1 + self.retries} tries)" if self.retries else ""
        return Outcome(math.nan, f"{error}{tries}", time.perf_counter() - began)

    def close(self) -> None:
        """End all processes of the command."""
        with self._lock:
            self._closed = True
            running, self._idle = list(self._all), []
        for process in running:
            self._drop(process)

    def _take(self) -> _Process:
        with self._lock:
            if self._closed:
                raise Failed("the campaign was ended")
            if self._idle:
                return self._idle.pop()
        process = _Process(self._words)
        with self._lock:
            self._all.add(process)
        return process

    def _give_back(self, process: _Process) -> None:
        with self._lock:
            self._idle.append(process)

    def _drop(self, process: _Process) -> None:
        process.end()
        with self._lock:
            self._all.discard(process)


class _Said(Exception):
    """The program itself says why there is no energy; another try would say the same."""


class _Process:
    """A running program."""

    def __init__(self, words: list[str]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise Failed(f"the command cannot be started: {error.strerror or error}") from error
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        """Pass lines on as they come; an empty one at the end."""
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while line := self._process.stdout.readline(MAX_LINE):
                self._lines.put(line)
        self._lines.put(b"")

    def ask(self, request: Mapping[str, Any], time_limit: float) -> bytes:
        """The line that the program answers with.

        Raises:
            Failed: it ends, or takes too long.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise Failed(self._ended()) from None
        try:
            line = self._lines.get(timeout=time_limit)
        except queue.Empty:
            raise Failed(f"the command took longer than {time_limit:g} s") from None
        if not line:
            raise Failed(self._ended())
        return line

    def _ended(self) -> str:
        """That the program ended, and the last that it said."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        status = self._process.poll()
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(self._errors.tell() - 4096, 0))
        said = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        last = f": {said[-1][:200]}" if said else ""
        return printable(f"the command ended with status {status}{last}")

    def end(self) -> None:
        """End the program and all that it started."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


def _answer(line: bytes, name: str) -> tuple[float, dict[str, float]]:
    """Energy and parameters that a line states.

    Raises:
        Failed: it is no answer to that request.
        _Said: it says why there is no energy.
    """
    shown = printable(line.decode("utf-8", "replace").strip())[:80]
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        raise Failed(f"the command answered {shown!r}, which is no JSON") from None
    if not isinstance(answer, dict) or str(answer.get("id")) != name:
        raise Failed(f"the command answered {shown!r}, not the structure that it was asked for")
    if answer.get("error"):
        raise _Said(printable(answer["error"])[:300])
    energy, parameters = answer.get("energy"), answer.get("parameters") or {}
    if isinstance(energy, bool) or not isinstance(energy, int | float) or not math.isfinite(energy):
        raise Failed(f"the command answered {shown!r}, without a finite energy")
    if abs(energy) > MAX_ENERGY:
        raise Failed(
            f"the command answered {energy:g} eV/atom, more than ±{MAX_ENERGY:g}: is it a total energy, or "
            "that of a formula unit?"
        )
    plain = isinstance(parameters, dict) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in parameters.values()
    )
    if not plain:
        raise Failed(f"the command answered {shown!r}, with parameters that are no numbers")
    return float(energy), {str(key): float(value) for key, value in parameters.items()}


def structure_request(space: Space, numbers: NDArray[np.int16]) -> dict[str, Any]:
    """What a program is told of (S,) atomic numbers; see the module."""
    index = space.numbers_to_index(np.asarray(numbers)[None])
    (formula,) = space.index_to_formula(index)
    request: dict[str, Any] = {
        "formula": str(formula),
        "numbers": dict(zip(space.sites, map(int, numbers), strict=True)),
    }
    prototype = space.prototype
    if prototype.structure is None:
        return request
    atoms = prototype.atoms(numbers)
    return {
        **request,
        "parameters": dict(prototype.structure.parameters),
        "symbols": list(atoms.get_chemical_symbols()),
        "cell": np.asarray(atoms.cell).tolist(),
        "scaled_positions": atoms.get_scaled_positions().tolist(),
        "cif": prototype.cif(numbers),
    }
