"""Organizations connect themselves: consent, callback and a connections page for an aiohttp.web application.

    tribe_web.setup(app, manager, authorize=account)

mounts, beside the path of the client's redirect URI, for ``https://app.example/tribe/callback``:

    /tribe/connect       sends the browser to Tribe; ?organization= pins one by its id, ?next= says where to go then
    /tribe/callback      takes the answer
    /tribe/connections   what is connected, how it stands; reconnect, refresh, disconnect
    /tribe/outcome/...   what came of it, in words for customers

The manager runs with the application. Handlers use `session` and `organizations`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

from aiohttp import ClientSession, web

from tribe_oauth import Client, TokenManager, UnknownOrganizationError
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.web._connections import ConnectionsPage
from tribe_oauth.web._flow import Flow
from tribe_oauth.web._log import HideCallbacks, hide_callbacks
from tribe_oauth.web._organization import normal, organization_id
from tribe_oauth.web._outcome import Outcome
from tribe_oauth.web._pages import Connection, Connections, Links, Pages
from tribe_oauth.web._site import Authorize, Find, Site, site

__all__ = [
    "MANAGER",
    "Connection",
    "Connections",
    "HideCallbacks",
    "Links",
    "Outcome",
    "Pages",
    "organization_id",
    "organizations",
    "session",
    "setup",
]

MANAGER: Final = web.AppKey("tribe_oauth.manager", TokenManager)
"""Where handlers find the manager: ``request.config_dict[MANAGER]``."""
_SITE: Final = web.AppKey("tribe_oauth.site", Site)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def nobody(request: web.Request) -> None:
    """The default of `authorize`: refuses."""


def setup(
    app: web.Application,
    manager: TokenManager,
    *,
    authorize: Authorize = nobody,
    find: Find | None = organization_id,
    path: str | None = None,
    client: Client | None = None,
    pages: Pages | None = None,
) -> None:
    """Add the ways to connect to an application, which runs the manager from now on.

    `authorize` is asked for every page but callback and outcome, and says for whom the request is: the name of a
    tenant (an account of yours), who sees and changes its own connections only; True, for an operator, who sees all;
    None or False, nobody: 403. It may be a coroutine function, and may raise a redirect to your sign-in. Without it all
    is refused.

    A tenant's organizations have keys that begin with the tenant, an operator's have none before them; see `session`.
    `find` is given a session with the new token and returns the organization's name in such a key; by default Tribe's
    id of it. With None, organizations are pinned by the link alone, and whoever consents is believed to be that one.

    `path`: where the redirect URI's path begins for this app, where a proxy or a parent app takes away a part of it.
    `client`: by default the manager's. `pages`: yours. Raises ConfigurationError.
    """
    if _SITE in app:
        raise ConfigurationError("setup() was called for this application already: put the second into a sub-app")
    there = site(manager, client=client, authorize=authorize, find=find, path=path, pages=pages or Pages())
    flow, connections = Flow(there), ConnectionsPage(there)
    router = app.router
    router.add_get(f"{there.path}/connect", _refusing(there, flow.connect), allow_head=False)
    for slash in ("", "/"):  # Tribe adds one before the question mark
        router.add_get(f"{there.path}/{there.callback}{slash}", flow.callback, allow_head=False)
    router.add_get(f"{there.path}/outcome/{{outcome}}", flow.outcome)
    router.add_get(f"{there.path}/connections", _refusing(there, connections.show))
    router.add_post(f"{there.path}/connections", _refusing(there, connections.act))
    app[MANAGER] = manager
    app[_SITE] = there
    app.cleanup_ctx.append(_run)
    hide_callbacks()


async def _run(app: web.Application) -> AsyncIterator[None]:
    async with app[MANAGER]:
        yield


def _refusing(there: Site, handler: _Handler) -> _Handler:
    """The same, with a page of ours where it is forbidden."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPForbidden:
            return await there.show(request, Outcome.FORBIDDEN)

    return guarded


def _site_of(request: web.Request) -> Site:
    found = request.config_dict.get(_SITE)
    if found is None:
        raise ConfigurationError("call tribe_oauth.web.setup() for this application, or for one that it is part of")
    return found


@asynccontextmanager
async def session(request: web.Request, organization: str) -> AsyncIterator[ClientSession]:
    """A session for Tribe's API, for an organization of whoever makes this request.

    Raises HTTPForbidden where `authorize` refuses. An organization of another tenant is not known to this one: the
    first request raises UnknownOrganizationError, as for one that does not exist.
    """
    there = _site_of(request)
    prefix = await there.prefix(request)
    try:
        key = prefix + normal(organization)
    except ValueError:
        raise UnknownOrganizationError(f"there is no organization {organization[:80]!r}") from None
    async with there.manager.session(key) as session:
        yield session


async def organizations(request: web.Request) -> AsyncIterator[str]:
    """The organizations of whoever makes this request, in no particular order."""
    there = _site_of(request)
    async with aclosing(there.organizations(await there.prefix(request))) as known:
        async for organization in known:
            yield organization
