"""Notes in the store of what was pasted and of what was exchanged: each belongs to one organization, or to one grant.

A code that is used twice makes the server revoke all that came from it, and a refresh token that is used twice its
whole family. So it is written down before it is sent, and shared by all processes. A note may be damaged, or sealed
under a key that is gone: then the records tell whose a refresh token is, and that there is one, that it is not new.
"""

from __future__ import annotations

import secrets
from typing import Final

from tribe_oauth._oauth.client import AuthorizationCodeGrant
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.payload import Payload, readable
from tribe_oauth._shield import closing
from tribe_oauth.errors import CallbackError, ConfigurationError, UnreadableError
from tribe_oauth.stores import Record, Unreadable

PASTED_KNOWN_FOR: Final = 3 * 365 * 24 * 3600.0
"""Seconds for which a pasted refresh token is known to belong to its organization. It lives for 30 days; in a program's
settings it stands for years, and sent again it would still end its family."""
CODE_KNOWN_FOR: Final = 3600.0
"""Seconds for which a code is known to be used: several times its own life."""
_NONCE: Final = 16
"""Random bytes before the organization's key, which tell a note that was just put from one that stood there."""


async def claim_pasted(context: RefreshContext, organization: str, fingerprint: str) -> bool:
    """A pasted refresh token belongs to the organization that it was first connected as. Raises ConfigurationError.

    Returns whether it is new: whether nobody is known to have pasted it before.
    """
    key, claim = f"pasted:{fingerprint}", secrets.token_bytes(_NONCE) + organization.encode()
    is_new = True
    while (standing := await context.store.put(key, claim, lives_for=PASTED_KNOWN_FOR)) != claim:
        owner = _owner(standing)
        if owner == organization:
            return False
        if owner is None:
            is_new, owner = False, await _owner_by_records(context, organization, fingerprint)
        if owner != organization:
            await _refuse_if_connected(context, organization, owner)
        await context.store.take(key)
    return is_new


def _owner(claim: bytes) -> str | None:
    """Whose claim it is; None where it cannot be read."""
    try:
        return None if isinstance(claim, Unreadable) else str(claim[_NONCE:], "utf-8")
    except UnicodeDecodeError:
        return None


async def _owner_by_records(context: RefreshContext, organization: str, fingerprint: str) -> str:
    """Whose record remembers this refresh token; the one that pastes it where none does."""
    if await _remembers(context, organization, fingerprint):
        return organization
    async with closing(context.store.organizations()) as organizations:
        async for other in organizations:
            if await _remembers(context, other, fingerprint):
                return other
    return organization


async def _remembers(context: RefreshContext, organization: str, fingerprint: str) -> bool:
    try:
        payload = readable(await context.store.load(organization)) or Payload()
    except UnreadableError:
        return False
    candidate = payload.candidate
    return fingerprint in payload.seen or (candidate is not None and candidate.fingerprint == fingerprint)


async def _refuse_if_connected(context: RefreshContext, organization: str, owner: str) -> None:
    record = await context.store.load(owner)
    if record is not None and record.status != "disconnected":
        raise ConfigurationError(
            f"this refresh token was connected as organization {owner!r} already: copy a new one for"
            f" {organization!r}, or disconnect {owner!r} first",
            organization=organization,
        )


def known_where_pasted(record: Record | None, *, is_new: bool) -> Payload:
    """What is known of an organization for which a refresh token is pasted. Raises UnreadableError.

    What cannot be read may be what came of this very token. Sent again, it would end a family that works elsewhere.
    """
    if record is None or record.status == "disconnected":
        return Payload()
    payload = readable(record)
    if payload is None and not is_new:
        raise UnreadableError(
            f"the record of organization {record.organization!r} cannot be read, and this refresh token was pasted"
            " before, so that it may be spent: copy a new one from Tribe and connect that; nothing was sent",
            organization=record.organization,
        )
    return payload or Payload()


async def claim_code(context: RefreshContext, grant: AuthorizationCodeGrant) -> None:
    """A code belongs to the first grant that is used, in whatever process. Raises CallbackError."""
    nonce = grant.nonce.encode()
    if await context.store.put(f"code:{grant.fingerprint}", nonce, lives_for=CODE_KNOWN_FOR) != nonce:
        raise CallbackError(
            "this code was used already, perhaps by a page that was loaded twice; nothing was sent, and what it gave"
            " goes on working: to connect once more, start the connection again"
        )
