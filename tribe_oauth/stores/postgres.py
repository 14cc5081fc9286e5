"""A store for many hosts: PostgreSQL.

Each operation is one statement, and so one transaction: nothing is held between two calls, and no session state is
needed, so that a transaction-pooling proxy may stand between. psycopg 3 was chosen by measuring: without prepared
statements, as behind such a proxy, a statement costs it one round trip, where asyncpg needs two.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from tribe_oauth._hiding import hiding
from tribe_oauth._oauth.values import Secret, secret
from tribe_oauth.errors import ConfigurationError, StoreError
from tribe_oauth.stores._columns import (
    NAMES,
    AlteredError,
    definitions,
    from_row,
    keys_of,
    lease_left,
    unsound,
    values,
)
from tribe_oauth.stores._contract import Record, Slots
from tribe_oauth.stores._writes import next_version, written

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from tribe_oauth.stores._postgres_errors import store_error
    from tribe_oauth.stores._postgres_pool import Connection, Pool, Row
except ImportError:
    raise ImportError("PostgresStore needs an extra: pip install 'tribe-oauth[postgres]'") from None

logger = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
PAGE: Final = 500
"""Keys that are read at a time."""

_TYPES: Final = {str: "text", int: "bigint", bool: "boolean", float: "double precision", bytes: "bytea"}
_TABLES: Final = ("tribe_oauth_schema", "tribe_oauth_organizations", "tribe_oauth_notes", "tribe_oauth_slots")
_THERE: Final = """SELECT to_regclass('tribe_oauth_schema') IS NOT NULL, count(to_regclass(name))
FROM unnest(%(tables)s::text[]) AS name"""
# By what is committed when each statement begins, whatever the database's default: who waited for the lock sees it.
_SCHEMA: Final = f"""BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT pg_advisory_xact_lock(7488265011);
CREATE TABLE IF NOT EXISTS tribe_oauth_schema (version integer NOT NULL);
CREATE TABLE IF NOT EXISTS tribe_oauth_organizations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization bytea NOT NULL UNIQUE,
    {definitions(_TYPES)},
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
CREATE TABLE IF NOT EXISTS tribe_oauth_slots (
    key bytea PRIMARY KEY,
    state bytea NOT NULL,
    version bigint NOT NULL,
    ends double precision NOT NULL
);
INSERT INTO tribe_oauth_schema SELECT 1 WHERE NOT EXISTS (SELECT FROM tribe_oauth_schema);
COMMIT"""  # noqa: S608 (constants)
_NOW: Final = "extract(epoch FROM clock_timestamp())::double precision"
_LEASE: Final = f"lease_end - {_NOW}, lease_for"
_COLUMNS: Final = ", ".join(NAMES)
_VALUES: Final = tuple("%(next_version)s" if name == "version" else f"%({name})s" for name in NAMES)
# A database may be set to confirm before it has written: not for these.
_DURABLE: Final = """WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit',
    CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END,
    true))
"""
_LOAD: Final = f"""SELECT {_COLUMNS}, {_LEASE} FROM tribe_oauth_organizations
WHERE organization = %(organization)s"""  # noqa: S608 (constants; values are parameters)
_INSERT: Final = f"""{_DURABLE} INSERT INTO tribe_oauth_organizations
    (organization, {_COLUMNS}, lease_end, lease_for)
SELECT %(organization)s, {", ".join(_VALUES)}, {_NOW} + %(lease_for)s, %(lease_for)s
FROM durable ON CONFLICT (organization) DO NOTHING RETURNING {_LEASE}"""  # noqa: S608
_UPDATE: Final = f"""{_DURABLE} UPDATE tribe_oauth_organizations SET
    {", ".join(f"{name} = {value}" for name, value in zip(NAMES, _VALUES, strict=True))},
    lease_end = CASE WHEN %(renew)s THEN {_NOW} + %(lease_for)s ELSE lease_end END,
    lease_for = CASE WHEN %(renew)s THEN %(lease_for)s ELSE lease_for END
FROM durable WHERE organization = %(organization)s AND version = %(version)s RETURNING {_LEASE}"""  # noqa: S608
_PUT: Final = f"""{_DURABLE}, ended AS (DELETE FROM tribe_oauth_notes WHERE ends <= {_NOW} AND key <> %(key)s)
INSERT INTO tribe_oauth_notes AS note SELECT %(key)s, %(value)s, {_NOW} + %(lives_for)s FROM durable
ON CONFLICT (key) DO UPDATE SET
    value = CASE WHEN note.ends <= {_NOW} THEN excluded.value ELSE note.value END,
    ends = CASE WHEN note.ends <= {_NOW} THEN excluded.ends ELSE note.ends END
RETURNING value"""  # noqa: S608
_TAKE: Final = f"""{_DURABLE} DELETE FROM tribe_oauth_notes USING durable WHERE key = %(key)s
RETURNING value, ends > {_NOW}"""  # noqa: S608
# One that has ended has version 0, and the row of a key that nobody uses any more goes with the next write.
_SLOTS: Final = f"""SELECT state, CASE WHEN ends > {_NOW} THEN version ELSE 0 END, {_NOW}
FROM (SELECT 1) AS one LEFT JOIN tribe_oauth_slots ON key = %(key)s"""  # noqa: S608
_SWAP_SLOTS: Final = f"""WITH ended AS (DELETE FROM tribe_oauth_slots WHERE ends <= {_NOW} AND key <> %(key)s)
INSERT INTO tribe_oauth_slots AS standing SELECT %(key)s, %(state)s, %(next_version)s, {_NOW} + %(lives_for)s
WHERE %(version)s = 0 OR EXISTS (SELECT FROM tribe_oauth_slots WHERE key = %(key)s)
ON CONFLICT (key) DO UPDATE SET state = excluded.state, version = excluded.version, ends = excluded.ends
WHERE CASE WHEN standing.ends > {_NOW} THEN standing.version ELSE 0 END = %(version)s
RETURNING {_NOW}"""  # noqa: S608
_ORGANIZATIONS: Final = """SELECT id, organization FROM tribe_oauth_organizations
WHERE id > %(after)s AND status <> 'disconnected' ORDER BY id LIMIT %(page)s"""
_DUE: Final = """SELECT due_at, id, organization FROM tribe_oauth_organizations
WHERE due_at <= %(before)s AND (due_at, id) > (%(due_at)s, %(after)s) ORDER BY due_at, id LIMIT %(page)s"""

_LOOK: Final = "SELECT max(version), current_setting('fsync') FROM tribe_oauth_schema"


class PostgresStore:
    """Connections in a PostgreSQL database, shared by any number of hosts; durable as its commits are.

    `dsn`: as libpq takes it (``postgresql://…``). Call `create_schema` once, with the right to create tables; after
    that reading and writing them is enough. `pool_size`: connections for each process. `timeout`: seconds for one
    operation, waiting for a connection and opening it included. Leases end by the database's clock. A commit is waited
    for even where ``synchronous_commit`` is off; of a server with ``fsync`` off, which can lose any write, a warning
    is logged. Raises ConfigurationError for a DSN that cannot be read.

    After any error of the server, and every ten minutes, the DSN's name is asked for again: it may lead to another
    server by now, as after a fail-over. Of several hosts in the DSN, ``target_session_attrs=read-write`` finds the one
    that can be written.
    """

    @hiding
    def __init__(self, dsn: str | Secret, *, pool_size: int = 4, timeout: float = 5.0) -> None:
        try:
            self._dsn = Secret(_with_connect_timeout(secret(dsn).reveal(), timeout))
        except psycopg.ProgrammingError:
            raise ConfigurationError(
                "the DSN cannot be read: write postgresql://user:password@host/database,"
                " with anything but letters and digits percent-encoded"
            ) from None
        self._pool_size = pool_size
        self._timeout = timeout
        self._pool: Pool | None = None
        self._looked = False
        self._warned = False

    @property
    def timeout(self) -> float:
        """Seconds that one operation can take at most."""
        return self._timeout

    async def create_schema(self) -> None:
        """Create the tables where they are missing. May be called at every start, by all hosts."""
        ((has_version, there),) = await self._execute(_THERE, {"tables": list(_TABLES)}, look=False)
        self._looked = False
        if has_version:
            await self._execute("SELECT", {})  # nothing is added to the tables of a newer version
        if there < len(_TABLES):
            await self._execute(_SCHEMA, None, look=False)
            await self._execute("SELECT", {})

    async def load(self, organization: str) -> Record | None:
        """See `TokenStore.load`."""
        try:
            rows = await self._execute(_LOAD, {"organization": organization.encode()})
        except AlteredError:
            raise unsound(organization) from None
        return from_row(organization, rows[0], *rows[0][-2:]) if rows else None

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """See `TokenStore.swap`."""
        version = next_version(record.version, time.time())
        parameters = dict(zip(NAMES, values(record), strict=True)) | {
            "organization": record.organization.encode(),
            "next_version": version,
            "renew": record.lease is None or lease_for is not None,
            "lease_for": 0.0 if record.lease is None or lease_for is None else lease_for,
        }
        rows = await self._execute(_INSERT if record.version == 0 else _UPDATE, parameters)
        return written(record, version, lease_left(record, *rows[0])) if rows else None

    async def organizations(self) -> AsyncIterator[str]:
        """See `TokenStore.organizations`."""
        after = 0
        while rows := await self._execute(_ORGANIZATIONS, {"after": after, "page": PAGE}):
            for key in keys_of(key for _, key in rows):
                yield key
            after = rows[-1][0]

    async def due(self, before: float) -> AsyncIterator[str]:
        """See `TokenStore.due`."""
        due_at, after = float("-inf"), 0
        while rows := await self._execute(_DUE, {"before": before, "due_at": due_at, "after": after, "page": PAGE}):
            for key in keys_of(key for _, _, key in rows):
                yield key
            due_at, after, _ = rows[-1]

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        """See `TokenStore.put`."""
        ((standing,),) = await self._execute(_PUT, {"key": key.encode(), "value": value, "lives_for": lives_for})
        return bytes(standing)

    async def take(self, key: str) -> bytes | None:
        """See `TokenStore.take`."""
        rows = await self._execute(_TAKE, {"key": key.encode()})
        return bytes(rows[0][0]) if rows and rows[0][1] else None

    async def slots(self, key: str) -> Slots:
        """See `SlotStore.slots`. `create_schema` makes the table, also in a database that is older than that."""
        ((state, version, now),) = await self._execute(_SLOTS, {"key": key.encode()})
        return Slots(bytes(state), version, now) if version else Slots(b"", 0, now)

    async def swap_slots(self, key: str, state: bytes, *, version: int, lives_for: float) -> Slots | None:
        """See `SlotStore.swap_slots`."""
        new = next_version(version, time.time())
        values = {"key": key.encode(), "state": state, "version": version, "next_version": new, "lives_for": lives_for}
        rows = await self._execute(_SWAP_SLOTS, values)
        return Slots(state, new, rows[0][0]) if rows else None

    async def close(self) -> None:
        """See `TokenStore.close`."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    async def _execute(self, sql: str, parameters: Mapping[str, Any] | None, *, look: bool = True) -> list[Row]:
        """One statement in a transaction of its own; without parameters, a script in one."""
        pool = self._open()
        try:
            async with asyncio.timeout(self._timeout) as deadline, pool.connection(deadline) as connection:
                if look and not self._looked:
                    await self._look(connection)
                return await _rows(connection, sql, parameters)
        except Exception as error:
            # Whatever it was: the name may lead to another server by now, which has settings of its own.
            pool.renew()
            self._looked = False
            failure = store_error(error, self._timeout)
        try:
            raise failure from None  # and not from there: the driver's frames show passwords
        finally:
            del failure  # its traceback has this frame, which would keep both

    async def _look(self, connection: Connection) -> None:
        """Refuse another version's tables; warn of a server that is set to confirm what it has not written."""
        ((version, fsync),) = await _rows(connection, _LOOK, {})
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"the database has schema {version}, and this version of tribe-oauth knows {SCHEMA_VERSION}:"
                " use the version that wrote it, or another database"
            )
        self._looked = True
        if fsync != "on" and not self._warned:
            self._warned = True
            logger.warning("PostgreSQL has fsync %s: a rotation can be lost with it; set it to on", fsync)

    def _open(self) -> Pool:
        """The pool of the running loop; that of another is closed."""
        loop = asyncio.get_running_loop()
        if self._pool is None or self._pool.loop is not loop:
            if self._pool is not None:
                self._pool.close()
            self._pool = Pool(self._dsn, self._pool_size, self._timeout, loop)
        return self._pool


def _with_connect_timeout(dsn: str, timeout: float) -> str:
    """The DSN with time for two addresses, if it has no limit of its own: the first may accept and never answer.

    Raises psycopg.ProgrammingError for one that cannot be read.
    """
    if "connect_timeout" in conninfo_to_dict(dsn) or "PGCONNECT_TIMEOUT" in os.environ:
        return dsn
    return make_conninfo(dsn, connect_timeout=max(2, int(timeout // 2)))  # whole seconds; libpq takes no 1


async def _rows(connection: Connection, sql: str, parameters: Mapping[str, Any] | None) -> list[Row]:
    while True:
        try:
            cursor = await connection.execute(sql, parameters, binary=parameters is not None)
            return await cursor.fetchall() if cursor.description else []
        except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
            pass  # it was rolled back, so that nothing has happened: once more, as long as there is time
