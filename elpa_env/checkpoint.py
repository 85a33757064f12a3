"""Checkpoints that hold no code: a record in JSON and plain arrays, in one ``.npz`` archive."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError
from elpa_env.files import atomic_path, parse_json, read_arrays, read_bytes

Settings = TypeVar("Settings")

MAX_BYTES: Final = 1 << 30
"""Of a checkpoint."""
_RECORD: Final = "record"
_ARRAYS: Final = "arrays/"
_MAX_LENGTH: Final = 64
_MAX_WHOLE: Final = 1 << 53


def write_checkpoint(path: str | Path, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a checkpoint, all or nothing.

    The same content gives the same bytes.

    Args:
        path: file to write.
        record: what JSON can hold.
        arrays: of numbers, by name.

    Raises:
        InputError: the file cannot be written; what was there stays.
    """
    content: dict[str, Any] = {f"{_ARRAYS}{name}": array for name, array in arrays.items()}
    content[_RECORD] = np.frombuffer(json.dumps(record).encode(), dtype=np.uint8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **content)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a checkpoint; nothing in it is run, and a damaged one is found out by its checksums.

    Returns:
        The record and the arrays by name, as they were written; all numbers are finite.

    Raises:
        InputError: the file cannot be read, is no checkpoint, or is damaged.
    """
    data = read_bytes(path, max_bytes=MAX_BYTES)
    if b"data.pkl" in data[:128]:
        raise InputError(f"{path} is an archive of PyTorch, which holds pickles: train the model again")
    # no array is compressed, so that none is larger than the file
    content = read_arrays(data, path, max_bytes=len(data))
    text = content.pop(_RECORD, np.zeros(0))
    if text.dtype != np.uint8 or text.ndim != 1:
        raise InputError(f"{path} is not a checkpoint of this project")
    record = parse_json(text.tobytes(), path)
    if not isinstance(record, dict):
        raise InputError(f"{path} is not a checkpoint of this project")
    for name, array in content.items():
        if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
            raise InputError(f"{path} is damaged: {name[:60]!r} does not hold finite numbers")
    return record, {name.removeprefix(_ARRAYS): array for name, array in content.items()}


def restore(kind: type[Settings], values: Any) -> Settings:
    """A dataclass of settings from what `dataclasses.asdict` and JSON made of it.

    Args:
        kind: the dataclass; its fields are numbers, words, truth values, or tuples of them.
        values: from a record.

    Raises:
        InputError: a field that the dataclass lacks, or a value that is none of its field's type.
    """
    hints = typing.get_type_hints(kind)
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise InputError(f"no settings of a {kind.__name__}")
    unknown = set(values) - {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown:
        raise InputError(f"a {kind.__name__} has no field {min(unknown)[:60]!r}")
    try:
        return kind(**{name: _typed(value, hints[name]) for name, value in values.items()})
    except TypeError as error:
        raise InputError(f"no settings of a {kind.__name__}: {error}") from error


def _typed(value: Any, hint: Any) -> Any:
    """`value` if it is of a type; a list becomes the tuple that it was before JSON.

    Raises:
        TypeError: it is not.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _typed_as_one_of(value, arguments)
    if origin is tuple and isinstance(value, (list, tuple)) and len(value) <= _MAX_LENGTH:
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) == len(value):
            return tuple(map(_typed, value, kinds))
    elif origin is Literal:
        fits = isinstance(value, str) and value in arguments
    elif hint is float:
        fits = type(value) in (int, float) and math.isfinite(value)
    else:
        fits = type(value) is hint and not (hint is int and abs(value) > _MAX_WHOLE)
    if origin is tuple or not fits:
        raise TypeError(f"{str(value)[:60]!r} is none of {getattr(hint, '__name__', hint)}")
    return value


def _typed_as_one_of(value: Any, hints: tuple[Any, ...]) -> Any:
    for hint in hints:
        with contextlib.suppress(TypeError):
            return _typed(value, hint)
    raise TypeError(f"{str(value)[:60]!r} is none of {' | '.join(map(str, hints))}")
