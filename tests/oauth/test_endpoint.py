"""The only POST, over real sockets: what is sent, to whom, and what is taken for an answer (S13, S14)."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import ssl
import tracemalloc
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web

from tribe_oauth._oauth.endpoint import Answered, NotSent, TokenEndpoint
from tribe_oauth._oauth.messages import Granted, Refused, Unreadable
from tribe_oauth.errors import ConfigurationError

from .servers import ANSWER, FORM, HEAD, Raw, Serve, good


def tls_of(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    """What a server with a certificate of this authority needs."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(tls)
    return tls


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """What a client that trusts this authority needs."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_an_answer(endpoint: TokenEndpoint, serve: Serve) -> None:
    """A form, JSON wanted, uncompressed; a connection of its own for each post; no secret in a header."""
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
    assert headers["Connection"] == "close"
    assert seen[1][3] is not transport


async def test_an_error_answer(endpoint: TokenEndpoint, serve: Serve) -> None:
    """RFC 6749 §5.2."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"error": "invalid_grant"}, status=400)

    outcome = await endpoint.post(await serve(handler), FORM)
    assert isinstance(outcome, Answered)
    assert isinstance(outcome.reading, Refused)


async def test_loopback_of_ipv6(endpoint: TokenEndpoint) -> None:
    """An address in brackets goes to where it says, or nowhere."""
    outcome = await endpoint.post("http://[::1]:9/oauth2/token", FORM)
    assert isinstance(outcome, NotSent)
    assert "ClientConnectorError" in outcome.reason


# Where a secret goes


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(endpoint: TokenEndpoint, serve: Serve, status: int, elsewhere: bool) -> None:
    """S13: 307 and 308 would carry the secret on, to another path or another server."""
    paths = []

    async def other(request: web.Request) -> web.Response:
        paths.append("other")
        return await good(request)

    async def handler(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=status, headers={"Location": location})

    location = await serve(other) if elsewhere else "/elsewhere"
    outcome = await endpoint.post(await serve(handler), FORM)
    assert isinstance(outcome, Answered)
    assert isinstance(outcome.reading, Unreadable)
    assert paths == ["/oauth2/token"]


async def test_nothing_from_the_environment(
    endpoint: TokenEndpoint, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """S13: neither a proxy's variable nor a netrc file decides where secrets go, or adds any."""
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.host, request.headers.get("Authorization")))
        return await good(request)

    proxy, url = await serve(handler), await serve(handler)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert isinstance(await endpoint.post(url, FORM), Answered)
    assert seen == [(url.split("/")[2], None)]
    async with aiohttp.ClientSession(trust_env=True) as trusting_session:  # the trap is a real one
        await (await trusting_session.post(url, data=FORM)).read()
    assert seen[1][1] is not None


async def test_certificates_are_checked(endpoint: TokenEndpoint, serve: Serve) -> None:
    """S13: an unknown authority is refused before anything is sent; one of your own that you trust is taken."""
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(await request.read())
        return await good(request)

    authority = trustme.CA()
    url = await serve(handler, tls_of(authority))
    outcome = await endpoint.post(url, FORM)
    assert isinstance(outcome, NotSent)
    assert "Certificate" in outcome.reason
    assert "certificate is refused" in outcome.reason
    assert "SSL_CERT_FILE" in outcome.remedy
    assert seen == []
    connector = aiohttp.TCPConnector(ssl=trusting(authority))
    own = TokenEndpoint(connector=connector)
    assert isinstance(await own.post(url, FORM), Answered)
    await own.close()
    assert not connector.closed
    await connector.close()


async def test_names_are_checked(serve: Serve) -> None:
    """S13: a good certificate of somebody else is a bad one."""
    authority = trustme.CA()
    url = await serve(good, tls_of(authority, "other.example"))
    connector = aiohttp.TCPConnector(ssl=trusting(authority))
    own = TokenEndpoint(connector=connector)
    outcome = await own.post(url, FORM)
    assert isinstance(outcome, NotSent)
    assert "another" in outcome.remedy
    await own.close()
    await connector.close()


async def test_connectors_that_do_not_check() -> None:
    """S13: refused, with the remedy: no check at all, any authority, or any name."""
    lax, nameless = ssl.create_default_context(), ssl.create_default_context()
    lax.check_hostname = nameless.check_hostname = False
    lax.verify_mode = ssl.CERT_NONE
    for setting in (False, lax, nameless):
        connector = aiohttp.TCPConnector(ssl=setting)
        with pytest.raises(ConfigurationError, match=r"does not check certificates.*pass a TCPConnector"):
            TokenEndpoint(connector=connector)
        await connector.close()


@pytest.mark.parametrize("right", [True, False])
async def test_a_pinned_certificate(serve: Serve, right: bool) -> None:
    """S13: a pin is a check as well: the one certificate is taken, any other refused before anything is sent."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(tls)
    der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    pin = hashlib.sha256(der if right else b"another").digest()
    connector = aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(pin))
    pinned = TokenEndpoint(connector=connector)
    outcome = await pinned.post(await serve(good, tls), FORM)
    assert isinstance(outcome, Answered if right else NotSent)
    await pinned.close()
    await connector.close()


async def test_cookies_are_not_kept(endpoint: TokenEndpoint, serve: Serve) -> None:
    """Nothing of one organization's answer goes along with another's request."""
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        response = await good(request)
        response.set_cookie("session", "x")
        return response

    url = (await serve(handler)).replace("127.0.0.1", "localhost")  # no jar takes cookies of a bare address
    await endpoint.post(url, FORM)
    await endpoint.post(url, FORM)
    assert seen == [None, None]


# How much is read


@pytest.mark.parametrize("compressed", [False, True])
async def test_too_much(endpoint: TokenEndpoint, serve: Serve, compressed: bool) -> None:
    """S14: 64 KiB at most, after decompression, whoever compressed although nobody asked; never more in memory."""
    body = b'{"access_token": "' + b"x" * (20_000_000 if compressed else 500_000) + b'"}'
    sent = gzip.compress(body) if compressed else body
    headers = {"Content-Encoding": "gzip"} if compressed else {}

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=sent, content_type="application/json", headers=headers)

    url = await serve(handler)
    tracemalloc.start()
    outcome = await endpoint.post(url, FORM)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(outcome, Answered)
    assert isinstance(outcome.reading, Unreadable)
    assert "more than 64 KiB" in outcome.reading.reason
    assert most < 5_000_000


@pytest.mark.parametrize("more", [0, 1])
async def test_exactly_enough(endpoint: TokenEndpoint, serve: Serve, more: int) -> None:
    """S14: the last byte that is fine, and the first that is too much; the new refresh token is kept all the same."""
    body = ANSWER + b" " * (65_536 - len(ANSWER) + more)

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    outcome = await endpoint.post(await serve(handler), FORM)
    assert isinstance(outcome, Answered)
    assert isinstance(outcome.reading, Granted)
    assert outcome.reading.complaints == (("HTTP 200, more than 64 KiB",) if more else ())


# Sessions


async def test_closing_and_posting_again(endpoint: TokenEndpoint) -> None:
    """Closing ends the connection; closing twice is harmless; a later post opens another."""
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + ANSWER)
        await reader.read()
        ended.set()

    async with Raw(talk) as raw:
        await endpoint.post(raw.url, FORM)
        assert not ended.is_set()
        await endpoint.close()
        await endpoint.close()
        async with asyncio.timeout(5):
            await ended.wait()
        assert isinstance(await endpoint.post(raw.url, FORM), Answered)
        await endpoint.close()
    assert raw.connections == 2


async def test_a_given_connector_is_shared(serve: Serve) -> None:
    """It is used, over several sessions, and closed by whoever made it."""
    connector = aiohttp.TCPConnector()
    own, url = TokenEndpoint(connector=connector), await serve(good)
    for _ in range(2):
        assert isinstance(await own.post(url, FORM), Answered)
        await own.close()
        assert not connector.closed
    await connector.close()


async def test_forgetting_a_session(endpoint: TokenEndpoint, serve: Serve) -> None:
    """One whose event loop is gone is dropped, and a new one opened."""
    url = await serve(good)
    await endpoint.post(url, FORM)
    lost = endpoint._session
    assert lost is not None
    endpoint.forget_loop()
    assert isinstance(await endpoint.post(url, FORM), Answered)
    assert endpoint._session is not lost
    await lost.close()
