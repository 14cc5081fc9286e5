"""What is PostgreSQL's own: the schema, the pool, a proxy, restarts, durability."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from tribe_oauth import RefreshTokenGrant, StoreError, TokenManager
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores.contract import due, listed, put, record
from tribe_oauth.stores.postgres import PostgresStore

from . import servers
from .servers import PostgresServer


@pytest.fixture
async def store(database: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(database)
    await store.create_schema()
    yield store
    await store.close()


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that may be killed and frozen."""
    with servers.postgres_server() as server:
        yield server


@pytest.fixture
async def own_store(own_server: PostgresServer) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(own_server.url)
    await store.create_schema()
    yield store
    await store.close()


async def test_without_the_schema(database: str) -> None:
    """The error names the call; the tables are never made in passing."""
    store = PostgresStore(database)
    with pytest.raises(StoreError, match=r"call create_schema\(\)") as error:
        await store.load("acme")
    assert error.value.__suppress_context__
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
    """A newer schema is not used, and not touched."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE tribe_oauth_schema SET version = 99")
        connection.execute("DROP TABLE tribe_oauth_notes")  # which version 99 can do without
    with pytest.raises(StoreError, match="has schema 99, and this version of tribe-oauth knows 1"):
        await store.create_schema()
    fresh = PostgresStore(database)
    for _ in range(2):
        with pytest.raises(StoreError, match="use the version that wrote it, or another database"):
            await fresh.load("acme")
    await fresh.close()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regclass('tribe_oauth_notes')").fetchone() == (None,)


async def test_a_user_who_may_not(database: str, store: PostgresStore) -> None:
    """The error says what to grant, for use and for the creation of the schema."""
    await put(store, record())
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN")
        guest = PostgresStore(database.replace("postgres:@", "guest:@"))
        with pytest.raises(StoreError, match="grant SELECT, INSERT, UPDATE and DELETE") as error:
            await guest.load("acme")
        assert error.value.__suppress_context__
        connection.execute("DROP TABLE tribe_oauth_schema")
        with pytest.raises(StoreError, match=r"to the user that creates them, CREATE on the schema"):
            await guest.create_schema()
        await guest.close()
        connection.execute("DROP ROLE guest")


async def test_a_server_that_does_not_write(own_server: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    """A server without fsync is warned of, once; one with it is not talked about."""
    caplog.set_level(logging.WARNING)
    with psycopg.connect(own_server.url, autocommit=True) as connection:
        for setting in ("on", "off"):
            connection.execute(f"ALTER SYSTEM SET fsync = {setting}")
            connection.execute("SELECT pg_reload_conf()")
            while connection.execute("SHOW fsync").fetchone() != (setting,):
                pass
            store = PostgresStore(own_server.url)
            await store.create_schema()
            said = len(caplog.messages)
            await store.load("acme")
            await store.close()
            assert len(caplog.messages) == said
        connection.execute("ALTER SYSTEM RESET fsync")
        connection.execute("SELECT pg_reload_conf()")
    assert caplog.messages == ["PostgreSQL has fsync off: a rotation can be lost with it; set it to on"]


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


async def test_behind_a_proxy(database: str) -> None:
    """Each operation is one transaction, in whichever session, and needs nothing of what a session keeps."""
    async with servers.pooler(database) as (between, url):
        store = PostgresStore(url)
        await store.create_schema()
        before = between.transactions
        for number in range(10):
            await put(store, record(f"org {number}", due_at=1.0))
            assert await store.load(f"org {number}") is not None
            await store.put("key", b"value", lives_for=100)
            assert await store.take("key") == b"value"
        assert between.transactions == before + 40
        assert len(await listed(store)) == len(await due(store, 2.0)) == 10
        assert between.transactions == before + 44  # a page, and the empty one after it
        await store.close()


async def test_connections_that_were_cut(database: str, store: PostgresStore) -> None:
    """A database that was restarted is no caller's trouble."""
    stored = await put(store, record())
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert await store.load("acme") == stored


async def test_killed_after_a_confirmed_write(own_server: PostgresServer, own_store: PostgresStore) -> None:
    """F1, F4: after kill -9 the store fails at once, and when the server is back all that was confirmed is there."""
    stored = await put(own_store, record("killed", payload=b"new"))
    own_server.kill()
    with pytest.raises(StoreError, match="no connection to the database"):
        await own_store.load("killed")
    own_server.start()
    assert await own_store.load("killed") == stored


async def test_restarted_between_two_calls(own_server: PostgresServer, own_store: PostgresStore) -> None:
    """Connections that died meanwhile are no caller's trouble."""
    stored = await put(own_store, record("restarted"))
    own_server.kill()
    own_server.start()
    assert await own_store.load("restarted") == stored


async def test_a_frozen_database(own_server: PostgresServer, own_store: PostgresStore) -> None:
    """F4, F7: neither the time-out nor a cancelled caller waits for a server that says nothing."""
    stored = await put(own_store, record("frozen"))
    hasty = PostgresStore(own_server.url, timeout=0.3)
    assert await hasty.load("frozen") == stored
    with own_server.frozen():
        begun = time.monotonic()
        with pytest.raises(StoreError, match=r"did not answer within 0\.3 s") as error:
            await hasty.load("frozen")
        assert error.value.__suppress_context__
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(own_store.load("frozen"), 0.1)
        assert time.monotonic() - begun < 2
    assert await hasty.load("frozen") == await own_store.load("frozen") == stored
    await hasty.close()


@pytest.mark.parametrize("url", ["postgresql://user:canary@127.0.0.1:9/x", "postgresql://%2Fnowhere/canary"])
async def test_a_database_that_is_not_there(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """F4, S24: one clear error at once, without the password, and nothing in a log."""
    caplog.set_level(logging.DEBUG)
    store = PostgresStore(url, timeout=60)
    with pytest.raises(StoreError, match=r"no connection to the database.*look whether it runs") as error:
        await store.load("acme")
    assert "canary" not in repr(error.value) + caplog.text
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
    await store.close()


@pytest.mark.parametrize("dsn", ["postgresql://u:canary@[h/d", "user canary", "postgresql://h/d?canary=1"])
def test_a_dsn_that_cannot_be_read(dsn: str) -> None:
    """S24: refused where it is given, in words of our own: the driver's would show parts of it."""
    with pytest.raises(ConfigurationError, match="the DSN cannot be read: write postgresql://") as error:
        PostgresStore(dsn)
    assert "canary" not in str(error.value)
    assert error.value.__suppress_context__


async def test_a_database_that_hangs(database: str, store: PostgresStore) -> None:
    """F4: a lock that another session holds is not waited for for ever."""
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
        await store.swap(record(family="canary\0"))
    assert "canary" not in str(error.value)
    assert error.value.__suppress_context__


def test_one_loop_after_another(database: str) -> None:
    """F10: connections belong to their loop; the next loop gets its own, and those of one that is gone are closed."""
    store = PostgresStore(database)

    async def write() -> None:
        await store.create_schema()
        await put(store, record())

    asyncio.run(write())
    assert asyncio.run(store.load("acme")) is not None
    asyncio.run(store.close())
    gc.collect()  # a connection that was left open would warn, and warnings are errors
    with psycopg.connect(database) as connection:
        while connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ).fetchone() != (1,):
            connection.rollback()


async def test_closed_while_it_is_used(database: str, store: PostgresStore) -> None:
    """An operation under way ends well, and its connection is closed after it."""
    stored = await put(store, record())
    assert store._pool is not None
    async with asyncio.timeout(30) as deadline, store._pool.connection(deadline) as connection:
        loading = asyncio.ensure_future(store.load("acme"))
        await store.close()
        assert not connection.closed
    assert connection.closed
    assert await loading == stored


async def test_two_loops_in_two_threads(store: PostgresStore) -> None:
    """F10: each gets connections of its own in turn; no call fails by it."""
    stored = await put(store, record())
    assert await asyncio.to_thread(asyncio.run, store.load("acme")) == stored
    assert await store.load("acme") == stored


def test_a_forked_child(database: str) -> None:
    """F10: it opens connections of its own, and leaves its parent's alone."""
    program = """
import asyncio, os, sys
from tribe_oauth.stores.postgres import PostgresStore

async def session():
    return await store._execute("SELECT pg_backend_pid()", {})

async def main():
    await store.create_schema()
    mine = await session()
    child = os.fork()
    if child == 0:
        os._exit(asyncio.run(session()) == mine)
    print(os.waitpid(child, 0)[1], await session() == mine)
    await store.close()

store = PostgresStore(sys.argv[1])
asyncio.run(main())
"""
    command = [sys.executable, "-c", program, database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("0 True\n", "")
