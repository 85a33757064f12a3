"""Reading CSV files of any length and origin row by row, every message with the right line."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError

Places = tuple[int, ...]

_BATCH: Final = 1 << 9
"""Rows that exist as lists at a time: with more, most of the time goes to Python's garbage collector."""
_BLOCK: Final = 1 << 18
MAX_LINE: Final = 1 << 20
"""Characters of a line; a longer one is none of a table's, and would be held in memory as a whole."""
_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ": "xz",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
}
_REASONS: Final = {
    "unexpected end of data": "a quotation mark is not closed",
    "field limit": "a field is longer than a table's can be: is a quotation mark not closed?",
}
"""What the module csv says, and what that means to a user."""


class CsvRows:
    """The rows of a CSV file in UTF-8, comma-separated, with a header.

    Args:
        file: its bytes.
        path: its name, for messages.

    Raises:
        InputError: here and while rows are read, if the file is compressed, no UTF-8, no CSV, or a row
            is longer or shorter than the header.
    """

    def __init__(self, file: BinaryIO, path: str | Path) -> None:
        self._path = path
        start = file.read(8)
        file.seek(0)
        for magic, name in _COMPRESSED.items():
            if start.startswith(magic):
                raise InputError(f"cannot read {path}: it is compressed ({name}), unpack it first")
        self._reader = csv.reader(itertools.chain.from_iterable(self._lines(file)), strict=True)
        header = self._next_rows(1)
        if not header or not any(field.strip() for field in header[0]):
            raise InputError(f"cannot read {path}: it is empty, or has no header")
        self._width = len(header[0])
        self._header = [name.strip() for name in header[0]]

    @property
    def header(self) -> list[str]:
        """Names of all columns."""
        return list(self._header)

    def places(self, *choices: Sequence[str]) -> Places:
        """Where the columns of the first choice stand that is there as a whole.

        Raises:
            InputError: no choice is there, or a column of it stands in the header twice.
        """
        for names in choices:
            if set(names) <= set(self._header):
                twice = [name for name in names if self._header.count(name) > 1]
                if twice:
                    raise InputError(f"{self._path} has the column {twice[0]} twice")
                return tuple(map(self._header.index, names))
        missing = next(name for name in choices[-1] if name not in self._header)
        needed = ", or ".join(", ".join(names) for names in choices)
        raise InputError(f"{self._path} lacks the column {missing}: it needs {needed}")

    def columns(
        self, places: Places, size: int, *, skip_blank: bool = False
    ) -> Iterator[tuple[list[str], NDArray[np.int64]]]:
        """Read the fields of some columns.

        Args:
            places: where the columns stand, from `places`.
            size: rows to yield at a time, at least; fewer come last.
            skip_blank: pass over blank lines; they are refused by default.

        Yields:
            The fields of (n,) rows one row after the other, and the (n,) lines on which the rows begin.
        """
        pick = operator.itemgetter(*places)
        fields: list[str] = []
        lines: list[NDArray[np.int64]] = []
        while rows := self._next_rows(_BATCH):
            starts = self._starts(rows)
            if skip_blank and [] in rows:
                starts = starts[[bool(row) for row in rows]]
                rows = list(filter(None, rows))
            self._check_widths(rows, starts)
            picked = map(pick, rows)
            fields.extend(picked if len(places) == 1 else itertools.chain.from_iterable(picked))
            lines.append(starts)
            if len(fields) >= size * len(places):
                yield fields, np.concatenate(lines)
                fields, lines = [], []
        if fields:
            yield fields, np.concatenate(lines)

    def _check_widths(self, rows: list[list[str]], starts: NDArray[np.int64]) -> None:
        if set(map(len, rows)) <= {self._width}:
            return
        row, line = next(
            (row, line) for row, line in zip(rows, starts, strict=True) if len(row) != self._width
        )
        found = f"has {len(row)} field{'s' * (len(row) > 1)}" if row else "is empty"
        raise InputError(f"{self._path}, line {line} {found}, the header has {self._width}")

    def _next_rows(self, size: int) -> list[list[str]]:
        rows: list[list[str]] = []
        self._first_line = self._reader.line_num + 1
        try:
            # what was read before an error stays, and tells the line of the error
            rows.extend(itertools.islice(self._reader, size))
        except csv.Error as error:
            reason = next((ours for theirs, ours in _REASONS.items() if theirs in str(error)), error)
            line = self._first_line + sum(map(_height, rows))
            raise InputError(f"{self._path}, line {line}: {reason}") from error
        return rows

    def _starts(self, rows: list[list[str]]) -> NDArray[np.int64]:
        """(n,) lines on which the rows begin that were read last."""
        if self._reader.line_num - self._first_line + 1 == len(rows):
            return np.arange(self._first_line, self._first_line + len(rows))
        heights = np.array([_height(row) for row in rows])
        starts: NDArray[np.int64] = self._first_line + np.cumsum(heights) - heights
        return starts

    def _lines(self, file: BinaryIO) -> Iterator[list[str]]:
        """The file line by line, a block of lines at a time, so that no line can fill the memory."""
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
        rest, more = "", True
        while more:
            try:
                block = file.read(_BLOCK)
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise InputError(f"cannot read {self._path}: it is no text in UTF-8") from error
            except OSError as error:
                raise InputError(f"cannot read {self._path}: {error.strerror or error}") from error
            lines = io.StringIO(rest + text).readlines()
            more = bool(block)
            rest = lines.pop() if more and lines and not lines[-1].endswith("\n") else ""
            if len(rest) > MAX_LINE:
                line = self._reader.line_num + len(lines) + 1
                raise InputError(f"{self._path}, line {line} is longer than {MAX_LINE:,} characters")
            yield lines


def _height(row: list[str]) -> int:
    """Lines that a row takes up."""
    return 1 + sum(field.count("\n") for field in row)
