"""The only POST, over real sockets: not sent, lost, or answered (S13, S14)."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from tribe_oauth._endpoint import Answered, Lost, NotSent, TokenEndpoint, read_retry_after
from tribe_oauth._protocol import Granted, Refused, Unreadable
from tribe_oauth.errors import ConfigurationError

FORM = b"grant_type=refresh_token&refresh_token=canary"
ANSWER = json.dumps({"access_token": "at", "token_type": "bearer", "refresh_token": "rt"}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    endpoint = TokenEndpoint(request_timeout=5.0)
    yield endpoint
    await endpoint.close()


class Raw:
    """A server that says exactly what it is told, and keeps what it heard."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.heard: list[bytes] = []
        self.connections = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heard.append(head + await reader.readexactly(len(FORM)))
            await self.talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/oauth2/token"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Serve one handler as an aiohttp application; its address."""
    runners = []

    async def start(handler: Any, tls: ssl.SSLContext | None = None) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        return f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/oauth2/token"

    yield start
    for runner in runners:
        await runner.cleanup()


async def good(request: web.Request) -> web.Response:
    return web.Response(body=ANSWER, content_type="application/json", headers={"Retry-After": "7"})


async def test_an_answer(endpoint: TokenEndpoint, serve: Any) -> None:
    """A form, JSON wanted, uncompressed; one connection for several posts."""
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.headers, await request.read(), request.transport))
        return await good(request)

    url = await serve(handler)
    for _ in range(2):
        outcome = await endpoint.post(url, FORM)
        assert isinstance(outcome, Answered)
        assert isinstance(outcome.reading, Granted)
        assert (outcome.status, outcome.retry_after) == (200, 7.0)
    method, headers, body, transport = seen[0]
    assert (method, body) == ("POST", FORM)
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["Accept"] == "application/json"
    assert headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in headers
    assert seen[1][3] is transport


async def test_an_error_answer(endpoint: TokenEndpoint, serve: Any) -> None:
    """RFC 6749 §5.2."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"error": "invalid_grant"}, status=400)

    outcome = await endpoint.post(await serve(handler), FORM)
    assert isinstance(outcome, Answered)
    assert isinstance(outcome.reading, Refused)


async def test_nobody_there(endpoint: TokenEndpoint) -> None:
    """Not sent, and so known."""
    outcome = await endpoint.post("http://127.0.0.1:9/", FORM)
    assert isinstance(outcome, NotSent)
    assert "ClientConnectorError" in outcome.reason


async def test_no_leave(endpoint: TokenEndpoint) -> None:
    """Asked after connecting, right before the bytes leave: no byte of the body was seen by anybody."""
    seen = asyncio.Event()
    raw = Raw(lambda reader, writer: asyncio.sleep(0))

    def may_leave() -> bool:
        seen.set()
        return False

    async with raw as url:
        outcome = await endpoint.post(url, FORM, may_leave=may_leave)
    assert isinstance(outcome, NotSent)
    assert seen.is_set()
    assert raw.heard == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(endpoint: TokenEndpoint, serve: Any, status: int) -> None:
    """S13: 307 and 308 would carry the secret on."""
    paths = []

    async def handler(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    outcome = await endpoint.post(await serve(handler), FORM)
    assert isinstance(outcome, Answered)
    assert isinstance(outcome.reading, Unreadable)
    assert paths == ["/oauth2/token"]


async def test_no_proxy_from_the_environment(
    endpoint: TokenEndpoint, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S13: a variable does not decide where secrets go."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert isinstance(await endpoint.post(await serve(good), FORM), Answered)


async def test_certificates_are_checked(endpoint: TokenEndpoint, serve: Any) -> None:
    """S13: an unknown authority is refused before anything is sent; a trusted one of your own is taken."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    url = await serve(good, tls)
    assert isinstance(await endpoint.post(url, FORM), NotSent)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    connector = aiohttp.TCPConnector(ssl=trusting)
    own = TokenEndpoint(connector=connector)
    assert isinstance(await own.post(url, FORM), Answered)
    await own.close()
    assert not connector.closed
    await connector.close()


async def test_connectors_that_do_not_check() -> None:
    """S13: refused, with the remedy."""
    lax = ssl.create_default_context()
    lax.check_hostname, lax.verify_mode = False, ssl.CERT_NONE
    for setting in (False, lax):
        connector = aiohttp.TCPConnector(ssl=setting)
        with pytest.raises(ConfigurationError, match="does not check certificates"):
            TokenEndpoint(connector=connector)
        await connector.close()


async def test_cookies_are_not_kept(endpoint: TokenEndpoint, serve: Any) -> None:
    """Nothing of one organization's answer goes along with another's request."""
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        response = await good(request)
        response.set_cookie("session", "x")
        return response

    url = await serve(handler)
    await endpoint.post(url, FORM)
    await endpoint.post(url, FORM)
    assert seen == [None, None]


@pytest.mark.parametrize("cut", range(len(HEAD) + len(ANSWER)))
async def test_cut_after_every_byte(endpoint: TokenEndpoint, cut: int) -> None:
    """F2: wherever it breaks off, it is lost, never taken for an answer."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((HEAD + ANSWER)[:cut])
        await writer.drain()

    async with Raw(talk) as url:
        outcome = await endpoint.post(url, FORM)
    assert isinstance(outcome, Lost)
    if cut > len(HEAD):
        assert not outcome.settled


async def test_a_reset(endpoint: TokenEndpoint) -> None:
    """The body may have arrived; nothing of it can still arrive."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    raw = Raw(talk)
    async with raw as url:
        outcome = await endpoint.post(url, FORM)
    assert isinstance(outcome, Lost)
    assert outcome.settled
    assert raw.connections == 1


async def test_no_answer() -> None:
    """F2: the total deadline; the request may still arrive."""
    endpoint = TokenEndpoint(request_timeout=0.1)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Raw(talk) as url:
        outcome = await endpoint.post(url, FORM)
    await endpoint.close()
    assert outcome == Lost("no answer within 0.1 s", settled=False)


async def test_a_slow_drip() -> None:
    """S14, F2: an answer that never quite ends is ended by the same deadline."""
    endpoint = TokenEndpoint(request_timeout=0.1)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        for at in range(len(ANSWER) - 1):
            writer.write(ANSWER[at : at + 1])
            await asyncio.sleep(0.005)

    async with Raw(talk) as url:
        assert isinstance(await endpoint.post(url, FORM), Lost)
    await endpoint.close()


@pytest.mark.parametrize("compressed", [False, True])
async def test_too_much(endpoint: TokenEndpoint, serve: Any, compressed: bool) -> None:
    """S14: 64 KiB at most, after decompression, whoever compressed although nobody asked."""
    body = b'{"access_token": "' + b"x" * 50_000_000 + b'"}'

    async def handler(request: web.Request) -> web.Response:
        headers = {"Content-Encoding": "gzip"} if compressed else {}
        return web.Response(
            body=gzip.compress(body) if compressed else body[:1_000_000],
            content_type="application/json",
            headers=headers,
        )

    outcome = await endpoint.post(await serve(handler), FORM)
    assert isinstance(outcome, Answered)
    assert isinstance(outcome.reading, Unreadable)
    assert "more than 64 KiB" in outcome.reading.reason


async def test_closing_and_posting_again(endpoint: TokenEndpoint, serve: Any) -> None:
    """Closed, it opens again; closing twice is harmless."""
    url = await serve(good)
    await endpoint.post(url, FORM)
    await endpoint.close()
    await endpoint.close()
    assert isinstance(await endpoint.post(url, FORM), Answered)


@pytest.mark.parametrize(
    ("retry_after", "date", "seconds"),
    [
        (None, None, None),
        ("5", None, 5.0),
        (" 5 ", None, 5.0),
        ("0", None, 0.0),
        ("99999999", None, 3600.0),
        ("-5", None, None),
        ("soon", None, None),
        ("", None, None),
        ("Tue, 24 Nov 2026 08:05:00 GMT", "Tue, 24 Nov 2026 08:00:00 GMT", 300.0),
        ("Tue, 24 Nov 2026 07:00:00 GMT", "Tue, 24 Nov 2026 08:00:00 GMT", 0.0),
        ("Tue, 24 Nov 2026 08:05:00 GMT", None, None),
        ("Tue, 24 Nov 2026 08:05:00", "Tue, 24 Nov 2026 08:00:00 GMT", None),
        ("²", None, None),
    ],
)
def test_retry_after(retry_after: str | None, date: str | None, seconds: float | None) -> None:
    """F3: RFC 9110 §10.2.3, both forms, bounded; no clock but the server's."""
    assert read_retry_after(retry_after, date) == seconds
