"""The embedded store: one SQLite file for all processes of one host.

One thread owns the connection. Calls that arrive while it works wait together and share one transaction, so that a
hundred saves cost one flush to disk; each is confirmed only after that flush. No transaction outlives its batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, cast

import attrs

from tribe_oauth._clock import boottime
from tribe_oauth.errors import StoreError
from tribe_oauth.stores._contract import Record, RecordStatus
from tribe_oauth.stores._files import Holder, private_file, private_folder
from tribe_oauth.stores._rescue import Rescue

Result = TypeVar("Result")

APPLICATION_ID: Final = 0x54524942  # "TRIB"
SCHEMA_VERSION: Final = 1
_SCHEMA: Final = f"""
CREATE TABLE organizations (
    id INTEGER PRIMARY KEY,
    organization BLOB NOT NULL UNIQUE,  -- UTF-8; a BLOB compares byte by byte and may contain NUL
    version INTEGER NOT NULL,
    chain TEXT NOT NULL,
    generation INTEGER NOT NULL,
    status TEXT NOT NULL,
    cause TEXT,
    doubt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    not_before REAL NOT NULL,
    due_at REAL,
    payload BLOB NOT NULL,
    lease TEXT,
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
_FIELDS: Final = "version, chain, generation, status, cause, doubt, failures, not_before, due_at, payload"
_LEASE: Final = "lease, lease_end, lease_for, lease_holder"
_SELECT: Final = f"SELECT {_FIELDS}, {_LEASE} FROM organizations WHERE organization = ?"  # noqa: S608 (constants)
_INSERT: Final = (
    f"INSERT OR IGNORE INTO organizations (organization, {_FIELDS}, {_LEASE})"  # noqa: S608 (constants)
    f" VALUES ({', '.join('?' * 15)})"
)
_UPDATE: Final = f"UPDATE organizations SET {' = ?, '.join(_FIELDS.split(', '))} = ?"  # noqa: S608 (constants)
_WITH_LEASE: Final = f", {' = ?, '.join(_LEASE.split(', '))} = ?"
_WHERE: Final = " WHERE organization = ? AND version = ?"

PAGE: Final = 500
"""Keys that are read at a time."""
MAX_BATCH: Final = 1000


class _Job(NamedTuple):
    """A call for the thread, and who waits for it. `run` None: the thread shall stop."""

    run: Callable[[_Database], Any] | None
    writes: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class SQLiteStore:
    """Connections in one SQLite file, safe between the processes of one host, durable before a write returns.

    `path`: the file; it is created, with 0600, and so are missing folders, with 0700. A file that others may read, that
    belongs to another user, or that is a symbolic link is refused. Beside it there are SQLite's ``-wal`` and ``-shm``,
    and a folder ``-holders``, in which each process keeps a locked file: the lease of a process that was killed ends at
    once; and, after trouble, a folder ``-rescue`` with what could not be written. Not for network file systems.

    `busy_timeout`: seconds to wait for other processes' writes.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0, clock: Callable[[], float] = boottime
    ) -> None:
        self._path = Path(path)
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._start = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job] | None = None
        self._pid = 0

    async def load(self, organization: str) -> Record | None:
        """See `TokenStore.load`."""
        return await self._call(lambda database: database.load(organization))

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """See `TokenStore.swap`."""
        return await self._call(lambda database: database.swap(record, lease_for), writes=True)

    async def organizations(self) -> AsyncIterator[str]:
        """See `TokenStore.organizations`."""
        sql = "SELECT id, organization FROM organizations WHERE id > ? AND status != 'disconnected' ORDER BY id LIMIT ?"
        after = 0
        while rows := await self._rows(sql, (after, PAGE)):
            for _, key in rows:
                yield key.decode()
            after = rows[-1][0]

    async def due(self, before: float) -> AsyncIterator[str]:
        """See `TokenStore.due`."""
        sql = (
            "SELECT due_at, id, organization FROM organizations"
            " WHERE due_at <= ? AND (due_at, id) > (?, ?) ORDER BY due_at, id LIMIT ?"
        )
        due_at, after = float("-inf"), 0
        while rows := await self._rows(sql, (before, due_at, after, PAGE)):
            for _, _, key in rows:
                yield key.decode()
            due_at, after, _ = rows[-1]

    async def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        return await self._call(lambda database: database.connection.execute(sql, values).fetchall())

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        """See `TokenStore.put`. Notes outlive a reboot, so that they end by the wall clock."""
        return await self._call(lambda database: database.put(key, value, time.time() + lives_for), writes=True)

    async def take(self, key: str) -> bytes | None:
        """See `TokenStore.take`."""
        return await self._call(lambda database: database.take(key), writes=True)

    async def rescue(self, organization: str, record: Record | None) -> None:
        """Keep a copy of a record that could not be written, in a private file; None: it is not needed any more.

        The copy is taken in when the store is opened, if the stored record is still the one before. Raises StoreError.
        """
        rescue = Rescue(_rescue_folder(self._path))
        if record is None:
            await asyncio.to_thread(rescue.forget, organization)
        else:
            await asyncio.to_thread(rescue.keep, record)

    async def close(self) -> None:
        """See `TokenStore.close`."""
        with self._start:
            jobs, self._jobs = self._jobs, None
        if jobs is not None and self._pid == os.getpid():
            loop = asyncio.get_running_loop()
            closed: asyncio.Future[None] = loop.create_future()
            jobs.put(_Job(None, False, loop, closed))
            await closed

    async def _call(self, run: Callable[[_Database], Result], *, writes: bool = False) -> Result:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._queue().put(_Job(run, writes, loop, future))
        return await future

    def _queue(self) -> queue.SimpleQueue[_Job]:
        """The thread's queue. A forked child has no thread, and makes its own."""
        with self._start:
            if self._jobs is None or self._pid != os.getpid():
                self._pid, self._jobs = os.getpid(), queue.SimpleQueue()
                # A daemon: what was confirmed is on disk, so that the interpreter need not wait for it.
                threading.Thread(target=self._work, args=(self._jobs,), name="tribe_oauth sqlite", daemon=True).start()
            return self._jobs

    # The thread

    def _work(self, jobs: queue.SimpleQueue[_Job]) -> None:
        database: _Database | None = None
        stop: _Job | None = None
        while stop is None:
            batch = _waiting(jobs)
            if batch[-1].run is None:
                stop = batch.pop()
            if database is None and batch:
                try:
                    database = _Database(self._path, self._busy_timeout, self._clock)
                except StoreError as error:
                    _resolve([(job, error.again()) for job in batch])
                    continue
            if database is not None:
                _resolve(database.run(batch))
        if database is not None:
            database.close()
        _resolve([(stop, None)])


def _rescue_folder(path: Path) -> Path:
    return path.with_name(f"{path.name}-rescue")


def _waiting(jobs: queue.SimpleQueue[_Job]) -> list[_Job]:
    """All that waits; at least one, and nothing after the order to stop."""
    batch = [jobs.get()]
    with contextlib.suppress(queue.Empty):
        while len(batch) < MAX_BATCH and batch[-1].run is not None:
            batch.append(jobs.get_nowait())
    return batch


def _resolve(results: list[tuple[_Job, Any]]) -> None:
    """Tell the callers, each loop once."""
    by_loop = defaultdict(list)
    for job, result in results:
        by_loop[job.loop].append((job.future, result))
    for loop, settled in by_loop.items():
        with contextlib.suppress(RuntimeError):  # a loop that was closed has no callers
            loop.call_soon_threadsafe(_settle, settled)


def _settle(settled: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in settled:
        if future.done():
            continue  # cancelled: the caller has gone, the write stands
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


class _Database:
    """The connection and what is done with it, all in one thread."""

    def __init__(self, path: Path, busy_timeout: float, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        private_folder(path.parent)
        private_file(path)
        self._holder = Holder(path.with_name(f"{path.name}-holders"))
        try:
            # The thread may end in a forked child's memory; nobody else uses the connection.
            self.connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None)
            try:
                with self._holder.alone():  # SQLite does not wait for others when the journal's mode changes
                    self._prepare()
                    self._take_in(Rescue(_rescue_folder(path)))
            except BaseException:
                self.connection.close()
                raise
        except sqlite3.Error as error:
            self._holder.close()
            raise self._error(error) from None
        except StoreError:
            self._holder.close()
            raise

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

    def _create(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";\n"):
            self.connection.execute(statement)
        self.connection.execute("COMMIT")

    def _take_in(self, rescue: Rescue) -> None:
        """Write what an earlier process could not, where nobody has gone on from there."""
        for kept in rescue.kept():
            stored = self.load(kept.organization)
            generation, version = (0, 0) if stored is None else (stored.generation, stored.version)
            if generation == kept.generation - 1:
                self.swap(attrs.evolve(kept, version=version, lease=None), None)
            rescue.forget(kept.organization)

    def close(self) -> None:
        self.connection.close()
        self._holder.close()

    # Batches

    def run(self, batch: list[_Job]) -> list[tuple[_Job, Any]]:
        """Run all jobs; writes in one transaction, and nothing is told before it is durable."""
        if not any(job.writes for job in batch):
            return [(job, self._attempt(job)) for job in batch]
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            results = [(job, self._attempt(job)) for job in batch]
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            failure = self._error(error)
            with contextlib.suppress(sqlite3.Error):  # there may be no transaction left to roll back
                self.connection.execute("ROLLBACK")
            return [(job, failure.again()) for job in batch]
        return results

    def _attempt(self, job: _Job) -> Any:
        """The job's result, or its error, which is nobody else's unless it ended the transaction."""
        assert job.run is not None  # the order to stop is no job
        try:
            return job.run(self)
        except sqlite3.Error as error:
            if job.writes and not self.connection.in_transaction:
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
        version, chain, generation, status, cause, doubt, failures, not_before, due_at, payload = row[:10]
        lease, end, length, holder = row[10:]
        left = 0.0
        if lease is not None:
            left = min(max(end - self._clock(), 0.0), length)  # a boot later, the end may be far away
            if left and holder != self._holder.id and self._holder.is_gone(holder):
                left = 0.0
        return Record(
            organization=organization,
            version=version,
            chain=chain,
            generation=generation,
            status=cast("RecordStatus", status),
            cause=cause,
            doubt=bool(doubt),
            failures=failures,
            not_before=not_before,
            due_at=due_at,
            lease=lease,
            lease_left=left,
            payload=payload,
        )

    def swap(self, record: Record, lease_for: float | None) -> Record | None:
        key, fields = record.organization.encode(), _fields(record)
        lease: tuple[Any, ...] = (None, 0.0, 0.0, "")
        if record.lease is not None and lease_for is not None:
            lease = (record.lease, self._clock() + lease_for, lease_for, self._holder.id)
        if record.version == 0:
            cursor = self.connection.execute(_INSERT, (key, *fields, *lease))
        elif record.lease is None or lease_for is not None:
            cursor = self.connection.execute(_UPDATE + _WITH_LEASE + _WHERE, (*fields, *lease, key, record.version))
        else:
            cursor = self.connection.execute(_UPDATE + _WHERE, (*fields, key, record.version))
        return self.load(record.organization) if cursor.rowcount == 1 else None

    def put(self, key: str, value: bytes, ends: float) -> bytes:
        self.connection.execute("DELETE FROM notes WHERE ends <= ?", (time.time(),))
        self.connection.execute("INSERT OR IGNORE INTO notes VALUES (?, ?, ?)", (key, value, ends))
        standing: bytes = self.connection.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()[0]
        return standing

    def take(self, key: str) -> bytes | None:
        sql = "DELETE FROM notes WHERE key = ? AND ends > ? RETURNING value"
        rows = self.connection.execute(sql, (key, time.time())).fetchall()
        return rows[0][0] if rows else None


def _fields(record: Record) -> tuple[Any, ...]:
    return (
        record.version + 1,
        record.chain,
        record.generation,
        record.status,
        record.cause,
        record.doubt,
        record.failures,
        record.not_before,
        record.due_at,
        record.payload,
    )


_REMEDIES: Final = {
    "SQLITE_BUSY": "is locked by another process for too long: look for one that hangs",
    "SQLITE_LOCKED": "is locked by another process for too long: look for one that hangs",
    "SQLITE_FULL": "cannot grow, the disk is full: make room",
    "SQLITE_READONLY": "cannot be written: make the file and its folder writable for this user",
    "SQLITE_CANTOPEN": "cannot be opened: make the file and its folder readable and writable for this user",
    "SQLITE_IOERR": "cannot be read or written, the disk fails: look at the disk",
    "SQLITE_CORRUPT": "is damaged: move it away and restore a backup; nothing was changed",
    "SQLITE_NOTADB": "is not a database, or is damaged: move it away and restore a backup; nothing was changed",
}
