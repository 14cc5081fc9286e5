"""Importing the library: processor time of a new interpreter against importing what it stands on."""

from __future__ import annotations

import asyncio
import compileall
import sys
from functools import partial
from pathlib import Path
from typing import Final

import tribe_oauth
from benchmarks.measure import Cost, compare, cpu, ratio
from benchmarks.results import Figure, Kind, Results
from benchmarks.rows import scaled

ROUNDS: Final = 15
ROW: Final = "import tribe_oauth: CPU against import aiohttp, attrs, cattrs, anyio"
LIMIT: Final = "aiohttp, attrs, cattrs, anyio"
KINDS: Final[dict[str, Kind]] = {"again": "noise", "tribe_oauth": "goal", "aiohttp_oauth2_client": "peer"}
MEASURE: Final = "import time; t = time.process_time(); import {}; print(time.process_time() - t)"


async def measure(effort: float) -> Results:
    """A fresh process each time."""
    modules = {
        LIMIT: LIMIT,
        "again": LIMIT,
        "tribe_oauth": "tribe_oauth",
        "aiohttp_oauth2_client": "aiohttp_oauth2_client.middleware, aiohttp_oauth2_client.grant.client_credentials",
        "azure.identity.aio": "aiohttp, azure.identity.aio",
    }
    compileall.compile_dir(Path(tribe_oauth.__file__).parent, quiet=1)  # as an installer does
    variants = {name: partial(_import, imported) for name, imported in modules.items()}
    costs = await compare(variants, scaled(ROUNDS, effort, 2))
    return Results(
        figures=[
            Figure(
                row=ROW,
                what=name,
                kind=KINDS.get(name, "peer"),
                ratio=ratio(cpu(found), cpu(costs[LIMIT])),
                goal=1.1 if name == "tribe_oauth" else None,
            )
            for name, found in costs.items()
            if name != LIMIT
        ]
    )


async def _import(modules: str) -> Cost:
    """The new interpreter's own figure."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MEASURE.format(modules)), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return Cost(float(said), float(said))
