"""Records of runs in one file: what each run was, saw and scored, without its checkpoint and its samples.

A line of compressed JSON a run. Such a file is small enough to be passed on or kept beside a text; read into
a store, its runs can be shown again (`elpa reproduce --stored`), but not judged anew.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from elpa_env.errors import InputError
from elpa_env.files import parse_json, read_bytes, write_bytes
from eval.study.store import RunResult, Store, key_of

_KEPT: Final = re.compile(r"(score|curve)-[0-9a-f]{12}-\d+-\d+\.json")
_MAX_BYTES: Final = 1 << 28


def export_records(store: Store, path: Path, *, models: Iterable[str] = ()) -> int:
    """Write the records of a store's runs, those of some models or all; how many there are.

    Raises:
        InputError: the file cannot be written.
    """
    wanted = set(models)
    lines = [
        json.dumps({"record": record, "files": _figures(store, record["key"])}, separators=(",", ":"))
        for record in sorted(store.records(), key=lambda r: (r["name"], r["seed"], r["key"]))
        if not wanted or record["name"] in wanted
    ]
    data = "".join(f"{line}\n" for line in lines).encode()
    write_bytes(path, gzip.compress(data, mtime=0))
    return len(lines)


def _figures(store: Store, key: str) -> dict[str, Any]:
    """The figures that a run has, by the name of their file."""
    path = store.path(key)
    assert path is not None
    names = sorted(file.name for file in path.iterdir() if _KEPT.fullmatch(file.name))
    return {name: json.loads(data) for name in names if (data := store.read(key, name)) is not None}


def import_records(path: Path, store: Store) -> int:
    """Put the runs of a file of records into a store; what it holds of a run already stays.

    Returns:
        How many runs the file has.

    Raises:
        InputError: the file is none of records, or damaged; the store is as it was before.
    """
    data = read_bytes(path, max_bytes=_MAX_BYTES)
    reader = zlib.decompressobj(wbits=31)
    try:
        text = reader.decompress(data, _MAX_BYTES)
    except zlib.error as error:
        raise InputError(f"{path} is no file of records: make one with `elpa runs --export`") from error
    if not reader.eof:
        raise InputError(f"{path} is damaged or holds more than {_MAX_BYTES >> 20} MiB")
    results = [_result(line, f"line {n} of {path}") for n, line in enumerate(text.splitlines(), start=1)]
    for result in results:
        store.add(result)
    return len(results)


def _result(line: bytes, where: str) -> RunResult:
    """The run in a line."""
    content = parse_json(line, where)
    try:
        record, files = content["record"], content["files"]
        whole = record["key"] == key_of(record["identity"]) and isinstance(files, dict)
        if not whole or not all(_KEPT.fullmatch(name) for name in files):
            raise InputError(f"{where} is no record of a run")
        named = {name: json.dumps(figures).encode() for name, figures in files.items()}
        return RunResult(record["key"], {**record, "checkpoint": None}, named)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where} is no record of a run") from error
