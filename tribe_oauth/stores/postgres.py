"""A store for many hosts: PostgreSQL.

Each operation is one statement, and so one transaction: nothing is held between two calls, and no session state is
needed, so that a transaction-pooling proxy may stand between. psycopg 3 was chosen by measuring: without prepared
statements, as behind such a proxy, it makes nearly twice the queries per second of asyncpg.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import attrs

from tribe_oauth.errors import StoreError
from tribe_oauth.stores._contract import Record

try:
    import psycopg
    from psycopg_pool import AsyncConnectionPool, PoolTimeout
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
    chain text NOT NULL,
    generation bigint NOT NULL,
    status text NOT NULL,
    cause text,
    doubt boolean NOT NULL,
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
_FIELDS: Final = "version, chain, generation, status, cause, doubt, failures, not_before, due_at, payload"
# A database may be set to confirm before it has written: not for these.
_DURABLE: Final = """WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit',
    CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END,
    true))
"""
_LOAD: Final = f"""SELECT {_FIELDS}, lease, {_LEFT} AS lease_left FROM tribe_oauth_organizations
WHERE organization = %(organization)s"""  # noqa: S608 (constants; values are parameters)
_INSERT: Final = f"""{_DURABLE} INSERT INTO tribe_oauth_organizations
    (organization, {_FIELDS}, lease, lease_end, lease_for)
SELECT %(organization)s, 1, %(chain)s, %(generation)s, %(status)s, %(cause)s, %(doubt)s, %(failures)s, %(not_before)s,
    %(due_at)s, %(payload)s, %(lease)s, {_NOW} + %(lease_for)s, %(lease_for)s
FROM durable ON CONFLICT (organization) DO NOTHING RETURNING {_LEFT}"""  # noqa: S608
_UPDATE: Final = f"""{_DURABLE} UPDATE tribe_oauth_organizations SET version = version + 1, chain = %(chain)s,
    generation = %(generation)s, status = %(status)s, cause = %(cause)s, doubt = %(doubt)s, failures = %(failures)s,
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

Row = tuple[Any, ...]


class PostgresStore:
    """Connections in a PostgreSQL database, shared by any number of hosts; durable as its commits are.

    `dsn`: as libpq takes it (``postgresql://…``). Call `create_schema` once, with the right to create tables; after
    that reading and writing them is enough. `pool_size`: connections for each process. `timeout`: seconds for one
    operation, waiting for a connection included. Leases end by the database's clock.
    """

    def __init__(self, dsn: str, *, pool_size: int = 4, timeout: float = 5.0) -> None:
        self._dsn = dsn
        self._pool_size = pool_size
        self._timeout = timeout
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Row]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def create_schema(self) -> None:
        """Create the tables where they are missing. May be called at every start, by all hosts."""
        await self._execute("SELECT pg_advisory_xact_lock(7488265011);" + _SCHEMA, None)
        ((version,),) = await self._execute("SELECT version FROM tribe_oauth_schema", {})
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"the database has schema {version}, and this version of tribe-oauth knows {SCHEMA_VERSION}:"
                " use the version that wrote it, or another database"
            )

    async def load(self, organization: str) -> Record | None:
        """See `TokenStore.load`."""
        rows = await self._execute(_LOAD, {"organization": organization.encode()})
        if not rows:
            return None
        version, chain, generation, status, cause, doubt, failures, not_before, due_at, payload, lease, left = rows[0]
        return Record(
            organization=organization,
            version=version,
            chain=chain,
            generation=generation,
            status=status,
            cause=cause,
            doubt=doubt,
            failures=failures,
            not_before=not_before,
            due_at=due_at,
            lease=lease,
            lease_left=left,
            payload=bytes(payload),
        )

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """See `TokenStore.swap`."""
        values = attrs.asdict(record) | {
            "organization": record.organization.encode(),
            "renew": record.lease is None or lease_for is not None,
            "lease_for": 0.0 if record.lease is None or lease_for is None else lease_for,
        }
        rows = await self._execute(_INSERT if record.version == 0 else _UPDATE, values)
        return attrs.evolve(record, version=record.version + 1, lease_left=rows[0][0]) if rows else None

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
        pool, self._pool = self._pool, None
        if pool is not None and self._loop is asyncio.get_running_loop():
            await pool.close()

    async def _execute(self, sql: str, values: Mapping[str, Any] | None) -> list[Row]:
        """One statement in a transaction of its own; without values, a script in one."""
        try:
            async with asyncio.timeout(self._timeout):
                pool = await self._open()
                async with pool.connection(timeout=self._timeout) as connection:
                    cursor = await connection.execute(sql, values, binary=values is not None)
                    return await cursor.fetchall() if cursor.description else []
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            raise StoreError(
                "the database has no tables for this, or they may not be used: call create_schema()"
            ) from None
        except (TimeoutError, PoolTimeout):
            raise StoreError(f"the database did not answer within {self._timeout:g} s: look whether it runs") from None
        except psycopg.Error as error:
            raise StoreError(f"the database failed ({type(error).__name__}): look into its log") from None

    async def _open(self) -> AsyncConnectionPool[psycopg.AsyncConnection[Row]]:
        """The pool of the running loop; one of a loop that is gone is left to it."""
        loop = asyncio.get_running_loop()
        if self._pool is None or self._loop is not loop:
            self._loop = loop
            self._pool = AsyncConnectionPool(
                self._dsn,
                min_size=0,
                max_size=self._pool_size,
                timeout=self._timeout,
                open=False,
                check=AsyncConnectionPool.check_connection,  # a server that was restarted is no caller's trouble
                kwargs={"autocommit": True, "prepare_threshold": None},
                reconnect_timeout=self._timeout,
            )
            await self._pool.open()
        return self._pool
