"""The authorization server's state: applications, consents, families of refresh tokens. Every change is synchronous.

Nothing here awaits, so that a rotation and its line in the ledger happen together or not at all.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from itertools import count
from typing import Literal

from attrs import Factory, define, field

from tribe_oauth.sandbox._ledger import Cause, Family, Ledger, fingerprint
from tribe_oauth.sandbox._profiles import (
    INVALID_CLIENT,
    INVALID_GRANT,
    INVALID_SCOPE,
    UNAUTHORIZED_CLIENT,
    Profile,
    RefusedError,
)

CODE_LIFETIME = 600.0
"""Seconds."""


@define
class Application:
    """What is registered under Configuration > Applications."""

    client_id: str
    client_secret: str
    redirect_uri: str | None
    scope: frozenset[str]
    organization: str


@define
class Consent:
    """A code and what it stands for."""

    application: Application
    organization: str
    scope: frozenset[str]
    redirect_uri: str
    challenge: str | None
    expires_at: float
    family: str = ""
    used: bool = False


@define
class Chain:
    """A family of refresh tokens: one is good, all earlier ones are spent."""

    id: str
    organization: str
    application: Application
    scope: frozenset[str]
    origin: Literal["code", "pasted"]
    redirect_uri: str | None
    refresh: str = ""  # the fingerprint of the good one
    access: str = ""
    expires_at: float = 0.0
    rotations: int = 0
    live: bool = True
    rotating: int = 0  # refreshes under way


@define
class Access:
    """An access token. It belongs to a family, or to none for client credentials."""

    organization: str
    scope: frozenset[str]
    expires_at: float
    chain: str


@define
class Granted:
    """A token answer."""

    access_token: str
    expires_in: int
    refresh_token: str | None = None


@define
class Authority:
    """Issues, rotates, refuses, revokes."""

    profile: Profile
    clock: Callable[[], float]
    access_token_lifetime: float
    refresh_token_lifetime: float
    applications: dict[str, Application] = Factory(dict)
    chains: dict[str, Chain] = Factory(dict)
    ledger: Ledger = field(init=False)
    _consents: dict[str, Consent] = Factory(dict)
    _refresh: dict[str, str] = Factory(dict)  # of every refresh token ever: its family
    _access: dict[str, Access] = Factory(dict)
    _by_organization: dict[str, list[str]] = Factory(dict)
    _numbers: count[int] = Factory(lambda: count(1))
    _losers: count[int] = Factory(lambda: count(0))

    def __attrs_post_init__(self) -> None:
        self.ledger = Ledger(self.clock, self._is_live, self._families)

    # Consent

    def consent(self, consent: Consent) -> str:
        """Issue a code."""
        code = secrets.token_urlsafe(24)
        self._consents[fingerprint(code)] = consent
        cause = Cause(client_id=consent.application.client_id, organization=consent.organization)
        self.ledger.write("issued", cause, "code", fingerprint(code))
        return code

    def paste(self, application: Application, organization: str) -> str:
        """Begin a family with a refresh token as Tribe's menu gives it."""
        chain = self._chain(application, organization, application.scope, "pasted", None)
        cause = Cause(client_id=application.client_id, organization=organization, family=chain.id)
        return self._issue_refresh(chain, cause)

    # Token requests

    def authenticate(self, form: dict[str, str]) -> Application:
        """RFC 6749 §2.3.1, the credentials in the body."""
        application = self.applications.get(form.get("client_id", ""))
        given = form.get("client_secret", "").encode()
        if application is None or not hmac.compare_digest(application.client_secret.encode(), given):
            raise RefusedError(INVALID_CLIENT)
        return application

    def redeem(self, application: Application, form: dict[str, str], cause: Cause) -> Granted:
        """Exchange a code (RFC 6749 §4.1.3). A second use revokes all that came from the first (§4.1.2)."""
        mark = fingerprint(form.get("code", ""))
        consent = self._consents.get(mark)
        if consent is None or consent.application is not application:
            raise RefusedError(INVALID_GRANT)
        cause.organization, cause.family = consent.organization, consent.family
        if consent.used:
            self.ledger.write("reused", cause, "code", mark)
            self._kill(consent.family, cause)
            raise RefusedError(INVALID_GRANT)
        proven = consent.challenge is None or consent.challenge == _challenge(form.get("code_verifier", ""))
        if form.get("redirect_uri") != consent.redirect_uri or not proven or self.clock() > consent.expires_at:
            raise RefusedError(INVALID_GRANT)
        consent.used = True
        self.ledger.write("spent", cause, "code", mark)
        chain = self._chain(application, consent.organization, consent.scope, "code", consent.redirect_uri)
        consent.family = cause.family = chain.id
        return self._grant(chain, cause)

    def begin_refresh(self, application: Application, form: dict[str, str], cause: Cause) -> Chain:
        """Look at a refresh token; the rotation itself is `rotate`. Those who come in between lose."""
        mark = fingerprint(form.get("refresh_token", ""))
        self.ledger.presented(mark)
        chain = self.chains.get(self._refresh.get(mark, ""))
        if chain is None or chain.application is not application:
            raise RefusedError(self.profile.reused)
        cause.organization, cause.family = chain.organization, chain.id
        if mark != chain.refresh:
            self.ledger.write("reused", cause, "refresh", mark)
            if self.profile.reuse_revokes_family:
                self._kill(chain.id, cause)
            raise RefusedError(self.profile.reused)
        if not chain.live:
            raise RefusedError(self.profile.reused)
        if self.clock() > chain.expires_at:
            raise RefusedError(self.profile.expired)
        if self.profile.refresh_redirect_uri and form.get("redirect_uri") != chain.redirect_uri:
            raise RefusedError(INVALID_GRANT)
        if chain.rotating:
            answers = self.profile.concurrent
            raise RefusedError(answers[next(self._losers) % len(answers)])
        chain.rotating += 1
        return chain

    def rotate(self, chain: Chain, form: dict[str, str], cause: Cause) -> Granted:
        """Spend the refresh token, delete the access token, issue successors."""
        chain.rotating -= 1
        if not chain.live:
            raise RefusedError(self.profile.reused)
        self.ledger.write("spent", cause, "refresh", fingerprint(form["refresh_token"]))
        chain.rotations += 1
        return self._grant(chain, cause)

    def client_credentials(self, application: Application, form: dict[str, str], cause: Cause) -> Granted:
        """RFC 6749 §4.4: no refresh token, whatever the scope."""
        cause.organization = application.organization
        if not application.organization:
            raise RefusedError(UNAUTHORIZED_CLIENT)
        asked = frozenset(form.get("scope", "").split())
        if not asked <= application.scope:
            raise RefusedError(INVALID_SCOPE)
        return Granted(self._issue_access(application.organization, asked, "", cause), int(self.access_token_lifetime))

    def revoke(self, application: Application, token: str) -> None:
        """RFC 7009: of a refresh token, with its family; an unknown one is no error."""
        mark = fingerprint(token)
        cause = Cause(client_id=application.client_id)
        chain = self.chains.get(self._refresh.get(mark, "")) or self.chains.get(
            self._access[mark].chain if mark in self._access else ""
        )
        if chain is not None and chain.application is application:
            cause.organization = chain.organization
            self._kill(chain.id, cause)

    def expire(self, organization: str) -> None:
        """Make the organization's access tokens invalid now."""
        for mark, access in self._access.items():
            if access.organization == organization and access.expires_at > self.clock():
                access.expires_at = self.clock()
                self.ledger.write("revoked", Cause(organization=organization, family=access.chain), "access", mark)

    # The API's side

    def access(self, token: str) -> Access | None:
        """What an access token is good for now."""
        found = self._access.get(fingerprint(token))
        return found if found is not None and self.clock() < found.expires_at else None

    # Inside

    def _chain(
        self,
        application: Application,
        organization: str,
        scope: frozenset[str],
        origin: Literal["code", "pasted"],
        redirect_uri: str | None,
    ) -> Chain:
        chain = Chain(f"family-{next(self._numbers)}", organization, application, scope, origin, redirect_uri)
        self.chains[chain.id] = chain
        self._by_organization.setdefault(organization, []).append(chain.id)
        return chain

    def _grant(self, chain: Chain, cause: Cause) -> Granted:
        self._delete_access(chain, cause, "replaced")
        access = self._issue_access(chain.organization, chain.scope, chain.id, cause)
        chain.access = fingerprint(access)
        refresh = self._issue_refresh(chain, cause) if "offline" in chain.scope else None
        return Granted(access, int(self.access_token_lifetime), refresh)

    def _issue_access(self, organization: str, scope: frozenset[str], chain: str, cause: Cause) -> str:
        token = f"at.{secrets.token_urlsafe(32)}"
        expires_at = self.clock() + self.access_token_lifetime
        self._access[fingerprint(token)] = Access(organization, scope, expires_at, chain)
        self.ledger.write("issued", cause, "access", fingerprint(token))
        return token

    def _issue_refresh(self, chain: Chain, cause: Cause) -> str:
        token = f"rt.{secrets.token_urlsafe(32)}"
        chain.refresh = fingerprint(token)
        chain.expires_at = self.clock() + self.refresh_token_lifetime
        self._refresh[chain.refresh] = chain.id
        self.ledger.write("issued", cause, "refresh", chain.refresh)
        return token

    def _delete_access(self, chain: Chain, cause: Cause, kind: Literal["replaced", "revoked"]) -> None:
        if chain.access and self._access.pop(chain.access, None) is not None:
            self.ledger.write(kind, cause, "access", chain.access)

    def _kill(self, chain_id: str, cause: Cause) -> None:
        chain = self.chains.get(chain_id)
        if chain is None or not chain.live:
            return
        chain.live = False
        cause.family = chain.id
        self._delete_access(chain, cause, "revoked")
        self.ledger.write("revoked", cause, "refresh", chain.refresh)

    def _is_live(self, mark: str) -> bool:
        chain = self.chains.get(self._refresh.get(mark, ""))
        if chain is not None:
            return chain.live and chain.refresh == mark and self.clock() <= chain.expires_at
        return mark in self._access and self.clock() < self._access[mark].expires_at

    def _families(self, organization: str) -> tuple[Family, ...]:
        chains = (self.chains[name] for name in self._by_organization.get(organization, ()))
        return tuple(
            Family(chain.id, chain.organization, chain.application.client_id, chain.origin, chain.rotations, chain.live)
            for chain in chains
        )


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
