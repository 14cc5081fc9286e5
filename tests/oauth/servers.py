"""Servers that say exactly what they are told."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Self

from aiohttp import web

FORM = b"grant_type=refresh_token&refresh_token=canary"
ANSWER = json.dumps({"access_token": "at", "token_type": "bearer", "refresh_token": "rt"}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[..., Awaitable[str]]


class Raw:
    """Takes one request of each connection, keeps what it heard, and lets `talk` do the rest."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.heard: list[bytes] = []
        self.connections = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.hear(reader)
            await self.talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def hear(self, reader: asyncio.StreamReader) -> None:
        """One request."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heard.append(head + await reader.readexactly(len(FORM)))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/oauth2/token"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


class Applications:
    """aiohttp applications of one handler each."""

    def __init__(self) -> None:
        self._runners: list[web.AppRunner] = []

    async def start(self, handler: Handler, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> str:
        """Serve every path with this handler; the address of the token endpoint."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None)
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, host, 0, ssl_context=tls).start()
        name = f"[{host}]" if ":" in host else host
        return f"{'https' if tls else 'http'}://{name}:{runner.addresses[0][1]}/oauth2/token"

    async def stop(self) -> None:
        """Stop them all."""
        for runner in self._runners:
            await runner.cleanup()


async def good(request: web.Request) -> web.Response:
    """A token answer."""
    return web.Response(body=ANSWER, content_type="application/json", headers={"Retry-After": "7"})
