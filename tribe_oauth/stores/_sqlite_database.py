"""The SQLite file: its tables, and the operations on them, for one thread at a time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs

from tribe_oauth.errors import StoreError
from tribe_oauth.stores._columns import NAMES, definitions, from_row, values, written
from tribe_oauth.stores._contract import Record
from tribe_oauth.stores._sqlite_holder import Holder, private_file, private_folder
from tribe_oauth.stores._sqlite_rescue import Rescue

APPLICATION_ID: Final = 0x54524942  # "TRIB"
SCHEMA_VERSION: Final = 1
_TYPES: Final = {str: "TEXT", int: "INTEGER", bool: "INTEGER", float: "REAL", bytes: "BLOB"}
_SCHEMA: Final = f"""
CREATE TABLE organizations (
    id INTEGER PRIMARY KEY,
    organization BLOB NOT NULL UNIQUE,  -- UTF-8; a BLOB compares byte by byte and may contain NUL
    {definitions(_TYPES)},
    lease_end REAL NOT NULL,  -- seconds since boot, as the kernel counts them for all processes
    lease_for REAL NOT NULL,
    lease_holder TEXT NOT NULL
);
CREATE INDEX due ON organizations (due_at, id) WHERE due_at IS NOT NULL;
CREATE TABLE notes (key TEXT PRIMARY KEY, value BLOB NOT NULL, ends REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX note_ends ON notes (ends);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""
_LEASE: Final = ("lease_end", "lease_for", "lease_holder")
_LEASE_AT: Final = NAMES.index("lease")
_ALL: Final = ", ".join((*NAMES, *_LEASE))
_VALUES: Final = tuple("? + 1" if name == "version" else "?" for name in NAMES)
_SELECT: Final = f"SELECT {_ALL} FROM organizations WHERE organization = ?"  # noqa: S608 (constants)
_INSERT: Final = (
    f"INSERT OR IGNORE INTO organizations (organization, {_ALL})"  # noqa: S608 (constants)
    f" VALUES (?, {', '.join(_VALUES)}, ifnull(?, 0), ifnull(?, 0), ifnull(?, ''))"
)
_SET: Final = [f"{name} = {value}" for name, value in zip(NAMES, _VALUES, strict=True)]
_KEEP_OR_SET: Final = [f"{name} = ifnull(?, {name})" for name in _LEASE]
_UPDATE: Final = f"UPDATE organizations SET {', '.join(_SET + _KEEP_OR_SET)} WHERE organization = ? AND version = ?"  # noqa: S608 (constants)


class Call(NamedTuple):
    """Something to do with the database."""

    run: Callable[[Database], Any]
    writes: bool


class Database:
    """An open connection. Raises StoreError where the file cannot be used. The caller closes connection and holder."""

    def __init__(self, path: Path, busy_timeout: float, clock: Callable[[], float], holder: Holder) -> None:
        self._path = path
        self._clock = clock
        self._holder = holder
        try:
            # Its thread and a fork, which closes it, exclude each other by a lock of the worker.
            self.connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
            try:
                with holder.alone():  # SQLite does not wait for others when the journal's mode changes
                    self._prepare()
                    Rescue(rescue_folder(path)).take_in(self._take_in)
                self._file = self._identity()
            except BaseException:
                self.connection.close()
                raise
        except sqlite3.Error as error:
            raise self._error(error) from None

    def _prepare(self) -> None:
        execute = self.connection.execute
        application, schema = (execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if (application, schema) == (0, 0) and not execute("SELECT 1 FROM sqlite_master").fetchone():
            self._create()
        elif application != APPLICATION_ID:
            raise StoreError(f"{str(self._path)!r} is another program's database: name another file")
        elif schema != SCHEMA_VERSION:
            raise StoreError(
                f"{str(self._path)!r} has schema {schema}, and this version of tribe-oauth knows {SCHEMA_VERSION}:"
                " use the version that wrote it, or name another file"
            )
        if execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise StoreError(f"{str(self._path)!r} is on a file system without shared memory: use a local disk")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA fullfsync = ON")  # macOS; elsewhere it changes nothing
        execute("PRAGMA secure_delete = ON")  # what was replaced is overwritten

    def _create(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";\n"):
            self.connection.execute(statement)
        self.connection.execute("COMMIT")

    def _take_in(self, kept: Record) -> None:
        """Write what an earlier process could not, unless the stored record has reached that generation since."""
        self.connection.execute("BEGIN IMMEDIATE")  # where it fails, the connection is closed
        stored = self.load(kept.organization)
        generation, version = (0, 0) if stored is None else (stored.generation, stored.version)
        if generation < kept.generation:  # by more than one where an older backup was restored
            self.swap(attrs.evolve(kept, version=version, lease=None), None)
        self.connection.execute("COMMIT")

    def _identity(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_dev, found.st_ino

    # Batches

    def run(self, batch: Sequence[Call]) -> list[Any]:
        """The results of all calls, or their errors. Writes share one transaction; it is durable on return."""
        try:
            self._still_there()
            if not any(call.writes for call in batch):
                return [self._attempt(call) for call in batch]
            self.connection.execute("BEGIN IMMEDIATE")
            results = [self._attempt(call) for call in batch]
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            failure = self._error(error)
            with contextlib.suppress(sqlite3.Error):  # there may be no transaction left to roll back
                self.connection.execute("ROLLBACK")
            return [failure.again() for _ in batch]
        except StoreError as error:
            return [error.again() for _ in batch]
        return results

    def _still_there(self) -> None:
        """A file that was moved away while it is open would take what is written with it."""
        with contextlib.suppress(OSError):
            if self._identity() == self._file:
                return
        raise StoreError(
            f"{str(self._path)!r} was moved, removed or replaced while it was open: put it back, or restart the program"
        )

    def _attempt(self, call: Call) -> Any:
        """The call's result, or its error. An error that ended the transaction is raised: all of the batch failed."""
        try:
            return call.run(self)
        except sqlite3.Error as error:
            if call.writes and not self.connection.in_transaction:
                raise
            return self._error(error)
        except Exception as error:
            return StoreError(f"{str(self._path)!r}: a call failed with {type(error).__name__}")

    def _error(self, error: sqlite3.Error) -> StoreError:
        """What went wrong, with a remedy and without any value."""
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        for prefix, remedy in _REMEDIES.items():
            if name.startswith(prefix):
                return StoreError(f"{str(self._path)!r} {remedy} ({name})")
        return StoreError(f"{str(self._path)!r} failed ({name})")

    # Operations: each one statement that changes something, so that it happens whole or not at all

    def load(self, organization: str) -> Record | None:
        row = self.connection.execute(_SELECT, (organization.encode(),)).fetchone()
        return None if row is None else self._record(organization, row)

    def _record(self, organization: str, row: Sequence[Any]) -> Record:
        left = 0.0
        if row[_LEASE_AT] is not None:
            end, length, holder = row[len(NAMES) :]
            left = min(max(end - self._clock(), 0.0), length)  # a boot later, the end may be far away
            if left and holder != self._holder.id and self._holder.is_gone(holder):
                left = 0.0
        return from_row(organization, row, left)

    def swap(self, record: Record, lease_for: float | None) -> Record | None:
        key, left = record.organization.encode(), 0.0
        lease: tuple[float | None, float | None, str | None] = (None, None, None)  # as they were
        if record.lease is None:
            lease = (0.0, 0.0, "")
        elif lease_for is not None:
            lease, left = (self._clock() + lease_for, lease_for, self._holder.id), lease_for
        if record.version == 0:
            cursor = self.connection.execute(_INSERT, (key, *values(record), *lease))
        else:
            cursor = self.connection.execute(_UPDATE, (*values(record), *lease, key, record.version))
        if cursor.rowcount != 1:
            return None
        if record.lease is not None and lease_for is None:
            return self.load(record.organization)  # its end is only there
        return written(record, left)

    def put(self, key: str, value: bytes, ends: float) -> bytes:
        self.connection.execute("DELETE FROM notes WHERE ends <= ?", (time.time(),))
        self.connection.execute("INSERT OR IGNORE INTO notes VALUES (?, ?, ?)", (key, value, ends))
        standing: bytes = self.connection.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()[0]
        return standing

    def take(self, key: str) -> bytes | None:
        sql = "DELETE FROM notes WHERE key = ? AND ends > ? RETURNING value"
        rows = self.connection.execute(sql, (key, time.time())).fetchall()
        return rows[0][0] if rows else None


def rescue_folder(path: Path) -> Path:
    """Where copies are kept of what could not be written."""
    return path.with_name(f"{path.name}-rescue")


def prepare_file(path: Path) -> None:
    """Create the file, or make sure that it is its owner's alone, before SQLite does. Raises StoreError, OSError."""
    private_folder(path.parent)
    if _size(path.with_name(f"{path.name}-wal")) and not _size(path):  # SQLite would remove the log
        raise StoreError(
            f"{str(path)!r} is missing or empty, and its -wal is not: restore it, or move the -wal away to begin anew"
        )
    private_file(path)


def _size(path: Path) -> int:
    return path.lstat().st_size if os.path.lexists(path) else 0


_RESTORE: Final = "move it away, with its -wal, and restore a backup; nothing was changed"
_REMEDIES: Final = {
    "SQLITE_BUSY": "is locked by another process for too long: look for one that hangs",
    "SQLITE_LOCKED": "is locked by another process for too long: look for one that hangs",
    "SQLITE_FULL": "cannot grow, the disk is full: make room",
    "SQLITE_READONLY": "cannot be written: make the file and its folder writable for this user",
    "SQLITE_CANTOPEN": "cannot be opened: make the file and its folder readable and writable for this user",
    "SQLITE_IOERR": "cannot be read or written, the disk fails: look at the disk",
    "SQLITE_CORRUPT": f"is damaged: {_RESTORE}",
    "SQLITE_NOTADB": f"is not a database, or is damaged: {_RESTORE}",
}
