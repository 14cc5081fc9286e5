"""Pending authorizations: kept in the store, so that the callback may come to any worker; good once, for one browser.

A flow is found by its state and the cookie of its browser together, and nothing else: whoever has only one of them
neither sees nor ends it. Both are stored as a hash only, so that with what stands in the store no flow can be finished.

A flow has one note, which is a `_Note` until a callback takes it, `_UNDER_WAY` while that callback is worked on, and an
`Ended` afterwards. A second callback of the browser (a reload, a double click, a restored tab) reads the note and puts
it back.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from typing import Final

import attrs

from tribe_oauth import AuthorizationRequest, Client, Secret, TokenStore
from tribe_oauth._oauth.values import SecretBytes
from tribe_oauth._strict_json import MalformedError, from_json, from_stored, to_json, to_stored
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.web._outcome import Outcome

LIFETIME: Final = 1800
"""Seconds. Consent may take up to half an hour at the server."""
COOKIE_LIFETIME: Final = 24 * 3600
"""Seconds: who comes back too late is still told so."""
MAX_PENDING: Final = 50
"""Flows of one account that are kept at a time: the oldest give way."""

_FLOW: Final = "authorization:"
_UNDER_WAY: Final = b"under way"
_UNDER_WAY_LIVES: Final = 300
"""Seconds after which a callback that was never finished is forgotten: its process ended."""
_PATIENCE: Final = 60.0
"""Seconds that a second callback waits for what comes of the first."""
_GAP: Final = 1.0
"""Seconds for which a note may be missing that another callback has taken, to put back the same or another."""
_PAUSE: Final = 0.1
"""Seconds between two looks."""


@attrs.frozen(kw_only=True)
class Pending:
    """A browser on its way to Tribe and back.

    `account` is whose request began it, as the prefix of its keys; `prefix` that of the organization's key, which is
    another's where an operator connects for a tenant; `expected` the organization that it has to be (None: any); `next`
    the path to continue at; `link` the query that it began with.
    """

    request: AuthorizationRequest
    account: str
    prefix: str
    expected: str | None
    next: str | None
    link: dict[str, str]


@attrs.frozen(kw_only=True)
class Ended:
    """What came of a flow, for a browser that comes back once more."""

    outcome: str
    next: str | None
    link: dict[str, str]

    def __attrs_post_init__(self) -> None:
        Outcome(self.outcome)  # ValueError for what is none
        for text in (self.next, *self.link, *self.link.values()):
            (text or "").encode()  # a lone surrogate stands for no text: ValueError


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
    """A pending authorization as it is stored."""

    request: _Request
    account: str
    prefix: str
    expected: str | None
    next: str | None
    link: dict[str, str]

    def __attrs_post_init__(self) -> None:
        for text in (self.account, self.prefix, self.expected, self.next, *self.link, *self.link.values()):
            (text or "").encode()  # a lone surrogate stands for no text: ValueError


async def keep(store: TokenStore, pending: Pending) -> Secret:
    """Store it. Returns the value for the flow's cookie. Raises StoreError."""
    browser = Secret(secrets.token_urlsafe(32))
    request = pending.request
    note = _Note(
        request=attrs.evolve(from_json(request.keep(), _Request), state=""),
        account=pending.account,
        prefix=pending.prefix,
        expected=pending.expected,
        next=pending.next,
        link=pending.link,
    )
    key = _key(Secret(request.state), browser)
    await _make_room(store, pending.account, key)
    await store.put(key, SecretBytes(to_stored(note)), lives_for=LIFETIME)
    return browser


async def _make_room(store: TokenStore, account: str, key: str) -> None:
    """Write down that an account has a further flow; where it has too many, the oldest are forgotten.

    The list is taken and put back: what another request put in its place meanwhile is taken in.
    """
    listed, keys = f"consents:{_hash(account)}", [key]
    while True:
        before = str(await store.take(listed) or b"", "ascii", "replace")
        keys = [*(one for one in before.split() if one.startswith(_FLOW)), *keys]
        for oldest in keys[:-MAX_PENDING]:
            await store.take(oldest)
        keys = keys[-MAX_PENDING:]
        text = " ".join(keys).encode()
        if await store.put(listed, text, lives_for=LIFETIME) == text:
            return


async def take(store: TokenStore, client: Client, state: Secret | None, browser: Secret | None) -> Pending | Ended:
    """Take a flow away, before anything else of the callback is looked at; or what came of it, where that was done.

    `browser`: the flow's cookie. While another callback of the flow is worked on, this one waits. Raises
    NotPendingError, and StoreError.
    """
    if state is None or browser is None:
        raise NotPendingError(Outcome.UNKNOWN if state is None else Outcome.OTHER_BROWSER)
    key, now = _key(state, browser), asyncio.get_running_loop().time
    began, until, otherwise = now(), now() + _GAP, Outcome.UNKNOWN
    while (note := await _look(store, key)) in {None, _UNDER_WAY}:
        if note is not None:
            await store.put(key, note, lives_for=_UNDER_WAY_LIVES)
            until, otherwise = began + _PATIENCE, Outcome.UNAVAILABLE
        if now() >= until:
            raise NotPendingError(otherwise)
        await asyncio.sleep(_PAUSE)
    assert note is not None
    try:
        ended = from_stored(note, Ended)
    except MalformedError:
        return _pending(client, state, note)
    await store.put(key, note, lives_for=LIFETIME)
    return ended


async def _look(store: TokenStore, key: str) -> SecretBytes | None:
    note = await store.take(key)
    return None if note is None else SecretBytes(note)


def _pending(client: Client, state: Secret, note: bytes) -> Pending:
    try:
        kept = from_stored(note, _Note)
        request = client.resume(to_json(attrs.evolve(kept.request, state=state.reveal())).decode())
    except (MalformedError, ConfigurationError):  # damaged, under a key that is gone, or another client's
        raise NotPendingError(Outcome.UNKNOWN) from None
    return Pending(
        request=request,
        account=kept.account,
        prefix=kept.prefix,
        expected=kept.expected,
        next=kept.next,
        link=kept.link,
    )


async def under_way(store: TokenStore, state: Secret, browser: Secret) -> None:
    """Have other callbacks of a flow that was taken wait for its end. Raises StoreError."""
    await store.put(_key(state, browser), _UNDER_WAY, lives_for=_UNDER_WAY_LIVES)


async def end(store: TokenStore, state: Secret, browser: Secret, ended: Ended) -> None:
    """Keep what came of a flow that was taken. Raises StoreError.

    Where its note is missing, newer flows of the account took its place, or another callback is looking at it: which
    one shows a moment later.
    """
    key, text = _key(state, browser), to_stored(ended)
    for _ in range(round(_GAP / _PAUSE)):
        if await store.take(key) is not None and await store.put(key, text, lives_for=LIFETIME) == text:
            return
        await asyncio.sleep(_PAUSE)


def cookie_name(state: Secret, *, secure: bool) -> str:
    """The name of a flow's cookie. Each flow has its own, so that two tabs do not disturb each other."""
    return f"{cookie_prefix(secure=secure)}tribe-flow-{_hash(state.reveal())[:16]}"


def is_cookie(name: str, *, secure: bool) -> bool:
    """Whether this is the cookie of a flow."""
    return re.fullmatch(f"{cookie_prefix(secure=secure)}tribe-flow-[0-9a-f]{{16}}", name) is not None


def cookie_prefix(*, secure: bool) -> str:
    """Over https, a prefix with which browsers take a cookie only from this host (RFC 6265bis §4.1.3.2)."""
    return "__Host-" if secure else ""


def _key(state: Secret, browser: Secret) -> str:
    return f"{_FLOW}{_hash(_hash(state.reveal()) + _hash(browser.reveal()))}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
