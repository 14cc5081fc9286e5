"""Consent on one's own machine, for the command line: the browser comes back to a port of 127.0.0.1 (RFC 8252 §7.3).

Where there is no browser here, or where the redirect URI leads elsewhere, the address that the browser ended at can be
pasted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from urllib.parse import urlsplit

from aiohttp import web

from tribe_oauth import Client
from tribe_oauth._client import AuthorizationCodeGrant
from tribe_oauth.errors import CallbackError, ConfigurationError
from tribe_oauth.web._flow import judge
from tribe_oauth.web._outcome import Outcome
from tribe_oauth.web._pages import Pages
from tribe_oauth.web._pending import LIFETIME
from tribe_oauth.web._site import guarded

HOST: Final = "127.0.0.1"

Connected = TypeVar("Connected")
Connect = Callable[[AuthorizationCodeGrant], Awaitable[Connected]]


async def login(
    client: Client,
    connect: Connect[Connected],
    *,
    show: Callable[[str], object],
    pasted: asyncio.Future[str],
    organization_id: str | None = None,
    timeout: float = LIFETIME,
) -> Connected:
    """Have somebody consent in a browser, and connect with what comes back.

    `show` is given the address to open. `pasted` may be set to the address that the browser ended at. `timeout` is in
    seconds. The redirect URI is used as it is registered; on 127.0.0.1 without a port, with one that is free. Raises
    CallbackError, and whatever `connect` raises, which the browser is told too.
    """
    if client.redirect_uri is None:
        raise ConfigurationError(
            f"a login needs the redirect URI that is registered with the Application: set TRIBE_REDIRECT_URI, for a"
            f" login on this machine to http://{HOST}/callback"
        )
    arrived: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    async with _listening(client, arrived, told) as client:
        request = client.authorization_request(organization_id=organization_id)
        show(request.url)
        await asyncio.wait({arrived, pasted}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        first = next((came for came in (arrived, pasted) if came.done()), None)
        if first is None:
            raise CallbackError(f"nobody came back from the consent within {timeout:.0f} seconds: start again")
        try:
            connected = await connect(request.grant(first.result().strip()))
        except Exception as error:
            told.set_result(judge(error))
            raise
        told.set_result(Outcome.CONNECTED)
        return connected


@asynccontextmanager
async def _listening(
    client: Client, arrived: asyncio.Future[str], told: asyncio.Future[Outcome]
) -> AsyncIterator[Client]:
    """Listen where the redirect URI leads, for one callback; the client with the port that was free.

    Nobody listens where it leads to another machine.
    """
    assert client.redirect_uri is not None  # login() saw to it
    redirect = urlsplit(client.redirect_uri)
    if (redirect.scheme, redirect.hostname) not in {("http", HOST), ("http", "localhost")}:
        yield client
        return

    async def callback(request: web.Request) -> web.StreamResponse:
        if arrived.done():
            return await answer(request, Outcome.UNKNOWN)
        arrived.set_result(request.rel_url.raw_path_qs)
        return await answer(request, await told)

    async def answer(request: web.Request, outcome: Outcome) -> web.StreamResponse:
        return guarded(await Pages().outcome(request, outcome, again=None, connections=None))

    app = web.Application()
    path = redirect.path.rstrip("/")
    for there in {path or "/", f"{path}/"}:  # Tribe adds a slash before the question mark
        app.router.add_get(there, callback, allow_head=False)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)  # the log would show the code
    await runner.setup()
    try:
        await _listen(runner, redirect.port or 0, redirect.path)
        yield client if redirect.port else _with_port(client, runner.addresses[0][1])
    finally:
        if not told.done():
            told.set_result(Outcome.UNAVAILABLE)
        await runner.cleanup()


async def _listen(runner: web.AppRunner, port: int, path: str) -> None:
    try:
        await web.TCPSite(runner, HOST, port).start()
    except OSError as error:
        raise ConfigurationError(
            f"port {port} of the redirect URI cannot be listened at ({error.strerror}): end what uses it, or register"
            f" http://{HOST}{path} without a port"
        ) from None


def _with_port(client: Client, port: int) -> Client:
    assert client.redirect_uri is not None  # login() saw to it
    redirect = urlsplit(client.redirect_uri)
    return Client(
        client.client_id,
        client.client_secret,
        redirect_uri=redirect._replace(netloc=f"{redirect.hostname}:{port}").geturl(),
        scope=client.scope,
        endpoints=client.endpoints,
        redirect_uri_in_exchange=client.redirect_uri_in_exchange,
    )
