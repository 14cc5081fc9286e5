"""Connections to PostgreSQL, a few for each process, that survive cancellation without a leak.

The pool is our own: psycopg's asks the server something before each use, writes the reason of a failure only to its log
(with parts of the DSN), and makes callers wait while it backs off. Nothing here awaits while it cleans up, so that no
cancellation, not even one that is repeated at every await, can keep a connection open.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from psycopg.waiting import wait_async

from tribe_oauth._oauth.values import Secret
from tribe_oauth.stores._postgres_errors import not_connected
from tribe_oauth.stores._turns import Turns

Row = tuple[Any, ...]

LONGEST_LIFE: Final = 600.0
"""Seconds after which a connection is opened anew: the name may lead to another server by then."""
_INTERVAL: Final = 60.0
"""Seconds between two looks whether there is an interrupt. asyncio's come by themselves; 0 would never rest."""


class Connection(psycopg.AsyncConnection[Row]):
    """One whose caller may be cancelled amid a statement; the pool closes it then."""

    async def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """Wait for the server. psycopg's own would ask it to cancel and wait for that: ten seconds, if it is frozen."""
        return await wait_async(gen, self.pgconn.socket, *args, **{"interval": _INTERVAL, **kwargs})


class Pool:
    """At most `size` connections of one event loop: opened when they are needed, closed after any trouble.

    All of them lead to the server that the DSN named when they were opened. After a fail-over that is the wrong one:
    `renew` has every connection opened anew. `patience`: see `Turns`.
    """

    def __init__(self, dsn: Secret, size: int, patience: float, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._dsn = dsn
        self._turns = Turns(size, patience)
        self._idle: list[tuple[Connection, float]] = []  # each with the time after which it is not used any more
        self._era = 0  # what was opened before the present one is closed after its use
        self._closed = False
        self._process = os.getpid()

    @asynccontextmanager
    async def connection(self, deadline: asyncio.Timeout) -> AsyncIterator[Connection]:
        """A connection, given back at the end; `deadline` stands still until one is free.

        Raises StoreError where none can be opened, TimeoutError.
        """
        async with self._turns.turn(deadline):
            era = self._era
            connection, until = self._take() or (await self._connect(), time.monotonic() + LONGEST_LIFE)
            try:
                yield connection
            finally:
                is_well = connection.pgconn.transaction_status == TransactionStatus.IDLE
                if is_well:
                    self._turns.answered()
                if self._closed or era != self._era or not is_well:
                    connection.pgconn.finish()
                else:
                    self._idle.append((connection, until))

    def _take(self) -> tuple[Connection, float] | None:
        while self._idle:
            connection, until = self._idle.pop()
            if time.monotonic() < until and not _has_something_to_say(connection):
                return connection, until
            connection.pgconn.finish()
        return None

    async def _connect(self) -> Connection:
        try:
            # Whatever the database's encoding, the DSN and the environment say: text is text for us.
            return await Connection.connect(
                self._dsn.reveal(), autocommit=True, prepare_threshold=None, client_encoding="UTF8"
            )
        except asyncio.CancelledError as cancelled:
            # The driver's frames hold a socket that is half open, for as long as the traceback holds the frames.
            raise cancelled.with_traceback(None) from None
        except psycopg.Error as error:
            failure = not_connected(error)
        # Not from there: the driver's error has the password in a field, and its frames a socket that is half open.
        raise failure from None

    def renew(self) -> None:
        """Close what is idle, and what is in use after its use: the next caller asks for the server's name again."""
        self._era += 1
        while self._idle:
            connection, _ = self._idle.pop()
            if self._process == os.getpid():  # a forked child would say goodbye in its parent's name
                connection.pgconn.finish()

    def close(self) -> None:
        """The same, for good. Needs no loop: the pool's own may be gone."""
        self._closed = True
        self.renew()


def _has_something_to_say(connection: Connection) -> bool:
    """From an idle connection there is nothing to read but the server's goodbye: it was restarted, or cut it."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
