"""An HTTP server on this machine that leaves nothing behind: no socket, no task, wherever its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from tribe_oauth._shield import run_uninterrupted

GRACE: Final = 2.0
"""Seconds that requests under way get to end; aiohttp waits for them twice."""
_TURNS: Final = 4
"""Iterations of the event loop that asyncio takes from accepting a connection to having told its protocol."""


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve an application; gives the port, which is a free one for 0. Raises OSError where it cannot be taken.

    At the end, requests under way get `GRACE`; then they are cancelled, and all connections are closed.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE)  # the access log would show codes
    # In one piece: asyncio forgets a listening socket whose creation is cancelled, and leaves it open.
    starting = asyncio.ensure_future(_start(runner, host, port))
    try:
        server = await run_uninterrupted(starting)
        yield server.sockets[0].getsockname()[1]
    finally:
        await run_uninterrupted(_stop(runner, None if starting.exception() else starting.result()))


async def _start(runner: web.AppRunner, host: str, port: int) -> asyncio.Server:
    await runner.setup()
    assert runner.server is not None  # setup() made it
    return await asyncio.get_running_loop().create_server(runner.server, host, port)


async def _stop(runner: web.AppRunner, server: asyncio.Server | None) -> None:
    if server is not None:
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        # asyncio leaves a connection open that it is accepting while the server is closed, and aiohttp one that it was
        # not told of: both get the time to come in.
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        server.close()
    await runner.cleanup()
