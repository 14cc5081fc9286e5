"""The lease: the right of one holder to spend one refresh token, for a while.

It is taken, renewed and given back by compare-and-swap. Its end is kept by the store's clock; the holder counts it by
its own monotonic clock from before it asked, and so never believes in it for longer than the store does.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, Self

from tribe_oauth._refresh import record as record_
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.payload import Payload, decode
from tribe_oauth._refresh.spend import Spend, is_lost, matches, nonce_for
from tribe_oauth.errors import StoreError
from tribe_oauth.stores import Record

Change = Callable[[Record], Record]


LONGEST: Final = 3600.0
"""Seconds: no host takes a lease for longer."""


class PeerLease:
    """A lease of another, as one sees it who waits: it ends as the store says, and no later than it said at first.

    By a clock that was set back, or an end that nobody wrote, it would begin anew with each look.
    """

    def __init__(self) -> None:
        self._version, self._ends = 0, 0.0

    def left(self, record: Record, now: float) -> float:
        """Seconds that it still lasts. `now`: monotonic."""
        if record.version != self._version:
            self._version, self._ends = record.version, now + min(record.lease_left, LONGEST)
        return min(record.lease_left, self._ends - now)


class Lease:
    """A lease that was taken. `record` and `payload` are what is stored, as far as the holder knows."""

    def __init__(
        self, context: RefreshContext, spend: Spend, record: Record, payload: Payload, *, nonce: str, ends: float
    ) -> None:
        self.spend = spend
        self.record = record
        self.payload = payload
        self.nonce = nonce
        self._context = context
        self._ends = ends

    @classmethod
    async def take(cls, context: RefreshContext, record: Record, payload: Payload, spend: Spend) -> Self | None:
        """Take the lease of a record as it was read. None: another wrote first.

        Raises StoreError where it is not known to be ours: then nothing may be sent.
        """
        nonce = nonce_for(spend, secrets.token_hex(16))
        ends = context.clock.monotonic() + context.timing.lease
        try:
            stored = await context.store.swap(
                record_.leased(record, nonce, now=context.clock.time()), lease_for=context.timing.lease
            )
        except StoreError:
            stored = await context.store.load(record.organization)
            if stored is None or stored.lease != nonce:
                raise
        if stored is None:
            return None
        payload = payload if stored.payload == record.payload else decode(stored)
        return cls(context, spend, stored, payload, nonce=nonce, ends=ends)

    def may_send(self) -> bool:
        """Whether enough is left of it for all that can follow a request. To be asked right before the bytes leave."""
        return self._context.clock.monotonic() + self._context.timing.before_sending <= self._ends

    async def renew(self) -> bool:
        """Read the record again, and hold it for the whole time from now on. False: it is not ours any more."""
        return await self._write(lambda record: record, renew=True)

    async def renew_with(self, change: Change) -> bool:
        """The same with a change of the record."""
        return await self._write(change, renew=True)

    async def give_back(self, change: Change) -> bool:
        """Write a change that ends the lease. False: it was not ours any more, and nothing was written."""
        return await self._write(change, renew=False)

    async def _write(self, change: Change, *, renew: bool) -> bool:
        """Apply a change while the lease is ours and the refresh token the one to use."""
        context, length = self._context, self._context.timing.lease
        while True:
            ends = context.clock.monotonic() + length
            stored = await context.store.swap(change(self.record), lease_for=length if renew else None)
            if stored is not None:
                self.record = stored
                if renew:
                    self.payload, self._ends = decode(stored), ends
                return True
            if not await self.look():
                return False

    async def look(self) -> bool:
        """Read the record again. False: the lease is not ours any more, or its refresh token not the one to use."""
        current = await self._context.store.load(self.record.organization)
        if current is None or is_lost(current, self.spend):
            self.record = record_.in_place_of(current, self.record)  # with the lease, and all that is known
            return True
        if current.lease != self.nonce or not matches(current, self.spend):
            return False
        self.record, self.payload = current, decode(current)
        return True
