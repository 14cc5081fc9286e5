"""The public contract, for every store, plain and encrypted, on real servers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tribe_oauth.stores import MemoryStore, TokenStore
from tribe_oauth.stores.contract import StoreContract
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.stores.redis import RedisStore
from tribe_oauth.stores.sqlite import SQLiteStore

from .servers import RedisServer

Make = Callable[[Path], TokenStore]


class TestMemoryStore(StoreContract):
    @pytest.fixture
    async def store(self) -> MemoryStore:
        return MemoryStore()


class TestSQLiteStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[TokenStore]:
        store = SQLiteStore(tmp_path / "tribe.db")
        yield store
        await store.close()


class TestEncryptedMemoryStore(StoreContract):
    @pytest.fixture
    async def store(self) -> TokenStore:
        return EncryptedStore(MemoryStore(), [generate_key()])


class TestEncryptedSQLiteStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[TokenStore]:
        store = EncryptedStore(SQLiteStore(tmp_path / "tribe.db"), [generate_key()])
        yield store
        await store.close()


class TestPostgresStore(StoreContract):
    @pytest.fixture
    async def store(self, database: str) -> AsyncIterator[TokenStore]:
        store = PostgresStore(database)
        await store.create_schema()
        yield store
        await store.close()


class TestEncryptedPostgresStore(StoreContract):
    @pytest.fixture
    async def store(self, database: str) -> AsyncIterator[TokenStore]:
        inner = PostgresStore(database)
        await inner.create_schema()
        store = EncryptedStore(inner, [generate_key()])
        yield store
        await store.close()


class TestRedisStore(StoreContract):
    @pytest.fixture
    async def store(self, redis_server: RedisServer) -> AsyncIterator[TokenStore]:
        store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)
        yield store
        await store.close()


class TestEncryptedRedisStore(StoreContract):
    @pytest.fixture
    async def store(self, redis_server: RedisServer) -> AsyncIterator[TokenStore]:
        store = EncryptedStore(RedisStore(redis_server.url, prefix=uuid.uuid4().hex), [generate_key()])
        yield store
        await store.close()


@pytest.mark.parametrize(
    "make", [lambda _path: MemoryStore(), lambda path: SQLiteStore(path / "tribe.db")], ids=["memory", "sqlite"]
)
def test_one_loop_after_another(make: Make, tmp_path: Path) -> None:
    """A store belongs to no event loop."""
    from tribe_oauth.stores.contract import put, record

    store = make(tmp_path)
    stored = asyncio.run(put(store, record()))
    assert asyncio.run(store.load("acme")) == stored
    asyncio.run(store.close())
