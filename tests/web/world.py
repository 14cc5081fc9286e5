"""An application that organizations connect to, an emulated Tribe, and browsers: over real sockets."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from html import unescape
from typing import Any

import attrs
from aiohttp import ClientSession, CookieJar, web
from yarl import URL

from tribe_oauth import Client, MemoryStore, TokenManager, TokenStore
from tribe_oauth import web as tribe_web
from tribe_oauth.sandbox import Sandbox


def account(request: web.Request) -> str | None:
    """Who is signed in: the tests' own cookie says it."""
    return request.cookies.get("account")


@attrs.define(kw_only=True)
class World:
    """`address`: where the pages are, as browsers see it."""

    sandbox: Sandbox
    client: Client
    manager: TokenManager
    app: web.Application
    address: str

    def path(self, name: str) -> str:
        return URL(self.address).path.rstrip("/") + "/" + name


def listening() -> socket.socket:
    """A port before anything answers at it: a redirect URI is registered first."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    return listener


@asynccontextmanager
async def serving(app: web.Application, listener: socket.socket) -> AsyncIterator[None]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def world(
    *,
    store: TokenStore | None = None,
    sandbox: dict[str, Any] | None = None,
    build: Callable[[web.Application, TokenManager], web.Application] | None = None,
    base: str = "/tribe",
    manager: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[World]:
    """Serve it. `build` sets the application up in a way of its own; else `options` go to `setup`."""
    listener = listening()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}{base}"
    defaults: dict[str, Any] = {"organizations": ["Acme", "Beta"], "persons": 20}
    async with Sandbox(**defaults | (sandbox or {})) as emulated:
        client = emulated.client(redirect_uri=f"{address}/callback")
        settings: dict[str, Any] = {"store": store or MemoryStore(), "quiet": 0.1, "request_timeout": 5.0} | (
            manager or {}
        )
        tokens = TokenManager(client, **settings)
        app = web.Application()
        if build is None:
            tribe_web.setup(app, tokens, **{"authorize": account} | options)
        else:
            app = build(app, tokens)
        async with serving(app, listener):
            yield World(sandbox=emulated, client=client, manager=tokens, app=app, address=address)


@attrs.frozen
class Seen:
    """What a browser was answered."""

    status: int
    url: URL
    headers: Any
    text: str

    @property
    def location(self) -> str:
        return str(self.headers["Location"])

    @property
    def outcome(self) -> str:
        """The last part of the address of an outcome's page."""
        return URL(self.location).name


class Browser:
    """One browser with its cookies; it follows redirects only when it is told to."""

    def __init__(self, there: World, name: str | None = "ann") -> None:
        self.world = there
        self.session = ClientSession(
            cookie_jar=CookieJar(unsafe=True), cookies={} if name is None else {"account": name}
        )

    async def get(self, url: str, *, follow: bool = False, **options: Any) -> Seen:
        target = URL(self.world.address).join(URL(url, encoded=True))
        async with self.session.get(target, allow_redirects=follow, **options) as response:
            return Seen(response.status, response.url, response.headers, await response.text())

    async def post(self, url: str, form: dict[str, str], **options: Any) -> Seen:
        target = URL(self.world.address).join(URL(url))
        async with self.session.post(target, data=form, allow_redirects=False, **options) as response:
            return Seen(response.status, response.url, response.headers, await response.text())

    async def start(self, query: str = "") -> str:
        """Click on connect; where Tribe's consent is."""
        seen = await self.get(self.world.path("connect") + query)
        assert seen.status == 303, seen.text
        return seen.location

    async def consent(
        self, url: str, *, organization: str = "Acme", scopes: Sequence[str] | None = None, deny: bool = False
    ) -> str:
        """Decide at Tribe; the callback's address."""
        return await self.world.sandbox.approve(url, organization=organization, scopes=scopes, deny=deny)

    async def connect(self, query: str = "", **decision: Any) -> Seen:
        """The whole way, up to what the callback answers."""
        return await self.get(await self.consent(await self.start(query), **decision))

    async def form(self) -> dict[str, str]:
        """The hidden fields of the first form of the connections page."""
        seen = await self.get(self.world.path("connections"))
        form = re.search("<form .*?</form>", seen.text, re.DOTALL)
        assert form is not None, seen.text
        return {
            unescape(name): unescape(value)
            for name, value in re.findall(r'type="hidden" name="(.*?)" value="(.*?)"', form[0])
        }

    async def close(self) -> None:
        await self.session.close()


@asynccontextmanager
async def browsing(there: World, name: str | None = "ann") -> AsyncIterator[Browser]:
    browser = Browser(there, name)
    try:
        yield browser
    finally:
        await browser.close()
