"""Eight processes, a thousand coroutines in each, one expired token: one request (F5)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tribe_oauth import RefreshTokenGrant, TokenManager
from tribe_oauth._manager import settings as environment
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores.postgres import PostgresStore

from ..stores.servers import RedisServer

HERD = Path(__file__).with_name("herd.py")


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that processes share."""
    stores: dict[str, Callable[[], str]] = {
        "sqlite": lambda: f"sqlite:{tmp_path}/tribe.db",
        "postgres": lambda: str(request.getfixturevalue("database")),
        "redis": lambda: f"{_redis(request).url}?db=9",
    }
    return stores[request.param]()


def _redis(request: pytest.FixtureRequest) -> RedisServer:
    server = request.getfixturevalue("redis_server")
    assert isinstance(server, RedisServer)
    return server


async def test_eight_thousand_callers(url: str) -> None:
    """Whoever is second waits for the first, in whatever process, and gets the same token."""
    async with Sandbox(latency=0.2) as sandbox:
        client = sandbox.client()
        store = environment.store({"TRIBE_STORE": url}, durable=True)
        if isinstance(store, PostgresStore):
            await store.create_schema()
        async with TokenManager(client, store=store) as manager:
            await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
        herd = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, str(HERD), url),
                env=os.environ | sandbox.environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(8)
        ]
        for process in herd:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        sandbox.expire("Acme")
        before = sandbox.ledger.token_requests
        said = await asyncio.gather(*(process.communicate(b"go\n") for process in herd))
        assert [process.returncode for process in herd] == [0] * 8
        assert len({line for line, _ in said}) == 1
        assert sandbox.ledger.token_requests == before + 1
