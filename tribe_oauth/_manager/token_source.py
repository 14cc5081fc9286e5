"""One organization's tokens, as the middleware asks for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from tribe_oauth._manager.organizations import Organizations
from tribe_oauth._oauth.values import Token
from tribe_oauth._refresh.rejections import Belief
from tribe_oauth._refresh.single_flight import SingleFlight


@attrs.frozen(eq=False, repr=False)
class OrganizationTokens:
    """A `TokenSource`. `ask`: the manager's `token`. `organization` None: the one that is meant where none is named."""

    organization: str | None
    ask: Callable[[str | None], Awaitable[Token]]
    organizations: Organizations
    single_flight: SingleFlight

    def cached(self) -> Token | None:
        """See `TokenSource.cached`."""
        return self.single_flight.cached(self.organization or self.organizations.sole)

    async def token(
        self, *, rejected: Token | None = None, belief: Belief = Belief.POSSIBLE, lasting: bool = False
    ) -> Token:
        """See `TokenSource.token`."""
        if rejected is not None:
            organization = await self.organizations.key(self.organization)
            return await self.single_flight.replace(organization, rejected, belief)
        token = await self.ask(self.organization)
        if lasting:  # only now: asking may have begun the refresh that would end this very token
            await self.single_flight.wait_for_flight(await self.organizations.key(self.organization))
            token = await self.ask(self.organization)
        return token
