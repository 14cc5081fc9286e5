"""Pending authorizations: kept in the store, so that the callback may come to any worker; good once, for one browser.

The state is kept as a hash alone, and so is the cookie's value: who reads the store can finish nobody's flow.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from typing import Final

import attrs

from tribe_oauth import AuthorizationRequest, Client, TokenStore
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.web._outcome import Outcome

LIFETIME: Final = 1800
"""Seconds. Consent may take up to half an hour at the server."""


@attrs.frozen(kw_only=True)
class Pending:
    """A browser on its way to Tribe and back.

    `prefix` is the tenant's, `expected` the organization that it has to be, `link` the query it began with.
    """

    request: AuthorizationRequest
    prefix: str
    expected: str | None
    next: str | None
    link: dict[str, str]


class NotPendingError(Exception):
    """No flow of this browser waits for this callback."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


async def keep(store: TokenStore, pending: Pending) -> str:
    """Store it. Returned is the value for the flow's cookie."""
    browser = secrets.token_urlsafe(32)
    request = json.loads(pending.request.keep())
    state = request.pop("state")
    kept = {
        "request": request,
        "browser": _hash(browser),
        "prefix": pending.prefix,
        "expected": pending.expected,
        "next": pending.next,
        "link": pending.link,
    }
    await store.put(_key(state), json.dumps(kept).encode(), lives_for=LIFETIME)
    return browser


async def take(store: TokenStore, client: Client, state: str, cookies: Mapping[str, str], *, secure: bool) -> Pending:
    """Take it away, before anything else of the callback is looked at; then see whether it is this browser's.

    Raises NotPendingError, and StoreError.
    """
    note = await store.take(_key(state))
    if note is None:
        raise NotPendingError(Outcome.UNKNOWN)
    try:
        kept = json.loads(note)
        started, rest = kept["browser"], {name: kept[name] for name in ("prefix", "expected", "next", "link")}
        request = client.resume(json.dumps(kept["request"] | {"state": state}))
    except (ConfigurationError, ValueError, LookupError, TypeError):  # begun by another version, or for another client
        raise NotPendingError(Outcome.UNKNOWN) from None
    if not hmac.compare_digest(_hash(cookies.get(cookie_name(state, secure=secure), "")), started):
        raise NotPendingError(Outcome.OTHER_BROWSER)
    return Pending(request=request, **rest)


def cookie_name(state: str, *, secure: bool) -> str:
    """A cookie for each flow, so that two tabs do not disturb each other."""
    return f"{cookie_prefix(secure=secure)}tribe-flow-{_hash(state)[:16]}"


def is_cookie(name: str, *, secure: bool) -> bool:
    """Whether this is the cookie of a flow."""
    return re.fullmatch(f"{cookie_prefix(secure=secure)}tribe-flow-[0-9a-f]{{16}}", name) is not None


def cookie_prefix(*, secure: bool) -> str:
    """With it, browsers take a cookie only over https, and from this host alone."""
    return "__Host-" if secure else ""


def _key(state: str) -> str:
    return f"authorization:{_hash(state)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
