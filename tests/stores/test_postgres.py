"""What is PostgreSQL's own: the schema, the pool, a proxy, restarts, durability."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import attrs
import psycopg
import pytest

from tribe_oauth import RefreshTokenGrant, StoreError, TokenManager
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.postgres import PostgresStore


@pytest.fixture
async def store(database: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(database)
    await store.create_schema()
    yield store
    await store.close()


async def test_without_the_schema(database: str) -> None:
    """The error names the call; the tables are never made in passing."""
    store = PostgresStore(database)
    with pytest.raises(StoreError, match=r"call create_schema\(\)"):
        await store.load("acme")
    await store.close()


async def test_creating_the_schema_together(database: str) -> None:
    """All hosts may do it at once, and again."""
    stores = [PostgresStore(database) for _ in range(4)]
    await asyncio.gather(*(store.create_schema() for store in stores))
    await stores[0].create_schema()
    await put(stores[1], record())
    for store in stores:
        await store.close()


async def test_another_version(database: str, store: PostgresStore) -> None:
    """A newer schema is not used."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE tribe_oauth_schema SET version = 99")
    with pytest.raises(StoreError, match="has schema 99, and this version of tribe-oauth knows 1"):
        await store.create_schema()


async def test_durable_whatever_the_database_says(database: str, store: PostgresStore) -> None:
    """A database that confirms before it has written is told otherwise, for our writes; a stronger setting stays."""
    for setting, effective in (("off", "on"), ("remote_apply", "remote_apply"), ("local", "local")):
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET synchronous_commit = {setting}')
            connection.execute("DROP TABLE IF EXISTS seen")
            connection.execute("CREATE TABLE seen AS SELECT ''::text AS setting")
            connection.execute(
                "CREATE OR REPLACE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN UPDATE seen SET setting = current_setting('synchronous_commit'); RETURN NEW; END$$"
            )
            connection.execute("DROP TRIGGER IF EXISTS look ON tribe_oauth_organizations")
            connection.execute(
                "CREATE TRIGGER look BEFORE INSERT OR UPDATE ON tribe_oauth_organizations"
                " FOR EACH ROW EXECUTE FUNCTION look()"
            )
        fresh = PostgresStore(database)
        stored = await put(fresh, record(f"org {setting}"))
        await put(fresh, stored)
        await fresh.close()
        with psycopg.connect(database) as connection:
            assert connection.execute("SELECT setting FROM seen").fetchall() == [(effective,)]


async def test_nothing_is_held_during_a_request(database: str) -> None:
    """A hundred refreshes under way on a pool of four: no connection and no transaction waits for the server."""
    async with Sandbox() as sandbox:
        client = sandbox.client()
        store = PostgresStore(database, pool_size=4)
        await store.create_schema()
        async with TokenManager(client, store=store) as manager:
            keys = [f"org {number}" for number in range(100)]
            await asyncio.gather(
                *(manager.connect(key, RefreshTokenGrant(client, sandbox.paste_token(key))) for key in keys)
            )
            fault = sandbox.fault("hang", times=None)
            refreshing = [asyncio.ensure_future(manager.refresh(key)) for key in keys]
            while fault.hits < 100:
                await fault.reached()
                await asyncio.sleep(0)
            with psycopg.connect(database) as connection:
                busy = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND state <> 'idle'"
                ).fetchone()
                held = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                ).fetchone()
            fault.cancel()
            await asyncio.gather(*refreshing)
        assert busy == (0,)
        assert held is not None
        assert held[0] <= 5
        assert sandbox.ledger.reused() == ()


async def test_no_session_state(database: str, store: PostgresStore) -> None:
    """Behind a transaction-pooling proxy: everything that a session had is thrown away between transactions."""
    stored = await put(store, record(lease="nonce"), lease_for=100)
    assert store._pool is not None
    for _ in range(5):
        async with store._pool.connection() as connection:
            await connection.execute("DISCARD ALL")
        stored = await put(store, attrs.evolve(stored, failures=stored.failures + 1))
    assert stored.lease_left > 90
    with psycopg.connect(database) as connection:
        prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert prepared == (0,)


async def test_connections_that_were_cut(database: str, store: PostgresStore) -> None:
    """A database that was restarted is no caller's trouble."""
    stored = await put(store, record())
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert await store.load("acme") == stored


async def test_a_database_that_is_not_there() -> None:
    """F4: one clear error within the time, without the password."""
    store = PostgresStore("postgresql://user:canary@127.0.0.1:9/nothing", timeout=0.2)
    with pytest.raises(StoreError, match=r"did not answer within 0\.2 s") as error:
        await store.load("acme")
    assert "canary" not in repr(error.value)
    assert error.value.__cause__ is None
    await store.close()


async def test_a_database_that_hangs(database: str, store: PostgresStore) -> None:
    """F4: a lock that somebody holds is not waited for for ever."""
    await put(store, record())
    hasty = PostgresStore(database, timeout=0.2)
    with psycopg.connect(database) as connection:
        connection.execute("LOCK tribe_oauth_organizations IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreError, match="did not answer within"):
            await hasty.load("acme")
    await hasty.close()


async def test_a_value_that_does_not_fit(store: PostgresStore) -> None:
    """What the database refuses is a StoreError without the value."""
    with pytest.raises(StoreError, match=r"the database failed \(\w+\)") as error:
        await store.swap(record(chain="canary\0"))
    assert "canary" not in str(error.value)


def test_one_loop_after_another(database: str) -> None:
    """A pool belongs to its loop; the next loop gets one of its own."""
    shared = PostgresStore(database)

    async def write() -> None:
        await shared.create_schema()
        await put(shared, record())

    async def read() -> None:
        assert await shared.load("acme") is not None
        await shared.close()

    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(write())
        pool = shared._pool
        second.run(read())
        assert pool is not None
        assert not pool.closed
        first.run(pool.close())


async def test_closing_from_another_loop(database: str, store: PostgresStore) -> None:
    """What belongs to a loop that is still open is not touched by another's close."""
    await put(store, record())
    pool = store._pool

    def close_elsewhere() -> None:
        asyncio.run(store.close())

    await asyncio.to_thread(close_elsewhere)
    assert pool is not None
    assert not pool.closed
    await pool.close()
