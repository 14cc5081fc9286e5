"""Organizations whose tokens are all due, a hundred in flight, against raw POSTs with that cap."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from aiohttp import ClientSession, TCPConnector

from benchmarks import ours, server
from benchmarks.measure import Cost, Variant, compare, cpu, ratio, timed, wall
from benchmarks.results import Figure, Results
from benchmarks.rows import scaled
from tribe_oauth import MemoryStore, TokenManager, TokenStore
from tribe_oauth.stores.sqlite import SQLiteStore

ORGANIZATIONS: Final = 10_000
AT_ONCE: Final = 100
LATENCY: Final = 0.1
ROUNDS: Final = 3
ROW: Final = "10,000 organizations refreshed, 100 in flight: against raw POSTs"
LIMIT: Final = "raw POSTs"
GOALS: Final = {"in memory": {"CPU": 1.2, "wall": 1.05}, "durable in SQLite": {"CPU": 1.6, "wall": 1.05}}


async def measure(effort: float) -> Results:
    """In memory, and with every rotation durable in SQLite."""
    organizations = ours.keys(scaled(ORGANIZATIONS, effort, AT_ONCE))
    with tempfile.TemporaryDirectory() as folder:
        async with server.running(LATENCY) as running:
            variants = {
                LIMIT: raw_posts(running.url, organizations),
                "raw POSTs, again": raw_posts(running.url, organizations),
                "in memory": refreshes(running.url, organizations, (MemoryStore() for _ in count())),
                "durable in SQLite": refreshes(running.url, organizations, _databases(Path(folder))),
            }
            costs = await compare(variants, scaled(ROUNDS, effort, 2))
    return Results(
        figures=[
            Figure(
                row=ROW,
                what=f"{name}: {word}",
                kind="goal" if name in GOALS else "noise",
                ratio=ratio(of(found), of(costs[LIMIT])),
                goal=GOALS.get(name, {}).get(word),
            )
            for name, found in costs.items()
            for word, of in (("CPU", cpu), ("wall", wall))
            if name != LIMIT
        ]
    )


def _databases(folder: Path) -> Iterator[TokenStore]:
    return (SQLiteStore(folder / f"{number}.db") for number in count())


def raw_posts(url: str, organizations: list[str]) -> Variant:
    """The limit: workers that post bytes which are ready, each on a connection of its own, and read the JSON."""
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
        "Connection": "close",  # as it has to be: see the token endpoint
    }
    bodies = [
        urlencode(
            {
                "grant_type": "refresh_token",
                "refresh_token": ours.secrets_of(organization)[1],
                "client_id": "id",
                "client_secret": "secret",
            }
        ).encode()
        for organization in organizations
    ]

    async def worker(session: ClientSession, left: Iterator[bytes]) -> None:
        for body in left:
            async with session.post(f"{url}/oauth2/token", data=body, headers=headers) as response:
                assert response.status == 200
                assert json.loads(await response.read())["refresh_token"]

    async def run() -> Cost:
        async with ClientSession(connector=TCPConnector(force_close=True)) as session:
            left = iter(bodies)
            return await timed(_all(worker(session, left) for _ in range(AT_ONCE)), len(bodies))

    return run


async def _all(workers: Iterable[object]) -> None:
    await asyncio.gather(*workers)  # type: ignore[call-overload]


def refreshes(url: str, organizations: list[str], stores: Iterator[TokenStore]) -> Variant:
    """Ours, each time on a store of its own in which every token is due."""

    async def run() -> Cost:
        store = next(stores)
        await ours.fill(store, url, organizations, lives_for=0.0)
        manager = TokenManager(ours.client(url), store=store)
        try:
            cost = await timed(manager.warm_up(concurrency=AT_ONCE), len(organizations))
            assert all([(await manager.token(key)).expires_at for key in organizations])
        finally:
            await manager.close()
        return cost

    return run
