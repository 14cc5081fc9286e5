"""How trouble is made for each store: damage, keys that are no text, and servers that do not answer."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

import psycopg
import pytest

from tribe_oauth._refresh.payload import decode
from tribe_oauth.errors import UnreadableError
from tribe_oauth.stores import TokenStore
from tribe_oauth.stores.contract import record
from tribe_oauth.stores.encrypted import EncryptedStore
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.stores.redis import RedisStore, _bucket
from tribe_oauth.stores.sqlite import SQLiteStore

from .servers import RedisServer

HASTY = 0.5
"""Seconds for an operation while nothing answers."""


async def is_altered(store: TokenStore) -> UnreadableError:
    """See that the record of acme cannot be read, at the latest where it is decoded, and give the error."""
    with pytest.raises(UnreadableError, match="of organization 'acme' cannot be read: it was altered") as error:
        decode(await store.load("acme") or record())
    assert error.value.organization == "acme"
    return error.value


def inner(store: TokenStore) -> TokenStore:
    """The store that is encrypted, or itself."""
    return store._store if isinstance(store, EncryptedStore) else store


class MemoryTrouble:
    """Nothing else can write into a dictionary, and it always answers."""

    async def damage(self, store: TokenStore, organization: str) -> bool:
        return False

    async def damage_key(self, store: TokenStore, organization: str) -> bool:
        return False

    def out_of_reach(self, store: TokenStore) -> AbstractAsyncContextManager[None] | None:
        return None


class SQLiteTrouble:
    """Another program that opens the file."""

    async def damage(self, store: TokenStore, organization: str) -> bool:
        self._change(store, "status = 'canary'", organization)
        return True

    async def damage_key(self, store: TokenStore, organization: str) -> bool:
        self._change(store, "organization = x'ff'", organization)
        return True

    def _change(self, store: TokenStore, change: str, organization: str) -> None:
        with sqlite3.connect(path_of(store)) as connection:
            sql = f"UPDATE organizations SET {change} WHERE organization = ?"  # noqa: S608 (of the test)
            connection.execute(sql, (organization.encode(),))
        connection.close()

    def out_of_reach(self, store: TokenStore) -> AbstractAsyncContextManager[None] | None:
        return self._locked(store)

    @asynccontextmanager
    async def _locked(self, store: TokenStore) -> AsyncIterator[None]:
        sqlite = inner(store)
        assert isinstance(sqlite, SQLiteStore)
        await store.close()
        sqlite._busy_timeout = HASTY
        await store.load("acme")
        blocker = sqlite3.connect(path_of(store), isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        yield
        blocker.execute("ROLLBACK")
        blocker.close()


def path_of(store: TokenStore) -> str:
    sqlite = inner(store)
    assert isinstance(sqlite, SQLiteStore)
    return str(sqlite._path)


class PostgresTrouble:
    """Another session."""

    async def damage(self, store: TokenStore, organization: str) -> bool:
        self._change(store, "status = 'canary'", organization)
        return True

    async def damage_key(self, store: TokenStore, organization: str) -> bool:
        self._change(store, r"organization = decode('ff', 'hex')", organization)
        return True

    def _change(self, store: TokenStore, change: str, organization: str) -> None:
        with psycopg.connect(dsn_of(store), client_encoding="UTF8", autocommit=True) as connection:
            sql = f"UPDATE tribe_oauth_organizations SET {change} WHERE organization = %s"  # noqa: S608 (of the test)
            connection.execute(sql, (organization.encode(),))

    def out_of_reach(self, store: TokenStore) -> AbstractAsyncContextManager[None] | None:
        return self._locked(store)

    @asynccontextmanager
    async def _locked(self, store: TokenStore) -> AsyncIterator[None]:
        postgres = inner(store)
        assert isinstance(postgres, PostgresStore)
        await store.close()
        before, postgres._timeout = postgres._timeout, HASTY
        with psycopg.connect(dsn_of(store)) as blocker:
            blocker.execute("LOCK TABLE tribe_oauth_organizations")
            yield
            blocker.rollback()
        postgres._timeout = before


def dsn_of(store: TokenStore) -> str:
    postgres = inner(store)
    assert isinstance(postgres, PostgresStore)
    return postgres._dsn.reveal()


class RedisTrouble:
    """Another client, and servers that are frozen."""

    servers: list[RedisServer]

    async def damage(self, store: TokenStore, organization: str) -> bool:
        redis = redis_of(store)
        key = redis._record(organization)
        await redis._call(key, "HSET", key, "fields", b"\xff{")
        return True

    async def damage_key(self, store: TokenStore, organization: str) -> bool:
        redis = redis_of(store)
        for index in redis._indexes(_bucket(organization)):
            await redis._call(index, "ZREM", index, organization.encode())
            await redis._call(index, "ZADD", index, 0, b"\xff")
        return True

    def out_of_reach(self, store: TokenStore) -> AbstractAsyncContextManager[None] | None:
        return self._frozen(store)

    @asynccontextmanager
    async def _frozen(self, store: TokenStore) -> AsyncIterator[None]:
        await store.close()
        redis_of(store)._timeout = HASTY
        with ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server.frozen())
            yield


def redis_of(store: TokenStore) -> RedisStore:
    redis = inner(store)
    assert isinstance(redis, RedisStore)
    return redis
