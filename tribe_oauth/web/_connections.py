"""The connections page: what is connected, how it stands, and what can be done about it. Without a script."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from typing import Final

import attrs
from aiohttp import web

from tribe_oauth import StoreError, TribeOAuthError, UnknownOrganizationError
from tribe_oauth.web._outcome import Outcome
from tribe_oauth.web._pages import Connection, Connections
from tribe_oauth.web._site import Site, guarded, see_other

logger = logging.getLogger("tribe_oauth.web")

PAGE: Final = 50
"""Organizations on a page."""
PATIENCE: Final = 10.0
"""Seconds that a browser waits for a refresh that somebody asked for; it goes on afterwards."""
_COOKIE: Final = "tribe-form"
_SAME: Final = frozenset({"same-origin", "none"})


@attrs.frozen
class ConnectionsPage:
    """The handlers."""

    site: Site

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The page."""
        site = self.site
        prefix = await site.prefix(request)
        number = request.query.get("page", "1")
        page = int(number) if number.isdecimal() and len(number) < 9 else 1
        form = request.cookies.get(site.cookie(_COOKIE)) or secrets.token_urlsafe(32)
        try:
            known = sorted([organization async for organization in site.organizations(prefix)])
            shown = known[PAGE * (page - 1) : PAGE * page]
            rows = await asyncio.gather(*(self._connection(prefix, organization) for organization in shown))
        except StoreError as error:
            logger.warning("the connections cannot be shown: %s", error)
            return await site.show(request, Outcome.UNAVAILABLE, again=site.url("connections"))
        view = Connections(
            rows=tuple(row for row in rows if row is not None),
            total=len(known),
            now=time.time(),
            action=site.url("connections"),
            hidden={"form": form},
            connect=None if site.find is None else site.url("connect", next=site.url("connections")),
            earlier=site.url("connections", page=str(page - 1)) if page > 1 else None,
            later=site.url("connections", page=str(page + 1)) if len(known) > PAGE * page else None,
        )
        response = guarded(await site.pages.connections(request, view))
        site.set_cookie(response, site.cookie(_COOKIE), form, samesite="Strict")
        return response

    async def _connection(self, prefix: str, organization: str) -> Connection | None:
        site = self.site
        reconnect = site.url("connect", again=organization, next=site.url("connections"))
        try:
            status = await site.manager.status(prefix + organization)
        except UnknownOrganizationError:
            return None  # disconnected since it was listed
        except TribeOAuthError as error:
            return Connection(organization=organization, status=None, error=str(error), reconnect=reconnect)
        return Connection(organization=organization, status=status, error=status.cause, reconnect=reconnect)

    async def act(self, request: web.Request) -> web.StreamResponse:
        """Refresh or disconnect an organization, then back to the page."""
        site = self.site
        prefix = await site.prefix(request)
        form = await request.post()
        if not self._is_ours(request, form.get("form")):
            return await site.show(request, Outcome.STALE_FORM)
        organization, do = form.get("organization"), form.get("do")
        if not isinstance(organization, str) or do not in {"refresh", "disconnect"}:
            return await site.show(request, Outcome.BAD_REQUEST)
        try:
            async with asyncio.timeout(PATIENCE):
                if do == "refresh":
                    await site.manager.refresh(prefix + organization)
                else:
                    await site.manager.disconnect(prefix + organization)
        except (TribeOAuthError, TimeoutError) as error:
            logger.warning("%s of organization %r: %s", do, prefix + organization, error)
            if do == "disconnect":
                return await site.show(request, Outcome.UNAVAILABLE, again=site.url("connections"))
        return see_other(site.url("connections"))

    def _is_ours(self, request: web.Request, given: object) -> bool:
        """Whether the form comes from our own page: it repeats a cookie that no other site can read or send."""
        cookie = request.cookies.get(self.site.cookie(_COOKIE), "")
        if not isinstance(given, str) or not cookie or request.headers.get("Sec-Fetch-Site", "none") not in _SAME:
            return False
        return hmac.compare_digest(cookie.encode("utf-8", "surrogateescape"), given.encode("utf-8", "surrogateescape"))
