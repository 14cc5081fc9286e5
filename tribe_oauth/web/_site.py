"""What all handlers of an application share: the manager, the functions of its author, the addresses of the pages.

Addresses come from the client's redirect URI and never from a request: behind a proxy, a Host header says nothing.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import attrs
from aiohttp import ClientSession, web

from tribe_oauth import Client, TokenManager
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.web._organization import prefix_of
from tribe_oauth.web._outcome import Outcome
from tribe_oauth.web._pages import Links, Pages
from tribe_oauth.web._pending import cookie_prefix

Allowed = str | bool | None
Authorize = Callable[[web.Request], Allowed | Awaitable[Allowed]]
ResolveOrganization = Callable[[ClientSession], Awaitable[str]]

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
}
_LOCAL: Final = re.compile(r"/(?![/\\])[^\x00-\x20\x7f\\]*")


@attrs.frozen(kw_only=True, eq=False)
class Site:
    """The setup of one application. `base` is the path that browsers see, `path` the one in its router."""

    manager: TokenManager
    client: Client
    authorize: Authorize
    find: ResolveOrganization | None
    pages: Pages
    base: str
    path: str
    callback: str
    secure: bool
    pkce: bool

    async def prefix(self, request: web.Request) -> str:
        """How the keys begin of the organizations that this request may see. Raises HTTPForbidden."""
        allowed = self.authorize(request)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if allowed is None or allowed is False:
            raise web.HTTPForbidden
        return "" if allowed is True else prefix_of(allowed)

    async def organizations(self, prefix: str) -> AsyncGenerator[str]:
        """The organizations under a prefix, without it."""
        async with aclosing(self.manager.organizations()) as keys:
            async for key in keys:
                if key.startswith(prefix):
                    yield key.removeprefix(prefix)

    def url(self, name: str, /, **query: str | None) -> str:
        """The address of one of the pages here, as a path."""
        given = {key: value for key, value in query.items() if value is not None}
        return f"{self.base}/{name}" + (f"?{urlencode(given)}" if given else "")

    async def show(
        self, request: web.Request, outcome: Outcome, again: str | None = None, onward: str | None = None
    ) -> web.StreamResponse:
        """The page of an outcome. `again`: where to start once more; `onward`: where to continue."""
        connections = None if outcome is Outcome.FORBIDDEN else self.url("connections")
        links = Links(again=again, onward=onward, connections=connections)
        return guarded(await self.pages.outcome(request, outcome, links))

    def set_cookie(self, response: web.StreamResponse, name: str, value: str, **options: Any) -> None:
        """A cookie that scripts do not see and other hosts cannot set. `name` comes with its prefix."""
        response.set_cookie(name, value, path="/", secure=self.secure, httponly=True, **options)

    def del_cookie(self, response: web.StreamResponse, name: str) -> None:
        """Delete the same cookie: a browser does so only for the same attributes."""
        response.del_cookie(name, path="/", secure=self.secure, httponly=True)

    def cookie(self, name: str) -> str:
        """A cookie's full name."""
        return cookie_prefix(secure=self.secure) + name


SITE: Final = web.AppKey("tribe_oauth.site", Site)
"""Where the handlers of an application find it."""


def guarded(response: web.StreamResponse) -> web.StreamResponse:
    """Add the headers of a page that has to do with signing in, where the response does not have them."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def see_other(location: str) -> web.Response:
    """A redirect to another page, which a reload does not send again (RFC 9110 §15.4.4)."""
    response = web.Response(status=303, headers={"Location": quote(location, safe="%/?#[]@!$&'()*+,;=:~-._")})
    guarded(response)
    return response


def local(path: str | None) -> str | None:
    """A path on this host, or None. Raises ValueError for anything else, which may lead to another site."""
    if path is not None and not _LOCAL.fullmatch(path):
        raise ValueError("next is not a path on this host: give one as in /settings")
    return path


def site(
    manager: TokenManager,
    *,
    client: Client | None,
    authorize: Authorize,
    find: ResolveOrganization | None,
    path: str | None,
    pages: Pages,
    pkce: bool,
) -> Site:
    """Derive all addresses from the redirect URI. Raises ConfigurationError."""
    client = client or manager.client
    if client is None or client.redirect_uri is None:
        raise ConfigurationError(
            "connecting in a browser needs a Client with the redirect_uri that is registered with the Application:"
            " give one to the manager, or to setup()"
        )
    redirect = urlsplit(client.redirect_uri)
    base, _, callback = redirect.path.rstrip("/").rpartition("/")
    if not callback:
        raise ConfigurationError(
            "the redirect_uri has no path: register one such as https://app.example/tribe/callback"
        )
    mounted = base if path is None else path.rstrip("/")
    if not base.endswith(mounted) or (mounted and not mounted.startswith("/")):
        raise ConfigurationError(
            f"path is {path!r}, but the redirect_uri leads to {base + '/' + callback!r}: give the part of it that this"
            " application sees, without what a proxy or a parent application takes away, and without the last name"
        )
    return Site(
        manager=manager,
        client=client,
        authorize=authorize,
        find=find,
        pages=pages,
        base=base,
        path=mounted,
        callback=callback,
        secure=redirect.scheme == "https",
        pkce=pkce,
    )
