"""What a manager runs on one event loop: tasks that no caller can cancel, a lock for each organization, pauses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from tribe_oauth._clock import Clock
from tribe_oauth.errors import ManagerError

logger = logging.getLogger("tribe_oauth.tasks")

Result = TypeVar("Result")

SILENCE: Final = 1.0
"""Seconds that the end may take without a word."""
MAX_ROTATIONS: Final = 100
"""Rotations that hold a lease at a time: more would wait for a connection while their lease runs."""


class Tasks:
    """All of it belongs to one event loop. `rotations` bounds how many rotations hold a lease at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.forget_loop()

    def forget_loop(self) -> None:
        """Begin anew for another event loop: the one before is gone, and so are its tasks."""
        self.rotations = asyncio.Semaphore(MAX_ROTATIONS)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._locks: dict[str, OrganizationLock] = {}
        self._closing = asyncio.Event()

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing.is_set()

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run it in a task that no caller can cancel."""
        # Not by the loop's own factory: an eager task could end before anyone waits for it.
        task = asyncio.Task(work, loop=asyncio.get_running_loop())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def owned(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run it in such a task and wait for its result. A caller that is cancelled leaves; the task goes on."""
        task = self.spawn(work)
        task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    def lock(self, organization: str) -> OrganizationLock:
        """One at a time for each organization: refresh, connect, disconnect."""
        lock = self._locks.get(organization)
        if lock is None:
            lock = self._locks[organization] = OrganizationLock(self._locks, organization)
        return lock

    async def pause(self, seconds: float) -> bool:
        """Wait so many seconds. False: the manager is closing, which cuts it short."""
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({sleep, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            closing.cancel()
        return not self.closing

    async def unless_closing(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run what has nothing to lose; where the manager closes meanwhile, give it up: ManagerError."""
        task = asyncio.ensure_future(work)
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({task, closing}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            closing.cancel()
            task.cancel()
        await asyncio.wait({task})
        raise ManagerError("the manager is closing")

    async def close(self, timeout: float) -> None:
        """Cut pauses short and let tasks end, for so many seconds. None is cancelled: half a rotation is lost."""
        self._closing.set()
        if self._tasks:
            _done, late = await asyncio.wait(self._tasks, timeout=min(timeout, SILENCE))
            if late:
                logger.warning("finishing %d refreshes before the end: %.0f s at most", len(late), timeout)
                _done, late = await asyncio.wait(late, timeout=timeout - SILENCE)
            if late:
                logger.critical(
                    "closed with %d tasks still running after %.0f seconds: what a refresh was answered may be lost",
                    len(late),
                    timeout,
                )


class OrganizationLock(asyncio.Lock):
    """A lock that exists only while a task holds it or waits for it."""

    def __init__(self, locks: dict[str, OrganizationLock], organization: str) -> None:
        super().__init__()
        self._locks = locks
        self._organization = organization
        self._users = 0

    async def __aenter__(self) -> None:
        self._users += 1
        try:
            await self.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.release()
        self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users and self._locks.get(self._organization) is self:  # and not the next loop's
            del self._locks[self._organization]


def _retrieve(task: asyncio.Task[Any]) -> None:
    """The error was for a caller that may have left."""
    _ = task.cancelled() or task.exception()
