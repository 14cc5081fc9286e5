"""The event loop that a manager belongs to: one at a time, and the next only after the first is gone."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

from tribe_oauth.errors import ManagerError


class LoopBound(Protocol):
    """Something that has tasks, futures or connections of one event loop."""

    def forget_loop(self) -> None:
        """Drop them without touching them: their loop is gone. Begin anew."""
        ...


class OwnEventLoop:
    """Knows the loop, and has all that belongs to it made anew when another takes over, or in a forked child."""

    def __init__(self, *bound: LoopBound) -> None:
        self._bound = bound
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()

    @property
    def entered(self) -> bool:
        """Whether there ever was a loop."""
        return self._loop is not None

    def enter(self) -> None:
        """Make sure of the running loop. Raises ManagerError where another one has the manager and is still open."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed() and self._pid == os.getpid():
            raise ManagerError(
                "this manager belongs to another event loop, which is still open: make one manager for each loop,"
                " on the same store"
            )
        self._loop, self._pid = loop, os.getpid()
        for part in self._bound:
            part.forget_loop()
