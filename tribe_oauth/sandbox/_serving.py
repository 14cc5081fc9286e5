"""An HTTP server that leaves nothing behind: no socket, no task, however its start or its end is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aiohttp import web

from tribe_oauth._shield import run_uninterrupted

GRACE: Final = 1.0
"""Seconds that requests under way get to end; aiohttp waits for them twice."""

_ITERATIONS: Final = 2
"""Iterations of the event loop after the one that accepts a connection: asyncio makes its transport, tells aiohttp."""


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve an application; gives the address. Raises OSError where the port cannot be taken.

    At the end, requests under way are given `GRACE`, then they are cancelled and all connections are closed.
    """
    ends = AsyncExitStack()
    try:
        # In one piece: asyncio loses a listening socket whose creation is cancelled.
        yield await run_uninterrupted(_start(ends, app, host, port))
    finally:
        await run_uninterrupted(ends.aclose())


async def _start(ends: AsyncExitStack, app: web.Application, host: str, port: int) -> str:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE)  # the access log would show codes
    ends.push_async_callback(_clean_up, runner)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(runner.server, host, port, backlog=2048)
    ends.push_async_callback(_stop_listening, server)
    return _address(server)


def _address(server: asyncio.Server) -> str:
    host, port, *_ = server.sockets[0].getsockname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def _stop_listening(server: asyncio.Server) -> None:
    """Accept no further connection, then close the listening sockets.

    Not at once: where asyncio has not made the transport of an accepted connection yet, making it would fail and leave
    the socket open; where aiohttp has just been told of the connection, it would wait for all of `GRACE`.
    """
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening)
    for _ in range(_ITERATIONS):
        await asyncio.sleep(0)
    server.close()


async def _clean_up(runner: web.AppRunner) -> None:
    server = runner.server
    connections = [] if server is None else server.connections
    transports = [connection.transport for connection in connections if connection.transport is not None]
    await runner.cleanup()
    for transport in transports:
        transport.abort()  # closing it waits for a client that has stopped reading
