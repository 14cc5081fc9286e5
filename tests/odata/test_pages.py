from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError, TribeOAuthError
from tribe_oauth.odata._json import PLAIN, Parsed, parser

from .conftest import Service


async def collect(session: aiohttp.ClientSession, path: str = "People", **options: Any) -> list[odata.Page]:
    return [page async for page in odata.pages(session, path, **options)]


async def test_one_page(session: aiohttp.ClientSession, service: Service) -> None:
    """Without a nextLink, one page is all; its rows are as the server sent them."""
    service.says("People", {"value": [{"ID": "1", "Name": None}, {"ID": "2"}]})
    service.says("People?$filter=ID%20gt%20'2'", {"value": []})
    assert await collect(session) == [odata.Page([{"ID": "1", "Name": None}, {"ID": "2"}], None), odata.Page([])]
    assert len(service.targets) == 2


async def test_every_option_is_encoded(session: aiohttp.ClientSession, service: Service) -> None:
    """A space is ``%20`` and a plus ``%2B``; what would end an option early is encoded; names keep their ``$``."""
    target = (
        "People?$select=ID,Name&$filter=Name%20eq%20'a%2Bb%26c%23d%25%C3%AB'&$expand=Phone($select=Number%3B$top=1)"
        "&$orderby=Name%20desc,ID&$count=true&$top=5"
    )
    service.says(target, {"@odata.count": 0, "value": []})
    pages = await collect(
        session,
        select=["ID", "Name"],
        filter="Name eq 'a+b&c#d%ë'",
        expand=["Phone($select=Number;$top=1)"],
        orderby=iter(["Name desc", "ID"]),
        count=True,
        top=5,
    )
    assert pages == [odata.Page([], 0)]
    assert service.targets == [f"/v1/odata/{target}"]


async def test_one_name_may_be_plain_text(session: aiohttp.ClientSession, service: Service) -> None:
    """A text for a list of names is taken as it is, not letter by letter."""
    service.says("People?$select=ID", {"value": []})
    assert await collect(session, select="ID") == [odata.Page([])]


@pytest.mark.parametrize("path", ["/v1/odata/Relation Person('a')/Phone", "Relation Person('a')/Phone"])
async def test_the_path_is_under_the_service_root(session: aiohttp.ClientSession, service: Service, path: str) -> None:
    """With ``/v1/odata/`` or without; it is encoded like the options."""
    service.says("Relation%20Person('a')/Phone", {"value": []})
    assert await collect(session, path) == [odata.Page([])]


@pytest.mark.parametrize(
    "path", ["", "/v1/odata/", "/People", "//other/People", "../x", "People?$top=1", "a#b", "a\\b"]
)
async def test_a_path_that_is_none(session: aiohttp.ClientSession, service: Service, path: str) -> None:
    """What is not a path under the service root is refused before anything is sent; the error says what goes where."""
    with pytest.raises(ConfigurationError, match="options go into their own arguments"):
        await collect(session, path)
    assert service.targets == []


async def test_a_session_without_a_base_url(service: Service) -> None:
    """The error names the remedy."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(odata.ODataError, match="give it the API's origin"):
            await collect(session)


@pytest.mark.parametrize("count", ["0", 0.0, 0, None])
async def test_a_count(session: aiohttp.ClientSession, service: Service, count: object) -> None:
    """A whole number however it is written, or not known."""
    service.says("People?$count=true", {"@odata.count": count, "value": []})
    assert (await collect(session, count=True))[0].count == (None if count is None else 0)


@pytest.mark.parametrize("count", [True, 7.5, -1, "many", "", "1e3", [7], 10**20, "9" * 30, "٣"], ids=repr)
async def test_a_count_that_is_none(session: aiohttp.ClientSession, service: Service, count: object) -> None:
    """A promise that cannot be read is an error: whether it was kept, nobody could say."""
    service.says("People?$count=true", {"@odata.count": count, "value": []})
    with pytest.raises(odata.ODataError, match="count of the rows is no whole number"):
        await collect(session, count=True)


async def test_one_page_is_read_ahead(session: aiohttp.ClientSession, service: Service) -> None:
    """While a page is used the next is read, and none after that; a caller who stops leaves nothing under way."""
    service.says("People", {"value": [{"ID": "1"}], "@odata.nextLink": "People?p=2"})
    service.says("People?p=2", {"value": [{"ID": "2"}], "@odata.nextLink": "People?p=3"})
    service.says("People?p=3", {"value": [{"ID": "3"}]})
    pages = odata.pages(session, "People")
    await anext(pages)
    await service.asked(2)
    await settled()
    assert service.targets == ["/v1/odata/People", "/v1/odata/People?p=2"]
    await pages.aclose()
    assert len(service.targets) == 2


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
async def test_a_caller_who_stops_cancels_what_is_read_ahead(
    session: aiohttp.ClientSession, service: Service, ending: str
) -> None:
    """Closed or cancelled, it ends with nothing under way: the request is given up, and no task is left."""
    over, gone = asyncio.Event(), asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        try:
            over.set()
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    service.says("People", {"value": [{"ID": "1"}], "@odata.nextLink": "People?p=2"})
    service.answers["/v1/odata/People?p=2"] = never
    pages = odata.pages(session, "People")
    await anext(pages)
    await over.wait()
    if ending == "closed":
        await pages.aclose()
    else:
        consumer = asyncio.ensure_future(collect_rest(pages))
        await asyncio.sleep(0)
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
    assert reads() == []
    await asyncio.wait_for(gone.wait(), 5)


def reads() -> list[asyncio.Task[Any]]:
    """What reads ahead."""
    return [task for task in asyncio.all_tasks() if "pages.<locals>.read" in repr(task)]


async def settled() -> None:
    """Wait until what is read ahead is there."""
    if under_way := reads():
        await asyncio.wait(under_way, timeout=5)


async def collect_rest(pages: AsyncIterator[odata.Page]) -> list[odata.Page]:
    return [page async for page in pages]


async def test_a_failure_ahead_is_told_when_its_turn_comes(session: aiohttp.ClientSession, service: Service) -> None:
    """The page before it is whole; and who stops there never hears of it."""
    service.says("People", {"value": [{"ID": "1"}], "@odata.nextLink": "People?p=2"})
    service.says("People?p=2", ERROR, status=400)
    for stops in (True, False):
        service.targets.clear()
        pages = odata.pages(session, "People")
        assert (await anext(pages)).rows == [{"ID": "1"}]
        await service.asked(2)
        if stops:
            await settled()
            await pages.aclose()
        else:
            with pytest.raises(odata.ODataError, match="answered 400"):
                await anext(pages)


# Refusals

ERROR = {"error": {"code": "005", "message": "no such\nproperty", "target": "Nmae", "details": []}}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_a_refusal_says_what_the_server_said(
    session: aiohttp.ClientSession, service: Service, status: int
) -> None:
    """Status, code, message and target come through, printable, from the root of the library's errors."""
    service.says("People", ERROR, status=status)
    with pytest.raises(odata.ODataError, match=rf"the API answered {status}: 005: no such\\nproperty") as it:
        await collect(session)
    error = it.value
    assert (error.status, error.code, error.target) == (status, "005", "Nmae")
    assert error.message == r"no such\nproperty"
    assert isinstance(error, TribeOAuthError)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": None, "message": None}},
        {"error": {}},
        {"error": "text"},
        {"error": None},
        {"timestamp": 1, "status": 500},
        ["error"],
        None,
        b"<html><h1>Bad gateway</h1>",
        b"\xff\xfe\xfd",
        b"",
        b"[" * 100_000,
    ],
)
async def test_a_refusal_without_words(session: aiohttp.ClientSession, service: Service, body: object) -> None:
    """Nulls, another shape, HTML, nothing at all: the status alone, and never another exception."""
    service.says("People", body, status=502)
    with pytest.raises(odata.ODataError, match=r"^the API answered 502$") as it:
        await collect(session)
    assert (it.value.status, it.value.code, it.value.message, it.value.target) == (502, None, None, None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "17"}, 17.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "9" * 400}, 86_400.0),
        ({"Retry-After": "²"}, None),
        ({"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"}, 0.0),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 86_400.0),
        ({"Retry-After": "Tue, 24 Nov 2026 08:05:00 GMT", "Date": "Tue, 24 Nov 2026 08:00:00 GMT"}, 300.0),
        ({"Retry-After": "Fri, 99 Dec 9999 23:59:59 GMT"}, None),
    ],
    ids=repr,
)
async def test_how_long_to_wait(
    session: aiohttp.ClientSession, service: Service, headers: dict[str, str], seconds: float | None
) -> None:
    """Retry-After in seconds, from a number or from a date and the server's own; at most a day; else None."""
    service.says("People", b"", status=429, **headers)
    with pytest.raises(odata.ODataError) as it:
        await collect(session)
    assert it.value.retry_after == seconds


@pytest.mark.parametrize(("status", "retryable"), [(400, False), (408, True), (429, True), (501, False), (502, True)])
async def test_what_passes(session: aiohttp.ClientSession, service: Service, status: int, retryable: bool) -> None:
    """Whether the same request may succeed later."""
    service.says("People", b"", status=status)
    with pytest.raises(odata.ODataError) as it:
        await collect(session)
    assert it.value.retryable is retryable


@pytest.mark.parametrize("status", [200, 500])
async def test_the_request_has_a_name(session: aiohttp.ClientSession, service: Service, status: int) -> None:
    """The server's own, for questions to its operators; printable like all its words."""
    service.says("People", b"<html>", status=status, **{"X-Request-Id": "abc\u200b-1"})
    with pytest.raises(odata.ODataError) as it:
        await collect(session)
    assert it.value.request_id == r"abc\u200b-1"


async def test_long_words_are_cut(session: aiohttp.ClientSession, service: Service) -> None:
    """A server's stack trace does not fill the log."""
    service.says("People", {"error": {"message": "x" * 100_000}}, status=500)
    with pytest.raises(odata.ODataError) as it:
        await collect(session)
    assert len(str(it.value)) < 1000


async def test_a_redirect_is_not_followed(session: aiohttp.ClientSession, service: Service, elsewhere: Service) -> None:
    """Rows come from the API: another address's answer is none, and is not asked for (S21)."""
    service.says("People", b"", status=307, Location=f"{elsewhere.base}/v1/odata/People")
    elsewhere.says("People", {"value": [{"ID": "forged"}]})
    with pytest.raises(odata.ODataError, match="the API answered 307"):
        await collect(session)
    assert elsewhere.targets == []


# Answers that are not whole


def test_without_the_quick_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own takes its place."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    parse = parser(exact=False)
    assert parse(b'{"n": [1, 0.5]}') == Parsed({"n": [1, 0.5]})
    assert parse(b"1e400").odd


@pytest.mark.parametrize("content", [b'\xef\xbb\xbf{"n": 1}', b'{"n": 1}', '{"n": 1}'.encode("utf-16")])
def test_the_quick_parser_takes_what_the_slow_one_does(content: bytes) -> None:
    """A byte order mark, another encoding."""
    assert PLAIN(content).value == {"n": 1}


@pytest.mark.parametrize(
    "content",
    [b'"\\ud800"', b"NaN", b"-Infinity", b"123456789012345678901234567890", b"1e400", b'"\\u00e9"', b"9" * 5000],
    ids=lambda content: content[:9],
)
@pytest.mark.parametrize("exact", [True, False])
def test_the_two_parsers_agree(content: bytes, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On what JSON leaves open."""
    quick = parser(exact=exact)(content)
    monkeypatch.setitem(sys.modules, "msgspec", None)
    slow = parser(exact=exact)(content)
    assert (repr(quick.value), type(quick.value)) == (repr(slow.value), type(slow.value))


@pytest.mark.parametrize(
    "body",
    [
        b'{"value": [{"ID": "1"}',
        b"<html>",
        b"",
        {"ID": "1"},
        {"value": None},
        {"value": {}},
        {"value": [1]},
        [{"ID": "1"}],
        {"value": [{"ID": "1"}], "error": {"code": "500", "message": "in the middle"}},
    ],
)
async def test_a_200_that_is_not_a_collection(session: aiohttp.ClientSession, service: Service, body: object) -> None:
    """It is an error and never the end, nor an empty page."""
    service.says("People", body)
    with pytest.raises(odata.ODataError, match="not a whole OData collection") as it:
        await collect(session)
    assert it.value.status == 200


async def broken_off(request: web.Request) -> web.StreamResponse:
    """A valid page, whose end, blank as it is, does not come."""
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"value": []}')
    assert request.transport is not None
    request.transport.close()
    return response


async def test_a_200_that_breaks_off(session: aiohttp.ClientSession, service: Service) -> None:
    """The same, where the connection ends before the answer does; no header of the request is in the error (S25)."""
    service.answers["/v1/odata/People"] = broken_off
    with pytest.raises(odata.ODataError, match=r"no whole answer .* \(ClientPayloadError\)") as it:
        await collect(session)
    assert it.value.__context__ is None
    assert it.value.status is None


@pytest.mark.parametrize("how", ["broken off", "half", "nothing"])
async def test_a_cut_answer_is_read_again(session: aiohttp.ClientSession, service: Service, how: str) -> None:
    """Once: what came whole the second time is the page, as if nothing had happened."""
    service.says("People", {"value": [{"ID": "1"}]})
    whole = service.answers["/v1/odata/People"]

    async def first(request: web.Request) -> web.StreamResponse:
        service.answers["/v1/odata/People"] = whole
        if how == "broken off":
            return await broken_off(request)
        return web.Response(body=b'{"value": [{"ID":' if how == "half" else b"", content_type="application/json")

    service.answers["/v1/odata/People"] = first
    assert await collect(session) == [odata.Page([{"ID": "1"}]), odata.Page([])]
    assert service.targets[:2] == ["/v1/odata/People"] * 2


async def test_it_is_read_again_once(session: aiohttp.ClientSession, service: Service) -> None:
    """A second time in a row it is an error, which is retryable."""
    service.answers["/v1/odata/People"] = broken_off
    with pytest.raises(odata.ODataError) as it:
        await collect(session, give_up_after=0)
    assert it.value.retryable
    assert len(service.targets) == 2


async def test_the_second_page_breaks_off(session: aiohttp.ClientSession, service: Service) -> None:
    """What was read stands; what follows is an error, not the end."""
    service.says("People", {"value": [{"ID": "1"}], "@odata.nextLink": "People?$skip=1"})
    service.answers["/v1/odata/People?$skip=1"] = broken_off
    rows = odata.rows(session, "People")
    assert await anext(rows) == {"ID": "1"}
    with pytest.raises(odata.ODataError):
        await anext(rows)


async def test_no_server_is_there() -> None:
    """No connection is the same error, not aiohttp's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        with pytest.raises(odata.ODataError, match="ClientConnectorError"):
            await collect(session)


async def test_a_certificate_that_nobody_vouches_for() -> None:
    """S13: what is wrong with it and what to do; to try again would be of no use."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    async with aiohttp.ClientSession(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as session:
        with pytest.raises(odata.ODataError, match=r"its certificate is refused, .*\): .*SSL_CERT_FILE") as error:
            await collect(session)
    assert not error.value.retryable
    server.close()


async def test_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with too many files open is told so, and may try again."""

    async def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("aiohappyeyeballs.start_connection", refuse)
    async with aiohttp.ClientSession("http://127.0.0.1:1") as session:
        with pytest.raises(odata.ODataError, match="ulimit -n") as error:
            await collect(session)
    assert error.value.retryable


async def test_a_time_out(session: aiohttp.ClientSession, service: Service) -> None:
    """Nor is the session's own time-out another error."""
    over = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    service.answers["/v1/odata/People"] = never
    async with aiohttp.ClientSession(service.base, timeout=aiohttp.ClientTimeout(total=0.1)) as hasty:
        with pytest.raises(odata.ODataError, match="TimeoutError"):
            await collect(hasty)
    over.set()


async def test_an_error_of_a_middleware_comes_as_it_is(service: Service) -> None:
    """What the session has to say about tokens is not this module's to translate."""

    async def refuse(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        raise TribeOAuthError("connect again")

    async with aiohttp.ClientSession(service.base, middlewares=[refuse]) as session:
        with pytest.raises(TribeOAuthError, match="connect again"):
            await collect(session)
