"""What the refresh works with: the collaborators that a manager puts together, its timing, and what memory holds.

Imported by everything from the flight to the manager; does nothing by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import lru_cache
from typing import Any

import attrs

from tribe_oauth._clock import Clock
from tribe_oauth._oauth.client import Client
from tribe_oauth._oauth.endpoint import TokenEndpoint
from tribe_oauth._oauth.values import TRIBE, Endpoints, Secret, Token
from tribe_oauth._refresh.payload import Credential, Payload, encode
from tribe_oauth.errors import ConfigurationError, named
from tribe_oauth.stores import Record, TokenStore

logger = logging.getLogger("tribe_oauth")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Timing:
    """How long things take, in seconds.

    A lease covers connecting and the POST (`request_timeout`), the time in which a late request may still arrive
    (`quiet`), the commit, and a margin.
    """

    leeway: float = 60.0
    quiet: float = 10.0
    request_timeout: float = 30.0

    @property
    def before_sending(self) -> float:
        """What must be left of a lease when the bytes leave."""
        return 1.5 * self.request_timeout + self.quiet

    @property
    def lease(self) -> float:
        """How long a lease is taken for."""
        return self.before_sending + self.request_timeout


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class CachedToken:
    """What this process has in hand for one organization. The family's id is ASCII: bytes take less room than text.

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


@attrs.define(kw_only=True, eq=False, repr=False)
class RefreshContext:
    """The collaborators. `pause` waits so many seconds, and says False when the manager is closing.

    `slots` bounds the refreshes that have a lease.
    """

    store: TokenStore
    endpoint: TokenEndpoint
    clock: Clock
    timing: Timing
    client: Client | None
    endpoints: Endpoints | None
    pause: Callable[[float], Awaitable[bool]]
    spawn: Callable[[Coroutine[Any, Any, None]], object]
    slots: asyncio.Semaphore

    def where(self) -> Endpoints:
        """Where Tribe is."""
        return self.endpoints or TRIBE

    def secret_of(self, credential: Credential, organization: str | None) -> Secret:
        """The client's secret: stored with the family, or the manager's own."""
        if credential.token_endpoint != self.where().token_endpoint:
            raise ConfigurationError(
                f"{named(organization)} was connected at another token endpoint than this manager's:"
                " give the manager the endpoints it was connected with",
                organization=organization,
            )
        if credential.client_secret is not None:
            return credential.client_secret
        if self.client is None or self.client.client_id != credential.client_id:
            raise ConfigurationError(
                f"{named(organization)} was connected with the client {credential.client_id!r}:"
                " give that client to the manager",
                organization=organization,
            )
        return self.client.client_secret

    def ahead(self, lifetime: float) -> float:
        """How long before its end a token is refreshed: in the last fifth of its life, spread by chance."""
        return lifetime * (0.1 + 0.1 * self.clock.random())

    def deadlines(self, lifetime: float, remaining: float, *, ahead: float | None = None) -> tuple[float, float]:
        """`CachedToken.due` and `CachedToken.expires` of a token that lives so many seconds more."""
        now = self.clock.monotonic()
        if ahead is None:
            ahead = self.ahead(lifetime)
        expires = now + remaining - min(self.timing.leeway, lifetime / 10)
        return min(now + remaining - ahead, expires), expires

    def timed(self, cached: CachedToken, remaining: float) -> CachedToken:
        """The same with new deadlines."""
        due, expires = self.deadlines(cached.lifetime, remaining)
        return attrs.evolve(cached, due=due, expires=expires)

    def cached_from(self, record: Record, payload: Payload, *, remaining: float | None = None) -> CachedToken | None:
        """What a record gives to hold in memory; None where it has no token.

        `remaining`: seconds that the token still lives, where monotonic time knows; else the wall clock has to.
        """
        token, lifetime = payload.token, _shared(payload.lifetime)
        if payload.credential is None or token is None:
            return None
        if remaining is None:
            remaining = min(token.expires_at - self.clock.time(), lifetime)
        due, expires = self.deadlines(lifetime, remaining, ahead=token.expires_at - (record.due_at or 0.0))
        return CachedToken(
            family=record.family.encode(),
            generation=record.generation,
            credential=payload.credential,
            token=token,
            lifetime=lifetime,
            due=due,
            expires=expires,
        )

    def as_record(self, organization: str, cached: CachedToken, lost: Record | None) -> Record:
        """What memory holds, as a record in place of the one that the store has."""
        due_at = self.clock.time() + cached.due - self.clock.monotonic()
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


@lru_cache(maxsize=512)
def _shared(lifetime: float) -> float:
    """A server gives one lifetime to all: one number in memory."""
    return lifetime
