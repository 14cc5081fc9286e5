"""What is Redis's own: scripts, settings, slots, restarts."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from tribe_oauth import StoreError
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.stores._redis_pool import Pool
from tribe_oauth.stores._redis_servers import OneServer
from tribe_oauth.stores._redis_settings import pairs
from tribe_oauth.stores.contract import KEYS, due, listed, put, record
from tribe_oauth.stores.redis import BUCKETS, RedisStore, _bucket

from . import servers
from .servers import RedisServer
from .trouble import is_altered


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)
    yield store
    await store.close()


def pool_of(store: RedisStore) -> Pool:
    """The connections of a store on one server."""
    assert isinstance(store._servers, OneServer)
    return store._servers._pool


async def test_one_slot_for_each_organization(store: RedisStore) -> None:
    """In a cluster a script may touch one slot: all keys of an organization are in it, whatever its name."""
    for key in [*KEYS, "{}", "}{"]:
        keys = [store._record(key), *store._indexes(_bucket(key))]
        assert len({key_slot(name.encode()) for name in keys}) == 1
    slots = {key_slot(store._indexes(bucket)[0].encode()) for bucket in range(BUCKETS)}
    assert len(slots) == BUCKETS
    assert {_bucket(f"org {number}") for number in range(2_000)} == set(range(BUCKETS))


async def test_in_a_cluster() -> None:
    """A server that is a whole cluster by itself, and refuses a script across slots, takes every operation."""
    with servers.redis_cluster() as server:
        store = RedisStore(server.url)
        for key in KEYS:
            stored = await put(store, record(key, lease="nonce", due_at=1.0), lease_for=100)
            stored = await put(store, stored)
            assert (await store.load(key)) is not None
        assert sorted(await listed(store)) == sorted(await due(store, 2.0)) == sorted(KEYS)
        assert await store.put("key", b"value", lives_for=100) == b"value"
        assert await store.take("key") == b"value"
        await store.close()


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


@pytest.mark.parametrize("fields", ["{", "[]", "{}", '{"lease": 7}'])
async def test_a_record_that_was_altered(redis_server: RedisServer, store: RedisStore, fields: str) -> None:
    """What something else wrote under our key is one clear error, and is left as it is."""
    await put(store, record())
    async with Redis.from_url(redis_server.url) as redis:
        await redis.hset(store._record("acme"), "fields", fields)
        await is_altered(store)
        assert await redis.hget(store._record("acme"), "fields") == fields.encode()


async def test_closed_while_it_is_used(store: RedisStore) -> None:
    """An operation under way ends well, and its connection is closed after it."""
    stored = await put(store, record())
    pool = pool_of(store)
    loading = asyncio.ensure_future(store.load("acme"))
    await asyncio.sleep(0)
    await store.close()
    assert await loading == stored
    assert pool._idle == []


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


async def test_restarted_between_two_calls() -> None:
    """Connections that died meanwhile are no caller's trouble."""
    with servers.redis() as server:
        store = RedisStore(server.url)
        stored = await put(store, record())
        await asyncio.gather(*(store.load("acme") for _ in range(20)))
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        for _ in range(10):
            assert await store.load("acme") == stored
        await store.close()


async def test_a_url_that_asks_for_text(redis_server: RedisServer) -> None:
    """An option that other users of the same URL need does no harm."""
    store = RedisStore(f"{redis_server.url}?decode_responses=true", prefix=uuid.uuid4().hex)
    stored = await put(store, record(payload=b"\xff"))
    assert await store.load("acme") == stored
    await store.close()


async def test_an_answer_that_is_lost(redis_server: RedisServer, store: RedisStore) -> None:
    """A write whose answer never arrived is a StoreError, and is not sent again: it would lose to itself."""
    await store.load("acme")  # which leaves a script there, as the next does
    await put(store, record("other"))
    sent = 0

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        server_reader, server = await asyncio.open_unix_connection(redis_server.url.removeprefix("unix://"))
        while request := await reader.read(65_536):
            server.write(request)
            answer = await server_reader.read(65_536)
            if b"EVALSHA" in request:
                sent += 1
                break
            writer.write(answer)
        server.close()
        writer.close()

    between = await asyncio.start_server(cut, "127.0.0.1", 0)
    port = between.sockets[0].getsockname()[1]
    unlucky = RedisStore(f"redis://127.0.0.1:{port}", prefix=store._prefix)
    with pytest.raises(StoreError, match="look whether it runs") as error:
        await unlucky.swap(record())
    assert error.value.__suppress_context__
    assert sent == 1
    loaded = await store.load("acme")
    assert loaded is not None
    await unlucky.close()
    between.close()


async def test_a_frozen_server() -> None:
    """F4, F7: neither the time-out nor a cancelled caller waits for a server that says nothing."""
    with servers.redis() as server:
        store, hasty = RedisStore(server.url), RedisStore(server.url, timeout=0.3)
        stored = await put(store, record())
        assert await hasty.load("acme") == stored
        with server.frozen():
            begun = time.monotonic()
            with pytest.raises(StoreError, match="look whether it runs"):
                await hasty.load("acme")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.load("acme"), 0.1)
            assert time.monotonic() - begun < 2
        assert await hasty.load("acme") == await store.load("acme") == stored
        await store.close()
        await hasty.close()


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


async def test_replicas(caplog: pytest.LogCaptureFixture) -> None:
    """What a fail-over can lose is said."""
    with servers.redis_with_replica() as server:
        store = RedisStore(server.url)
        await store.load("acme")
        await store.close()
    assert "Redis has replicas: a fail-over can lose the rotations just before it" in caplog.text


async def test_a_server_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    """F4, S24: one clear error, without the password, and nothing in a log."""
    caplog.set_level(logging.DEBUG)
    store = RedisStore("redis://:canary@127.0.0.1:9", timeout=0.2)
    with pytest.raises(StoreError, match="look whether it runs") as error:
        await store.load("acme")
    assert "canary" not in repr(error.value) + caplog.text
    assert error.value.__suppress_context__
    assert "settings" not in caplog.text
    await store.close()


async def test_settings_are_looked_at_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    """A server that was down at first is looked at all the same."""
    with servers.redis("--appendonly", "no") as server:
        store = RedisStore(server.url)
        server.kill()
        with pytest.raises(StoreError):
            await store.load("acme")
        assert caplog.messages == []
        server.start()
        await store.load("acme")
        await store.close()
    assert "Redis has appendonly no" in caplog.messages[0]


@pytest.mark.parametrize("url", ["canary://h", "redis://h:canary", "redis://h?canary=1", "redis://h?db=canary"])
def test_a_url_that_cannot_be_read(url: str) -> None:
    """S24: refused where it is given, in words of our own: the driver's would show parts of it."""
    with pytest.raises(ConfigurationError, match="the URL cannot be read: write redis://") as error:
        RedisStore(url)
    assert "canary" not in str(error.value)
    assert error.value.__suppress_context__


async def test_a_server_that_hangs() -> None:
    """F4: a server that does not answer is not waited for for ever."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    store = RedisStore(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=0.1)
    with pytest.raises(StoreError, match="look whether it runs"):
        await store.load("acme")
    await store.close()
    server.close()


def test_one_loop_after_another(redis_server: RedisServer) -> None:
    """Connections belong to their loop; the next loop gets its own."""
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)

    async def leave() -> None:
        await put(store, record())
        await pool_of(store).close()

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
    await pool_of(store).close()


def test_both_protocols() -> None:
    """RESP 2 gives a flat list, RESP 3 pairs or a map."""
    assert pairs([b"a", b"1", b"b", b"2"]) == [(b"a", b"1"), (b"b", b"2")]
    assert pairs({b"a": b"1"}) == [(b"a", b"1")]
    assert pairs([[b"a", 1.0], [b"b", 2.0]]) == [(b"a", 1.0), (b"b", 2.0)]
    assert pairs([]) == []
