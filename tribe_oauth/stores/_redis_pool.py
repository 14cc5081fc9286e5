"""Connections to Redis, a few for each process, that survive cancellation without a leak.

The pool is our own: redis-py's gives a connection back in several awaits, and a cancellation at one of them keeps the
connection, and its place, for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from redis.asyncio import ConnectionPool, RedisError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from tribe_oauth._shield import run_uninterrupted


def driver(url: str, timeout: float) -> Any:
    """What makes connections: a pool of redis-py's, which leaves them untyped, and of which nothing else is used.

    `timeout`: seconds for opening one. Connects to nothing. Raises ValueError, TypeError or RedisError for a URL that
    cannot be read.
    """
    made: Any = ConnectionPool.from_url(
        url,
        socket_timeout=None,  # the store has a deadline for each call; the driver's would cost a task each time
        socket_connect_timeout=timeout,
        # A compare-and-swap that is repeated loses to itself: the caller reads again instead.
        retry=Retry(NoBackoff(), 0),
    )
    made.connection_kwargs["decode_responses"] = False  # whatever the URL says: payloads are no text
    made.make_connection()  # an option may be refused only here
    return made


class Pool:
    """At most `size` connections of one event loop: opened when they are needed, closed after any trouble."""

    def __init__(self, connections: Any, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._driver = connections
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Any] = []
        self._closed = False

    async def execute(self, *command: Any) -> Any:
        """The answer to a command, as the protocol has it. Raises RedisError."""
        async with self._slots:
            connection = self._idle.pop() if self._idle else self._driver.make_connection()
            try:
                await self._driver.ensure_connection(connection)  # opens it anew where the server has closed it
                await connection.send_command(*command)
                answer = await connection.read_response()
            except ResponseError:
                await self._give_back(connection)  # an answer like any other
                raise
            except BaseException:
                await _close(connection)
                raise
            await self._give_back(connection)
            return answer

    async def _give_back(self, connection: Any) -> None:
        if self._closed:
            await _close(connection)
        else:
            self._idle.append(connection)

    async def close(self) -> None:
        """Close what is idle, and wait for that; what is in use is closed after its use."""
        self._closed = True
        idle, self._idle = self._idle, []
        await run_uninterrupted(_close_all(idle))


async def _close(connection: Any) -> None:
    """At once, without waiting for the server."""
    await run_uninterrupted(connection.disconnect(nowait=True))


async def _close_all(connections: list[Any]) -> None:
    for connection in connections:
        with contextlib.suppress(RedisError):  # a server that does not answer the goodbye: the socket is closed anyway
            await connection.disconnect()
