"""The connections page: organizations, their state, and forms to change it. Without a script."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import secrets
import time
from typing import Final

import attrs
from aiohttp import web

from tribe_oauth import Status, StoreError, TribeOAuthError, UnknownOrganizationError
from tribe_oauth.errors import EXPIRED, LOST_ROTATION, REVOKED, USED_ELSEWHERE
from tribe_oauth.web._organization import is_key
from tribe_oauth.web._outcome import Outcome
from tribe_oauth.web._pages import Connection, Connections
from tribe_oauth.web._site import Site, guarded, see_other

logger = logging.getLogger("tribe_oauth.web.connections")

PAGE: Final = 50
"""Organizations on a page."""
PATIENCE: Final = 10.0
"""Seconds that a browser waits for a refresh or a disconnect; it continues afterwards."""
_COOKIE: Final = "tribe-form"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_SAME: Final = frozenset({"same-origin", "none"})
_FOR_CUSTOMERS: Final = {
    REVOKED: "The access was taken back in Tribe, or it was not used for too long.",
    USED_ELSEWHERE: "Another program used the access as well, and Tribe took it back.",
    EXPIRED: "The access was not used for too long.",
    LOST_ROTATION: "An answer from Tribe was lost on its way to us.",
}


@attrs.frozen
class ConnectionsPage:
    """The handlers of the page."""

    site: Site

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show the page."""
        site = self.site
        prefix = await site.prefix(request)
        form = self._form_cookie(request) or secrets.token_urlsafe(32)
        try:
            known = sorted([organization async for organization in site.organizations(prefix)])
            page = _page(request.query.get("page", "1"), len(known))
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
        # Lax: a browser that comes back from Tribe sends it, and the forms in its other tabs stay valid.
        site.set_cookie(response, site.cookie(_COOKIE), form, samesite="Lax")
        return response

    async def _connection(self, prefix: str, organization: str) -> Connection | None:
        site, status, error = self.site, None, None
        try:
            status = await site.manager.status(prefix + organization)
        except UnknownOrganizationError:
            return None  # disconnected since it was listed
        except TribeOAuthError as unreadable:
            logger.warning("the connections page: %s", unreadable)
            error = str(unreadable)
        return Connection(
            organization=organization,
            status=status,
            # Without a prefix it is an operator, who runs this application; others are its customers.
            error=_for_customers(status) if prefix else error or (status and status.why),
            reconnect=site.url("connect", again=organization, next=site.url("connections")),
        )

    async def act(self, request: web.Request) -> web.StreamResponse:
        """Refresh or disconnect an organization, then redirect to the page."""
        site = self.site
        prefix = await site.prefix(request)
        if request.content_type != "application/x-www-form-urlencoded":
            return await site.show(request, Outcome.BAD_REQUEST)
        try:
            form = {name: str(value) for name, value in (await request.post()).items()}
        except (ValueError, LookupError):  # the body is not text in the charset that it names
            return await site.show(request, Outcome.BAD_REQUEST)
        if not self._is_ours(request, form.get("form", "")):
            return await site.show(request, Outcome.STALE_FORM)
        do, organization = form.get("do"), form.get("organization", "")
        if do not in {"refresh", "disconnect"} or not is_key(organization):
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
                return await site.show(request, Outcome.NOT_DISCONNECTED)
        return see_other(site.url("connections"))

    def _form_cookie(self, request: web.Request) -> str | None:
        """The value that our forms repeat; None where the browser sent none of ours."""
        cookie = request.cookies.get(self.site.cookie(_COOKIE), "")
        return cookie if _TOKEN.fullmatch(cookie) else None

    def _is_ours(self, request: web.Request, given: str) -> bool:
        """Whether the form comes from our own page: it repeats a cookie that no other site can read or set."""
        cookie = self._form_cookie(request)
        if cookie is None or request.headers.get("Sec-Fetch-Site", "none") not in _SAME:
            return False
        return hmac.compare_digest(cookie.encode(), given.encode("utf-8", "surrogateescape"))


def _page(number: str, organizations: int) -> int:
    """The page that is asked for, or the nearest one that exists."""
    asked = int(number) if number.isdecimal() and len(number) < 9 else 1
    return max(1, min(asked, -(-organizations // PAGE)))


def _for_customers(status: Status | None) -> str | None:
    """Why it does not work, without the names of hosts and settings that are in errors."""
    if status is None:
        return "It cannot be read at the moment. The people who run this application find the reason in its log."
    if status.state == "backing_off":
        return "Tribe did not answer properly. We try again by ourselves; nothing is lost."
    return _FOR_CUSTOMERS.get(status.cause or "", status.cause)
