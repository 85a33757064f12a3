"""Reading samples that anybody's model made, from a CSV file of any length."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from elpa_env.elements import ATOMIC_NUMBERS
from elpa_env.errors import InputError
from elpa_env.space import (
    SITES,
    explain_formula,
    formula_to_index,
    numbers_to_index,
)

FORMULA_COLUMN: Final = "formula"
NUMBER_COLUMNS: Final = tuple(f"Z_{site}" for site in SITES)
_ROWS: Final = 1 << 19


_UNREADABLE: Final = (OSError, ValueError, EOFError, zlib.error)


def read_samples(path: str | Path) -> Iterator[NDArray[np.int64]]:
    """Read samples in chunks.

    The file has a header and either the column ``formula`` (``AlNaK2F6``, sites in the order A, B,
    C, D) or the columns ``Z_A``, ``Z_B``, ``Z_C``, ``Z_D`` with atomic numbers; further columns are
    passed over, and the formula counts where both are there.

    Yields:
        (n,) index, every one a real composition.

    Raises:
        InputError: the file cannot be read, lacks columns, has no rows, or a line of it is no
            composition; the message names the line.
    """
    path = Path(path)
    columns = _columns(path)
    frame = None
    for frame in _frames(path, columns):
        index = _index(frame)
        bad = index < 0
        if bad.any():
            row = int(bad.argmax())
            raise InputError(f"{path}, line {frame.index[row]}: {_explain(frame.iloc[row])}")
        yield index
    if frame is None or len(frame) == 0:
        raise InputError(f"{path} has no rows: there is nothing to score")


def _columns(path: Path) -> list[str]:
    try:
        header = [str(c).strip() for c in pd.read_csv(path, nrows=0).columns]
    except _UNREADABLE as error:
        reason = getattr(error, "strerror", None) or "it is not a CSV file with a header"
        raise InputError(f"cannot read {path}: {reason}") from error
    if FORMULA_COLUMN in header:
        return [FORMULA_COLUMN]
    missing = [column for column in NUMBER_COLUMNS if column not in header]
    if missing:
        raise InputError(
            f"{path} lacks the column {missing[0]}: it needs {FORMULA_COLUMN}, or {', '.join(NUMBER_COLUMNS)}"
        )
    return list(NUMBER_COLUMNS)


def _frames(path: Path, columns: list[str]) -> Iterator[pd.DataFrame]:
    """The file in parts, their rows labelled with the lines that they stand on."""
    try:
        with pd.read_csv(
            path, dtype=str, keep_default_na=False, skip_blank_lines=False, chunksize=_ROWS
        ) as frames:
            for number, frame in enumerate(frames):
                if not isinstance(frame.index, pd.RangeIndex):
                    # a first row longer than the header: pandas takes its first fields for labels
                    line = _first_long_line(path)
                    raise InputError(f"{path}, line {line} has more fields than the header")
                frame.columns = pd.Index([str(name).strip() for name in frame.columns])
                frame.index = pd.RangeIndex(len(frame)) + (number * _ROWS + 2)
                yield frame[columns]
    except InputError:
        raise
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [""])[0].removeprefix("Error tokenizing data. ")
        raise InputError(f"{path} is not a readable CSV file: {reason}") from error


def _first_long_line(path: Path) -> int:
    """The first line with more fields than the header."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        width = len(next(lines))
        return next((lines.line_num for fields in lines if len(fields) > width), 0)


def _index(frame: pd.DataFrame) -> NDArray[np.int64]:
    """(n,) index of the rows, -1 where a row is no composition."""
    if FORMULA_COLUMN in frame:
        index = formula_to_index(frame[FORMULA_COLUMN])
        bad = index < 0
        index[bad] = formula_to_index(frame.loc[bad, FORMULA_COLUMN].str.strip())
        return index
    try:
        numbers = frame[list(NUMBER_COLUMNS)].to_numpy(str).astype(np.int64)
    except (ValueError, OverflowError):
        text = frame[list(NUMBER_COLUMNS)].apply(lambda column: column.str.strip())
        whole = text.apply(lambda column: column.str.fullmatch(r"\d{1,3}"))
        numbers = text.where(whole, "-1").to_numpy(str).astype(np.int64)
    return numbers_to_index(numbers)


def _explain(row: pd.Series) -> str:
    if FORMULA_COLUMN in row:
        formula = str(row[FORMULA_COLUMN]).strip()
        return f"{formula!r}: {explain_formula(formula)}"
    values = [str(row[column]).strip() for column in NUMBER_COLUMNS]
    known = {str(number) for number in ATOMIC_NUMBERS}
    unknown = [value for value in values if value not in known]
    if unknown:
        return f"unknown element: {unknown[0]!r} is not the atomic number of one of the 39 elements"
    repeated = next(value for value in values if values.count(value) > 1)
    return f"element {repeated} stands twice: {', '.join(values)}"
