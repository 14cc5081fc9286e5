"""One thread for one database: it takes all calls that wait, runs them together, and hands each caller its result.

The database is closed during a fork. SQLite keeps account of its locks in memory, and the kernel does not give them to
a child: a child that inherits the account believes that it holds locks, and what it writes can be thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from tribe_oauth._remedies import reason, remedy
from tribe_oauth.errors import StoreError
from tribe_oauth.stores._sqlite_database import Call, Database, Reopen
from tribe_oauth.stores._sqlite_holder import Holder, private_folder

logger = logging.getLogger("tribe_oauth.stores.sqlite")

MAX_BATCH: Final = 1000
MAX_REOPENINGS: Final = 5

starting: Final = threading.RLock()
"""Held while a worker is made or given something to do, and during a fork."""


class _Job(NamedTuple):
    """A call, and the future of the task that waits for it. None: the thread stops."""

    call: Call | None
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class Worker:
    """A thread, its database, which the first call opens, and the lock that shows that this process lives."""

    def __init__(self, path: Path, busy_timeout: float, clock: Callable[[], float]) -> None:
        self.pid = os.getpid()
        self._path = path
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._busy = threading.Lock()  # the database is in use
        self._database: Database | None = None
        self._holder: Holder | None = None
        self._known: dict[str, int] = {}
        try:
            # A daemon: what was confirmed is on disk, so that the interpreter need not wait for it.
            threading.Thread(target=self._work, name="tribe_oauth sqlite", daemon=True).start()
        except RuntimeError as error:
            raise StoreError(f"{str(path)!r} needs a thread, and there is none to have: {error}") from None
        _workers.add(self)

    def submit(self, call: Call | None) -> asyncio.Future[Any]:
        """Queue a call; the future, of the running loop, gets its result. None: stop, and release everything."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._jobs.put(_Job(call, loop, future))
        return future

    # The thread

    def _work(self) -> None:
        stop: _Job | None = None
        while stop is None:
            batch = self._waiting()
            if batch[-1].call is None:
                stop = batch.pop()
            if batch:
                with self._busy:
                    results = self._run([job.call for job in batch if job.call is not None])
                _deliver(zip(batch, results, strict=True))
        try:
            with self._busy:
                self._release()
        finally:
            _workers.discard(self)
            _deliver([(stop, None)])

    def _waiting(self) -> list[_Job]:
        """All that waits; at least one, and nothing after the order to stop."""
        batch = [self._jobs.get()]
        with contextlib.suppress(queue.Empty):
            while len(batch) < MAX_BATCH and batch[-1].call is not None:
                batch.append(self._jobs.get_nowait())
        return batch

    def _run(self, calls: list[Call]) -> list[Any]:
        """The results of all calls, or their errors, whatever happens: without its thread they would wait for ever."""
        try:
            return self._results(calls)
        except StoreError as error:
            failure = error
        except BaseException as error:  # nobody else hears it in this thread
            self._close_database()
            failure = StoreError(
                f"{str(self._path)!r} failed with {type(error).__name__}: try again; look at what lies beside it"
            )
        return [failure.again() for _ in calls]

    def _results(self, calls: list[Call]) -> list[Any]:
        for _ in range(MAX_REOPENINGS):
            try:
                if self._database is None:
                    self._database = self._open()
                return self._database.run(calls)
            except Reopen:
                self._close_database()
        raise StoreError(
            f"the files of {str(self._path)!r} are others at each look: find out what replaces them,"
            " or use a local disk"
        )

    def _open(self) -> Database:
        try:
            if self._holder is None:  # it outlives a fork, for which the database alone is closed
                private_folder(self._path.parent)
                self._holder = Holder(self._path.with_name(f"{self._path.name}-holders"), self._busy_timeout)
            return Database(self._path, self._busy_timeout, self._clock, self._holder, self._known)
        except StoreError:
            raise
        except Exception as error:  # an error that ended the thread would leave its callers waiting for ever
            advice = remedy(error, "make the file and its folder readable and writable for this user")
            raise StoreError(
                f"{str(self._path)!r} and what lies beside it cannot be opened ({reason(error)}): {advice}"
            ) from None

    def _close_database(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            try:
                database.close()
            except Exception as error:  # it is not used any more, and a fork, or the next call, goes on
                logger.warning("%r was not closed well (%s)", str(self._path), type(error).__name__)

    def _release(self) -> None:
        self._close_database()
        if self._holder is not None:
            self._holder.drop()

    # A fork

    def pause(self) -> None:
        """Let the thread finish what it does, and close the database until the next call."""
        self._busy.acquire()
        self._close_database()

    def go_on(self) -> None:
        """In the parent, after a fork."""
        self._busy.release()

    def forget(self) -> None:
        """In the child, which has no such thread: the lock is its parent's, and has to end with the parent."""
        if self._holder is not None:
            self._holder.drop()


def _deliver(results: Iterable[tuple[_Job, Any]]) -> None:
    """Hand all results to their callers, with one call into each event loop."""
    by_loop = defaultdict(list)
    for job, result in results:
        by_loop[job.loop].append((job.future, result))
    for loop, outcomes in by_loop.items():
        with contextlib.suppress(RuntimeError):  # a loop that was closed has no callers
            loop.call_soon_threadsafe(_set_results, outcomes)


def _set_results(outcomes: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in outcomes:
        if future.done():
            continue  # its caller was cancelled; what was written stays written
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()
_paused: list[Worker] = []


def _before_fork() -> None:
    starting.acquire()
    _paused.extend(_workers)
    for worker in _paused:
        worker.pause()


def _after_fork_in_parent() -> None:
    for worker in _paused:
        worker.go_on()
    _paused.clear()
    starting.release()


def _after_fork_in_child() -> None:
    for worker in _paused:
        worker.forget()
    _paused.clear()
    _workers.clear()
    starting.release()


_register = getattr(os, "register_at_fork", dict)  # Windows has none
_register(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
