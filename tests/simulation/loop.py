"""An event loop on which time passes only when nobody has anything to do: hours in a second, and again the same."""

from __future__ import annotations

import asyncio
import selectors


class StuckError(Exception):
    """Nobody waits for a time, and nobody can go on: whoever still waits would wait for ever."""


class _Jumps(selectors.SelectSelector):
    """Does not wait: the time that it was asked to wait is over at once."""

    now = 0.0
    steps = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StuckError
        self.now += max(0.0, timeout)
        self.steps += 1
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Seconds since it was made, and how often it went round."""

    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now

    @property
    def steps(self) -> int:
        return self._jumps.steps
