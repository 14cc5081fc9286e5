"""What a DBA can set, and a DSN can name: it works, or the error says what it is and what to do (S24, F4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import errors

from tribe_oauth import StoreError
from tribe_oauth.stores._postgres_errors import not_connected, store_error
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.postgres import PostgresStore

from .trouble import is_altered


@pytest.fixture
async def store(database: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(database)
    await store.create_schema()
    yield store
    await store.close()


def set_for_all(database: str, setting: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET {setting}')


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        (
            "default_transaction_read_only = on",
            r"can only be read \(ReadOnlySqlTransaction\).*default_transaction_read_only",
        ),
        (
            "search_path = nowhere",
            r"no tables for this in the search_path of its user: call create_schema\(\)",
        ),
    ],
)
async def test_defaults_that_keep_us_from_writing(
    database: str, store: PostgresStore, setting: str, match: str
) -> None:
    """Named, with what to look at."""
    await store.close()
    set_for_all(database, setting)
    with pytest.raises(StoreError, match=match):
        await store.swap(record())


async def test_no_schema_to_create_in(database: str) -> None:
    """A search_path that leads nowhere is named when the tables are to be made."""
    set_for_all(database, "search_path = nowhere")
    store = PostgresStore(database)
    with pytest.raises(StoreError, match=r"has no schema for this user: let search_path name one"):
        await store.create_schema()
    await store.close()


@pytest.mark.parametrize(
    ("setting", "match"),
    [("statement_timeout = '100ms'", "raise statement_timeout"), ("lock_timeout = '100ms'", "LockNotAvailable")],
)
async def test_limits_that_are_shorter_than_ours(database: str, store: PostgresStore, setting: str, match: str) -> None:
    """A statement that the database ends is named so; nothing has happened."""
    await put(store, record())
    await store.close()
    set_for_all(database, setting)
    with psycopg.connect(database) as locking:
        locking.execute("LOCK TABLE tribe_oauth_organizations")
        with pytest.raises(StoreError, match=match):
            await store.load("acme")
    assert await store.load("acme") is not None


async def test_tables_that_are_not_ours(database: str, store: PostgresStore) -> None:
    """Of another form."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE tribe_oauth_organizations DROP COLUMN family")
    with pytest.raises(StoreError, match=r"are not as they were created"):
        await store.load("acme")


async def test_a_character_that_its_encoding_has_not(postgres_server: str) -> None:
    """Named, with the encoding to create it with."""
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        store = PostgresStore(postgres_server.replace("/postgres?", "/latin?"))
        await store.create_schema()
        stored = await put(store, record("😀", cause="\u00e9"))
        assert await store.load("😀") == stored
        with pytest.raises(StoreError, match="an encoding without a character that is stored: create it WITH ENCODING"):
            await store.swap(record(cause="😀"))
        await store.close()
        connection.execute("DROP DATABASE latin WITH (FORCE)")


async def test_text_that_is_none(postgres_server: str) -> None:
    """In an encoding that checks nothing: the record is named, whoever finds it out."""
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        url = postgres_server.replace("/postgres?", "/ascii?")
        store = PostgresStore(url)
        await store.create_schema()
        await put(store, record())
        beta = await put(store, record("beta"))
        with psycopg.connect(url, autocommit=True) as inside:
            inside.execute("UPDATE tribe_oauth_organizations SET family = convert_from('\\xff', 'SQL_ASCII')"
                           " WHERE organization = 'acme'")  # fmt: skip
        await is_altered(store)
        assert await store.load("beta") == beta
        await store.close()
        connection.execute("DROP DATABASE ascii WITH (FORCE)")


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
async def test_hosts_that_create_the_schema_at_once(database: str, isolation: str) -> None:
    """Whatever the isolation, one of them does."""
    set_for_all(database, f"default_transaction_isolation = '{isolation}'")
    stores = [PostgresStore(database) for _ in range(6)]
    await asyncio.gather(*(store.create_schema() for store in stores))
    for store in stores:
        await store.close()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM tribe_oauth_schema").fetchone() == (1,)


@pytest.mark.parametrize("change", ["lease_end = 'NaN'", "lease_for = 'Infinity'", "due_at = 'NaN'", "version = 0"])
async def test_numbers_that_are_none(database: str, store: PostgresStore, change: str) -> None:
    """A lease without an end would be waited for for ever, and a version that no write has never be written over."""
    await put(store, record(lease="nonce", due_at=1.0), lease_for=100)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"UPDATE tribe_oauth_organizations SET {change}")  # noqa: S608 (of the test)
    await is_altered(store)


async def test_a_surrogate(store: PostgresStore) -> None:
    """What cannot be sent is a StoreError like any other."""
    with pytest.raises(StoreError, match=r"the database failed \(UnicodeEncodeError\)"):
        await store.swap(record(family="\ud800"))


# Connections


async def connecting(dsn: str, match: str) -> None:
    store = PostgresStore(dsn, timeout=30)
    with pytest.raises(StoreError, match=match) as error:
        await store.load("acme")
    assert "canary" not in str(error.value)
    assert error.value.__suppress_context__
    await store.close()


async def test_a_database_or_a_user_that_is_not_there(database: str) -> None:
    await connecting(database.replace("/test_", "/canary_"), "does not know the user or the database")
    await connecting(database.replace("postgres:@", "canary:@"), "does not know the user or the database")


async def test_tls_that_is_not_there(database: str) -> None:
    server, _ = database.split("?host=")
    hung_up = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"N")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    between = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = between.sockets[0].getsockname()[1]
    await connecting(f"{server}?host=127.0.0.1&port={port}&sslmode=require", "has no TLS there, and the DSN wants it")
    await hung_up.wait()
    between.close()


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ('connection failed: FATAL:  password authentication failed for user "canary"', "refused user and password"),
        ("fe_sendauth: no password supplied", "wants a password"),
        ('FATAL:  no pg_hba.conf entry for host "canary", user "u", database "d", no encryption', "wants TLS"),
        ('FATAL:  no pg_hba.conf entry for host "canary", user "u", database "d", SSL encryption', r"pg_hba\.conf"),
        ("SSL error: certificate verify failed", "TLS refuses its certificate.*sslrootcert"),
        ("FATAL:  sorry, too many clients already", "no connection left"),
        ("FATAL:  remaining connection slots are reserved", "no connection left"),
        ("FATAL:  the database system is starting up", "is starting: wait"),
        ('could not translate host name "canary" to address', "has no address"),
        ("expected authentication request from server, but received H", "is no PostgreSQL"),
        ("etwas anderes: canary", r"no connection to the database \(OperationalError\): look whether it runs"),
    ],
)
def test_why_there_is_no_connection(said: str, match: str) -> None:
    """As far as it is known; the words themselves are not shown."""
    error = not_connected(psycopg.OperationalError(said))
    assert "canary" not in str(error)
    with pytest.raises(StoreError, match=match):
        raise error


def test_what_the_database_says() -> None:
    """A full disk, and what is not in the table."""
    assert "disk is full" in str(store_error(errors.DiskFull("canary"), 1.0))
    assert str(store_error(KeyError("canary"), 1.0)) == "the database failed (KeyError): look into its log"
