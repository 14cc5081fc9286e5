"""The sandbox: an emulated Tribe on a free port of this machine."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import web

from tribe_oauth.sandbox import _browser, _control
from tribe_oauth.sandbox._authority import Application, Authority
from tribe_oauth.sandbox._data import Data
from tribe_oauth.sandbox._faults import Endpoint, Fault, Faults, Kind
from tribe_oauth.sandbox._ledger import Ledger
from tribe_oauth.sandbox._oauth import OAuth
from tribe_oauth.sandbox._odata import OData
from tribe_oauth.sandbox._profiles import profile_named

if TYPE_CHECKING:
    from tribe_oauth._oauth.client import Client
    from tribe_oauth._oauth.values import Endpoints

REDIRECT_URI: Final = "https://app.example/callback"
SCOPE: Final = "read write offline"
_NAMES: Final = ("Acme", "Bakkerij Bos", "Cobra Logistiek", "De Wit Advies", "Energie Plus")


class Sandbox:
    """An emulated Tribe: authorization server, API, consent page, ledger, faults. An async context manager.

    `profile`: the server's behaviour where versions differ: ``"strict"`` (the severest), ``"hydra-1.5"``,
    ``"hydra-1.10"``, ``"hydra-2.3"``. `seed`: of the generated data. `organizations`: how many there are at the start,
    or their names. `persons`: in each. `redirect_uri`: of the default Application; on 127.0.0.1, any port will do.
    Lifetimes and `latency` (added to each token answer) are in seconds. Everything is on loopback and in memory.
    Raises ValueError for a profile that does not exist.
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
        redirect_uri: str = REDIRECT_URI,
        latency: float = 0.0,
        clock: Callable[[], float] = time.time,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.profile = profile
        self._seed = seed
        self._persons = persons
        self._random = random.Random(seed)  # noqa: S311 (client secrets of a sandbox, the same for the same seed)
        self._address = (host, port)
        self._faults = Faults()
        self._authority = Authority(profile_named(profile), clock, access_token_lifetime, refresh_token_lifetime)
        self._organizations: dict[str, Data] = {}
        for name in _names(organizations) if isinstance(organizations, int) else organizations:
            self.organization(name)
        self._oauth = OAuth(self._authority, self._faults, self._by_id, latency)
        self._odata = OData(self._authority, self._faults, self.organization, page_size, lambda: self.base)
        self._default = self.register(redirect_uri=redirect_uri, organization=next(iter(self._organizations), ""))
        self._runner: web.AppRunner | None = None
        self.base = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/oauth2/auth", self._oauth.authorize)
        app.router.add_post("/oauth2/auth", self._oauth.authorize)
        app.router.add_post("/oauth2/token", self._oauth.token)
        app.router.add_post("/oauth2/revoke", self._oauth.revoke)
        app.router.add_route("*", "/v1/odata", self._odata.handle)
        app.router.add_route("*", "/v1/odata/{path:.*}", self._odata.handle)
        _control.add_routes(app, self)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)  # the log would show codes
        await self._runner.setup()
        host, port = self._address
        await web.TCPSite(self._runner, host, port, backlog=2048).start()
        bound = self._runner.addresses[0]
        self.base = f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._faults.release()
        assert self._runner is not None
        await self._runner.cleanup()

    # What an application needs

    @property
    def endpoints(self) -> Endpoints:
        """Where this Tribe is."""
        return endpoints(self.base)

    @property
    def environment(self) -> dict[str, str]:
        """What to export for `TokenManager.from_env` and the command line, with the default Application."""
        return environment(self.base, self.client())

    def client(
        self, *, redirect_uri: str | None = REDIRECT_URI, organization: str | None = None, scope: str = SCOPE
    ) -> Client:
        """An Application. Without arguments always the same, good for all flows, acting for the first organization.

        With arguments a further one is registered; `organization` is whose client credentials it has.
        """
        if (redirect_uri, organization, scope) == (REDIRECT_URI, None, SCOPE):
            application = self._default
        else:
            first = next(iter(self._organizations), "")
            application = self.register(redirect_uri=redirect_uri, organization=organization or first, scope=scope)
        return client(self.base, application)

    def register(self, *, redirect_uri: str | None, organization: str, scope: str = SCOPE) -> Application:
        """Register an Application."""
        client_id = f"application-{len(self._authority.applications) + 1}"
        secret = f"secret-{self._random.getrandbits(160):040x}"
        application = Application(client_id, secret, redirect_uri, frozenset(scope.split()), organization)
        self._authority.applications[client_id] = application
        if organization:
            self.organization(organization)
        return application

    def organization(self, name: str) -> Data:
        """An organization's data; made where it is not there yet."""
        if name not in self._organizations:
            self._organizations[name] = Data(self._seed, name, self._persons)
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
        """What happened to every token."""
        return self._authority.ledger

    def fault(self, kind: Kind, *, times: int | None = 1, endpoint: Endpoint = "token", **options: Any) -> Fault:
        """Order the next `times` answers of an endpoint to go wrong; None: all, until `Fault.cancel`.

        delay (`seconds`); cut (`after_bytes` of the body); status (`status`, `retry_after`, `body`, `content_type`);
        hang (until `release`, then processed); lost_answer (processed, then the connection is aborted); lost_request
        (aborted without being processed); with `hang`, both only on `release`; invalid_client; body (a literal one);
        drip (a byte each `seconds`). On the API, `organization`: only its answers; anywhere, `chance`: of an answer to
        be hit. Raises ValueError or TypeError for what there is not.
        """
        return self._faults.order(Fault(kind, endpoint, times, **options))

    def expire(self, organization: str) -> None:
        """Make the organization's access tokens invalid now, whatever their `expires_in` said."""
        self._authority.expire(organization)


def _names(count: int) -> list[str]:
    return [*_NAMES[:count], *(f"Organization {number}" for number in range(len(_NAMES) + 1, count + 1))]


def endpoints(base: str) -> Endpoints:
    """The endpoints of a sandbox at this address, as the library has them."""
    from tribe_oauth._oauth.values import Endpoints

    return Endpoints(
        authorization_endpoint=f"{base}/oauth2/auth",
        token_endpoint=f"{base}/oauth2/token",
        revocation_endpoint=f"{base}/oauth2/revoke",
        api=base,
        allow_insecure_loopback=True,
    )


def environment(base: str, client: Client) -> dict[str, str]:
    """The variables for a sandbox at this address."""
    return {
        "TRIBE_AUTH_URL": base,
        "TRIBE_API_URL": base,
        "TRIBE_ALLOW_INSECURE_LOOPBACK": "1",
        "TRIBE_CLIENT_ID": client.client_id,
        "TRIBE_CLIENT_SECRET": client.client_secret.reveal(),  # a sandbox's, good for nothing else
        "TRIBE_REDIRECT_URI": client.redirect_uri or "",
    }


def client(base: str, application: Application) -> Client:
    """An Application, as the library has it."""
    from tribe_oauth._oauth.client import Client

    return Client(
        application.client_id,
        application.client_secret,
        redirect_uri=application.redirect_uri,
        scope=" ".join(scope for scope in SCOPE.split() if scope in application.scope),
        endpoints=endpoints(base),
    )
