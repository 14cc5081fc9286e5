"""`setup` adds the handlers to an application; `session` and `organizations` are for the application's own handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

from aiohttp import ClientSession, web

from tribe_oauth import Client, TokenManager, UnknownOrganizationError
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.web._connections import ConnectionsPage
from tribe_oauth.web._flow import Flow
from tribe_oauth.web._log import hide_callbacks, hide_in_use
from tribe_oauth.web._organization import normal, organization_id
from tribe_oauth.web._outcome import Outcome
from tribe_oauth.web._pages import Pages
from tribe_oauth.web._site import SITE, Authorize, ResolveOrganization, Site, site
from tribe_oauth.web._speculative import is_speculative

MANAGER: Final = web.AppKey("tribe_oauth.manager", TokenManager)
"""Where handlers find the manager: ``request.config_dict[MANAGER]``."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refuse_all(request: web.Request) -> None:
    """The default of `authorize`: no request may see anything."""


def setup(
    app: web.Application,
    manager: TokenManager,
    *,
    authorize: Authorize = refuse_all,
    find: ResolveOrganization | None = organization_id,
    path: str | None = None,
    client: Client | None = None,
    pages: Pages | None = None,
    pkce: bool = True,
) -> None:
    """Add consent, callback and the connections page to an application, which runs the manager from now on.

    `authorize` is asked for every page but the outcome's. It returns for whom the request is: the name of a
    tenant (an account of yours), who sees and changes only its own connections; True for an operator, who sees all;
    None or False to refuse with 403. It may be a coroutine function, and may raise a redirect to your sign-in. Without
    it, all requests are refused. For a callback, None or a redirect refuse nothing: the flow's cookie says whose it is;
    another account than the one that began is refused.

    The keys of a tenant's organizations begin with the tenant, those of an operator's do not; see `session`. `find` is
    given a session with the new token and returns the organization's name in such a key: by default Tribe's id of it.
    With None, only the link says which organization it is, and nothing checks which one consents.

    `path`: the part of the redirect URI's path that this application sees, where a proxy or a parent application takes
    away another part. `client`: by default the manager's. `pages`: your own. `pkce`: whether PKCE is used (RFC 7636);
    where Tribe's consent does not pass it on, the exchange is refused and the log says so. Raises ConfigurationError.
    """
    if SITE in app:
        raise ConfigurationError(
            "setup() was called for this application already: use a sub-application for the second manager"
        )
    there = site(manager, client=client, authorize=authorize, find=find, path=path, pages=pages or Pages(), pkce=pkce)
    flow, connections = Flow(there), ConnectionsPage(there)
    router = app.router
    connect = _not_ahead_of_time(there, _with_a_page_for_403(there, flow.connect))
    router.add_get(f"{there.path}/connect", connect, allow_head=False)
    for slash in ("", "/"):  # Tribe adds one before the question mark
        callback = _not_ahead_of_time(there, flow.callback)
        router.add_get(f"{there.path}/{there.callback}{slash}", callback, allow_head=False)
    router.add_get(f"{there.path}/outcome/{{outcome}}", flow.outcome)
    router.add_get(f"{there.path}/connections", _with_a_page_for_403(there, connections.show))
    router.add_post(f"{there.path}/connections", _with_a_page_for_403(there, connections.act))
    app[MANAGER] = manager
    app[SITE] = there
    app.cleanup_ctx.append(_run)
    hide_callbacks()
    app.on_response_prepare.append(hide_in_use)


async def _run(app: web.Application) -> AsyncIterator[None]:
    async with app[MANAGER]:
        yield


def _with_a_page_for_403(there: Site, handler: _Handler) -> _Handler:
    """The same handler, with a page of ours where it is forbidden."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPForbidden:
            return await there.show(request, Outcome.FORBIDDEN)

    return guarded


def _not_ahead_of_time(there: Site, handler: _Handler) -> _Handler:
    """The same handler, which is not run for a browser that only prefetches: what it consumes is not for that."""

    async def opened(request: web.Request) -> web.StreamResponse:
        if is_speculative(request):
            return await there.show(request, Outcome.AHEAD_OF_TIME, again="")  # the address that it has
        return await handler(request)

    return opened


def _site_of(request: web.Request) -> Site:
    found = request.config_dict.get(SITE)
    if found is None:
        raise ConfigurationError(
            "this application has no setup: call tribe_oauth.web.setup() for it, or for one that it is part of"
        )
    return found


@asynccontextmanager
async def session(request: web.Request, organization: str) -> AsyncIterator[ClientSession]:
    """A session for Tribe's API, for an organization of the tenant that makes this request.

    Raises HTTPForbidden where `authorize` refuses. An organization of another tenant is treated as one that does not
    exist: the first request raises UnknownOrganizationError.
    """
    there = _site_of(request)
    prefix = await there.prefix(request)
    try:
        key = prefix + normal(organization)
    except ValueError:
        raise UnknownOrganizationError(f"organization {organization[:80]!r} is not connected") from None
    async with there.manager.session(key) as session:
        yield session


async def organizations(request: web.Request) -> AsyncIterator[str]:
    """The organizations of the tenant that makes this request, in no particular order. Raises HTTPForbidden."""
    there = _site_of(request)
    async with aclosing(there.organizations(await there.prefix(request))) as known:
        async for organization in known:
            yield organization
