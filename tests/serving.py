"""A server for a test, and what gateways and networks do in its place. May be imported by every folder of tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(app: web.Application, **options: Any) -> AsyncIterator[str]:
    """The address of an application, while it is served on a free port. `options`: of aiohttp's runner."""
    runner = web.AppRunner(app, access_log=None, **{"shutdown_timeout": 0.1} | options)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def status(code: int, **headers: str) -> Answer:
    """An answer of a gateway."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(
            status=code, text="<html>", headers={name.replace("_", "-"): headers[name] for name in headers}
        )

    return answer


async def reset(request: web.Request) -> web.StreamResponse:
    """No answer: the connection breaks."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def with_first_token(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """A middleware that has a token without a manager, for sessions with time-outs of their own."""
    request.headers["Authorization"] = "Bearer token-1"
    return await handler(request)
