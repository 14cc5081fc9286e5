"""Cancellation at every await: a coroutine is stepped, and cancelled where it is suspended for the n-th time."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio

KINDS = ("native", "twice", "timeout", "scope", "group")
"""By Task.cancel, once or twice; by asyncio.timeout; by cancelling an anyio scope; by an error in a task group."""

Work = Callable[[], Coroutine[Any, Any, object]]


class Stepped(Coroutine[Any, Any, object]):
    """Counts how often a coroutine is suspended, and calls `cancel` at some of these times. For a task to run."""

    def __init__(self, inner: Coroutine[Any, Any, object], at: range, cancel: Callable[[], object]) -> None:
        self.inner = inner
        self.at = at
        self.cancel = cancel
        self.suspensions = 0

    def send(self, value: Any) -> Any:
        return self._suspended(self.inner.send(value))

    def throw(self, *error: Any) -> Any:
        return self._suspended(self.inner.throw(*error))

    def close(self) -> None:
        self.inner.close()

    def __await__(self) -> Generator[Any, Any, object]:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)  # anyio asks coroutines for their state

    def _suspended(self, awaited: Any) -> Any:
        self.suspensions += 1
        if self.suspensions in self.at:
            self.cancel()
        return awaited


async def cancelled(kind: str, work: Work, at: int) -> bool:
    """Run it in a task of its own and cancel it at its n-th suspension; whether it came so far."""
    cancel: list[Callable[[], object]] = []
    stepped = Stepped(_within(kind, work, cancel), range(at, at + 1 + (kind == "twice")), lambda: cancel[0]())
    task = asyncio.get_running_loop().create_task(stepped)
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
    return stepped.suspensions >= at


async def _within(kind: str, work: Work, cancel: list[Callable[[], object]]) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    if kind == "timeout":
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as deadline:
                cancel.append(lambda: deadline.reschedule(loop.time()))
                await work()
    elif kind == "scope":
        with anyio.CancelScope() as scope:
            cancel.append(scope.cancel)
            await work()
    elif kind == "group":
        with suppress(BaseExceptionGroup):
            async with anyio.create_task_group() as group:
                failure = anyio.Event()
                cancel.append(failure.set)
                group.start_soon(_fail, failure)
                await work()
                group.cancel_scope.cancel()
    else:
        cancel.append(task.cancel)
        await work()


async def _fail(failure: anyio.Event) -> None:
    await failure.wait()
    raise ZeroDivisionError


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Afterwards no task runs, no descriptor is open, and no error was left unread, but for those there were before."""
    loop = asyncio.get_running_loop()
    tasks, descriptors = asyncio.all_tasks(), _descriptors()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    try:
        yield
        await until(lambda: asyncio.all_tasks() <= tasks and _descriptors() <= descriptors)
        gc.collect()
        await asyncio.sleep(0)
        assert told == []
    finally:
        loop.set_exception_handler(None)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition. Raises TimeoutError after some seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.001)
