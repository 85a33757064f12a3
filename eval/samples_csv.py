"""Reading samples that anybody's model made, from a CSV file of any length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.csv_rows import CsvRows
from elpa_env.dft import FORMULA_COLUMN, number_columns
from elpa_env.errors import InputError
from elpa_env.files import open_file
from elpa_env.space import ELPASOLITE_SPACE, Space

NUMBER_COLUMNS: Final = number_columns(ELPASOLITE_SPACE)
_ROWS: Final = 1 << 17
_SHOWN: Final = 60
"""Characters of a field that a message shows."""


def read_samples(path: str | Path, space: Space = ELPASOLITE_SPACE) -> Iterator[NDArray[np.int64]]:
    """Read samples in chunks.

    The file is plain text in UTF-8 with a header and either the column ``formula`` (``AlNaK2F6``, sites
    in their order) or a column of atomic numbers a site (``Z_A``, ``Z_B``, ``Z_C``, ``Z_D``); further
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
        places = table.places([FORMULA_COLUMN], number_columns(space))
        for fields, lines in table.columns(places, _ROWS):
            index = _index(fields, len(places), space)
            bad = index < 0
            if bad.any():
                row = int(bad.argmax())
                wrong = fields[row * len(places) :][: len(places)]
                raise InputError(
                    f"{path}, line {lines[row]}: {_explain([field.strip() for field in wrong], space)}"
                )
            empty = False
            yield index
    if empty:
        raise InputError(f"{path} has no rows: there is nothing to score")


def _index(fields: list[str], width: int, space: Space) -> NDArray[np.int64]:
    """(n,) index of rows of one formula or an atomic number a site, -1 where a row is no composition."""
    if width == 1 and (space.n_sites > 1 or not _NUMBER[fields[0]] >= 0):
        index = space.formula_to_index(fields)
        bad = np.flatnonzero(index < 0)
        index[bad] = space.formula_to_index(fields[row].strip() for row in bad)
        return index
    numbers = np.fromiter(map(_NUMBER.__getitem__, fields), np.int32, len(fields))
    return space.numbers_to_index(numbers.reshape(-1, width))


class _Numbers(dict[str, int]):
    """Atomic numbers by how they are spelt, -1 for what is none; a dictionary, because it is quick."""

    def __missing__(self, text: str) -> int:
        digits = text.strip()
        return int(digits) if re.fullmatch("[0-9]{1,6}", digits) else -1


_NUMBER: Final = _Numbers(
    {f"{space}{number}": int(number) for number in range(1, 119) for space in ("", " ")}
)


def _explain(fields: list[str], space: Space) -> str:
    """Why the stripped fields of a row are no composition."""
    if len(fields) == 1 and not _NUMBER[fields[0]] >= 0:
        return f"{_short(fields[0])}: {space.explain_formula(fields[0])}"
    numbers = [_NUMBER[field] for field in fields]
    unknown = [field for field in fields if _NUMBER[field] not in space.atomic_numbers]
    if unknown:
        return (
            f"unknown element: {_short(unknown[0])} is not the atomic number of one of the "
            f"{space.n_elements} elements"
        )
    repeated = [number for number in numbers if numbers.count(number) > 1]
    if repeated and not space.prototype.repeats:
        return f"element {repeated[0]} stands twice: {', '.join(fields)}"
    return f"{space.explain_numbers(numbers)}: {', '.join(fields)}"


def _short(field: str) -> str:
    """A field as it is shown in a message."""
    return repr(field if len(field) <= _SHOWN else f"{field[:_SHOWN]}...")
