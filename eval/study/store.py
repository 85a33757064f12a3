"""The store of runs: a folder that only grows.

::

    results/store.json                  that this is a store, and its format
    results/runs/<name>-<key>/run.json  one run: what it depends on, what it saw, what it cost
                             /model.*   its checkpoint
                             /distribution-<c>.npz  the distribution that it states for class c, or
                             /draws-<c>-<n>.npz     how often it drew each composition in n valid samples
                             /score-*.json          figures under a judge, made from these
                             /curve-*.json          generation curves under a judge, made from these
    results/training_sets/<hash>.npz    the rows that runs were trained on
    results/locks/<key>.lock            held while a process trains that run

A run is written beside its place and moved there when it is complete, so that a killed process leaves
nothing that could be taken for a run. A folder counts as a run only if what stands in its ``run.json`` hashes
to the key in its name. Nothing here deletes a run; `Store.add` replaces one only when it was trained again on
purpose. Stores of several machines can be copied into each other.

One training of a conditional model serves all classes. A run may also be there with its figures alone, as
`eval.study.records` brings it; then it can be shown, and not judged anew.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import filelock
import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError
from elpa_env.files import (
    atomic_folder,
    is_temporary,
    parse_json,
    read_arrays,
    read_bytes,
    read_json,
    sha256,
    write_bytes,
    write_text,
)
from elpa_env.space import Space
from elpa_env.training import TrainingSet

FORMAT: Final = 2
"""Of the store; raised when an older one can no longer be read."""
_DERIVED: Final = re.compile("distribution-|draws-|score-|curve-")
"""Files that a run may gain later."""
_MARK: Final = "store.json"
_RECORD: Final = "run.json"
_KEY_LENGTH: Final = 16
_MAX_BYTES: Final = 1 << 30
"""Of a file of a run."""


def key_of(identity: Mapping[str, Any]) -> str:
    """The key of a run: 16 hexadecimal digits of the SHA-256 of what it depends on."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(text.encode())[:_KEY_LENGTH]


@dataclass(frozen=True)
class Request:
    """What is asked of a trained model.

    Attributes:
        target_class: 1..k.
        n_samples: valid samples.
    """

    target_class: int
    n_samples: int

    @property
    def draws_name(self) -> str:
        """Name of the file with what a run drew."""
        return f"draws-{self.target_class}-{self.n_samples}.npz"

    @property
    def distribution_name(self) -> str:
        """Name of the file with the distribution that a run states, good for any number of samples."""
        return f"distribution-{self.target_class}.npz"


@dataclass(frozen=True, eq=False)
class Draws:
    """What a sampler drew.

    Attributes:
        index: (k,) int32 different compositions, ascending.
        counts: (k,) int64 how often each was drawn.
        n_raw: candidates drawn to get them, those that are no composition included.
        kept: (m,) int32 the first samples in the order drawn.
        first: (k,) number of the checkpoint of `eval.curves.checkpoints` by which each was first drawn.
        seconds: that it took.
    """

    index: NDArray[np.int32]
    counts: NDArray[np.int64]
    n_raw: int
    kept: NDArray[np.int32]
    first: NDArray[np.uint8]
    seconds: float = 0.0

    def to_bytes(self) -> bytes:
        """The content of ``draws-<c>-<n>.npz``."""
        return _npz(
            steps=_steps(self.index),
            counts=self.counts,
            kept=self.kept,
            first=self.first,
            n_raw=np.int64(self.n_raw),
            seconds=np.float64(self.seconds),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Draws:
        """What `to_bytes` wrote; ValueError if the content does not fit together."""
        arrays = _arrays(data, steps=1, counts=1, kept=1, first=1, n_raw=0, seconds=0)
        index = np.cumsum(arrays["steps"], dtype=np.int32)
        counts = arrays["counts"].astype(np.int64)
        first = arrays["first"].astype(np.uint8)
        if not counts.shape == index.shape == first.shape or (counts < 1).any():
            raise ValueError("counts do not fit the compositions")
        kept = arrays["kept"].astype(np.int32)
        return cls(index, counts, int(arrays["n_raw"]), kept, first, float(arrays["seconds"]))


def distribution_to_bytes(distribution: NDArray[np.float64]) -> bytes:
    """The content of ``distribution-<c>.npz``: in single precision.

    Args:
        distribution: (n_table,) probability of every entry of the composition table.
    """
    places = np.flatnonzero(distribution > 0).astype(np.int32)
    return _npz(
        steps=_steps(places),
        probability=distribution[places].astype(np.float32),
        size=np.int64(len(distribution)),
        total=np.float64(distribution.sum()),
    )


def distribution_from_bytes(data: bytes) -> NDArray[np.float64]:
    """What `distribution_to_bytes` wrote, with its sum; ValueError if the content does not fit together."""
    arrays = _arrays(data, steps=1, probability=1, size=0, total=0)
    places = np.cumsum(arrays["steps"], dtype=np.int64)
    size = int(arrays["size"])
    probability = arrays["probability"].astype(np.float64)
    if probability.shape != places.shape or (len(places) and not 0 <= places.min() <= places.max() < size):
        raise ValueError("probabilities do not fit the compositions")
    if not (np.isfinite(probability) & (probability >= 0)).all():
        raise ValueError("probabilities must be finite and at least 0")
    distribution = np.zeros(size)
    distribution[places] = probability
    total = distribution.sum()
    return distribution * (float(arrays["total"]) / total) if total > 0 else distribution


def _steps(index: NDArray[np.int32]) -> NDArray[np.int32]:
    """Differences of ascending index, which compress to next to nothing."""
    return np.diff(index, prepend=np.int32(0)).astype(np.int32)


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _arrays(data: bytes, **dimensions: int) -> dict[str, NDArray[Any]]:
    """Numeric arrays of an npz file by name, each of as many dimensions as named."""
    arrays = read_arrays(data, "a file of a run")
    for name, ndim in dimensions.items():
        if name not in arrays or arrays[name].ndim != ndim or arrays[name].dtype.kind not in "iuf":
            raise ValueError(f"{name} is missing or of another form")
    return arrays


@dataclass(frozen=True)
class RunResult:
    """What training one run gave; it travels from a worker to the process that owns the store.

    Attributes:
        key: of the run.
        record: the content of ``run.json``; its ``identity`` hashes to the key.
        files: further files by name.
    """

    key: str
    record: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)


class Store:
    """The runs in a folder.

    Args:
        folder: of the store; made when the first run is added.

    Raises:
        InputError: the folder holds something else, or a store of another format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        mark = self.folder / _MARK
        if mark.exists():
            content = _read_json(mark)
            found = content.get("format") if isinstance(content, dict) else None
            if found != FORMAT:
                raise InputError(
                    f"{self.folder} is a store of format {found!r}, this version reads {FORMAT}: "
                    "name another folder with --out"
                )
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise InputError(
                f"{self.folder} is not empty and holds no runs of `elpa`: name another folder with --out"
            )

    @classmethod
    def existing(cls, folder: str | Path) -> Store:
        """The store in a folder that must have one.

        Raises:
            InputError: there is none.
        """
        if not (Path(folder) / _MARK).is_file():
            raise InputError(f"{folder} holds no runs: make some with `elpa compare --out {folder}`")
        return cls(folder)

    def create(self) -> None:
        """Make the folder, so that whether it can be written to is known before anything is trained."""
        if not (self.folder / _MARK).exists():
            write_text(self.folder / _MARK, json.dumps({"format": FORMAT}) + "\n")

    def path(self, key: str) -> Path | None:
        """The folder of a complete run with that key, the newest of several; None if there is none."""
        found = [(record, path) for path in self._runs(f"*-{key}") if (record := _record_of(path))]
        return max(found, key=lambda pair: (pair[0]["finished"], pair[1].name))[1] if found else None

    def record(self, key: str) -> dict[str, Any] | None:
        """The record of a run; None if there is none."""
        path = self.path(key)
        return None if path is None else _record_of(path)

    def records(self) -> Iterator[dict[str, Any]]:
        """The records of all complete runs, the oldest first."""
        found = (record for path in self._runs("*") if (record := _record_of(path)))
        newest = {r["key"]: r for r in sorted(found, key=lambda r: (r["finished"], r["key"]))}
        yield from newest.values()

    def has(self, key: str, name: str) -> bool:
        """Whether a run has a file of that name, sound or not."""
        path = self.path(key)
        return path is not None and (path / name).is_file()

    def read(self, key: str, name: str) -> bytes | None:
        """A file of a run; None if it has none of that name, or one that is damaged."""
        path = self.path(key)
        record = None if path is None else _record_of(path)
        if path is None or record is None:
            return None
        try:
            data = read_bytes(path / name, max_bytes=_MAX_BYTES)
        except InputError:
            return None
        return data if record["files"].get(name, sha256(data)) == sha256(data) else None

    def draws(self, key: str, request: Request) -> Draws | None:
        """What a run drew; None if that was never asked of it."""
        data = self.read(key, request.draws_name)
        if data is None:
            return None
        try:
            draws = Draws.from_bytes(data)
        except ValueError:
            return None
        return draws if int(draws.counts.sum()) == request.n_samples else None

    def drawn(self, key: str) -> list[tuple[int, int | None]]:
        """Class and number of valid samples of all that a run has drawn.

        The number is None where it states a distribution, which is good for any.
        """
        path = self.path(key)
        names = "" if path is None else "\n".join(sorted(file.name for file in path.iterdir()))
        stated = re.findall(r"^distribution-(\d+)\.npz$", names, re.MULTILINE)
        drawn = re.findall(r"^draws-(\d+)-(\d+)\.npz$", names, re.MULTILINE)
        return [*((int(c), None) for c in stated), *sorted((int(c), int(n)) for c, n in drawn)]

    def distribution(self, key: str, request: Request) -> NDArray[np.float64] | None:
        """(n_table,) distribution that a run states; None if it states none."""
        data = self.read(key, request.distribution_name)
        if data is None:
            return None
        try:
            return distribution_from_bytes(data)
        except ValueError:
            return None

    def add(self, result: RunResult, *, replace: bool = False) -> None:
        """Keep a run, all or nothing; of a run that is there only files that it lacks.

        Args:
            result: of training.
            replace: put it in the place of a run with the same key, which was to be trained again.

        Raises:
            InputError: the record is not that of the key, or the folder cannot be written to.
        """
        if key_of(result.record["identity"]) != result.key or result.record["key"] != result.key:
            raise InputError(f"a result names run {result.key} and is not of it: nothing was stored")
        present = self.path(result.key)
        known = None if present is None else _record_of(present)
        # of a run that is there with its figures alone all is new
        bare = known is not None and not known["checkpoint"]
        replace = replace or (bare and bool(result.record["checkpoint"]))
        if present is not None and not replace:
            for name, data in result.files.items():
                if _DERIVED.match(name) or self.read(result.key, name) is None:
                    write_bytes(present / name, data)
            return
        self.create()
        fixed = {name: sha256(data) for name, data in result.files.items() if not _DERIVED.match(name)}
        record = {**result.record, "files": fixed}
        target = record["target_class"]
        name = f"{_plain(record['name'])}-class{'any' if target is None else target}-seed{record['seed']}"
        if present is not None:
            name += f"-{uuid.uuid4().hex[:8]}"  # beside the earlier one, which is there until this one is
        with atomic_folder(self.folder / "runs" / f"{name}-{result.key}") as temporary:
            for file, data in result.files.items():
                (temporary / file).write_bytes(data)
            (temporary / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        if present is not None:
            (present / _RECORD).unlink(missing_ok=True)
            shutil.rmtree(present, ignore_errors=True)

    def put(self, key: str, name: str, data: bytes) -> None:
        """Add a file to a run, all or nothing; one of that name is replaced."""
        path = self.path(key)
        if path is None:
            raise InputError(f"{self.folder} holds no run {key}")
        write_bytes(path / name, data)

    def claim(self, key: str) -> filelock.BaseFileLock | None:
        """The right to train a run, until it is released or the process ends; None if another has it."""
        self.create()
        folder = self.folder / "locks"
        folder.mkdir(exist_ok=True)
        lock = filelock.FileLock(folder / f"{key}.lock", thread_local=False)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return None
        except OSError as error:
            raise InputError(f"cannot lock {lock.lock_file}: {error.strerror or error}") from error
        return lock

    def put_training_set(self, training_set: TrainingSet) -> None:
        """Keep rows that runs were trained on."""
        path = self._training_set_path(training_set.sha256)
        if path.exists():
            return
        self.create()
        name = training_set.name.encode("utf-8", "surrogateescape")
        space = json.dumps(training_set.space.to_dict()).encode()
        write_bytes(
            path,
            _npz(
                index=training_set.index,
                energy=training_set.energy,
                name=np.frombuffer(name, dtype=np.uint8),
                space=np.frombuffer(space, dtype=np.uint8),
            ),
        )

    def training_set(self, digest: str) -> TrainingSet:
        """Rows that runs were trained on.

        Raises:
            InputError: they are missing or damaged.
        """
        path = self._training_set_path(digest)
        try:
            arrays = _arrays(read_bytes(path, max_bytes=_MAX_BYTES), index=1, energy=1, name=1, space=1)
            name = arrays["name"].tobytes().decode("utf-8", "surrogateescape")
            space = Space.from_dict(parse_json(arrays["space"].tobytes(), str(path)))
        except ValueError as error:
            raise InputError(f"{path} is missing or damaged: run the comparison again") from error
        index, energy = arrays["index"].astype(np.int64), arrays["energy"].astype(np.float64)
        rows = TrainingSet(index, energy, name, space)
        if rows.sha256 != digest:
            raise InputError(f"{path} is damaged: run the comparison again")
        return rows

    def _training_set_path(self, digest: str) -> Path:
        return self.folder / "training_sets" / f"{digest[:_KEY_LENGTH]}.npz"

    def _runs(self, pattern: str) -> list[Path]:
        """Folders of runs, complete or not."""
        found = sorted(self.folder.glob(f"runs/{pattern}"))
        return [path for path in found if not is_temporary(path.name)]


def _record_of(path: Path) -> dict[str, Any] | None:
    """The record in a run's folder; None if it is not that of the key in the folder's name."""
    match = re.search(rf"-([0-9a-f]{{{_KEY_LENGTH}}})$", path.name)
    record = _read_json(path / _RECORD) if match else None
    return record if match and _is_record(record, match.group(1)) else None


_FIELDS: Final[dict[str, type | tuple[type, ...]]] = {
    "key": str,
    "identity": dict,
    "name": str,
    "title": str,
    "seed": int,
    "target_class": (int, type(None)),
    "judge": str,
    "training_set": dict,
    "versions": dict,
    "hardware": dict,
    "access": dict,
    "train_seconds": (int, float),
    "finished": (int, float),
    "files": dict,
}
"""What the record of a run must have, and of which type."""
_ACCESS: Final = {
    "kind": str,
    "labels": int,
    "model_queries": int,
    "landscape_queries": int,
    "chosen_by": str,
}
"""What `elpa_env.sampler.Access` looks like in it."""


def _is_record(record: Any, key: str) -> bool:
    """Whether what a ``run.json`` holds is the record of the run with that key."""
    return (
        isinstance(record, dict)
        and {"checkpoint", "preset"} <= set(record)
        and _has_fields(record, _FIELDS)
        and _has_fields(record["access"], _ACCESS)
        and _has_fields(record["training_set"], {"name": str, "rows": int, "sha256": str})
        and _has_fields(record["identity"], {"training_set": str})
        and isinstance(record["checkpoint"], str | None)
        and isinstance(record["preset"], str | None)
        and record["key"] == key == key_of(record["identity"])
    )


def _has_fields(content: dict[str, Any], fields: Mapping[str, type | tuple[type, ...]]) -> bool:
    return all(isinstance(content.get(name), kind) for name, kind in fields.items())


def _read_json(path: Path) -> Any:
    """What a file holds; None if it is missing, damaged or far too deep."""
    try:
        return read_json(path)
    except InputError:
        return None


def _plain(name: str) -> str:
    """A name that every file system holds."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:60]
    return plain or sha256(name.encode("utf-8", "surrogateescape"))[:8]


def now() -> float:
    """Seconds since 1970, for the time that a run was finished."""
    return round(time.time(), 2)
