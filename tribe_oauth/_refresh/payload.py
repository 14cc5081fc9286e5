"""What of a record is secret, as values and as the JSON that is stored. No transitions: those are of `record`."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Literal

import attrs

from tribe_oauth._oauth.values import Secret, SecretBytes, Token
from tribe_oauth._strict_json import MalformedError, from_stored, to_stored
from tribe_oauth.errors import UnreadableError
from tribe_oauth.stores._contract import MOST, Record, Unreadable, unreadable


@attrs.frozen(kw_only=True, repr=False)
class Credential:
    """What a family needs for its next token request, besides the clock.

    `client_secret` is None where the client is the manager's own, which is never stored.
    """

    kind: Literal["refresh_token", "client_credentials"]
    client_id: str
    client_secret: Secret | None = None
    token_endpoint: str
    redirect_uri: str | None = None
    scope: str = ""

    def is_same_client(self, other: Credential | None) -> bool:
        """Whether the other one has the same client id and secret."""
        return other is not None and (self.token_endpoint, self.client_id, self.client_secret) == (
            other.token_endpoint,
            other.client_id,
            other.client_secret,
        )


@lru_cache(maxsize=512)
def _the_same(credential: Credential) -> Credential:
    return credential


def _shared(credential: Credential | None) -> Credential | None:
    """One object for all organizations of a client: a copy for each would take more room than their tokens."""
    if credential is None or credential.client_secret is not None:  # no secret is kept for later
        return credential
    return _the_same(credential)


@attrs.frozen(kw_only=True, repr=False)
class Candidate:
    """A pasted refresh token that has not proved itself."""

    family: str
    credential: Credential
    refresh_token: Secret
    fingerprint: str
    maybe_spent: bool = False


@attrs.frozen(kw_only=True, repr=False)
class Payload:
    """What of a record is secret, or only for the refresh. Times are Unix seconds, durations seconds.

    `lifetime` is the access token's, as the server gave it. `age`: how old the token was when it was written; a store
    that fails can make that long. `issued_at`: when the refresh token was issued, by this side's clock, and
    `issued_date`, by the server's; 0: not known. `maybe_spent_at`, `maybe_spent_generation`: when, and for which
    generation, a request was last sent whose answer was not read. `rejections`: rotations for a 401 of the API, the
    last one at `rejected_at`. `said`: what the last attempt was answered where it failed, as a printable text.
    `unread`: the record in whose place the candidate is tried, where this process could not read it; others, with other
    keys, may.
    """

    credential: Credential | None = attrs.field(default=None, converter=_shared)
    token: Token | None = None
    lifetime: float = 0.0
    age: float = 0.0
    candidate: Candidate | None = None
    seen: tuple[str, ...] = ()
    issued_at: float = 0.0
    issued_date: float = 0.0
    maybe_spent_at: float = 0.0
    maybe_spent_generation: int = 0
    rejections: int = 0
    rejected_at: float = 0.0
    said: str = ""
    unread: Record | None = None


def encode(payload: Payload) -> bytes:
    """The payload as it is stored: JSON, behind a check value."""
    return SecretBytes(to_stored(payload))


def decode(record: Record) -> Payload:
    """The payload of a record. Raises UnreadableError where it cannot be read; nothing of it is shown."""
    if isinstance(record.payload, Unreadable):
        raise unreadable(record.organization, record.payload.why)
    if not 0 <= record.generation < MOST:  # a store that does not check what it has, as ours do
        raise unreadable(record.organization, "was altered by something else; restore it from a backup")
    if not record.payload:
        return Payload()
    try:
        return from_stored(record.payload, Payload)
    except MalformedError:
        pass
    raise unreadable(record.organization, "was damaged; restore it from a backup")


def readable(record: Record | None) -> Payload | None:
    """The same for who can go on without: None where there is no record, or one that cannot be read."""
    try:
        return None if record is None else decode(record)
    except UnreadableError:
        return None


def fingerprint(refresh_token: Secret) -> str:
    """What is remembered of a pasted refresh token."""
    return hashlib.sha256(b"tribe_oauth refresh token\0" + refresh_token.reveal().encode()).hexdigest()
