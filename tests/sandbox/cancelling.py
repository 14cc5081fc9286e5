"""Cancels work at a chosen moment, in each of the three ways that there are, and shows what it leaves behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from types import coroutine
from typing import Any

import anyio

Work = Callable[[], Coroutine[Any, Any, object]]
Cancel = Callable[[], object]
Cancellable = Callable[[Cancel], Awaitable[object]]
Way = Callable[[Cancellable], Awaitable[bool]]


async def natively(work: Cancellable) -> bool:
    """By `Task.cancel`. Whether the work was cancelled."""

    async def run() -> None:
        await work(task.cancel)

    task = asyncio.ensure_future(run())
    await asyncio.wait([task])
    if task.cancelled():
        return True
    task.result()
    return False


async def by_timeout(work: Cancellable) -> bool:
    """By `asyncio.timeout`."""
    now = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(None) as timeout:
            await work(lambda: timeout.reschedule(now()))
    except TimeoutError:
        return True
    return False


async def by_scope(work: Cancellable) -> bool:
    """By an anyio scope, which cancels every await after it."""
    with anyio.CancelScope() as scope:
        await work(scope.cancel)
    return scope.cancel_called


WAYS: list[Way] = [natively, by_timeout, by_scope]


async def at_iteration(number: int, work: Work, cancel: Cancel) -> None:
    """Run the work; cancel at this iteration of the event loop, counted from 0, unless it has finished before."""
    loop = asyncio.get_running_loop()
    running = True

    def count(left: int) -> None:
        if running and left == 0:
            cancel()
        elif running:
            loop.call_soon(count, left - 1)

    count(number)
    try:
        await work()
    finally:
        running = False


async def at_await(number: int, work: Work, cancel: Cancel) -> None:
    """Run the work; cancel while it is suspended for the time of this number, counted from 0."""
    await _suspended(number, work(), cancel)


@coroutine
def _suspended(number: int, work: Coroutine[Any, Any, object], cancel: Cancel) -> Generator[Any, Any, None]:
    error: BaseException | None = None
    while True:
        try:
            waiting = work.send(None) if error is None else work.throw(error)
        except StopIteration:
            return
        error = None
        if number == 0:
            asyncio.get_running_loop().call_soon(cancel)
        number -= 1
        try:
            yield waiting
        except BaseException as thrown:
            error = thrown


def descriptors() -> dict[str, str]:
    """The open file descriptors of this process, and what they are."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            found[link.name] = str(link.readlink())
        except FileNotFoundError:  # the one that lists them
            continue
    return found


class Left:
    """Remembers descriptors and tasks, to compare with later."""

    def __init__(self) -> None:
        self._descriptors, self._tasks = descriptors(), asyncio.all_tasks()

    def nothing_more(self) -> None:
        """Assert that there are none but those of before."""
        more = {name: target for name, target in descriptors().items() if self._descriptors.get(name) != target}
        assert not more, more
        assert asyncio.all_tasks() <= self._tasks, asyncio.all_tasks() - self._tasks


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def bind(port: int) -> None:
    """Listen at a port, for a moment. Raises OSError where it is taken."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
