"""The API's limit over real sockets: what counts as a call, what gives a slot back, and who is told what."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tribe_oauth import MemoryStore, RateLimit, RefreshTokenGrant, TokenManager
from tribe_oauth._limit.line import Line
from tribe_oauth._limit.reservation import UNLIMITED, reserve
from tribe_oauth._limit.window import Window
from tribe_oauth._manager.calls import AllCalls
from tribe_oauth.errors import TemporarilyUnavailable
from tribe_oauth.sandbox._application import environment
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.sqlite import SQLiteStore

from .conftest import MakeManager
from .helpers import TokenServer

PATH = "/v1/odata/Relation_Person"
THREE = RateLimit(calls=3, seconds=60.0, longest_wait=0.1)


@pytest.fixture
async def manager(make_manager: MakeManager, server: TokenServer) -> TokenManager:
    return await connected(make_manager, server, THREE)


async def connected(make: MakeManager, server: TokenServer, limit: RateLimit | None) -> TokenManager:
    manager = make(rate_limit=limit)
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    return manager


def line_of(manager: TokenManager, organization: str = "acme") -> Line:
    limits = manager._calls._limits
    assert limits is not None
    return limits.line("client", organization)


def held(manager: TokenManager) -> int:
    line = line_of(manager)
    assert isinstance(line, Window)
    return sum(kind.free(manager._monotonic()) for kind in line._held)


async def get(session: aiohttp.ClientSession, path: str = PATH) -> int:
    async with session.get(path) as response:
        return response.status


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


def answering(*answers: Callable[[], web.StreamResponse]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    left = list(answers)

    async def answer(request: web.Request) -> web.StreamResponse:
        return left.pop(0)()

    return answer


async def test_every_request_is_a_call(manager: TokenManager) -> None:
    """The fourth of three waits for its turn, and hears after `longest_wait` when that comes; nothing was sent."""
    async with manager.session("acme") as session:
        assert [await get(session) for _ in range(3)] == [200] * 3
        with pytest.raises(TemporarilyUnavailable, match="organization 'acme': its limit of 3 calls in 60 s") as error:
            await get(session)
    assert error.value.next_attempt_at == pytest.approx(manager._context.clock.time() + 60, abs=1)


async def test_all_sessions_of_an_organization_are_one(manager: TokenManager, server: TokenServer) -> None:
    """Also the one that names no organization, and a session of the caller's own."""
    own = aiohttp.ClientSession(server.base, middlewares=[manager.middleware(background=True)])
    async with manager.session("acme") as session, manager.session() as another, own:
        assert [await get(each) for each in (session, another, own)] == [200] * 3
        for each in (session, another, own):
            with pytest.raises(TemporarilyUnavailable):
                await get(each)


async def test_each_organization_has_its_own(manager: TokenManager, server: TokenServer) -> None:
    """What one has used up takes nothing from another."""
    await manager.connect("beta", RefreshTokenGrant(server.client(), server.paste()))
    async with manager.session("acme") as acme, manager.session("beta") as beta:
        for session in (acme, beta):
            assert [await get(session) for _ in range(3)] == [200] * 3


async def test_each_hop_and_each_attempt_is_a_call(manager: TokenManager, server: TokenServer) -> None:
    """A redirect to the API takes another slot, and so does the second try after a 401."""

    def redirect() -> web.StreamResponse:
        return web.HTTPFound(PATH)

    server.api_answers = answering(redirect, web.Response)
    async with manager.session("acme") as session:
        assert await get(session) == 200
        assert held(manager) == 2


async def test_the_second_try_after_a_401(make_manager: MakeManager, server: TokenServer) -> None:
    """It is a call as the first was, and waits for its turn as that did."""
    manager = await connected(make_manager, server, THREE)
    server.api_answers = answering(lambda: web.Response(status=401), web.Response, lambda: web.Response(status=401))
    async with manager.session("acme") as session:
        assert await get(session) == 200
        assert held(manager) == 2
        with pytest.raises(TemporarilyUnavailable):
            await get(session)


async def test_another_host_is_no_call(manager: TokenManager, server: TokenServer) -> None:
    """The limit is the API's."""
    elsewhere = server.base.replace("127.0.0.1", "localhost")
    async with manager.session("acme") as session:
        assert await get(session, f"{elsewhere}{PATH}") == 401
    assert held(manager) == 0


async def test_what_was_not_sent_is_no_call(make_manager: MakeManager, server: TokenServer) -> None:
    """Without a connection nothing was sent; without an answer it may have been."""

    async def hang(request: web.Request) -> web.StreamResponse:
        server.arrived.set()
        await server.released.wait()
        return web.Response()

    class NoConnection(aiohttp.BaseConnector):
        async def connect(self, *_: object, **__: object) -> None:  # type: ignore[override]
            raise aiohttp.ClientConnectorError(None, OSError("refused"))  # type: ignore[arg-type]

    manager = await connected(make_manager, server, THREE)
    async with aiohttp.ClientSession(
        server.base, connector=NoConnection(), middlewares=[manager.middleware("acme")]
    ) as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await get(session)
    assert held(manager) == 0
    server.api_answers = hang
    server.arrived.clear()
    async with manager.session("acme") as session:
        asking = asyncio.ensure_future(get(session))
        await server.arrived.wait()
        asking.cancel()
        await asyncio.wait([asking])
    assert held(manager) == 1


async def test_a_token_that_was_replaced_while_it_waited(make_manager: MakeManager, server: TokenServer) -> None:
    """The request goes with the token of the moment in which it goes."""
    manager = await connected(make_manager, server, RateLimit(calls=1, seconds=60.0, longest_wait=30.0))
    lot = line_of(manager).take(False)
    assert lot is not None
    async with manager.session("acme") as session:
        asking = asyncio.ensure_future(get(session))
        await until(lambda: line_of(manager).waits)
        await manager.refresh("acme")
        server.access = {(await manager.token("acme")).access_token.reveal()}
        forms = len(server.forms)
        lot.unused()
        assert await asking == 200
    assert len(server.forms) == forms


async def test_a_429_stops_the_organization(make_manager: MakeManager, server: TokenServer) -> None:
    """The answer is the caller's; the next request hears how long it would have to wait, and is not sent."""
    manager = await connected(make_manager, server, RateLimit(longest_wait=5.0))
    server.api_answers = answering(lambda: web.Response(status=429))
    async with manager.session("acme") as session:
        assert await get(session) == 429
        with pytest.raises(TemporarilyUnavailable, match=r"the API refused more calls \(429\)"):
            await get(session)


async def test_without_a_limit(make_manager: MakeManager, server: TokenServer) -> None:
    """None turns it off: whatever comes goes."""
    manager = await connected(make_manager, server, None)
    server.api_answers = answering(lambda: web.Response(status=429), web.Response)
    async with manager.session("acme", background=True) as session:
        assert [await get(session) for _ in range(2)] == [429, 200]
        with await reserve(session, 1.0):
            server.api_answers = None
            assert await get(session) == 200


async def test_a_reserved_slot_is_that_of_the_next_request(manager: TokenManager) -> None:
    """Of one request; the next has one of its own, and what was not used goes back."""
    async with manager.session("acme", background=True) as session:
        with await reserve(session, 1.0):
            assert held(manager) == 1
            assert await get(session) == 200
            assert held(manager) == 1
            assert await get(session) == 200
            assert held(manager) == 2
        with await reserve(session, 1.0):
            assert held(manager) == 3
        assert held(manager) == 2
    async with aiohttp.ClientSession() as another:
        with await reserve(another, 1.0):
            assert held(manager) == 2


async def test_an_export_waits_as_long_as_it_takes(make_manager: MakeManager, server: TokenServer) -> None:
    """Its slot comes when it comes: `longest_wait` is for requests that somebody waits for."""
    manager = await connected(make_manager, server, RateLimit(calls=1, seconds=60.0, longest_wait=0.0))
    lot = line_of(manager).take(False)
    assert lot is not None
    async with manager.session("acme", background=True) as session:
        reserving = asyncio.ensure_future(reserve(session, 900.0))
        await asyncio.sleep(0.05)
        assert not reserving.done()
        lot.unused()
        with await reserving:
            assert await get(session) == 200


@pytest.mark.parametrize("encrypted", [False, True])
async def test_managers_on_one_store_share_it(encrypted: bool, tmp_path: Path, server: TokenServer) -> None:
    """Two have three calls together, of which each takes what it needs."""
    key, limit = generate_key(), RateLimit(calls=3)

    def make() -> TokenManager:
        sqlite = SQLiteStore(tmp_path / "tribe.db")
        return TokenManager(
            server.client(), store=EncryptedStore(sqlite, [key]) if encrypted else sqlite, rate_limit=limit
        )

    async with make() as one, make() as other:
        await one.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
        async with one.session("acme") as ours, other.session("acme") as theirs:
            assert [await get(session) for session in (ours, theirs, theirs)] == [200] * 3
            for session in (ours, theirs):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(get(session), 0.2)


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("is_there", [False, True])
async def test_a_limit_makes_no_database(
    encrypted: bool, is_there: bool, tmp_path: Path, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Client credentials of the environment connect in memory; a database that is there shares their limit."""
    path, client = tmp_path / "tribe.db", server.client()
    for name in [name for name in os.environ if name.startswith("TRIBE_")]:
        monkeypatch.delenv(name)
    for name, value in {**environment(server.base, client), "TRIBE_STORE": str(path)}.items():
        monkeypatch.setenv(name, value)
    if encrypted:
        monkeypatch.setenv("TRIBE_STORE_KEYS", generate_key().reveal())
    if is_there:
        store = SQLiteStore(path)
        await store.put("key", b"value", lives_for=1.0)
        await store.close()
    async with TokenManager.from_env() as manager, manager.session() as session:
        assert await get(session) == 200
        limits = manager._calls._limits
        assert limits is not None
        (line,) = limits._lines.values()
        assert isinstance(line, Window) is not is_there
    assert path.exists() is is_there


async def test_an_organization_that_sends_nothing_holds_no_memory(server: TokenServer) -> None:
    """Its line is gone a moment after its last slot."""
    limit = RateLimit(calls=5, seconds=0.05)
    async with TokenManager(server.client(), store=MemoryStore(), rate_limit=limit, quiet=0.0) as manager:
        await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
        async with manager.session("acme") as session:
            assert await get(session) == 200
            limits = manager._calls._limits
            assert limits is not None
            await until(lambda: not limits._lines)
            assert await get(session) == 200


def test_calls_without_a_limit_have_nothing_to_end() -> None:
    """Closing and a new event loop change nothing."""
    manager = TokenManager(rate_limit=None)
    assert isinstance(manager._calls, AllCalls)
    manager._calls.forget_loop()
    assert asyncio.run(UNLIMITED.turn()) is UNLIMITED.take()
    asyncio.run(manager._calls.close())
