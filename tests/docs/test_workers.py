"""docs/examples/workers.py in processes of its own: four workers against one, and one that is killed."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest

from tribe_oauth import RefreshTokenGrant, TokenManager
from tribe_oauth.sandbox import ApiRules, Sandbox
from tribe_oauth.sandbox._faults import Fault
from tribe_oauth.stores.postgres import PostgresStore

WORKERS = Path(__file__).parents[2] / "docs" / "examples" / "workers.py"
ORGANIZATIONS = 12
TELL = """
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify(TG_ARGV[0], NEW.id::text); RETURN NEW; END $$;
CREATE TRIGGER tell_worker AFTER INSERT ON procrastinate_workers FOR EACH ROW EXECUTE FUNCTION tell('began');
CREATE TRIGGER tell_job AFTER UPDATE ON procrastinate_jobs FOR EACH ROW
    WHEN (NEW.task_name = 'export' AND NEW.status = 'succeeded') EXECUTE FUNCTION tell('done');
LISTEN began; LISTEN done;
"""


@attrs.define
class Fleet:
    """A sandbox, a database that all share, and workers."""

    sandbox: Sandbox
    delay: Fault
    database: psycopg.AsyncConnection[Any]
    environment: dict[str, str]
    workers: list[asyncio.subprocess.Process] = attrs.field(factory=list)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, str(WORKERS), *arguments, env=self.environment, stderr=asyncio.subprocess.DEVNULL
        )

    async def once(self, *arguments: str) -> None:
        assert await (await self.start(*arguments)).wait() == 0

    async def told(self, what: str, times: int) -> None:
        """Wait until the database has said it so often."""
        said = 0
        async for notice in self.database.notifies(timeout=60):
            said += notice.channel == what
            if said == times:
                return
        raise AssertionError(f"{what} was said {said} times, not {times}")

    async def begin(self, workers: int) -> None:
        """Have so many workers that wait for tasks."""
        self.workers = [await self.start("work") for _ in range(workers)]
        await self.told("began", workers)

    async def judge(self) -> None:
        """Every row of every organization is there, exactly once."""
        found = await self.database.execute(
            "SELECT organization, entity_set, entity FROM entity ORDER BY entity->>'ID'"
        )
        rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for organization, entity_set, row in await found.fetchall():
            rows.setdefault((organization, entity_set), []).append(row)
        assert rows == {
            (name, entity_set): sorted(self.sandbox.organization(name).all(entity_set), key=lambda row: str(row["ID"]))
            for name in self.sandbox.organizations
            for entity_set in ("Relation_Person", "Relation_Organization")
        }
        assert self.sandbox.ledger.spent_twice() == ()


@asynccontextmanager
async def fleet(database: str) -> AsyncIterator[Fleet]:
    """Twelve organizations by Quick Setup, an API that takes its time, tokens that live three seconds."""
    async with Sandbox(
        organizations=ORGANIZATIONS, persons=200, page_size=20, api=ApiRules(paging="nextLink"), access_token_lifetime=3
    ) as sandbox:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TRIBE_")},
            **sandbox.environment,
            "DATABASE_URL": database,
            "DEAD_AFTER": "1",
            "LOOK_EVERY": "* * * * * */1",
            "AT_ONCE": "1",
        }
        delay = sandbox.fault("delay", endpoint="api", times=None, seconds=0.05)
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            there = Fleet(sandbox, delay, connection, environment)
            await there.once("schema")
            await connection.execute(TELL)
            client = sandbox.client()
            async with TokenManager(client, store=PostgresStore(database)) as manager:
                for name in sandbox.organizations:
                    await manager.connect(name, RefreshTokenGrant(client, sandbox.paste_token(name)))
            try:
                yield there
            finally:
                for worker in there.workers:
                    if worker.returncode is None:
                        worker.terminate()
                await asyncio.gather(*(worker.wait() for worker in there.workers))


async def seconds(database: str, workers: int) -> float:
    """How long so many workers take for everything."""
    async with fleet(database) as there:
        await there.begin(workers)
        began = time.monotonic()
        await there.once("defer")
        await there.told("done", ORGANIZATIONS)
        took = time.monotonic() - began
        await there.judge()
    assert [worker.returncode for worker in there.workers] == [0] * workers
    return took


async def test_four_workers_against_one(postgres_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Both have everything, once; four are faster."""
    took = {}
    for workers in (1, 4):
        name = f"workers_{workers}"
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        took[workers] = await seconds(postgres_server.replace("/postgres?", f"/{name}?"), workers)
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    with capsys.disabled():
        print(f" one worker {took[1]:.1f} s, four {took[4]:.1f} s: {took[1] / took[4]:.1f} times as fast", end=" ")  # noqa: T201
    assert took[4] < took[1]


async def test_a_worker_is_killed(database: str) -> None:
    """Kill -9 in the middle of its task: another worker takes it up, and nothing is missing or there twice."""
    async with fleet(database) as there:
        await there.begin(4)
        await there.once("defer")
        await asyncio.wait_for(there.delay.reached(), 30)  # one is in the middle of a page
        worker = await there.database.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing' AND task_name = 'export'"
        )
        assert await worker.fetchone() != (0,)
        for killed in there.workers[:3]:  # whichever it is: three of four, and the fourth does it all
            killed.kill()
        await there.told("done", ORGANIZATIONS)
        again = await there.database.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE attempts > 1 AND task_name = 'export'"
        )
        assert (await again.fetchone() or (0,))[0] >= 1
        await there.judge()
