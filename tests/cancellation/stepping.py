"""Drives a coroutine from one suspension to the next, so that it can be cut at exactly one of them."""

from __future__ import annotations

import asyncio
import gc
import types
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

Trigger = Callable[[Any], object]
"""Cancels what is driven. It is given what the coroutine waits for: a future, or None for a bare yield."""


class Steps:
    """Counts the suspensions of a coroutine, and calls `trigger` at number `at`, before the event loop sees it.

    `reached`: that step came. `delivered`: after it, a cancellation arrived inside the coroutine. `where`: the frames
    that were suspended there.
    """

    def __init__(self, at: int | None = None) -> None:
        self.count = 0
        self.reached = False
        self.delivered = False
        self.where = ""
        self.trigger: Trigger | None = None
        self._at = at

    async def drive(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine to its end, as `await` would."""
        result: T = await self._driven(coroutine)
        return result

    @types.coroutine
    def _driven(self, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        send: Callable[[Any], Any] = coroutine.send
        value: Any = None
        while True:
            try:
                awaited = send(value)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                value = None  # an error that is thrown in must not be kept by the frames of its own traceback
            self._suspended(coroutine, awaited)
            try:
                send, value = coroutine.send, (yield awaited)
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001, RUF100 (all of them belong to the coroutine)
                self.delivered |= self.reached and isinstance(error, asyncio.CancelledError)
                send, value = coroutine.throw, error

    def _suspended(self, coroutine: Coroutine[Any, Any, Any], awaited: object) -> None:
        step, self.count = self.count, self.count + 1
        if step == self._at:
            self.reached = True
            self.where = " > ".join(frames(coroutine)) or "its first line"
            assert self.trigger is not None  # the kind of cancellation sets it before the first step
            self.trigger(awaited)


def frames(waiting: Any) -> list[str]:
    """The frames of a suspended coroutine, the outermost first, as ``file.py:line function``."""
    found: list[str] = []
    while waiting is not None and len(found) < 50:
        if isinstance(waiting, Steps):
            return found
        frame = next((f for name in ("cr_frame", "gi_frame", "ag_frame") if (f := getattr(waiting, name, None))), None)
        if frame is not None:
            found.append(f"{_short(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}")
        waiting = _inner(waiting)
    return found


def _inner(waiting: Any) -> Any:
    """What a suspended coroutine or generator waits for; None for what has no frames."""
    for name in ("cr_await", "gi_yieldfrom", "ag_await"):
        if hasattr(waiting, name):
            return getattr(waiting, name)
    if type(waiting).__name__.startswith(("async_generator_", "coroutine_wrapper", "anext_awaitable")):
        inside = gc.get_referents(waiting)  # these do not say in Python what they wrap
        return next((thing for thing in inside if hasattr(thing, "ag_frame") or hasattr(thing, "cr_frame")), None)
    return None


def _short(path: str) -> str:
    parts = Path(path).parts
    for root in ("tribe_oauth", "tests", "site-packages"):
        if root in parts[:-1]:
            return "/".join(parts[len(parts) - 1 - parts[::-1].index(root) :])
    return parts[-1]
