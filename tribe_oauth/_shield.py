"""Clean-up that always finishes, however its caller is cancelled. May be imported by every room."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

Result = TypeVar("Result")


async def run_uninterrupted(work: Coroutine[Any, Any, Result] | asyncio.Future[Result]) -> Result:
    """Run `work` to its end and give its result; a cancellation that arrives meanwhile is raised after that.

    `asyncio.shield` alone is not enough: its caller returns at once, with the work still under way. An anyio scope that
    is cancelled would cancel every later await of its host task again: the inner scope keeps that out.
    """
    future = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # nobody else will look at it
        raise cancelled
    return future.result()
