"""The API's calls of each organization, as the middleware asks for them: `Calls` of a limit, or without one."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tribe_oauth._limit.limits import Limits
from tribe_oauth._limit.line import Line, Lot, Terms
from tribe_oauth._limit.rate_limit import RateLimit
from tribe_oauth._limit.reservation import UNLIMITED, Calls, reserved
from tribe_oauth._manager.organizations import Organizations
from tribe_oauth._refresh.cached_token import CachedToken
from tribe_oauth._refresh.context import RefreshContext


@attrs.frozen(eq=False, repr=False)
class LimitedCalls:
    """Those of the limit of an organization and of the client whose token it has now.

    `organization` None: the one that is meant where none is named. `tokens`: what is remembered, by organization.
    """

    limits: Limits
    organization: str | None
    background: bool
    tokens: Mapping[str | None, CachedToken]
    organizations: Organizations

    def _line(self) -> Line:
        organization = self.organization or self.organizations.sole
        cached = self.tokens.get(organization)
        return self.limits.line("" if cached is None else cached.credential.client_id, organization or "")

    def take(self) -> Lot | None:
        """See `Calls.take`. What was reserved goes first."""
        return (self.background and reserved()) or self._line().take(self.background)

    async def turn(self, longest: float | None = None) -> Lot:
        """See `Calls.turn`."""
        wait = self.limits.terms.limit.longest_wait if longest is None else longest
        return await self._line().turn(self.background, wait, patient=longest is not None)


class AllCalls:
    """Those of all organizations of a manager. `limit` None: there is no limit. `tokens`: as in `LimitedCalls`."""

    def __init__(
        self,
        limit: RateLimit | None,
        context: RefreshContext,
        organizations: Organizations,
        tokens: Mapping[str | None, CachedToken],
    ) -> None:
        self._organizations = organizations
        self._tokens = tokens
        self._limits: Limits | None = None
        if limit is not None:
            terms = Terms(limit=limit, quiet=context.timing.quiet, clock=context.clock)
            self._limits = Limits(terms, context.store.slots_of)

    def of(self, organization: str | None, *, background: bool) -> Calls:
        """Those of one organization; None: of the one that is meant where none is named."""
        if self._limits is None:
            return UNLIMITED
        return LimitedCalls(self._limits, organization, background, self._tokens, self._organizations)

    def forget_loop(self) -> None:
        """See `LoopBound`."""
        if self._limits is not None:
            self._limits.forget_loop()

    async def close(self) -> None:
        """Nobody gets a turn any more."""
        if self._limits is not None:
            await self._limits.close()
