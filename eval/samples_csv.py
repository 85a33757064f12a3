"""Reading samples that anybody's model made, from a CSV file of any length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.csv_rows import CsvRows
from elpa_env.elements import ATOMIC_NUMBERS
from elpa_env.errors import InputError
from elpa_env.files import open_file
from elpa_env.space import (
    SITES,
    explain_formula,
    formula_to_index,
    numbers_to_index,
)

FORMULA_COLUMN: Final = "formula"
NUMBER_COLUMNS: Final = tuple(f"Z_{site}" for site in SITES)
_ROWS: Final = 1 << 17
_SHOWN: Final = 60
"""Characters of a field that a message shows."""


def read_samples(path: str | Path) -> Iterator[NDArray[np.int64]]:
    """Read samples in chunks.

    The file is plain text in UTF-8 with a header and either the column ``formula`` (``AlNaK2F6``, sites
    in the order A, B, C, D) or the columns ``Z_A``, ``Z_B``, ``Z_C``, ``Z_D`` with atomic numbers; further
    columns are passed over, and the formula counts where both are there.

    Yields:
        (n,) index, every one a real composition.

    Raises:
        InputError: the file cannot be read, lacks columns or has one twice, has no rows, or a line of it
            is no composition or does not fit the header; the message names the line.
    """
    empty = True
    with open_file(path) as file:
        table = CsvRows(file, path)
        places = table.places([FORMULA_COLUMN], NUMBER_COLUMNS)
        for fields, lines in table.columns(places, _ROWS):
            index = _index(fields, len(places))
            bad = index < 0
            if bad.any():
                row = int(bad.argmax())
                wrong = fields[row * len(places) :][: len(places)]
                raise InputError(f"{path}, line {lines[row]}: {_explain([field.strip() for field in wrong])}")
            empty = False
            yield index
    if empty:
        raise InputError(f"{path} has no rows: there is nothing to score")


def _index(fields: list[str], width: int) -> NDArray[np.int64]:
    """(n,) index of rows of one formula or four atomic numbers, -1 where a row is no composition."""
    if width == 1:
        index = formula_to_index(fields)
        bad = np.flatnonzero(index < 0)
        index[bad] = formula_to_index(fields[row].strip() for row in bad)
        return index
    numbers = np.fromiter(map(_NUMBER.__getitem__, fields), np.int32, len(fields))
    return numbers_to_index(numbers.reshape(-1, width))


class _Numbers(dict[str, int]):
    """Atomic numbers by how they are spelt, -1 for what is none; a dictionary, because it is quick."""

    def __missing__(self, text: str) -> int:
        return int(text) if re.fullmatch(r"\s*[0-9]{1,6}\s*", text, re.ASCII) else -1


_NUMBER: Final = _Numbers(
    {f"{space}{number}": int(number) for number in ATOMIC_NUMBERS for space in ("", " ")}
)


def _explain(fields: list[str]) -> str:
    """Why the stripped fields of a row are no composition."""
    if len(fields) == 1:
        return f"{_short(fields[0])}: {explain_formula(fields[0])}"
    unknown = [field for field in fields if _NUMBER[field] not in ATOMIC_NUMBERS]
    if unknown:
        return f"unknown element: {_short(unknown[0])} is not the atomic number of one of the 39 elements"
    numbers = [_NUMBER[field] for field in fields]
    repeated = next(number for number in numbers if numbers.count(number) > 1)
    return f"element {repeated} stands twice: {', '.join(fields)}"


def _short(field: str) -> str:
    """A field as it is shown in a message."""
    return repr(field if len(field) <= _SHOWN else f"{field[:_SHOWN]}...")
