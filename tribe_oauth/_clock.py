"""Time and chance, so that both can be given: the only place that asks the machine for either."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """What the refresh needs to know of time. Tests bring one that they move by hand."""

    def time(self) -> float:
        """Unix time in seconds: for what is stored."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow, also while the process is frozen or the machine suspended: for decisions."""
        ...

    def random(self) -> float:
        """Evenly between 0 and 1: for jitter."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


# CLOCK_MONOTONIC stands still while a Linux machine is suspended; a lease on another host does not.
boottime = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic


class SystemClock:
    """The machine's own."""

    time = staticmethod(time.time)
    monotonic = staticmethod(boottime)
    random = staticmethod(random.random)

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)
