"""Login on one's own machine (S12, RFC 8252): the library's part; `tests/cli` has the command."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
import pytest
from aiohttp import ClientSession

from tribe_oauth import CallbackError, Client, Token, TokenEndpointError, TokenManager
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.web._loopback import login


@attrs.define
class Attempt:
    """A login under way."""

    sandbox: Sandbox
    manager: TokenManager
    url: str
    pasted: asyncio.Queue[str]
    shown: list[str]
    result: asyncio.Task[Token]

    @property
    def redirect_uri(self) -> str:
        return dict(parse_qsl(urlsplit(self.url).query))["redirect_uri"]


@asynccontextmanager
async def attempt(
    redirect_uri: str = "http://127.0.0.1/callback",
    timeout: float = 30.0,
    before: Callable[[], object] = lambda: None,
    **options: Any,
) -> AsyncIterator[Attempt]:
    loop = asyncio.get_running_loop()
    shown: asyncio.Future[str] = loop.create_future()
    told: list[str] = []
    pasted: asyncio.Queue[str] = asyncio.Queue()

    async with Sandbox(redirect_uri=redirect_uri) as sandbox:
        client = sandbox.client()
        async with TokenManager(client) as manager:
            before()
            task = asyncio.ensure_future(
                login(
                    client,
                    lambda grant: manager.connect("acme", grant),
                    show=shown.set_result,
                    show_problem=told.append,
                    pasted=pasted.get,
                    timeout=timeout,
                    **options,
                )
            )
            yield Attempt(sandbox, manager, await shown, pasted, told, task)
            await asyncio.wait({task})


async def fetch(url: str) -> tuple[int, str]:
    async with ClientSession() as session, session.get(url, allow_redirects=False) as response:
        return response.status, await response.text()


async def test_the_browser_comes_back() -> None:
    """A free port of 127.0.0.1; the page says how it ended; later refreshes send the same redirect URI."""
    async with attempt() as going:
        port = urlsplit(going.redirect_uri).port
        assert port
        assert going.redirect_uri == f"http://127.0.0.1:{port}/callback"
        callback = await going.sandbox.approve(going.url)
        status, page = await fetch(callback)
        assert (status, "You can close this page" in page) == (200, True)
        await going.result
        await going.manager.refresh("acme")  # the strict sandbox compares the redirect URI
        with pytest.raises(OSError, match=str(port)):  # S12: one request, and nobody listens any more
            await asyncio.open_connection("127.0.0.1", port)


async def test_one_request() -> None:
    """S12: the first callback decides; a second one, of a page that was loaded twice, shows what came of it."""
    async with attempt() as going:
        callback = await going.sandbox.approve(going.url)
        fault = going.sandbox.fault("hang")
        first = asyncio.ensure_future(fetch(callback))
        await fault.reached()
        second = asyncio.ensure_future(fetch(callback))
        await asyncio.wait({second}, timeout=0.1)
        fault.release()
        assert [(await shown)[0] for shown in (first, second)] == [200, 200]
        await going.result
        assert going.sandbox.ledger.count("authorization_code") == 1


@pytest.mark.parametrize("header", [{"Sec-Purpose": "prefetch"}, {"Purpose": "prefetch"}, {"X-Moz": "prefetch"}])
async def test_a_browser_that_looks_ahead(header: dict[str, str]) -> None:
    """A callback that is only prefetched ends nothing, and neither does a HEAD; the person's own does."""
    async with attempt() as going:
        callback = await going.sandbox.approve(going.url)
        async with ClientSession() as session:
            async with session.get(callback, headers=header) as response:
                assert (response.status, "ahead of time" in await response.text()) == (503, True)
            async with session.head(callback) as response:
                assert response.status == 405
        assert (await fetch(callback))[0] == 200
        await going.result


async def test_a_forged_state() -> None:
    """It connects nothing and ends nothing: the login waits for its own callback."""
    async with attempt() as going:
        for query in ("?code=x&state=forged-forged", "?x=1", ""):
            status, _page = await fetch(f"{going.redirect_uri}/{query}")
            assert status == 400
        assert (await fetch(await going.sandbox.approve(going.url)))[0] == 200
        await going.result


async def test_a_denial() -> None:
    """The terminal has the server's words, the browser a page."""
    async with attempt() as going:
        status, page = await fetch(await going.sandbox.approve(going.url, deny=True))
        assert (status, "Nothing was changed" in page) == (403, True)
        with pytest.raises(CallbackError, match="consent was not given"):
            await going.result


async def test_the_exchange_fails() -> None:
    """What goes wrong after the callback is told in the browser too."""
    async with attempt() as going:
        going.sandbox.fault("lost_answer")
        status, _page = await fetch(await going.sandbox.approve(going.url))
        assert status == 503
        with pytest.raises(TokenEndpointError, match="start the connection again"):
            await going.result


@pytest.mark.parametrize("redirect_uri", ["http://127.0.0.1/callback", "https://app.example/callback"])
async def test_a_pasted_address(redirect_uri: str) -> None:
    """Where no browser can come back: the address that it ended at, with white space around it."""
    async with attempt(redirect_uri) as going:
        going.pasted.put_nowait("yes\n")
        going.pasted.put_nowait(f"  {await going.sandbox.approve(going.url)}\n")
        assert (await going.result).scope == frozenset({"read", "write", "offline"})
        assert len(going.shown) == 1
        assert "another path" in going.shown[0]


async def test_a_pasted_denial() -> None:
    """The server's own words end it."""
    async with attempt() as going:
        going.pasted.put_nowait(await going.sandbox.approve(going.url, deny=True))
        with pytest.raises(CallbackError, match="consent was not given"):
            await going.result


@pytest.mark.parametrize(
    ("options", "suspects", "innocent"),
    [
        ({}, ["PKCE (--no-pkce"], "organization_id"),
        ({"organization_id": "acme"}, ["organization_id (leave out --pin", "PKCE"], "none"),
        ({"organization_id": "acme", "pkce": False}, ["organization_id"], "PKCE"),
        ({"pkce": False}, ["the client_id and the redirect URI"], "PKCE"),
    ],
)
async def test_nobody_comes(options: dict[str, Any], suspects: list[str], innocent: str) -> None:
    """S12: a time-out. A consent that ended in an error on Tribe's page looks the same: what was sent is suspect."""
    async with attempt(timeout=0.05, **options) as going:
        with pytest.raises(CallbackError, match="no consent came back") as it:
            await going.result
    text = str(it.value)
    assert [text.index(suspect) for suspect in suspects] == sorted(text.index(suspect) for suspect in suspects)
    assert innocent not in text


async def test_a_port_in_use() -> None:
    """A registered port that something else uses: what to do about it."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        client = Client("id", "secret", redirect_uri=f"http://127.0.0.1:{busy.getsockname()[1]}/callback")
        with pytest.raises(ConfigurationError, match="cannot be listened at"):
            await _login(client)


async def test_a_registered_port() -> None:
    """It is used as it stands."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with attempt(f"http://127.0.0.1:{port}/") as going:
        assert going.redirect_uri == f"http://127.0.0.1:{port}/"
        assert (await fetch(await going.sandbox.approve(going.url)))[0] == 200
        await going.result


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_localhost_is_two_addresses(host: str) -> None:
    """A browser may take it for either: the callback arrives all the same, and nobody listens afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with attempt(f"http://localhost:{port}/callback") as going:
        callback = await going.sandbox.approve(going.url)
        assert (await fetch(callback.replace("localhost", host)))[0] == 200
        await going.result
    for address in ("127.0.0.1", "::1"):
        with pytest.raises(OSError, match=str(port)):
            await asyncio.open_connection(address, port)


async def test_ipv6_alone() -> None:
    """The other loopback of RFC 8252 §7.3, with a port that is registered."""
    with socket.socket(socket.AF_INET6) as free:
        free.bind(("::1", 0))
        port = free.getsockname()[1]
    async with attempt(f"http://[::1]:{port}/callback") as going:
        assert (await fetch(await going.sandbox.approve(going.url)))[0] == 200
        await going.result


async def test_a_port_of_ones_own_on_ipv6() -> None:
    """A free one, where none is registered."""
    async with attempt("http://[::1]/callback") as going:
        going.pasted.put_nowait("http://nobody/")
        assert urlsplit(going.redirect_uri).hostname == "::1"
        port = urlsplit(going.redirect_uri).port
        assert port
        assert (await fetch(f"http://[::1]:{port}/callback"))[0] == 400
        going.result.cancel()


@pytest.mark.parametrize("missing", [("::1",), ("127.0.0.1",), ("::1", "127.0.0.1")])
async def test_a_machine_with_one_kind_of_address(monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]) -> None:
    """It listens at the other; where there is none, the error says so."""
    loop = asyncio.get_running_loop()
    create = loop.create_server

    async def create_server(factory: object, host: str, port: int) -> asyncio.Server:
        if host in missing:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return await create(factory, host, port)  # type: ignore[call-overload, no-any-return]

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if len(missing) == 2:
        monkeypatch.setattr(loop, "create_server", create_server)
        with pytest.raises(ConfigurationError, match="cannot be listened at"):
            await _login(Client("id", "secret", redirect_uri=f"http://localhost:{port}/"))
        return
    async with attempt(
        f"http://localhost:{port}/callback", before=lambda: monkeypatch.setattr(loop, "create_server", create_server)
    ) as going:
        host = "127.0.0.1" if "::1" in missing else "[::1]"
        callback = await going.sandbox.approve(going.url)
        assert (await fetch(callback.replace("localhost", host)))[0] == 200
        await going.result


async def test_an_ipv6_port_in_use() -> None:
    """Another program would be given the code by the browsers that take localhost for that address."""
    with socket.socket(socket.AF_INET6) as busy:
        busy.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        busy.bind(("::1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(ConfigurationError, match="cannot be listened at"):
            await _login(Client("id", "secret", redirect_uri=f"http://localhost:{port}/callback"))
        with pytest.raises(OSError, match=str(port)):
            await asyncio.open_connection("127.0.0.1", port)


async def test_without_a_redirect_uri() -> None:
    """The error names the variable."""
    with pytest.raises(ConfigurationError, match="TRIBE_REDIRECT_URI"):
        await _login(Client("id", "secret"))


async def _login(client: Client) -> None:
    async def connect(grant: object) -> None:
        raise AssertionError

    await login(client, connect, show=print, show_problem=print, pasted=asyncio.Queue[str]().get)
