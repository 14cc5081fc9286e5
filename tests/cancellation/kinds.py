"""The kinds of cancellation that reach a coroutine in asyncio and in anyio, each triggered at one step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import anyio
import attrs
from aiohttp import web

from .stepping import Steps, frames

T = TypeVar("T")

PATIENCE: Final = 8.0
"""Seconds in which a coroutine has to end. The time-outs inside the worlds are shorter: what takes longer hangs."""


@attrs.frozen
class Ended:
    """How a coroutine ended: cut in the way of its kind, or with an error of its own, or with a result."""

    was_cut: bool
    error: BaseException | None = None


class HungError(Exception):
    """What was cut did not end."""


class SiblingError(Exception):
    """Why the other task of a group failed."""


class Gate:
    """An aiohttp.web middleware that drives one request's handler. `ended` tells how that was."""

    def __init__(self) -> None:
        self._steps: Steps | None = None
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    def close_behind(self, steps: Steps) -> None:
        """Step through the handler of the next request; its client disconnects at the step."""
        self._steps = steps

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """See `aiohttp.web.middleware`."""
        steps, self._steps = self._steps, None
        if steps is None:
            return await handler(request)
        assert request.transport is not None
        transport = request.transport
        steps.trigger = lambda awaited: transport.abort()
        try:
            response = await steps.drive(_coroutine(handler(request)))
        except BaseException as error:
            self.ended.set_result(_ended(error))
            raise
        self.ended.set_result(Ended(was_cut=False))
        return response


@attrs.frozen(kw_only=True)
class Run:
    """What is cut: makes the coroutine anew. `gate`: where it is a request, whose handler is what is cut."""

    coroutine: Callable[[], Coroutine[Any, Any, object]]
    gate: Gate | None = None


Kind = Callable[[Steps, Run], Awaitable[Ended]]


def _ended(error: BaseException | None) -> Ended:
    if isinstance(error, asyncio.CancelledError):
        return Ended(was_cut=True)
    return Ended(was_cut=False, error=error)


async def _outcome(
    work: Coroutine[Any, Any, object], started: Callable[[asyncio.Task[Any]], object] = lambda task: None
) -> Ended:
    """Run it in a task of its own. `started` is given the task before its first step."""
    task = asyncio.ensure_future(work)
    started(task)
    done, _ = await asyncio.wait({task}, timeout=PATIENCE)
    if not done:
        raise HungError(f"it did not end within {PATIENCE:g} s; it waits at {' > '.join(frames(task.get_coro()))}")
    return Ended(was_cut=True) if task.cancelled() else _ended(task.exception())


async def task_cancel(steps: Steps, run: Run) -> Ended:
    """`Task.cancel`, while it waits."""

    def started(task: asyncio.Task[Any]) -> None:
        steps.trigger = lambda awaited: task.cancel()

    return await _outcome(steps.drive(run.coroutine()), started)


async def late_cancel(steps: Steps, run: Run) -> Ended:
    """`Task.cancel`, when what it waits for has come and it has not seen that yet: the result has nobody to go to."""

    def started(task: asyncio.Task[Any]) -> None:
        def trigger(awaited: Any) -> None:
            if awaited is None:
                task.cancel()
            else:
                awaited.add_done_callback(lambda done: task.cancel())

        steps.trigger = trigger

    return await _outcome(steps.drive(run.coroutine()), started)


async def asyncio_timeout(steps: Steps, run: Run) -> Ended:
    """`asyncio.timeout`, which runs out."""

    async def limited() -> None:
        async with asyncio.timeout(None) as limit:
            steps.trigger = lambda awaited: limit.reschedule(asyncio.get_running_loop().time())
            await steps.drive(run.coroutine())

    ended = await _outcome(limited())
    return Ended(was_cut=True) if steps.reached and type(ended.error) is TimeoutError else _uncut(ended)


async def anyio_scope(steps: Steps, run: Run) -> Ended:
    """`anyio.CancelScope.cancel`, which cancels at every further await until the scope is left."""
    scope = anyio.CancelScope()

    async def scoped() -> None:
        with scope:
            steps.trigger = lambda awaited: scope.cancel()
            await steps.drive(run.coroutine())

    ended = await _outcome(scoped())
    return Ended(was_cut=True) if scope.cancelled_caught and ended.error is None else _uncut(ended)


async def asyncio_group(steps: Steps, run: Run) -> Ended:
    """An `asyncio.TaskGroup`, in which another task fails."""
    fails: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    inside: list[asyncio.Task[Any]] = []

    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            inside.append(group.create_task(_then_let_go(steps.drive(run.coroutine()), fails)))
            group.create_task(_sibling(fails))

    steps.trigger = lambda awaited: fails.set_result(True)
    ended = await _outcome(grouped())
    (task,) = inside
    if _only_the_sibling(ended.error):
        return Ended(was_cut=task.cancelled())
    return _uncut(ended)


async def anyio_group(steps: Steps, run: Run) -> Ended:
    """An anyio task group, in which another task fails."""
    fails: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    own: list[Ended] = []

    async def child() -> None:
        try:
            await _then_let_go(steps.drive(run.coroutine()), fails)
        except asyncio.CancelledError:
            own.append(Ended(was_cut=True))
            raise
        own.append(Ended(was_cut=False))

    async def grouped() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            group.start_soon(_sibling, fails)

    steps.trigger = lambda awaited: fails.set_result(True)
    ended = await _outcome(grouped())
    return own[0] if own and _only_the_sibling(ended.error) else _uncut(ended)


async def client_disconnect(steps: Steps, run: Run) -> Ended:
    """The client of an aiohttp.web application goes away, and `handler_cancellation` ends the handler."""
    assert run.gate is not None
    run.gate.close_behind(steps)
    await _outcome(run.coroutine())
    done, _ = await asyncio.wait({run.gate.ended}, timeout=PATIENCE)
    if not done:
        raise HungError(f"the handler did not end within {PATIENCE:g} s")
    return run.gate.ended.result()


async def _coroutine(waiting: Awaitable[T]) -> T:
    return await waiting


async def _then_let_go(work: Coroutine[Any, Any, object], fails: asyncio.Future[bool]) -> None:
    try:
        await work
    finally:
        if not fails.done():
            fails.set_result(False)


async def _sibling(fails: asyncio.Future[bool]) -> None:
    if await fails:
        raise SiblingError


def _uncut(ended: Ended) -> Ended:
    """A cancellation that came out where only that of the kind may: an error."""
    return Ended(was_cut=False, error=asyncio.CancelledError()) if ended.was_cut else ended


def _only_the_sibling(error: BaseException | None) -> bool:
    return isinstance(error, BaseExceptionGroup) and [type(e) for e in error.exceptions] == [SiblingError]


KINDS: Final[dict[str, Kind]] = {
    "cancel": task_cancel,
    "late": late_cancel,
    "timeout": asyncio_timeout,
    "scope": anyio_scope,
    "group": asyncio_group,
    "anyio-group": anyio_group,
}
DISCONNECT: Final[dict[str, Kind]] = {"disconnect": client_disconnect}
