"""Shared limits of calls in an SQLite database: the statements, for `sqlite`, in the thread of its worker."""

from __future__ import annotations

import sqlite3
import time

from tribe_oauth.stores._contract import Slots
from tribe_oauth.stores._writes import next_version


def found(connection: sqlite3.Connection, key: str, now: float) -> Slots:
    """What is kept under a key. What has ended is gone, and what is no value of ours is as if it were."""
    sql = "SELECT CAST(state AS BLOB), CAST(version AS INTEGER) FROM slots WHERE key = ? AND ends > ?"
    row = connection.execute(sql, (key, now)).fetchone()
    state, version = row or (b"", 0)
    return Slots(state, version, now)


def swapped(
    connection: sqlite3.Connection, key: str, state: bytes, version: int, now: float, lives_for: float
) -> Slots | None:
    """Keep this in place of what has that version; None: there is something else."""
    if found(connection, key, now).version != version:
        return None
    connection.execute("DELETE FROM slots WHERE ends <= ?", (now,))
    new = Slots(state, next_version(version, time.time()), now)
    connection.execute("INSERT OR REPLACE INTO slots VALUES (?, ?, ?, ?)", (key, state, new.version, now + lives_for))
    return new
