"""The ways in and the way out: from a grant to a chain that is stored, and from a chain to a tombstone.

Connecting never destroys what works: what was there before is replaced in one write, after the new has proved itself.
"""

from __future__ import annotations

import secrets
from typing import Final, assert_never

import attrs

from tribe_oauth import _commit, _exchange, _record
from tribe_oauth._client import AuthorizationCodeGrant, Client, ClientCredentialsGrant, Grant, RefreshTokenGrant
from tribe_oauth._parts import Held, Parts, logger
from tribe_oauth._payload import Candidate, Credential, Payload, decode, fingerprint
from tribe_oauth._protocol import printable
from tribe_oauth._refresh import Wanted, refresh
from tribe_oauth._token import Token, format_scope, parse_scope
from tribe_oauth.errors import ConfigurationError, ScopeError, StoreError, TribeOAuthError, UnsavedError, named
from tribe_oauth.stores import Record

PASTED_KNOWN_FOR: Final = 90 * 24 * 3600.0
"""Seconds for which a pasted refresh token is known to belong to its organization: three times its own life."""


def new_chain() -> str:
    """Tells the chains of one organization apart, of which there are few. Short, since memory holds one for each."""
    return secrets.token_urlsafe(6)


async def connect(parts: Parts, organization: str, grant: Grant, held: Held | None) -> tuple[Held, UnsavedError | None]:
    """Store the chain that a grant gives. The error is set where it works but could not be saved yet."""
    _check_endpoints(parts, grant.client)
    match grant:
        case ClientCredentialsGrant():
            return await _client_credentials(parts, organization, grant, held), None
        case RefreshTokenGrant():
            return await _refresh_token(parts, organization, grant, held), None
        case AuthorizationCodeGrant():
            return await save(parts, organization, await exchange(parts, grant, organization))
        case _:
            assert_never(grant)


def _check_endpoints(parts: Parts, client: Client) -> None:
    if parts.endpoints is None:
        parts.endpoints = client.endpoints
    if client.endpoints != parts.endpoints:
        raise ConfigurationError(
            "this client has other endpoints than the manager: one manager talks to one Tribe; use a second manager"
        )


def _credential(parts: Parts, client: Client, *, kind: str, redirect_uri: str | None, scope: str = "") -> Credential:
    own = parts.client is not None and (parts.client.client_id, parts.client.client_secret) == (
        client.client_id,
        client.client_secret,
    )
    return Credential(
        kind="client_credentials" if kind == "client_credentials" else "refresh_token",
        client_id=client.client_id,
        client_secret=None if own else client.client_secret,
        token_endpoint=client.endpoints.token_endpoint,
        redirect_uri=redirect_uri,
        scope=scope,
    )


async def _client_credentials(
    parts: Parts, organization: str, grant: ClientCredentialsGrant, held: Held | None
) -> Held:
    credential = _credential(parts, grant.client, kind="client_credentials", redirect_uri=None, scope=grant.asked)
    record = await parts.store.load(organization)
    if record is not None and record.status == "connected" and decode(record).credential == credential:
        return await refresh(parts, Wanted(organization=organization, held=held))  # an equal grant
    granted = await _exchange.fetch_client_credentials(parts, credential, organization)
    _check_granted(organization, granted.scope, parse_scope(grant.asked))

    chain = new_chain()

    def change(record: Record | None) -> Record:
        return _record.replaced(
            record, organization, chain=chain, credential=credential, token=None, lifetime=0.0, due_at=None
        )

    stored = await _commit.write(parts, organization, record, change, _any)
    assert stored is not None  # any record fits
    return _exchange.hold_in_memory(parts, chain, stored.generation, credential, granted)


async def _refresh_token(parts: Parts, organization: str, grant: RefreshTokenGrant, held: Held | None) -> Held:
    """Quick Setup: saved as a candidate before it is spent; an equal or older paste changes nothing."""
    pasted = fingerprint(grant.refresh_token)
    await _claim(parts, organization, pasted)
    candidate = Candidate(
        chain=new_chain(),
        credential=_credential(parts, grant.client, kind="refresh_token", redirect_uri=None),
        refresh_token=grant.refresh_token,
        fingerprint=pasted,
    )
    while True:
        record = await parts.store.load(organization)
        known = record is not None and record.status != "disconnected"
        payload = decode(record) if record is not None and known else Payload()
        if record is not None and pasted in payload.seen:
            changed = _record.with_secret_of(record, candidate.credential)
            if changed is None or await parts.store.swap(changed) is not None:
                return await refresh(parts, Wanted(organization=organization, held=held))
            continue
        if payload.candidate is not None and payload.candidate.fingerprint == pasted:
            break
        if await parts.store.swap(_record.with_candidate(record, organization, candidate)) is not None:
            break
    return await refresh(parts, Wanted(organization=organization, candidate=pasted))


async def _claim(parts: Parts, organization: str, pasted: str) -> None:
    """A pasted refresh token belongs to the organization it was first connected as."""
    key, name = f"pasted:{pasted}", organization.encode()
    while (owner := await parts.store.put(key, name, lives_for=PASTED_KNOWN_FOR)) != name:
        other = owner.decode()
        record = await parts.store.load(other)
        if record is not None and record.status != "disconnected":
            raise ConfigurationError(
                f"this refresh token was connected as organization {other!r} already: copy a new one for"
                f" {organization!r}, or disconnect {other!r} first",
                organization=organization,
            )
        await parts.store.take(key)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Exchanged:
    """What a code was exchanged for: a chain that nobody has stored yet."""

    credential: Credential
    token: Token
    lifetime: float


async def exchange(parts: Parts, grant: AuthorizationCodeGrant, organization: str | None) -> Exchanged:
    """Exchange a code. What is granted must be neither more than was asked for nor without a refresh token."""
    _check_endpoints(parts, grant.client)
    if grant.granted is not None:
        _check_granted(organization, grant.granted, grant.asked)
        _check_offline(organization, "offline" in grant.granted)
    started = parts.clock.time()
    granted = await _exchange.exchange_code(parts, grant, organization)
    assert granted.access_token is not None  # usable() saw to it
    lifetime = float(granted.expires_in)
    token = Token(
        access_token=granted.access_token,
        refresh_token=granted.refresh_token,
        expires_at=started + lifetime,
        scope=granted.scope if granted.scope is not None else grant.granted,
    )
    credential = _credential(parts, grant.client, kind="refresh_token", redirect_uri=grant.redirect_uri)
    exchanged = Exchanged(credential=credential, token=token, lifetime=lifetime)
    try:
        _check_granted(organization, token.scope, grant.asked)
        _check_offline(organization, token.refresh_token is not None)
    except ScopeError:
        await drop(parts, exchanged, organization)
        raise
    return exchanged


async def drop(parts: Parts, exchanged: Exchanged, organization: str | None) -> None:
    """Revoke a chain that will not be stored."""
    if exchanged.token.refresh_token is not None:
        await _exchange.revoke(parts, exchanged.credential, exchanged.token.refresh_token, organization)


async def save(parts: Parts, organization: str, exchanged: Exchanged) -> tuple[Held, UnsavedError | None]:
    """Replace the chain in one write. A crash between the exchange and this is a named window.

    The error is set where the store does not take it: it works, and saving goes on.
    """
    token, lifetime = exchanged.token, exchanged.lifetime
    chain, due_at = new_chain(), token.expires_at - parts.ahead(lifetime)

    def change(record: Record | None) -> Record:
        return _record.replaced(
            record,
            organization,
            chain=chain,
            credential=exchanged.credential,
            token=token,
            lifetime=lifetime,
            due_at=due_at,
        )

    error = None
    try:
        stored = await _commit.write_patiently(parts, organization, None, change, _any)
    except StoreError as unsaved:
        stored = change(None)
        error = UnsavedError(
            f"organization {organization!r} is connected, but could not be saved yet ({unsaved}): it works in this"
            " process, which goes on trying to save it; do not end it before it says that it was saved",
            organization=organization,
        )
    assert stored is not None  # any record fits
    held = parts.held_from(stored, decode(stored))
    assert held is not None  # it has a token
    return held, error


def _any(record: Record | None) -> bool:
    return True


def _check_granted(organization: str | None, granted: frozenset[str] | None, asked: frozenset[str]) -> None:
    if granted is not None and not granted <= asked:
        raise ScopeError(
            f"more was granted for {named(organization)} than was asked for"
            f" ({printable(format_scope(granted - asked))}): nothing was stored; ask for it, or check the Application",
            organization=organization,
            error="invalid_scope",
        )


def _check_offline(organization: str | None, granted: bool) -> None:
    if not granted:
        raise ScopeError(
            f"{named(organization)} did not grant offline access, without which the connection would end with"
            " the access token: ask for the scope 'offline' and have it ticked at the consent",
            organization=organization,
            error="insufficient_scope",
        )


async def disconnect(parts: Parts, organization: str) -> None:
    """Tombstone, revoke, erase. The organization is forgotten even if the revocation fails."""
    record = await parts.store.load(organization)
    while record is not None and record.status != "disconnected":
        record = await parts.store.swap(_record.tombstone(record)) or await parts.store.load(organization)
    if record is None or not record.payload:
        return
    try:
        payload = decode(record)
        if payload.credential is not None and payload.token is not None and payload.token.refresh_token is not None:
            await _exchange.revoke(parts, payload.credential, payload.token.refresh_token, organization)
        if payload.candidate is not None:
            await _exchange.revoke(parts, payload.candidate.credential, payload.candidate.refresh_token, organization)
    except TribeOAuthError as error:
        logger.warning("organization %r is disconnected, but not revoked at the server: %s", organization, error)
    await parts.store.swap(_record.erased(record))
