"""One process of a show: exports entity sets of one organization to nowhere, and says how that went."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from tribe_oauth import Client, ClientCredentialsGrant, Endpoints, RateLimit, TokenManager
from tribe_oauth._manager import settings
from tribe_oauth.odata import Page
from tribe_oauth.odata._pages import Reader
from tribe_oauth.sync import Checkpoint, Pace, export


class Timed:
    """How long pages take, from the moment in which their request may be sent."""

    def __init__(self) -> None:
        self.seconds = list[float]()
        self._page = Reader.page

    async def page(self, reader: Reader, position: str | None) -> Page:
        began = time.monotonic()
        page = await self._page(reader, position)
        self.seconds.append(time.monotonic() - began)
        return page


class Nowhere:
    """A sink that keeps nothing."""

    async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
        return None

    async def write(self, rows: Sequence[dict[str, Any]], checkpoint: Checkpoint) -> None:
        pass


async def main(base: str, calls: str, seconds: str, at_once: str, *sets: str) -> None:
    timed = Timed()
    Reader.page = lambda self, position: timed.page(self, position)  # type: ignore[method-assign]
    client = Client("show", "secret of the show", endpoints=Endpoints.at(base, base, allow_insecure_loopback=True))
    organization = base.rpartition(":")[2]  # of each API its own
    limit = RateLimit(calls=int(calls), seconds=float(seconds))
    async with TokenManager(client, store=settings.store(os.environ, durable=False), rate_limit=limit) as manager:
        await manager.connect(organization, ClientCredentialsGrant(client))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        began = time.monotonic()
        outcomes = await export(manager, [organization], sets, Nowhere(), pace=Pace(each=int(at_once)))
        ended = time.monotonic()
    errors = [str(outcome.error) for outcome in outcomes if outcome.error is not None]
    rows, retries = (sum(getattr(outcome, name) for outcome in outcomes) for name in ("rows", "retries"))
    told = {"began": began, "ended": ended, "rows": rows, "retries": retries, "errors": errors}
    sys.stdout.write(json.dumps({**told, "latency": statistics.mean(timed.seconds)}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
