"""The tasks that a manager owns, the loop they run on, and how they end. For the manager and its flights only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

from tribe_oauth._clock import Clock
from tribe_oauth._refresh.context import logger
from tribe_oauth.errors import ManagerError

Result = TypeVar("Result")


class Tasks:
    """Belongs to one event loop at a time; to another only after the first is gone, or in a forked child."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._turns: dict[str, OrganizationLock] = {}
        self._closing = asyncio.Event()

    def enter(self) -> bool:
        """Make sure of the running loop. True: it is a new one, and whatever belonged to an earlier one is void."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return False
        if self._loop is not None and not self._loop.is_closed() and self._pid == os.getpid():
            raise ManagerError(
                "this manager belongs to another event loop, which is still open: make one manager for each loop,"
                " on the same store"
            )
        self._loop, self._pid = loop, os.getpid()
        self._tasks = set()
        self._turns = {}
        self._closing = asyncio.Event()
        return True

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing.is_set()

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """A task that no caller can cancel."""
        # Not by the loop's own factory: an eager task could end before anybody waits for it.
        task = asyncio.Task(work, loop=asyncio.get_running_loop())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def owned(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for such a task. The caller may be cancelled; the task goes on."""
        task = self.spawn(work)
        task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    def turn(self, organization: str) -> OrganizationLock:
        """One at a time for each organization."""
        turn = self._turns.get(organization)
        if turn is None:
            turn = self._turns[organization] = OrganizationLock(self._turns, organization)
        return turn

    async def pause(self, seconds: float) -> bool:
        """Wait; cut short, and False, when the manager closes."""
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({sleep, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            closing.cancel()
        return not self.closing

    async def close(self, timeout: float) -> None:
        """Cut pauses short, let tasks end, so many seconds at most. None is cancelled: half a rotation is lost."""
        self._closing.set()
        if self._tasks:
            _done, late = await asyncio.wait(self._tasks, timeout=timeout)
            if late:
                logger.critical("closing with %d refreshes still under way", len(late))


class OrganizationLock(asyncio.Lock):
    """A lock that is there only while somebody holds it or waits for it."""

    def __init__(self, turns: dict[str, OrganizationLock], organization: str) -> None:
        super().__init__()
        self._turns = turns
        self._organization = organization
        self._users = 0

    async def __aenter__(self) -> None:
        self._users += 1
        try:
            await self.acquire()
        except BaseException:
            self._left()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.release()
        self._left()

    def _left(self) -> None:
        self._users -= 1
        if not self._users and self._turns.get(self._organization) is self:  # and not the next loop's
            del self._turns[self._organization]


def _retrieve(task: asyncio.Task[Any]) -> None:
    """The error was for a caller who may have gone."""
    _ = task.cancelled() or task.exception()
