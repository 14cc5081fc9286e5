"""The embedded store: one SQLite file for all processes of one host.

One thread owns the connection. Calls that arrive while it works wait together and share one transaction, so that a
hundred saves cost one flush to disk; each is confirmed only after that flush. No transaction outlives its batch.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from tribe_oauth._clock import boottime
from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.stores import _sqlite_notes as notes
from tribe_oauth.stores._columns import keys_of
from tribe_oauth.stores._contract import Record, Slots
from tribe_oauth.stores._sqlite_database import Call, Database
from tribe_oauth.stores._sqlite_files import is_missing, rescue_folder
from tribe_oauth.stores._sqlite_rescue import Rescue
from tribe_oauth.stores._sqlite_worker import Worker, starting

Result = TypeVar("Result")

PAGE: Final = 500
"""Keys that are read at a time."""
_KEY: Final = "CASE typeof(organization) WHEN 'blob' THEN organization ELSE hex(organization) END"
"""What a store of ours wrote is bytes; anything else as text, which no key is and which can always be read."""


class SQLiteStore:
    """Connections in one SQLite file, safe between the processes of one host, durable before a write returns.

    `path`: the file; the first write creates it, with 0600, and missing folders, with 0700: whoever only reads finds
    nothing where there is nothing. A file that others may read, that belongs to another user, or that is a symbolic
    link is refused. Beside it there are SQLite's ``-wal`` and ``-shm``,
    and a folder ``-holders``, in which each process keeps a locked file: the lease of a process that was killed ends at
    once; and, after trouble, a folder ``-rescue`` with what could not be written. None of them is to be removed while a
    program uses the file: what is missing then tells nothing, and a log that is gone is saved by whoever has it open.
    Not for network file systems.

    `busy_timeout`: seconds to wait for other processes' writes.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0, clock: Callable[[], float] = boottime
    ) -> None:
        self._path = Path(path)
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._worker: Worker | None = None

    @property
    def timeout(self) -> float:
        """Seconds that one operation can take at most: it waits so long for other processes."""
        return self._busy_timeout

    @property
    def is_nowhere(self) -> bool:
        """Whether nothing was opened, and there is nothing to open: neither the file nor what is left of one."""
        beside = (f"{self._path}{end}" for end in ("", "-wal", "-rescue", "-holders"))
        return self._worker is None and all(map(is_missing, beside))

    async def load(self, organization: str) -> Record | None:
        """See `TokenStore.load`."""
        if self.is_nowhere:
            return None
        return await self._call(lambda database: database.load(organization))

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """See `TokenStore.swap`."""
        return await self._call(lambda database: database.swap(record, lease_for), writes=True)

    async def organizations(self) -> AsyncIterator[str]:
        """See `TokenStore.organizations`."""
        sql = f"SELECT id, {_KEY} FROM organizations WHERE id > ? AND status != 'disconnected' ORDER BY id LIMIT ?"  # noqa: S608 (constant)
        after = 0
        while rows := await self._rows(sql, (after, PAGE)):
            for key in keys_of(key for _, key in rows):
                yield key
            after = rows[-1][0]

    async def due(self, before: float) -> AsyncIterator[str]:
        """See `TokenStore.due`."""
        sql = (
            f"SELECT due_at, id, {_KEY} FROM organizations"  # noqa: S608 (constant)
            " WHERE due_at <= ? AND (due_at, id) > (?, ?) ORDER BY due_at, id LIMIT ?"
        )
        due_at, after = float("-inf"), 0
        while rows := await self._rows(sql, (before, due_at, after, PAGE)):
            for key in keys_of(key for _, _, key in rows):
                yield key
            due_at, after, _ = rows[-1]

    async def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        if self.is_nowhere:
            return []
        return await self._call(lambda database: database.connection.execute(sql, values).fetchall())

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        """See `TokenStore.put`. Notes outlive a reboot, so that they end by the wall clock."""
        return await self._call(
            lambda database: notes.put(database.connection, key, value, time.time() + lives_for), writes=True
        )

    async def take(self, key: str) -> bytes | None:
        """See `TokenStore.take`."""
        if self.is_nowhere:
            return None
        return await self._call(lambda database: notes.take(database.connection, key), writes=True)

    async def slots(self, key: str) -> Slots:
        """See `SlotStore.slots`. Time is what the kernel counts since boot, for all processes."""
        return await self._call(lambda database: notes.slots(database.connection, key, self._clock()))

    async def swap_slots(self, key: str, state: bytes, *, version: int, lives_for: float) -> Slots | None:
        """See `SlotStore.swap_slots`."""
        return await self._call(
            lambda database: notes.swap_slots(database.connection, key, state, version, self._clock(), lives_for),
            writes=True,
            lasting=False,
        )

    async def rescue(self, organization: str, record: Record | None) -> None:
        """See `Rescuer.rescue`. A private file beside the database; a call that is cancelled finishes all the same."""
        rescue = Rescue(rescue_folder(self._path))
        if record is None:
            await run_uninterrupted(asyncio.to_thread(rescue.forget, organization))
        else:
            await run_uninterrupted(asyncio.to_thread(rescue.keep, record))

    async def close(self) -> None:
        """See `TokenStore.close`. What is queued is written first."""
        with starting:
            worker, self._worker = self._worker, None
            if worker is None or worker.pid != os.getpid():
                return
            closed = worker.submit(None)
        await run_uninterrupted(closed)

    def _call(
        self, run: Callable[[Database], Result], *, writes: bool = False, lasting: bool = True
    ) -> asyncio.Future[Result]:
        with starting:
            if self._worker is None or self._worker.pid != os.getpid():  # a forked child has no thread
                self._worker = Worker(self._path, self._busy_timeout, self._clock)
            return self._worker.submit(Call(run, writes, lasting))
