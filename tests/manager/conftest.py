from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from tribe_oauth import MemoryStore, RefreshTokenGrant, TokenManager

from .helpers import TokenServer, VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(clock: VirtualClock) -> MemoryStore:
    return MemoryStore(clock=clock.monotonic)


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    """A token endpoint on a free port."""
    server = TokenServer()
    app = web.Application()
    app.router.add_post("/oauth2/token", server.handle)
    app.router.add_post("/oauth2/revoke", server.revoke)
    app.router.add_route("*", "/v1/odata/{path:.*}", server.api)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    server.released.set()
    await runner.cleanup()


MakeManager = Callable[..., TokenManager]


@pytest.fixture
async def make_manager(server: TokenServer, clock: VirtualClock, store: MemoryStore) -> AsyncIterator[MakeManager]:
    """Managers on one store and one clock, like workers on several hosts; closed at the end."""
    made: list[TokenManager] = []

    def make(**options: Any) -> TokenManager:
        client = options.pop("client", server.client())
        defaults: dict[str, Any] = {"store": store, "clock": clock, "request_timeout": 5.0}
        manager = TokenManager(client, **defaults | options)
        made.append(manager)
        return manager

    yield make
    server.released.set()
    for manager in made:
        await manager.close()


@pytest.fixture
async def manager(make_manager: MakeManager, server: TokenServer) -> TokenManager:
    """A manager with one organization, "acme", connected by a pasted refresh token."""
    manager = make_manager()
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    server.arrived.clear()
    return manager
