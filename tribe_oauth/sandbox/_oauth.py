"""The authorization server's endpoints: consent, token, revocation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any
from urllib.parse import quote, quote_plus, urlencode, urlsplit

from aiohttp import web
from attrs import define, evolve

from tribe_oauth.sandbox import _consent, _faults
from tribe_oauth.sandbox._application import GRANT_TYPES, SCOPE, Application
from tribe_oauth.sandbox._authority import Authority
from tribe_oauth.sandbox._faults import Faults
from tribe_oauth.sandbox._issued import CODE_LIFETIME, Consent, Granted
from tribe_oauth.sandbox._ledger import Cause, fingerprint
from tribe_oauth.sandbox._races import Races
from tribe_oauth.sandbox._refusals import (
    ACCESS_DENIED,
    CHALLENGE_METHOD,
    EMPTY,
    INVALID_CLIENT,
    INVALID_REQUEST,
    INVALID_SCOPE,
    INVALID_STATE,
    NO_GRANT_TYPE,
    RESPONSE_TYPE,
    Refusal,
    RefusedError,
    scope_refused,
)

CAUSE = web.RequestKey("cause", Cause)
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@define(eq=False)
class OAuth:
    """The three endpoints over one authority."""

    authority: Authority
    faults: Faults
    races: Races
    organizations: Callable[[], dict[str, str]]  # from Tribe's UUID to the name
    latency: float

    # Authorization (RFC 6749 §4.1.1)

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """Serve the consent page; on POST, carry out the decision."""
        return await self._faulty("authorize", request, lambda: self._authorize(request))

    async def _authorize(self, request: web.Request) -> web.Response:
        query = {name: request.query.getone(name) for name in request.query}
        application = self.authority.applications.get(query.get("client_id", ""))
        # These two errors are shown here and never sent to the redirect URI: it may be an attacker's.
        if application is None:
            return _consent.problem("This application is not known", "The client_id belongs to no Application.")
        if not _is_registered(application, query.get("redirect_uri", "")):
            return _consent.problem("The redirect URI does not match", "It is not the one registered.")
        if "organization_id" in query and self.authority.rules.organization_id == 500:
            return web.Response(status=500, text="<html><h1>500</h1></html>", content_type="text/html")
        if (refusal := self._wrong(query, application)) is not None:
            return self._back(query, **self.authority.profile.described(refusal))
        if request.method == "GET":
            organizations = self._choices(query)
            return _consent.page(query, application.client_id, organizations, query["scope"].split())
        return self._decided(application, query, await request.post())

    def _wrong(self, query: dict[str, str], application: Application) -> Refusal | None:
        scope = query.get("scope", "").split()
        if query.get("response_type") != "code":
            return RESPONSE_TYPE
        if len(query.get("state", "")) < 8:
            return INVALID_STATE
        if refused := [each for each in scope if each not in application.scope]:
            return scope_refused(refused[0])
        if not scope:
            return INVALID_SCOPE
        if "code_challenge" in query and (challenge := self._wrong_challenge(query)) is not None:
            return challenge
        if not self._choices(query):
            return evolve(ACCESS_DENIED, hint="The organization is not known.")
        return None

    def _wrong_challenge(self, query: dict[str, str]) -> Refusal | None:
        rule = self.authority.rules.code_challenge
        if rule == "refused":
            return INVALID_REQUEST
        return None if rule == "ignored" or query.get("code_challenge_method") == "S256" else CHALLENGE_METHOD

    def _choices(self, query: dict[str, str]) -> dict[str, str]:
        known = self.organizations()
        pinned = query.get("organization_id")
        return known if pinned is None else {key: name for key, name in known.items() if key == pinned}

    def _decided(self, application: Application, query: dict[str, str], form: Any) -> web.Response:
        scopes = [scope for scope in query["scope"].split() if scope in form.getall("scope", [])]
        name = self._choices(query).get(form.get("organization", ""))
        if form.get("decision") != "allow" or name is None or not scopes:
            profile = self.authority.profile
            return self._back(query, **profile.described(evolve(ACCESS_DENIED, error=profile.denied)))
        consent = Consent(
            application=application,
            organization=name,
            scope=frozenset(scopes),
            redirect_uri=query["redirect_uri"],
            challenge=None if self.authority.rules.code_challenge == "ignored" else query.get("code_challenge"),
            expires_at=self.authority.clock() + CODE_LIFETIME,
        )
        return self._back(query, code=self.authority.consent(consent), scope=" ".join(scopes))

    def _back(self, query: dict[str, str], **answer: str) -> web.Response:
        """The redirect, in the shape of Tribe's page: a slash before the question mark; or without it."""
        if "state" in query:
            answer["state"] = query["state"]
        profile = self.authority.profile
        encoded = urlencode(answer, quote_via=quote if profile.space == "%20" else quote_plus)
        slash = "/" if self.authority.rules.callback == "/?code=" else ""
        target = f"{query['redirect_uri'].rstrip('/')}{slash}?{encoded}"
        return web.Response(status=profile.callback_status, headers={"Location": target, **NO_STORE})

    # Token (RFC 6749 §3.2)

    async def token(self, request: web.Request) -> web.StreamResponse:
        """Answer a token request of any grant type."""
        return await self._faulty("token", request, lambda: self._token(request))

    async def token_by_get(self, request: web.Request) -> web.Response:
        """Refuse: a GET would leave the client's secret in logs (RFC 6749 §3.2)."""
        if self.authority.profile.get_token == 405:
            raise web.HTTPMethodNotAllowed(request.method, ["POST"])
        return web.Response(status=404, text="<html><h1>404 Not Found</h1></html>", content_type="text/html")

    async def _token(self, request: web.Request) -> web.Response:
        form = await _form(request)
        grant_type = form.get("grant_type", "")
        ledger = self.authority.ledger
        cause = ledger.begin(grant_type if grant_type in GRANT_TYPES else "unknown", form.get("client_id", ""))
        request[CAUSE] = cause
        try:
            granted = await self._grant(request, form, cause)
        except RefusedError as error:
            ledger.write("refused", cause, error=error.refusal.error)
            return self._refusal(error.refusal)
        answer: dict[str, object] = {
            "access_token": granted.access_token,
            "expires_in": granted.expires_in,
            "token_type": "bearer",
        }
        if self.authority.rules.token_scope:
            answer["scope"] = _scope(granted.scope)
        if granted.refresh_token is not None:
            answer["refresh_token"] = granted.refresh_token
        return web.json_response(answer, headers=NO_STORE)

    async def _grant(self, request: web.Request, form: dict[str, str], cause: Cause) -> Granted:
        authority, grant_type = self.authority, form.get("grant_type", "")
        if not form:
            raise RefusedError(EMPTY)
        if not grant_type:
            raise RefusedError(NO_GRANT_TYPE)
        application = authority.authenticate(form, request.headers.get("Authorization", ""))
        if grant_type not in GRANT_TYPES:
            raise RefusedError(INVALID_REQUEST)
        authority.permit(application, grant_type)
        if grant_type == "refresh_token":
            return await self._refresh(application, form, cause)
        await asyncio.sleep(self.latency)
        if grant_type == "authorization_code":
            return authority.redeem(application, form, cause)
        return authority.client_credentials(application, form, cause)

    async def _refresh(self, application: Application, form: dict[str, str], cause: Cause) -> Granted:
        authority, mark = self.authority, fingerprint(form.get("refresh_token", ""))
        authority.ledger.presented(mark)
        family = authority.check(application, form, mark, cause)
        async with self.races.refreshing(mark) as waited:
            if waited:
                authority.check(application, form, mark, cause)
            await asyncio.sleep(self.latency)  # others may come in between
            return authority.rotate(family, mark, cause)

    def _refusal(self, refusal: Refusal) -> web.Response:
        profile = self.authority.profile
        answer: dict[str, object] = {**profile.described(refusal)}
        if profile.hint == "error_hint":
            answer["status_code"] = refusal.status
        headers = NO_STORE if profile.no_store else {}
        return web.json_response(answer, status=refusal.status, headers=headers)

    # Revocation (RFC 7009)

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        """Revoke a token; an unknown one is answered with 200 too."""
        return await self._faulty("revoke", request, lambda: self._revoke(request))

    async def _revoke(self, request: web.Request) -> web.Response:
        form = await _form(request)
        try:
            application = self.authority.authenticate(form, request.headers.get("Authorization", ""))
        except RefusedError as error:
            return self._refusal(error.refusal)
        self.authority.revoke(application, form.get("token", ""))
        return web.Response()

    # Faults

    async def _without_database(self, endpoint: _faults.Endpoint) -> web.Response:
        """No client is known; nothing is done, whatever the answer says."""
        if endpoint == "revoke" and self.authority.profile.revocation_without_database == 200:
            return web.Response()
        return self._refusal(INVALID_CLIENT)

    async def _faulty(
        self, endpoint: _faults.Endpoint, request: web.Request, answer: Callable[[], Awaitable[web.Response]]
    ) -> web.StreamResponse:
        """Serve, or serve as a fault orders; the ledger records whether the client could read the answer."""
        delivered = False
        await request.read()  # from here on, a client that disconnects stops nothing
        try:
            fault = self.faults.take(endpoint)
            if fault is None:
                response: web.StreamResponse = await answer()
                delivered = _faults.is_open(request)
            else:
                if fault.kind == "database_away":
                    answer = partial(self._without_database, endpoint)
                response, delivered = await _faults.serve(fault, request, answer)
            return response
        finally:
            if (cause := request.get(CAUSE)) is not None:
                self.authority.ledger.answered(cause, delivered=delivered)


async def _form(request: web.Request) -> dict[str, str]:
    """The form in the body; of a parameter that is there twice, the first counts."""
    posted = await request.post()
    return {name: str(posted.getone(name)) for name in posted}


def _scope(granted: Iterable[str]) -> str:
    """A scope as it is written: in Tribe's order, then by the alphabet."""
    order = SCOPE.split()
    return " ".join(sorted(granted, key=lambda scope: (order.index(scope) if scope in order else len(order), scope)))


def _is_registered(application: Application, redirect_uri: str) -> bool:
    """Whether the two are equal, character by character; on 127.0.0.1 the port may differ (RFC 8252 §7.3)."""
    if application.redirect_uri is None:
        return False
    registered, given = urlsplit(application.redirect_uri), urlsplit(redirect_uri)
    if (registered.scheme, registered.hostname) != ("http", "127.0.0.1"):
        return redirect_uri == application.redirect_uri
    return (given.scheme, given.hostname, given.path, given.query) == ("http", "127.0.0.1", registered.path, "")
