"""What an SQLite database of ours is: its tables, its statements, its settings, and what its errors mean."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tribe_oauth.errors import StoreError
from tribe_oauth.stores._columns import NAMES, definitions

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
# Added after the first version of the schema, which programs that know nothing of it can go on using.
_SLOTS: Final = """CREATE TABLE IF NOT EXISTS slots
    (key TEXT PRIMARY KEY, state BLOB NOT NULL, version INTEGER NOT NULL, ends REAL NOT NULL) WITHOUT ROWID"""
_LEASE: Final = ("lease_end", "lease_for", "lease_holder")
_ALL: Final = ", ".join((*NAMES, *_LEASE))
SELECT: Final = f"SELECT {_ALL} FROM organizations WHERE organization = ?"  # noqa: S608 (constants)
INSERT: Final = (
    f"INSERT OR IGNORE INTO organizations (organization, {_ALL})"  # noqa: S608 (constants)
    f" VALUES (?, {', '.join('?' for _ in NAMES)}, ifnull(?, 0), ifnull(?, 0), ifnull(?, ''))"
)
_SET: Final = [f"{name} = ?" for name in NAMES]
_KEEP_OR_SET: Final = [f"{name} = ifnull(?, {name})" for name in _LEASE]
UPDATE: Final = f"UPDATE organizations SET {', '.join(_SET + _KEEP_OR_SET)} WHERE organization = ? AND version = ?"  # noqa: S608 (constants)


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables of an empty database, and set it to keep what it confirms. Raises StoreError, sqlite3.Error."""
    execute = connection.execute
    application, schema = (execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if (application, schema) == (0, 0) and not execute("SELECT 1 FROM sqlite_master").fetchone():
        _create(connection)
    elif application != APPLICATION_ID:
        raise StoreError(f"{str(path)!r} is another program's database: name another file")
    elif schema != SCHEMA_VERSION:
        raise StoreError(
            f"{str(path)!r} has schema {schema}, and this version of tribe-oauth knows {SCHEMA_VERSION}:"
            " use the version that wrote it, or name another file"
        )
    execute(_SLOTS)
    if execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StoreError(f"{str(path)!r} is on a file system without shared memory: use a local disk")
    execute("PRAGMA synchronous = FULL")
    execute("PRAGMA fullfsync = ON")  # macOS; elsewhere it changes nothing
    execute("PRAGMA secure_delete = ON")  # what was replaced is overwritten


@contextlib.contextmanager
def hasty(connection: sqlite3.Connection, hastes: bool) -> Iterator[None]:
    """A transaction inside is whole, but need not survive a power cut: a flush to disk costs more than all the rest."""
    if hastes:
        connection.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        if hastes:
            connection.execute("PRAGMA synchronous = FULL")


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute("COMMIT")


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """What went wrong, with a remedy and without any value."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    for prefix, remedy in _REMEDIES.items():
        if name.startswith(prefix):
            return StoreError(f"{str(path)!r} {remedy} ({name})")
    return StoreError(f"{str(path)!r} failed ({name}): see that nothing else changes it, or {_RESTORE}")


_RESTORE: Final = "move it away, with its -wal, and restore a backup; nothing was changed"
_REMEDIES: Final = {
    "SQLITE_BUSY": "is locked by another process for too long: look for one that hangs",
    "SQLITE_LOCKED": "is locked by another process for too long: look for one that hangs",
    "SQLITE_FULL": "cannot grow, the disk is full: make room",
    "SQLITE_READONLY": "cannot be written: make the file and its folder writable for this user, and look whether that"
    " file system is mounted read-only",
    "SQLITE_CANTOPEN": "cannot be opened: make the file and its folder readable and writable for this user",
    "SQLITE_IOERR_WRITE": "cannot be written: make room, also in the quota and below any limit of a file's size; else"
    " look at the disk",
    "SQLITE_IOERR_LOCK": "is on a file system that fails to lock files: use a local disk",
    "SQLITE_IOERR": "cannot be read or written, the disk fails: look at the disk",
    "SQLITE_CORRUPT": f"is damaged: {_RESTORE}",
    "SQLITE_NOTADB": f"is not a database, or is damaged: {_RESTORE}",
}
