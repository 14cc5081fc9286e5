"""A proxy that is named is used for the API and the token endpoint, and nothing else sees its password."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator

import aiohttp
import pytest
import trustme
from aiohttp import web

from tribe_oauth import Client, ClientCredentialsGrant, Endpoints, Secret, TokenManager, TribeOAuthError, odata
from tribe_oauth.errors import ConfigurationError, TemporarilyUnavailable

from .helpers import TokenServer

PASSWORD = "p:w/canary"
CREDENTIALS = f"Basic {b64encode(f'us@er:{PASSWORD}'.encode()).decode()}"


class Proxy:
    """Tunnels and forwards over real sockets; keeps the head of each request. `refuses`: the status for all of them."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.refuses: int | None = None
        self.base = ""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return self.base.replace("://", "://us%40er:p%3Aw%2Fcanary@")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        method, target, _ = head.split(" ", 2)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if self.refuses is not None:
                writer.write(f"HTTP/1.1 {self.refuses} No\r\nContent-Length: 0\r\n\r\n".encode())
            elif method == "CONNECT":
                await self._tunnel(target, reader, writer, first=None)
            else:
                authority, _, path = target.removeprefix("http://").partition("/")
                first = head.replace(target, f"/{path}", 1).replace("\r\n", "\r\nConnection: close\r\n", 1)
                await self._tunnel(authority, reader, writer, first=first.encode())
            await writer.drain()
        writer.close()

    async def _tunnel(
        self, authority: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes | None
    ) -> None:
        host, _, port = authority.rpartition(":")
        there, here = await asyncio.open_connection(host, int(port))
        if first is None:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            here.write(first)
        await asyncio.gather(copy(reader, here), copy(there, writer))
        here.close()


async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65_536):
            to.write(data)
            await to.drain()
    with contextlib.suppress(OSError, NotImplementedError, RuntimeError):
        to.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy


@pytest.fixture
async def tls() -> AsyncIterator[tuple[TokenServer, aiohttp.BaseConnector]]:
    """Tribe behind TLS, and a connector that trusts it."""
    authority, server = trustme.CA(), TokenServer()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    app = web.Application()
    app.router.add_post("/oauth2/token", server.handle)
    app.router.add_get("/v1/odata/{path:.*}", server.api)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    server.base = f"https://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.TCPConnector(ssl=trusting) as connector:
        yield server, connector
    await runner.cleanup()


def client_of(server: TokenServer) -> Client:
    return Client("client", "secret", endpoints=Endpoints.at(server.base, server.base))


async def test_both_go_through_a_tunnel(proxy: Proxy, tls: tuple[TokenServer, aiohttp.BaseConnector]) -> None:
    """The proxy learns host, port and its own credentials, and nothing of what is inside."""
    server, connector = tls
    async with TokenManager(client_of(server), connector=connector, proxy=proxy.url) as manager:
        await manager.connect("acme", ClientCredentialsGrant(client_of(server)))
        async with manager.session("acme") as session:
            assert await anext(aiter(odata.pages(session, "x"))) == odata.Page([])
    assert [head.split(" ")[0] for head in proxy.heads] == ["CONNECT", "CONNECT"]
    assert all(f"Proxy-Authorization: {CREDENTIALS}" in head for head in proxy.heads)
    assert not any("Bearer" in head for head in proxy.heads)


async def test_a_plain_server_on_this_machine(proxy: Proxy, server: TokenServer) -> None:
    """As the sandbox is: the requests themselves go to the proxy."""
    async with TokenManager(server.client(), proxy=Secret(proxy.url)) as manager:
        await manager.connect("acme", ClientCredentialsGrant(server.client()))
        async with manager.session("acme") as session, session.get("/v1/odata/x") as response:
            assert response.status == 200
    assert [head.split("\r\n")[0] for head in proxy.heads] == [
        f"POST {server.base}/oauth2/token HTTP/1.1",
        f"GET {server.base}/v1/odata/x HTTP/1.1",
    ]
    assert all(f"Proxy-Authorization: {CREDENTIALS}" in head for head in proxy.heads)


async def test_without_credentials(proxy: Proxy, server: TokenServer) -> None:
    """None are sent; nor are they to a proxy of one request's own."""
    async with TokenManager(server.client(), proxy=proxy.base) as manager:
        await manager.connect("acme", ClientCredentialsGrant(server.client()))
    async with TokenManager(server.client(), proxy="http://user:canary@127.0.0.1:9") as manager:
        with pytest.raises(TemporarilyUnavailable):
            await manager.connect("acme", ClientCredentialsGrant(server.client()))
        middleware = manager._sessions._proxy
        assert middleware is not None
        async with (
            aiohttp.ClientSession(middlewares=[middleware]) as session,
            session.get(f"{server.base}/v1/odata/x", proxy=proxy.base) as response,
        ):
            assert response.status == 401
    assert len(proxy.heads) == 2
    assert not any("Proxy-Authorization" in head for head in proxy.heads)


async def test_a_proxy_that_refuses(proxy: Proxy, tls: tuple[TokenServer, aiohttp.BaseConnector]) -> None:
    """It is not now: nothing was sent to Tribe. No error shows the password, aiohttp's own neither."""
    server, connector = tls
    proxy.refuses = 407
    async with TokenManager(client_of(server), connector=connector, proxy=proxy.url) as manager:
        with pytest.raises(TemporarilyUnavailable, match="ClientHttpProxyError") as it:
            await manager.connect("acme", ClientCredentialsGrant(client_of(server)))
        proxy.refuses = None
        await manager.connect("acme", ClientCredentialsGrant(client_of(server)))
        proxy.refuses = 407
        async with manager.session("acme") as session:
            with pytest.raises(aiohttp.ClientHttpProxyError) as raw:
                await session.get("/v1/odata/x")
            with pytest.raises(odata.ODataError) as said:
                await anext(aiter(odata.pages(session, "x", give_up_after=0)))
    for error in (it.value, raw.value, said.value):
        assert "canary" not in repr(error) + str(error)
        assert CREDENTIALS not in repr(error) + str(error)
    assert len(server.forms) == 1


async def test_the_environments_own_is_ignored(
    proxy: Proxy, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be meant for other programs, and a token request would pass through it."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.base)
    async with TokenManager(server.client()) as manager:
        await manager.connect("acme", ClientCredentialsGrant(server.client()))
        async with manager.session("acme") as session, session.get("/v1/odata/x") as response:
            assert response.status == 200
    assert proxy.heads == []


async def test_from_the_environment(proxy: Proxy, server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRIBE_PROXY, for programs that are configured by variables."""
    for name in [name for name in os.environ if name.startswith("TRIBE_")]:
        monkeypatch.delenv(name)
    settings = {"CLIENT_ID": "client", "CLIENT_SECRET": "s", "AUTH_URL": server.base, "API_URL": server.base}
    for name, value in (settings | {"ALLOW_INSECURE_LOOPBACK": "1", "PROXY": proxy.url, "STORE": "memory:"}).items():
        monkeypatch.setenv(f"TRIBE_{name}", value)
    async with (
        TokenManager.from_env() as manager,
        manager.session() as session,
        session.get("/v1/odata/x") as response,
    ):
        assert response.status == 200
    assert len(proxy.heads) == 2


@pytest.mark.parametrize(
    "proxy", ["", "canary:3128", "socks5://user:canary@host", "http://", "http://user:canary@[::1", 5], ids=repr
)
def test_what_is_no_proxy(proxy: str) -> None:
    """Said at once, without what may be a password."""
    with pytest.raises(ConfigurationError, match="TRIBE_PROXY") as it:
        TokenManager(proxy=proxy)
    assert "canary" not in str(it.value)
    assert it.value.__context__ is None or it.value.__suppress_context__
    assert isinstance(it.value, TribeOAuthError)
