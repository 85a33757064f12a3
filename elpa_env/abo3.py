"""The DFT table of ABO3 perovskites of Emery and Wolverton (Sci. Data 2017, 4, 170153; CC BY 4.0).

All pairs of 73 elements on sites A and B, each with itself included: 5,329 compositions, 5,276 of them with
energies. It ships with the package; ``data/abo3.json`` tells where it is from.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError
from elpa_env.files import StrPath, read_bytes, read_json, sha256
from elpa_env.periodic import NUMBER_OF_SYMBOL

NAME: Final = "DFT (Emery and Wolverton 2017)"
COLUMNS: Final = {
    "formation_energy": "formation_energy_eV_per_atom",
    "energy_above_hull": "energy_above_hull_eV_per_atom",
    "volume": "volume_A3_per_atom",
}
"""Names of the arrays, and those of the columns of the file."""
_TABLE: Final = "abo3.csv"
_RECORD: Final = "abo3.json"
_MAX_BYTES: Final = 1 << 20


def read_table(folder: StrPath | None = None) -> dict[str, NDArray[Any]]:
    """The table as read-only arrays, in the order of its rows.

    It is read once in a process and shared.

    Args:
        folder: where ``abo3.csv`` and ``abo3.json`` are; by default those that ship.

    Returns:
        ``numbers`` (5329, 2) int16, the atomic numbers on A and B; ``formation_energy`` and
        ``energy_above_hull`` (5329,) float64 in eV/atom, the latter negative where a perovskite lies below
        the hull of all other compounds; ``volume`` (5329,) in cubic angstrom per atom, of the most stable
        distortion. NaN in the 53 rows without energies.

    Raises:
        InputError: a file is missing or altered.
    """
    return dict(_load(None if folder is None else os.path.abspath(folder)))


@functools.lru_cache(maxsize=2)
def _load(folder: str | None) -> dict[str, NDArray[Any]]:
    root = Path(folder) if folder else importlib.resources.files("elpa_env") / "data"
    with (
        importlib.resources.as_file(root / _TABLE) as table,
        importlib.resources.as_file(root / _RECORD) as record,
    ):
        try:
            data = read_bytes(table, max_bytes=_MAX_BYTES)
            provenance = read_json(record)
        except InputError as error:
            raise InputError(f"no table of ABO3 in {root} ({error}): install the package anew") from error
    if not isinstance(provenance, dict) or provenance.get("sha256") != sha256(data):
        raise InputError(f"the table of ABO3 in {root} is altered: install the package anew")
    rows = list(csv.DictReader(data.decode("ascii").splitlines()))
    symbols = [(row["A"], row["B"]) for row in rows]
    arrays: dict[str, NDArray[Any]] = {
        "numbers": np.array([[NUMBER_OF_SYMBOL[s] for s in pair] for pair in symbols], dtype=np.int16)
    }
    for name, column in COLUMNS.items():
        arrays[name] = np.array([float(row[column] or "nan") for row in rows], dtype=np.float64)
    for array in arrays.values():
        array.setflags(write=False)
    return arrays
