"""Cancels a coroutine at any of its awaits, in all the ways in which callers cancel, and looks at what it leaves."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio

KINDS: Final = ("cancel", "twice", "timeout", "scope", "anyio group", "asyncio group")


class Stepped:
    """A coroutine whose suspensions are counted. It is struck at one of them; what it leaves is noted at its end.

    `at`: the number of that suspension; 0: only by a call of `strike`. `left`: tasks that it started and that go on,
    and whatever `at_the_end` finds in the very moment when it ends.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int = 0) -> None:
        self.coroutine = coroutine
        self.at = at
        self.suspensions = 0
        self.strike: Callable[[], object] = lambda: None
        self.at_the_end: Callable[[], list[Any]] = list
        self.has_ended = False
        self.left: list[object] = []

    @property
    def was_struck(self) -> bool:
        """Whether it lasted until it was struck."""
        return self.suspensions >= self.at

    def __await__(self) -> Generator[Any, Any, Any]:
        before = asyncio.all_tasks()
        try:
            return (yield from self.steps(self.coroutine))
        finally:
            self.has_ended = True
            self.left = [task for task in asyncio.all_tasks() - before if not _is_the_servers(task)]
            self.left += self.at_the_end()

    async def beside(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run another one, whose suspensions are counted with those of the first."""
        return await _Beside(self.steps(coroutine))

    def steps(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        step = partial(coroutine.send, None)
        while True:
            try:
                awaited = step()
            except StopIteration as end:
                return end.value
            self.suspended()
            try:
                step = partial(coroutine.send, (yield awaited))
            except BaseException as error:
                step = partial(coroutine.throw, error)

    def suspended(self) -> None:
        """Count one more, and strike where it is the one."""
        self.suspensions += 1
        if self.suspensions == self.at:
            self.strike()


class _Beside:
    """An awaitable of steps."""

    def __init__(self, steps: Generator[Any, Any, Any]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._steps


def _is_the_servers(task: asyncio.Task[Any]) -> bool:
    return any(name in repr(task.get_coro()) for name in ("aiohttp/web", "RequestHandler", "_accept_connection2"))


async def run(kind: str, stepped: Stepped) -> None:
    """Await it where it can be struck in this way. Other errors than the cancellation come out."""
    await asyncio.create_task(RUNS[kind](stepped))


async def _cancel(stepped: Stepped) -> None:
    task = asyncio.current_task()
    assert task is not None
    stepped.strike = task.cancel
    with suppress(asyncio.CancelledError):
        await stepped


async def _twice(stepped: Stepped) -> None:
    task = asyncio.current_task()
    assert task is not None

    def strike() -> None:
        task.cancel()
        asyncio.get_running_loop().call_soon(task.cancel)

    stepped.strike = strike
    with suppress(asyncio.CancelledError):
        await stepped


async def _timeout(stepped: Stepped) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(None) as limit:
            stepped.strike = lambda: limit.reschedule(asyncio.get_running_loop().time())
            await stepped


async def _scope(stepped: Stepped) -> None:
    with anyio.CancelScope() as scope:
        stepped.strike = scope.cancel
        await stepped


async def _anyio_group(stepped: Stepped) -> None:
    async def work() -> None:
        await stepped

    async with anyio.create_task_group() as group:
        stepped.strike = group.cancel_scope.cancel
        group.start_soon(work)


async def _asyncio_group(stepped: Stepped) -> None:
    over = asyncio.Event()

    async def work() -> None:
        with suppress(asyncio.CancelledError):
            await stepped
        over.set()

    async def fail() -> None:
        await over.wait()
        raise KeyError("a sibling's")

    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            stepped.strike = over.set
            group.create_task(fail())
            await asyncio.sleep(0)
            group.create_task(work())


RUNS: Final[dict[str, Callable[[Stepped], Coroutine[Any, Any, None]]]] = {
    "cancel": _cancel,
    "twice": _twice,
    "timeout": _timeout,
    "scope": _scope,
    "anyio group": _anyio_group,
    "asyncio group": _asyncio_group,
}


class SlowDisk(ThreadPoolExecutor):
    """Threads whose work takes its time, so that a cancellation comes while it is under way; none is lost sight of."""

    def __init__(self, seconds: float) -> None:
        super().__init__(4)
        self._seconds = seconds
        self._all: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def slowly() -> Any:
            time.sleep(self._seconds)
            return fn(*args, **kwargs)

        future = super().submit(slowly)
        self._all.append(future)
        return future

    def under_way(self) -> list[Future[Any]]:
        """Work that has not ended."""
        return [future for future in self._all if not future.done()]


@contextmanager
def no_complaints() -> Iterator[None]:
    """The event loop has nothing to complain of: no exception is never retrieved, no task destroyed while pending."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: complaints.append(context))
    try:
        yield
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert complaints == []


def open_files(folder: Path) -> list[str]:
    """Descriptors of this process that are open below a folder."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that listed the others
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [name for name in found if name.startswith(str(folder))]


def under_way(disk: SlowDisk, folder: Path) -> list[object]:
    """Threads that work, and files that are open."""
    return [*disk.under_way(), *open_files(folder)]
