"""A 401 of the API: what it says about the token, and how many rotations it may cost (S22, F21)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiohttp import web

from tribe_oauth import ClientCredentialsGrant, MemoryStore, RefreshTokenGrant, TokenManager
from tribe_oauth._refresh.payload import decode
from tribe_oauth._refresh.rejections import Acceptance, Belief, counted, is_too_soon

from .conftest import MakeManager
from .helpers import TokenServer, VirtualClock

HOUR = 3600


class Api:
    """Takes the token of the server, but at the paths that are barred."""

    def __init__(self, server: TokenServer) -> None:
        self.server = server
        self.barred: set[str] = set()
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        token = request.headers["Authorization"].removeprefix("Bearer ")
        good = token in self.server.access and not any(request.path.startswith(path) for path in self.barred)
        return web.json_response({"value": []}, status=200 if good else 401, headers=self.headers)


@pytest.fixture
def api(server: TokenServer) -> Api:
    api = Api(server)
    server.api_answers = lambda request: api.handle(request)
    return api


async def get(manager: TokenManager, path: str) -> int:
    """One request of a session of its own, as in a handler."""
    async with manager.session("acme") as session, session.get(f"/v1/odata/{path}") as response:
        return response.status


async def test_one_path_that_is_barred(
    manager: TokenManager, server: TokenServer, api: Api, clock: VirtualClock
) -> None:
    """A right is missing for one set; the others take the token: a hundred page views make no rotation."""
    api.barred = {"/v1/odata/Secret"}
    for _ in range(100):
        assert await get(manager, "Relation_Person") == 200
        assert await get(manager, "Secret") == 401
        clock.advance(1)
    assert len(server.refreshes()) == 1


async def test_the_only_path_is_barred(
    manager: TokenManager, server: TokenServer, api: Api, clock: VirtualClock
) -> None:
    """A service that uses no other cannot know: at once, then ever more rarely, and never more than 50 a day."""
    api.barred = {"/v1/odata/Secret"}
    for _ in range(0, 2 * HOUR, 3):
        assert await get(manager, "Secret") == 401
        clock.advance(3)
    assert 2 <= len(server.refreshes()) <= 9


async def test_a_revocation_is_recovered_from_at_once(
    manager: TokenManager, server: TokenServer, api: Api, clock: VirtualClock
) -> None:
    """A set that took this very token refuses it: it is asked once more, believed, and the request succeeds."""
    assert await get(manager, "Relation_Person(1)") == 200
    for _ in range(3):
        server.access.clear()
        api.asked.clear()
        assert await get(manager, "Relation_Person(2)/Phones") == 200
        assert len(api.asked) == 3
        clock.advance(6)
    assert len(server.refreshes()) == 4


async def test_a_refusal_that_passes(manager: TokenManager, server: TokenServer, api: Api) -> None:
    """An API that stumbles once takes the same token at the second try: nothing is rotated."""
    assert await get(manager, "Relation_Person") == 200
    refused: list[Callable[[], None]] = [lambda: None]
    handle = api.handle

    async def stumble(request: web.Request) -> web.StreamResponse:
        if refused:
            refused.pop()
            return web.Response(status=401)
        return await handle(request)

    api.handle = stumble  # type: ignore[method-assign]
    assert await get(manager, "Relation_Person") == 200
    assert len(server.refreshes()) == 1


async def test_a_scope_that_is_not_enough(manager: TokenManager, server: TokenServer, api: Api) -> None:
    """RFC 6750 §3.1: no other token has more of it."""
    api.barred = {"/v1/odata/"}
    api.headers = {"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="write"'}
    for _ in range(10):
        assert await get(manager, "Relation_Person") == 401
    assert len(server.refreshes()) == 1
    assert len(api.asked) == 10


async def test_the_count_stands_in_the_record(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, store: MemoryStore, api: Api,
    clock: VirtualClock,
) -> None:  # fmt: skip
    """Written with the commit, and so the same for all processes, and after a restart; forgotten after two hours."""
    api.barred = {"/v1/odata/Secret"}
    for _ in range(5):
        assert await get(make_manager(), "Secret") == 401
    assert len(server.refreshes()) == 2
    record = await store.load("acme")
    assert record is not None
    assert decode(record).rejections == 1
    await manager.refresh("acme")
    record = await store.load("acme")
    assert record is not None
    assert decode(record).rejections == 1
    clock.advance(2 * HOUR)
    assert await get(make_manager(), "Secret") == 401
    record = await store.load("acme")
    assert record is not None
    assert decode(record).rejections == 1


async def test_client_credentials(
    make_manager: MakeManager, server: TokenServer, api: Api, clock: VirtualClock
) -> None:
    """Where tokens are not stored, memory counts; connecting again begins anew."""
    manager = make_manager()
    await manager.connect("acme", ClientCredentialsGrant(server.client()))
    api.barred = {"/v1/odata/Secret"}
    for _ in range(300):
        assert await get(manager, "Secret") == 401
        clock.advance(1)
    assert len(server.forms) == 1 + 3  # at once, after 60 and after 120 seconds
    await manager.disconnect("acme")
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    assert await get(manager, "Relation_Person") == 200


@pytest.mark.parametrize(
    ("count", "seconds", "sure", "too_soon"),
    [
        (0, 0.0, False, False),
        (1, 59.0, False, True),
        (1, 60.0, False, False),
        (2, 119.0, False, True),
        (1, 4.0, True, True),
        (2, 5.0, True, False),
        (3, 239.0, True, True),
        (3, 240.0, True, False),
        (9, 2399.0, True, True),
        (9, 2400.0, False, False),
        (9, 7200.0, False, False),
        (1, -14.0, True, True),
        (9, -60.0, False, True),
        (9, -61.0, False, False),
    ],
)
def test_pauses(count: int, seconds: float, sure: bool, too_soon: bool) -> None:
    """At once, then 60 s twice as long each time, up to 2,400; sure ones 5 s apart at first.

    Another host's clock may be ahead by a minute; by more, it says nothing.
    """
    assert is_too_soon(count, seconds, sure=sure) == too_soon
    assert counted(count, seconds) == (count + 1 if -60 <= seconds < 7200 else 1)


async def test_what_was_accepted(manager: TokenManager) -> None:
    """Of this very token, by set, for a while; in bounded memory."""
    now = [0.0]
    acceptance, token = Acceptance(lambda: now[0]), await manager.token("acme")
    assert acceptance.belief(token) is Belief.POSSIBLE
    for number in range(2_000):
        acceptance.accepted(token, f"/v1/odata/Set{number}(1)")
    assert acceptance.is_known(token, "/v1/odata/Set5(2)/Phones")
    assert not acceptance.is_known(token, "/v1/odata/Set1999")
    assert acceptance.belief(token) is Belief.DOUBTED
    now[0] = 60.0
    assert acceptance.belief(token) is Belief.POSSIBLE
    other = await manager.refresh("acme")
    assert not acceptance.is_known(other, "/v1/odata/Set5")
