"""Durable saves in SQLite, a hundred at once: their rate against a commit each, on a disk that is really waited for."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks import ours
from benchmarks.measure import Cost, compare, ratio, timed, wall
from benchmarks.results import Figure, Results
from benchmarks.rows import scaled
from tribe_oauth.stores.sqlite import SQLiteStore

AT_ONCE: Final = 100
SAVES: Final = 2_000
EACH: Final = 500
ROUNDS: Final = 9
GOAL: Final = 10.0
KEYS: Final = ours.keys(AT_ONCE)
SLOW_ENOUGH: Final = 100e-6
"""Seconds that fdatasync takes on a disk for which the goal holds."""


async def measure(effort: float) -> Results:
    """Rates: the inverse of the time for a save."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # not in /tmp, which may be memory
        sync = fdatasync(Path(folder, "probe"))
        store = SQLiteStore(Path(folder, "tribe.db"))
        await ours.fill(store, "http://127.0.0.1", KEYS)
        single = _single(Path(folder, "single.db"))
        saves, each = scaled(SAVES, effort, AT_ONCE), scaled(EACH, effort)

        async def one_after_another(connection: sqlite3.Connection = single) -> Cost:
            return await timed(asyncio.to_thread(_commits, connection, each), each)

        async def together() -> Cost:
            return await timed(_together(store, saves // AT_ONCE), saves)

        variants = {"a commit each": one_after_another, "again": one_after_another, "this library": together}
        costs = await compare(variants, scaled(ROUNDS, effort, 2))
        await store.close()
        single.close()
    limit = wall(costs["a commit each"])
    row = "Durable saves in SQLite, 100 at once: rate against a commit each"
    note = f"fdatasync takes {1e6 * sync:.0f} µs here"
    return Results(
        figures=[
            Figure(row=row, what="a commit each, again", kind="noise", ratio=ratio(limit, wall(costs["again"]))),
            Figure(
                row=row,
                what="this library",
                kind="goal",
                ratio=ratio(limit, wall(costs["this library"])),
                goal=GOAL if sync >= SLOW_ENOUGH else None,
                at_least=True,
                note=note,
            ),
        ]
    )


def fdatasync(path: Path) -> float:
    """Seconds that one takes after a page was overwritten: a log that is full begins again from its start."""
    taken = []
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    os.pwrite(file, bytes(50 * 4096), 0)
    os.fsync(file)
    for number in range(50):
        os.pwrite(file, os.urandom(4096), number * 4096)
        started = time.perf_counter()
        os.fdatasync(file)
        taken.append(time.perf_counter() - started)
    os.close(file)
    return statistics.median(taken)


def _single(path: Path) -> sqlite3.Connection:
    """The limit's database: as durable, with the least in a row that a record needs."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE records (key TEXT PRIMARY KEY, version INTEGER, payload BLOB)")
    for key in KEYS:
        connection.execute("INSERT INTO records VALUES (?, 1, ?)", (key, bytes(500)))
    return connection


def _commits(connection: sqlite3.Connection, saves: int) -> None:
    for number in range(saves):
        values = os.urandom(500), KEYS[number % AT_ONCE]
        connection.execute("UPDATE records SET version = version + 1, payload = ? WHERE key = ?", values)


async def _together(store: SQLiteStore, times: int) -> None:
    """A hundred callers, each saving its organization again and again."""

    async def save(organization: str) -> None:
        record = await store.load(organization)
        for number in count():
            assert record is not None
            if number == times:
                return
            record = await store.swap(record)

    await asyncio.gather(*(save(organization) for organization in KEYS))
