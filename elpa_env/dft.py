"""Finding, fetching and safely reading the DFT energies of Faber et al. 2016.

The table is not part of the package. It is a Python 2 pickle, so it is checked by its hash and read
by an unpickler that admits numpy arrays and nothing else; nothing in the file is ever run.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from elpa_env.errors import InputError
from elpa_env.files import atomic_path, sha256
from elpa_env.space import numbers_to_index

DATA_DIR_VARIABLE: Final = "ELPA_DATA_DIR"
URL: Final = (
    "https://raw.githubusercontent.com/jeherr/Elpasolite-Formation-Energy-Predictor/"
    "e96647546774e74440b339ff682897d8cf1245dc/train_set.pkl"
)
DFT_FILES: Final = {
    "train_set.pkl": "1281342b1c68984e3056433c42afa0f5f3b95db0da4a0ef089ca028abdac88ac",
    "elpasolites_dft.csv": "88f78d767e93bf61fafc6680ab679f9a0b7c05c4bea9e3988ca0385762d3929e",
}
"""The two forms of the table: the published pickle, and the same rows as text."""
DFT_NAME: Final = "DFT (Faber et al. 2016)"
CSV_COLUMNS: Final = ("Z_A", "Z_B", "Z_C", "Z_D", "formation_energy_eV_per_atom")
MAX_BYTES: Final = 1 << 28
MAX_ENERGY: Final = 25.0
"""eV/atom; what is larger is in other units."""
_ATOMS: Final = 10
_ADVICE: Final = f"run `elpa data fetch`, or set {DATA_DIR_VARIABLE} to a folder that holds train_set.pkl"


@dataclass(frozen=True, eq=False)
class EnergyTable:
    """Rows as read: `numbers` (n, 4) int16, `energy` (n,) float64 in eV/atom, and a name."""

    numbers: NDArray[np.int16]
    energy: NDArray[np.float64]
    name: str


class _ArrayUnpickler(pickle.Unpickler):
    """Admits what a pickled plain numpy array needs and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _throwaway(_reconstruct)
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _throwaway(_plain_dtype)
        if (module, name) == ("_codecs", "encode"):
            return _throwaway(_encode)
        raise InputError(f"it would import {module}.{name}, and only numpy arrays are admitted")


def _throwaway(function: Callable[..., Any]) -> Callable[..., Any]:
    """A fresh function, so that a pickle that sets attributes on it changes nothing that stays."""
    return lambda *arguments: function(*arguments)


def _reconstruct(kind: object, shape: tuple[int, ...], typecode: object) -> NDArray[Any]:
    if kind is not np.ndarray or shape not in ((0,), [0]):
        raise InputError("it holds something other than plain numpy arrays")
    return np.ndarray(shape, dtype=np.int8)


def _plain_dtype(spec: object, *_: object) -> np.dtype[Any]:
    text = spec.decode("latin1") if isinstance(spec, bytes) else spec
    if text not in ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
        raise InputError(f"it holds an array of type {text!r}, and only plain numbers are admitted")
    return np.dtype(str(text), copy=True)  # a copy of its own takes the byte order of the pickle


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """How Python 3 writes bytes into a protocol 2 pickle."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise InputError("it holds something other than plain numpy arrays")
    return text.encode("latin1")


def cache_dir() -> Path:
    """The user's cache folder, where `fetch` puts the table."""
    import pooch

    return Path(pooch.os_cache("elpa"))


def read_dft() -> EnergyTable:
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


def read_path(path: Path) -> EnergyTable:
    """A training table from a .csv or .pkl file, or from a folder that holds the DFT table.

    Raises:
        InputError: it is missing or not of the expected form.
    """
    if path.is_dir():
        found = _find(path)
        if found is None:
            raise InputError(f"no DFT table in {path}: it needs {' or '.join(DFT_FILES)}")
        return _parse(found, _verified(found))
    return _parse(path, _bytes(path))


def fetch(source: str | None = None) -> Path:
    """Bring the DFT table into the user's cache, checked by its hash.

    Args:
        source: a folder, a file or an address; by default the published address.

    Returns:
        The file in the cache.

    Raises:
        InputError: the source cannot be read, or its hash is not that of the published file.
    """
    where = source or URL
    if "://" in where:
        data, name = _download(where), "train_set.pkl"
    else:
        path = Path(where)
        found = _find(path) if path.is_dir() else path
        if found is None:
            raise InputError(f"no DFT table in {path}: it needs {' or '.join(DFT_FILES)}")
        data, name = _bytes(found), found.name
    digest = sha256(data)
    names = [known for known, expected in DFT_FILES.items() if expected == digest]
    if not names:
        raise InputError(f"{where} is not the DFT table ({name}): its SHA-256 is {digest}")
    _parse(Path(names[0]), data)
    target = cache_dir() / names[0]
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)
    return target


def _download(address: str) -> bytes:
    import tempfile

    import pooch

    with tempfile.TemporaryDirectory() as folder:
        try:
            path = pooch.retrieve(address, known_hash=None, fname="download", path=folder, progressbar=False)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"cannot download {address} ({reason}): name a file with --from") from error
        return _bytes(Path(path))


def _find(folder: Path) -> Path | None:
    """The DFT table in a folder."""
    return next((folder / name for name in DFT_FILES if (folder / name).is_file()), None)


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MiB: not a training table")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _verified(path: Path) -> bytes:
    data = _bytes(path)
    if sha256(data) != DFT_FILES[path.name]:
        raise InputError(
            f"{path} is truncated or altered (its SHA-256 is not that of the published file): {_ADVICE}"
        )
    return data


def _parse(path: Path, data: bytes) -> EnergyTable:
    name = DFT_NAME if sha256(data) in DFT_FILES.values() else path.name
    if path.suffix == ".pkl":
        numbers, energy = _read_pickle(path, data)
    elif path.suffix == ".csv":
        numbers, energy = _read_csv(path, data)
    else:
        raise InputError(f"cannot read {path}: a training table is a .csv or a .pkl file")
    bad = ~(np.abs(energy) <= MAX_ENERGY)
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{path}: row {row + 1} must have an energy within ±{MAX_ENERGY:g} eV/atom, got {energy[row]}"
        )
    bad = numbers_to_index(numbers) < 0
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{path}: row {row + 1} is no composition of four different main-group elements: "
            f"atomic numbers {numbers[row].tolist()}"
        )
    return EnergyTable(numbers.astype(np.int16), energy.astype(np.float64), name)


def _read_pickle(path: Path, data: bytes) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        content = _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{path} is refused: {error}") from error
    except Exception as error:
        raise InputError(f"{path} is truncated or not a pickle: {_ADVICE}") from error
    if not isinstance(content, dict) or {"ANs", "FEs"} - set(content):
        raise InputError(f"{path} must hold the arrays ANs (n, 4) and FEs (n,)")
    numbers, energy = content["ANs"], content["FEs"]
    arrays = isinstance(numbers, np.ndarray) and isinstance(energy, np.ndarray)
    if not arrays or energy.ndim != 1 or numbers.shape != (len(energy), 4) or numbers.dtype.kind not in "iu":
        raise InputError(f"{path} must hold integers ANs (n, 4) and numbers FEs (n,)")
    if len(energy) == 0:
        raise InputError(f"{path} has no rows")
    return numbers, energy / _ATOMS


def _read_csv(path: Path, data: bytes) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        frame = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    except Exception as error:
        raise InputError(f"{path} is not a table with columns {', '.join(CSV_COLUMNS)}") from error
    missing = [column for column in CSV_COLUMNS if column not in frame]
    if missing:
        raise InputError(f"{path} lacks the column {missing[0]}: it needs {', '.join(CSV_COLUMNS)}")
    if len(frame) == 0:
        raise InputError(f"{path} has no rows")
    # read by Python, whose numbers are exact whatever the version of pandas
    table = np.array([[_number(text) for text in frame[column]] for column in CSV_COLUMNS]).T
    bad = ~np.isfinite(table).all(axis=1)
    if bad.any():
        raise InputError(f"{path}: line {int(bad.argmax()) + 2} is not five numbers")
    numbers = table[:, :4]
    if (numbers != np.rint(numbers)).any():
        raise InputError(f"{path}: atomic numbers must be whole numbers")
    return numbers.astype(np.int64), table[:, 4]


def _number(text: str) -> float:
    """The number that a text spells; NaN if it spells none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
