"""A sync of fifty organizations, all rows of all pages: throughput against a bare loop over the same pages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

from aiohttp import ClientSession

from benchmarks import ours, peers, server
from benchmarks.measure import Cost, Variant, compare, cpu, ratio, timed, wall
from benchmarks.results import Figure, Results
from benchmarks.rows import scaled
from tribe_oauth import odata

ORGANIZATIONS: Final = 50
PAGES: Final = 20
ROUNDS: Final = 9
ROW: Final = "Rows of a sync of 50 organizations: throughput against a bare loop"
LIMIT, AGAIN, OURS = "a bare loop", "a bare loop, again", "this library"

Read = Callable[[ClientSession, int], Coroutine[Any, Any, int]]
"""All rows of so many pages; how many there were."""


async def measure(effort: float) -> Results:
    """Rates: the inverse of the time for a row."""
    organizations, pages = ours.keys(scaled(ORGANIZATIONS, effort, 2)), scaled(PAGES, effort, 2)
    async with AsyncExitStack() as stack:
        url = (await stack.enter_async_context(server.running())).url
        manager = await stack.enter_async_context(ours.manager(url, organizations))
        ready = [manager.session(organization) for organization in organizations]
        header = {"Authorization": f"Bearer {peers.TOKEN}"}
        plain = [await stack.enter_async_context(ClientSession(url, headers=header)) for _ in organizations]
        variants = {
            LIMIT: variant(plain, pages, bare),
            AGAIN: variant(plain, pages, bare),
            OURS: variant(ready, pages, rows),
        }
        costs = await compare(variants, scaled(ROUNDS, effort, 2))
    figures = [
        Figure(
            row=ROW,
            what=f"{name}: {word}",
            kind="goal" if name == OURS else "noise",
            ratio=ratio(of(costs[LIMIT]), of(found)),
            goal=0.9 if name == OURS and word == "wall" else None,
            at_least=True,
        )
        for name, found in costs.items()
        for word, of in (("wall", wall), ("CPU", cpu))
        if name != LIMIT
    ]
    return Results(figures=figures)


def variant(sessions: list[ClientSession], pages: int, read: Read) -> Variant:
    """All sessions at once."""

    async def work() -> None:
        found = await asyncio.gather(*(read(session, pages) for session in sessions))
        assert found == [pages * server.ROWS_IN_A_PAGE] * len(sessions)

    async def run() -> Cost:
        return await timed(work(), len(sessions) * pages * server.ROWS_IN_A_PAGE)

    return run


async def bare(session: ClientSession, pages: int) -> int:
    """The limit: what a user writes in five lines, without a look at what comes."""
    url: str | None = f"/v1/odata/Pages_{pages}"
    found = 0
    while url is not None:
        async with session.get(url) as response:
            body = json.loads(await response.read())
        for _ in body["value"]:
            found += 1
        url = body.get("@odata.nextLink")
    return found


async def rows(session: ClientSession, pages: int) -> int:
    """Ours."""
    found = 0
    async for _ in odata.rows(session, f"Pages_{pages}"):
        found += 1
    return found
