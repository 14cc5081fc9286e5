"""The sandbox as a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any


async def start(*options: str) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    """Start one; what it says when it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tribe_oauth.sandbox", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, json.loads(await process.stdout.readline())
