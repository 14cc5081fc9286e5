"""A planted secret is looked for wherever an error, a value or a log record could carry it (S24, S25)."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

import tribe_oauth
from tribe_oauth import Client, ClientCredentialsGrant, Endpoints, RefreshTokenGrant, Secret, Token, TokenManager
from tribe_oauth._manager import settings as environment
from tribe_oauth._oauth.endpoint import Answered, Outcome, TokenEndpoint
from tribe_oauth._oauth.explanation import Asked, error_for
from tribe_oauth._oauth.messages import client_credentials_request, code_request, read_answer, refresh_request
from tribe_oauth._refresh.payload import Credential, Payload, decode, encode
from tribe_oauth.errors import CallbackError, ConfigurationError, TokenEndpointError, TribeOAuthError
from tribe_oauth.stores import Record

from .servers import HEAD, Raw, Serve, Talk

CANARY = "canary-7f3a91"
HIDDEN = Secret(CANARY)
OURS = str(Path(tribe_oauth.__file__).parent)
THEIRS = str(Path(aiohttp.__file__).parent)


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """An error and all that hang on it, whether shown or not."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        at = waiting.pop()
        if at is not None and at not in seen:
            seen.append(at)
            waiting += [at.__cause__, at.__context__]
    return iter(seen)


def everything_said(error: BaseException) -> str:
    """All that an error and those behind it hold: texts, arguments, fields, notes, and what attributes C has."""
    said = []
    for one in chain_of(error):
        fields = {name: getattr(one, name) for name in ("doc", "object", "filename", "msg") if hasattr(one, name)}
        said += [str(one), repr(one), repr(one.args), repr(vars(one)), repr(fields)]
    return "\n".join(said)


def locals_of(error: BaseException, within: tuple[str, ...] = (OURS, THEIRS)) -> str:
    """What a crash reporter would show of the frames of these packages."""
    shown = []
    for one in chain_of(error):
        walked = traceback.walk_tb(one.__traceback__)
        frames = ((frame, line) for frame, line in walked if frame.f_code.co_filename.startswith(within))
        shown += traceback.StackSummary.extract(frames, capture_locals=True).format()
    return "".join(shown)


def caught(call: Callable[[], object]) -> TribeOAuthError:
    """The error that a call ends in."""
    with pytest.raises(TribeOAuthError) as caught:
        call()
    return caught.value


def record(payload: bytes) -> Record:
    return Record(organization="acme", version=1, family="c", generation=1, status="connected", payload=payload)


def test_the_search_finds_what_there_is() -> None:
    """The proof of the tests below: in a family of ordinary errors the secret is found, in each of their places."""
    with pytest.raises(RuntimeError) as plain:
        wrapped_in_the_usual_way(CANARY)
    assert CANARY in everything_said(plain.value)
    assert CANARY in locals_of(plain.value, (str(Path(__file__).parent),))


def wrapped_in_the_usual_way(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        raise RuntimeError("not JSON") from None


# Values


def test_values(tmp_path: Path) -> None:
    """S24: none shows what it holds, nor do the settings that hold them all."""
    client = Client("id", CANARY, redirect_uri="https://app.example/cb")
    body = json.dumps({"access_token": CANARY, "refresh_token": CANARY, "token_type": "bearer"}).encode()
    reading = read_answer(200, "application/json", body)
    variables = {"TRIBE_CLIENT_ID": "id", "TRIBE_CLIENT_SECRET": CANARY, "TRIBE_REFRESH_TOKEN": CANARY}
    variables |= {"TRIBE_STORE": str(tmp_path / "tribe.db")}
    values = [
        client,
        reading,
        Answered(reading, 200, None),
        ClientCredentialsGrant(client),
        RefreshTokenGrant(client, CANARY),
        client_credentials_request("id", HIDDEN, scope="read"),
        code_request("id", HIDDEN, code=HIDDEN, redirect_uri=None, verifier=HIDDEN),
        environment.read(variables),
        record(encode(Payload(token=Token(access_token=HIDDEN, refresh_token=HIDDEN, expires_at=1.0)))),
    ]
    for value in values:
        assert CANARY not in repr(value)
        assert CANARY not in str(value)


# Errors


def test_a_damaged_record() -> None:
    """S25: neither json's error nor cattrs' hangs on ours, and no frame shows the payload."""
    credential = Credential(kind="refresh_token", client_id="id", client_secret=HIDDEN, token_endpoint="https://t")
    payload = encode(Payload(credential=credential))
    for damaged in (payload[:-1], payload.replace(b'"token":null', b'"token":["%b"]' % CANARY.encode())):
        assert CANARY.encode() in damaged
        error = caught(lambda damaged=damaged: decode(record(damaged)))  # type: ignore[misc]
        assert CANARY not in everything_said(error)
        assert CANARY not in locals_of(error)
        assert error.__context__ is None


def test_a_kept_request() -> None:
    """S25: text that cannot be read back may have the state and the verifier in it."""
    client = Client("id", "secret", redirect_uri="https://app.example/cb")
    for kept in (f'{{"state": "{CANARY}", ', f'{{"state": "{CANARY}"}}', f'["{CANARY}"]'):
        error = caught(lambda kept=kept: client.resume(kept))  # type: ignore[misc]
        assert CANARY not in everything_said(error)


def test_a_file_of_a_secret(tmp_path: Path) -> None:
    """S25: a decoding error has all of the file in it, and that of opening it a path that may be the secret itself."""
    file = tmp_path / "secret"
    file.write_bytes(CANARY.encode() + b"\xff")
    for path in (str(file), f"/no/such/{CANARY}", f"{CANARY}\0"):
        env = {"TRIBE_CLIENT_ID": "id", "TRIBE_CLIENT_SECRET_FILE": path}
        error = caught(lambda env=env: environment.read(env))  # type: ignore[misc]
        assert "TRIBE_CLIENT_SECRET_FILE" in str(error)
        assert CANARY not in everything_said(error)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Client("", CANARY),
        lambda: Client("id", CANARY + "\udcff"),
        lambda: Client("id", CANARY, redirect_uri="/cb"),
        lambda: Client("id", CANARY, scope="\udcff"),
        lambda: RefreshTokenGrant(Client("id", CANARY), CANARY + "\n"),
        lambda: RefreshTokenGrant(Client("id", CANARY), CANARY + "\u200b"),
        lambda: RefreshTokenGrant(Client("id", CANARY), CANARY + "\udcff"),
        lambda: environment.read({"TRIBE_CLIENT_ID": "id", "TRIBE_CLIENT_SECRET": CANARY, "TRIBE_SCOPE_FILE": "/no"}),
        lambda: Endpoints.at(f"https://user:{CANARY}@auth.example", "https://api.example"),
    ],
)
def test_what_cannot_be(call: Callable[[], object]) -> None:
    """S24: a setting that cannot work is named without its value."""
    error = caught(call)
    assert isinstance(error, ConfigurationError)
    assert CANARY not in everything_said(error)


def test_a_client_that_cannot_be() -> None:
    """S24: the frame that refuses a client does not show its secret."""
    error = caught(lambda: Client("", CANARY))
    assert "client_secret" in locals_of(error)
    assert CANARY not in locals_of(error)


@pytest.mark.parametrize(
    "callback",
    [
        "/cb?code={0}&state={0}",
        "/cb?code={0}&code={0}&state={1}",
        "/cb?code={0}%0A&state={1}",
        "/cb?code={0}&state={1}&scope=%1B",
        "/cb?code={0}&state={1}&iss={0}",
        "/cb?code={0}&error=access_denied&state={1}",
        "/{0}?code={0}&state={1}",
        "http://[::1/cb?code={0}&state={1}",
        "http://\u2100.example/cb?code={0}",
    ],
)
def test_a_callback(callback: str) -> None:
    """S11, S24: neither the code nor the state of the request is in the error."""
    request = Client("id", "secret", redirect_uri="https://app.example/cb").authorization_request()
    error = caught(lambda: request.grant(callback.format(CANARY, request.state)))
    assert isinstance(error, CallbackError)
    assert CANARY not in everything_said(error)
    assert request.state not in everything_said(error)


# The wire


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def echoing(head: bytes) -> Talk:
    """Say the secret back, in a form that cannot be read."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head + CANARY.encode())
        await writer.drain()

    return talk


FAULTS = [
    hang,
    reset,
    echoing(b""),
    echoing(b"HTTP/1.1 "),
    echoing(b"HTTP/1.1 200 OK\r\nX-"),
    echoing(HEAD),
    echoing(HEAD.replace(b"Length: ", b"Length: 1\r\nX: ")),
    echoing(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"access_token": "'),
    echoing(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n"),
    echoing(b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/?token="),
    echoing(b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n\r\n<p>"),
]


def form() -> bytes:
    return refresh_request("id", HIDDEN, refresh_token=HIDDEN, redirect_uri=None)


class Fault(Raw):
    """Hears a form of any length."""

    async def hear(self, reader: asyncio.StreamReader) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(form()))


def check_outcome(outcome: Outcome) -> None:
    """Neither the outcome nor what callers are told of it has the secret."""
    asked = Asked(grant_type="refresh_token", client_id="id")
    assert CANARY not in repr(outcome)
    assert CANARY not in everything_said(error_for("acme", asked, outcome, 1.0))


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
async def test_faults(hasty: TokenEndpoint, caplog: pytest.LogCaptureFixture, fault: Talk) -> None:
    """S24, S25: whatever goes wrong on the way, outcome, error and every log, aiohttp's and asyncio's too."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    async with Fault(fault) as server:
        check_outcome(await hasty.post(server.url, form()))
    assert CANARY not in caplog.text
    assert all(CANARY not in repr(vars(entry)) for entry in caplog.records)


async def test_an_echo(endpoint: TokenEndpoint, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """S18, S24: a server that repeats the refused token in its error does not put it into ours."""
    caplog.set_level(logging.DEBUG)

    async def handler(request: web.Request) -> web.Response:
        sent = str((await request.post())["refresh_token"])
        return web.json_response({"error": f"no {sent}", "error_description": f"{sent} was used"}, status=400)

    outcome = await endpoint.post(await serve(handler), form())
    check_outcome(outcome)
    assert "*** was used" in repr(outcome)
    assert CANARY not in caplog.text


async def test_a_cancelled_request(endpoint: TokenEndpoint) -> None:
    """S24: the frames that a cancellation goes through, ours and aiohttp's, do not show the form."""
    heard = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set()
        await reader.read()

    async with Fault(talk) as server, asyncio.timeout(5):
        task = asyncio.create_task(endpoint.post(server.url, form()))
        await heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
    shown = locals_of(cancelled.value)
    assert "Form('***')" in shown
    assert CANARY not in shown


@pytest.mark.parametrize("of_its_own", [True, False])
async def test_a_refused_client(serve: Serve, caplog: pytest.LogCaptureFixture, of_its_own: bool) -> None:
    """S24: the whole way, from a grant to the error that a caller logs with all of its frames' variables."""
    caplog.set_level(logging.DEBUG)

    async def handler(request: web.Request) -> web.Response:
        sent = (await request.post())["client_secret"]
        return web.json_response({"error": "invalid_scope", "error_description": sent}, status=400)

    origin = (await serve(handler)).removesuffix("/oauth2/token")
    client = Client("id", CANARY, endpoints=Endpoints.at(origin, origin, allow_insecure_loopback=True))
    async with TokenManager(client if of_its_own else None, endpoints=client.endpoints) as manager:
        with pytest.raises(TokenEndpointError, match="invalid_scope") as refused:
            await manager.connect("acme", ClientCredentialsGrant(client))
    assert CANARY not in everything_said(refused.value)
    assert "form = " in locals_of(refused.value)
    assert CANARY not in locals_of(refused.value)
    assert CANARY not in caplog.text
