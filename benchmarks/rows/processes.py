"""Eight processes, a thousand coroutines in each, one expired token: requests, and when the last has its token."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from benchmarks import ours, server
from benchmarks.measure import Ratio, ratio
from benchmarks.results import Figure, Results
from benchmarks.rows import scaled
from tests.stores import servers
from tribe_oauth import TokenStore
from tribe_oauth._manager import settings as environment
from tribe_oauth.stores.postgres import PostgresStore

PROCESSES: Final = 8
COROUTINES: Final = 1_000
LATENCY: Final = 0.2
ROUNDS: Final = 15
GOAL: Final = 1e3 * (1.5 * LATENCY + 0.1)
ROW: Final = "8 processes, 1,000 callers each, one expired token (the server takes 200 ms)"


async def measure(effort: float) -> Results:
    """On PostgreSQL and on Redis."""
    results = Results()
    with servers.postgres() as postgres, servers.redis() as redis:
        for name, store in (("PostgreSQL", postgres), ("Redis", redis.url)):
            results = results.plus(await _measure(name, store, effort))
    return results


async def _measure(name: str, store_url: str, effort: float) -> Results:
    store = environment.store({"TRIBE_STORE": store_url}, durable=True)
    if isinstance(store, PostgresStore):
        await store.create_schema()
    rounds, coroutines = scaled(ROUNDS, effort, 2), scaled(COROUTINES, effort, 2)
    async with server.running(LATENCY) as running, AsyncExitStack() as stack:
        herd = [
            await stack.enter_async_context(_process(running.url, store_url, coroutines))
            for _ in range(scaled(PROCESSES, effort, 2))
        ]
        before = await running.asked()
        taken = [await _round(herd, store, running.url, f"{name} {number}") for number in range(rounds + 1)][1:]
        requests = (await running.asked() - before) / (rounds + 1)
    await store.close()
    return Results(
        figures=[
            Figure(row=ROW, what=f"{name}: requests", kind="goal", ratio=Ratio(requests, requests, requests), goal=1.0),
            Figure(
                row=ROW,
                what=f"{name}: the last has its token",
                kind="goal",
                ratio=ratio([1e3 * one for one in taken], [1.0] * rounds),
                goal=GOAL,
                unit=" ms",
            ),
        ]
    )


@asynccontextmanager
async def _process(url: str, store: str, coroutines: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.herd", url, store, str(coroutines)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert await process.stdout.readline() == b"ready\n"
    yield process
    process.stdin.close()
    assert await process.wait() == 0


async def _round(herd: list[asyncio.subprocess.Process], store: TokenStore, url: str, name: str) -> float:
    """Seconds from when all ask until the last has its token."""
    organization = name.replace(" ", "-")
    await ours.fill(store, url, [organization], lives_for=0.0)
    when = time.monotonic() + 0.1
    ends = []
    for process in herd:
        assert process.stdin is not None
        process.stdin.write(f"{organization} {when}\n".encode())
    for process in herd:
        assert process.stdout is not None
        ends.append(float(await process.stdout.readline()))
    return max(ends) - when
