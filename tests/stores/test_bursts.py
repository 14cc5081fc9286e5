"""Many calls at once: whoever waits for a store's own connections waits, and what has to be saved goes first."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tribe_oauth import RefreshTokenGrant, StoreError, TokenManager
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores import Record
from tribe_oauth.stores._turns import Turns, going_first
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.stores.redis import RedisStore

from . import servers
from .servers import RedisServer

TIMEOUT = 3.0
"""Seconds for one operation."""

FAR = 0.05
"""Seconds that each request needs to the server, so that few calls, and little work, last longer than one may take."""

TOO_MANY = int(1.2 * TIMEOUT / FAR)
"""Calls at once, for each connection of a store, that need longer than `TIMEOUT` on a machine of any speed."""


@asynccontextmanager
async def away(database: str, delay: float) -> AsyncIterator[str]:
    """A database to which each request needs `delay` seconds."""
    async with servers.forwarder(f"{database.split('?host=')[1]}/.s.PGSQL.5432", delay=delay) as (_, port):
        yield f"{database.split('?')[0]}?host=127.0.0.1&port={port}"


async def test_postgres_far_away(database: str) -> None:
    """Hundreds at once, for longer than one operation may take: none fails, and none before it is asked for."""
    async with away(database, FAR) as far_database:
        store = PostgresStore(far_database, pool_size=4, timeout=TIMEOUT)
        await store.create_schema()
        await put(store, record())
        begun = time.monotonic()
        found = await asyncio.gather(*(store.load("acme") for _ in range(4 * TOO_MANY)))
        assert time.monotonic() - begun > TIMEOUT
        assert all(found)
        await store.close()


async def test_redis_far_away(redis_server: RedisServer) -> None:
    """The same."""
    async with servers.forwarder(redis_server.url.removeprefix("unix://"), delay=FAR) as (_, port):
        store = RedisStore(f"redis://127.0.0.1:{port}", prefix=uuid.uuid4().hex, pool_size=1, timeout=TIMEOUT)
        await put(store, record())
        begun = time.monotonic()
        found = await asyncio.gather(*(store.load("acme") for _ in range(TOO_MANY)))
        assert time.monotonic() - begun > TIMEOUT
        assert all(found)
        await store.close()


async def test_organizations_due_at_once(database: str) -> None:
    """Every caller gets a token, though the database is far away and has time for a few at a time."""
    async with Sandbox() as sandbox, away(database, 0.01) as far_database:
        client, store = sandbox.client(), PostgresStore(far_database, timeout=1.5)
        await store.create_schema()
        keys = [f"org {number}" for number in range(150)]
        async with TokenManager(client, store=store) as manager:
            await asyncio.gather(
                *(manager.connect(key, RefreshTokenGrant(client, sandbox.paste_token(key))) for key in keys)
            )
            tokens = await asyncio.gather(*(manager.refresh(key) for key in keys))
            assert len({token.access_token for token in tokens}) == len(keys)
        await store.close()
        assert sandbox.ledger.spent_twice() == ()


async def test_a_server_that_stops_answering(database: str) -> None:
    """Who waits gives up when nobody was answered for as long as an operation may take, and not one after the other."""
    async with servers.forwarder(f"{database.split('?host=')[1]}/.s.PGSQL.5432") as (between, port):
        store = PostgresStore(f"{database.split('?')[0]}?host=127.0.0.1&port={port}", timeout=0.3)
        patient = PostgresStore(database)
        await patient.create_schema()
        await patient.close()
        between.target = "nowhere"
        begun = time.monotonic()
        found = await asyncio.gather(*(store.load("acme") for _ in range(100)), return_exceptions=True)
        assert time.monotonic() - begun < 3
        assert {str(error) for error in found} == {"the database did not answer within 0.3 s: look whether it runs"}
        await store.close()


# Turns


async def use(turns: Turns, seen: list[str], name: str, done: asyncio.Event) -> None:
    async with asyncio.timeout(10) as deadline, turns.turn(deadline):
        seen.append(name)
        await done.wait()
        turns.answered()


async def begin(turns: Turns, seen: list[str], *names: str) -> list[tuple[asyncio.Task[None], asyncio.Event]]:
    """Tasks that want a turn each, in this order."""
    begun = []
    for name in names:
        done = asyncio.Event()
        begun.append((asyncio.ensure_future(use(turns, seen, name, done)), done))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return begun


async def until(condition: list[str], length: int) -> None:
    async with asyncio.timeout(10):
        while len(condition) < length:  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0)


async def test_what_has_to_be_saved_goes_first() -> None:
    """In its own order, before all that waited before it."""
    turns, seen = Turns(1, 10.0), list[str]()
    waiting = await begin(turns, seen, "a", "b", "c")
    with going_first():
        waiting += await begin(turns, seen, "save 1", "save 2")
    for _, done in waiting:
        done.set()
    await asyncio.gather(*(task for task, _ in waiting))
    assert seen == ["a", "save 1", "save 2", "b", "c"]


async def test_the_deadline_stands_still() -> None:
    """Its time begins with the turn, and is no longer for the wait."""
    turns, seen = Turns(1, 10.0), list[str]()
    ((first, done),) = await begin(turns, seen, "first")
    loop = asyncio.get_running_loop()

    async def second() -> tuple[float, float]:
        began = loop.time()
        async with asyncio.timeout(5) as deadline, turns.turn(deadline):
            ends = deadline.when()
            assert ends is not None
            return ends - loop.time(), loop.time() - began

    waiting = asyncio.ensure_future(second())
    _, pending = await asyncio.wait([waiting], timeout=0.05)
    assert pending
    done.set()
    await first
    left, waited = await waiting
    assert waited >= 0.05
    assert 4.9 < left <= 5


async def test_nobody_is_answered() -> None:
    """Then those who wait give up, and their places are nobody's."""
    turns, seen = Turns(1, 0.05), list[str]()
    (first, *late) = await begin(turns, seen, "first", "late", "late")
    for task, _ in late:
        with pytest.raises(TimeoutError):
            await task
    first[1].set()
    await first[0]
    ((task, done),) = await begin(turns, seen, "next")
    done.set()
    await task
    assert seen == ["first", "next"]


async def test_others_are_answered() -> None:
    """As long as the queue moves, who is in it stays, for longer than its patience, and in its place."""
    turns, seen = Turns(1, 0.2), list[str]()
    tasks = await begin(turns, seen, *map(str, range(5)))
    for number, (task, done) in enumerate(tasks):
        await until(seen, number + 1)
        await asyncio.wait([task], timeout=0.1)
        done.set()
    await asyncio.gather(*(task for task, _ in tasks))
    assert seen == list(map(str, range(5)))


async def test_a_turn_that_is_given_to_one_who_leaves() -> None:
    """It is passed on; so is one that is given in the moment of leaving."""
    for steps in range(4):
        turns, seen = Turns(1, 10.0), list[str]()
        (first, leaver, last) = await begin(turns, seen, "first", "leaver", "last")
        first[1].set()
        for _ in range(steps):
            await asyncio.sleep(0)
        leaver[0].cancel()
        last[1].set()
        with pytest.raises(asyncio.CancelledError):
            await leaver[0]
        await asyncio.wait_for(last[0], 10)
        assert seen[-1] == "last"


async def test_commits_go_first(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refresh token that was spent is saved before others look at what they have."""
    async with Sandbox() as sandbox:
        client, store = sandbox.client(), PostgresStore(database, pool_size=1)
        await store.create_schema()
        async with TokenManager(client, store=store) as manager:
            await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
            fault = sandbox.fault("hang")
            refreshing = asyncio.ensure_future(manager.refresh("acme"))
            await fault.reached()
            order: list[str] = []
            swap = PostgresStore.swap

            async def noted(store: PostgresStore, record: Record, *, lease_for: float | None = None) -> Record | None:
                stored = await swap(store, record, lease_for=lease_for)
                order.append("saved")
                return stored

            monkeypatch.setattr(PostgresStore, "swap", noted)
            looks: list[asyncio.Future[None]] = []

            async def look() -> None:
                await store.load("acme")
                order.append("looked")

            assert store._pool is not None
            async with asyncio.timeout(30) as deadline, store._pool.connection(deadline):
                looks = [asyncio.ensure_future(look()) for _ in range(20)]
                fault.cancel()
                async with asyncio.timeout(30):
                    while not store._pool._turns._first:  # noqa: ASYNC110 (there is no event to wait for)
                        await asyncio.sleep(0.001)
            await asyncio.gather(refreshing, *looks)
        assert order[0] == "saved"
        await store.close()


async def test_the_error_of_who_gave_up(redis_server: RedisServer) -> None:
    """It is the store's own, and when the server answers again, so does the store."""
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex, pool_size=1, timeout=0.2)
    stored = await put(store, record())
    with redis_server.frozen():
        found = await asyncio.gather(*(store.load("acme") for _ in range(10)), return_exceptions=True)
    assert {type(error) for error in found} == {StoreError}
    assert await store.load("acme") == stored
    await store.close()
