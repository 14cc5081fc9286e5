"""Find a token in the store, or take the lease and start a flight.

Time is counted from before a question is asked, so that a lease is never believed longer than it lasts.
"""

from __future__ import annotations

import secrets

import attrs

from tribe_oauth._oauth.values import Secret
from tribe_oauth._refresh import record as _record
from tribe_oauth._refresh import token_requests as _exchange
from tribe_oauth._refresh.context import CachedToken, RefreshContext, logger
from tribe_oauth._refresh.payload import Payload, decode
from tribe_oauth._refresh.rotation import Rotation
from tribe_oauth.errors import (
    ManagerError,
    ReauthorizationRequired,
    StoreError,
    TemporarilyUnavailable,
    TokenEndpointError,
    UnknownOrganizationError,
)
from tribe_oauth.stores import Record

SHORTEST_POLL, LONGEST_POLL = 0.01, 0.25
"""Seconds between two looks at a store whose lease a peer holds."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RefreshParameters:
    """What would satisfy a caller. Without more: a token that has not run out."""

    organization: str
    cached: CachedToken | None = None
    """What this process has."""
    ahead: bool = False
    """A token that is not even due. Nobody waits."""
    rejected: Secret | None = None
    """Another access token than this."""
    force: bool = False
    """A newer generation than there is now."""
    spend: bool = True
    """False: whatever the store has."""
    candidate: str | None = None
    """The success of the pasted refresh token with this fingerprint."""

    def with_cached(self, cached: CachedToken | None) -> RefreshParameters:
        """The same by what this process has now."""
        return self if cached is self.cached else attrs.evolve(self, cached=cached)


async def refresh(context: RefreshContext, wanted: RefreshParameters) -> CachedToken:
    """Find or fetch what is wanted. Raises what the caller should see."""
    started = context.clock.monotonic()
    newest = None if wanted.cached is None else wanted.cached.generation
    at_first: int | None = None  # the generation that was there when we began, which may be newer than ours
    while True:
        record = await _load(context, wanted)
        payload = decode(record)
        if wanted.candidate is None and payload.credential and payload.credential.kind == "client_credentials":
            if not wanted.spend and wanted.cached is not None:
                return wanted.cached
            granted = await _exchange.fetch_client_credentials(context, payload.credential, record.organization)
            return _exchange.hold_in_memory(context, record.family, record.generation, payload.credential, granted)
        if wanted.candidate is None and record.status == "reauthorization_required":
            raise ReauthorizationRequired(record.cause or "revoked or expired", organization=record.organization)
        if payload.token is not None and wanted.cached is not None and wanted.cached.generation == record.generation:
            found: CachedToken | None = wanted.cached  # the same token, and monotonic time knows better when it ends
        else:
            found = context.cached_from(record, payload)
        newest = record.generation if newest is None else newest
        at_first = record.generation if at_first is None else at_first
        if found is not None and found.generation > at_first:
            # Committed while we waited: that tells how old it is, whatever the wall clocks of two hosts say.
            found = context.timed(found, found.lifetime - payload.age - (context.clock.monotonic() - started))
        if found is not None and _is_enough(context, found, payload, wanted, newest):
            return found
        if wanted.candidate is None:
            _respect_back_off(context, record, wanted)
        if record.lease is not None and record.lease_left > 0:
            if wanted.ahead and found is not None and context.clock.monotonic() < found.expires:
                return found
            await _wait_for_peer(context, record)
        else:
            async with context.slots:
                flight = await _begin(context, record, payload, wanted)
                landed = None if flight is None else await flight.run()
            if landed is not None:
                return landed


async def _load(context: RefreshContext, wanted: RefreshParameters) -> Record:
    record = await context.store.load(wanted.organization)
    cached = wanted.cached
    if cached is not None and (record is None or record.generation < cached.generation):
        # A fail-over lost what we had committed. The refresh token in the store is spent: it is never sent.
        logger.error("the store lost a commit of organization %r: written back from memory", wanted.organization)
        restored = context.as_record(wanted.organization, cached, record)
        record = await context.store.swap(restored) or await context.store.load(wanted.organization)
    if wanted.candidate is not None and (record is None or record.status == "disconnected"):
        raise _refused_elsewhere(wanted.organization)
    if record is None or record.status == "disconnected":
        raise UnknownOrganizationError(
            f"organization {wanted.organization!r} is not connected: connect() it first",
            organization=wanted.organization,
        )
    return record


def _is_enough(
    context: RefreshContext, found: CachedToken, payload: Payload, wanted: RefreshParameters, newest: int
) -> bool:
    if wanted.candidate is not None:
        return wanted.candidate in payload.seen
    if not wanted.spend:
        return True
    if context.clock.monotonic() >= (found.due if wanted.ahead else found.expires):
        return False  # newer than what the caller knows, perhaps, and run out all the same
    if wanted.force:
        return found.generation > newest
    return wanted.rejected is None or found.token.access_token != wanted.rejected


def _respect_back_off(context: RefreshContext, record: Record, wanted: RefreshParameters) -> None:
    """Raise where nothing may be sent for this family now."""
    if record.not_before > context.clock.time() and (record.maybe_spent or not wanted.force):
        raise TemporarilyUnavailable(
            f"no token for organization {record.organization!r} now, after {record.failures} failed attempts;"
            " the connection is kept",
            organization=record.organization,
            next_attempt_at=record.not_before,
        )


def _refused_elsewhere(organization: str) -> TokenEndpointError:
    return TokenEndpointError(
        f"the refresh token for organization {organization!r} was refused (invalid_grant) when another process tried"
        " it: copy a new one from Tribe and connect it",
        organization=organization,
        error="invalid_grant",
    )


async def _wait_for_peer(context: RefreshContext, record: Record) -> None:
    """Look until the peer has written something or its lease has ended."""
    poll, left = SHORTEST_POLL, record.lease_left
    while True:
        if not await context.pause(min(poll, left) * (0.5 + context.clock.random())):
            raise ManagerError("the manager is closing", organization=record.organization)
        current = await context.store.load(record.organization)
        if current is None or current.version != record.version or current.lease_left <= 0:
            return
        poll, left = min(poll * 1.5, LONGEST_POLL), current.lease_left


async def _begin(
    context: RefreshContext, record: Record, payload: Payload, wanted: RefreshParameters
) -> Rotation | None:
    """Take the lease. None: somebody else wrote first."""
    trial = wanted.candidate is not None or record.status == "connecting"
    spend = _record.spend_of(record, payload, candidate=trial)
    other = payload.candidate is None or payload.candidate.fingerprint != wanted.candidate
    if spend is None or (wanted.candidate is not None and other):
        raise _refused_elsewhere(record.organization)
    context.secret_of(spend.credential, record.organization)  # fail before anything is written
    nonce = _record.nonce_for(spend, secrets.token_hex(16))
    ends = context.clock.monotonic() + context.timing.lease
    leased = _record.leased(record, nonce)
    try:
        stored = await context.store.swap(leased, lease_for=context.timing.lease)
    except StoreError:
        stored = await context.store.load(record.organization)
        if stored is None or stored.lease != nonce:
            raise  # not known to be ours: nothing is sent
    if stored is None:
        return None
    return Rotation(
        context,
        stored,
        payload if stored.payload == record.payload else decode(stored),
        spend,
        nonce=nonce,
        ends=ends,
        hold_off=record.lease is not None or _record.may_still_arrive(stored, spend),
        patient=not wanted.ahead and record.failures == 0,
    )
