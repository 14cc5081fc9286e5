"""What a handler's caller is told of the library's errors: a status, the way to reconnect, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.client_exceptions import ClientPayloadError
from yarl import URL

from tribe_oauth import (
    CallbackError,
    ReauthorizationRequired,
    StoreError,
    TokenEndpointError,
    TokenManager,
    TribeOAuthError,
    UnknownOrganizationError,
    odata,
)
from tribe_oauth import web as tribe_web
from tribe_oauth.errors import ConfigurationError, ManagerError, ScopeError, TemporarilyUnavailable

from .world import World, account, browsing, listening, serving, world

SECRET = "canary-of-another-tenant"
NOW = 1_800_000_000.0


@asynccontextmanager
async def raising(
    error: Exception | Callable[[web.Request], Any], reconnect: Any = None, outer: Any = ()
) -> AsyncIterator[str]:
    """The address of an application without `setup`, whose one handler raises."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if isinstance(error, Exception):
            raise error
        await error(request)
        raise AssertionError

    app = web.Application(middlewares=[*outer, tribe_web.error_middleware(reconnect=reconnect)])
    app.router.add_get("/", handler)
    listener = listening()
    async with serving(app, listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


async def answer_to(error: Exception | Callable[[web.Request], Any], **options: Any) -> tuple[int, Any, str]:
    async with (
        raising(error, **options) as url,
        ClientSession() as session,
        session.get(url, allow_redirects=False) as response,
    ):
        return response.status, response.headers, await response.text()


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (UnknownOrganizationError(SECRET, organization=SECRET), 404, None),
        (odata.ODataError(SECRET, status=404), 404, None),
        (odata.ODataError(SECRET, status=410), 404, None),
        (ReauthorizationRequired("lost rotation", organization=SECRET), 403, None),
        (odata.ODataError(SECRET, status=403), 403, None),
        (CallbackError(SECRET), 403, None),
        (odata.ODataError(SECRET, status=400), 502, None),
        (odata.ODataError(SECRET, status=401), 502, None),
        (TokenEndpointError(SECRET, error="invalid_client"), 502, None),
        (ScopeError(SECRET, error="insufficient_scope"), 502, None),
        (TribeOAuthError(SECRET), 502, None),
        (odata.ODataError(SECRET, status=503, retryable=True, retry_after=7.2), 503, "8"),
        (odata.ODataError(SECRET, status=503, retryable=True, retry_after=0.0), 503, "1"),
        (odata.ODataError(SECRET, status=429, retryable=True), 503, "60"),
        (odata.ODataError(SECRET, retryable=True), 503, "5"),
        (TemporarilyUnavailable(SECRET, next_attempt_at=NOW + 90), 503, "90"),
        (TemporarilyUnavailable(SECRET, next_attempt_at=NOW - 90), 503, "1"),
        (TemporarilyUnavailable(SECRET), 503, "5"),
        (StoreError(SECRET), 503, "5"),
        (ManagerError(SECRET), 503, "5"),
    ],
    ids=repr,
)
async def test_what_it_is(
    monkeypatch: pytest.MonkeyPatch, error: TribeOAuthError, status: int, retry_after: str | None
) -> None:
    """The status says whose fault it is, and whether and when to try again; the text is the library's own."""
    monkeypatch.setattr("tribe_oauth.web._errors.time.time", lambda: NOW)
    answered, headers, text = await answer_to(error)
    assert (answered, headers.get("Retry-After")) == (status, retry_after)
    assert SECRET not in text + str(headers)
    assert text.endswith(".")


async def test_the_log_has_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    """For those who run the application: what cannot be had now is a warning, what is wrong an error."""
    with caplog.at_level(logging.INFO, "tribe_oauth.web.errors"):
        await answer_to(StoreError("the disk is away"))
        await answer_to(odata.ODataError("the API answered 400: no such field", status=400))
        await answer_to(UnknownOrganizationError("who"))
    assert [(it.levelname, it.getMessage()) for it in caplog.records if it.name == "tribe_oauth.web.errors"] == [
        ("WARNING", "not now: the disk is away"),
        ("ERROR", "a request to Tribe failed: the API answered 400: no such field"),
    ]


@pytest.mark.parametrize("error", [ConfigurationError("call setup()"), ValueError("a bug")])
async def test_what_is_left_alone(error: Exception) -> None:
    """A mistake of the application is a 500, with its traceback in aiohttp's log."""
    assert (await answer_to(error))[0] == 500


async def test_what_the_application_raises_itself() -> None:
    """Its own answers pass."""
    assert (await answer_to(web.HTTPConflict()))[0] == 409


@pytest.mark.parametrize("rows", [b"row\n", b""])
@pytest.mark.parametrize("chunked", [True, False])
async def test_an_answer_that_has_begun(chunked: bool, rows: bytes) -> None:
    """Nobody takes a half for the whole, or a second head for a row."""

    async def begin(request: web.Request) -> None:
        response = web.StreamResponse()
        if chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = 100
        await response.prepare(request)
        await response.write(rows)
        raise StoreError("away")

    async with raising(begin) as url, ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        with pytest.raises(ClientPayloadError):
            await response.read()


async def test_pages_of_ones_own() -> None:
    """They are aiohttp's HTTP exceptions: a middleware around it does the rest."""

    @web.middleware
    async def pages(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            return web.json_response({"problem": error.text}, status=error.status)
        return response

    status, _headers, text = await answer_to(UnknownOrganizationError("who"), outer=[pages])
    assert (status, text) == (404, '{"problem": "This organization is not connected."}')


async def later(request: web.Request, organization: str) -> str:
    return f"/connect/{organization}"


@pytest.mark.parametrize(
    ("reconnect", "status", "location"),
    [
        (
            lambda request, organization: f"/connect?again={organization}&next={request.path}",
            303,
            "/connect?again=acme&next=/",
        ),
        (later, 303, "/connect/acme"),
        (lambda request, organization: URL("/connect").with_query(again="a&b=c d"), 303, "/connect?again=a%26b%3Dc+d"),
        (lambda request, organization: web.json_response({"reconnect": organization}, status=409), 409, None),
        (lambda request, organization: web.HTTPFound("/x"), 302, "/x"),
    ],
)
async def test_the_way_to_reconnect(reconnect: Any, status: int, location: str | None) -> None:
    """The application's own function says it: an address, an answer, or later."""
    answered, headers, _text = await answer_to(
        ReauthorizationRequired("expired", organization="acme"), reconnect=reconnect
    )
    assert (answered, headers.get("Location")) == (status, location)


async def test_an_organization_that_is_not_named() -> None:
    """There is nothing to reconnect, then."""
    assert (await answer_to(ReauthorizationRequired("expired"), reconnect=later))[0] == 403


# With setup(): tenants


def build(reads: Callable[[web.Request], Any]) -> Callable[[web.Application, TokenManager], web.Application]:
    def with_handlers(_app: web.Application, manager: TokenManager) -> web.Application:
        def reconnect(request: web.Request, organization: str) -> str:
            return f"/tribe/connect?again={organization}"

        async def persons(request: web.Request) -> web.StreamResponse:
            async with reads(request) as session:
                return web.json_response([row["ID"] async for row in odata.rows(session, "Relation_Person", top=3)])

        app = web.Application(middlewares=[tribe_web.error_middleware(reconnect=reconnect)])
        tribe_web.setup(app, manager, authorize=account)
        app.router.add_get("/persons/{organization}", persons)
        return app

    return with_handlers


def of_the_tenant(request: web.Request) -> Any:
    return tribe_web.session(request, request.match_info["organization"])


def of_anns(request: web.Request) -> Any:
    """A handler that reads one tenant's organization for all."""
    return request.config_dict[tribe_web.MANAGER].session(f"ann:{request.match_info['organization']}")


async def test_a_tenants_way() -> None:
    """Connected: rows. Taken back: the way to connect again, by the tenant's own name of it. Another's: 404."""
    async with world(build=build(of_the_tenant)) as there, browsing(there) as browser:
        acme = there.sandbox.organizations["Acme"]
        assert (await browser.get(f"/persons/{acme}")).status == 404
        assert (await browser.connect()).outcome == "connected"
        assert (await browser.get(f"/persons/{acme}")).text.count('"') == 6
        async with browsing(there, "bob") as other:
            assert (await other.get(f"/persons/{acme}")).status == 404
        async with browsing(there, None) as stranger:
            assert (await stranger.get(f"/persons/{acme}")).status == 403
        await taken_back(there, f"ann:{acme}")
        seen = await browser.get(f"/persons/{acme}")
        assert (seen.status, seen.location) == (303, f"/tribe/connect?again={acme}")
        assert (await browser.get(seen.location)).status == 303


async def test_another_tenants_organization_is_not_named() -> None:
    """Where a handler reads from one tenant's organization for all, others cannot reconnect it, nor see its name."""
    async with world(build=build(of_anns)) as there, browsing(there) as browser:
        acme = there.sandbox.organizations["Acme"]
        assert (await browser.connect()).outcome == "connected"
        await taken_back(there, f"ann:{acme}")
        async with browsing(there, "bob") as other:
            seen = await other.get(f"/persons/{acme}")
            assert seen.status == 502
            assert "ann" not in seen.text + str(seen.headers)


async def taken_back(there: World, key: str) -> None:
    """Tribe no longer takes the refresh token, and the access token is over."""
    there.sandbox.expire("Acme")
    there.sandbox.fault("status", status=400, body='{"error": "invalid_grant"}', content_type="application/json")
    with pytest.raises(ReauthorizationRequired):
        await there.manager.refresh(key)
