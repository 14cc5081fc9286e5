"""What is short-lived in an SQLite database, notes and shared limits of calls: for `sqlite`, in its worker's thread."""

from __future__ import annotations

import sqlite3
import time

from tribe_oauth.stores._contract import Slots
from tribe_oauth.stores._writes import next_version


def put(connection: sqlite3.Connection, key: str, value: bytes, ends: float) -> bytes:
    """Keep a note, unless there is one; the one that stands."""
    connection.execute("DELETE FROM notes WHERE ends <= ?", (time.time(),))
    connection.execute("INSERT OR IGNORE INTO notes VALUES (?, ?, ?)", (key, value, ends))
    sql = "SELECT CAST(value AS BLOB) FROM notes WHERE key = ?"
    standing: bytes = connection.execute(sql, (key,)).fetchone()[0]
    return standing


def take(connection: sqlite3.Connection, key: str) -> bytes | None:
    """Remove a note and give it."""
    sql = "DELETE FROM notes WHERE key = ? AND ends > ? RETURNING CAST(value AS BLOB)"
    rows = connection.execute(sql, (key, time.time())).fetchall()
    return rows[0][0] if rows else None


def slots(connection: sqlite3.Connection, key: str, now: float) -> Slots:
    """What is kept under a key. What has ended is gone, and what is no value of ours is as if it were."""
    sql = "SELECT CAST(state AS BLOB), CAST(version AS INTEGER) FROM slots WHERE key = ? AND ends > ?"
    row = connection.execute(sql, (key, now)).fetchone()
    state, version = row or (b"", 0)
    return Slots(state, version, now)


def swap_slots(
    connection: sqlite3.Connection, key: str, state: bytes, version: int, now: float, lives_for: float
) -> Slots | None:
    """Keep this in place of what has that version; None: there is something else."""
    if slots(connection, key, now).version != version:
        return None
    connection.execute("DELETE FROM slots WHERE ends <= ?", (now,))
    new = Slots(state, next_version(version, time.time()), now)
    connection.execute("INSERT OR REPLACE INTO slots VALUES (?, ?, ?, ?)", (key, state, new.version, now + lives_for))
    return new
