"""What of a record is secret, as values and as the JSON that is stored. No transitions: those are of `_record`."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache, lru_cache
from typing import Literal

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn

from tribe_oauth._oauth.values import Secret, Token
from tribe_oauth.errors import StoreError
from tribe_oauth.stores._contract import Record


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
    """What of a record is secret. `lifetime` is the access token's, in seconds, as the server gave it.

    `age`: how many seconds old the token was when it was written. A store that fails can make that long.
    """

    credential: Credential | None = None
    token: Token | None = None
    lifetime: float = 0.0
    age: float = 0.0
    candidate: Candidate | None = None
    seen: tuple[str, ...] = ()


@cache
def _converter() -> cattrs.Converter:
    """Made when it is needed: it would be a tenth of the time that importing the library takes."""
    converter = cattrs.Converter(detailed_validation=False, unstruct_collection_overrides={frozenset: sorted})
    converter.register_unstructure_hook(Secret, Secret.reveal)
    converter.register_structure_hook(Secret, lambda value, _: Secret(value))
    made = make_dict_structure_fn(Credential, converter)

    # Organizations of one client share these: a hundred thousand copies would take more room than their tokens.
    @lru_cache(maxsize=512)
    def shared_credential(fields: tuple[tuple[str, str | None], ...]) -> Credential:
        return made(dict(fields), Credential)

    def credential(value: dict[str, str | None], _: object) -> Credential:
        if not {type(field) for field in value.values()} <= {str, type(None)}:
            raise TypeError  # a number would be taken for an equal one of another kind
        if value.get("client_secret") is not None:
            return made(value, Credential)  # no secret is kept for later
        return shared_credential(tuple(value.items()))

    shared_scope = lru_cache(maxsize=512)(frozenset[str])

    def scope(value: list[str], _: object) -> frozenset[str]:
        if not all(isinstance(word, str) for word in value):
            raise TypeError  # it could be read now, and not be written after the refresh token is spent
        return shared_scope(tuple(value))

    converter.register_structure_hook(Credential, credential)
    converter.register_structure_hook_func(lambda kind: kind == frozenset[str], scope)
    return converter


_to_json = json.JSONEncoder(separators=(",", ":")).encode
_from_json = json.JSONDecoder().decode


def encode(payload: Payload) -> bytes:
    """The payload as it is stored: JSON."""
    return _to_json(_converter().unstructure(payload)).encode()


def decode(record: Record) -> Payload:
    """The payload of a record. Raises StoreError where it cannot be read; nothing of it is shown."""
    if not record.payload:
        return Payload()
    with suppress(Exception):  # whatever a damaged payload makes of cattrs and json
        return _converter().structure(_from_json(str(record.payload, "utf-8")), Payload)
    # Raised out here: inside a handler the error below would keep theirs, and with it the payload, as its context.
    raise StoreError(
        f"the stored record of organization {record.organization!r} cannot be read: restore it from a backup,"
        " or disconnect the organization and connect it again",
        organization=record.organization,
    )


def fingerprint(refresh_token: Secret) -> str:
    """What is remembered of a pasted refresh token."""
    return hashlib.sha256(b"tribe_oauth refresh token\0" + refresh_token.reveal().encode()).hexdigest()
