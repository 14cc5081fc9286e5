"""How cost grows: with organizations, with callers of one token, with pages. Straight lines, or something is wrong."""

from __future__ import annotations

import time
import tracemalloc
from functools import partial
from typing import Final

from benchmarks import ours, server
from benchmarks.measure import compare
from benchmarks.results import Curve, Results
from benchmarks.rows import held, waiters
from benchmarks.rows.sync import rows

SIZES: Final = (1, 10, 100, 1_000, 10_000, 100_000)
PAGES: Final = (10, 100, 1_000, 10_000)
ROUNDS: Final = 2


async def measure(effort: float) -> Results:
    """A point for each size; the largest sizes only at full effort."""
    sizes = [size for size in SIZES if size <= max(SIZES) * effort] or [1]
    pages = [size for size in PAGES if size <= max(PAGES) * effort] or [10]
    return Results(curves=[*await _organizations(sizes), *await _waiters(sizes), *await _pages(pages)])


async def _organizations(sizes: list[int]) -> list[Curve]:
    bytes_, seconds = [], []
    for size in sizes:
        bytes_.append(size * await held.held(size))
        async with ours.manager("http://127.0.0.1", ours.keys(size)) as manager:
            started = time.process_time()
            for key in ours.keys(size):
                await manager.token(key)
            seconds.append(time.process_time() - started)
    return [
        Curve(title="Organizations held", over="organizations", unit="bytes", sizes=[*sizes], costs=bytes_),
        Curve(title="Organizations loaded", over="organizations", unit="CPU seconds", sizes=[*sizes], costs=seconds),
    ]


async def _waiters(sizes: list[int]) -> list[Curve]:
    bytes_, seconds = [], []
    async with server.running(waiters.LATENCY) as running:
        setting = partial(waiters.callers, running.url)
        for size in sizes:
            costs = await compare({"": partial(waiters.cost, setting, size)}, ROUNDS)
            seconds.append(size * min(cost.cpu for cost in costs[""]))
            bytes_.append(size * await waiters.bytes_each(setting, size))
    return [
        Curve(title="Callers of one token: memory", over="callers", unit="bytes", sizes=[*sizes], costs=bytes_),
        Curve(title="Callers of one token: time", over="callers", unit="CPU seconds", sizes=[*sizes], costs=seconds),
    ]


async def _pages(sizes: list[int]) -> list[Curve]:
    bytes_, seconds = [], []
    async with server.running() as running, ours.manager(running.url, ["acme"]) as manager:
        session = manager.session("acme")
        await rows(session, 1)
        for size in sizes:
            started = time.process_time()
            await rows(session, size)
            seconds.append(time.process_time() - started)
            tracemalloc.start()
            await rows(session, size)
            bytes_.append(float(tracemalloc.get_traced_memory()[1]))
            tracemalloc.stop()
    return [
        Curve(title="Pages read: time", over="pages", unit="CPU seconds", sizes=[*sizes], costs=seconds),
        Curve(title="Pages read: most memory at a time", over="pages", unit="bytes", sizes=[*sizes], costs=bytes_),
    ]
