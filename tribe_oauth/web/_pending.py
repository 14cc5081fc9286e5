"""Pending authorizations: kept in the store, so that the callback may come to any worker; good once, for one browser.

State and cookie are stored as hashes only: with what stands in the store, no flow can be finished.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Final

import attrs

from tribe_oauth import AuthorizationRequest, Client, Secret, TokenStore
from tribe_oauth._strict_json import MalformedError, from_json, from_stored, to_json, to_stored
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.web._outcome import Outcome

LIFETIME: Final = 1800
"""Seconds. Consent may take up to half an hour at the server."""


@attrs.frozen(kw_only=True)
class Pending:
    """A browser on its way to Tribe and back.

    `prefix` is the tenant's, `expected` the organization that it has to be (None: any), `next` the path to continue at,
    `link` the query that it began with.
    """

    request: AuthorizationRequest
    prefix: str
    expected: str | None
    next: str | None
    link: dict[str, str]


class NotPendingError(Exception):
    """No flow of this browser waits for this callback. `outcome` is what the customer is told."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


@attrs.frozen(kw_only=True, repr=False)
class _Request:
    """What `AuthorizationRequest.keep` writes. In the store, `state` is empty; the callback brings it back."""

    client_id: str
    redirect_uri: str
    state: str
    verifier: Secret | None
    scope: str
    organization_id: str | None


@attrs.frozen(kw_only=True, repr=False)
class _Note:
    """A pending authorization as it is stored, under a hash of its state. `browser` is the hash of the cookie."""

    request: _Request
    browser: str
    prefix: str
    expected: str | None
    next: str | None
    link: dict[str, str]

    def __attrs_post_init__(self) -> None:
        for text in (self.browser, self.prefix, self.expected, self.next, *self.link, *self.link.values()):
            (text or "").encode()  # a lone surrogate stands for no text: ValueError


async def keep(store: TokenStore, pending: Pending) -> str:
    """Store it. Returns the value for the flow's cookie. Raises StoreError."""
    browser = secrets.token_urlsafe(32)
    request = pending.request
    note = _Note(
        request=attrs.evolve(from_json(request.keep(), _Request), state=""),
        browser=_hash(browser),
        prefix=pending.prefix,
        expected=pending.expected,
        next=pending.next,
        link=pending.link,
    )
    await store.put(_key(request.state), to_stored(note), lives_for=LIFETIME)
    return browser


async def take(store: TokenStore, client: Client, state: str, cookies: Mapping[str, str], *, secure: bool) -> Pending:
    """Take it away, before anything else of the callback is looked at; then see whether it is this browser's.

    Raises NotPendingError, and StoreError.
    """
    kept = await store.take(_key(state))
    if kept is None:
        raise NotPendingError(Outcome.UNKNOWN)
    try:
        note = from_stored(kept, _Note)
        request = client.resume(to_json(attrs.evolve(note.request, state=state)).decode())
    except (MalformedError, ConfigurationError):  # damaged, under a key that is gone, or another client's
        raise NotPendingError(Outcome.UNKNOWN) from None
    browser = _hash(cookies.get(cookie_name(state, secure=secure), ""))
    if not hmac.compare_digest(browser.encode(), note.browser.encode()):
        raise NotPendingError(Outcome.OTHER_BROWSER)
    return Pending(request=request, prefix=note.prefix, expected=note.expected, next=note.next, link=note.link)


def cookie_name(state: str, *, secure: bool) -> str:
    """The name of a flow's cookie. Each flow has its own, so that two tabs do not disturb each other."""
    return f"{cookie_prefix(secure=secure)}tribe-flow-{_hash(state)[:16]}"


def is_cookie(name: str, *, secure: bool) -> bool:
    """Whether this is the cookie of a flow."""
    return re.fullmatch(f"{cookie_prefix(secure=secure)}tribe-flow-[0-9a-f]{{16}}", name) is not None


def cookie_prefix(*, secure: bool) -> str:
    """Over https, a prefix with which browsers take a cookie only from this host (RFC 6265bis §4.1.3.2)."""
    return "__Host-" if secure else ""


def _key(state: str) -> str:
    return f"authorization:{_hash(state)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
