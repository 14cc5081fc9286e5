"""A new refresh token in an answer that is not as it should be: kept where it is beyond doubt, and only there (F18)."""

from __future__ import annotations

import gzip
import json
import random
import zlib

import pytest
from aiohttp import TCPConnector, web

from tribe_oauth import Secret
from tribe_oauth._oauth.endpoint import Answered, TokenEndpoint
from tribe_oauth._oauth.messages import Granted, read_answer
from tribe_oauth._oauth.salvage import salvage

from .servers import ANSWER, FORM, Serve

SENT = b"grant_type=refresh_token&refresh_token=spent&client_id=id&client_secret=secret"
GOOD = {"access_token": "at", "token_type": "bearer", "expires_in": 86400, "refresh_token": "new"}
TEXT = json.dumps(GOOD)


def read(body: str | bytes, *, status: int = 200, content_type: str = "application/json") -> Granted | None:
    content = body.encode() if isinstance(body, str) else body
    reading = read_answer(status, content_type, content, sent=SENT)
    return reading if isinstance(reading, Granted) else None


@pytest.mark.parametrize(
    ("body", "status", "content_type"),
    [
        (TEXT, 200, "text/html"),
        (TEXT, 201, "application/json"),
        (TEXT, 206, ""),
        ("\ufeff" + TEXT, 200, "application/json"),
        (TEXT[:-1] + ', "refresh_token": "new"}', 200, "application/json"),
        (TEXT[:-1] + ', "x": NaN}', 200, "application/json"),
        (TEXT[:-1] + f', "extra": "{"x" * 70_000}"}}', 200, "application/json"),
        (f'{{"extra": "{"x" * 70_000}", {TEXT[1:]}', 200, "application/json"),
        (f"<html><body>{TEXT}</body></html>", 200, "text/html"),
        (f"while(1);{TEXT}", 200, "text/javascript"),
        (f'{{"data": {TEXT}, "ok": true}}', 200, "application/json"),
        (f"[{TEXT}]", 200, "application/json"),
        (f"{TEXT}\n{TEXT}", 200, "application/json"),
        (TEXT.replace('"new"', '"n\\u0065w"'), 200, "text/html"),
    ],
    ids=range(14),
)
def test_what_is_kept(body: str, status: int, content_type: str) -> None:
    """The old one is spent by then: form comes second. What is wrong is told, and the access token can be used."""
    granted = read(body, status=status, content_type=content_type)
    assert granted is not None
    assert granted.refresh_token == Secret("new")
    assert granted.access_token == Secret("at")
    assert granted.expires_in == 86400
    assert granted.complaints


@pytest.mark.parametrize(
    "body",
    [
        TEXT.replace('"new"', '"spent"'),
        TEXT.replace('"new"', '""') + "x",
        TEXT.replace('"new"', "7") + "x",
        TEXT.replace('"new"', '["new"]') + "x",
        TEXT.replace('"new"', '"n ew"') + "x",
        TEXT.replace('"new"', '"new') + "x",
        TEXT.replace('"new"', '"n\\xew"') + "x",
        TEXT.replace('"access_token"', '"other"') + "x",
        TEXT[:-1] + ', "refresh_token": "another"}',
        TEXT + TEXT.replace("new", "another"),
        TEXT[:-1] + ', "error": "x", "error": "y"}',
        TEXT[:-1] + ', "grant_type": "refresh_token"}x',
        TEXT[:-1] + ', "client_secret": "secret"}x',
        "access_token=at&refresh_token=new",
        json.dumps({"page": TEXT}),
        '{"access_token": "at", "nested": {"refresh_token": "new"}}',
        "",
    ],
    ids=range(17),
)
def test_what_is_not(body: str) -> None:
    """A value that was sent, two that differ, an error beside it, an echo of the request, half a string."""
    granted = read(body, content_type="text/html")
    assert granted is None or granted.refresh_token is None


def test_only_after_a_success() -> None:
    """Of a refusal or a redirect nothing is kept: nothing was spent."""
    for status in (302, 400, 401, 429, 500, 503):
        assert read(TEXT, status=status, content_type="text/html") is None


def test_cut_at_every_byte() -> None:
    """Never a wrong one, and the right one as soon as it is whole."""
    whole = TEXT.index('"new"') + len('"new"')
    for end in range(len(TEXT)):
        found = salvage(TEXT[:end], {"spent"})
        assert (found is not None) == (end >= whole), end
        if found is not None:
            assert found["refresh_token"] == "new"


def test_nothing_surprises() -> None:
    """Whatever stands there: no exception, and nothing but the one that was issued."""
    chance = random.Random(5)
    for _ in range(20_000):
        text = list(TEXT)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(text))
            text[at : at + chance.randint(0, 3)] = chance.choice('{}[]",:\\ \nnu0e\0') * chance.randint(0, 4)
        found = salvage("".join(text), {"spent"})
        assert found is None or isinstance(found["refresh_token"], str)


def test_depth() -> None:
    """S15: levels without end cost no memory; what came before them counts."""
    deep = '{"x":' * 200_000
    assert salvage(deep + TEXT, ()) is None
    found = salvage(TEXT[:-1] + ',"x":' + deep, ())
    assert found is not None
    assert found["refresh_token"] == "new"


@pytest.mark.parametrize("cut", [0, 6])
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "raw deflate", "none"])
async def test_a_proxy_compresses(endpoint: TokenEndpoint, serve: Serve, encoding: str, cut: int) -> None:
    """Although it was not asked to; cut off as well; or says that it does, and does not."""
    raw, answer = zlib.compressobj(wbits=-zlib.MAX_WBITS), json.dumps(GOOD | {"padding": "0123456789" * 3}).encode()
    bodies = {
        "gzip": gzip.compress(answer),
        "x-gzip": gzip.compress(answer),
        "deflate": zlib.compress(answer),
        "raw deflate": raw.compress(answer) + raw.flush(),
        "none": answer,
    }
    body, named = bodies[encoding], {"raw deflate": "deflate", "none": "gzip"}.get(encoding, encoding)

    async def handler(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Encoding": named, "Content-Type": "application/json", "Content-Length": str(len(body))}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(body[: len(body) - cut])
        assert request.transport is not None
        request.transport.close()
        return response

    outcome = await endpoint.post(await serve(handler), FORM)
    assert isinstance(outcome, Answered)
    assert isinstance(outcome.reading, Granted)
    assert outcome.reading.refresh_token == Secret("new")


@pytest.mark.parametrize("given", [False, True])
async def test_no_connection_is_shared(serve: Serve, given: bool) -> None:
    """A stray second answer on a connection that is kept alive would be taken for that of the next organization."""
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.transport)
        return web.Response(body=ANSWER, content_type="application/json")

    url = await serve(handler)
    async with TCPConnector() as connector:
        endpoint = TokenEndpoint(connector=connector if given else None)
        for _ in range(3):
            assert isinstance(await endpoint.post(url, FORM), Answered)
        await endpoint.close()
    assert len({id(transport) for transport in seen}) == 3
