"""To Tribe and back: the connect link, the callback, and the page with the outcome."""

from __future__ import annotations

import logging
from typing import Final

import attrs
from aiohttp import ClientError, ClientSession, web

from tribe_oauth import CallbackError, Secret, StoreError, Token, TokenEndpointError
from tribe_oauth._oauth.values import parse_scope
from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.errors import ConfigurationError, ManagerError, ScopeError, TemporarilyUnavailable, UnsavedError
from tribe_oauth.odata import ODataError
from tribe_oauth.web import _pending
from tribe_oauth.web._log import forget_secrets
from tribe_oauth.web._organization import normal
from tribe_oauth.web._outcome import Outcome
from tribe_oauth.web._pending import Ended, NotPendingError, Pending
from tribe_oauth.web._site import Site, local, see_other

logger = logging.getLogger("tribe_oauth.web.flow")

MAX_FLOWS: Final = 16
"""Flows of one browser that may be open at a time: more cookies would make its headers too long."""
MAX_LINK: Final = 2000
"""Bytes that a link's values may have in all: they are kept with each flow."""

_ASK_AGAIN: Final = frozenset({"server_error", "temporarily_unavailable"})
_OUR_FAULT: Final = frozenset(
    {"invalid_request", "invalid_scope", "invalid_state", "unauthorized_client", "unsupported_response_type"}
)


class _OtherOrganizationError(Exception):
    """Another organization consented than the expected one."""


@attrs.frozen
class _Callback:
    """What a browser brings back. `state`: None unless there is exactly one. `browser`: the flow's cookie, or None."""

    url: Secret
    state: Secret | None
    browser: Secret | None


@attrs.frozen
class Flow:
    """The handlers of a flow."""

    site: Site

    # Out

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Send the browser to Tribe.

        ``organization`` pins one by Tribe's id; ``again`` names one that was connected before; ``next`` is the path to
        continue at when it is connected.
        """
        prefix = await self.site.prefix(request)
        pending = self._begin(request, prefix)
        if pending is None:
            return await self.site.show(request, Outcome.BAD_REQUEST)
        try:
            browser = await _pending.keep(self.site.manager.store, pending)
        except StoreError as error:
            logger.warning("a flow could not be started, and the customer was asked to try again: %s", error)
            return await self.site.show(request, Outcome.UNAVAILABLE, again=self.site.url("connect", **pending.link))
        response = see_other(pending.request.url)
        self._make_room(request, response)
        name = _pending.cookie_name(Secret(pending.request.state), secure=self.site.secure)
        self.site.set_cookie(response, name, browser.reveal(), max_age=_pending.COOKIE_LIFETIME, samesite="Lax")
        return response

    def _begin(self, request: web.Request, prefix: str) -> Pending | None:
        """The flow that a link asks for; None where the link is not valid."""
        query, account = request.query, prefix
        link = {name: value for name, value in query.items() if name in {"organization", "again", "next"}}
        if len(query) != len(set(query)):
            return None
        try:
            if sum(len(value.encode()) for value in link.values()) > MAX_LINK:
                return None
            following = local(link.get("next"))
            pinned = _named(prefix, link["organization"]) if "organization" in link else None
            again = link.get("again")
            if again is not None and not prefix and ":" in again:  # an operator names it by its whole key
                tenant, _, again = again.partition(":")
                prefix = f"{tenant}:"
            expected = pinned if again is None else pinned or _named(prefix, again)
        except ValueError:
            return None
        if self.site.find is None:
            pinned = expected  # nothing checks it afterwards: the link has to say it
            if pinned is None:
                return None
        return Pending(
            request=self.site.client.authorization_request(organization_id=pinned, pkce=self.site.pkce),
            account=account,
            prefix=prefix,
            expected=expected,
            next=following,
            link=link,
        )

    def _make_room(self, request: web.Request, response: web.StreamResponse) -> None:
        flows = [name for name in request.cookies if _pending.is_cookie(name, secure=self.site.secure)]
        for name in flows[: max(0, len(flows) - MAX_FLOWS + 1)]:
            self.site.del_cookie(response, name)

    # Back

    async def callback(self, request: web.Request) -> web.StreamResponse:
        """Take the flow away, then read the callback. The answer always redirects to an address without its query."""
        back = self._callback(request)
        flow: Pending | Ended | None = None
        try:
            account = await self._account(request)
            flow = await _pending.take(self.site.manager.store, self.site.client, back.state, back.browser)
            if isinstance(flow, Ended):
                outcome = Outcome(flow.outcome)
            else:  # to its end, although the browser leaves: its next request shows the outcome
                outcome = await run_uninterrupted(self._finish(flow, back, account))
        except NotPendingError as error:
            outcome = error.outcome
        except StoreError as error:
            logger.warning("a callback could not be finished, and the customer was asked to start again: %s", error)
            outcome = Outcome.UNAVAILABLE
        return see_other(self._after(outcome, flow))

    def _callback(self, request: web.Request) -> _Callback:
        """Read it, and take its secrets out of the request, which others log and report."""
        states = request.query.getall("state", [])
        state = Secret(states[0]) if len(states) == 1 else None
        name = None if state is None else _pending.cookie_name(state, secure=self.site.secure)
        browser = request.cookies.get(name or "")
        # A proxy may have changed the path on the way here; the query is used as it arrived.
        url = Secret(f"{self.site.url(self.site.callback)}?{request.rel_url.raw_query_string}")
        forget_secrets(request)
        return _Callback(url, state, None if browser is None else Secret(browser))

    async def _account(self, request: web.Request) -> str | None:
        """Whose request it is now, as the prefix of keys; None where nobody is signed in."""
        try:
            return await self.site.prefix(request)
        except web.HTTPException:  # refused, or sent to a sign-in
            return None

    def _after(self, outcome: Outcome, flow: Pending | Ended | None) -> str:
        page = f"outcome/{outcome.value}"
        if flow is None:
            return self.site.url(page)
        if outcome is Outcome.CONNECTED and flow.next is not None:
            return flow.next
        return self.site.url(page, **flow.link)

    async def _finish(self, pending: Pending, back: _Callback, account: str | None) -> Outcome:
        """Connect, and keep the outcome for a browser that comes back once more."""
        assert back.state is not None  # or it would have found no flow
        assert back.browser is not None
        await _pending.under_way(self.site.manager.store, back.state, back.browser)
        if account in {None, pending.account}:
            outcome = await self._outcome_of(pending, back)
        else:
            logger.warning("a connection begun by account %.80r came back to another one: refused", pending.account)
            outcome = Outcome.OTHER_ACCOUNT
        ended = Ended(outcome=outcome.value, next=pending.next, link=pending.link)
        try:
            await _pending.end(self.site.manager.store, back.state, back.browser, ended)
        except StoreError as error:
            logger.warning("an outcome could not be kept, which a reloaded callback would show: %s", error)
        return outcome

    async def _outcome_of(self, pending: Pending, back: _Callback) -> Outcome:
        """Exchange the code and store the connection. Errors are logged here, without secrets."""
        try:
            token = await self._connect(pending, back)
        except Exception as error:
            outcome = judge(error)
            level = logging.ERROR if outcome is Outcome.FAILED else logging.WARNING
            logger.log(level, "%s: %s", outcome.value, error, exc_info=level == logging.ERROR)
            return outcome
        asked = parse_scope(pending.request.scope)
        return Outcome.CONNECTED if token.scope is None or asked <= token.scope else Outcome.CONNECTED_WITH_LESS

    async def _connect(self, pending: Pending, back: _Callback) -> Token:
        grant = pending.request.grant(back.url.reveal())
        resolve = self.site.find
        if resolve is None:
            assert pending.expected is not None  # _begin() made sure of it
            return await self.site.manager.connect(pending.prefix + pending.expected, grant)

        async def key_of(session: ClientSession) -> str:
            found = _found(pending.prefix, await resolve(session))
            if pending.expected not in {None, found}:
                raise _OtherOrganizationError(f"organization {found!r} consented, not {pending.expected!r}")
            return pending.prefix + found

        return await self.site.manager.connect(key_of, grant)

    # The outcome

    async def outcome(self, request: web.Request) -> web.StreamResponse:
        """Show the page. Its address has only the outcome, and the link to start once more."""
        try:
            outcome = Outcome(request.match_info["outcome"])
            onward = local(request.query.get("next"))
        except ValueError:
            return await self.site.show(request, Outcome.BAD_REQUEST)
        again = self.site.url("connect", **request.query) if outcome.words.again else None
        return await self.site.show(request, outcome, again, onward if outcome.connected else None)


def _named(prefix: str, organization: str) -> str:
    """An organization under a prefix, as a link or `find` names it. Raises ValueError where it cannot be one."""
    name = normal(organization)
    if not prefix and ":" in name:
        raise ValueError("it has a colon, so that it would be the organization of a tenant: leave the colon out")
    return name


def _found(prefix: str, organization: str) -> str:
    try:
        return _named(prefix, organization)
    except ValueError as error:
        raise ConfigurationError(
            f"find() returned {organization!r}, which cannot be an organization: {error}"
        ) from None


def judge(error: Exception) -> Outcome:
    """What a customer is told about an error."""
    match error:
        case UnsavedError():
            return Outcome.CONNECTED_UNSAVED
        case _OtherOrganizationError():
            return Outcome.OTHER_ORGANIZATION
        case ScopeError(error="insufficient_scope"):
            return Outcome.NOT_OFFLINE
        case CallbackError(error=None) | TokenEndpointError(error="invalid_grant", cause=None):
            return Outcome.UNKNOWN  # with a cause, it is the application that is not set up right
        case CallbackError(error=code) if code not in _ASK_AGAIN | _OUR_FAULT:
            return Outcome.DENIED  # servers have other codes than access_denied for it
        case CallbackError(error=code) | TokenEndpointError(error=code) if code is None or code in _ASK_AGAIN:
            return Outcome.UNAVAILABLE
        case TemporarilyUnavailable() | StoreError() | ODataError() | ClientError() | TimeoutError() | ManagerError():
            return Outcome.UNAVAILABLE  # a manager that is closing belongs to a worker that ends: the next one answers
    return Outcome.FAILED
