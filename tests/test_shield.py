"""Clean-up that finishes: its result, its errors, and a cancellation that arrives meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import pytest

from tribe_oauth._shield import closing, run_uninterrupted


class Work:
    """Work that waits until it is let go."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.begun, self.released, self.finished = asyncio.Event(), asyncio.Event(), False
        self._error = error

    async def __call__(self) -> str:
        self.begun.set()
        await self.released.wait()
        self.finished = True
        if self._error is not None:
            raise self._error
        return "done"


async def test_a_result_and_an_error() -> None:
    """Both reach the caller, as from a plain await; of a future too."""
    work = Work()
    work.released.set()
    assert await run_uninterrupted(work()) == "done"
    assert await run_uninterrupted(asyncio.ensure_future(work())) == "done"
    work = Work(ValueError("wrong"))
    work.released.set()
    with pytest.raises(ValueError, match="wrong"):
        await run_uninterrupted(work())


@pytest.mark.parametrize("error", [None, ValueError("wrong"), asyncio.CancelledError()])
async def test_a_native_cancellation(error: BaseException | None) -> None:
    """However often it comes: the work finishes first, and its outcome gives way to the cancellation."""
    work = Work(error)
    task = asyncio.ensure_future(run_uninterrupted(work()))
    await work.begun.wait()
    for _ in range(3):
        task.cancel("told so")
        await asyncio.sleep(0)
        assert not task.done()
    work.released.set()
    with pytest.raises(asyncio.CancelledError, match="told so"):
        await task
    assert work.finished


async def test_a_timeout() -> None:
    """`asyncio.timeout` waits for the work, then raises TimeoutError."""
    work = Work()
    asyncio.get_running_loop().call_later(0.02, work.released.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await run_uninterrupted(work())
    assert work.finished


async def test_a_cancelled_scope() -> None:
    """The work runs to its end inside of an anyio scope that is cancelled before it begins; the scope then ends."""
    work = Work()
    asyncio.get_running_loop().call_later(0.02, work.released.set)
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert await run_uninterrupted(work()) == "done"
        await asyncio.sleep(0)
    assert scope.cancelled_caught
    assert work.finished


async def test_closing_what_is_no_generator() -> None:
    """An iterator that has nothing to close is left as it is; a generator is closed, whatever ended its use."""
    ended = []

    async def generate() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ended.append("generator")

    class Plain:
        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> int:
            return 1

    for iterator in (generate(), Plain()):
        async with closing(iterator) as numbers:
            assert await anext(numbers) == 1
    assert ended == ["generator"]
