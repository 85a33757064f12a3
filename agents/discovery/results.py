"""The files that a campaign exchanges with whoever calculates: a batch goes out, results come back."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from agents.discovery.campaign import Asked, Told
from elpa_env.csv_rows import CsvRows
from elpa_env.dft import CSV_COLUMNS, FORMULA_COLUMN, MAX_BYTES, number_columns
from elpa_env.errors import InputError
from elpa_env.files import atomic_folder, read_bytes, write_text
from elpa_env.space import Space

BATCH: Final = "batch.csv"
ENERGY: Final = "energy"
ERROR: Final = "error"
_ROWS: Final = 1 << 12


def write_batch(folder: Path, batch: Sequence[Asked], space: Space) -> None:
    """Write compounds to calculate into a folder: ``batch.csv``, and a CIF each where there is a structure.

    Columns are the formula, an atomic number a site, the probability, expected energy and uncertainty in
    eV/atom, and empty ones for energy and error, to be filled in and given to `read_results`.

    Raises:
        InputError: the folder cannot be written.
    """
    with atomic_folder(folder) as temporary:
        write_text(temporary / BATCH, batch_text(batch, space))
        if space.prototype.structure is not None:
            for one in batch:
                write_text(temporary / f"{one.formula}.cif", space.prototype.cif(one.numbers))


def batch_text(batch: Sequence[Asked], space: Space) -> str:
    """The text of ``batch.csv``."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    sites = number_columns(space)
    writer.writerow(
        [FORMULA_COLUMN, *sites, "round", "reason", "probability", "expected", "uncertainty", ENERGY, ERROR]
    )
    for one in batch:
        cells = (one.probability, one.energy, one.uncertainty)
        shown = ["" if math.isnan(cell) else f"{cell:.5g}" for cell in cells]
        writer.writerow([one.formula, *one.numbers, one.round, one.reason, *shown, "", ""])
    return buffer.getvalue()


def read_results(path: Path, space: Space, source: str = "") -> list[Told]:
    """Results from a .csv file.

    It needs the atomic numbers in columns such as ``Z_A`` or a column ``formula``, and the energy in eV/atom
    in a column ``energy`` or named as the quantity of the space's targets; a column ``error`` may say why a
    calculation has none, and a column ``source`` where it is from. Rows without either are left out if all
    columns of results are empty there, as in a batch that is calculated in part.

    Raises:
        InputError: it cannot be read, or a line is no composition of the space or holds no number.
    """
    table = CsvRows(io.BytesIO(read_bytes(path, max_bytes=MAX_BYTES)), path)
    keys = list(number_columns(space))
    if not set(keys) <= set(table.header):
        keys = [FORMULA_COLUMN]
    choices = (ENERGY, space.targets.quantity, CSV_COLUMNS[-1])
    value = next((name for name in choices if name in table.header), ENERGY)
    further = [name for name in (ERROR, "source") if name in table.header]
    places = table.places([*keys, value, *further])
    results: list[Told] = []
    for fields, lines in table.columns(places, _ROWS, skip_blank=True):
        rows = [fields[start : start + len(places)] for start in range(0, len(fields), len(places))]
        for row, line in zip(rows, lines.tolist(), strict=True):
            told = _result(row, keys, further, space, source or path.name, f"{path}, line {line}")
            if told is not None:
                results.append(told)
    if not results:
        raise InputError(f"{path} holds no results: fill in the column {value}")
    return results


def _result(
    row: Sequence[str], keys: Sequence[str], further: Sequence[str], space: Space, source: str, where: str
) -> Told | None:
    """The result that a row states; None of one that is still to be calculated."""
    named = [cell.strip() for cell in row[: len(keys)]]
    text = row[len(keys)].strip()
    more = dict(zip(further, (cell.strip() for cell in row[len(keys) + 1 :]), strict=True))
    index, problem = _index(named, keys, space)
    if problem:
        raise InputError(f"{where}: {problem}")
    error = more.get(ERROR, "")
    source = more.get("source") or source
    if error and text:
        raise InputError(f"{where}: it has both an energy, {text[:20]!r}, and an error: leave one empty")
    if error:
        return Told(index, math.nan, error, source)
    if not text and ERROR in further:
        return None
    energy = _number(text)
    if not math.isfinite(energy):
        raise InputError(
            f"{where}: the energy must be a number, got {text[:40]!r}: leave the line out, or say in "
            "a column error why there is none"
        )
    return Told(index, energy, source=source)


def _index(named: Sequence[str], keys: Sequence[str], space: Space) -> tuple[int, str]:
    """The composition that cells name, and why there is none."""
    if list(keys) == [FORMULA_COLUMN]:
        (index,) = space.formula_to_index(named).tolist()
        problem = "" if index >= 0 else f"{named[0][:60]!r}: {space.explain_formula(named[0])}"
        return index, problem
    numbers = [_number(cell) for cell in named]
    if not all(math.isfinite(number) and number == int(number) and 0 < number < 1000 for number in numbers):
        return -1, f"atomic numbers must be whole, got {', '.join(named)[:60]}"
    whole = [int(number) for number in numbers]
    (index,) = space.numbers_to_index(np.array([whole], dtype=np.int16)).tolist()
    if index >= 0:
        return index, ""
    return -1, f"no composition of {space.name}, atomic numbers {whole}: {space.explain_numbers(whole)}"


def _number(text: str) -> float:
    try:
        return float("nan" if "_" in text else text)
    except ValueError:
        return math.nan
