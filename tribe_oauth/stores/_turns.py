"""Turns: who may use one of a store's few connections, and who waits for one.

A burst is no failure: a call that waits for its turn fails only where the server has answered nobody for as long as one
operation may take, and its own time begins with its turn. What has to be saved goes before all that only wants to know.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Final

_is_first: Final = ContextVar("tribe_oauth_is_first", default=False)


@contextmanager
def going_first() -> Iterator[None]:
    """What is asked of a store within goes before all that waits for it: something would be lost that is late."""
    token = _is_first.set(True)
    try:
        yield
    finally:
        _is_first.reset(token)


class Turns:
    """At most `size` at a time, in the order in which they came. Belongs to one event loop.

    `patience`: seconds without any answer after which those who wait give up.
    """

    def __init__(self, size: int, patience: float) -> None:
        self._free = size
        self._patience = patience
        self._first: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()
        self._answered = float("-inf")

    @asynccontextmanager
    async def turn(self, deadline: asyncio.Timeout) -> AsyncIterator[None]:
        """A turn, which ends with the block; `deadline` stands still until it begins. Raises TimeoutError."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(deadline)
        try:
            yield
        finally:
            self._pass_on()

    def answered(self) -> None:
        """The server has answered somebody, whatever it said."""
        self._answered = asyncio.get_running_loop().time()

    async def _wait(self, deadline: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        began, ends = loop.time(), deadline.when()
        assert ends is not None
        turn: asyncio.Future[None] = loop.create_future()
        (self._first if _is_first.get() else self._others).append(turn)
        deadline.reschedule(None)
        try:
            while not turn.done():
                left = max(began, self._answered) + self._patience - loop.time()
                if left <= 0:
                    raise TimeoutError  # noqa: TRY301 (it leaves the queue like any other end)
                await asyncio.wait([turn], timeout=left)
        except BaseException:
            if not turn.cancel():  # it was given in the same moment
                self._pass_on()
            raise
        deadline.reschedule(ends + loop.time() - began)

    def _pass_on(self) -> None:
        """To who waits longest and has not left; with nobody there, to whoever comes."""
        for waiting in (self._first, self._others):
            while waiting:
                turn = waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1
