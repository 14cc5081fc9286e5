"""The show of the limit, small: 200 calls in 6 s, by one process and by four on each store, side by side."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.stores.servers import postgres_server, redis
from tribe_oauth import RateLimit

from .shows import Rule, exported, prepared

RULE = Rule(RateLimit(calls=200, seconds=6.0), pages=256)


async def test_the_limit_is_kept_by_processes(tmp_path: Path) -> None:
    """Nothing is refused, nothing is read twice, and all of it comes."""
    with postgres_server() as postgres, redis() as server:
        await prepared(postgres.url)
        places = {"memory:": 1, str(tmp_path / "tribe.db"): 4, postgres.url: 4, server.url: 4}
        seen = await asyncio.gather(*(exported(RULE, place, processes) for place, processes in places.items()))
    for one in seen:
        assert (one.requests, one.refused, one.retries) == (256, 0, 0)
        assert one.seconds < 5 * one.least  # a machine that does other things, too
