"""The nightly export on as many machines as there are: one organization for each task.

    python workers.py schema    once: the tables of tokens, tasks and rows
    python workers.py defer     every night: a task for each connected organization
    python workers.py work      on every machine, as often as it has cores to spare

The engine is Procrastinate: its queue is in the PostgreSQL that has the tokens and takes the rows, so that there is no
further server; it is asyncio from end to end; and it knows of a worker that died by its heartbeat, so that the task is
taken up again. TaskIQ would do where Redis or NATS is there already.

A task that is taken up goes on where the dead worker was: the checkpoint is in the transaction of its rows.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import procrastinate
from psycopg.types.json import Json, Jsonb
from psycopg_pool import AsyncConnectionPool

from tribe_oauth import TRIBE, Client, Endpoints, TokenManager
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.sync import Checkpoint, export

DATABASE = os.environ["DATABASE_URL"]
ENTITY_SETS = os.environ.get("ENTITY_SETS", "Relation_Person Relation_Organization").split()
DEAD_AFTER = float(os.environ.get("DEAD_AFTER", "30"))  # seconds without a heartbeat
LOOK_EVERY = os.environ.get("LOOK_EVERY", "* * * * *")  # for tasks of dead workers: as cron has it
AT_ONCE = int(os.environ.get("AT_ONCE", "4"))  # organizations, in each worker

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=DATABASE))


class PostgresSink:
    """Rows and checkpoints of one night, in one transaction for each page."""

    def __init__(self, pool: AsyncConnectionPool, night: str) -> None:
        self.pool = pool
        self.night = night

    async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
        """Where it was, in whatever process."""
        async with self.pool.connection() as connection:
            found = await connection.execute(
                "SELECT kept FROM checkpoint WHERE night = %s AND organization = %s AND entity_set = %s",
                (self.night, organization, entity_set),
            )
            row = await found.fetchone()
        return None if row is None else Checkpoint(**row[0])

    async def write(self, rows: Sequence[dict[str, Any]], checkpoint: Checkpoint) -> None:
        """Both or neither."""
        key = self.night, checkpoint.organization, checkpoint.entity_set
        async with self.pool.connection() as connection, connection.transaction():
            # A worker that only seemed dead may come back: whoever is not at the end of what is there, writes nothing.
            moved = await connection.execute(
                "INSERT INTO checkpoint VALUES (%s, %s, %s, %s) ON CONFLICT (night, organization, entity_set)"
                " DO UPDATE SET kept = excluded.kept WHERE (checkpoint.kept->>'rows')::bigint = %s",
                (*key, Jsonb(attrs.asdict(checkpoint)), checkpoint.rows - len(rows)),
            )
            if moved.rowcount != 1:
                raise RuntimeError(f"another worker has {checkpoint.organization!r}")
            async with connection.cursor() as cursor:
                await cursor.executemany(
                    "INSERT INTO entity VALUES (%s, %s, %s, %s)", [(*key, Json(row)) for row in rows]
                )


@app.task(name="export", pass_context=True, retry=procrastinate.RetryStrategy(max_attempts=5, exponential_wait=5))
async def export_organization(context: procrastinate.JobContext, organization: str, night: str) -> None:
    """Everything of one organization. Its errors are the engine's to try again, after some minutes if need be."""
    given = context.additional_context
    sink = PostgresSink(given["pool"], night)
    for outcome in await export(given["manager"], [organization], ENTITY_SETS, sink):
        if outcome.error is not None:
            raise outcome.error


@app.periodic(cron=LOOK_EVERY)
@app.task(name="take_up", queueing_lock="take_up", priority=1)
async def take_up(timestamp: int) -> None:
    """Tasks whose worker has died are to be done again; to find them goes before all others."""
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=DEAD_AFTER):
        try:
            await app.job_manager.retry_job(job)
        except procrastinate.exceptions.UniqueViolation:  # it was deferred anew meanwhile: that one will do it
            await app.job_manager.finish_job(job, procrastinate.jobs.Status.FAILED, delete_job=False)


def make_manager() -> TokenManager:
    """Tokens come from the store that all workers share."""
    authority, api = os.environ.get("TRIBE_AUTH_URL"), os.environ.get("TRIBE_API_URL")
    endpoints = TRIBE
    if authority and api:  # the sandbox of the tests
        endpoints = Endpoints.at(authority, api, allow_insecure_loopback=True)
    client = Client(os.environ["TRIBE_CLIENT_ID"], os.environ["TRIBE_CLIENT_SECRET"], endpoints=endpoints)
    return TokenManager(client, store=PostgresStore(DATABASE))


async def schema() -> None:
    """The tables. Once."""
    store = PostgresStore(DATABASE)
    await store.create_schema()
    await store.close()
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
    async with AsyncConnectionPool(DATABASE) as pool, pool.connection() as connection:
        await connection.execute("CREATE TABLE entity (night text, organization text, entity_set text, entity json)")
        await connection.execute(
            "CREATE TABLE checkpoint (night text, organization text, entity_set text, kept jsonb,"
            " PRIMARY KEY (night, organization, entity_set))"
        )


async def defer() -> None:
    """A task for each organization, where none waits. Deferred twice, the second finds everything done."""
    night = datetime.now(UTC).date().isoformat()
    async with app.open_async(), make_manager() as manager:
        async for organization in manager.organizations():
            task = export_organization.configure(queueing_lock=f"{night} {organization}", lock=organization)
            try:
                await task.defer_async(organization=organization, night=night)
            except procrastinate.exceptions.AlreadyEnqueued:
                continue


async def work() -> None:
    """Until SIGTERM; tasks under way are finished first."""
    async with app.open_async(), make_manager() as manager, AsyncConnectionPool(DATABASE) as pool:
        await app.run_worker_async(
            concurrency=AT_ONCE,
            additional_context={"manager": manager, "pool": pool},
            update_heartbeat_interval=DEAD_AFTER / 3,
            stalled_worker_timeout=10 * DEAD_AFTER,
        )


if __name__ == "__main__":
    asyncio.run({"schema": schema, "defer": defer, "work": work}[sys.argv[1]]())
