"""Stores that vanish, forget or break their contract, and clocks that are years off (F14, F19)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import attrs
import pytest
from aiohttp import ServerDisconnectedError

from tribe_oauth import MemoryStore, RefreshTokenGrant, StoreError, TokenManager
from tribe_oauth._refresh.payload import decode
from tribe_oauth.errors import ManagerError, ReauthorizationRequired
from tribe_oauth.stores import Record

from .conftest import MakeManager
from .helpers import Form, TokenServer, VirtualClock, held_back, oauth_error, reset, until

DAY, YEAR = 86_400, 365 * 86_400


async def stored(store: MemoryStore) -> Record:
    record = await store.load("acme")
    assert record is not None
    return record


def empty(store: MemoryStore, clock: VirtualClock) -> None:
    """The store comes back with nothing in it."""
    store.__dict__.update(MemoryStore(clock=clock.monotonic).__dict__)


# A store that loses what it had, while a refresh is on the wire


@pytest.mark.parametrize("back", [None, 1, 2])
async def test_a_store_that_forgets_during_a_request(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock, back: int | None
) -> None:
    """It was emptied, or a copy of one or two generations ago put back: the answer is saved, and nothing revoked."""
    copies = [await stored(store)]
    for _ in range(3):
        await manager.refresh("acme")
        copies.append(await stored(store))
    server.order(held_back(server))
    server.arrived.clear()
    refreshing = asyncio.ensure_future(manager.refresh("acme"))
    await server.arrived.wait()
    empty(store, clock)
    if back is not None:
        await store.swap(attrs.evolve(copies[-1 - back], version=0))
    server.released.set()
    token = await refreshing
    record = await stored(store)
    assert record.generation == copies[-1].generation + 1
    assert decode(record).token == token
    assert server.revoked == []
    assert len(set(server.refreshes())) == len(server.refreshes())


async def test_a_store_that_forgets_while_an_answer_is_lost(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """What may be spent is still known to this process: the resend waits, and a refusal is told as a lost rotation."""

    async def lose(form: Form, request: Any) -> Any:
        server.issue(form)
        empty(store, clock)
        return await reset(form, request)

    clock.advance(DAY)
    server.order(lose)
    with pytest.raises(ReauthorizationRequired, match="lost rotation"):
        await manager.token("acme")
    assert (await stored(store)).maybe_spent


async def test_a_peer_that_writes_back_does_not_know_who_has_sent(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """With the record its lease was lost: a host that restores it from memory holds off before it sends."""
    peer = make_manager()
    await peer.token("acme")
    clock.advance(DAY)
    empty(store, clock)
    clock.slept.clear()
    await peer.token("acme")
    assert sum(clock.slept) >= 10


# Holding off, in sight of the store


async def dead_holder(store: MemoryStore) -> None:
    """A lease whose holder has died, and that has run out."""
    record = await stored(store)
    await store.swap(attrs.evolve(record, lease=f"{record.family}:dead"), lease_for=1)


class Sight:
    """Makes calls of the store fail, or slow, by their number."""

    def __init__(self, store: MemoryStore, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.faults: dict[int, Callable[[], Awaitable[None]]] = {}
        self.calls, self.writes = 0, False
        self._load, self._swap = store.load, store.swap
        monkeypatch.setattr(store, "load", self.load)
        monkeypatch.setattr(store, "swap", self.swap)

    async def _call(self, *, writes: bool) -> None:
        self.calls, self.writes = self.calls + 1, writes
        if (fault := self.faults.get(self.calls)) is not None:
            await fault()

    async def load(self, organization: str) -> Record | None:
        await self._call(writes=False)
        return await self._load(organization)

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        await self._call(writes=True)
        return await self._swap(record, lease_for=lease_for)


@pytest.mark.parametrize("fault", ["fails", "slow", "read-only"])
async def test_time_out_of_sight_does_not_count(
    manager: TokenManager,
    server: TokenServer,
    store: MemoryStore,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    """A failure or a slow answer of the store starts the count again: its holder may have been blind as well.

    So does a server that only reads, as one that a fail-over left behind: its holder cannot save there.
    """
    await dead_holder(store)
    clock.advance(DAY)
    sight = Sight(store, clock, monkeypatch)

    async def fails() -> None:
        raise StoreError("away")

    async def slow() -> None:
        clock.advance(0.6)

    async def read_only() -> None:
        if sight.writes:
            raise StoreError("read-only")

    sight.faults = {
        9: {"fails": fails, "slow": slow, "read-only": read_only}[fault]
    }  # a load, a lease, and the seventh look
    clock.slept.clear()
    assert await manager.token("acme")
    assert 16 <= sum(clock.slept) <= 18  # 7 seconds, and then 10 without a break


async def test_ahead_of_time_it_is_longer(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """Where nobody waits there is time: two minutes, and the lease is renewed meanwhile."""
    await dead_holder(store)
    clock.advance(DAY * 0.95)
    clock.slept.clear()
    old = await manager.token("acme")
    await until(lambda: manager._tokens["acme"].token != old)
    assert sum(clock.slept) >= 120
    assert len(server.refreshes()) == 2


async def test_a_store_that_stays_away(
    manager: TokenManager,
    server: TokenServer,
    store: MemoryStore,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Callers are told after a lease's time; nothing is sent, and the next of them begins anew."""
    await dead_holder(store)
    clock.advance(DAY)
    sight = Sight(store, clock, monkeypatch)

    async def fails() -> None:
        raise StoreError("away")

    sight.faults = dict.fromkeys(range(3, 200), fails)
    with pytest.raises(StoreError, match="away"):
        await manager.token("acme")
    assert len(server.refreshes()) == 1
    sight.faults.clear()
    clock.advance(120)
    assert await manager.token("acme")
    assert len(server.refreshes()) == 2


async def test_closing_while_holding_off(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """It is cut short, and the next holder waits as well."""
    manager = make_manager()
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    await dead_holder(store)
    clock.advance(DAY)
    asking = asyncio.ensure_future(manager.token("acme"))
    await until(lambda: len(clock.slept) > 3)
    await manager.close()
    with pytest.raises(ManagerError, match="closing"):
        await asking
    record = await stored(store)
    assert record.lease is None
    clock.slept.clear()
    assert await make_manager().token("acme")
    assert sum(clock.slept) >= 10


# What is owed


async def test_all_that_is_owed_is_saved_at_once(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The store is away for ten minutes: one prober looks every second or two, for all of them, and none is behind."""
    manager = make_manager()
    keys = [f"org {number}" for number in range(20)]
    for key in keys:
        await manager.connect(key, RefreshTokenGrant(server.client(), server.paste()))
    swap, down, tried = store.swap, [False], [0]

    async def failing(record: Record, *, lease_for: float | None = None) -> Record | None:
        if down[0] and lease_for is None:
            tried[0] += 1
            raise StoreError("away")
        return await swap(record, lease_for=lease_for)

    monkeypatch.setattr(store, "swap", failing)
    down[0] = True
    tokens = dict(zip(keys, await asyncio.gather(*(manager.refresh(key) for key in keys)), strict=True))
    before, began = tried[0], clock.monotonic()
    await until(lambda: clock.monotonic() - began > 600)
    assert tried[0] - before < 620
    assert caplog.text.count("still not saved: new refresh tokens of 20 organizations") in range(9, 12)
    down[0] = False
    await until(lambda: not manager._context.commits._owed)
    for key in keys:
        record = await store.load(key)
        assert record is not None
        assert decode(record).token == tokens[key]


async def test_closing_without_a_store(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """It goes on looking for ten seconds, and says what is lost if the process ends."""
    manager = make_manager()
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    swap = store.swap

    async def failing(record: Record, *, lease_for: float | None = None) -> Record | None:
        if lease_for is None:
            raise StoreError("away")
        return await swap(record, lease_for=lease_for)

    monkeypatch.setattr(store, "swap", failing)
    await manager.refresh("acme")
    began = clock.monotonic()
    await manager.close()
    assert 10 <= clock.monotonic() - began < 14
    assert "closed with a new refresh token of organization 'acme' that the store did not take" in caplog.text


async def test_what_is_owed_outlives_a_loop(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next loop goes on with it."""
    manager = make_manager()
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    swap, down = store.swap, [True]

    async def failing(record: Record, *, lease_for: float | None = None) -> Record | None:
        if down[0] and lease_for is None:
            raise StoreError("away")
        return await swap(record, lease_for=lease_for)

    monkeypatch.setattr(store, "swap", failing)
    token = await manager.refresh("acme")
    down[0] = False
    manager._context.tasks.forget_loop()  # as when its loop was closed
    manager._context.commits.forget_loop()
    await until(lambda: not manager._context.commits._owed)
    assert decode(await stored(store)).token == token


# Stores that break their contract


@pytest.mark.parametrize(
    "error", [OSError("x"), KeyError("x"), MemoryError(), TimeoutError(), asyncio.CancelledError(), ManagerError("x")]
)
async def test_a_store_that_raises_anything(
    manager: TokenManager, server: TokenServer, store: MemoryStore, monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:  # fmt: skip
    """From the spend on it is a failure of the store like another: the new token is kept, and saved later."""
    swap, down = store.swap, [True]

    async def failing(record: Record, *, lease_for: float | None = None) -> Record | None:
        if down[0] and lease_for is None:
            raise error
        return await swap(record, lease_for=lease_for)

    monkeypatch.setattr(store, "swap", failing)
    token = await manager.refresh("acme")
    down[0] = False
    await until(lambda: not manager._context.commits._owed)
    assert decode(await stored(store)).token == token


async def test_a_listing_that_raises_anything(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Keep-alive survives it, in the middle of a listing too; so it does an error of our own."""
    due, faults = store.due, [1, 2, 3]

    async def failing(before: float) -> AsyncIterator[str]:
        async for organization in due(before):
            yield organization
            if faults and faults.pop():
                raise ZeroDivisionError

    monkeypatch.setattr(store, "due", failing)
    async with make_manager() as manager:
        await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
        for wakes in range(1, 6):
            await until(lambda wakes=wakes: len(clock.sleepers) == wakes)  # type: ignore[misc]
            if wakes == 4:
                faults.clear()
                monkeypatch.setattr("tribe_oauth._manager.warm_up._refresh_all", None)
            clock.advance(25 * DAY)
        await until(lambda: len(clock.sleepers) == 6)


async def test_a_cancelled_caller_is_not_the_stores_fault(
    manager: TokenManager, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancellation of the task itself stays one."""

    async def hang(organization: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(store, "load", hang)
    task = asyncio.ensure_future(manager.status("acme"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(("told", "believed"), [(2.5, 2.5), (0, 0.0), (None, 5.0), ("soon", 5.0)])
def test_the_time_out_of_a_store(make_manager: MakeManager, told: object, believed: float) -> None:
    """What it says, where it says a number; the taker of a lease holds off for longer than that."""

    class Told(MemoryStore):
        timeout = told  # type: ignore[assignment]

    manager = make_manager(store=Told())
    assert manager._context.store.timeout == believed
    assert manager._context.timing.hold_off(20.0, ahead=False) == 25.0


# Clocks that are years off


@pytest.mark.parametrize("maybe_spent", [False, True])
async def test_a_host_that_put_everyone_off(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, store: MemoryStore, clock: VirtualClock,
    maybe_spent: bool,
) -> None:  # fmt: skip
    """A time to wait for that no host can have meant counts as not said, and is mended; what may be spent stays so."""
    record = await stored(store)
    changed = attrs.evolve(record, not_before=clock.time() + 5 * YEAR, failures=1, maybe_spent=maybe_spent)
    await store.swap(changed)
    clock.advance(DAY)
    other = make_manager()
    assert (await other.status("acme")).state == "stale"
    clock.slept.clear()
    assert await other.token("acme")
    assert (sum(clock.slept) >= 10) == maybe_spent
    assert (await stored(store)).not_before == 0


async def test_a_token_from_the_future(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """Written by a host whose clock is years ahead, how old it is is not known: it works, and is refreshed at once."""
    clock.jump(5 * YEAR)
    ahead = make_manager()
    first = await ahead.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    clock.jump(-5 * YEAR)
    manager = make_manager()
    assert await manager.token("acme") == first
    clock.advance(6)
    assert await manager.token("acme") == first
    await until(lambda: manager._tokens["acme"].token != first)
    assert (await stored(store)).due_at is not None
    assert (await stored(store)).due_at < clock.time() + DAY  # type: ignore[operator]


async def test_an_idle_organization_that_was_put_off(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """One that is due years ahead is found all the same, before its refresh token dies."""
    clock.jump(5 * YEAR)
    ahead = make_manager()
    await ahead.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    clock.jump(-5 * YEAR)
    async with make_manager():
        await until(lambda: len(clock.sleepers) == 1)
        clock.advance(3600)
        await until(lambda: len(clock.sleepers) == 2)
        assert len(server.refreshes()) == 1
        clock.advance(10 * DAY)
        await until(lambda: len(clock.sleepers) == 3)
        assert len(server.refreshes()) == 2


async def test_one_that_was_put_off_beside_one_that_cannot_be_read(
    make_manager: MakeManager,
    server: TokenServer,
    store: MemoryStore,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A record that something else altered stops nobody's refresh; a store that is away is another thing."""
    clock.jump(5 * YEAR)
    ahead = make_manager()
    for key in ("damaged", "acme"):
        await ahead.connect(key, RefreshTokenGrant(server.client(), server.paste()))
    clock.jump(-5 * YEAR)
    load, reason = store.load, "damaged"

    async def unreadable(organization: str) -> Record | None:
        if organization == "damaged":
            raise StoreError("it was altered", organization=organization if reason == "damaged" else None)
        return await load(organization)

    monkeypatch.setattr(store, "load", unreadable)
    async with make_manager():
        await until(lambda: len(clock.sleepers) == 1)
        clock.advance(10 * DAY)
        await until(lambda: len(clock.sleepers) == 2)
        assert len(server.refreshes()) == 3
        assert "organization 'damaged' is not kept alive: it was altered" in caplog.text
        reason = "away"
        clock.advance(10 * DAY)
        await until(lambda: len(clock.sleepers) == 3)
        assert "idle organizations could not be looked for: it was altered" in caplog.text


async def test_a_refusal_after_a_jump_of_the_clock(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """The cause is told by the server's words, not by a clock that says the token is years old."""
    server.date = "Fri, 27 Nov 2026 08:00:00 GMT"
    await manager.refresh("acme")
    clock.jump(5 * YEAR)
    clock.advance(DAY)
    server.order(oauth_error("invalid_grant"))
    with pytest.raises(ReauthorizationRequired, match="revoked, expired, or used elsewhere"):
        await manager.token("acme")


# An answer that belongs to another


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_stray_answer_belongs_to_nobody(make_manager: MakeManager, server: TokenServer, method: str) -> None:
    """A second answer on a connection that is kept is not taken for that of another organization's request.

    What may be sent again is, on another connection; what may not is an error, and was not sent.
    """
    connections, was_read = 0, asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % connections
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await was_read.wait()
            writer.write(answer)
            await reader.readuntil(b"\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    endpoints = attrs.evolve(server.endpoints, api=f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    client = attrs.evolve(server.client(), endpoints=endpoints)
    manager = make_manager(client=client)
    for organization in ("acme", "beta"):
        await manager.connect(organization, RefreshTokenGrant(client, server.paste()))
    async with manager.session("acme") as acme, acme.get("/v1/odata/x") as response:
        assert await response.text() == "1"
    was_read.set()
    connector: Any = manager._sessions._connector
    await until(lambda: any(protocol.should_close for kept in connector._conns.values() for protocol, _ in kept))
    async with manager.session("beta") as beta:
        if method == "POST":
            with pytest.raises(ServerDisconnectedError, match="nothing was sent"):
                await beta.post("/v1/odata/x")
        async with beta.get("/v1/odata/x") as response:
            assert await response.text() == "2"
    listening.close()
