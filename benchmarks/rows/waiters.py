"""Coroutines that ask at once for one expired token: processor time and bytes against tasks on one plain future."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final

from benchmarks import ours, server
from benchmarks.measure import Cost, Ratio, compare, cpu, ratio, timed
from benchmarks.results import Figure, Results
from benchmarks.rows import scaled

WAITERS: Final = 100_000
LATENCY: Final = 0.2
ROUNDS: Final = 9
ROW: Final = "100,000 callers, one expired token: against as many tasks on one future"
LIMIT, AGAIN, OURS = "bare tasks", "bare tasks, again", "this library"

Ask = Callable[[], Coroutine[Any, Any, object]]
Setting = Callable[[], AbstractAsyncContextManager[Ask]]


async def measure(effort: float) -> Results:
    """And how many requests there were."""
    waiters, rounds = scaled(WAITERS, effort, 10), scaled(ROUNDS, effort, 2)
    async with server.running(LATENCY) as running:
        settings: dict[str, Setting] = {LIMIT: bare, AGAIN: bare, OURS: partial(callers, running.url)}
        before = await running.asked()
        costs = await compare({name: partial(cost, made, waiters) for name, made in settings.items()}, rounds)
        requests = (await running.asked() - before) / (rounds + 1)
        taken = {name: await bytes_each(made, waiters) for name, made in settings.items()}
    times = {name: ratio(cpu(found), cpu(costs[LIMIT])) for name, found in costs.items()}
    bytes_ = {name: _exact(found / taken[LIMIT]) for name, found in taken.items()}
    return Results(
        figures=[
            Figure(row=ROW, what="bare tasks, again: CPU", kind="noise", ratio=times[AGAIN]),
            Figure(row=ROW, what="bare tasks, again: bytes", kind="noise", ratio=bytes_[AGAIN]),
            Figure(row=ROW, what="requests", kind="goal", ratio=_exact(requests), goal=1.0),
            Figure(row=ROW, what="CPU", kind="goal", ratio=times[OURS], goal=1.5),
            Figure(row=ROW, what="bytes", kind="goal", ratio=bytes_[OURS], goal=1.4),
        ]
    )


def _exact(value: float) -> Ratio:
    return Ratio(value, value, value)


@asynccontextmanager
async def bare() -> AsyncIterator[Ask]:
    """The limit: all wait for one future, which is set as late as a server would answer."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    async def wait() -> object:
        return await future

    loop.call_later(LATENCY, future.set_result, object())
    yield wait


@asynccontextmanager
async def callers(url: str) -> AsyncIterator[Ask]:
    """Ours."""
    async with ours.manager(url, ["acme"], lives_for=0.0) as manager:
        yield lambda: manager.token("acme")


async def cost(setting: Setting, waiters: int) -> Cost:
    """For a waiter, from asking to having."""

    async def work(ask: Ask) -> None:
        for task in [asyncio.create_task(ask()) for _ in range(waiters)]:
            await task

    async with setting() as ask:
        return await timed(work(ask), waiters)


async def bytes_each(setting: Setting, waiters: int) -> float:
    """For a waiter, while all wait."""
    async with setting() as ask:
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        tasks = [asyncio.create_task(ask()) for _ in range(waiters)]
        await asyncio.sleep(0)  # all have asked now
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        for task in tasks:
            await task
    return taken / waiters
