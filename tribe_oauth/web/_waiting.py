"""Events that wait for the application's handler: bounded, one at a time of each subject. Imported by `_webhooks`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Final

from aiohttp import web

from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.web._events import WebhookEvent

logger = logging.getLogger("tribe_oauth.web.webhooks")

Handle = Callable[[WebhookEvent], Awaitable[object]]

GRACE: Final = 10.0
"""Seconds that waiting events get when the application ends."""


class Lane:
    """Events that are handled one after the other. One that waits already is not added a second time."""

    def __init__(self) -> None:
        self.events: dict[Hashable, WebhookEvent] = {}
        self.arrived = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()

    def add(self, event: WebhookEvent) -> None:
        """Put it at the end, or in the place of the same."""
        self.events[event.same] = event
        self.arrived.set()
        self.idle.clear()

    async def work(self, handle: Handle) -> None:
        """Handle what comes, for ever."""
        while True:
            await self.arrived.wait()
            while self.events:
                await _handled(handle, self.events.pop(next(iter(self.events))))
            self.arrived.clear()
            self.idle.set()


class Waiting:
    """Takes events while an application runs. `at_once`: handled at a time; `most`: that wait, at most."""

    def __init__(self, handle: Handle, at_once: int, most: int) -> None:
        self._handle = handle
        self._at_once = at_once
        self._most = most
        self._lanes: list[Lane] = []

    def __len__(self) -> int:
        return sum(len(lane.events) for lane in self._lanes)

    def add(self, event: WebhookEvent) -> bool:
        """Whether there was room for it."""
        lane = self._lanes[hash(event.subject) % self._at_once]
        if len(self) >= self._most and event.same not in lane.events:
            return False
        lane.add(event)
        return True

    async def run(self, app: web.Application) -> AsyncIterator[None]:
        """For `cleanup_ctx`: what waits at the end is handled, within `GRACE`."""
        self._lanes = [Lane() for _ in range(self._at_once)]
        working = [asyncio.create_task(lane.work(self._handle)) for lane in self._lanes]
        try:
            yield
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    for lane in self._lanes:
                        await lane.idle.wait()
            if left := len(self) + sum(not lane.idle.is_set() for lane in self._lanes):
                logger.warning("%d events of webhooks were given up at the end: a periodic read finds them", left)
        finally:
            for task in working:
                task.cancel()
            await run_uninterrupted(asyncio.gather(*working, return_exceptions=True))


async def _handled(handle: Handle, event: WebhookEvent) -> None:
    """Handle it. Whatever comes of it is logged: the sender has its answer already."""

    async def run() -> None:
        await handle(event)

    task = asyncio.create_task(run())
    try:
        await asyncio.wait({task})
    finally:
        if not task.done():
            task.cancel()
            await run_uninterrupted(asyncio.gather(task, return_exceptions=True))
    error = asyncio.CancelledError("it was cancelled") if task.cancelled() else task.exception()
    if error is not None:
        logger.error("an event of a webhook could not be handled: %r: %r", event, error, exc_info=error)
