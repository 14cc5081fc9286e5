"""Records and keys that no store of ours wrote: one error that names the organization, and others undisturbed."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import attrs
import psycopg
import pytest
from redis.asyncio import Redis

from tribe_oauth import MemoryStore, TokenStore
from tribe_oauth._refresh.payload import decode
from tribe_oauth.errors import UnreadableError
from tribe_oauth.stores import Unreadable
from tribe_oauth.stores._columns import keys_of
from tribe_oauth.stores.contract import due, listed, put, record
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.stores.redis import BUCKETS, RedisStore
from tribe_oauth.stores.sqlite import SQLiteStore

from .servers import RedisServer

ALTERED = "'acme' cannot be read: it was altered by something else; restore it from a backup, or connect"


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "tribe.db")
    yield store
    await store.close()


@pytest.fixture
async def postgres(database: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(database)
    await store.create_schema()
    yield store
    await store.close()


async def one_is_altered(store: TokenStore) -> None:
    with pytest.raises(UnreadableError, match=ALTERED) as error:
        decode(await store.load("acme") or record())
    assert error.value.organization == "acme"
    assert "canary" not in str(error.value)
    assert error.value.__cause__ is None
    assert await store.load("beta") is not None
    assert sorted(await listed(store)) == ["acme", "beta"]
    with suppress(UnreadableError):  # where there is not even a version to write by
        await it_can_be_written(store)


async def it_can_be_written(store: TokenStore) -> None:
    """What stands there can be marked as removed, and replaced; what is new is read as it was written."""
    found = await store.load("acme")
    assert found is not None
    assert isinstance(found.payload, Unreadable)
    removed = await put(store, attrs.evolve(found, status="disconnected", generation=found.generation + 1))
    assert await listed(store) == ["beta"]
    new = await put(store, attrs.evolve(removed, status="connected", payload=b"new"))
    assert await store.load("acme") == new
    assert new.payload == b"new"


@pytest.mark.parametrize(
    "change",
    [
        "generation = 'canary'",
        "generation = 1.5",
        "status = 'canary'",
        "due_at = 'canary'",
        "not_before = x'00'",
        "payload = 'canary'",
        "lease = 'n', lease_end = 'canary'",
        "family = CAST(x'ff' AS TEXT)",
        "cause = CAST(x'ff' AS TEXT)",
        "maybe_spent = 'canary', version = 'canary'",
    ],
)
async def test_in_sqlite(change: str, sqlite: SQLiteStore) -> None:
    """Its columns take values of any type."""
    await put(sqlite, record())
    await put(sqlite, record("beta"))
    with sqlite3.connect(sqlite._path) as connection:
        sql = f"UPDATE organizations SET {change} WHERE organization = CAST('acme' AS BLOB)"  # noqa: S608 (of the test)
        connection.execute(sql)
    connection.close()
    await one_is_altered(sqlite)


async def test_in_postgres(database: str, postgres: PostgresStore) -> None:
    """Its columns have types; what a text may be is ours."""
    await put(postgres, record())
    await put(postgres, record("beta"))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE tribe_oauth_organizations SET status = 'canary' WHERE organization = 'acme'")
    await one_is_altered(postgres)


@pytest.mark.parametrize("value", ["7", '"canary"', "null", "[]", "{}", "1e999"])
async def test_in_redis(value: str, redis_server: RedisServer) -> None:
    """Its fields are one text."""
    store = RedisStore(redis_server.url, prefix=f"odd {value}")
    stored = await put(store, record())
    await put(store, record("beta"))
    async with Redis.from_url(redis_server.url) as redis:
        found = await redis.hget(store._record("acme"), "fields")
        assert isinstance(found, bytes)
        fields = found.decode()
        await redis.hset(store._record("acme"), "fields", fields.replace('"family": "c"', f'"family": {value}'))
        if value == '"canary"':
            assert await store.load("acme") != stored  # a family like any other
            await redis.hset(store._record("acme"), "fields", fields.replace('"connected"', '"canary"'))
        await one_is_altered(store)
        await redis.flushall()
    await store.close()


async def test_keys_in_sqlite(sqlite: SQLiteStore, caplog: pytest.LogCaptureFixture) -> None:
    """A key that is no text is left out, and stops no listing."""
    for key in ("a", "b", "c"):
        await put(sqlite, record(key, due_at=1.0))
    with sqlite3.connect(sqlite._path) as connection:
        connection.execute("UPDATE organizations SET organization = x'ff' WHERE organization = CAST('b' AS BLOB)")
    connection.close()
    await two_are_listed(sqlite, caplog)


async def test_keys_in_postgres(database: str, postgres: PostgresStore, caplog: pytest.LogCaptureFixture) -> None:
    """The same."""
    for key in ("a", "b", "c"):
        await put(postgres, record(key, due_at=1.0))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(r"UPDATE tribe_oauth_organizations SET organization = '\xff' WHERE organization = 'b'")
    await two_are_listed(postgres, caplog)


async def test_keys_in_redis(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """The same, in the first bucket that is read."""
    store = RedisStore(redis_server.url, prefix="odd keys")
    for key in ("a", "c"):
        await put(store, record(key, due_at=1.0))
    async with Redis.from_url(redis_server.url) as redis:
        for index in store._indexes(BUCKETS - 64):
            await redis.zadd(index, {b"\xff": 0.5 if "due" in index else 0})
        await two_are_listed(store, caplog)
        await redis.flushall()
    await store.close()


async def two_are_listed(store: TokenStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    assert sorted(await listed(store)) == sorted(await due(store, 2.0)) == ["a", "c"]
    assert caplog.messages == [r"a record was left out whose key is no text (b'\xff'): remove it from the store"] * 2


def test_keys_of_another_type(caplog: pytest.LogCaptureFixture) -> None:
    """A text where bytes should be is left out, too, and a long one is not logged whole."""
    assert keys_of([b"", "x" * 1_000, b"a"]) == ["", "a"]  # type: ignore[list-item]
    assert len(caplog.text) < 300


async def test_time_outs_are_visible(database: str, tmp_path: Path) -> None:
    """How long one operation can take at most: what a process has to wait for that takes a lease over."""
    url = "redis://127.0.0.1:9"
    assert PostgresStore(database).timeout == RedisStore(url).timeout == SQLiteStore(tmp_path / "x").timeout == 5.0
    assert PostgresStore(database, timeout=1.5).timeout == RedisStore(url, timeout=1.5).timeout == 1.5
    inner = SQLiteStore(tmp_path / "x", busy_timeout=0.5)
    assert inner.timeout == EncryptedStore(inner, [generate_key()]).timeout == 0.5
    assert MemoryStore().timeout == EncryptedStore(MemoryStore(), [generate_key()]).timeout == 0.0

    class Another(MemoryStore):
        timeout = property()  # has none

    assert EncryptedStore(Another(), [generate_key()]).timeout == 5.0
    with pytest.raises(AttributeError):
        inner.timeout = 1.0  # type: ignore[misc]
