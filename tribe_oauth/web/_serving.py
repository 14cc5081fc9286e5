"""An HTTP server on this machine that leaves nothing behind: no socket, no task, wherever its caller is cancelled."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from tribe_oauth._shield import run_uninterrupted

GRACE: Final = 2.0
"""Seconds that requests under way get to end; aiohttp waits for them twice."""
_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""What a machine without IPv6, or without IPv4, says to such an address."""
_TURNS: Final = 4
"""Iterations of the event loop that asyncio takes from accepting a connection to having told its protocol."""


@asynccontextmanager
async def serving(app: web.Application, hosts: Sequence[str], port: int) -> AsyncIterator[int]:
    """Serve an application; gives the port, which is a free one for 0, and the same at all addresses.

    Raises OSError where it cannot be taken; an address of a kind that this machine does not have is left out. At the
    end, requests under way get `GRACE`; then they are cancelled, and all connections are closed.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE)  # the access log would show codes
    servers: list[asyncio.Server] = []
    try:
        # In one piece: asyncio forgets a listening socket whose creation is cancelled, and leaves it open.
        yield await run_uninterrupted(_start(runner, hosts, port, servers))
    finally:
        await run_uninterrupted(_stop(runner, servers))


async def _start(runner: web.AppRunner, hosts: Sequence[str], port: int, servers: list[asyncio.Server]) -> int:
    await runner.setup()
    assert runner.server is not None  # setup() made it
    for host in hosts:
        try:
            servers.append(await asyncio.get_running_loop().create_server(runner.server, host, port))
        except OSError as error:
            if error.errno not in _NOT_HERE or (host == hosts[-1] and not servers):
                raise
            continue
        port = servers[0].sockets[0].getsockname()[1]
    return port


async def _stop(runner: web.AppRunner, servers: list[asyncio.Server]) -> None:
    for server in servers:
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
    if servers:
        # asyncio leaves a connection open that it is accepting while the server is closed, and aiohttp one that it was
        # not told of: both get the time to come in.
        for _ in range(_TURNS):
            await asyncio.sleep(0)
    for server in servers:
        server.close()
    await runner.cleanup()
