from __future__ import annotations

import aiohttp
import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web

from .world import Factory, scene


class Recorder:
    """Another middleware of the caller's: sees a header pass, and may add one."""

    def __init__(self, added: str) -> None:
        self.added = added
        self.seen: list[str | None] = []
        self.statuses: list[int] = []

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        self.seen.append(request.headers.get("Authorization"))
        request.headers[self.added] = "yes"
        response = await handler(request)
        self.statuses.append(response.status)
        return response


async def test_a_websocket_has_the_token(make: Factory) -> None:
    """`ws_connect` runs the middlewares too, and its ``ws:`` is the API's ``http:``."""
    headers = []

    async def answer(request: web.Request) -> web.StreamResponse:
        headers.append(request.headers.get("Authorization"))
        if headers[-1] != "Bearer token-2":
            return web.Response(status=401)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        await socket.close()
        return socket

    async with scene(make) as here:
        here.api.answer = answer
        here.world.expire()
        for url in ("/v1/socket", here.api.url("/v1/socket"), here.api.url("/v1/socket").with_scheme("ws")):
            async with here.session.ws_connect(url) as socket:
                assert await socket.receive_str() == "hello"
        assert headers == ["Bearer token-1", "Bearer token-2", "Bearer token-2", "Bearer token-2"]
        assert here.accepted == 3


async def test_a_session_that_raises_for_status(make: Factory) -> None:
    """The 401 in the middle is not an error to the caller; the one at the end is."""
    async with scene(make) as here, here.another_session(raise_for_status=True) as session:
        here.world.expire()
        async with session.get("/v1/rows") as response:
            assert response.status == 200
        here.world.valid = "none at all"
        with pytest.raises(aiohttp.ClientResponseError, match="401"):
            await session.get("/v1/rows")
        assert len(here.api.seen) == 5


async def test_aiohttps_errors_show_no_token(make: Factory) -> None:
    """S24, S25: they carry the request's headers, and their repr shows those; the token is masked there."""
    async with scene(make) as here, here.another_session(raise_for_status=True) as session:
        here.world.valid = "none at all"
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            await session.get("/v1/rows")
        assert caught.value.request_info.headers["Authorization"] == "Bearer token-2"
        assert "Authorization" in repr(caught.value)
        assert "token-" not in f"{caught.value!r} {caught.value}"


async def test_no_middlewares_for_one_request(make: Factory) -> None:
    """``middlewares=()`` turns it off for a request."""
    async with scene(make) as here:
        async with here.session.get("/v1/rows", middlewares=()) as response:
            assert response.status == 401
        assert here.api.authorizations == [None]
        assert here.source.refreshes == 0


async def test_the_middleware_for_one_request(make: Factory) -> None:
    """Given with a request, it takes the place of the session's middlewares."""
    async with scene(make) as here, here.another_session(middlewares=()) as session:
        async with session.get("/v1/rows", middlewares=[here.middleware]) as response:
            assert response.status == 200
        async with session.get("/v1/rows") as response:
            assert response.status == 401


async def test_it_is_hashable_and_equal_to_itself_alone(make: Factory) -> None:
    """The chain of middlewares is cached by them: two organizations' must not be taken for one."""
    async with scene(make) as here:
        first, second = make(here.source), make(here.source)
        assert len({first, second, first}) == 2


async def test_others_around_it(make: Factory) -> None:
    """An outer middleware sees one request and no token; an inner one sees each attempt, with its token."""
    async with scene(make) as here:
        outer, inner = Recorder("X-Outer"), Recorder("X-Inner")
        async with here.another_session(middlewares=[outer, here.middleware, inner]) as session:
            here.world.expire()
            async with session.get("/v1/rows") as response:
                assert response.status == 200
                sent = response.request_info.headers
        assert (outer.seen, outer.statuses) == ([None], [200])
        assert (inner.seen, inner.statuses) == (["Bearer token-1", "Bearer token-2"], [401, 200])
        assert {"X-Outer", "X-Inner"} <= set(sent)
