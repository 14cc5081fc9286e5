"""A create whose answer is lost: one entity exists, nothing was sent twice, and the error names the way to find it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import StreamWriter

from tribe_oauth import RateLimit, StoreError, TribeOAuthError, odata
from tribe_oauth.errors import TemporarilyUnavailable
from tribe_oauth.odata._exchange import Body

from ..manager.helpers import VirtualClock
from ..serving import reset, status, with_first_token
from .tribe import Cut, Framing, Tribe, by_chunks, by_length, by_the_end, connected, cutting

PERSONS = "Relation_Person"


def person(number: int = 1) -> dict[str, Any]:
    return {"LastName": "Bos", "ImportId": f"crm-{number:04}"}


@pytest.fixture
async def cut(tribe: Tribe) -> AsyncIterator[Cut]:
    async with cutting(tribe) as cut:
        yield cut


@pytest.fixture
async def through(tribe: Tribe, cut: Cut) -> AsyncIterator[aiohttp.ClientSession]:
    """A session whose requests go through the connection that is cut."""
    async with connected(tribe, cut.base) as session:
        yield session


async def made(session: aiohttp.ClientSession, number: int) -> dict[str, Any] | odata.UnknownOutcomeError:
    try:
        return await odata.create(session, PERSONS, person(number))
    except odata.UnknownOutcomeError as error:
        return error


async def found(session: aiohttp.ClientSession, error: odata.UnknownOutcomeError, own: str) -> list[str]:
    """As the error says it."""
    assert error.look_up is not None
    return [row["ID"] async for row in odata.rows(session, error.look_up) if row["ImportId"] == own]


@pytest.mark.parametrize(("framing", "step"), [(by_length, 1), (by_chunks, 3), (by_the_end, 3)])
async def test_the_answer_is_cut_at_every_byte(
    tribe: Tribe, cut: Cut, through: aiohttp.ClientSession, session: aiohttp.ClientSession, framing: Framing, step: int
) -> None:
    """However it is framed: the whole one is a success, and every other one an error that finds the one entity."""
    cut.framing = framing
    await odata.create(through, PERSONS, person(1_000))
    places, lost = range(0, cut.length, step), 0
    for number, at in enumerate(places, 2):
        cut.answer = at
        outcome = await made(through, at)
        if isinstance(outcome, odata.UnknownOutcomeError):
            lost += 1
            assert f"contains(ImportId,'crm-{at:04}')" in str(outcome)
            assert "is not sent again" in str(outcome)
            assert not outcome.retryable
            if at % 20 == 0:
                assert len(await found(session, outcome, f"crm-{at:04}")) == 1
        else:  # what frames an answer may be cut, where all of it was there
            assert tribe.rows[PERSONS][outcome["ID"]]["ImportId"] == f"crm-{at:04}"
        assert len(tribe.writes()) == number
    assert len({row["ImportId"] for row in tribe.rows[PERSONS].values()}) == len(tribe.rows[PERSONS]) == len(places) + 1
    assert lost >= len(places) - 2
    print(f"\ncut at {len(places)} places: {lost} answers lost, none sent twice")  # noqa: T201 (the figures of the show)


async def test_the_request_is_cut_at_every_byte(tribe: Tribe, cut: Cut, through: aiohttp.ClientSession) -> None:
    """It may have arrived: it is not sent again, and nothing was created."""
    cut.request = 0
    for at in range(0, 400, 3):
        cut.request = at
        with pytest.raises(odata.UnknownOutcomeError, match="may have been created") as it:
            await odata.create(through, PERSONS, person() | {"Blog": "x" * 400})
        assert it.value.status is None
    assert tribe.writes() == []


@pytest.mark.parametrize("code", [303, 408, 500, 502, 503, 504])
async def test_a_fault_of_the_server(
    tribe: Tribe, session: aiohttp.ClientSession, clock: VirtualClock, code: int
) -> None:
    """Neither does the status of a gateway say whether it took effect."""
    tribe.after.append(status(code, Retry_After="1", X_Request_Id="of-the-request"))
    with pytest.raises(odata.UnknownOutcomeError, match=f"may have been created, .* {code}") as it:
        await odata.create(session, PERSONS, person())
    assert (it.value.status, it.value.request_id) == (code, "of-the-request")
    assert it.value.__context__ is None
    assert await found(session, it.value, "crm-0001") == list(tribe.rows[PERSONS])
    assert (len(tribe.writes()), clock.slept) == (1, [])


async def test_a_success_that_says_nothing(tribe: Tribe, session: aiohttp.ClientSession) -> None:
    """It was created; which one it is has to be looked up."""
    tribe.after.append(status(201))
    with pytest.raises(odata.UnknownOutcomeError, match="Relation_Person was created") as it:
        await odata.create(session, PERSONS, person())
    assert len(await found(session, it.value, "crm-0001")) == 1


async def test_the_way_to_find_it(tribe: Tribe, session: aiohttp.ClientSession) -> None:
    """By its own key in the API's words, by its ID, or by nothing."""
    ((key, _row),) = [(row["ID"], row) for row in [await odata.create(session, PERSONS, person())]]
    for entity, words in (
        ({"LastName": "Bos", "ImportId": "d'Arc-1"}, "contains(ImportId,'d''Arc-1')"),
        ({"LastName": "Bos", "ImportId": 17}, "contains(ImportId,'17')"),
        ({"ID": key, "LastName": "Bos"}, f"ID eq {key}"),
        ({"LastName": "Bos"}, "by its fields, and give each new entity an ImportId"),
    ):
        tribe.after.append(reset)
        with pytest.raises(odata.UnknownOutcomeError) as it:
            await odata.create(session, PERSONS, entity)
        assert words in str(it.value)
        assert "Bos" not in str(it.value)  # what is in a row is nobody's business
        if it.value.look_up is None:
            assert entity == {"LastName": "Bos"}
        else:
            assert [row async for row in odata.rows(session, it.value.look_up)]


@pytest.mark.parametrize(
    ("faults", "slept"),
    [
        ([status(429)], [60.0]),
        ([status(429, Retry_After="7"), status(429, Retry_After="7")], [7.0, 7.0]),
        ([status(401), status(401)], [0.225, 0.45]),
    ],
)
async def test_what_was_refused_is_sent_again(
    tribe: Tribe, session: aiohttp.ClientSession, clock: VirtualClock, caplog: Any, faults: Any, slept: list[float]
) -> None:
    """A refusal comes before any effect: the middleware's own second attempt after a 401 is one of them."""
    tribe.before += faults
    with caplog.at_level(logging.WARNING, "tribe_oauth.odata"):
        created = await odata.create(session, PERSONS, person())
    assert list(tribe.rows[PERSONS]) == [created["ID"]]
    assert clock.slept == slept
    assert caplog.records[0].getMessage().startswith("a write is sent again in ")
    assert len({seen.body for seen in tribe.writes()}) == 1


async def test_a_429_is_waited_out_once(tribe: Tribe, clock: VirtualClock) -> None:
    """The manager stops the organization after a 429, for the time that the write waits itself: not behind it."""
    tribe.before += [status(429), status(429)]
    async with connected(tribe, rate_limit=RateLimit(), clock=clock) as session, asyncio.timeout(20):
        created = await odata.create(session, PERSONS, person())
    assert list(tribe.rows[PERSONS]) == [created["ID"]]
    assert clock.slept == [60.0, 120.0]


async def test_lost_after_a_refusal(tribe: Tribe, session: aiohttp.ClientSession) -> None:
    """What was sent again is lost: that is the end of it."""
    tribe.before.append(status(429))
    tribe.after.append(reset)
    with pytest.raises(odata.UnknownOutcomeError):
        await odata.create(session, PERSONS, person())
    assert (len(tribe.writes()), len(tribe.rows[PERSONS])) == (2, 1)


@pytest.mark.parametrize("code", [400, 403, 404, 409, 413, 425, 501])
async def test_what_does_not_pass(tribe: Tribe, session: aiohttp.ClientSession, clock: VirtualClock, code: int) -> None:
    """Is refused, and that is all."""
    tribe.before.append(status(code))
    with pytest.raises(odata.ODataError, match=f"the API answered {code}") as it:
        await odata.create(session, PERSONS, person())
    assert not isinstance(it.value, odata.UnknownOutcomeError)
    assert (tribe.rows[PERSONS], clock.slept) == ({}, [])


async def test_what_was_not_sent_is_sent_again(tribe: Tribe, clock: VirtualClock) -> None:
    """Nobody listens there: for as long as the caller has patience."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with connected(tribe, f"http://127.0.0.1:{port}") as nowhere:
        with pytest.raises(odata.ODataError, match="no whole answer") as it:
            await odata.create(nowhere, PERSONS, person(), give_up_after=10)
    assert not isinstance(it.value, odata.UnknownOutcomeError)
    assert sum(clock.slept) == pytest.approx(10.0)


@pytest.mark.parametrize("error", [TemporarilyUnavailable("down"), StoreError("away")])
async def test_there_is_no_token(tribe: Tribe, clock: VirtualClock, error: TribeOAuthError) -> None:
    """What a middleware raises came before it was sent, or after a 401: it is waited for."""
    failures = [error]

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if failures:
            raise failures.pop()
        request.headers["Authorization"] = "Bearer token-1"
        return await handler(request)

    async with aiohttp.ClientSession(tribe.base, middlewares=[middleware]) as session:
        await odata.create(session, PERSONS, person())
    assert (len(tribe.rows[PERSONS]), len(clock.slept)) == (1, 1)


@pytest.mark.parametrize("size", [1, 100_000])
async def test_a_middleware_that_sends_the_body_in_another_form(tribe: Tribe, clock: VirtualClock, size: int) -> None:
    """Whoever has read it may have sent it."""

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        assert isinstance(request.body, aiohttp.Payload)
        await request.update_body(b" " + await request.body.as_bytes())
        request.headers["Authorization"] = "Bearer token-1"
        return await handler(request)

    tribe.after.append(reset)
    async with aiohttp.ClientSession(tribe.base, middlewares=[middleware]) as session:
        with pytest.raises(odata.UnknownOutcomeError):
            await odata.create(session, PERSONS, person() | {"Description": "x" * size})
    assert (len(tribe.writes()), len(tribe.rows[PERSONS]), clock.slept) == (1, 1, [])


@pytest.mark.parametrize("size", [1, 100_000])
async def test_a_connection_that_is_closed_already(size: int) -> None:
    """Nothing is written to it, and so nothing was handed over; to a writer that is not known, it was."""
    body = Body({"Description": "x" * size})
    closed = StreamWriter(BaseProtocol(asyncio.get_running_loop()), asyncio.get_running_loop())
    with pytest.raises(aiohttp.ClientConnectionResetError):
        await body.payload().write_with_length(closed, None)
    assert body.handed_over == 0
    await body.payload().write_with_length(AsyncMock(), None)
    assert body.handed_over == 1


async def test_a_kept_connection_that_the_server_closed(tribe: Tribe, session: aiohttp.ClientSession) -> None:
    """It may have been sent: whether the server had read it is not known to anyone here."""
    await odata.create(session, PERSONS, person(1))
    tribe.before.append(reset)
    with pytest.raises(odata.UnknownOutcomeError):
        await odata.create(session, PERSONS, person(2))
    assert len(tribe.writes()) == 2


async def test_a_connection_that_is_not_clean(tribe: Tribe) -> None:
    """Something came on a kept connection before anything was asked: nothing is sent there, but on another one."""
    async with cutting(tribe) as cut, connected(tribe, cut.base) as session:
        cut.stray = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        await odata.create(session, PERSONS, person(1))
        await cut.strayed.wait()
        connector = session.connector
        assert connector is not None
        while not any(protocol.should_close for kept in connector._conns.values() for protocol, _ in kept):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await odata.create(session, PERSONS, person(2))
    assert len(tribe.writes()) == len(tribe.rows[PERSONS]) == 2


async def test_no_answer_in_time(tribe: Tribe) -> None:
    """Is no reason to send it again."""

    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    tribe.after.append(never)
    hasty = aiohttp.ClientTimeout(sock_read=0.2)
    async with aiohttp.ClientSession(tribe.base, middlewares=[with_first_token], timeout=hasty) as session:
        with pytest.raises(odata.UnknownOutcomeError, match=r"\(SocketTimeoutError\)"):
            await odata.create(session, PERSONS, person())
    assert len(tribe.writes()) == len(tribe.rows[PERSONS]) == 1
