"""The ledger as a store keeps it: read, changed, and written where nobody was faster. For `shared`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from tribe_oauth._clock import Clock
from tribe_oauth._limit.ledger import Ledger
from tribe_oauth.stores import Slots, SlotStore


class StoreTime(NamedTuple):
    """The store's time is this process's, and something between `least` and `most`."""

    least: float
    most: float


class KeptLedger:
    """That of one key. `longest`: seconds for which anything can be held.

    `crowd`: seconds within which to keep out of the way of others who write to it; it grows with each that was faster.
    """

    def __init__(self, store: SlotStore, key: str, clock: Clock, longest: float) -> None:
        self.crowd = 0.0
        self._store = store
        self._key = key
        self._clock = clock
        self._longest = longest
        self._seen: tuple[Slots, StoreTime] | None = None  # mostly, nobody else has changed it since

    async def change(self, change: Callable[[Ledger, StoreTime, float], None]) -> tuple[Ledger, StoreTime]:
        """Have it changed, at this moment of the store; again where somebody else was faster. Raises StoreError."""
        while True:
            (seen, ahead), self._seen = self._seen or await self._look_up(), None
            now = self._clock.monotonic() + ahead.least
            ledger = Ledger.read(seen.state, now, self._longest)
            change(ledger, ahead, now)
            if not ledger.changed:
                return ledger, ahead
            before, lives_for = self._clock.monotonic(), max(ledger.ends(now), 0.001)
            kept = await self._store.swap_slots(self._key, ledger.written(), version=seen.version, lives_for=lives_for)
            if kept is not None:
                self.crowd /= 2
                self._seen = kept, self._time(kept, before)
                return ledger, self._seen[1]
            self.crowd = min(self.crowd + 0.005, 0.5)
            await asyncio.sleep(self.crowd * self._clock.random())

    def forget(self) -> None:
        """Look it up the next time: who waits wants to know what others have done."""
        self._seen = None

    async def _look_up(self) -> tuple[Slots, StoreTime]:
        before = self._clock.monotonic()
        slots = await self._store.slots(self._key)
        return slots, self._time(slots, before)

    def _time(self, slots: Slots, before: float) -> StoreTime:
        return StoreTime(slots.now - self._clock.monotonic(), slots.now - before)
