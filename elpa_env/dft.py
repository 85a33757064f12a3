"""Finding, fetching and safely reading the DFT energies of Faber et al. 2016, and tables of other spaces.

The table is not part of the package. It is published as a Python 2 pickle, and a pickle can run code:
that one file is known by its hash, and no other is ever unpickled. Everything else is read from CSV.
"""

from __future__ import annotations

import io
import os
import pickle
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.csv_rows import CsvRows
from elpa_env.errors import InputError, printable
from elpa_env.files import read_bytes, sha256, write_bytes
from elpa_env.space import ELPASOLITE_SPACE, Space

DATA_DIR_VARIABLE: Final = "ELPA_DATA_DIR"
PICKLE: Final = "train_set.pkl"
URL: Final = (
    "https://raw.githubusercontent.com/jeherr/Elpasolite-Formation-Energy-Predictor/"
    "e96647546774e74440b339ff682897d8cf1245dc/train_set.pkl"
)
DFT_FILES: Final = {
    PICKLE: "1281342b1c68984e3056433c42afa0f5f3b95db0da4a0ef089ca028abdac88ac",
    "elpasolites_dft.csv": "88f78d767e93bf61fafc6680ab679f9a0b7c05c4bea9e3988ca0385762d3929e",
}
"""The two forms of the table: the published pickle, and the same rows as text."""
DFT_BYTES: Final = {PICKLE: 254_417, "elpasolites_dft.csv": 317_841}
"""Their lengths; nothing longer is taken from an address."""
MAX_SECONDS: Final = 120.0
"""For a download as a whole."""
DFT_NAME: Final = "DFT (Faber et al. 2016)"
CSV_COLUMNS: Final = ("Z_A", "Z_B", "Z_C", "Z_D", "formation_energy_eV_per_atom")
FORMULA_COLUMN: Final = "formula"
MAX_BYTES: Final = 1 << 28
MAX_ENERGY: Final = 25.0
"""eV/atom; what is larger is in other units."""
_ATOMS: Final = 10
_IN_WORDS: Final = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight"}
_CHUNK: Final = 1 << 16
_ADVICE: Final = f"run `elpa data fetch`, or set {DATA_DIR_VARIABLE} to a folder that holds {PICKLE}"


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows as read: `numbers` (n, S) int16, `energy` (n,) float64, further columns by name, and a name."""

    numbers: NDArray[np.int16]
    energy: NDArray[np.float64]
    name: str
    columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def cache_dir() -> Path:
    """The user's cache folder, where `fetch` puts the table."""
    import pooch

    return Path(pooch.os_cache("elpa"))


def read_dft() -> Rows:
    """The DFT table, from the folder that ``ELPA_DATA_DIR`` names, else from the user's cache.

    Raises:
        InputError: it is missing, or its hash is not that of the published file.
    """
    named = os.environ.get(DATA_DIR_VARIABLE)
    folder = Path(named) if named else cache_dir()
    found = _find(folder)
    if found is None:
        raise InputError(f"no DFT table in {folder}: {_ADVICE}")
    return _parse(found, _verified(found))


def read_path(path: Path, space: Space = ELPASOLITE_SPACE) -> Rows:
    """A training table from a .csv file; of elpasolite also the published pickle, or a folder that holds it.

    A .csv file has the atomic numbers on the sites in columns such as ``Z_A``, or a column ``formula``, and
    the quantity of the space's targets in a column of that name or ``energy``. Of elpasolite it has
    `CSV_COLUMNS`.

    Raises:
        InputError: it is missing or not of the expected form.
    """
    if space.prototype != ELPASOLITE_SPACE.prototype:
        if path.suffix != ".csv":
            raise InputError(
                f"cannot read {path}: a training set of {space.name} is a .csv file, or 'fifth' of its "
                "energies"
            )
        numbers, columns = _read_csv(path, _bytes(path), space)
        return Rows(numbers, columns[space.targets.quantity], printable(path.name), columns)
    if os.path.isdir(path):
        found = _find_in(path)
        return _parse(found, _verified(found))
    return _parse(path, _bytes(path))


def fetch(source: str | None = None) -> Path:
    """Bring the DFT table into the user's cache, checked by its hash.

    Args:
        source: a folder, a file or an address; by default the published address.

    Returns:
        The file in the cache.

    Raises:
        InputError: the source cannot be read or takes too long, is longer than the published files, or
            its hash is not that of one of them.
    """
    where = source or URL
    if "://" in where:
        data, name = _download(where), PICKLE
    else:
        path = Path(where)
        found = _find_in(path) if os.path.isdir(path) else path
        data, name = _bytes(found), found.name
    digest = sha256(data)
    names = [known for known, expected in DFT_FILES.items() if expected == digest]
    if not names:
        raise InputError(f"{where} is not the DFT table ({name}): its SHA-256 is {digest}")
    _parse(Path(names[0]), data)
    target = cache_dir() / names[0]
    write_bytes(target, data)
    return target


def _download(address: str) -> bytes:
    """What an address holds, within `MAX_SECONDS` whatever the other side does."""
    if not address.lower().startswith(("http://", "https://", "ftp://")):
        raise InputError(f"cannot download {address}: an address begins with http, https or ftp")
    outcome: list[bytes | Exception] = []

    def work() -> None:
        try:
            outcome.append(_stream(address))
        except Exception as error:
            outcome.append(error)

    # A thread of its own, because a server that sends a byte now and then meets every limit of a socket.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(MAX_SECONDS)
    got = outcome[0] if outcome else TimeoutError(f"it takes longer than {MAX_SECONDS:g} s")
    if isinstance(got, Exception):
        reason = str(got).splitlines()[0] if str(got) else type(got).__name__
        raise InputError(f"cannot download {address} ({reason}): name a file with --from") from got
    if len(got) > max(DFT_BYTES.values()):
        raise InputError(f"{address} is not the DFT table: it is longer than {len(got) - 1:,} bytes")
    return got


def _stream(address: str) -> bytes:
    """What an address holds, to one byte more than the longest known file.

    This is no work for pooch, which can limit neither the size nor the time of a download.
    """
    limit = max(DFT_BYTES.values()) + 1
    if address.lower().startswith("ftp:"):
        with urllib.request.urlopen(address, timeout=MAX_SECONDS) as answer:
            return bytes(answer.read(limit))
    import requests

    with requests.get(address, stream=True, timeout=MAX_SECONDS) as response:
        response.raise_for_status()
        return bytes(response.raw.read(limit, decode_content=True))


def _find(folder: Path) -> Path | None:
    """The DFT table in a folder."""
    return next((folder / name for name in DFT_FILES if os.path.isfile(folder / name)), None)


def _find_in(folder: Path) -> Path:
    """The DFT table in a folder that the user named."""
    found = _find(folder)
    if found is None:
        raise InputError(f"no DFT table in {folder}: it needs {' or '.join(DFT_FILES)}")
    return found


def _bytes(path: Path) -> bytes:
    return read_bytes(path, max_bytes=MAX_BYTES)


def _verified(path: Path) -> bytes:
    data = _bytes(path)
    if sha256(data) != DFT_FILES[path.name]:
        raise InputError(
            f"{path} is truncated or altered (its SHA-256 is not that of the published file): {_ADVICE}"
        )
    return data


def _parse(path: Path, data: bytes) -> Rows:
    """The rows of a file; the published pickle is known by its hash, everything else is read as text."""
    digest = sha256(data)
    if digest == DFT_FILES[PICKLE]:
        # these very bytes are known, and so is what they do when they are unpickled
        content = pickle.loads(data, encoding="latin1")
        return Rows(content["ANs"].astype(np.int16), content["FEs"] / _ATOMS, DFT_NAME)
    if path.suffix == ".pkl":
        raise InputError(
            f"{path} is refused: it is not the published table, and to unpickle it could run code. "
            f"Convert it to a .csv file with the columns {', '.join(CSV_COLUMNS)}"
        )
    if path.suffix != ".csv":
        raise InputError(f"cannot read {path}: a training table is a .csv file, or the published {PICKLE}")
    numbers, columns = _read_csv(path, data, ELPASOLITE_SPACE)
    name = DFT_NAME if digest in DFT_FILES.values() else printable(path.name)
    return Rows(numbers, columns[ELPASOLITE_SPACE.targets.quantity], name)


def number_columns(space: Space) -> tuple[str, ...]:
    """Names of the columns with the atomic numbers on the sites: ``Z_A``."""
    return tuple(f"Z_{site}" for site in space.sites)


def _choices(space: Space, path: Path, header: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The columns that name a composition, and those with values: name of the quantity, and in the header."""
    sites = list(number_columns(space))
    if space.prototype == ELPASOLITE_SPACE.prototype:
        return sites, {space.targets.quantity: CSV_COLUMNS[-1]}
    if not set(sites) <= set(header) and FORMULA_COLUMN in header:
        sites = [FORMULA_COLUMN]
    quantity = space.targets.quantity
    column = next((name for name in (quantity, "energy") if name in header), quantity)
    known = {*sites, *number_columns(space), FORMULA_COLUMN, column}
    return sites, {quantity: column} | {name: name for name in header if name and name not in known}


def _read_csv(
    path: Path, data: bytes, space: Space
) -> tuple[NDArray[np.int16], dict[str, NDArray[np.float64]]]:
    """(n, S) atomic numbers and (n,) values by column, of rows that are all compositions.

    A further column that does not hold a number in every row is left out.
    """
    table = CsvRows(io.BytesIO(data), path)
    keys, values = _choices(space, path, table.header)
    places = table.places([*keys, *values.values()])
    numbers: list[NDArray[np.int64]] = []
    parts: list[NDArray[np.float64]] = []
    for fields, lines in table.columns(places, _CHUNK, skip_blank=True):
        rows = [fields[start : start + len(places)] for start in range(0, len(fields), len(places))]
        found = _numbers(rows, keys, space)
        cells = np.array([[_number(text) for text in row[len(keys) :]] for row in rows])
        problem = _problem(rows, found, cells[:, 0], keys, space)
        if problem is not None:
            row, reason = problem
            raise InputError(f"{path}, line {lines[row]}: {reason}")
        numbers.append(found)
        parts.append(cells)
    if not parts:
        raise InputError(f"{path} has no rows")
    cells = np.concatenate(parts)
    whole = {name: cells[:, i] for i, name in enumerate(values) if i == 0 or np.isfinite(cells[:, i]).all()}
    return np.concatenate(numbers).astype(np.int16), whole


def _numbers(rows: Sequence[Sequence[str]], keys: Sequence[str], space: Space) -> NDArray[np.int64]:
    """(n, S) atomic numbers of rows; -1 where there is none."""
    if list(keys) == [FORMULA_COLUMN]:
        index = space.formula_to_index(row[0].strip() for row in rows)
        numbers = np.full((len(rows), space.n_sites), -1, dtype=np.int64)
        numbers[index >= 0] = space.index_to_numbers(index[index >= 0])
        return numbers
    spelt = np.array([[_number(text) for text in row[: len(keys)]] for row in rows])
    with np.errstate(invalid="ignore"):
        whole = (spelt == np.rint(spelt)) & (np.abs(spelt) < 1000)
    return np.where(whole, spelt, -1).astype(np.int64)


def _problem(
    rows: Sequence[Sequence[str]],
    numbers: NDArray[np.int64],
    energy: NDArray[np.float64],
    keys: Sequence[str],
    space: Space,
) -> tuple[int, str] | None:
    """The first row that cannot be used, and why."""
    real = space.numbers_to_index(numbers) >= 0
    most = MAX_ENERGY if space.targets.unit == "eV/atom" else np.inf
    bad = ~(np.isfinite(energy) & real & (np.abs(energy) <= most))
    if not bad.any():
        return None
    row = int(bad.argmax())
    spelt = [text.strip() for text in rows[row][: len(keys)]]
    if list(keys) == [FORMULA_COLUMN]:
        if not real[row]:
            return row, f"{spelt[0][:60]!r}: {space.explain_formula(spelt[0])}"
    elif not all(np.isfinite(_number(text)) for text in spelt):
        return row, f"it must hold {_IN_WORDS.get(len(keys) + 1, len(keys) + 1)} numbers"
    elif not real[row]:
        shown = ", ".join(f"{_number(text):g}" for text in spelt)
        if space.prototype == ELPASOLITE_SPACE.prototype:
            return row, f"no composition of four different main-group elements: atomic numbers {shown}"
        return row, f"no composition, atomic numbers {shown}: {space.explain_numbers(numbers[row].tolist())}"
    if not np.isfinite(energy[row]):
        if space.prototype == ELPASOLITE_SPACE.prototype:
            return row, f"it must hold {_IN_WORDS.get(len(keys) + 1, len(keys) + 1)} numbers"
        return (
            row,
            f"the {space.targets.quantity} must be a number, got {rows[row][len(keys)].strip()[:60]!r}",
        )
    return row, f"the energy must be within ±{MAX_ENERGY:g} eV/atom, got {energy[row]:g}"


def _number(text: str) -> float:
    """The number that a text spells; NaN if it spells none."""
    try:
        return float("nan" if "_" in text else text)
    except ValueError:
        return float("nan")
