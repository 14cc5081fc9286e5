"""The lines of one manager: one for each client and organization that sends something, and none for the others."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable

from tribe_oauth._limit.line import Line, Terms
from tribe_oauth._limit.shared import SharedLine
from tribe_oauth._limit.window import Window
from tribe_oauth.errors import StoreError
from tribe_oauth.stores import SlotStore

logger = logging.getLogger("tribe_oauth.limit")

_SAY_AGAIN = 60.0
"""Seconds from one line in the log about a store that is away to the next."""


class Limits:
    """`store_of`: where processes share the limit of an organization; None: this process has all of it."""

    def __init__(self, terms: Terms, store_of: Callable[[str], SlotStore | None]) -> None:
        self.terms = terms
        self._store_of = store_of
        self._lines: dict[tuple[str, str], Line] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._said = float("-inf")

    def line(self, client_id: str, organization: str) -> Line:
        """The line of one client and organization."""
        key = client_id, organization
        return self._lines.get(key) or self._new(key)

    def _new(self, key: tuple[str, str]) -> Line:
        client_id, organization = key
        store = self._store_of(organization)
        if store is None:
            line: Line = Window(self.terms, organization)
        else:
            name = hashlib.sha256(f"{client_id}\0{organization}".encode()).hexdigest()
            line = SharedLine(self.terms, organization, name, store, self._away)
        self._lines[key] = line
        self._sweep_later()
        return line

    def _sweep_later(self) -> None:
        if self._sweep is None and self._lines:
            seconds = self.terms.limit.seconds + self.terms.quiet
            self._sweep = asyncio.get_running_loop().call_later(seconds, self._forget_idle)

    def _forget_idle(self) -> None:
        now, self._sweep = self.terms.clock.monotonic(), None
        self._lines = {key: line for key, line in self._lines.items() if not line.is_idle(now)}
        self._sweep_later()

    def _away(self, error: StoreError) -> None:
        now = self.terms.clock.monotonic()
        if now >= self._said + _SAY_AGAIN:
            self._said = now
            logger.warning("the API's limit cannot be shared now, each process keeps to what it had of it: %s", error)

    def forget_loop(self) -> None:
        """The event loop is gone; what was sent counts all the same."""
        self._sweep = None
        for line in self._lines.values():
            line.forget_loop()
        self._sweep_later()

    async def close(self) -> None:
        """Nobody gets a turn any more; what was not used of a shared limit goes back."""
        if self._sweep is not None:
            self._sweep.cancel()
        lines, self._lines = self._lines, {}
        for line in lines.values():
            await line.close()
