"""Connect and disconnect, one at a time for each organization, and make known what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import ClientSession

from tribe_oauth._manager import connect
from tribe_oauth._manager.middleware import BearerMiddleware, OneToken
from tribe_oauth._manager.organizations import Organizations, check_key
from tribe_oauth._manager.sessions import Sessions
from tribe_oauth._oauth.client import AuthorizationCodeGrant, Grant
from tribe_oauth._oauth.values import Token
from tribe_oauth._refresh.cached_token import CachedToken
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.payload import decode
from tribe_oauth._refresh.rejections import Acceptance
from tribe_oauth._refresh.single_flight import SingleFlight
from tribe_oauth.errors import UnsavedError

ResolveOrganization = Callable[[ClientSession], Awaitable[str]]
"""Finds the key of the organization that a new token belongs to, by asking the API with it."""


class Connections:
    """Run each method in a task that the manager owns: what was spent has to be saved, though the caller leaves."""

    def __init__(
        self, context: RefreshContext, single_flight: SingleFlight, organizations: Organizations, sessions: Sessions
    ) -> None:
        self._context = context
        self._single_flight = single_flight
        self._organizations = organizations
        self._sessions = sessions

    async def begins(self, organization: str) -> bool:
        """Whether there is no connection yet. Raises UnreadableError: a start replaces nothing, a person does."""
        record = await self._context.store.load(organization)
        if record is None or record.status == "disconnected":
            return True
        decode(record)
        return False

    async def connect(self, organization: str, grant: Grant) -> Token:
        """Connect an organization whose key is known."""
        async with self._context.tasks.lock(organization):
            with self._context.store.stored(organization):
                made = await self._connect(organization, grant)
            return self._made_known(organization, *made)

    async def connect_in_memory(self, organization: str, grant: Grant) -> None:
        """The same, until this manager ends: the store is not written."""
        async with self._context.tasks.lock(organization):
            self._context.store.keep_in_memory(organization)
            self._made_known(organization, *await self._connect(organization, grant))

    async def _connect(self, organization: str, grant: Grant) -> tuple[CachedToken, UnsavedError | None]:
        return await connect.connect(self._context, organization, grant, self._single_flight.tokens.get(organization))

    async def connect_resolved(self, resolve: ResolveOrganization, grant: AuthorizationCodeGrant) -> Token:
        """Exchange a code, then ask the API with the new token which organization it is."""
        exchanged = await connect.exchange(self._context, grant, None)
        try:
            organization = await self._resolved(resolve, exchanged.token)
        except BaseException:
            await connect.drop(self._context, exchanged, None)
            raise
        async with self._context.tasks.lock(organization):
            return self._made_known(organization, *await connect.save(self._context, organization, exchanged))

    async def _resolved(self, resolve: ResolveOrganization, token: Token) -> str:
        acceptance = Acceptance(self._context.clock.monotonic)
        middleware = BearerMiddleware(OneToken(token), self._sessions.origin, acceptance)
        async with self._sessions.open(middleware) as session:
            async with asyncio.timeout(self._context.timing.request_timeout):
                organization = await resolve(session)
        check_key(organization)
        return organization

    def _made_known(self, organization: str, cached: CachedToken, unsaved: UnsavedError | None) -> Token:
        self._single_flight.publish(organization, cached)
        self._organizations.forget_sole_organization()
        if unsaved is not None:
            raise unsaved
        return cached.token

    async def disconnect(self, organization: str) -> None:
        """Forget an organization, in the store and in memory."""
        async with self._context.tasks.lock(organization):
            await connect.disconnect(self._context, organization)
            self._single_flight.forget(organization)
        self._organizations.forget_sole_organization()
