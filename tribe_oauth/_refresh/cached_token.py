"""What this process remembers of an organization: its token, and when that is due. By monotonic time."""

from __future__ import annotations

from functools import lru_cache

import attrs

from tribe_oauth._clock import Clock
from tribe_oauth._oauth.values import Token
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.payload import Credential, Payload, encode
from tribe_oauth.stores import Record


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class CachedToken:
    """One organization's token. The family's id is ASCII: bytes take less room than text.

    `due` and `expires` are on the monotonic clock: from `due` on the token is refreshed ahead of time, from `expires`
    on callers wait. `lifetime` is what the server gave, in seconds.
    """

    family: bytes
    generation: int
    credential: Credential
    token: Token
    lifetime: float
    due: float = 0.0
    expires: float = 0.0


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
    if remaining is None:
        remaining = min(token.expires_at - context.clock.time(), lifetime)
    due, expires = _deadlines(context, lifetime, remaining, token.expires_at - (record.due_at or 0.0))
    return CachedToken(
        family=record.family.encode(),
        generation=record.generation,
        credential=payload.credential,
        token=token,
        lifetime=lifetime,
        due=due,
        expires=expires,
    )


def to_record(context: RefreshContext, organization: str, cached: CachedToken, lost: Record | None) -> Record:
    """What memory has, as a record to be written over an older one that the store came back with."""
    due_at = context.clock.time() + cached.due - context.clock.monotonic()
    return Record(
        organization=organization,
        version=0 if lost is None else lost.version,
        family=cached.family.decode(),
        generation=cached.generation,
        status="connected",
        maybe_spent=lost is not None and lost.maybe_spent,
        due_at=None if cached.token.refresh_token is None else due_at,
        payload=encode(Payload(credential=cached.credential, token=cached.token, lifetime=cached.lifetime)),
    )


def _deadlines(context: RefreshContext, lifetime: float, remaining: float, ahead: float) -> tuple[float, float]:
    """`due` and `expires` of a token that lives so many seconds more."""
    end = context.clock.monotonic() + remaining
    expires = end - min(context.timing.leeway, lifetime / 10)
    return min(end - ahead, expires), expires


@lru_cache(maxsize=512)
def _shared(lifetime: float) -> float:
    """A server gives one lifetime to all: one number in memory."""
    return lifetime
