"""The authorization server's endpoints: consent, token, revocation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, quote_plus, urlencode, urlsplit

from aiohttp import web
from attrs import define

from tribe_oauth.sandbox import _consent, _faults
from tribe_oauth.sandbox._application import Application
from tribe_oauth.sandbox._authority import Authority
from tribe_oauth.sandbox._faults import Faults
from tribe_oauth.sandbox._issued import CODE_LIFETIME, Consent, Granted
from tribe_oauth.sandbox._ledger import Cause
from tribe_oauth.sandbox._profiles import INVALID_REQUEST, Refusal, RefusedError

GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials")
CAUSE = web.RequestKey("cause", Cause)
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@define(eq=False)
class OAuth:
    """The three endpoints over one authority."""

    authority: Authority
    faults: Faults
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
        if (error := self._wrong(query, application)) is not None:
            return self._back(query, error=error[0], error_description=error[1])
        if request.method == "GET":
            organizations = self._choices(query)
            return _consent.page(query, application.client_id, organizations, query["scope"].split())
        return self._decided(application, query, await request.post())

    def _wrong(self, query: dict[str, str], application: Application) -> tuple[str, str] | None:
        if query.get("response_type") != "code":
            return "unsupported_response_type", "Only the response type code is supported"
        if len(query.get("state", "")) < 8:
            return "invalid_state", "The state is missing or has less than 8 characters"
        if not query.get("scope", "").split() or not set(query["scope"].split()) <= application.scope:
            return "invalid_scope", "The requested scope is invalid, unknown, or malformed"
        if "code_challenge" in query and query.get("code_challenge_method") != "S256":
            return "invalid_request", "Only the code challenge method S256 is supported"
        if not self._choices(query):
            return "access_denied", "The organization is not known"
        return None

    def _choices(self, query: dict[str, str]) -> dict[str, str]:
        known = self.organizations()
        pinned = query.get("organization_id")
        return known if pinned is None else {key: name for key, name in known.items() if key == pinned}

    def _decided(self, application: Application, query: dict[str, str], form: Any) -> web.Response:
        scopes = [scope for scope in query["scope"].split() if scope in form.getall("scope", [])]
        name = self._choices(query).get(form.get("organization", ""))
        if form.get("decision") != "allow" or name is None or not scopes:
            return self._back(query, error=self.authority.profile.denied, error_description="The resource owner denied")
        consent = Consent(
            application=application,
            organization=name,
            scope=frozenset(scopes),
            redirect_uri=query["redirect_uri"],
            challenge=query.get("code_challenge"),
            expires_at=self.authority.clock() + CODE_LIFETIME,
        )
        return self._back(query, code=self.authority.consent(consent), scope=" ".join(scopes))

    def _back(self, query: dict[str, str], **answer: str) -> web.Response:
        """The redirect, in the shape of Tribe's page: a slash before the question mark."""
        if "state" in query:
            answer["state"] = query["state"]
        encoded = urlencode(answer, quote_via=quote if self.authority.profile.space == "%20" else quote_plus)
        target = f"{query['redirect_uri'].rstrip('/')}/?{encoded}"
        return web.Response(status=303, headers={"Location": target, **NO_STORE})

    # Token (RFC 6749 §3.2)

    async def token(self, request: web.Request) -> web.StreamResponse:
        """Answer a token request of any grant type."""
        return await self._faulty("token", request, lambda: self._token(request))

    async def _token(self, request: web.Request) -> web.Response:
        pairs = [(name, str(value)) for name, value in (await request.post()).items()]
        form = dict(pairs)
        grant_type = form.get("grant_type", "")
        ledger = self.authority.ledger
        cause = ledger.begin(grant_type if grant_type in GRANT_TYPES else "unknown", form.get("client_id", ""))
        request[CAUSE] = cause
        try:
            granted = await self._grant(grant_type, form, cause, doubled=len(form) != len(pairs))
        except RefusedError as error:
            ledger.write("refused", cause, error=error.refusal.error)
            return self._refusal(error.refusal)
        answer: dict[str, object] = {
            "access_token": granted.access_token,
            "token_type": "bearer",
            "expires_in": granted.expires_in,
        }
        if granted.refresh_token is not None:
            answer["refresh_token"] = granted.refresh_token
        return web.json_response(answer, headers=NO_STORE | self._date())

    async def _grant(self, grant_type: str, form: dict[str, str], cause: Cause, *, doubled: bool) -> Granted:
        authority = self.authority
        if grant_type not in GRANT_TYPES or doubled:  # RFC 6749 §3.2: no parameter more than once
            raise RefusedError(INVALID_REQUEST)
        application = authority.authenticate(form)
        if grant_type == "refresh_token":
            with authority.refreshing(application, form, cause) as family:
                await asyncio.sleep(self.latency)  # others may come in between, and are refused
                return authority.rotate(family, form, cause)
        await asyncio.sleep(self.latency)
        if grant_type == "authorization_code":
            return authority.redeem(application, form, cause)
        return authority.client_credentials(application, form, cause)

    def _refusal(self, refusal: Refusal) -> web.Response:
        answer: dict[str, object] = {"error": refusal.error, "error_description": refusal.description}
        if self.authority.profile.hints:
            answer |= {"error_hint": refusal.hint, "status_code": refusal.status}
        elif refusal.hint:
            answer["error_description"] = f"{refusal.description}. {refusal.hint}"
        return web.json_response(answer, status=refusal.status, headers=NO_STORE | self._date())

    def _date(self) -> dict[str, str]:
        """The server's own clock is the sandbox's: clients may compare what it says."""
        return {"Date": formatdate(self.authority.clock(), usegmt=True)}

    # Revocation (RFC 7009)

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        """Revoke a token; an unknown one is answered with 200 too."""
        return await self._faulty("revoke", request, lambda: self._revoke(request))

    async def _revoke(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        try:
            application = self.authority.authenticate(form)
        except RefusedError as error:
            return self._refusal(error.refusal)
        self.authority.revoke(application, form.get("token", ""))
        return web.Response()

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
                response, delivered = await _faults.serve(fault, request, answer)
            return response
        finally:
            if (cause := request.get(CAUSE)) is not None:
                self.authority.ledger.answered(cause, delivered=delivered)


def _is_registered(application: Application, redirect_uri: str) -> bool:
    """Whether the two are equal, character by character; on 127.0.0.1 the port may differ (RFC 8252 §7.3)."""
    if application.redirect_uri is None:
        return False
    registered, given = urlsplit(application.redirect_uri), urlsplit(redirect_uri)
    if (registered.scheme, registered.hostname) != ("http", "127.0.0.1"):
        return redirect_uri == application.redirect_uri
    return (given.scheme, given.hostname, given.path, given.query) == ("http", "127.0.0.1", registered.path, "")
