"""What passes by itself is waited for: in one way for pages, rows and the export, and as long as the caller says."""

from __future__ import annotations

import logging
import ssl
import traceback
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from tribe_oauth import StoreError, UnknownOrganizationError, odata
from tribe_oauth.errors import ConfigurationError, TemporarilyUnavailable, TokenEndpointError, TribeOAuthError

from ..manager.helpers import VirtualClock
from ..serving import Answer, reset, status
from .conftest import Service

PAGES: dict[str, Any] = {
    "People": {"value": [{"ID": "1"}], "@odata.nextLink": "People?p=2"},
    "People?p=2": {"value": [{"ID": "2"}]},
}


def refusing(service: Service, target: str, *answers: Answer) -> None:
    """Answer this target so, one time each, and then as before."""
    left, well = list(answers), service.answers[f"/v1/odata/{target}"]

    async def answer(request: web.Request) -> web.StreamResponse:
        return await (left.pop(0) if left else well)(request)

    service.answers[f"/v1/odata/{target}"] = answer


@pytest.fixture(autouse=True)
def people(service: Service) -> None:
    for target, body in PAGES.items():
        service.says(target, body)


async def read(session: aiohttp.ClientSession, **options: Any) -> list[str]:
    return [row["ID"] async for row in odata.rows(session, "People", **options)]


@pytest.mark.parametrize(
    ("answers", "least"),
    [
        ([status(503)], 0.2),
        ([status(500), status(502), status(504)], 0.2 + 0.2 + 0.2),
        ([status(503)] * 4, 0.2 + 0.4 + 0.8 + 1.6),
        ([status(408), status(425)], 0.4),
        ([status(401), status(401), status(401)], 0.2 + 0.4 + 0.8),
        ([status(429, Retry_After="7")], 7.0),
        ([status(503, Retry_After="600")], 600.0),
        ([status(429)], 60.0),
        ([status(429), status(503), status(429)], 60.0 + 0.2 + 120.0),
        ([status(429, Retry_After="1"), status(429, Retry_After="1")], 1.0 + 1.0),
    ],
)
@pytest.mark.parametrize("target", PAGES)
async def test_it_is_waited_for(
    session: aiohttp.ClientSession,
    service: Service,
    clock: VirtualClock,
    target: str,
    answers: list[Answer],
    least: float,
) -> None:
    """The server's own pause, or one that grows; a 429 that names none is followed by a minute, then two."""
    refusing(service, target, *answers)
    assert await read(session) == ["1", "2"]
    assert least <= sum(clock.slept) <= 1.25 * least
    assert len(clock.slept) == len(answers)


async def test_no_answer(session: aiohttp.ClientSession, service: Service) -> None:
    """However often the connection breaks; aiohttp sends some of these again by itself."""
    refusing(service, "People", *[reset] * 5)
    assert await read(session) == ["1", "2"]
    assert len(service.targets) == 7


async def test_a_date_is_read_by_the_servers_own_clock(
    session: aiohttp.ClientSession, service: Service, clock: VirtualClock
) -> None:
    """Whatever this machine's clock and zone say."""
    date, at = "Tue, 24 Nov 2026 08:00:00 GMT", "Tue, 24 Nov 2026 08:00:30 GMT"
    refusing(service, "People", status(503, Date=date, Retry_After=at))
    assert await read(session) == ["1", "2"]
    assert clock.slept == [30.0]


async def test_it_is_given_up(session: aiohttp.ClientSession, service: Service, clock: VirtualClock) -> None:
    """After fifteen minutes, however many attempts that is, the last error comes out."""
    service.answers["/v1/odata/People?p=2"] = status(503)
    with pytest.raises(odata.ODataError, match="503") as it:
        await read(session)
    assert it.value.__context__ is None
    assert sum(clock.slept) == pytest.approx(900.0)
    assert max(clock.slept) <= 37.5
    assert len(service.targets) == 2 + len(clock.slept)


async def test_not_now_is_counted_for_each_page(
    session: aiohttp.ClientSession, service: Service, clock: VirtualClock
) -> None:
    """A page that came ends the count: a slow read is no failure."""
    for target in PAGES:
        refusing(service, target, status(503, Retry_After="800"))
    assert await read(session) == ["1", "2"]
    assert clock.slept == [800.0, 800.0]


@pytest.mark.parametrize(
    ("answer", "seconds", "requests"),
    [
        (status(503), 0.0, 1),
        (status(503, Retry_After="11"), 10.0, 1),
        (status(429), 59.0, 1),
        (status(429), 100.0, 2),
        (status(429), 200.0, 3),
        (status(429), float("inf"), None),
        (status(503), 0.1, 2),
    ],
)
async def test_how_long(
    session: aiohttp.ClientSession,
    service: Service,
    clock: VirtualClock,
    answer: Answer,
    seconds: float,
    requests: int | None,
) -> None:
    """The caller says it. A pause that the server asks for, and that is longer, is not begun."""
    refusing(service, "People", *[answer] * (requests or 4))
    if requests is None:
        assert await read(session, give_up_after=seconds) == ["1", "2"]
        return
    with pytest.raises(odata.ODataError):
        await read(session, give_up_after=seconds)
    assert len(service.targets) == requests
    assert sum(clock.slept) <= seconds + 1e-6


def test_it_can_be_said_to_pages_too() -> None:
    """The same word everywhere."""
    for seconds in (-1, float("nan"), "900", None, True):
        with pytest.raises(ConfigurationError, match="give_up_after is a number of seconds"):
            odata.pages(None, "People", give_up_after=seconds).asend(None).send(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [400, 403, 404, 409, 501])
async def test_what_does_not_pass(
    session: aiohttp.ClientSession, service: Service, clock: VirtualClock, code: int
) -> None:
    """Is not tried again."""
    service.answers["/v1/odata/People"] = status(code)
    with pytest.raises(odata.ODataError, match=str(code)):
        await read(session)
    assert clock.slept == []


async def test_a_token_that_is_refused_for_good(
    session: aiohttp.ClientSession, service: Service, clock: VirtualClock
) -> None:
    """Three times more, in case other hosts replace it at the same moment; then it is no matter of time."""
    service.answers["/v1/odata/People"] = status(401)
    with pytest.raises(odata.ODataError, match="401"):
        await read(session)
    assert len(clock.slept) == 3


@pytest.mark.parametrize(
    ("error", "slept"),
    [
        (lambda now: TemporarilyUnavailable("down", next_attempt_at=now + 40), 40.0),
        (lambda now: TemporarilyUnavailable("down", next_attempt_at=now - 40), 0.2),
        (lambda now: TemporarilyUnavailable("down"), 0.2),
        (lambda now: TemporarilyUnavailable("down", next_attempt_at=now + 1000), None),
        (lambda now: StoreError("away"), 0.2),
        (lambda now: UnknownOrganizationError("who"), None),
        (lambda now: TokenEndpointError("no", error="invalid_client", next_attempt_at=now), None),
    ],
)
async def test_errors_of_the_middleware(
    service: Service, clock: VirtualClock, error: Callable[[float], TribeOAuthError], slept: float | None
) -> None:
    """A token endpoint or a store that is away is waited for in the same way; others come out as they are."""
    raised: list[TribeOAuthError] = []

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if not raised:
            raised.append(error(clock.wall))
            raise raised[0]
        return await handler(request)

    async with aiohttp.ClientSession(service.base, middlewares=[middleware]) as session:
        if slept is None:
            with pytest.raises(TribeOAuthError) as it:
                await read(session)
            assert it.value is raised[0]
            assert clock.slept == []
        else:
            assert await read(session) == ["1", "2"]
            assert clock.slept == [pytest.approx(slept, rel=0.3)]


async def test_a_certificate_that_is_not_trusted(clock: VirtualClock) -> None:
    """It does not become right by waiting."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    runner = web.AppRunner(web.Application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    async with aiohttp.ClientSession(f"https://127.0.0.1:{runner.addresses[0][1]}") as session:
        with pytest.raises(odata.ODataError, match="Certificate"):
            await read(session)
    await runner.cleanup()
    assert clock.slept == []


async def test_it_is_told(session: aiohttp.ClientSession, service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """A read that seems to stand still says in the log why."""
    refusing(service, "People", status(503, Retry_After="600"))
    with caplog.at_level(logging.WARNING, "tribe_oauth.odata"):
        await read(session)
    assert [record.getMessage() for record in caplog.records] == [
        "a page is asked for again in 600.0 s: the API answered 503"
    ]


async def test_one_error_does_not_carry_another(session: aiohttp.ClientSession, service: Service) -> None:
    """After hundreds of attempts, what comes out is one traceback."""
    service.answers["/v1/odata/People"] = status(503)
    with pytest.raises(odata.ODataError) as it:
        await read(session, give_up_after=60)
    assert "".join(traceback.format_exception(it.value)).count("Traceback") == 1
