"""A store for many hosts: PostgreSQL.

Each operation is one statement, and so one transaction: nothing is held between two calls, and no session state is
needed, so that a transaction-pooling proxy may stand between. psycopg 3 was chosen by measuring: without prepared
statements, as behind such a proxy, a statement costs it one round trip, where asyncpg needs two.

The pool is our own, since psycopg's asks the server something before each use, keeps the reason of a failure to its log
(with parts of the DSN), and makes callers wait while it backs off.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs

from tribe_oauth.errors import ConfigurationError, StoreError
from tribe_oauth.stores._contract import Record, from_row, written

try:
    import psycopg
    from psycopg.abc import RV, PQGen
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import TransactionStatus
    from psycopg.waiting import wait_async
except ImportError:
    raise ImportError("PostgresStore needs an extra: pip install 'tribe-oauth[postgres]'") from None

logger = logging.getLogger("tribe_oauth")

SCHEMA_VERSION: Final = 1
PAGE: Final = 500
"""Keys that are read at a time."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS tribe_oauth_schema (version integer NOT NULL);
CREATE TABLE IF NOT EXISTS tribe_oauth_organizations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization bytea NOT NULL UNIQUE,
    version bigint NOT NULL,
    family text NOT NULL,
    generation bigint NOT NULL,
    status text NOT NULL,
    cause text,
    maybe_spent boolean NOT NULL,
    failures integer NOT NULL,
    not_before double precision NOT NULL,
    due_at double precision,
    payload bytea NOT NULL,
    lease text,
    lease_end double precision NOT NULL,
    lease_for double precision NOT NULL
);
CREATE INDEX IF NOT EXISTS tribe_oauth_due ON tribe_oauth_organizations (due_at, id) WHERE due_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS tribe_oauth_notes (
    key bytea PRIMARY KEY,
    value bytea NOT NULL,
    ends double precision NOT NULL
);
CREATE INDEX IF NOT EXISTS tribe_oauth_note_ends ON tribe_oauth_notes (ends);
INSERT INTO tribe_oauth_schema SELECT 1 WHERE NOT EXISTS (SELECT FROM tribe_oauth_schema);
"""
_NOW: Final = "extract(epoch FROM clock_timestamp())::double precision"
_LEFT: Final = f"CASE WHEN lease IS NULL THEN 0 ELSE greatest(0, least(lease_end - {_NOW}, lease_for)) END"
_FIELDS: Final = "version, family, generation, status, cause, maybe_spent, failures, not_before, due_at, payload"
# A database may be set to confirm before it has written: not for these.
_DURABLE: Final = """WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit',
    CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END,
    true))
"""
_LOAD: Final = f"""SELECT {_FIELDS}, lease, {_LEFT} AS lease_left FROM tribe_oauth_organizations
WHERE organization = %(organization)s"""  # noqa: S608 (constants; values are parameters)
_INSERT: Final = f"""{_DURABLE} INSERT INTO tribe_oauth_organizations
    (organization, {_FIELDS}, lease, lease_end, lease_for)
SELECT %(organization)s, 1, %(family)s, %(generation)s, %(status)s, %(cause)s, %(maybe_spent)s, %(failures)s,
    %(not_before)s, %(due_at)s, %(payload)s, %(lease)s, {_NOW} + %(lease_for)s, %(lease_for)s
FROM durable ON CONFLICT (organization) DO NOTHING RETURNING {_LEFT}"""  # noqa: S608
_UPDATE: Final = f"""{_DURABLE} UPDATE tribe_oauth_organizations SET version = version + 1, family = %(family)s,
    generation = %(generation)s, status = %(status)s, cause = %(cause)s, maybe_spent = %(maybe_spent)s,
    failures = %(failures)s,
    not_before = %(not_before)s, due_at = %(due_at)s, payload = %(payload)s, lease = %(lease)s,
    lease_end = CASE WHEN %(renew)s THEN {_NOW} + %(lease_for)s ELSE lease_end END,
    lease_for = CASE WHEN %(renew)s THEN %(lease_for)s ELSE lease_for END
FROM durable WHERE organization = %(organization)s AND version = %(version)s RETURNING {_LEFT}"""  # noqa: S608
_PUT: Final = f"""{_DURABLE}, ended AS (DELETE FROM tribe_oauth_notes WHERE ends <= {_NOW} AND key <> %(key)s)
INSERT INTO tribe_oauth_notes AS note SELECT %(key)s, %(value)s, {_NOW} + %(lives_for)s FROM durable
ON CONFLICT (key) DO UPDATE SET
    value = CASE WHEN note.ends <= {_NOW} THEN excluded.value ELSE note.value END,
    ends = CASE WHEN note.ends <= {_NOW} THEN excluded.ends ELSE note.ends END
RETURNING value"""  # noqa: S608
_TAKE: Final = f"""{_DURABLE} DELETE FROM tribe_oauth_notes USING durable WHERE key = %(key)s
RETURNING value, ends > {_NOW}"""  # noqa: S608
_ORGANIZATIONS: Final = """SELECT id, organization FROM tribe_oauth_organizations
WHERE id > %(after)s AND status <> 'disconnected' ORDER BY id LIMIT %(page)s"""
_DUE: Final = """SELECT due_at, id, organization FROM tribe_oauth_organizations
WHERE due_at <= %(before)s AND (due_at, id) > (%(due_at)s, %(after)s) ORDER BY due_at, id LIMIT %(page)s"""

_LOOK: Final = "SELECT max(version), current_setting('fsync') FROM tribe_oauth_schema"

Row = tuple[Any, ...]


class PostgresStore:
    """Connections in a PostgreSQL database, shared by any number of hosts; durable as its commits are.

    `dsn`: as libpq takes it (``postgresql://…``). Call `create_schema` once, with the right to create tables; after
    that reading and writing them is enough. `pool_size`: connections for each process. `timeout`: seconds for one
    operation, waiting for a connection and opening it included. Leases end by the database's clock. A commit is waited
    for even where ``synchronous_commit`` is off; of a server with ``fsync`` off, which can lose any write, a warning
    is logged. Raises ConfigurationError for a DSN that cannot be read.
    """

    def __init__(self, dsn: str, *, pool_size: int = 4, timeout: float = 5.0) -> None:
        try:
            conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            raise ConfigurationError(
                "the DSN cannot be read: write postgresql://user:password@host/database,"
                " with anything but letters and digits percent-encoded"
            ) from None
        self._dsn = dsn
        self._pool_size = pool_size
        self._timeout = timeout
        self._pool: _Pool | None = None
        self._looked = False

    async def create_schema(self) -> None:
        """Create the tables where they are missing. May be called at every start, by all hosts."""
        ((exists,),) = await self._execute("SELECT to_regclass('tribe_oauth_schema') IS NOT NULL", {}, look=False)
        if not exists:
            await self._execute("SELECT pg_advisory_xact_lock(7488265011);" + _SCHEMA, None, look=False)
        self._looked = False
        await self._execute("SELECT", {})

    async def load(self, organization: str) -> Record | None:
        """See `TokenStore.load`."""
        rows = await self._execute(_LOAD, {"organization": organization.encode()})
        if not rows:
            return None
        *row, left = rows[0]
        return from_row(organization, row, left)

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """See `TokenStore.swap`."""
        values = attrs.asdict(record) | {
            "organization": record.organization.encode(),
            "renew": record.lease is None or lease_for is not None,
            "lease_for": 0.0 if record.lease is None or lease_for is None else lease_for,
        }
        rows = await self._execute(_INSERT if record.version == 0 else _UPDATE, values)
        return written(record, rows[0][0]) if rows else None

    async def organizations(self) -> AsyncIterator[str]:
        """See `TokenStore.organizations`."""
        after = 0
        while rows := await self._execute(_ORGANIZATIONS, {"after": after, "page": PAGE}):
            for _, key in rows:
                yield bytes(key).decode()
            after = rows[-1][0]

    async def due(self, before: float) -> AsyncIterator[str]:
        """See `TokenStore.due`."""
        due_at, after = float("-inf"), 0
        while rows := await self._execute(_DUE, {"before": before, "due_at": due_at, "after": after, "page": PAGE}):
            for _, _, key in rows:
                yield bytes(key).decode()
            due_at, after, _ = rows[-1]

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        """See `TokenStore.put`."""
        ((standing,),) = await self._execute(_PUT, {"key": key.encode(), "value": value, "lives_for": lives_for})
        return bytes(standing)

    async def take(self, key: str) -> bytes | None:
        """See `TokenStore.take`."""
        rows = await self._execute(_TAKE, {"key": key.encode()})
        return bytes(rows[0][0]) if rows and rows[0][1] else None

    async def close(self) -> None:
        """See `TokenStore.close`."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    async def _execute(self, sql: str, values: Mapping[str, Any] | None, *, look: bool = True) -> list[Row]:
        """One statement in a transaction of its own; without values, a script in one."""
        try:
            async with asyncio.timeout(self._timeout), self._open().connection() as connection:
                if look and not self._looked:
                    await _look(connection)
                    self._looked = True
                return await _rows(connection, sql, values)
        except psycopg.errors.UndefinedTable:
            raise StoreError("the database has no tables for this: call create_schema()") from None
        except psycopg.errors.InsufficientPrivilege:
            raise StoreError(
                "the database does not allow its user to do this: grant SELECT, INSERT, UPDATE and DELETE on the tables"
                " tribe_oauth_…, and to whoever calls create_schema(), CREATE on the schema"
            ) from None
        except TimeoutError:
            raise StoreError(f"the database did not answer within {self._timeout:g} s: look whether it runs") from None
        except psycopg.Error as error:
            raise StoreError(f"the database failed ({type(error).__name__}): look into its log") from None

    def _open(self) -> _Pool:
        """The pool of the running loop; that of another is closed."""
        loop = asyncio.get_running_loop()
        if self._pool is None or self._pool.loop is not loop:
            if self._pool is not None:
                self._pool.close()
            self._pool = _Pool(self._dsn, self._pool_size, loop)
        return self._pool


class _Connection(psycopg.AsyncConnection[Row]):
    """One whose caller may leave in the middle; the pool closes it then."""

    async def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        # psycopg's own would ask the server to cancel, and wait for that: ten seconds, for one that is frozen.
        return await wait_async(gen, self.pgconn.socket, *args, **kwargs)


class _Pool:
    """At most `size` connections of one event loop: opened when they are needed, closed after any trouble."""

    def __init__(self, dsn: str, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._dsn = dsn
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Connection] = []
        self._closed = False
        self._process = os.getpid()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[_Connection]:
        """A connection, given back at the end."""
        async with self._slots:
            connection = self._take() or await self._connect()
            try:
                yield connection
            finally:
                if self._closed or connection.pgconn.transaction_status != TransactionStatus.IDLE:
                    connection.pgconn.finish()
                else:
                    self._idle.append(connection)

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not _has_something_to_say(connection):
                return connection
            connection.pgconn.finish()
        return None

    async def _connect(self) -> _Connection:
        try:
            return await _Connection.connect(self._dsn, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise StoreError(
                f"no connection to the database ({type(error).__name__}): look whether it runs, whether user, password"
                " and database in the DSN are right, and into its log"
            ) from None

    def close(self) -> None:
        """Close what is idle; what is in use follows. Needs no loop: the pool's own may be gone."""
        self._closed = True
        while self._idle:
            connection = self._idle.pop()
            if self._process == os.getpid():  # a forked child would say goodbye in its parent's name
                connection.pgconn.finish()


def _has_something_to_say(connection: _Connection) -> bool:
    """From an idle connection there is nothing to read but the server's goodbye: it was restarted, or cut it."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def _rows(connection: _Connection, sql: str, values: Mapping[str, Any] | None) -> list[Row]:
    cursor = await connection.execute(sql, values, binary=values is not None)
    return await cursor.fetchall() if cursor.description else []


async def _look(connection: _Connection) -> None:
    """Refuse another version's tables; say what a server that is set to be fast can lose."""
    ((version, fsync),) = await _rows(connection, _LOOK, {})
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"the database has schema {version}, and this version of tribe-oauth knows {SCHEMA_VERSION}:"
            " use the version that wrote it, or another database"
        )
    if fsync != "on":
        logger.warning("PostgreSQL has fsync %s: a rotation can be lost with it; set it to on", fsync)
