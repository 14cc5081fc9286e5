"""The ways in and the way out: from a grant to a family that is stored, and from a family to a tombstone.

Connecting never destroys what works: what was there before is replaced in one write, after the new has proved itself.
"""

from __future__ import annotations

import logging
import secrets
from typing import assert_never

import attrs

from tribe_oauth._manager.claims import claim_code, claim_pasted, known_where_pasted
from tribe_oauth._oauth.client import AuthorizationCodeGrant, Client, ClientCredentialsGrant, Grant, RefreshTokenGrant
from tribe_oauth._oauth.values import Token, format_scope, parse_scope
from tribe_oauth._printable import printable
from tribe_oauth._refresh import record as record_
from tribe_oauth._refresh import token_requests
from tribe_oauth._refresh.cached_token import CachedToken, from_record, head_start
from tribe_oauth._refresh.commit import Commit
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.payload import Candidate, Credential, Payload, decode, fingerprint, readable
from tribe_oauth._refresh.refresh import RefreshParameters, refresh
from tribe_oauth.errors import ConfigurationError, ScopeError, StoreError, TribeOAuthError, UnsavedError, named
from tribe_oauth.stores import MemoryStore, Record, Rekeyer

logger = logging.getLogger("tribe_oauth.connect")


def new_family() -> str:
    """Tells the families of one organization apart, of which there are few. Short, since memory holds one for each."""
    return secrets.token_urlsafe(6)


async def connect(
    context: RefreshContext, organization: str, grant: Grant, cached: CachedToken | None
) -> tuple[CachedToken, UnsavedError | None]:
    """Store the family that a grant gives. The error is set where it works but could not be saved yet."""
    _check_endpoints(context, grant.client)
    match grant:
        case ClientCredentialsGrant():
            return await _client_credentials(context, organization, grant, cached), None
        case RefreshTokenGrant():
            return await _refresh_token(context, organization, grant, cached), None
        case AuthorizationCodeGrant():
            return await save(context, organization, await exchange(context, grant, organization))
        case _:
            assert_never(grant)


def _check_endpoints(context: RefreshContext, client: Client) -> None:
    if client.endpoints != context.endpoints:
        raise ConfigurationError(
            "this client has other endpoints than the manager: make the manager with endpoints=client.endpoints;"
            " one manager talks to one Tribe"
        )


def _credential(
    context: RefreshContext, client: Client, *, kind: str, redirect_uri: str | None, scope: str = ""
) -> Credential:
    own = context.client is not None and (context.client.client_id, context.client.client_secret) == (
        client.client_id,
        client.client_secret,
    )
    if not own:
        _tell_of_stored_secret(context)
    return Credential(
        kind="client_credentials" if kind == "client_credentials" else "refresh_token",
        client_id=client.client_id,
        client_secret=None if own else client.client_secret,
        token_endpoint=client.endpoints.token_endpoint,
        redirect_uri=redirect_uri,
        scope=scope,
    )


def _tell_of_stored_secret(context: RefreshContext) -> None:
    """Say once that the secret of a client that is not the manager's own is stored in clear, where it is."""
    if context.told_of_stored_secret or isinstance(context.store.inner, Rekeyer | MemoryStore):
        return
    context.told_of_stored_secret = True
    logger.warning(
        "a client that is not the manager's own was connected: its secret is stored with the connection, and this store"
        " does not encrypt, so that whoever reads the store or a backup has it; put an EncryptedStore around the store,"
        " or set TRIBE_STORE_KEYS"
    )


async def _client_credentials(
    context: RefreshContext, organization: str, grant: ClientCredentialsGrant, cached: CachedToken | None
) -> CachedToken:
    credential = _credential(context, grant.client, kind="client_credentials", redirect_uri=None, scope=grant.asked)
    record = await context.store.load(organization)
    known = readable(record) or Payload()
    if record is not None and record.status == "connected" and known.credential == credential:
        return await refresh(context, RefreshParameters.expired(organization, cached))  # an equal grant
    worked_before = token_requests.has_worked(credential, record)
    granted = await token_requests.fetch_client_credentials(
        context, credential, organization, worked_before=worked_before
    )
    _check_granted(organization, granted.scope, parse_scope(grant.asked))

    family, now = new_family(), context.clock.time()

    def change(record: Record | None) -> Record:
        return record_.replaced(
            record,
            organization,
            family=family,
            credential=credential,
            token=None,
            lifetime=0.0,
            due_at=None,
            now=now,
        )

    stored = await Commit(organization, record, change, _any).write(context.store)
    assert stored is not None  # any record fits
    return token_requests.cached_in_memory(context, family, stored.generation, credential, granted)


async def _refresh_token(
    context: RefreshContext, organization: str, grant: RefreshTokenGrant, cached: CachedToken | None
) -> CachedToken:
    """Quick Setup: saved as a candidate before it is spent; an equal or older paste changes nothing."""
    pasted = fingerprint(grant.refresh_token)
    is_new = await claim_pasted(context, organization, pasted)
    candidate = Candidate(
        family=new_family(),
        credential=_credential(context, grant.client, kind="refresh_token", redirect_uri=None),
        refresh_token=grant.refresh_token,
        fingerprint=pasted,
    )
    while True:
        record = await context.store.load(organization)
        payload = known_where_pasted(record, is_new=is_new)
        if record is not None and pasted in payload.seen:
            changed = record_.with_secret_of(record, candidate.credential)
            if changed is None or await context.store.swap(changed) is not None:
                return await refresh(context, RefreshParameters.expired(organization, cached))
            continue
        tried = payload.candidate
        if tried is not None and tried.fingerprint == pasted:
            if tried.credential == candidate.credential:
                break
            # With another client than before, perhaps the right one; what was sent by then stays known.
            candidate = attrs.evolve(tried, credential=candidate.credential)
        if await context.store.swap(record_.with_candidate(record, organization, candidate)) is not None:
            break
    return await refresh(context, RefreshParameters.of_candidate(organization, pasted))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Exchanged:
    """What a code was exchanged for: a family that is not stored yet."""

    credential: Credential
    token: Token
    lifetime: float


async def exchange(context: RefreshContext, grant: AuthorizationCodeGrant, organization: str | None) -> Exchanged:
    """Exchange a code. What is granted must be neither more than was asked for nor without a refresh token."""
    _check_endpoints(context, grant.client)
    if grant.granted is not None:
        _check_granted(organization, grant.granted, grant.asked)
        _check_offline(organization, "offline" in grant.granted)
    await claim_code(context, grant)
    started = context.clock.time()
    credential = _credential(context, grant.client, kind="refresh_token", redirect_uri=grant.redirect_uri)
    granted = await token_requests.exchange_code(context, grant, credential, organization)
    assert granted.access_token is not None  # exchange_code() made sure of it
    lifetime = float(granted.expires_in)
    token = Token(
        access_token=granted.access_token,
        refresh_token=granted.refresh_token,
        expires_at=started + lifetime,
        scope=granted.scope if granted.scope is not None else grant.granted,
    )
    exchanged = Exchanged(credential=credential, token=token, lifetime=lifetime)
    try:
        _check_granted(organization, token.scope, grant.asked)
        _check_offline(organization, token.refresh_token is not None)
    except ScopeError:
        await drop(context, exchanged, organization)
        raise
    return exchanged


async def drop(context: RefreshContext, exchanged: Exchanged, organization: str | None) -> None:
    """Revoke a family that will not be stored."""
    if exchanged.token.refresh_token is not None:
        await token_requests.revoke(context, exchanged.credential, exchanged.token.refresh_token, organization)


async def save(
    context: RefreshContext, organization: str, exchanged: Exchanged
) -> tuple[CachedToken, UnsavedError | None]:
    """Replace the family in one write. A crash between the exchange and this is a named window.

    The error is set where the store does not take it: it works, and saving goes on.
    """
    token, lifetime = exchanged.token, exchanged.lifetime
    family, now, due_at = new_family(), context.clock.time(), token.expires_at - head_start(context.clock, lifetime)
    replaced: list[Record] = []

    def change(record: Record | None) -> Record:
        replaced[:] = [] if record is None else [record]
        return record_.replaced(
            record,
            organization,
            family=family,
            credential=exchanged.credential,
            token=token,
            lifetime=lifetime,
            due_at=due_at,
            now=now,
        )

    error = None
    try:
        stored = await context.commits.save(Commit(organization, None, change, _any))
        for before in replaced:
            _revoke_replaced(context, before)
    except StoreError as unsaved:
        stored = change(None)
        error = UnsavedError(
            f"organization {organization!r} is connected, but could not be saved yet ({unsaved}): it works in this"
            " process, which goes on trying to save it; do not end it before it says that it was saved",
            organization=organization,
        )
    assert stored is not None  # any record fits
    cached = from_record(context, stored, decode(stored))
    assert cached is not None  # it has a token
    return cached, error


def _revoke_replaced(context: RefreshContext, before: Record) -> None:
    """The family that was there before is no longer needed. One that cannot be read is left to die by itself."""
    payload = readable(before) or Payload()
    credential, token = payload.credential, payload.token
    if credential is not None and token is not None and token.refresh_token is not None:
        token_requests.revoke_meanwhile(context, credential, token.refresh_token, before.organization)


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


async def disconnect(context: RefreshContext, organization: str) -> None:
    """Tombstone, revoke, erase. The organization is forgotten even if the revocation fails."""
    record = await context.store.load(organization)
    while record is not None and record.status != "disconnected":
        record = await context.store.swap(record_.tombstone(record)) or await context.store.load(organization)
    if record is None or not record.payload:
        return
    try:
        payload = decode(record)
        if payload.credential is not None and payload.token is not None and payload.token.refresh_token is not None:
            await token_requests.revoke(context, payload.credential, payload.token.refresh_token, organization)
        if payload.candidate is not None:
            await token_requests.revoke(
                context, payload.candidate.credential, payload.candidate.refresh_token, organization
            )
    except TribeOAuthError as error:
        logger.warning("organization %r is disconnected, but not revoked at the server: %s", organization, error)
    await context.store.swap(record_.erased(record))
