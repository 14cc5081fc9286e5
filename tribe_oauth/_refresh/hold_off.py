"""Wait before a refresh token is sent that an earlier holder may have sent: in unbroken sight of the store.

Two things have to be over before. The earlier request, if there was one, arrives no more (`quiet`). And a holder that
was answered and could not save has saved: it looks for the store every second or two. So time in which the store could
not be seen does not count.
"""

from __future__ import annotations

from tribe_oauth._refresh import record as record_
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.lease import Lease
from tribe_oauth.errors import ManagerError, StoreError


async def hold_off(context: RefreshContext, lease: Lease, *, ahead: bool) -> bool:
    """Watch the store for as long as it takes. False: the record changed, look again.

    Raises StoreError where the store is away for longer than a lease lasts, ManagerError where the manager closes.
    """
    timing, now = context.timing, context.clock.monotonic
    needed = timing.hold_off(context.store.timeout, ahead=ahead)
    began = seen_since = now()
    while (left := seen_since + needed - now()) > 0:
        if not await context.tasks.pause(min(timing.look_every, left)):
            await _leave(context, lease)
        asked = now()
        try:
            if not await lease.renew():  # by a write: a server that was left behind by a fail-over still reads
                return False
        except StoreError:
            if now() - began > needed + timing.lease:
                raise
            seen_since = now()
        else:
            seen_since = now() if now() - asked > timing.slow else seen_since
    return True


async def _leave(context: RefreshContext, lease: Lease) -> None:
    """Closing: the next holder has to wait as well. A candidate that may be spent says so itself."""
    not_before = 0.0 if lease.spend.is_candidate else context.clock.time()
    await lease.give_back(lambda record: record_.released(record, not_before=not_before))
    raise ManagerError("the manager is closing", organization=lease.record.organization)
