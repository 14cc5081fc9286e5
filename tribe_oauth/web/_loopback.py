"""Consent on one's own machine, for the command line: the browser comes back to a port of 127.0.0.1 (RFC 8252 §7.3).

Where there is no browser here, or where the redirect URI leads elsewhere, the address that the browser ended at can be
pasted.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from aiohttp import web

from tribe_oauth import AuthorizationRequest, Client
from tribe_oauth._oauth.client import AuthorizationCodeGrant
from tribe_oauth.errors import CallbackError, ConfigurationError
from tribe_oauth.web._flow import judge
from tribe_oauth.web._outcome import Outcome
from tribe_oauth.web._pages import Links, Pages
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
    pasted: Callable[[], Awaitable[str]],
    organization_id: str | None = None,
    timeout: float = LIFETIME,
) -> Connected:
    """Have somebody consent in a browser, and connect with what comes back.

    `show` is given the address to open, and later what was wrong with what was pasted; `pasted` waits for the address
    that the browser ended at. Neither a paste nor a request that is not of this login ends it. `timeout` is in seconds.
    The redirect URI is used as it is registered; on 127.0.0.1 without a port, with one that is free. Raises
    CallbackError, and whatever `connect` raises, which the browser is told too.
    """
    if client.redirect_uri is None:
        raise ConfigurationError(
            f"a login needs the redirect URI that is registered with the Application: set TRIBE_REDIRECT_URI, for a"
            f" login on this machine to http://{HOST}/callback"
        )
    listener = _Listener()
    async with listener.listening(client) as client:
        request = client.authorization_request(organization_id=organization_id)
        listener.state = request.state
        show(request.url)
        try:
            ways = _arrived(request, listener.callback), _pasted(request, pasted, show=show)
            connected = await connect(await _first(*ways, timeout=timeout))
        except Exception as error:
            listener.outcome.set_result(judge(error))
            raise
        listener.outcome.set_result(Outcome.CONNECTED)
        return connected


async def _arrived(request: AuthorizationRequest, callback: Awaitable[str]) -> AuthorizationCodeGrant:
    return request.grant(await callback)


async def _pasted(
    request: AuthorizationRequest, pasted: Callable[[], Awaitable[str]], *, show: Callable[[str], object]
) -> AuthorizationCodeGrant:
    """What a pasted callback gives; whatever else is pasted is told, and waited on for another."""
    while True:
        try:
            return request.grant((await pasted()).strip())
        except CallbackError as error:
            if error.error is not None:  # the server's own words: it was the right one
                raise
            show(str(error))


async def _first(*ways: Coroutine[Any, Any, AuthorizationCodeGrant], timeout: float) -> AuthorizationCodeGrant:
    """The result of whichever comes first, a grant or what is wrong with it. Raises CallbackError where none comes."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _waiting = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise CallbackError(f"nobody came back from the consent within {timeout:.0f} seconds: start again")
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class _Listener:
    """Takes one callback where the redirect URI leads, and tells the browser how it ended.

    Nobody listens where that is another machine.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.state = ""
        self.callback: asyncio.Future[str] = loop.create_future()
        self.outcome: asyncio.Future[Outcome] = loop.create_future()

    @asynccontextmanager
    async def listening(self, client: Client) -> AsyncIterator[Client]:
        """The client, with the port that was free."""
        assert client.redirect_uri is not None  # login() saw to it
        redirect = urlsplit(client.redirect_uri)
        if (redirect.scheme, redirect.hostname) not in {("http", HOST), ("http", "localhost")}:
            yield client
            return
        app = web.Application()
        path = redirect.path.rstrip("/")
        for there in {path or "/", f"{path}/"}:  # Tribe adds a slash before the question mark
            app.router.add_get(there, self._answer, allow_head=False)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)  # the log would show the code
        await runner.setup()
        try:
            await _listen(runner, redirect.port or 0, redirect.path)
            yield client if redirect.port else _with_port(client, runner.addresses[0][1])
        finally:
            if not self.outcome.done():
                self.outcome.set_result(Outcome.UNAVAILABLE)
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        state = request.query.get("state", "").encode("utf-8", "surrogatepass")
        if self.callback.done() or not hmac.compare_digest(state, self.state.encode()):
            outcome = Outcome.UNKNOWN  # a second one, or a stranger's: neither ends this login
        else:
            self.callback.set_result(request.rel_url.raw_path_qs)
            outcome = await asyncio.shield(self.outcome)
        return guarded(await Pages().outcome(request, outcome, Links()))


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
