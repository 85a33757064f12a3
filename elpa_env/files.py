"""Where results may go, writing so that nothing is ever half written, and reading what may be hostile."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError

StrPath = str | os.PathLike[str]
Kind = Literal["file", "folder"]

MAX_JSON: Final = 1 << 26
"""Bytes; a record of this project is far smaller."""
MAX_ARRAYS: Final = 1 << 28
"""Bytes of the arrays in an archive; the largest of this project take a tenth of that."""
_PREFIX: Final = ".elpa-tmp-"
_TEMPORARY: Final = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{32}")
_MAX_SUFFIX: Final = 16
"""Characters of a suffix that a temporary name keeps: no library looks at a longer one."""


# --- Where results may go ---


def check_target(path: StrPath, *, overwrite: bool, kind: Kind, option: str = "--out") -> Path:
    """Find out whether a file or folder can be written, before the work that fills it begins.

    What is judged is where `path` leads once links and ``..`` are followed. Whether it can be written is
    tried out: the name is made and removed again in a temporary folder where the results are to stand,
    since permissions do not tell of read-only and full disks, nor of names that a file system refuses.

    Args:
        path: where results are to go.
        overwrite: whether what is there may go.
        kind: what is to be written there.
        option: the option that names another place, for the message.

    Returns:
        The place to write to, absolute and free of links, so that a link stays and what it leads to
        is replaced.

    Raises:
        InputError: something is there and may not go or is of another kind; a device, pipe or socket;
            a link that leads nowhere; a folder that holds the working or home folder; a name that
            cannot be; a place that cannot be written to.
    """
    try:
        target = _resolve(path, kind, option)
        if not overwrite and _taken(target):
            raise InputError(f"{path} exists already: name another with {option}, or pass --overwrite")
        _try_out(target, kind)
    except OSError as error:
        raise _unwritable(path, error) from error
    return target


def is_temporary(path: StrPath) -> bool:
    """Whether a path is, or lies in, what a killed write left behind; no result is ever so named.

    Args:
        path: a name, or a path relative to the folder of results: every part of it is looked at.
    """
    return any(_TEMPORARY.match(part) for part in Path(path).parts)


def _resolve(path: StrPath, kind: Kind, option: str = "--out") -> Path:
    """Follow links and ``..``; refuse what can never be replaced by a file or folder."""
    try:
        if b"\0" in os.fsencode(path):
            raise InputError(f"cannot write {path}: a name cannot hold the character NUL")
    except UnicodeEncodeError as error:
        raise InputError(f"cannot write {path}: the file system cannot hold such a name") from error
    absolute = Path(os.getcwd(), path)
    for place in (absolute, *absolute.parents):
        if place.is_symlink() and not os.path.exists(place):
            raise InputError(f"cannot write {path}: {place} is a link that leads nowhere")
    target = Path(os.path.realpath(absolute))
    if os.path.exists(absolute):
        # of the path itself, since names such as /dev/stdout lead to what has no name
        mode = os.stat(absolute).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{path} is a device, pipe or socket: name a {kind} with {option}")
        if stat.S_ISDIR(mode) != (kind == "folder"):
            found = "folder" if kind == "file" else "file"
            raise InputError(f"{path} is a {found}: name a {kind} with {option}")
        if kind == "folder":
            _refuse_shared(path, target, option)
    return target


def _refuse_shared(path: StrPath, target: Path, option: str) -> None:
    """Refuse folders that hold more than results: those around the working folder and the home folder."""
    for what, inner in (("working", os.getcwd()), ("home", os.path.expanduser("~"))):
        folder = Path(os.path.realpath(inner))
        if any(place.exists() and place.samefile(target) for place in (folder, *folder.parents)):
            raise InputError(
                f"{option} must be a folder of its own, got {str(path)!r}: the {what} folder is in it"
            )


def _taken(target: Path) -> bool:
    """Whether anything but leftovers of killed writes is there."""
    if target.is_dir():
        return not all(is_temporary(entry.name) for entry in target.iterdir())
    return os.path.lexists(target)


def _try_out(target: Path, kind: Kind) -> None:
    """Make what is missing of `target` in a temporary folder beside it, write to it, and remove it."""
    present = target if kind == "folder" and target.is_dir() else target.parent
    while not os.path.lexists(present):
        present = present.parent
    if kind == "file" and _pinned(target):
        raise PermissionError(errno.EPERM, "it is mounted, or somebody else's", str(target))
    temporary = present / _temporary_name()
    temporary.mkdir()
    try:
        place = temporary / target.relative_to(present)
        if kind == "folder":
            place /= "results"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bytes(1 << 12))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _pinned(target: Path) -> bool:
    """Whether something cannot be moved away although the folder around it can be written to.

    That is so for what is mounted there, and in a folder such as ``/tmp`` for what somebody else owns.
    """
    if not os.path.lexists(target) or os.path.ismount(target):
        return os.path.lexists(target)
    around = target.parent.stat()
    if not (around.st_mode & stat.S_ISVTX and hasattr(os, "geteuid")):
        return False
    return os.geteuid() not in (target.lstat().st_uid, around.st_uid, 0)


def _temporary_name(suffix: str = "") -> str:
    """A new name; of a length of its own, since the target's may be as long as names can be."""
    return f"{_PREFIX}{uuid.uuid4().hex}{suffix if len(suffix) <= _MAX_SUFFIX else ''}"


# --- Writing all or nothing ---


@contextlib.contextmanager
def atomic_path(target: StrPath) -> Iterator[Path]:
    """Give a path beside `target` to write to; move it onto `target` if the block succeeds.

    The temporary file has the suffix of `target`. A link stays, and what it leads to is replaced.

    Raises:
        InputError: `target` cannot be written to, a disk that is full included; it stays as it was.
    """
    with _one_line(target):
        place = _resolve(target, "file")
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(_temporary_name(place.suffix))
        temporary.touch(exist_ok=False)
    try:
        with _one_line(target, temporary):
            yield temporary
            os.replace(temporary, place)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: StrPath) -> Iterator[Path]:
    """Give a new folder to fill; what it holds takes the place of `target` if the block succeeds.

    What stands at `target` goes only then, and is put back where the exchange fails. A link stays, and
    the folder that it leads to is replaced.

    Raises:
        InputError: `target` cannot be written to, a disk that is full included; it stays as it was.
    """
    with _one_line(target):
        place = _resolve(target, "folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary, old = _workspace(place)
    try:
        with _one_line(target, temporary):
            yield temporary
        with _one_line(target):
            _move_all(_exchange(place, temporary, old))
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            old.rmdir()


def write_text(target: StrPath, text: str) -> None:
    r"""Write `text` as UTF-8, all or nothing; what UTF-8 cannot hold becomes an escape (``\udcff``)."""
    write_bytes(target, text.encode("utf-8", errors="backslashreplace"))


def write_json(target: StrPath, content: object) -> None:
    """Write `content` as JSON, all or nothing.

    Raises:
        ValueError: it holds NaN or an infinity, which JSON does not know.
    """
    write_text(target, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_bytes(target: StrPath, data: bytes) -> None:
    """Write `data`, all or nothing."""
    with atomic_path(target) as path:
        path.write_bytes(data)


def _workspace(place: Path) -> tuple[Path, Path]:
    """A new folder beside `place`, or in it where it cannot be moved; and a name for what goes."""
    around = place if _pinned(place) else place.parent
    temporary = around / _temporary_name()
    try:
        temporary.mkdir()
    except OSError:
        if not place.is_dir():
            raise
        around = place
        temporary = around / _temporary_name()
        temporary.mkdir()
    return temporary, around / _temporary_name()


def _exchange(place: Path, temporary: Path, old: Path) -> list[tuple[Path, Path]]:
    """The moves that put the content of `temporary` at `place`, and what is there at `old`."""
    if temporary.parent != place:
        return [*([(place, old)] if place.exists() else []), (temporary, place)]
    old.mkdir()
    going = [entry for entry in place.iterdir() if not is_temporary(entry.name)]
    moves = [(entry, old / entry.name) for entry in going]
    return moves + [(entry, place / entry.name) for entry in temporary.iterdir()]


def _move_all(moves: list[tuple[Path, Path]]) -> None:
    """Move files and folders one after the other; where one fails, move back those before it."""
    begun: list[tuple[Path, Path]] = []
    try:
        for move in moves:
            begun.append(move)
            os.replace(*move)
    except BaseException:
        for source, moved in reversed(begun):
            if not os.path.lexists(moved) or os.path.lexists(source):
                continue
            try:
                os.replace(moved, source)
            except OSError as error:
                raise InputError(
                    f"cannot put {source} back ({error.strerror}): what it held is in {moved}"
                ) from error
        raise


@contextlib.contextmanager
def _one_line(target: StrPath, temporary: Path | None = None) -> Iterator[None]:
    """Turn what the system says about writing into one line that names the target.

    With `temporary`, an error that names another file than that, or is about a connection, passes: it
    is not about writing the target.
    """
    try:
        yield
    except OSError as error:
        if temporary is not None and _foreign(error, temporary):
            raise
        raise _unwritable(target, error) from error


def _foreign(error: OSError, temporary: Path) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError, ChildProcessError)):
        return True
    if not isinstance(error.filename, (str, bytes)):
        return False  # writing to an open file names none
    named = Path(os.fsdecode(error.filename))
    return temporary not in (named, *named.parents)


def _unwritable(target: StrPath, error: OSError) -> InputError:
    return InputError(f"cannot write {target}: {error.strerror or error}")


# --- Reading ---


def open_file(path: StrPath) -> BinaryIO:
    """Open a file for reading bytes.

    Raises:
        InputError: there is none, it cannot be read, or it is a folder, device, pipe or socket, whose
            end may never come.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            what = "folder" if os.path.isdir(path) else "device, pipe or socket"
            raise InputError(f"cannot read {path}: it is a {what}, not a file")
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {path}: no file can have such a name") from error


def read_bytes(path: StrPath, *, max_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        InputError: see `open_file`; or it holds more than `max_bytes`.
    """
    with open_file(path) as file:
        try:
            data = file.read(max_bytes + 1)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > max_bytes:
        raise InputError(f"cannot read {path}: it is larger than {max_bytes:,} bytes")
    return data


def read_json(path: StrPath, *, max_bytes: int = MAX_JSON) -> Any:
    """What a JSON file holds; of what shape it is, is for the caller to check.

    Raises:
        InputError: see `read_bytes`; or it is no JSON, no UTF-8, or nested too deeply.
    """
    return parse_json(read_bytes(path, max_bytes=max_bytes), path)


def parse_json(data: bytes, path: StrPath) -> Any:
    """What JSON holds that stands in the file `path`; see `read_json`."""
    try:
        return json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: it is not JSON") from error


def read_arrays(data: bytes, path: StrPath, *, max_bytes: int = MAX_ARRAYS) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` archive; of what shape and type they are, is for the caller to check.

    Args:
        data: the archive.
        path: its name, for messages.
        max_bytes: of all arrays together, once they are unpacked.

    Raises:
        InputError: it is no such archive, is too large, or holds anything but plain arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            large = sum(member.file_size for member in archive.infolist()) > max_bytes
        if not large:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
    except Exception as error:  # an archive can be wrong in more ways than its readers name
        raise InputError(f"{path} is damaged: it is no archive of arrays") from error
    if large:
        raise InputError(f"cannot read {path}: its arrays are larger than {max_bytes:,} bytes")
    if not all(isinstance(array, np.ndarray) for array in found.values()):
        raise InputError(f"{path} is damaged: it holds something else than arrays")
    return found


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()
