"""PostgreSQL behind a name: after a fail-over the name leads elsewhere, and what is owed is saved there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import attrs
import psycopg
import pytest

from tribe_oauth import RefreshTokenGrant, StoreError, TokenManager
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores._postgres_pool import LONGEST_LIFE
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.postgres import PostgresStore

from . import servers
from .servers import Forwarder, PostgresServer


@pytest.fixture(scope="module")
def other_server() -> Iterator[PostgresServer]:
    """The one that is the primary after the fail-over."""
    with servers.postgres_server() as server:
        yield server


@pytest.fixture
def other_database(database: str, other_server: PostgresServer) -> Iterator[str]:
    """A database of the same name there."""
    name = database.split("?")[0].rsplit("/", 1)[1]
    with psycopg.connect(other_server.url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield other_server.url.replace("/postgres?", f"/{name}?")
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def socket_of(url: str) -> str:
    return f"{url.split('?host=')[1]}/.s.PGSQL.5432"


@pytest.fixture
async def name(database: str) -> AsyncIterator[tuple[Forwarder, str]]:
    """A name that leads to the first server, and the DSN with it."""
    async with servers.forwarder(socket_of(database)) as (between, port):
        yield between, f"{database.split('?')[0]}?host=127.0.0.1&port={port}"


@pytest.fixture
async def store(name: tuple[Forwarder, str]) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(name[1])
    await store.create_schema()
    yield store
    await store.close()


async def fail_over(database: str, other_database: str, between: Forwarder) -> None:
    """The first becomes read-only, the second has what the first had, and the name leads to it."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET default_transaction_read_only = on')
    other = PostgresStore(other_database)
    await other.create_schema()
    source = PostgresStore(database)
    async for organization in source.organizations():
        found = await source.load(organization)
        assert found is not None
        await put(other, attrs.evolve(found, version=0))
        with psycopg.connect(other_database, autocommit=True) as connection:
            sql = "UPDATE tribe_oauth_organizations SET version = %s WHERE organization = %s"
            connection.execute(sql, (found.version, organization.encode()))
    await source.close()
    await other.close()
    between.target = socket_of(other_database)


async def busy(store: PostgresStore) -> None:
    """Open all connections of the pool."""
    await asyncio.gather(*(store._execute("SELECT pg_sleep(0.05)", {}) for _ in range(4)))


async def demoted(store: PostgresStore) -> None:
    """The sessions that are open are read-only from now on, as those of an old primary are."""
    assert store._pool is not None
    for connection, _ in store._pool._idle:
        await connection.execute("SET default_transaction_read_only = on")


async def test_a_primary_that_became_read_only(
    database: str, other_database: str, name: tuple[Forwarder, str], store: PostgresStore
) -> None:
    """One call fails, with the reason; the next asks for the name again, whichever connection it would have got."""
    between, _ = name
    stored = await put(store, record())
    await busy(store)
    await fail_over(database, other_database, between)
    await demoted(store)
    with pytest.raises(StoreError, match=r"can only be read \(ReadOnlySqlTransaction\): after a fail-over"):
        await store.swap(stored)
    saved = await put(store, attrs.evolve(stored, payload=b"new"))
    for _ in range(5):
        assert await store.load("acme") == saved


async def test_a_rotation_in_flight_is_saved(
    database: str, other_database: str, name: tuple[Forwarder, str], store: PostgresStore
) -> None:
    """The server answered, the store cannot be written where it was: the token is in the new one in seconds."""
    between, _ = name
    async with Sandbox() as sandbox:
        client = sandbox.client()
        async with TokenManager(client, store=store) as manager:
            await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
            fault = sandbox.fault("hang")
            refreshing = asyncio.ensure_future(manager.refresh("acme"))
            await fault.reached()
            await fail_over(database, other_database, between)
            await demoted(store)
            fault.cancel()
            token = await refreshing
        async with TokenManager(client, store=PostgresStore(other_database)) as manager:
            assert await manager.token("acme") == token
            await manager.store.close()
        assert sandbox.ledger.spent_twice() == ()


@pytest.mark.parametrize("code", ["25006", "57P01", "57P02", "57P03", "08006", "08P01", "53300", "XX000"])
async def test_codes_that_a_server_sends(name: tuple[Forwarder, str], store: PostgresStore, code: str) -> None:
    """Each has all connections opened anew, those in use after their use."""
    between, _ = name
    await busy(store)
    assert store._pool is not None
    async with asyncio.timeout(30) as deadline, store._pool.connection(deadline) as in_use:
        with pytest.raises(StoreError):
            await store._execute(f"DO $$BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = '{code}'; END$$", None)
        assert store._pool._idle == []
    assert in_use.closed
    before = between.accepted
    await store.load("acme")
    assert between.accepted == before + 1


async def test_what_was_rolled_back_is_done_again(database: str, store: PostgresStore) -> None:
    """A database with serializable transactions refuses the later of two that meet: nothing happened, once more."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            f'ALTER DATABASE "{connection.info.dbname}" SET default_transaction_isolation = serializable'
        )
        connection.execute(
            "CREATE SEQUENCE tries; GRANT ALL ON tries TO PUBLIC;"
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
            "  CASE nextval('tries') WHEN 1 THEN RAISE EXCEPTION 'x' USING ERRCODE = '40001';"
            "  WHEN 2 THEN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; ELSE RETURN NEW; END CASE; END$$;"
            "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON tribe_oauth_organizations"
            " FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    stored = await put(store, record())
    assert await store.load("acme") == stored
    fresh = PostgresStore(database)
    contenders = [record(version=stored.version, cause=str(number)) for number in range(50)]
    results = await asyncio.gather(*(fresh.swap(contender) for contender in contenders))
    assert len([result for result in results if result is not None]) == 1
    await fresh.close()


async def test_a_name_that_is_moved_while_nothing_is_asked(
    database: str,
    other_database: str,
    name: tuple[Forwarder, str],
    store: PostgresStore,
) -> None:
    """A server that goes on, alone: after a while no connection is used that may lead to it."""
    between, _ = name
    await busy(store)
    await fail_over(database, other_database, between)
    other = PostgresStore(other_database)
    stored = await put(other, record())
    await other.close()
    assert await store.load("acme") is None
    assert store._pool is not None
    opened = [until - LONGEST_LIFE for _, until in store._pool._idle]
    assert all(time.monotonic() - 60 < at <= time.monotonic() for at in opened)
    store._pool._idle = [(connection, until - LONGEST_LIFE) for connection, until in store._pool._idle]
    assert await store.load("acme") == stored


async def test_connections_that_lead_nowhere(database: str, name: tuple[Forwarder, str], store: PostgresStore) -> None:
    """Half-open ones cost one time-out together, not one each."""
    _, url = name
    hasty = PostgresStore(url, timeout=0.3)
    stored = await put(hasty, record())
    await busy(hasty)
    assert hasty._pool is not None
    pids = [connection.info.backend_pid for connection, _ in hasty._pool._idle]
    with psycopg.connect(database, autocommit=True) as locking:
        locking.execute("BEGIN; LOCK tribe_oauth_organizations")  # as good as gone
        with pytest.raises(StoreError, match="did not answer within"):
            await hasty.load("acme")
        locking.execute("ROLLBACK")
    assert len(pids) == 4
    assert hasty._pool._idle == []
    assert await hasty.load("acme") == stored
    await hasty.close()


async def test_a_server_that_accepts_and_never_answers(name: tuple[Forwarder, str], store: PostgresStore) -> None:
    """It is not waited for for longer than the time-out; when the name leads elsewhere, so does the store."""
    between, url = name
    stored = await put(store, record())
    target, between.target = between.target, "nowhere"
    hasty = PostgresStore(url, timeout=0.2)
    begun = time.monotonic()
    with pytest.raises(StoreError, match=r"did not answer within 0\.2 s"):
        await hasty.load("acme")
    assert time.monotonic() - begun < 2
    between.target = target
    assert await hasty.load("acme") == stored
    await hasty.close()


async def test_several_hosts_and_the_first_never_answers(database: str, name: tuple[Forwarder, str]) -> None:
    """It does not take the time of those after it."""
    _, url = name
    port = url.rsplit("=", 1)[1]
    async with servers.forwarder("nowhere") as (_, silent):
        several = PostgresStore(url.replace("127.0.0.1", "127.0.0.1,127.0.0.1").replace(port, f"{silent},{port}"))
        await several.create_schema()
        await several.close()


@pytest.mark.parametrize(("dsn", "seconds"), [("", 2), ("connect_timeout=7", 7)])
def test_time_for_two_addresses(dsn: str, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the DSN, or the environment, says otherwise."""
    assert f"connect_timeout={seconds}" in PostgresStore(dsn)._dsn.reveal()
    assert "connect_timeout=30" in PostgresStore("", timeout=60)._dsn.reveal()
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    assert PostgresStore("")._dsn.reveal() == ""


async def test_waiting_costs_nothing(store: PostgresStore) -> None:
    """A statement that takes long suspends its caller a few times, and not the whole time long."""
    await store.load("acme")
    coroutine = store._execute("SELECT pg_sleep(0.3)", {})
    suspensions = 0

    class Counted:
        def __await__(self):  # type: ignore[no-untyped-def]
            nonlocal suspensions
            for future in coroutine.__await__():
                suspensions += 1
                yield future

    async def run() -> None:
        await Counted()

    await run()
    assert suspensions < 10
