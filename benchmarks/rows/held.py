"""Organizations held in memory: bytes against a dict of their keys and two secrets each."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import tracemalloc
from pathlib import Path
from typing import Final, Self

from authlib.integrations.httpx_client import AsyncOAuth2Client

from benchmarks import ours
from benchmarks.measure import Ratio
from benchmarks.results import Figure, Results
from benchmarks.rows import scaled
from tribe_oauth import TokenManager
from tribe_oauth.stores.sqlite import SQLiteStore

ORGANIZATIONS: Final = 100_000
PEERS: Final = 200
ROW: Final = "100,000 organizations held: bytes against their key and two secrets in a dict"
GOAL: Final = 1.6
URL: Final = "http://127.0.0.1"


async def measure(effort: float) -> Results:
    """Ours from a SQLite store, Authlib's client by a few."""
    count = scaled(ORGANIZATIONS, effort, 100)
    limit = in_dict(count)
    found = {
        "this library": await held(count) / limit,
        "Authlib, a client each": authlib(scaled(PEERS, effort)) / limit,
    }
    return Results(
        figures=[
            Figure(
                row=ROW,
                what=name,
                kind="goal" if name == "this library" else "peer",
                ratio=Ratio(ratio, ratio, ratio),
                goal=GOAL if name == "this library" else None,
            )
            for name, ratio in found.items()
        ]
    )


class _Traced:
    """Bytes allocated and not freed since it began."""

    def __enter__(self) -> Self:
        gc.collect()
        tracemalloc.start()
        self._before = tracemalloc.get_traced_memory()[0]
        return self

    def __exit__(self, *_: object) -> None:
        gc.collect()
        self.bytes = tracemalloc.get_traced_memory()[0] - self._before
        tracemalloc.stop()


def in_dict(count: int) -> float:
    """The limit, for each."""
    with _Traced() as traced:
        table = {key: ours.secrets_of(key) for key in ours.keys(count)}
    assert len(table) == count
    return traced.bytes / count


async def held(count: int) -> float:
    """Ours, for each."""
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore(Path(folder, "tribe.db"))
        await ours.fill(store, URL, ours.keys(count))
        manager = TokenManager(ours.client(URL), store=store)
        try:
            with _Traced() as traced:
                for some in ours.batches(ours.keys(count)):
                    await asyncio.gather(*(manager.token(key) for key in some))
                del some
                await asyncio.sleep(0.01)  # for what the last batch leaves to the loop
        finally:
            await manager.close()
    return traced.bytes / count


def authlib(count: int) -> float:
    """A client for each organization, as its user needs one."""
    with _Traced() as traced:
        clients = [
            AsyncOAuth2Client("id", "secret", token={"access_token": access, "refresh_token": refresh, "expires_at": 1})
            for access, refresh in map(ours.secrets_of, ours.keys(count))
        ]
    assert len(clients) == count
    return traced.bytes / count
