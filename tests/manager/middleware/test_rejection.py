from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from tribe_oauth import TribeOAuthError

from .test_replay import generator
from .world import Factory, Scene, scene

Large401 = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refuses_at_length(here: Scene) -> Large401:
    """A 401 whose body nobody has read holds its connection: a pool of one has none left."""

    async def answer(request: web.Request) -> web.StreamResponse:
        valid = request.headers.get("Authorization") == f"Bearer {here.world.valid}"
        return web.Response() if valid else web.Response(status=401, body=bytes(1 << 24))

    return answer


async def test_one_401_costs_one_refresh_and_one_more_request(make: Factory) -> None:
    """S22: the request that met the 401 succeeds; what comes after has the new token at once."""
    async with scene(make) as here:
        here.world.expire()
        for _ in range(2):
            async with here.session.get("/v1/rows") as response:
                assert response.status == 200
        assert here.api.authorizations == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]
        assert len(here.world.token_requests) == 1
        assert here.accepted == 2


async def test_a_second_401_is_returned(make: Factory) -> None:
    """S22: replayed once, and once only; a token that was never taken is not reported as a success."""
    async with scene(make) as here:
        here.world.valid = "none at all"
        async with here.session.get("/v1/rows") as response:
            assert (response.status, await response.text()) == (401, "who are you?")
        assert here.api.authorizations == ["Bearer token-1", "Bearer token-2"]
        assert here.source.refreshes == 1
        assert here.accepted == 0


async def test_a_token_that_stays_is_not_tried_again(make: Factory) -> None:
    """Where the source holds on to the rejected token, as it may, the 401 stands."""
    async with scene(make) as here:
        here.world.expire()
        here.world.issued = 0  # what the token endpoint gives next is token 1 again
        async with here.session.get("/v1/rows") as response:
            assert (response.status, await response.text()) == (401, "who are you?")
        assert here.api.authorizations == ["Bearer token-1"]


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
async def test_no_other_status_refreshes(make: Factory, status: int) -> None:
    """S22: 403 is about rights, and so on: another token would not help. Nor do they prove that this one was taken."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"WWW-Authenticate": "Bearer"})

    async with scene(make) as here:
        here.api.answer = answer
        async with here.session.get("/v1/rows") as response:
            assert response.status == status
        assert here.source.refreshes == 0
        assert here.accepted == 0


async def test_the_first_response_is_released(make: Factory) -> None:
    """S22: with a pool of one connection the replay does not wait for the one that the 401 holds."""
    async with scene(make) as here:
        here.world.expire()
        here.api.answer = refuses_at_length(here)
        async with here.session.get("/v1/rows") as response:
            assert response.status == 200


async def test_a_401_that_is_returned_can_be_read(make: Factory) -> None:
    """S22: a response is released only where there is another one to return."""
    async with scene(make) as here:
        here.world.expire()
        here.api.answer = refuses_at_length(here)
        async with here.session.post("/v1/rows", data=generator()) as response:
            assert len(await response.read()) == 1 << 24


async def test_a_refused_refresh_comes_out_of_the_request(make: Factory) -> None:
    """The library's own error, once, with one token request: aiohttp repeats a GET for some errors of its own."""
    async with scene(make) as here:
        async with here.session.get("/v1/rows") as response:
            assert response.status == 200  # from here on the connection is one that aiohttp would retry on
        here.world.expire()
        here.world.token_status = 401
        with pytest.raises(TribeOAuthError):
            await here.session.get("/v1/rows")
        assert here.api.authorizations == ["Bearer token-1"] * 3  # once more, since it was good for this before
        assert len(here.world.token_requests) == 1


async def test_a_refused_refresh_releases_the_response(make: Factory) -> None:
    """The connection is free for the next request."""
    async with scene(make) as here:
        here.world.expire()
        here.api.answer = refuses_at_length(here)
        here.world.token_status = 400
        with pytest.raises(TribeOAuthError):
            await here.session.get("/v1/rows")
        async with here.session.get(here.other.url()) as response:
            assert response.status == 200


async def test_an_error_of_the_library_shows_no_token(make: Factory) -> None:
    """S24, S25: neither its text, nor its traceback, nor a chained cause."""
    async with scene(make) as here:
        here.world.expire()
        here.world.token_status = 400
        with pytest.raises(TribeOAuthError) as caught:
            await here.session.get("/v1/rows")
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        assert "token-1" not in "".join(part for part in shown.format() if "world.py" not in part)


async def test_the_token_request_is_not_an_api_request(make: Factory) -> None:
    """A refresh does not pass through the middleware that asked for it: no old token goes to the token endpoint."""
    async with scene(make) as here:
        here.world.expire()
        async with here.session.get("/v1/rows") as response:
            assert response.status == 200
        assert [seen.authorization for seen in here.world.token_requests] == [None]


async def test_a_callers_time_out_ends_no_refresh(make: Factory) -> None:
    """The caller's time-out covers the middleware. It ends the waiting; the refresh goes on, and serves the next."""
    async with scene(make) as here:
        here.world.expire()
        here.world.token_may_go.clear()
        with pytest.raises(TimeoutError):
            await here.session.get("/v1/rows", timeout=aiohttp.ClientTimeout(total=0.3))
        assert here.world.token_asked.is_set()
        here.world.token_may_go.set()
        assert here.source.flight is not None
        await here.source.flight
        async with here.session.get("/v1/rows") as response:
            assert response.status == 200
        assert len(here.world.token_requests) == 1


async def test_a_cancelled_caller_ends_no_refresh_and_holds_no_connection(make: Factory) -> None:
    """Cancelled while it waits for the new token, a request leaves the pool of one connection free."""
    async with scene(make) as here:
        here.world.expire()
        here.world.token_may_go.clear()
        here.api.answer = refuses_at_length(here)
        caller = asyncio.create_task(_status(here))
        await here.world.token_asked.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        here.world.token_may_go.set()
        assert await _status(here) == 200
        assert len(here.world.token_requests) == 1


async def test_many_401s_at_once_ask_with_the_token_that_was_rejected(make: Factory) -> None:
    """S22: by generation: who comes late with an old token is given the newer one, without another refresh."""
    async with scene(make) as here:
        here.world.expire()
        assert await asyncio.gather(*(_status(here) for _ in range(50))) == [200] * 50
        assert len(here.world.token_requests) == 1
        assert set(here.api.authorizations) == {"Bearer token-1", "Bearer token-2"}


async def _status(here: Scene) -> int:
    async with here.session.get("/v1/rows") as response:
        return response.status
