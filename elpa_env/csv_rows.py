"""Reading CSV files of any length and origin row by row, every message with the right line."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from elpa_env.errors import InputError

Row = list[str]
Places = tuple[int, ...]

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

    def chunks(self, size: int, *, allow_blank: bool = False) -> Iterator[list[Row]]:
        """Yield up to `size` rows at a time, each of as many fields as the header.

        Args:
            size: rows.
            allow_blank: let blank lines through as rows without fields; they are refused by default.
        """
        widths = {self._width, 0} if allow_blank else {self._width}
        while rows := self._next_rows(size):
            if not set(map(len, rows)) <= widths:
                place = next(k for k, row in enumerate(rows) if len(row) not in widths)
                raise InputError(
                    f"{self._path}, line {self.line(rows, place)} has {len(rows[place])} fields, "
                    f"the header has {self._width}"
                )
            yield rows

    def line(self, rows: list[Row], place: int) -> int:
        """The line on which row `place` begins of the chunk that was yielded last."""
        before = itertools.islice(rows, place)
        return self._first_line + sum(1 + sum(field.count("\n") for field in row) for row in before)

    def _next_rows(self, size: int) -> list[Row]:
        rows: list[Row] = []
        self._first_line = self._reader.line_num + 1
        try:
            # what was read before an error stays, and tells the line of the error
            rows.extend(itertools.islice(self._reader, size))
        except csv.Error as error:
            reason = str(error)
            if "field limit" in reason:
                reason = f"a field is longer than {csv.field_size_limit():,} characters"
            raise InputError(f"{self._path}, line {self.line(rows, len(rows))}: {reason}") from error
        return rows

    def _lines(self, file: BinaryIO) -> Iterator[list[str]]:
        """The file line by line, a block of lines at a time, so that no line can fill the memory."""
        text = io.TextIOWrapper(file, encoding="utf-8-sig")
        rest = ""
        try:
            while block := text.read(_BLOCK):
                lines = io.StringIO(rest + block).readlines()
                rest = "" if lines[-1].endswith("\n") else lines.pop()
                if len(rest) > MAX_LINE:
                    line = self._reader.line_num + len(lines) + 1
                    raise InputError(f"{self._path}, line {line} is longer than {MAX_LINE:,} characters")
                yield lines
        except UnicodeDecodeError as error:
            raise InputError(f"{self._path} is not a readable CSV file: it is no text in UTF-8") from error
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {error.strerror or error}") from error
        if rest:
            yield [rest]
