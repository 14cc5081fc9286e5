"""What this process remembers of an organization: its token, and when that is due. By monotonic time."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import attrs

from tribe_oauth._clock import Clock
from tribe_oauth._oauth.values import Token
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.payload import Credential, Payload, encode, readable
from tribe_oauth.stores import Record

GENERATION_BITS: Final = 64
SKEW: Final = 3600.0
"""Seconds by which the clocks of two hosts may differ; by more, one of them is wrong."""


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class CachedToken:
    """One organization's token. `place` is its family and generation, in one number: it takes half the room of two.

    `due` and `expires` are on the monotonic clock: from `due` on the token is refreshed ahead of time, from `expires`
    on callers wait. `lifetime` is what the server gave, in seconds.
    """

    place: int
    credential: Credential
    token: Token
    lifetime: float
    due: float = 0.0
    expires: float = 0.0

    @property
    def family(self) -> str:
        """The family's id."""
        family = self.place >> GENERATION_BITS
        return family.to_bytes((family.bit_length() + 7) // 8).decode()

    @property
    def generation(self) -> int:
        """Which of its family it is."""
        return self.place & ((1 << GENERATION_BITS) - 1)


def place_of(family: str, generation: int) -> int:
    """A family's id and a generation, as one number."""
    return int.from_bytes(family.encode()) << GENERATION_BITS | generation


def head_start(clock: Clock, lifetime: float) -> float:
    """How long before its end a token is refreshed: in the last fifth of its life, spread by chance."""
    return lifetime * (0.1 + 0.1 * clock.random())


def with_deadlines(context: RefreshContext, cached: CachedToken, remaining: float) -> CachedToken:
    """The same token, which lives so many seconds more."""
    ahead = head_start(context.clock, cached.lifetime)
    due, expires = _deadlines(context, cached.lifetime, remaining, ahead)
    return attrs.evolve(cached, due=due, expires=expires)


def from_record(
    context: RefreshContext, record: Record, payload: Payload, *, remaining: float | None = None
) -> CachedToken | None:
    """What a record gives to remember; None where it has no token.

    `remaining`: seconds that the token still lives, where monotonic time knows; else the wall clock has to.
    """
    token, lifetime = payload.token, _shared(payload.lifetime)
    if payload.credential is None or token is None:
        return None
    ahead = token.expires_at - (record.due_at or 0.0)
    if remaining is None:
        remaining = token.expires_at - context.clock.time()
        if remaining > lifetime + SKEW:  # written by a host whose clock is far ahead: how old it is is not known
            ahead = lifetime
        remaining = min(remaining, lifetime)
    due, expires = _deadlines(context, lifetime, remaining, ahead)
    return CachedToken(
        place=place_of(record.family, record.generation),
        credential=payload.credential,
        token=token,
        lifetime=lifetime,
        due=due,
        expires=expires,
    )


def to_record(context: RefreshContext, organization: str, cached: CachedToken, lost: Record | None) -> Record:
    """What memory has, as a record to be written over an older one that the store came back with.

    Leases were lost as well: a peer may have sent this refresh token just now. So it counts as leased and maybe spent,
    and so does a candidate that came since.
    """
    now = context.clock.time()
    kept = readable(lost) or Payload()  # one that cannot be read is not in the way of what replaces it
    candidate = kept.candidate
    if candidate is not None:  # not the one that this family began with
        candidate = None if candidate.family == cached.family else attrs.evolve(candidate, maybe_spent=True)
    payload = Payload(
        credential=cached.credential,
        token=cached.token,
        lifetime=cached.lifetime,
        age=round(cached.lifetime - _remaining(context, cached), 3),
        maybe_spent_at=now,
        maybe_spent_generation=cached.generation,
        candidate=candidate,
        seen=kept.seen,
    )
    return Record(
        organization=organization,
        version=0 if lost is None else lost.version,
        family=cached.family,
        generation=cached.generation,
        status="connected",
        maybe_spent=True,
        not_before=now,
        lease=f"{cached.family}:lost",  # a peer's, to be written for as long as one lasts
        due_at=None if cached.token.refresh_token is None else now + cached.due - context.clock.monotonic(),
        payload=encode(payload),
    )


def _remaining(context: RefreshContext, cached: CachedToken) -> float:
    """Seconds that a token still lives, by monotonic time."""
    return cached.expires + min(context.timing.leeway, cached.lifetime / 10) - context.clock.monotonic()


def _deadlines(context: RefreshContext, lifetime: float, remaining: float, ahead: float) -> tuple[float, float]:
    """`due` and `expires` of a token that lives so many seconds more."""
    end = context.clock.monotonic() + remaining
    expires = end - min(context.timing.leeway, lifetime / 10)
    return min(end - ahead, expires), expires


@lru_cache(maxsize=512)
def _shared(lifetime: float) -> float:
    """A server gives one lifetime to all: one number in memory."""
    return lifetime
