"""The public face: organizations, their tokens, and sessions that carry them.

The fast path is here: a token that is not due is returned without a lock, an await that suspends, or a store.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self, final

from aiohttp import BaseConnector, ClientMiddlewareType, ClientSession

from tribe_oauth._clock import Clock, SystemClock
from tribe_oauth._limit.rate_limit import RateLimit
from tribe_oauth._manager import warm_up
from tribe_oauth._manager.calls import AllCalls
from tribe_oauth._manager.connections import Connections, ResolveOrganization
from tribe_oauth._manager.event_loop import OwnEventLoop
from tribe_oauth._manager.middleware import BearerMiddleware
from tribe_oauth._manager.organizations import Organizations, check_key, not_connected
from tribe_oauth._manager.sessions import Sessions
from tribe_oauth._manager.status import Status, status_of
from tribe_oauth._manager.token_source import OrganizationTokens
from tribe_oauth._oauth.client import AuthorizationCodeGrant, Client, Grant
from tribe_oauth._oauth.endpoint import TokenEndpoint
from tribe_oauth._oauth.proxy import Proxy
from tribe_oauth._oauth.values import TRIBE, Endpoints, Secret, Token
from tribe_oauth._refresh.commit import Commits
from tribe_oauth._refresh.context import RefreshContext, Timing
from tribe_oauth._refresh.guarded_store import GuardedStore
from tribe_oauth._refresh.refresh import RefreshParameters
from tribe_oauth._refresh.rejections import Belief
from tribe_oauth._refresh.single_flight import SingleFlight
from tribe_oauth._refresh.tasks import Tasks
from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.errors import ConfigurationError, ManagerError, TribeOAuthError
from tribe_oauth.stores import MemoryStore, TokenStore

if TYPE_CHECKING:
    from tribe_oauth._manager.environment import Environment
    from tribe_oauth._manager.settings import Settings


@final
class TokenManager:
    """Gives each organization's token to all who await it, and keeps all organizations connected.

    `client`: for every grant made with it, and for what was stored with it; its secret is never stored. `store`: where
    connections live (default: this process's memory). `connector`: yours, for Tribe's API and its token endpoint; it is
    never closed. `leeway`: seconds before its end from which callers wait for the next token (a tenth of its life where
    that is less). `quiet`: seconds after which a request that got no answer is taken not to arrive any more; the one
    assumption about the network. `request_timeout`: seconds for one token request in all.
    `refresh_token_lifetime`: seconds that an unused refresh token lives; no ambiguous answer ends a connection before.
    `endpoints`: where Tribe is, for a manager without a client; by default Tribe's own. `proxy`: a URL, as in
    ``http://user:password@proxy.example:3128``; ``HTTPS_PROXY`` and the like of the environment are ignored.
    `rate_limit`: the API's rule, kept for each organization, together with all processes where the store is shared;
    None: not kept, and who breaks it is blocked.

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
        refresh_token_lifetime: float = 30 * 24 * 3600.0,
        endpoints: Endpoints | None = None,
        proxy: str | Secret | None = None,
        rate_limit: RateLimit | None = RateLimit(),  # noqa: B008 (it cannot change)
        clock: Clock | None = None,
    ) -> None:
        self._closing: asyncio.Task[None] | None = None
        self._loop = OwnEventLoop()
        through, proxy = Proxy.at(proxy), None
        if leeway < 0 or quiet < 0 or request_timeout <= 0:
            raise ConfigurationError("leeway and quiet are seconds, not negative; request_timeout is more than 0")
        if client is not None and endpoints not in {None, client.endpoints}:
            raise ConfigurationError("the client's endpoints are the manager's: leave `endpoints` out")
        endpoints = client.endpoints if client is not None else endpoints or TRIBE
        clock = clock or SystemClock()
        self._tasks = Tasks(clock)
        guarded = GuardedStore(store if store is not None else MemoryStore())
        commits = Commits(guarded, clock, self._tasks)
        timing = Timing(leeway, quiet, request_timeout, refresh_token_lifetime)
        endpoint = TokenEndpoint(connector=connector, proxy=through, request_timeout=request_timeout)
        self._context = RefreshContext(guarded, commits, endpoint, clock, timing, client, endpoints, self._tasks)
        self._single_flight = SingleFlight(self._context)
        self._sessions = Sessions(endpoints.api, connector, through)
        self._organizations = Organizations(guarded)
        self._calls = AllCalls(rate_limit, self._context, self._organizations, self._single_flight.tokens)
        self._connections = Connections(self._context, self._single_flight, self._organizations, self._sessions)
        self._loop = OwnEventLoop(self._tasks, self._single_flight, endpoint, self._sessions, commits, self._calls)
        self._environment: Environment | None = None
        self._tokens = self._single_flight.tokens
        self._monotonic = clock.monotonic

    @classmethod
    def from_env(cls) -> Self:
        """One organization by ``TRIBE_…`` variables (README), found or connected on entering.

        Which one: ``TRIBE_ORGANIZATION_ID``; else the only one in the store. Where the store is empty: ``"default"``,
        with ``TRIBE_REFRESH_TOKEN`` by Quick Setup, which is stored, else by client credentials, which are not. Of
        several, none: entering raises UnknownOrganizationError. Raises ConfigurationError.
        """
        from tribe_oauth._manager import settings  # most programs do not need it, and importing takes time

        return cls._with(settings.read())

    @classmethod
    def _with(cls, settings: Settings, named: str | None = None) -> Self:
        from tribe_oauth._manager.environment import Environment

        manager = cls(settings.client, store=settings.store, proxy=settings.proxy)
        manager._environment = Environment(settings, named)
        return manager

    async def __aenter__(self) -> Self:
        environment, self._environment = self._environment, None
        self._usable()
        if environment is not None:
            try:
                await self._tasks.owned(environment.enter(self._organizations, self._connections))
            except BaseException:
                await self.close()
                raise
        self._tasks.spawn(warm_up.keep_alive(self._context, self._single_flight))
        return self

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
        return self._context.store.inner

    # Tokens

    async def token(self, organization: str | None = None) -> Token:
        """A token that works: at once when nothing is due, else after a refresh that all callers share.

        `organization` may be left out where there is only one. Raises UnknownOrganizationError,
        ReauthorizationRequired, TokenEndpointError (TemporarilyUnavailable where waiting helps) or StoreError.
        """
        cached = self._tokens.get(organization if organization is not None else self._organizations.sole)
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
            return await self._single_flight.replace(organization, rejected, Belief.POSSIBLE)
        wanted = RefreshParameters.forced(organization, self._tokens.get(organization))
        return (await self._single_flight.join(wanted)).token

    async def warm_up(self, *, concurrency: int = 100) -> Mapping[str, Token | TribeOAuthError]:
        """Refresh every organization whose token is due, so many at a time; what came of each."""
        self._usable()
        if concurrency < 1:
            raise ConfigurationError("concurrency is at least 1")
        return await warm_up.warm_up(self._context, self._single_flight, concurrency=concurrency)

    # Organizations

    async def connect(self, organization: str | ResolveOrganization, grant: Grant) -> Token:
        """Connect an organization, or connect it again: durable when it returns.

        `organization` is its key. For an authorization code it may be a function that finds the key: it is given a
        session that carries the new token, before anything is stored. What it raises comes out here, TimeoutError
        after `request_timeout` too, and the new token is revoked.

        What was connected before goes on working until the new connection has proved itself. A grant that was used for
        this organization before changes nothing. Raises TokenEndpointError with the server's `error` where the grant is
        refused, ScopeError, CallbackError for a code used twice, ConfigurationError (a grant of a client with other
        endpoints than the manager's, too) or StoreError; UnsavedError where it works, but only in this process until
        the store takes it.
        """
        self._usable()
        if isinstance(organization, str) or not callable(organization):
            check_key(organization)
            return await self._tasks.owned(self._connections.connect(organization, grant))
        if not isinstance(grant, AuthorizationCodeGrant):
            raise ConfigurationError("only an authorization code can be connected before its organization is known")
        return await self._tasks.owned(self._connections.connect_resolved(organization, grant))

    async def disconnect(self, organization: str) -> None:
        """Revoke the connection at the server and forget it. Unknown: nothing happens. Raises StoreError."""
        self._usable()
        check_key(organization)
        await self._tasks.owned(self._connections.disconnect(organization))

    def organizations(self) -> AsyncGenerator[str]:
        """The keys of all connected organizations, from the store, in no particular order."""
        self._usable()
        return self._organizations.all()

    async def status(self, organization: str | None = None) -> Status:
        """How an organization stands, from the store and memory. No network but the store's."""
        organization = await self._key(organization)
        record = await self._context.store.load(organization)
        if record is None or record.status == "disconnected":
            raise not_connected(organization, await self._organizations.some())
        failing = self._single_flight.recent_failure(organization)
        return status_of(record, self._tokens.get(organization), self._context.clock, failing)

    # Sessions

    def session(self, organization: str | None = None, *, background: bool = False) -> ClientSession:
        """A session for Tribe's API, bound to one organization. All of them share one connector.

        Use it as an async context manager; what is still open is closed with the manager. Relative URLs begin at the
        API's origin, as in ``session.get("/v1/odata/Relation_Person")``. `background`: its requests are those of an
        export, and give way to requests that people wait for, where the API's limit is used up.
        """
        self._usable()
        return self._sessions.open(self._middleware(organization, background))

    def middleware(self, organization: str | None = None, *, background: bool = False) -> ClientMiddlewareType:
        """A middleware for a session of your own, bound to one organization. `background`: as in `session`."""
        return self._middleware(organization, background)

    def _middleware(self, organization: str | None, background: bool) -> BearerMiddleware:
        if organization is not None:
            check_key(organization)
        flights, calls = self._single_flight, self._calls.of(organization, background=background)
        source = OrganizationTokens(organization, self.token, self._organizations, flights)
        return BearerMiddleware(source, self._sessions.origin, flights.acceptance(organization), calls)

    # The manager itself

    def __del__(self) -> None:
        if self._loop.entered and self._closing is None and not self._tasks.closing:
            warnings.warn(
                "a TokenManager was never closed: a refresh that its loop's end cuts off is lost; use it as an async"
                " context manager, or call close()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    async def close(self) -> None:
        """Let what is under way end, within bounds; then close sessions and store. Closing twice is harmless.

        A caller that is cancelled meanwhile waits all the same: half a rotation would be lost, and files left open.
        """
        self._loop.enter()
        if self._closing is None or self._closing.done() or self._closing.get_loop().is_closed():
            self._closing = asyncio.ensure_future(self._close())
        await run_uninterrupted(self._closing)

    async def _close(self) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._context.store.close)
            stack.push_async_callback(self._calls.close)
            stack.push_async_callback(self._context.endpoint.close)
            stack.push_async_callback(self._sessions.close)
            stack.callback(self._tokens.clear)
            await self._tasks.close(timeout=self._context.timing.lease)

    def _usable(self) -> None:
        self._loop.enter()
        if self._tasks.closing:
            raise ManagerError("this manager is closed: make a new one")
        if self._environment is not None:
            raise ManagerError("from_env() connects on entering: use `async with TokenManager.from_env() as manager`")

    async def _key(self, organization: str | None) -> str:
        self._usable()
        return await self._organizations.key(organization)
