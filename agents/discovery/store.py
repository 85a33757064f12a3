"""The file of a campaign: SQLite, one transaction a change, nothing that runs code.

What it holds, table by table:

=============== =========================================================================================
``facts``       the space, the target, the settings and the seed, as JSON by name
``pool``        the compounds that may be asked for; empty where all of the space may be
``labels``      an energy of a compound, with its source, round and time
``corrections`` what a corrected label said before
``proposals``   a compound that was asked for, its state (asked, told or failed), and by whom and when
``rounds``      how many compounds a round asked for, and what was expected of the rest
``arrays``      what a proposer keeps from one round to the next, as a NumPy archive without pickles
=============== =========================================================================================

A compound is its smallest index, see `elpa_env.Space.index_to_compound`.
"""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from elpa_env.errors import InputError
from elpa_env.files import check_target, parse_json, read_arrays

APPLICATION_ID: Final = 0x656C7061
"""By which SQLite files of campaigns are known: "elpa"."""
FORMAT: Final = 1
"""Of the tables; raised when an older reader would misread them."""
BUSY_SECONDS: Final = 120.0
"""How long a change waits for other processes to finish theirs."""
_MAX_ARRAYS: Final = 1 << 28
_SCHEMA: Final = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pool (compound INTEGER PRIMARY KEY);
CREATE TABLE labels (
    compound INTEGER PRIMARY KEY, energy REAL NOT NULL, source TEXT NOT NULL, round INTEGER NOT NULL,
    time REAL NOT NULL, number INTEGER NOT NULL UNIQUE, parameters TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE corrections (
    compound INTEGER NOT NULL, energy REAL NOT NULL, source TEXT NOT NULL, time REAL NOT NULL,
    corrected REAL NOT NULL
);
CREATE TABLE proposals (
    compound INTEGER PRIMARY KEY, number INTEGER NOT NULL UNIQUE, round INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('asked', 'told', 'failed')), asker TEXT NOT NULL,
    time REAL NOT NULL, given INTEGER NOT NULL DEFAULT 1, reason TEXT NOT NULL,
    probability REAL, energy REAL, uncertainty REAL, error TEXT NOT NULL DEFAULT ''
);
CREATE TABLE rounds (
    round INTEGER PRIMARY KEY, n INTEGER NOT NULL, labels INTEGER NOT NULL, found INTEGER NOT NULL,
    expected REAL, candidates INTEGER, seconds REAL NOT NULL, time REAL NOT NULL
);
CREATE TABLE arrays (name TEXT PRIMARY KEY, round INTEGER NOT NULL, content BLOB NOT NULL) WITHOUT ROWID;
"""


class CampaignFile:
    """A campaign's file, open.

    One object serves several threads; several processes may hold the same file open.

    Args:
        path: of a file that `create` made.
        durable: whether a change has reached the disk when it is made, so that a failure of power loses none.

    Raises:
        InputError: there is no such file, or it is no campaign of this version.
    """

    def __init__(self, path: str | Path, *, durable: bool = True) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"no campaign {path}: make one with `elpa discover new {path}`")
        self._lock = threading.RLock()
        self._asking = FileLock(f"{self.path}.lock")
        with self._one_line():
            self._connection = self._connect(durable)
        try:
            self._check()
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def create(
        cls,
        path: str | Path,
        facts: Mapping[str, Any],
        pool: NDArray[np.int64] | None,
        *,
        overwrite: bool = False,
        durable: bool = True,
    ) -> CampaignFile:
        """Make the file of a new campaign, all or nothing.

        Args:
            path: where to.
            facts: what JSON can hold, by name.
            pool: (n,) compounds that may be asked for; None for all of the space.
            overwrite: whether what is there may go.
            durable: see the class.

        Raises:
            InputError: the file is there already, or cannot be written.
        """
        target = check_target(path, overwrite=overwrite, kind="file", option="a path")
        new = target.with_name(f"{target.name}.new")
        for stale in (new, *_beside(new)):
            stale.unlink(missing_ok=True)
        try:
            with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")
                connection.execute("BEGIN")
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    connection.execute(statement)
                rows = [(name, json.dumps(value)) for name, value in facts.items()]
                connection.executemany("INSERT INTO facts VALUES (?, ?)", rows)
                if pool is not None:
                    rows_of_pool = ((compound,) for compound in np.unique(pool).tolist())
                    connection.executemany("INSERT INTO pool VALUES (?)", rows_of_pool)
                connection.execute("COMMIT")
            for stale in _beside(target):
                stale.unlink(missing_ok=True)
            new.replace(target)
        except (OSError, sqlite3.Error) as error:
            new.unlink(missing_ok=True)
            raise InputError(f"cannot write {path}: {error}") from error
        return cls(target, durable=durable)

    def _connect(self, durable: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        if connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        return connection

    def _check(self) -> None:
        with self._one_line():
            kind = self._connection.execute("PRAGMA application_id").fetchone()[0]
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if kind != APPLICATION_ID:
            raise InputError(f"{self.path} is no campaign: make one with `elpa discover new`")
        if version != FORMAT:
            raise InputError(
                f"{self.path} is a campaign of format {version}, and this version reads format {FORMAT}: "
                f"use the version of elpasolite that made it{', or a newer one' if version > FORMAT else ''}"
            )

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        """What SQLite says as one line that names the file."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            said = str(error)
            if "not a database" in said or "malformed" in said or "no such table" in said:
                raise InputError(f"{self.path} is no campaign, or is damaged ({said})") from error
            raise InputError(f"cannot use {self.path}: {said}; the campaign is as it was") from error

    @contextlib.contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all that is changed in the block, or nothing.

        Raises:
            InputError: the file cannot be written to, as when the disk is full; it stays as it was.
        """
        with self._lock, self._one_line():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query gives."""
        with self._lock, self._one_line():
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """One asker at a time, so that no two choose the same compounds; energies may arrive meanwhile.

        Raises:
            InputError: another asker takes too long.
        """
        try:
            with self._asking.acquire(timeout=3600):
                yield
        except Timeout as error:
            raise InputError(f"another process has been asking {self.path} for an hour: end it") from error

    def facts(self) -> dict[str, Any]:
        """What `create` was given."""
        rows = self.read("SELECT name, value FROM facts")
        return {name: parse_json(str(value).encode(), self.path) for name, value in rows}

    def pool(self) -> NDArray[np.int64] | None:
        """(n,) ascending compounds that may be asked for; None for all of the space."""
        rows = self.read("SELECT compound FROM pool ORDER BY compound")
        return np.array(rows, dtype=np.int64)[:, 0] if rows else None

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """What a proposer kept; empty where it kept nothing."""
        rows = self.read("SELECT content FROM arrays WHERE name = ?", (name,))
        return read_arrays(rows[0][0], self.path, max_bytes=_MAX_ARRAYS) if rows else {}


def keep_arrays(
    connection: sqlite3.Connection, name: str, round_: int, arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Keep what a proposer needs in its next round, instead of what it kept before."""
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
    connection.execute("INSERT OR REPLACE INTO arrays VALUES (?, ?, ?)", (name, round_, buffer.getvalue()))


def _beside(path: Path) -> list[Path]:
    """What SQLite keeps beside a file while it is open."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]
