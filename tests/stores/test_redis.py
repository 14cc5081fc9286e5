"""What is Redis's own: scripts, settings, slots, restarts."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from tribe_oauth import StoreError
from tribe_oauth.stores.contract import KEYS, due, put, record
from tribe_oauth.stores.redis import BUCKETS, RedisStore, _bucket, _pairs

from . import servers
from .servers import RedisServer


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)
    yield store
    await store.close()


async def test_one_slot_for_each_organization(store: RedisStore) -> None:
    """In a cluster a script may touch one slot: all keys of an organization are in it, whatever its name."""
    for key in [*KEYS, "{}", "}{"]:
        keys = [store._record(key), *store._indexes(_bucket(key))]
        assert len({key_slot(name.encode()) for name in keys}) == 1
    slots = {key_slot(store._indexes(bucket)[0].encode()) for bucket in range(BUCKETS)}
    assert len(slots) == BUCKETS


async def test_scripts_that_are_forgotten(redis_server: RedisServer, store: RedisStore) -> None:
    """A server that was restarted, or flushed its scripts, gets them again."""
    stored = await put(store, record())
    redis = Redis.from_url(redis_server.url)
    await redis.script_flush()
    await redis.aclose()
    assert await store.load("acme") == stored


async def test_what_is_due_across_buckets(store: RedisStore) -> None:
    """The longest due first, whichever slots they are in."""
    for number in range(200):
        await put(store, record(f"org {number}", due_at=float(200 - number)))
    assert await due(store, 150.0) == [f"org {number}" for number in range(199, 49, -1)]


async def test_many_that_are_due_at_one_moment(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of one score have no order to go on from: what was seen is remembered."""
    monkeypatch.setattr("tribe_oauth.stores.redis.PAGE", 1)
    for number in range(200):
        await put(store, record(f"org {number}", due_at=1.0))
    found = await due(store, 2.0)
    assert len(found) == len(set(found)) == 200


async def test_killed_after_a_confirmed_write() -> None:
    """F1: with `appendfsync always` what was confirmed is there after kill -9, and the store finds the server again."""
    with servers.redis() as server:
        store = RedisStore(server.url)
        stored = await put(store, record(payload=b"new"))
        server.kill()
        with pytest.raises(StoreError, match="look whether it runs"):
            await store.load("acme")
        server.start()
        assert await store.load("acme") == stored
        await store.close()


async def test_settings_that_lose_rotations(caplog: pytest.LogCaptureFixture) -> None:
    """Said once, each with the remedy; a server that is set well is not talked about."""
    caplog.set_level(logging.WARNING)
    options = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "allkeys-lru")
    with servers.redis(*options) as server:
        store = RedisStore(server.url)
        await store.load("acme")
        await store.load("acme")
        await store.close()
    said = [line.getMessage() for line in caplog.records]
    assert said == [
        "Redis has appendfsync everysec: a rotation can be lost with it; set it to always",
        "Redis has maxmemory-policy allkeys-lru: a rotation can be lost with it; set it to noeviction",
    ]


async def test_settings_that_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """Where CONFIG is not allowed, that is said, and the store works."""
    with servers.redis("--rename-command", "CONFIG", "") as server:
        store = RedisStore(server.url)
        assert await store.load("acme") is None
        await store.close()
    assert "does not tell its settings" in caplog.text


async def test_a_server_that_is_not_there() -> None:
    """F4: one clear error, without the password."""
    store = RedisStore("redis://:canary@127.0.0.1:9", timeout=0.2)
    with pytest.raises(StoreError, match="look whether it runs") as error:
        await store.load("acme")
    assert "canary" not in repr(error.value)
    await store.close()


async def test_a_server_that_hangs() -> None:
    """F4: whoever does not answer is not waited for for ever."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    store = RedisStore(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=0.1)
    with pytest.raises(StoreError, match="look whether it runs"):
        await store.load("acme")
    await store.close()
    server.close()


async def test_the_stores_own_deadline(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """F4: also where the driver would go on."""
    await store.load("acme")

    async def endless(self: Redis, *command: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Redis, "execute_command", endless)
    monkeypatch.setattr(store, "_timeout", 0.05)
    with pytest.raises(StoreError, match=r"did not answer within 0\.05 s"):
        await store.load("acme")


def test_one_loop_after_another(redis_server: RedisServer) -> None:
    """Connections belong to their loop; the next loop gets its own."""
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)

    async def leave() -> None:
        await put(store, record())
        assert store._redis is not None
        await store._redis.aclose()

    async def read() -> None:
        assert await store.load("acme") is not None
        await store.close()

    asyncio.run(leave())
    asyncio.run(store.close())
    asyncio.run(leave_again(store))
    asyncio.run(read())


async def leave_again(store: RedisStore) -> None:
    loaded = await store.load("acme")
    assert loaded is not None
    assert store._redis is not None
    await store._redis.aclose()


def test_both_protocols() -> None:
    """RESP 2 gives a flat list, RESP 3 pairs."""
    assert _pairs([b"a", b"1", b"b", b"2"]) == [(b"a", b"1"), (b"b", b"2")]
    assert _pairs([[b"a", 1.0], [b"b", 2.0]]) == [(b"a", 1.0), (b"b", 2.0)]
    assert _pairs([]) == []
