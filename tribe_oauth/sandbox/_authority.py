"""The authorization server's state: applications, consents, token families. Every change is synchronous.

Nothing here awaits, so that a rotation and its line in the ledger happen together or not at all.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from itertools import count
from random import Random
from typing import Literal

from attrs import Factory, define, evolve, field

from tribe_oauth.sandbox._application import Application
from tribe_oauth.sandbox._issued import Access, Consent, Granted, IssuedFamily
from tribe_oauth.sandbox._ledger import Cause, Family, Ledger, fingerprint
from tribe_oauth.sandbox._profiles import Profile
from tribe_oauth.sandbox._refusals import (
    CODE_OF_OTHER_CLIENT,
    CODE_USED,
    INVALID_CLIENT,
    INVALID_GRANT,
    INVALID_SCOPE,
    NO_CREDENTIALS,
    OTHER_CLIENT,
    REDIRECT_URI,
    WRONG_METHOD,
    Refusal,
    RefusedError,
    scope_refused,
)
from tribe_oauth.sandbox._rules import ApiRules


@define
class Authority:
    """Issues, rotates, refuses, revokes. Lifetimes are in seconds; it keeps fingerprints, no tokens.

    `chance` decides whether a lifetime is told in full or one second short.
    """

    profile: Profile
    clock: Callable[[], float]
    access_token_lifetime: float
    refresh_token_lifetime: float
    chance: Random
    rules: ApiRules
    applications: dict[str, Application] = Factory(dict)
    ledger: Ledger = field(init=False)
    _consents: dict[str, Consent] = Factory(dict)
    _families: dict[str, IssuedFamily] = Factory(dict)
    _refresh: dict[str, str] = Factory(dict)  # the family's id, for each refresh token ever issued
    _deleted: set[str] = Factory(set)  # refresh tokens that were refused as spent or revoked: from then on unknown
    _access: dict[str, Access] = Factory(dict)
    _by_organization: dict[str, list[IssuedFamily]] = Factory(dict)
    _numbers: count[int] = Factory(lambda: count(1))

    def __attrs_post_init__(self) -> None:
        self.ledger = Ledger(self.clock, self._is_live, self._families_of)

    # Consent

    def consent(self, consent: Consent) -> str:
        """Issue a code."""
        code = self._secret("ac")
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

    def authenticate(self, form: Mapping[str, str], authorization: str) -> Application:
        """The Application whose credentials are in the body (RFC 6749 §2.3.1); `authorization`: the header."""
        if authorization.lower().startswith("basic "):
            raise RefusedError(WRONG_METHOD)
        if "client_id" not in form:
            raise RefusedError(NO_CREDENTIALS)
        application = self.applications.get(form["client_id"])
        given = form.get("client_secret", "").encode()
        if application is None or not hmac.compare_digest(application.client_secret.encode(), given):
            raise RefusedError(INVALID_CLIENT)
        return application

    def permit(self, application: Application, grant_type: str) -> None:
        """Raise RefusedError where the Application may not use the grant type."""
        if grant_type not in application.grant_types:
            hint = f'The OAuth 2.0 Client is not allowed to use authorization grant "{grant_type}".'
            raise RefusedError(evolve(self.profile.grant_type, hint=hint))

    def redeem(self, application: Application, form: Mapping[str, str], cause: Cause) -> Granted:
        """Exchange a code (RFC 6749 §4.1.3). A second use revokes all that came from the first (§4.1.2)."""
        mark = fingerprint(form.get("code", ""))
        consent = self._consents.get(mark)
        if consent is None:
            raise RefusedError(INVALID_GRANT)
        cause.organization, cause.family = consent.organization, consent.family
        if consent.used:
            self.ledger.write("reused", cause, "code", mark)
            self._revoke_family(self._families[consent.family], cause)
            raise RefusedError(CODE_USED)
        if self.clock() > consent.expires_at:
            raise RefusedError(INVALID_GRANT)
        if consent.application is not application:
            raise RefusedError(CODE_OF_OTHER_CLIENT)
        self._check_consent(consent, form)
        consent.used = True
        self.ledger.write("spent", cause, "code", mark)
        family = self._begin(application, consent.organization, consent.scope, "code", consent.redirect_uri)
        consent.family = cause.family = family.id
        return self._grant(family, cause)

    def _check_consent(self, consent: Consent, form: Mapping[str, str]) -> None:
        ignored = self.rules.code_challenge == "ignored"
        optional = self.rules.exchange_redirect_uri == "optional"
        consent.check(
            form.get("redirect_uri", consent.redirect_uri if optional else None),
            "" if ignored else form.get("code_verifier", ""),
            stray_verifier_burns=self.profile.stray_verifier_burns,
        )

    def check(self, application: Application, form: Mapping[str, str], mark: str, cause: Cause) -> IssuedFamily:
        """The family of a refresh token that may be spent now (RFC 6749 §6). `mark`: its fingerprint.

        Raises RefusedError. One that was spent before is refused to every client, and can end its family.
        """
        family = self._family(mark)
        if family is None:
            raise RefusedError(self.profile.unknown)
        cause.organization, cause.family = family.organization, family.id
        if not family.live or mark != family.refresh:
            raise RefusedError(self._not_active(family, mark, cause))
        if self.clock() > family.expires_at:
            raise RefusedError(self.profile.expired)
        if family.application is not application:
            raise RefusedError(OTHER_CLIENT)
        if refused := sorted(family.scope - application.scope):
            raise RefusedError(scope_refused(refused[0]))
        if self._needs_redirect_uri() and form.get("redirect_uri") != family.redirect_uri:
            raise RefusedError(REDIRECT_URI)
        return family

    def _needs_redirect_uri(self) -> bool:
        rule = self.rules.refresh_redirect_uri
        return self.profile.refresh_redirect_uri if rule == "profile" else rule == "needed"

    def _not_active(self, family: IssuedFamily, mark: str, cause: Cause) -> Refusal:
        """What a spent, replaced or revoked refresh token is answered with; the first two can end a family."""
        if mark != family.refresh:
            self.ledger.write("reused", cause, "refresh", mark)
        if mark in self._deleted:
            return self.profile.unknown
        self._deleted.add(mark)
        if not family.live:
            return self.profile.revoked
        if self.profile.reuse_revokes_family:
            self._revoke_family(family, cause)
        return self.profile.spent

    def rotate(self, family: IssuedFamily, mark: str, cause: Cause) -> Granted:
        """Spend the refresh token with this fingerprint, delete the access token, issue successors.

        Successors that a refresh at the same instant was given are replaced by these.
        """
        if not family.live:
            raise RefusedError(self.profile.revoked)
        self.ledger.write("spent", cause, "refresh", mark)
        if family.refresh != mark:
            self.ledger.write("replaced", cause, "refresh", family.refresh)
        family.rotations += 1
        return self._grant(family, cause)

    def client_credentials(self, application: Application, form: Mapping[str, str], cause: Cause) -> Granted:
        """Issue an access token (RFC 6749 §4.4): no refresh token, whatever the scope; no scope where none is asked."""
        cause.organization = application.organization
        asked = frozenset(form.get("scope", "").split())
        if refused := sorted(asked - application.scope):
            raise RefusedError(scope_refused(refused[0]))
        if "offline" in asked and self.rules.offline != "accepted":
            refusals = {"invalid_scope": INVALID_SCOPE, "invalid_grant": INVALID_GRANT}
            raise RefusedError(refusals[self.rules.offline])
        access = self._issue_access(application, application.organization, asked, "", cause)
        return Granted(access, self._expires_in(), asked)

    def revoke(self, application: Application, token: str) -> None:
        """Revoke the family of a refresh or access token (RFC 7009 §2.1).

        An unknown token is no error (§2.2), nor is a spent one: its family lives on.
        """
        mark = fingerprint(token)
        family = self._family(mark)
        if family is not None and family.refresh != mark:
            return
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
        access = self._issue_access(family.application, family.organization, family.scope, family.id, cause)
        family.access = fingerprint(access)
        refresh = self._issue_refresh(family, cause) if "offline" in family.scope else None
        return Granted(access, self._expires_in(), family.scope, refresh)

    def _secret(self, kind: Literal["at", "rt", "ac"]) -> str:
        """A token or a code: 87 characters, and the prefix of newer versions."""
        prefix = self.profile.prefix and f"{self.profile.prefix}{kind}_"
        return f"{prefix}{secrets.token_urlsafe(32)}.{secrets.token_urlsafe(32)}"

    def _expires_in(self) -> int:
        """The lifetime as it is told, in whole seconds: all of it, or one less, where the first has begun."""
        return max(1, int(self.access_token_lifetime) - self.chance.randrange(2))

    def _issue_access(
        self, application: Application, organization: str, scope: frozenset[str], family: str, cause: Cause
    ) -> str:
        token = self._secret("at")
        expires_at = self.clock() + self.access_token_lifetime
        self._access[fingerprint(token)] = Access(organization, scope, expires_at, family, application.client_id)
        self.ledger.write("issued", cause, "access", fingerprint(token))
        return token

    def _issue_refresh(self, family: IssuedFamily, cause: Cause) -> str:
        token = self._secret("rt")
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
