"""The authorization server's state: applications, consents, token families. Every change is synchronous.

Nothing here awaits, so that a rotation and its line in the ledger happen together or not at all.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Literal

from attrs import Factory, define, field

from tribe_oauth.sandbox._application import Application
from tribe_oauth.sandbox._issued import Access, Consent, Granted, IssuedFamily
from tribe_oauth.sandbox._ledger import Cause, Family, Ledger, fingerprint
from tribe_oauth.sandbox._profiles import (
    INVALID_CLIENT,
    INVALID_GRANT,
    INVALID_SCOPE,
    UNAUTHORIZED_CLIENT,
    Profile,
    RefusedError,
)


@define
class Authority:
    """Issues, rotates, refuses, revokes. Lifetimes are in seconds; it keeps fingerprints, no tokens."""

    profile: Profile
    clock: Callable[[], float]
    access_token_lifetime: float
    refresh_token_lifetime: float
    applications: dict[str, Application] = Factory(dict)
    ledger: Ledger = field(init=False)
    _consents: dict[str, Consent] = Factory(dict)
    _families: dict[str, IssuedFamily] = Factory(dict)
    _refresh: dict[str, str] = Factory(dict)  # the family's id, for each refresh token ever issued
    _access: dict[str, Access] = Factory(dict)
    _by_organization: dict[str, list[IssuedFamily]] = Factory(dict)
    _numbers: count[int] = Factory(lambda: count(1))
    _losers: count[int] = Factory(lambda: count(0))

    def __attrs_post_init__(self) -> None:
        self.ledger = Ledger(self.clock, self._is_live, self._families_of)

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
        family = self._begin(application, organization, application.scope, "pasted", None)
        cause = Cause(client_id=application.client_id, organization=organization, family=family.id)
        return self._issue_refresh(family, cause)

    # Token requests

    def authenticate(self, form: dict[str, str]) -> Application:
        """The Application whose credentials are in the body (RFC 6749 §2.3.1)."""
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
            self._revoke_family(self._families[consent.family], cause)
            raise RefusedError(INVALID_GRANT)
        proven = consent.challenge is None or consent.challenge == _challenge(form.get("code_verifier", ""))
        if form.get("redirect_uri") != consent.redirect_uri or not proven or self.clock() > consent.expires_at:
            raise RefusedError(INVALID_GRANT)
        consent.used = True
        self.ledger.write("spent", cause, "code", mark)
        family = self._begin(application, consent.organization, consent.scope, "code", consent.redirect_uri)
        consent.family = cause.family = family.id
        return self._grant(family, cause)

    @contextmanager
    def refreshing(self, application: Application, form: dict[str, str], cause: Cause) -> Iterator[IssuedFamily]:
        """Check a refresh token (RFC 6749 §6); inside of the context follows `rotate`.

        Refreshes that begin before it ends are refused.
        """
        family = self._presented(application, form, cause)
        family.refreshing = True
        try:
            yield family
        finally:
            family.refreshing = False

    def _presented(self, application: Application, form: dict[str, str], cause: Cause) -> IssuedFamily:
        mark = fingerprint(form.get("refresh_token", ""))
        self.ledger.presented(mark)
        family = self._family(mark)
        if family is None or family.application is not application:
            raise RefusedError(self.profile.reused)
        cause.organization, cause.family = family.organization, family.id
        if mark != family.refresh:
            self.ledger.write("reused", cause, "refresh", mark)
            if self.profile.reuse_revokes_family:
                self._revoke_family(family, cause)
            raise RefusedError(self.profile.reused)
        if not family.live:
            raise RefusedError(self.profile.reused)
        if self.clock() > family.expires_at:
            raise RefusedError(self.profile.expired)
        if self.profile.refresh_redirect_uri and form.get("redirect_uri") != family.redirect_uri:
            raise RefusedError(INVALID_GRANT)
        if family.refreshing:
            answers = self.profile.concurrent
            raise RefusedError(answers[next(self._losers) % len(answers)])
        return family

    def rotate(self, family: IssuedFamily, form: dict[str, str], cause: Cause) -> Granted:
        """Spend the refresh token, delete the access token, issue successors."""
        if not family.live:
            raise RefusedError(self.profile.reused)
        self.ledger.write("spent", cause, "refresh", fingerprint(form["refresh_token"]))
        family.rotations += 1
        return self._grant(family, cause)

    def client_credentials(self, application: Application, form: dict[str, str], cause: Cause) -> Granted:
        """Issue an access token (RFC 6749 §4.4): no refresh token, whatever the scope."""
        cause.organization = application.organization
        if not application.organization:
            raise RefusedError(UNAUTHORIZED_CLIENT)
        asked = frozenset(form.get("scope", "").split())
        if not asked <= application.scope:
            raise RefusedError(INVALID_SCOPE)
        return Granted(self._issue_access(application.organization, asked, "", cause), int(self.access_token_lifetime))

    def revoke(self, application: Application, token: str) -> None:
        """Revoke the family of a refresh or access token (RFC 7009 §2.1). An unknown token is no error (§2.2)."""
        mark = fingerprint(token)
        family = self._family(mark)
        if family is None and mark in self._access:
            family = self._families.get(self._access[mark].family)
        if family is not None and family.application is application:
            self._revoke_family(family, Cause(client_id=application.client_id, organization=family.organization))

    def expire(self, organization: str) -> None:
        """Make the organization's access tokens invalid now."""
        for mark, access in self._access.items():
            if access.organization == organization and access.expires_at > self.clock():
                access.expires_at = self.clock()
                self.ledger.write("revoked", Cause(organization=organization, family=access.family), "access", mark)

    # The API's side

    def access(self, token: str) -> Access | None:
        """What an access token gives access to; None where it is unknown or has expired."""
        found = self._access.get(fingerprint(token))
        return found if found is not None and self.clock() < found.expires_at else None

    # Inside

    def _begin(
        self,
        application: Application,
        organization: str,
        scope: frozenset[str],
        origin: Literal["code", "pasted"],
        redirect_uri: str | None,
    ) -> IssuedFamily:
        name = f"family-{next(self._numbers)}"
        family = IssuedFamily(name, organization, application, scope, origin, redirect_uri)
        self._families[name] = family
        self._by_organization.setdefault(organization, []).append(family)
        return family

    def _family(self, mark: str) -> IssuedFamily | None:
        """The family of the refresh token with this fingerprint."""
        return self._families.get(self._refresh.get(mark, ""))

    def _grant(self, family: IssuedFamily, cause: Cause) -> Granted:
        self._delete_access(family, cause, "replaced")
        access = self._issue_access(family.organization, family.scope, family.id, cause)
        family.access = fingerprint(access)
        refresh = self._issue_refresh(family, cause) if "offline" in family.scope else None
        return Granted(access, int(self.access_token_lifetime), refresh)

    def _issue_access(self, organization: str, scope: frozenset[str], family: str, cause: Cause) -> str:
        token = f"at.{secrets.token_urlsafe(32)}"
        expires_at = self.clock() + self.access_token_lifetime
        self._access[fingerprint(token)] = Access(organization, scope, expires_at, family)
        self.ledger.write("issued", cause, "access", fingerprint(token))
        return token

    def _issue_refresh(self, family: IssuedFamily, cause: Cause) -> str:
        token = f"rt.{secrets.token_urlsafe(32)}"
        family.refresh = fingerprint(token)
        family.expires_at = self.clock() + self.refresh_token_lifetime
        self._refresh[family.refresh] = family.id
        self.ledger.write("issued", cause, "refresh", family.refresh)
        return token

    def _delete_access(self, family: IssuedFamily, cause: Cause, kind: Literal["replaced", "revoked"]) -> None:
        if family.access and self._access.pop(family.access, None) is not None:
            self.ledger.write(kind, cause, "access", family.access)

    def _revoke_family(self, family: IssuedFamily, cause: Cause) -> None:
        if not family.live:
            return
        family.live = False
        cause.family = family.id
        self._delete_access(family, cause, "revoked")
        self.ledger.write("revoked", cause, "refresh", family.refresh)

    # What the ledger asks

    def _is_live(self, mark: str) -> bool:
        family = self._family(mark)
        if family is not None:
            return family.live and family.refresh == mark and self.clock() <= family.expires_at
        return mark in self._access and self.clock() < self._access[mark].expires_at

    def _families_of(self, organization: str) -> tuple[Family, ...]:
        return tuple(
            Family(each.id, each.organization, each.application.client_id, each.origin, each.rotations, each.live)
            for each in self._by_organization.get(organization, ())
        )


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
