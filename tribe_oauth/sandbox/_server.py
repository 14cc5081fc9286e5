"""The sandbox: an emulated Tribe on a free port of this machine."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from email.utils import formatdate
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from tribe_oauth._oauth.client import Client
from tribe_oauth._oauth.values import Endpoints
from tribe_oauth.sandbox import _application, _browser
from tribe_oauth.sandbox._application import GRANT_TYPES, REDIRECT_URI, SCOPE, Application
from tribe_oauth.sandbox._authority import Authority
from tribe_oauth.sandbox._data import Data
from tribe_oauth.sandbox._faults import Endpoint, Fault, Faults, Kind
from tribe_oauth.sandbox._generated import Row
from tribe_oauth.sandbox._ledger import Ledger
from tribe_oauth.sandbox._limit import Limit
from tribe_oauth.sandbox._oauth import OAuth
from tribe_oauth.sandbox._odata import OData
from tribe_oauth.sandbox._pages import Pages
from tribe_oauth.sandbox._paths import place_of
from tribe_oauth.sandbox._problems import ProblemError
from tribe_oauth.sandbox._profiles import profile_named
from tribe_oauth.sandbox._races import Races
from tribe_oauth.sandbox._reading import Reading
from tribe_oauth.sandbox._routes import add_routes
from tribe_oauth.sandbox._rules import ApiRules
from tribe_oauth.sandbox._serving import serving
from tribe_oauth.sandbox._webhooks import Delivery, Webhooks
from tribe_oauth.sandbox._writing import Writing

_NAMES: Final = ("Acme", "Bakkerij Bos", "Cobra Logistiek", "De Wit Advies", "Energie Plus")


class Sandbox:
    """An emulated Tribe: authorization server, API, consent page, ledger, faults. An async context manager.

    It may be entered again after it was left: organizations, tokens and ledger are kept; without `port`, the address is
    another one. Entering it raises OSError where the port cannot be taken.

    `profile`: the server's behaviour where versions differ: ``"strict"`` (the severest), ``"hydra-1.5"``,
    ``"hydra-1.10"``, ``"hydra-1.11"``, ``"hydra-2.3"``. `seed`: of the generated data, and of chance. `organizations`:
    how many there are at the start, or their names. `persons`: in each. `page_size`: rows that the API gives at
    once, at most. `api`: its rules, which are Tribe's as far as they are known. `redirect_uri`: of the default
    Application; on 127.0.0.1, any port will do. `clock`: gives Unix seconds; lifetimes and the `Date` of each answer
    follow it. Lifetimes and `latency` (before each token request is carried out) are in seconds, and so is
    `race_window`: refreshes with one token that overlap and begin within it are at the same instant, and chance
    decides; a later one is reuse. Everything is on loopback and in memory. Raises ValueError for a profile that does
    not exist.
    """

    def __init__(
        self,
        *,
        profile: str = "strict",
        seed: int = 0,
        organizations: int | Sequence[str] = 3,
        persons: int = 250,
        access_token_lifetime: float = 86_400,
        refresh_token_lifetime: float = 2_592_000,
        page_size: int = 100,
        api: ApiRules = ApiRules(),  # noqa: B008 (it cannot be changed)
        redirect_uri: str = REDIRECT_URI,
        latency: float = 0.0,
        race_window: float = 0.02,
        clock: Callable[[], float] = time.time,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.profile = profile
        self._seed = seed
        self._persons = persons
        self._rules = api
        self._random = _chance(seed)
        self._address = (host, port)
        self._faults = Faults()
        self._clock = clock
        rules = profile_named(profile)
        self._authority = Authority(rules, clock, access_token_lifetime, refresh_token_lifetime, _chance(seed), api)
        self._organizations: dict[str, Data] = {}
        for name in _names(organizations) if isinstance(organizations, int) else organizations:
            self.organization(name)
        races = Races(rules.race, _chance(seed), race_window)
        self._oauth = OAuth(self._authority, self._faults, races, self._by_id, latency)
        reading = Reading(api, Pages(api, page_size, _chance(seed)))
        self._writing = Writing(api, clock, _chance(seed))
        self._webhooks = Webhooks(api, _chance(seed))
        self._odata = OData(
            self._authority,
            self._faults,
            api,
            Limit(api, clock),
            self.organization,
            reading,
            self._writing,
            self._webhooks,
            lambda: self.base,
        )
        self._default = self.register(redirect_uri=redirect_uri, organization=next(iter(self._organizations), ""))
        self._entered: AsyncExitStack | None = None
        self.base = ""

    async def __aenter__(self) -> Self:
        if self._entered is not None:
            raise RuntimeError("this sandbox is entered already, and serves one address: make one more for another")
        self._entered = AsyncExitStack()
        async with AsyncExitStack() as stack:
            stack.callback(self._leave)
            await stack.enter_async_context(self._webhooks.sending())
            self.base = await stack.enter_async_context(serving(self._app(), *self._address))
            stack.callback(self._faults.end)  # before the server ends: what hangs is let go
            self._entered = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._entered is not None:
            await self._entered.aclose()

    def _leave(self) -> None:
        self._entered = None

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=self._rules.max_body)
        app.router.add_get("/oauth2/auth", self._oauth.authorize)
        app.router.add_post("/oauth2/auth", self._oauth.authorize)
        app.router.add_post("/oauth2/token", self._oauth.token)
        app.router.add_get("/oauth2/token", self._oauth.token_by_get, allow_head=False)
        app.router.add_post("/oauth2/revoke", self._oauth.revoke)
        app.router.add_route("*", "/v1/{kind:odata|odata-file|webhooks}", self._odata.handle)
        app.router.add_route("*", "/v1/{kind:odata|odata-file|webhooks}/{path:.*}", self._odata.handle)
        add_routes(app, self)
        app.on_response_prepare.append(self._date)
        return app

    async def _date(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = formatdate(self._clock(), usegmt=True)

    # What an application needs

    @property
    def endpoints(self) -> Endpoints:
        """Where this Tribe is."""
        return _application.endpoints(self.base)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables for `TokenManager.from_env` and the command line, with the default Application."""
        return _application.environment(self.base, self.client())

    def client(
        self,
        *,
        redirect_uri: str | None = "",
        organization: str | None = None,
        scope: str = SCOPE,
        grant_types: Sequence[str] = GRANT_TYPES,
    ) -> Client:
        """An Application. Without arguments it is always the same one, for all grants and the first organization.

        With arguments a further one is registered. `redirect_uri`: by default the sandbox's; None: it cannot ask for
        consent. `organization` is the one that its client credentials act for, and `grant_types` are those that it may
        use.
        """
        default = self._default
        redirect_uri = default.redirect_uri if redirect_uri == "" else redirect_uri
        if (redirect_uri, organization, scope, tuple(grant_types)) == (default.redirect_uri, None, SCOPE, GRANT_TYPES):
            application = default
        else:
            organization = organization or next(iter(self._organizations), "")
            application = self.register(
                redirect_uri=redirect_uri, organization=organization, scope=scope, grant_types=grant_types
            )
        return _application.client(self.base, application)

    def register(
        self,
        *,
        redirect_uri: str | None,
        organization: str,
        scope: str = SCOPE,
        grant_types: Sequence[str] = GRANT_TYPES,
    ) -> Application:
        """Register an Application. Without an organization to act for, it may not use client credentials."""
        client_id = f"application-{len(self._authority.applications) + 1}"
        secret = f"secret-{self._random.getrandbits(160):040x}"
        allowed = frozenset(grant_types) - (set() if organization else {"client_credentials"})
        application = Application(client_id, secret, redirect_uri, frozenset(scope.split()), organization, allowed)
        self._authority.applications[client_id] = application
        if organization:
            self.organization(organization)
        return application

    def organization(self, name: str) -> Data:
        """An organization's data. An organization that does not exist yet is made."""
        if name not in self._organizations:
            self._organizations[name] = Data(self._seed, name, self._persons, self._rules, self._clock)
        return self._organizations[name]

    @property
    def organizations(self) -> dict[str, str]:
        """The names of all organizations, each with Tribe's UUID for it."""
        return {name: data.id for name, data in self._organizations.items()}

    def _by_id(self) -> dict[str, str]:
        return {data.id: name for name, data in self._organizations.items()}

    def paste_token(self, organization: str, *, client: Client | None = None) -> str:
        """A refresh token as Tribe's menu gives it (Quick Setup), for the default client unless another is given."""
        self.organization(organization)
        client_id = self._default.client_id if client is None else client.client_id
        return self._authority.paste(self._authority.applications[client_id], organization)

    async def approve(
        self, url: str, *, organization: str | None = None, scopes: Sequence[str] | None = None, deny: bool = False
    ) -> str:
        """Play the browser: open the URL, decide on the page, and return the callback's URL without following it."""
        if organization is not None:
            self.organization(organization)
        return await _browser.approve(url, organization=organization, scopes=scopes, deny=deny)

    # What a test needs

    @property
    def ledger(self) -> Ledger:
        """The record of what happened to every token."""
        return self._authority.ledger

    def write(self, organization: str, method: str, path: str, body: dict[str, Any] | None = None) -> Row | None:
        """Change data as people do in Tribe's app: as the API does with POST, PUT and DELETE, without token and limit.

        Returns the entity; None: it was deleted. Raises ValueError where the API would refuse it.
        """
        data = self.organization(organization)
        try:
            written = self._writing.write(data, method, place_of(path, self._rules), body)
        except ProblemError as problem:
            raise ValueError(problem.message) from None
        self._webhooks.tell(organization, written.events)
        return written.row

    async def delivered(self) -> None:
        """Wait until every message of the webhooks was sent, or given up."""
        await self._webhooks.delivered()

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """What became of each message of the webhooks, oldest first."""
        return tuple(self._webhooks.deliveries)

    def fault(self, kind: Kind, *, times: int | None = 1, endpoint: Endpoint = "token", **options: Any) -> Fault:
        """Order the next `times` answers of an endpoint to go wrong; None: all, until `Fault.cancel`.

        delay (`seconds`); cut (`after_bytes` of the body); status (`status`, `retry_after`, `body`, `content_type`);
        hang (until `release`, then processed); lost_answer (processed, then the connection is aborted); lost_request
        (aborted without being processed); with `hang`, both only on `release`; invalid_client; body (a literal one);
        drip (a byte each `seconds`); database_away (what the authorization server answers to token requests and to
        revocations, and nothing is done); lie (`lie`, about the end of a collection: end, nothing, short, again,
        inside; or version and quoted, which are true in other words). On the API, `organization`: only its answers;
        anywhere, `chance`: the probability that an answer is hit, and `spares`: how many that it would hit are served
        well before. All orders end when the sandbox is left. Raises
        ValueError for a kind, an endpoint or a lie that does not exist, or that do not go together, TypeError for an
        unknown option.
        """
        return self._faults.order(Fault(kind, endpoint, times, **options))

    def expire(self, organization: str) -> None:
        """Make the organization's access tokens invalid now, whatever their `expires_in` said."""
        self._authority.expire(organization)


def _names(count: int) -> list[str]:
    return [*_NAMES[:count], *(f"Organization {number}" for number in range(len(_NAMES) + 1, count + 1))]


def _chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 (what happens by chance is the same for the same seed)
