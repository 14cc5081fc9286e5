"""An export's CPU for a page, against reading the same bytes to a file, and against a loop that parses them."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession

from benchmarks import ours, peers, server
from benchmarks.measure import Cost, Variant, compare, cpu, ratio, timed
from benchmarks.results import Figure, Results
from benchmarks.rows import scaled
from tribe_oauth import TokenManager
from tribe_oauth.odata import Query
from tribe_oauth.sync import JSONLinesFolder, Pace, export

ROWS: Final = 25_000
PAGE: Final = 100
AT_ONCE: Final = 8
ROUNDS: Final = 9
ROW: Final = "The export: CPU of a page, against its bytes read to a file by aiohttp"
LIMIT, AGAIN, OURS, LOOP = "its bytes", "its bytes, again", "this library", "a loop with json"

Work = Callable[[Path], Coroutine[Any, Any, int]]
"""All pages to a file; how many rows or pages there were."""


async def measure(effort: float) -> Results:
    """Ratios of CPU: everything on the same loop, eight requests at a time."""
    rows = scaled(ROWS, effort, 2_000)
    async with AsyncExitStack() as stack:
        url = (await stack.enter_async_context(server.running())).url
        organizations = ours.keys(1)
        manager = await stack.enter_async_context(ours.manager(url, organizations))
        header = {"Authorization": f"Bearer {peers.TOKEN}"}
        session = await stack.enter_async_context(ClientSession(url, headers=header))
        variants = {
            LIMIT: variant(partial(side_by_side, session, rows, as_bytes), rows),
            AGAIN: variant(partial(side_by_side, session, rows, as_bytes), rows),
            OURS: variant(partial(exported, manager, organizations, rows), rows),
            LOOP: variant(partial(side_by_side, session, rows, as_rows), rows),
        }
        costs = await compare(variants, scaled(ROUNDS, effort, 2))
    return Results(
        figures=[
            Figure(
                row=ROW,
                what=name,
                kind="goal" if name == OURS else "noise" if name == AGAIN else "peer",
                ratio=ratio(cpu(found), cpu(costs[LIMIT])),
                goal=2.0 if name == OURS else None,
            )
            for name, found in costs.items()
            if name != LIMIT
        ]
    )


def variant(work: Work, rows: int) -> Variant:
    """One read of everything, into a folder of its own."""

    async def run() -> Cost:
        with tempfile.TemporaryDirectory() as folder:

            async def checked() -> None:
                assert await work(Path(folder)) == rows

            return await timed(checked(), rows // PAGE)

    return run


async def side_by_side(session: ClientSession, rows: int, write: Callable[[bytes], bytes], folder: Path) -> int:
    """The limit, and what a user writes: pages by ``$skip``, whatever moves meanwhile."""
    skips = iter(range(0, rows, PAGE))
    read = 0
    with (folder / "rows").open("wb") as file:

        async def some() -> None:
            nonlocal read
            for skip in skips:
                url = f"/v1/odata/Keyed_{rows}?$orderby=ID&$count=true&$top={PAGE}&$skip={skip}"
                async with session.get(url) as response:
                    file.write(write(await response.read()))
                read += PAGE

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return read


def as_bytes(content: bytes) -> bytes:
    """As they came."""
    return content


def as_rows(content: bytes) -> bytes:
    """A line for each row."""
    return "".join(f"{json.dumps(row)}\n" for row in json.loads(content)["value"]).encode()


async def exported(manager: TokenManager, organizations: list[str], rows: int, folder: Path) -> int:
    """Ours."""
    async with JSONLinesFolder(folder) as sink:
        (outcome,) = await export(
            manager, organizations, [Query(f"Keyed_{rows}")], sink, pace=Pace(most=AT_ONCE, each=AT_ONCE)
        )
    assert outcome.error is None
    return outcome.rows
