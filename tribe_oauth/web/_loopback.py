"""Consent in a browser on this machine, for the command line: it comes back to a port of the loopback (RFC 8252 §7.3).

Where the browser is on another machine, or the redirect URI leads to one, the address that it ended at can be pasted.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

from tribe_oauth import AuthorizationRequest, Client, Secret
from tribe_oauth._oauth.client import AuthorizationCodeGrant
from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.errors import CallbackError, ConfigurationError
from tribe_oauth.web._flow import judge
from tribe_oauth.web._outcome import Outcome
from tribe_oauth.web._pages import Links, Pages
from tribe_oauth.web._pending import LIFETIME
from tribe_oauth.web._serving import serving
from tribe_oauth.web._site import guarded
from tribe_oauth.web._speculative import is_speculative

HOST: Final = "127.0.0.1"
_LISTENING: Final = {HOST: (HOST,), "::1": ("::1",), "localhost": (HOST, "::1")}
"""Where a redirect URI leads to: for a name, each browser has its own choice of what it stands for."""

Connected = TypeVar("Connected")
Connect = Callable[[AuthorizationCodeGrant], Awaitable[Connected]]


async def login(
    client: Client,
    connect: Connect[Connected],
    *,
    show: Callable[[str], object],
    show_problem: Callable[[str], object],
    pasted: Callable[[], Awaitable[str]],
    organization_id: str | None = None,
    pkce: bool = True,
    timeout: float = LIFETIME,
) -> Connected:
    """Have a person consent in a browser, and connect with what comes back.

    `show` is given the address to open, `pasted` waits for the address that the browser ended at, and `show_problem` is
    told why a pasted one cannot be used: it does not end the login, nor does a request that is not of this login.
    `timeout` is in seconds. The redirect URI is used as it is registered; on 127.0.0.1 without a port, with one that is
    free. For localhost, both addresses that it may stand for are listened at. Raises ConfigurationError, CallbackError,
    and what `connect` raises, which the browser is told too. However it ends or is cancelled, nothing listens
    afterwards, and a browser that waits has its answer.
    """
    if client.redirect_uri is None:
        raise ConfigurationError(
            "a login needs the redirect URI that is registered with the Application: set TRIBE_REDIRECT_URI, for a"
            f" login on this machine to http://{HOST}/callback"
        )
    listener = _Listener()
    async with listener.listening(client) as client:
        request = client.authorization_request(organization_id=organization_id, pkce=pkce)
        listener.state = Secret(request.state)
        show(request.url)
        try:
            grant = await _first(
                _arrived(request, listener.callback),
                _pasted(request, pasted, show_problem=show_problem),
                timeout=timeout,
                suspects=_suspects(pinned=organization_id is not None, pkce=pkce),
            )
            connected = await connect(grant)
        except Exception as error:
            listener.outcome.set_result(judge(error))
            raise
        listener.outcome.set_result(Outcome.CONNECTED)
        return connected


async def _arrived(request: AuthorizationRequest, callback: Awaitable[Secret]) -> AuthorizationCodeGrant:
    return request.grant((await callback).reveal())


async def _pasted(
    request: AuthorizationRequest, pasted: Callable[[], Awaitable[str]], *, show_problem: Callable[[str], object]
) -> AuthorizationCodeGrant:
    """What a pasted callback gives. Of anything else the person is told, and may paste again."""
    while True:
        try:
            return request.grant((await pasted()).strip())
        except CallbackError as error:
            if error.error is not None:  # the server's own words: it was the callback of this login
                raise
            show_problem(str(error))


def _suspects(*, pinned: bool, pkce: bool) -> str:
    """What may have ended the consent on Tribe's own page, where an error stands that never comes back here."""
    pin = "organization_id (leave out --pin; where it was sent, that page answered HTTP 500 to others)"
    parameters = [name for name, used in ((pin, pinned), ("PKCE (--no-pkce leaves it out)", pkce)) if used]
    known = "the client_id and the redirect URI, which have to be those of the Application"
    return (
        f"Where Tribe's page showed an error, such as a 5xx, suspect in this order: {'; '.join([*parameters, known])}"
    )


async def _first(
    *ways: Coroutine[Any, Any, AuthorizationCodeGrant], timeout: float, suspects: str
) -> AuthorizationCodeGrant:
    """The grant or the error of the way that ends first; none of them runs on. Raises CallbackError after `timeout`."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _waiting = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise CallbackError(f"no consent came back within {timeout:.0f} seconds: start the login again. {suspects}")
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        # gather() reads the error of a way that fails while it is cancelled: it would be logged as never retrieved.
        await run_uninterrupted(asyncio.gather(*tasks, return_exceptions=True))


class _Listener:
    """Takes one callback where the redirect URI leads, and tells the browser how it ended.

    Where the redirect URI leads to another machine, it does not listen.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.state = Secret("")
        self.callback: asyncio.Future[Secret] = loop.create_future()  # which shows its result
        self.outcome: asyncio.Future[Outcome] = loop.create_future()

    @asynccontextmanager
    async def listening(self, client: Client) -> AsyncIterator[Client]:
        """The client, with the port that was free. Raises ConfigurationError where the port cannot be taken."""
        assert client.redirect_uri is not None  # login() made sure of it
        redirect = urlsplit(client.redirect_uri)
        if redirect.scheme != "http" or redirect.hostname not in _LISTENING:
            yield client
            return
        app = web.Application()
        path = redirect.path.rstrip("/")
        for there in {path or "/", f"{path}/"}:  # Tribe adds a slash before the question mark
            app.router.add_get(there, self._answer, allow_head=False)
        async with AsyncExitStack() as stack:
            port = await _listen(stack, app, redirect)
            try:
                yield client if redirect.port else _with_port(client, port)
            finally:
                if not self.outcome.done():
                    self.outcome.set_result(Outcome.UNAVAILABLE)  # for a browser that waits

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if is_speculative(request):
            return await _page(request, Outcome.AHEAD_OF_TIME, Links(again=""))  # the address that it has
        if Secret(request.query.get("state", "")) != self.state:
            return await _page(request, Outcome.UNKNOWN)  # that of another login, which does not end this one
        if not self.callback.done():
            self.callback.set_result(Secret(request.rel_url.raw_path_qs))
        return await _page(request, await asyncio.shield(self.outcome))  # the same for a page that is loaded twice


async def _page(request: web.Request, outcome: Outcome, links: Links | None = None) -> web.StreamResponse:
    return guarded(await Pages().outcome(request, outcome, links or Links()))


async def _listen(stack: AsyncExitStack, app: web.Application, redirect: SplitResult) -> int:
    assert redirect.hostname is not None  # listening() looked at it
    try:
        return await stack.enter_async_context(serving(app, _LISTENING[redirect.hostname], redirect.port or 0))
    except OSError as error:
        first = "end what uses it, or " if error.errno == errno.EADDRINUSE else ""
        raise ConfigurationError(
            f"port {redirect.port or 'none'} of the redirect URI cannot be listened at ({error.strerror}):"
            f" {first}register http://{HOST}{redirect.path} without a port"
        ) from None


def _with_port(client: Client, port: int) -> Client:
    assert client.redirect_uri is not None  # login() made sure of it
    redirect = urlsplit(client.redirect_uri)
    host = f"[{redirect.hostname}]" if redirect.hostname == "::1" else redirect.hostname
    return Client(
        client.client_id,
        client.client_secret,
        redirect_uri=redirect._replace(netloc=f"{host}:{port}").geturl(),
        scope=client.scope,
        endpoints=client.endpoints,
        redirect_uri_in_exchange=client.redirect_uri_in_exchange,
    )
