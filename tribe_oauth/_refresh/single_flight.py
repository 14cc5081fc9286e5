"""The tokens that this process remembers, and single flight: one refresh at a time for each organization.

A refresh is a task that the manager owns. Callers wait, each on a future of its own: a caller may be cancelled or time
out, the refresh goes on, and its result, good or bad, reaches all others.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import attrs

from tribe_oauth._oauth.values import Token
from tribe_oauth._refresh.cached_token import CachedToken
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.refresh import Purpose, RefreshParameters, refresh
from tribe_oauth._refresh.rejections import Acceptance, Belief, counted, is_too_soon
from tribe_oauth.errors import (
    ManagerError,
    ReauthorizationRequired,
    StoreError,
    TokenEndpointError,
    TribeOAuthError,
    UnknownOrganizationError,
)

logger = logging.getLogger("tribe_oauth.single_flight")

LOOK_AGAIN: Final = 30.0
"""Seconds between two looks at the store for an organization that has to be connected again."""
LOOK_AGAIN_STORE: Final = 1.0
"""Seconds for which a failure of the store is believed."""
AHEAD_AGAIN: Final = 5.0
"""Seconds until the next attempt ahead of time, where a peer is at it or one has failed."""


@attrs.define(eq=False, repr=False)
class InFlight:
    """A refresh under way and those who wait for it."""

    wanted: RefreshParameters
    waiters: list[asyncio.Future[CachedToken]] = attrs.Factory(list)


@attrs.frozen(eq=False, repr=False)
class RecentFailure:
    """What the last refresh ended with, told to all callers until the next may start. `until` is monotonic."""

    error: TribeOAuthError
    until: float


class SingleFlight:
    """`tokens`: what is remembered, by organization. The manager's fast path reads it; only this class writes it."""

    def __init__(self, context: RefreshContext) -> None:
        self.tokens: dict[str | None, CachedToken] = {}
        self._context = context
        self._monotonic = context.clock.monotonic
        self._in_flight: dict[str, InFlight] = {}
        self._failures: dict[str, RecentFailure] = {}
        self._acceptance: dict[str | None, Acceptance] = {}
        self._unstored: dict[str, tuple[int, float]] = {}  # rotations for a 401 of tokens that are not stored

    def forget_loop(self) -> None:
        """The event loop is gone, and with it the refreshes that were under way."""
        self._in_flight.clear()

    def cached(self, organization: str | None) -> Token | None:
        """The token, where it is not due and no refresh is about to replace it."""
        cached = self.tokens.get(organization)
        if cached is not None and self._monotonic() < cached.due and organization not in self._in_flight:
            return cached.token
        return None

    def ask(self, organization: str) -> Token | asyncio.Future[CachedToken]:
        """A token that has not run out: from memory, or of a refresh, and then to be looked at again.

        Not a coroutine: a caller that waits holds a future and nothing else, and there can be very many.
        """
        cached, now = self.tokens.get(organization), self._monotonic()
        if cached is not None and now < cached.due:
            return cached.token
        flight = self._in_flight.get(organization)
        if cached is not None and now < cached.expires:
            if flight is None and self.recent_failure(organization) is None:
                self._launch(RefreshParameters.ahead_of_time(organization, cached))
            return cached.token
        if (failure := self.recent_failure(organization)) is not None:
            raise failure.error.again()
        return self._wait_for(flight or self._launch(RefreshParameters.expired(organization, cached)))

    async def replace(self, organization: str, rejected: Token, belief: Belief) -> Token:
        """Another token than the one that the API refused; the same where it would be wrong to fetch one now."""
        for _ in range(2):
            token = await self._replace(organization, rejected, belief)
            if token.access_token != rejected.access_token:
                break  # otherwise the refresh it joined was there for another reason: one more
        return token

    async def _replace(self, organization: str, rejected: Token, belief: Belief) -> Token:
        cached, now = self.tokens.get(organization), self._monotonic()
        valid = cached is not None and now < cached.expires
        if cached is not None and valid and cached.token.access_token != rejected.access_token:
            return cached.token
        sure = belief is Belief.SURE
        if valid and organization not in self._in_flight and self._is_no_reason(organization, cached, belief, now):
            wanted = RefreshParameters.stored(organization, cached)
        else:
            wanted = RefreshParameters.instead_of(organization, cached, rejected.access_token, sure=sure)
        return (await self.join(wanted)).token

    def _is_no_reason(self, organization: str, cached: CachedToken | None, belief: Belief, now: float) -> bool:
        """Whether a refusal is no reason to send anything. Where tokens are stored, so is how often it was one."""
        if belief is Belief.DOUBTED:
            return True
        if cached is None or cached.credential.kind != "client_credentials" or belief is Belief.SURE:
            return False  # such a token costs nothing but its request
        count, at = self._unstored.get(organization, (0, 0.0))
        if is_too_soon(count, now - at, sure=False):
            return True
        self._unstored[organization] = counted(count, now - at), now
        return False

    def acceptance(self, organization: str | None) -> Acceptance:
        """What its token was accepted for; None: of the organization that is meant where none is named."""
        return self._acceptance.setdefault(organization, Acceptance(self._monotonic))

    async def wait_for_flight(self, organization: str) -> None:
        """Wait until no refresh of this organization is under way; it does not matter how that one ends."""
        if (flight := self._in_flight.get(organization)) is not None:
            future = self._wait_for(flight)
            try:
                await asyncio.wait([future])
            finally:
                _ = future.cancel() or future.exception()  # what came of it is for others

    def join(self, wanted: RefreshParameters) -> asyncio.Future[CachedToken]:
        """Wait for the refresh of this organization, starting it where there is none."""
        return self._wait_for(self._in_flight.get(wanted.organization) or self._launch(wanted))

    def _wait_for(self, flight: InFlight) -> asyncio.Future[CachedToken]:
        future: asyncio.Future[CachedToken] = asyncio.get_running_loop().create_future()
        flight.waiters.append(future)
        return future

    def _launch(self, wanted: RefreshParameters) -> InFlight:
        flight = self._in_flight[wanted.organization] = InFlight(wanted)
        self._context.tasks.spawn(self._fly(flight))
        return flight

    async def _fly(self, flight: InFlight) -> None:
        organization = flight.wanted.organization
        try:
            async with self._context.tasks.lock(organization):
                cached = await refresh(self._context, flight.wanted.with_cached(self.tokens.get(organization)))
                self.publish(organization, cached)
        except TribeOAuthError as error:
            self._remember_failure(flight.wanted, error)
            for waiter in self._landed(flight):
                waiter.set_exception(error.again())
        except BaseException as error:
            for waiter in self._landed(flight):
                waiter.set_exception(ManagerError(f"a refresh ended with {type(error).__name__}: please report it"))
            raise
        else:
            for waiter in self._landed(flight):
                waiter.set_result(cached)

    def _landed(self, flight: InFlight) -> list[asyncio.Future[CachedToken]]:
        """End a flight: from here on another may start. Gives those who still wait."""
        if self._in_flight.get(flight.wanted.organization) is not flight:
            return []  # of a loop that is gone, and so are those who waited; another may be under way
        del self._in_flight[flight.wanted.organization]
        return [waiter for waiter in flight.waiters if not waiter.done()]

    # What is known after a refresh

    def publish(self, organization: str, cached: CachedToken) -> None:
        """Give out what is durable."""
        now = self._monotonic()
        if cached.due <= now:  # due, and nothing newer to be had now: a peer is at work
            cached = attrs.evolve(cached, due=min(now + AHEAD_AGAIN, cached.expires))
        self.tokens[organization] = cached
        self._failures.pop(organization, None)

    def _remember_failure(self, wanted: RefreshParameters, error: TribeOAuthError) -> None:
        """Keep a failure for as long as asking again would be of no use."""
        organization, wait = wanted.organization, 0.0
        match error:
            case UnknownOrganizationError():
                self.forget(organization)
            case ReauthorizationRequired():
                wait = LOOK_AGAIN * (0.8 + 0.4 * self._context.clock.random())
            case TokenEndpointError(next_attempt_at=float(at)):
                wait = at - self._context.clock.time()
            case StoreError():
                wait = LOOK_AGAIN_STORE
        now = self._monotonic()
        if wait > 0:
            self._failures[organization] = RecentFailure(error, now + wait)
        if (cached := self.tokens.get(organization)) is not None:
            due = min(max(now + max(wait, AHEAD_AGAIN), cached.due), cached.expires)
            self.tokens[organization] = attrs.evolve(cached, due=due)
        if wanted.purpose is Purpose.AHEAD:
            logger.warning("organization %r was not refreshed ahead of time: %s", organization, error)

    def recent_failure(self, organization: str) -> RecentFailure | None:
        """What the last refresh ended with, while that still holds."""
        failure = self._failures.get(organization)
        return failure if failure is not None and self._monotonic() < failure.until else None

    def forget(self, organization: str) -> None:
        """The organization is not connected any more."""
        self.tokens.pop(organization, None)
        self._failures.pop(organization, None)
        self._acceptance.pop(organization, None)
        self._unstored.pop(organization, None)
