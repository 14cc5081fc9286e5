"""How an organization stands, from what is stored and what memory holds. A pure function, for the manager."""

from __future__ import annotations

from typing import Literal, final

import attrs

from tribe_oauth._clock import Clock
from tribe_oauth._refresh.cached_token import CachedToken
from tribe_oauth._refresh.payload import decode
from tribe_oauth._refresh.record import believable
from tribe_oauth._refresh.single_flight import RecentFailure
from tribe_oauth.stores import Record

State = Literal["fresh", "stale", "backing_off", "reauthorization_required"]


@final
@attrs.frozen(kw_only=True)
class Status:
    """How an organization stands. Times are Unix seconds.

    fresh: a token is in hand. stale: the next call fetches one. backing_off: the last attempts failed.
    reauthorization_required: it has to be connected again, because of `cause`. `refreshed_at`: when the token was
    fetched. `said`: what the server, or what stands before it, answered the last attempt where that is not in `cause`.
    None: not known.
    """

    organization: str
    state: State
    cause: str | None = None
    expires_at: float | None = None
    next_attempt_at: float | None = None
    scope: frozenset[str] | None = None
    refreshed_at: float | None = None
    said: str | None = None

    @property
    def why(self) -> str | None:
        """The cause, with what was said."""
        return self.cause if self.said is None else f"{self.cause}: {self.said}"


def status_of(record: Record, cached: CachedToken | None, clock: Clock, failing: RecentFailure | None) -> Status:
    """`failing`: what this process's last refresh ended with, while that holds."""
    now = clock.time()
    payload, record = decode(record), believable(record, now)
    token, lifetime = payload.token, payload.lifetime
    if cached is not None and cached.generation >= record.generation:
        token, lifetime = cached.token, cached.lifetime
    expires_at = None if token is None else token.expires_at
    state: State = "fresh" if expires_at is not None and now < expires_at else "stale"
    cause, said, next_attempt_at = None, None, record.due_at
    if record.status == "reauthorization_required":
        state, cause, said, next_attempt_at = "reauthorization_required", record.cause, payload.said or None, None
    elif failing is not None:
        state, cause = "backing_off", str(failing.error)
        next_attempt_at = now + failing.until - clock.monotonic()
    elif record.not_before > now:
        state, cause, next_attempt_at = "backing_off", f"{record.failures} attempts failed", record.not_before
        said = payload.said or None
    return Status(
        organization=record.organization,
        state=state,
        cause=cause,
        expires_at=expires_at,
        next_attempt_at=next_attempt_at,
        scope=None if token is None else token.scope,
        refreshed_at=None if token is None else token.expires_at - lifetime,
        said=said,
    )
