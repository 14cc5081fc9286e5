"""A store that was emptied, and a writer that had read before: it does not match what came after."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import attrs
import psycopg
import pytest
import redis as driver

from tribe_oauth import MemoryStore
from tribe_oauth.stores import TokenStore
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.stores.redis import RedisStore
from tribe_oauth.stores.sqlite import SQLiteStore

from .servers import RedisServer

Emptied = tuple[TokenStore, Callable[[], None]]
DELETE = "DELETE FROM {}organizations"


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis"])
async def emptied(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Emptied]:
    """A store, and how it is emptied behind its back."""
    store: TokenStore
    if request.param == "memory":
        store = memory = MemoryStore()
        yield store, lambda: memory.__dict__.update(MemoryStore().__dict__)
    elif request.param == "sqlite":
        store = SQLiteStore(path)
        yield store, lambda: _execute(path)
    elif request.param == "postgres":
        database = request.getfixturevalue("database")
        store = PostgresStore(database)
        await store.create_schema()
        yield store, lambda: _execute_there(database)
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        store = RedisStore(server.url, prefix="emptied")
        yield store, lambda: _flush(server, "emptied")
    await store.close()


def _execute(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(DELETE.format(""))
    connection.close()


def _execute_there(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(DELETE.format("tribe_oauth_"))


def _flush(server: RedisServer, prefix: str) -> None:
    with driver.Redis.from_url(server.url) as connection:
        connection.delete(*connection.keys(f"{prefix}*"))


async def test_a_version_is_never_used_again(emptied: Emptied) -> None:
    """Whatever is written after, as often as before, keeps out a writer that knows the record that was lost."""
    store, empty = emptied
    lost = await put(store, await put(store, await put(store, record(cause="lost"))))
    empty()
    stored = record(cause="new")
    for _ in range(5):
        stored = await put(store, stored)
        assert await store.swap(attrs.evolve(lost, cause="late")) is None
    assert await store.load("acme") == stored
