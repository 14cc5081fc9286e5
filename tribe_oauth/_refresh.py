"""Find a token in the store, or take the lease and start a flight.

Time is counted from before a question is asked, so that a lease is never believed longer than it lasts.
"""

from __future__ import annotations

import secrets

import attrs

from tribe_oauth import _exchange, _record
from tribe_oauth._flight import Flight
from tribe_oauth._parts import Held, Parts, logger
from tribe_oauth._payload import Payload, decode
from tribe_oauth._token import Secret
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
class Wanted:
    """What would satisfy a caller. Without more: a token that has not run out."""

    organization: str
    held: Held | None = None
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

    def with_held(self, held: Held | None) -> Wanted:
        """The same by what this process has now."""
        return self if held is self.held else attrs.evolve(self, held=held)


async def refresh(parts: Parts, wanted: Wanted) -> Held:
    """Find or fetch what is wanted. Raises what the caller should see."""
    started = parts.clock.monotonic()
    newest = None if wanted.held is None else wanted.held.generation
    at_first: int | None = None  # the generation that was there when we began, which may be newer than ours
    while True:
        record = await _load(parts, wanted)
        payload = decode(record)
        if wanted.candidate is None and payload.credential and payload.credential.kind == "client_credentials":
            if not wanted.spend and wanted.held is not None:
                return wanted.held
            granted = await _exchange.fetch_client_credentials(parts, payload.credential, record.organization)
            return _exchange.hold_in_memory(parts, record.chain, record.generation, payload.credential, granted)
        if wanted.candidate is None and record.status == "reauthorization_required":
            raise ReauthorizationRequired(record.cause or "revoked or expired", organization=record.organization)
        if payload.token is not None and wanted.held is not None and wanted.held.generation == record.generation:
            found: Held | None = wanted.held  # the same token, and monotonic time knows better when it ends
        else:
            found = parts.held_from(record, payload)
        newest = record.generation if newest is None else newest
        at_first = record.generation if at_first is None else at_first
        if found is not None and found.generation > at_first:
            # Committed while we waited: that tells how old it is, whatever the wall clocks of two hosts say.
            found = parts.timed(found, found.lifetime - payload.age - (parts.clock.monotonic() - started))
        if found is not None and _is_enough(parts, found, payload, wanted, newest):
            return found
        if wanted.candidate is None:
            _respect_back_off(parts, record, wanted)
        if record.lease is not None and record.lease_left > 0:
            if wanted.ahead and found is not None and parts.clock.monotonic() < found.expires:
                return found
            await _wait_for_peer(parts, record)
        else:
            async with parts.slots:
                flight = await _begin(parts, record, payload, wanted)
                landed = None if flight is None else await flight.run()
            if landed is not None:
                return landed


async def _load(parts: Parts, wanted: Wanted) -> Record:
    record = await parts.store.load(wanted.organization)
    held = wanted.held
    if held is not None and (record is None or record.generation < held.generation):
        # A fail-over lost what we had committed. The refresh token in the store is spent: it is never sent.
        logger.error("the store lost a commit of organization %r: written back from memory", wanted.organization)
        restored = parts.as_record(wanted.organization, held, record)
        record = await parts.store.swap(restored) or await parts.store.load(wanted.organization)
    if wanted.candidate is not None and (record is None or record.status == "disconnected"):
        raise _refused_elsewhere(wanted.organization)
    if record is None or record.status == "disconnected":
        raise UnknownOrganizationError(
            f"organization {wanted.organization!r} is not connected: connect() it first",
            organization=wanted.organization,
        )
    return record


def _is_enough(parts: Parts, found: Held, payload: Payload, wanted: Wanted, newest: int) -> bool:
    if wanted.candidate is not None:
        return wanted.candidate in payload.seen
    if not wanted.spend:
        return True
    if parts.clock.monotonic() >= (found.due if wanted.ahead else found.expires):
        return False  # newer than what the caller knows, perhaps, and run out all the same
    if wanted.force:
        return found.generation > newest
    return wanted.rejected is None or found.token.access_token != wanted.rejected


def _respect_back_off(parts: Parts, record: Record, wanted: Wanted) -> None:
    """Raise where nothing may be sent for this chain now."""
    if record.not_before > parts.clock.time() and (record.doubt or not wanted.force):
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


async def _wait_for_peer(parts: Parts, record: Record) -> None:
    """Look until the peer has written something or its lease has ended."""
    poll, left = SHORTEST_POLL, record.lease_left
    while True:
        if not await parts.pause(min(poll, left) * (0.5 + parts.clock.random())):
            raise ManagerError("the manager is closing", organization=record.organization)
        current = await parts.store.load(record.organization)
        if current is None or current.version != record.version or current.lease_left <= 0:
            return
        poll, left = min(poll * 1.5, LONGEST_POLL), current.lease_left


async def _begin(parts: Parts, record: Record, payload: Payload, wanted: Wanted) -> Flight | None:
    """Take the lease. None: somebody else wrote first."""
    trial = wanted.candidate is not None or record.status == "connecting"
    spend = _record.spend_of(record, payload, candidate=trial)
    other = payload.candidate is None or payload.candidate.fingerprint != wanted.candidate
    if spend is None or (wanted.candidate is not None and other):
        raise _refused_elsewhere(record.organization)
    parts.secret_of(spend.credential, record.organization)  # fail before anything is written
    nonce = _record.nonce_for(spend, secrets.token_hex(16))
    ends = parts.clock.monotonic() + parts.policy.lease
    leased = _record.leased(record, nonce)
    try:
        stored = await parts.store.swap(leased, lease_for=parts.policy.lease)
    except StoreError:
        stored = await parts.store.load(record.organization)
        if stored is None or stored.lease != nonce:
            raise  # not known to be ours: nothing is sent
    if stored is None:
        return None
    return Flight(
        parts,
        stored,
        payload if stored.payload == record.payload else decode(stored),
        spend,
        nonce=nonce,
        ends=ends,
        hold_off=record.lease is not None or _record.unsettled(stored, spend),
        patient=not wanted.ahead and record.failures == 0,
    )
