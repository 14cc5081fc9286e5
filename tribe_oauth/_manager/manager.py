"""The public face: organizations, their tokens, and sessions that carry them.

The fast path is here: a token that is not due is returned without a lock, an await that suspends, or a store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, final
from weakref import WeakSet

import attrs
from aiohttp import BaseConnector, ClientMiddlewareType, ClientSession, TCPConnector
from yarl import URL

from tribe_oauth._clock import Clock, SystemClock
from tribe_oauth._manager import connect as _connect
from tribe_oauth._manager import warm_up as _fleet
from tribe_oauth._manager.middleware import BearerMiddleware, OneToken
from tribe_oauth._manager.status import Status, status_of
from tribe_oauth._oauth.client import AuthorizationCodeGrant, Client, Grant
from tribe_oauth._oauth.endpoint import TokenEndpoint
from tribe_oauth._oauth.values import TRIBE, Endpoints, Token
from tribe_oauth._refresh.context import CachedToken, RefreshContext, Timing
from tribe_oauth._refresh.refresh import RefreshParameters
from tribe_oauth._refresh.single_flight import SingleFlight
from tribe_oauth._refresh.tasks import Tasks
from tribe_oauth.errors import (
    ConfigurationError,
    ManagerError,
    TribeOAuthError,
    UnknownOrganizationError,
    UnsavedError,
)
from tribe_oauth.stores import MemoryStore, TokenStore

if TYPE_CHECKING:
    from tribe_oauth._manager.settings import Settings

Find = Callable[[ClientSession], Awaitable[str]]
"""Finds the key of the organization that a new token belongs to, by asking the API with it."""

MAX_ORGANIZATION_BYTES: Final = 512
MAX_REQUESTS: Final = 100
"""Refreshes that have a lease at a time: more would wait for a connection while their lease runs."""


@final
class TokenManager:
    """Gives every organization's token to whoever awaits it, and keeps all of them connected.

    `client`: for every grant made with it, and for what was stored with it; its secret is never stored. `store`: where
    connections live (default: this process's memory). `connector`: yours, for Tribe's API and its token endpoint; it is
    never closed. `leeway`: seconds before its end from which callers wait for the next token (a tenth of its life where
    that is less). `quiet`: seconds after which a request that got no answer is taken not to arrive any more; the one
    assumption about the network. `request_timeout`: seconds for one token request in all. `endpoints`: where Tribe is,
    for a manager without a client.

    The constructor does no I/O. Use it as an async context manager, which also keeps idle organizations alive: a
    refresh token dies after 30 days without use. Otherwise call `close`, and `warm_up` now and then.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        store: TokenStore | None = None,
        connector: BaseConnector | None = None,
        leeway: float = 60.0,
        quiet: float = 10.0,
        request_timeout: float = 30.0,
        endpoints: Endpoints | None = None,
        clock: Clock | None = None,
    ) -> None:
        if leeway < 0 or quiet < 0 or request_timeout <= 0:
            raise ConfigurationError("leeway and quiet are seconds, not negative; request_timeout is more than 0")
        if client is not None and endpoints not in {None, client.endpoints}:
            raise ConfigurationError("the client's endpoints are the manager's: leave `endpoints` out")
        clock = clock or SystemClock()
        self._tasks = Tasks(clock)
        self._context = RefreshContext(
            store=store if store is not None else MemoryStore(),
            endpoint=TokenEndpoint(connector=connector, request_timeout=request_timeout),
            clock=clock,
            timing=Timing(leeway=leeway, quiet=quiet, request_timeout=request_timeout),
            client=client,
            endpoints=client.endpoints if client is not None else endpoints,
            pause=self._tasks.pause,
            spawn=self._tasks.spawn,
            slots=asyncio.Semaphore(MAX_REQUESTS),
        )
        self._single_flight = SingleFlight(self._context, self._tasks)
        self._cached = self._single_flight.cached
        self._monotonic = clock.monotonic
        self._only: str | None = None
        self._settings: Settings | None = None
        self._given_connector = connector
        self._connector = connector
        self._sessions: WeakSet[ClientSession] = WeakSet()

    @classmethod
    def from_env(cls) -> Self:
        """One organization from ``TRIBE_…`` variables, connected on entering.

        Its key is ``TRIBE_ORGANIZATION_ID``, or ``"default"``. ``TRIBE_CLIENT_ID`` and ``TRIBE_CLIENT_SECRET`` are
        needed; with ``TRIBE_REFRESH_TOKEN`` it is Quick Setup, without it client credentials, unless the store has a
        connection already. ``TRIBE_STORE`` is a path or URL; since a refresh token works once, Quick Setup without it
        keeps its store under the user's state directory.
        Each variable can be given as ``…_FILE``. Raises ConfigurationError.
        """
        from tribe_oauth._manager import settings as _environment  # not everybody needs it, and importing takes time

        settings = _environment.read()
        manager = cls(settings.client, store=settings.store)
        manager._settings = settings
        manager._only = settings.organization
        return manager

    async def __aenter__(self) -> Self:
        self._usable()
        if self._settings is not None:
            try:
                await self._connect_from_env(self._settings)
            except BaseException:
                await self.close()
                raise
        self._tasks.spawn(_fleet.keep_alive(self._context, self._single_flight))
        return self

    async def _connect_from_env(self, settings: Settings) -> None:
        record = await self._context.store.load(settings.organization)
        if settings.pasted or record is None or record.status == "disconnected":
            await self.connect(settings.organization, settings.grant)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def client(self) -> Client | None:
        """The client it was given."""
        return self._context.client

    @property
    def store(self) -> TokenStore:
        """Where connections live; closed with the manager."""
        return self._context.store

    # Tokens

    async def token(self, organization: str | None = None) -> Token:
        """A token that works: at once when nothing is due, else after a refresh that all callers share.

        `organization` may be left out where there is only one. Raises UnknownOrganizationError,
        ReauthorizationRequired, TokenEndpointError (TemporarilyUnavailable where waiting helps) or StoreError.
        """
        cached = self._cached.get(organization if organization is not None else self._only)
        if cached is not None and self._monotonic() < cached.due:
            return cached.token
        organization = await self._key(organization)
        while True:
            found = self._single_flight.ask(organization)
            if isinstance(found, Token):
                return found
            cached = await found
            if self._monotonic() < cached.expires:
                return cached.token

    async def refresh(self, organization: str | None = None, *, rejected: Token | None = None) -> Token:
        """A newer token than `rejected`, which the API refused; at once where that was replaced already.

        Without `rejected`: a refresh in any case. Where tokens are rejected again and again, new ones are fetched ever
        more rarely, and the rejected one is returned. Raises as `token` does.
        """
        organization = await self._key(organization)
        if rejected is not None:
            return await self._single_flight.replace(organization, rejected)
        wanted = RefreshParameters(organization=organization, cached=self._cached.get(organization), force=True)
        return (await self._single_flight.join(wanted)).token

    async def warm_up(self, *, concurrency: int = 100) -> Mapping[str, Token | TribeOAuthError]:
        """Refresh every organization whose token is due, so many at a time; what came of each."""
        self._usable()
        if concurrency < 1:
            raise ConfigurationError("concurrency is at least 1")
        return await _fleet.warm_up(self._context, self._single_flight, concurrency=concurrency)

    # Organizations

    async def connect(self, organization: str | Find, grant: Grant) -> Token:
        """Connect an organization, or connect it again: durable when it returns.

        `organization` is its key. For an authorization code it may be a function that finds the key: it is given a
        session that carries the new token, before anything is stored. Whatever it raises comes out here, TimeoutError
        after `request_timeout` too, and the new token is revoked.

        What was connected before goes on working until the new connection has proved itself. A grant that was used for
        this organization before changes nothing. Raises TokenEndpointError with the server's `error` where the grant is
        refused, ScopeError, CallbackError for a code used twice, ConfigurationError or StoreError; UnsavedError where
        it works, but only in this process until the store takes it.
        """
        self._usable()
        if isinstance(organization, str) or not callable(organization):
            _check_key(organization)
            return await self._tasks.owned(self._connect(organization, grant))
        if not isinstance(grant, AuthorizationCodeGrant):
            raise ConfigurationError("only an authorization code can be connected before its organization is known")
        return await self._tasks.owned(self._connect_found(organization, grant))

    async def _connect(self, organization: str, grant: Grant) -> Token:
        async with self._tasks.turn(organization):
            cached, unsaved = await _connect.connect(self._context, organization, grant, self._cached.get(organization))
            return self._connected(organization, cached, unsaved)

    async def _connect_found(self, find: Find, grant: AuthorizationCodeGrant) -> Token:
        exchanged = await _connect.exchange(self._context, grant, None)
        try:
            async with self._open(BearerMiddleware(OneToken(self._context.where().api, exchanged.token))) as session:
                async with asyncio.timeout(self._context.timing.request_timeout):
                    organization = await find(session)
            _check_key(organization)
        except BaseException:
            await _connect.drop(self._context, exchanged, None)
            raise
        async with self._tasks.turn(organization):
            cached, unsaved = await _connect.save(self._context, organization, exchanged)
            return self._connected(organization, cached, unsaved)

    def _connected(self, organization: str, cached: CachedToken, unsaved: UnsavedError | None) -> Token:
        self._single_flight.publish(organization, cached)
        self._single_flight.accepted(organization)
        self._look_again_who_is_the_only_one()
        if unsaved is not None:
            raise unsaved
        return cached.token

    async def disconnect(self, organization: str) -> None:
        """Revoke the connection at the server and forget it. Unknown: nothing happens. Raises StoreError."""
        self._usable()
        _check_key(organization)
        await self._tasks.owned(self._disconnect(organization))

    async def _disconnect(self, organization: str) -> None:
        async with self._tasks.turn(organization):
            await _connect.disconnect(self._context, organization)
            self._single_flight.forget(organization)
        self._look_again_who_is_the_only_one()

    def _look_again_who_is_the_only_one(self) -> None:
        if self._settings is None:
            self._only = None

    async def organizations(self) -> AsyncGenerator[str]:
        """The keys of all connected organizations, from the store, in no particular order."""
        self._usable()
        async for organization in self._context.store.organizations():
            yield organization

    async def status(self, organization: str | None = None) -> Status:
        """How an organization stands, from the store and memory. No network but the store's."""
        organization = await self._key(organization)
        record = await self._context.store.load(organization)
        if record is None or record.status == "disconnected":
            raise UnknownOrganizationError(f"organization {organization!r} is not connected", organization=organization)
        trouble, now = self._single_flight.recent_failure(organization), self._context.clock.time()
        failing = None if trouble is None else (str(trouble.error), now + trouble.until - self._monotonic())
        return status_of(record, self._cached.get(organization), now=now, failing=failing)

    # Sessions

    def session(self, organization: str | None = None) -> ClientSession:
        """A session for Tribe's API, bound to one organization. All of them share one connector.

        Use it as an async context manager; what is still open is closed with the manager. Relative URLs begin at the
        API's origin, as in ``session.get("/v1/odata/Relation_Person")``.
        """
        self._usable()
        return self._open(self.middleware(organization))

    def _open(self, middleware: ClientMiddlewareType) -> ClientSession:
        if self._connector is None:
            self._connector = TCPConnector()
        session = ClientSession(
            self._context.where().api,
            connector=self._connector,
            connector_owner=False,
            middlewares=(middleware,),
        )
        self._sessions.add(session)
        return session

    def middleware(self, organization: str | None = None) -> ClientMiddlewareType:
        """A middleware for a session of your own, bound to one organization."""
        if organization is not None:
            _check_key(organization)
        return BearerMiddleware(_Source(self, organization, self._single_flight))

    # The manager itself

    async def close(self) -> None:
        """Let what is under way end, within bounds; then close sessions and store. Closing twice is harmless."""
        self._enter()
        await self._tasks.close(timeout=self._context.timing.lease)
        self._cached.clear()

        for session in list(self._sessions):
            await session.close()
        await self._context.endpoint.close()
        if self._connector is not None and self._connector is not self._given_connector:
            await self._connector.close()
            self._connector = None
        await self._context.store.close()

    def _usable(self) -> None:
        self._enter()
        if self._tasks.closing:
            raise ManagerError("this manager is closed: make a new one")

    def _enter(self) -> None:
        if self._tasks.enter():
            self._single_flight.reset()
            self._context.slots = asyncio.Semaphore(MAX_REQUESTS)
            self._context.endpoint.forget()
            self._sessions = WeakSet()
            self._connector = self._given_connector

    async def _key(self, organization: str | None) -> str:
        """The organization that is meant."""
        self._usable()
        if organization is not None:
            _check_key(organization)
            return organization
        if self._only is None:
            keys = []
            async with aclosing(self.organizations()) as known:
                async for key in known:
                    keys.append(key)
                    if len(keys) > 1:
                        raise UnknownOrganizationError("there are several organizations: say which one is meant")
            if not keys:
                raise UnknownOrganizationError("no organization is connected: connect() one first")
            self._only = keys[0]
        return self._only


def _check_key(organization: str) -> None:
    try:
        size = len(organization.encode())
    except (AttributeError, UnicodeEncodeError):
        raise ConfigurationError("an organization's key is text that can be written as UTF-8") from None
    if not 0 < size <= MAX_ORGANIZATION_BYTES:
        raise ConfigurationError(f"an organization's key has 1 to {MAX_ORGANIZATION_BYTES} bytes of UTF-8, not {size}")


@lru_cache(maxsize=16)
def _origin(api: str) -> URL:
    return URL(api).origin()


@attrs.frozen(eq=False, repr=False)
class _Source:
    """One organization's tokens, for the middleware."""

    manager: TokenManager
    organization: str | None
    single_flight: SingleFlight

    def origin(self) -> URL:
        return _origin((self.manager._context.endpoints or TRIBE).api)  # the first connect() may say where

    def cached_token(self) -> Token | None:
        return self.single_flight.cached_token(self.organization or self.manager._only)

    async def token(self, *, settled: bool = False) -> Token:
        token = await self.manager.token(self.organization)
        if settled:  # only now: asking may have begun the refresh that would end this very token
            await self.single_flight.settled(await self.manager._key(self.organization))
            token = await self.manager.token(self.organization)
        return token

    async def refresh(self, *, rejected: Token) -> Token:
        return await self.manager.refresh(self.organization, rejected=rejected)

    def accepted(self) -> None:
        self.single_flight.accepted(self.organization or self.manager._only)
