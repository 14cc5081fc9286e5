"""The public contract, for every store, plain and encrypted, on real servers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from tribe_oauth.stores import MemoryStore, Record, Rescuer, SlotStore, TokenStore
from tribe_oauth.stores.contract import StoreContract
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.stores.redis import RedisStore
from tribe_oauth.stores.sqlite import SQLiteStore

from .servers import RedisServer
from .trouble import MemoryTrouble, PostgresTrouble, RedisTrouble, SQLiteTrouble

Make = Callable[[Path], TokenStore]


class TestMemoryStore(MemoryTrouble, StoreContract):
    @pytest.fixture
    async def store(self) -> MemoryStore:
        return MemoryStore()


class TestSQLiteStore(SQLiteTrouble, StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[TokenStore]:
        store = SQLiteStore(tmp_path / "tribe.db")
        yield store
        await store.close()


class TestEncryptedMemoryStore(MemoryTrouble, StoreContract):
    @pytest.fixture
    async def store(self) -> TokenStore:
        return EncryptedStore(MemoryStore(), [generate_key()])


class TestEncryptedSQLiteStore(SQLiteTrouble, StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[TokenStore]:
        store = EncryptedStore(SQLiteStore(tmp_path / "tribe.db"), [generate_key()])
        yield store
        await store.close()


class TestPostgresStore(PostgresTrouble, StoreContract):
    @pytest.fixture
    async def store(self, database: str) -> AsyncIterator[TokenStore]:
        store = PostgresStore(database)
        await store.create_schema()
        yield store
        await store.close()


class TestEncryptedPostgresStore(PostgresTrouble, StoreContract):
    @pytest.fixture
    async def store(self, database: str) -> AsyncIterator[TokenStore]:
        inner = PostgresStore(database)
        await inner.create_schema()
        store = EncryptedStore(inner, [generate_key()])
        yield store
        await store.close()


ODD: Sequence[tuple[str, str]] = (
    ("bytea_output", "escape"),
    ("default_transaction_deferrable", "on"),
    ("standard_conforming_strings", "off"),
    ("extra_float_digits", "-15"),
    ("DateStyle", "'German, DMY'"),
    ("search_path", "tribe"),
    ("statement_timeout", "'4s'"),
    ("lock_timeout", "'4s'"),
    ("jit_above_cost", "0"),
)
"""Defaults that nobody would set, and which change nothing for us."""


@pytest.fixture
def odd_database(postgres_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database in another encoding, whose transactions are isolated otherwise, and with odd defaults."""
    encoding, isolation = request.param
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
        settings = [("default_transaction_isolation", f"'{isolation}'"), ("client_encoding", encoding), *ODD]
        for setting, value in settings:
            connection.execute(f"ALTER DATABASE {name} SET {setting} = {value}")
        url = postgres_server.replace("/postgres?", f"/{name}?")
        with psycopg.connect(url, client_encoding="UTF8", autocommit=True) as inside:
            inside.execute("CREATE SCHEMA tribe")
        yield url
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(
    "odd_database",
    [("SQL_ASCII", "serializable"), ("LATIN1", "repeatable read")],
    indirect=True,
    ids=["ascii and serializable", "latin1 and repeatable read"],
)
class TestPostgresStoreInAnOddDatabase(PostgresTrouble, StoreContract):
    @pytest.fixture
    async def store(self, odd_database: str) -> AsyncIterator[TokenStore]:
        stores = [PostgresStore(odd_database) for _ in range(4)]
        await asyncio.gather(*(store.create_schema() for store in stores))
        yield stores[0]
        for store in stores:
            await store.close()


class TestRedisStore(RedisTrouble, StoreContract):
    @pytest.fixture
    async def store(self, redis_server: RedisServer) -> AsyncIterator[TokenStore]:
        self.servers = [redis_server]
        store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)
        yield store
        await store.close()


class TestEncryptedRedisStore(RedisTrouble, StoreContract):
    @pytest.fixture
    async def store(self, redis_server: RedisServer) -> AsyncIterator[TokenStore]:
        self.servers = [redis_server]
        store = EncryptedStore(RedisStore(redis_server.url, prefix=uuid.uuid4().hex), [generate_key()])
        yield store
        await store.close()


def test_the_shared_stores_share_slots(tmp_path: Path) -> None:
    """An encrypted store has the abilities of the store that it encrypts, and no others."""
    key = generate_key()
    sqlite, redis = SQLiteStore(tmp_path / "tribe.db"), RedisStore("redis://127.0.0.1")
    for store, rescues, shares in (
        (MemoryStore(), False, False),
        (sqlite, True, True),
        (redis, False, True),
        (PostgresStore("postgresql://127.0.0.1/x"), False, True),
        (RescuerAlone(), True, False),
    ):
        for able in (store, EncryptedStore(store, [key])):
            assert (isinstance(able, Rescuer), isinstance(able, SlotStore)) == (rescues, shares)


class RescuerAlone(MemoryStore):
    async def rescue(self, organization: str, record: Record | None) -> None:
        pass


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
