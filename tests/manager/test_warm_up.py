"""Many organizations: due at once, idle for long (F12)."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tribe_oauth import MemoryStore, RefreshTokenGrant, StoreError, TokenManager
from tribe_oauth.errors import TemporarilyUnavailable

from .conftest import MakeManager
from .helpers import TokenServer, VirtualClock, held_back, page, until

DAY = 86_400


async def connect_many(manager: TokenManager, server: TokenServer, count: int) -> list[str]:
    keys = [f"org {number}" for number in range(count)]
    for key in keys:
        await manager.connect(key, RefreshTokenGrant(server.client(), server.paste()))
    return keys


async def test_500_due_at_once(make_manager: MakeManager, server: TokenServer, clock: VirtualClock) -> None:
    """A hundred requests at a time, and no more; everybody gets a token."""
    manager = make_manager()
    keys = await connect_many(manager, server, 500)
    clock.advance(DAY)
    server.order(*[held_back(server)] * 100)
    asking = [asyncio.ensure_future(manager.token(key)) for key in keys]
    await until(lambda: server.at_once == 100)
    server.released.set()
    tokens = await asyncio.gather(*asking)
    assert server.most_at_once == 100
    assert len(set(tokens)) == 500
    assert len(server.refreshes()) == 1_000


async def test_idle_organizations_are_kept_alive(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody asks for them; before their refresh tokens die they are refreshed, a few at a time."""
    caplog.set_level(logging.INFO)
    async with make_manager() as manager:
        keys = await connect_many(manager, server, 25)
        await until(lambda: len(clock.sleepers) == 1)
        clock.advance(10 * DAY)
        await until(lambda: len(clock.sleepers) == 2)
        assert len(server.refreshes()) == 25
        clock.advance(11 * DAY)
        await until(lambda: len(clock.sleepers) == 3)
        assert len(server.refreshes()) == 50
        assert server.most_at_once <= 10
        assert "25 idle organizations were refreshed" in caplog.text
        for key in keys:
            assert (await manager.status(key)).state == "fresh"


async def test_an_idle_organization_that_fails(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock, store: MemoryStore
) -> None:
    """It stops nobody, and is tried again."""
    async with make_manager() as manager:
        await connect_many(manager, server, 2)
        await until(lambda: len(clock.sleepers) == 1)
        server.order(page(404))
        clock.advance(25 * DAY)
        await until(lambda: len(clock.sleepers) == 2)
        assert len(server.refreshes()) == 4
        clock.advance(2 * 3600)
        await until(lambda: len(clock.sleepers) == 3)
        assert len(server.refreshes()) == 5


async def test_a_store_that_is_down_for_an_hour(
    make_manager: MakeManager,
    server: TokenServer,
    clock: VirtualClock,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """F4: the background work survives it."""
    due = store.due

    def down(before: float) -> object:
        raise StoreError("down")

    async with make_manager() as manager:
        await connect_many(manager, server, 1)
        await until(lambda: len(clock.sleepers) == 1)
        monkeypatch.setattr(store, "due", down)
        clock.advance(25 * DAY)
        await until(lambda: len(clock.sleepers) == 2)
        assert "could not be looked for: down" in caplog.text
        monkeypatch.setattr(store, "due", due)
        clock.advance(2 * 3600)
        await until(lambda: len(clock.sleepers) == 3)
        assert len(server.refreshes()) == 2


async def test_one_dead_organization_among_many(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """F12: it costs fewer than 50 requests a day, and the others nothing."""
    manager = make_manager()
    keys = await connect_many(manager, server, 3)
    clock.advance(DAY)
    await manager.token(keys[1])
    await manager.token(keys[2])
    server.order(*[page(404)] * 1_000)
    before = len(server.forms)
    for _ in range(24 * 60):
        with pytest.raises(TemporarilyUnavailable):
            await manager.token(keys[0])
        clock.advance(30)
        assert await manager.token(keys[1])
    assert len(server.forms) - before < 50
