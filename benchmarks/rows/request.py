"""One authenticated request, one and a hundred in flight: processor time against a session with a static header."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from aiohttp import ClientSession

from benchmarks import ours, peers, server
from benchmarks.measure import Cost, Variant, compare, cpu, ratio, timed
from benchmarks.results import Figure, Kind, Results
from benchmarks.rows import scaled

ROUNDS: Final = 50
REQUESTS: Final = 400
PEER_ROUNDS: Final = 7
GOAL: Final = 1.02
STATIC: Final = "static header"
AGAIN: Final = "static header, again"


async def measure(effort: float) -> Results:
    """Ours and what costs about as much in many rounds; the peers in a few."""
    results = Results()
    async with AsyncExitStack() as stack:
        url = (await stack.enter_async_context(server.running())).url
        manager = await stack.enter_async_context(ours.manager(url, ["acme"]))
        await manager.token("acme")
        static = {"Authorization": f"Bearer {peers.TOKEN}"}
        sessions = {
            STATIC: ClientSession(headers=static),
            AGAIN: ClientSession(headers=static),
            "this library": ClientSession(middlewares=[manager.middleware("acme")]),
            "a middleware that does nothing": ClientSession(headers=static, middlewares=[peers.no_op]),
            "a lock for each request": ClientSession(middlewares=[peers.Lock()]),
            "aiohttp's cookbook": ClientSession(middlewares=[peers.Cookbook(f"{url}/oauth2/token")]),
        }
        near = {name: peers.by_session(await stack.enter_async_context(made)) for name, made in sessions.items()}
        far = {name: await stack.enter_async_context(made(url)) for name, made in peers.SESSIONS.items()}
        for at_once in (1, 100):
            requests = scaled(REQUESTS, effort, at_once)
            for fetches, rounds in ((near, ROUNDS), ({STATIC: near[STATIC]} | far, PEER_ROUNDS)):
                variants = {name: _variant(fetch, f"{url}/v1", at_once, requests) for name, fetch in fetches.items()}
                costs = await compare(variants, scaled(rounds, effort, 2))
                figures = [
                    Figure(
                        row=f"A request, {at_once} in flight: CPU against a static header",
                        what=name,
                        kind=_kind(name),
                        ratio=ratio(cpu(found), cpu(costs[STATIC])),
                        goal=GOAL if name == "this library" else None,
                    )
                    for name, found in costs.items()
                    if name != STATIC
                ]
                results = results.plus(Results(figures=figures))
    return results


def _kind(name: str) -> Kind:
    if name in peers.SESSIONS or name.startswith("aiohttp's"):
        return "peer"
    return {AGAIN: "noise", "this library": "goal"}.get(name, "shown")  # type: ignore[return-value]


def _variant(fetch: peers.Fetch, url: str, at_once: int, requests: int) -> Variant:
    each = requests // at_once

    async def worker() -> None:
        for _ in range(each):
            assert await fetch(url) == 200

    async def all_workers() -> None:
        await asyncio.gather(*(worker() for _ in range(at_once)))

    async def run() -> Cost:
        return await timed(worker() if at_once == 1 else all_workers(), each * at_once)

    return run
