"""Connections to Redis, a few for each process, that survive cancellation without a leak.

The pool is our own: redis-py's gives a connection back in several awaits, and a cancellation at one of them keeps the
connection, and its place, for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import ConnectionPool, RedisError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.stores._turns import Turns

LONGEST_LIFE: Final = 600.0
"""Seconds after which a connection is opened anew: the name may lead to another server by then."""


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
    """At most `size` connections of one event loop: opened when they are needed, closed after any trouble.

    All of them lead to the server that the URL named when they were opened. After a fail-over that is the wrong one:
    `renew` has every connection opened anew. `looked`: the server's settings were looked at since then. `patience`: see
    `Turns`.
    """

    def __init__(self, connections: Any, size: int, patience: float) -> None:
        self.looked = False
        self._driver = connections
        self._turns = Turns(size, patience)
        self._idle: list[tuple[Any, float]] = []  # each with the time after which it is not used any more
        self._era = 0  # what was opened before the present one is closed after its use
        self._closed = False

    async def execute(self, deadline: asyncio.Timeout, *command: Any, asking: bool = False) -> Any:
        """The answer to a command, as the protocol has it. `deadline` stands still until a connection is free.

        `asking`: the slot is on its way to this server of a cluster (``ASKING``). Raises RedisError, TimeoutError.
        """
        async with self._turns.turn(deadline):
            era, (connection, until) = self._era, await self._take()
            try:
                await self._driver.ensure_connection(connection)  # opens it anew where the server has closed it
                if asking:
                    await _ask(connection, "ASKING")
                answer = await _ask(connection, *command)
            except ResponseError:
                await self._give_back(connection, until, era)  # an answer like any other
                raise
            except BaseException:
                await _close([connection])
                raise
            await self._give_back(connection, until, era)
            return answer

    async def _take(self) -> tuple[Any, float]:
        while self._idle:
            connection, until = self._idle.pop()
            if time.monotonic() < until:
                return connection, until
            await _close([connection])
        return self._driver.make_connection(), time.monotonic() + LONGEST_LIFE

    async def _give_back(self, connection: Any, until: float, era: int) -> None:
        self._turns.answered()
        if self._closed or era != self._era:
            await _close([connection])
        else:
            self._idle.append((connection, until))

    async def renew(self) -> None:
        """Close what is idle, and what is in use after its use: the next caller asks for the server's name again."""
        self._era += 1
        self.looked = False
        idle, self._idle = self._idle, []
        await _close([connection for connection, _ in idle])

    async def drop(self) -> None:
        """The same, for good."""
        self._closed = True
        await self.renew()

    async def close(self) -> None:
        """Close what is idle, and wait for that; what is in use is closed after its use."""
        self._closed = True
        idle, self._idle = self._idle, []
        await run_uninterrupted(_say_goodbye([connection for connection, _ in idle]))


async def _ask(connection: Any, *command: Any) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()


async def _close(connections: Sequence[Any]) -> None:
    """At once, without waiting for the server."""
    await run_uninterrupted(_close_all(connections))


async def _close_all(connections: Sequence[Any]) -> None:
    for connection in connections:
        await connection.disconnect(nowait=True)


async def _say_goodbye(connections: Sequence[Any]) -> None:
    for connection in connections:
        with contextlib.suppress(RedisError):  # a server that does not answer the goodbye: the socket is closed anyway
            await connection.disconnect()
