"""Child processes that have ended before their caller continues, wherever it is cancelled."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from tribe_oauth._shield import run_uninterrupted

PATIENCE: Final = 10.0
"""Seconds that a process gets to end after it was asked to; then it is killed."""


@asynccontextmanager
async def running(*command: str, end_by: signal.Signals = signal.SIGTERM, **options: Any) -> AsyncIterator[Process]:
    """Start a process, and end it: standard input is closed and the signal sent, where it has not ended by itself.

    `options` are those of `asyncio.create_subprocess_exec`. Raises OSError where the command cannot be started.
    """
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*command, **options))
    try:
        yield await run_uninterrupted(starting)
    finally:
        if starting.exception() is None:
            await run_uninterrupted(_end(starting.result(), end_by))


async def _end(process: Process, end_by: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(end_by)
    nothing = None if process.stdin is None else b""
    try:
        async with asyncio.timeout(PATIENCE):
            await process.communicate(nothing)  # it closes standard input and reads all output: no pipe stays open
    except TimeoutError:
        process.kill()
        await process.communicate(nothing)
