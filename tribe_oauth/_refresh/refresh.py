"""Find a token in the store, wait for a peer that fetches one, or take the lease and rotate.

Time is counted from before a question is asked, so that a lease is never believed longer than it lasts.
"""

from __future__ import annotations

import enum
import logging
from typing import Self

import attrs

from tribe_oauth._oauth.explanation import refused_elsewhere
from tribe_oauth._oauth.values import Secret
from tribe_oauth._refresh import record as record_
from tribe_oauth._refresh import token_requests
from tribe_oauth._refresh.cached_token import CachedToken, from_record, to_record, with_deadlines
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.hold_off import hold_off
from tribe_oauth._refresh.lease import Lease, PeerLease
from tribe_oauth._refresh.payload import Credential, Payload, decode
from tribe_oauth._refresh.rejections import is_too_soon
from tribe_oauth._refresh.rotation import Rotation
from tribe_oauth._refresh.spend import Spend, may_still_arrive, spend_of
from tribe_oauth.errors import (
    REVOKED,
    ManagerError,
    ReauthorizationRequired,
    Remedy,
    TemporarilyUnavailable,
    UnknownOrganizationError,
)
from tribe_oauth.stores import Record

logger = logging.getLogger("tribe_oauth.refresh")

SHORTEST_POLL, LONGEST_POLL = 0.01, 0.25
"""Seconds between two looks at a store whose lease a peer holds."""


class Purpose(enum.Enum):
    """Why a refresh is asked for, and so what would satisfy it."""

    EXPIRED = "a token that has not run out"
    AHEAD = "a token that is not even due; no caller waits"
    REJECTED = "another access token than the one that the API refused"
    STORED = "whatever is stored: nothing may be sent"
    FORCED = "a newer generation than there was"
    CANDIDATE = "the success of a pasted refresh token"


@attrs.frozen(init=False, eq=False, repr=False)
class RefreshParameters:
    """What would satisfy a caller. Made by one of the constructors below, one for each case.

    `cached`: what this process has. `rejected`: the access token that the API refused. `candidate`: the fingerprint of
    the pasted refresh token.
    """

    organization: str
    cached: CachedToken | None
    purpose: Purpose
    rejected: Secret | None
    sure: bool
    candidate: str | None

    @classmethod
    def expired(cls, organization: str, cached: CachedToken | None) -> Self:
        """A caller waits for a token that works."""
        return cls._made(organization, cached, Purpose.EXPIRED)

    @classmethod
    def ahead_of_time(cls, organization: str, cached: CachedToken | None) -> Self:
        """The token is due, and no caller waits."""
        return cls._made(organization, cached, Purpose.AHEAD)

    @classmethod
    def instead_of(cls, organization: str, cached: CachedToken | None, rejected: Secret, *, sure: bool) -> Self:
        """The API refused this access token. `sure`: it took it before, and refused it twice."""
        return cls._made(organization, cached, Purpose.REJECTED, rejected=rejected, sure=sure)

    @classmethod
    def stored(cls, organization: str, cached: CachedToken | None) -> Self:
        """Look what peers have stored, and send nothing."""
        return cls._made(organization, cached, Purpose.STORED)

    @classmethod
    def forced(cls, organization: str, cached: CachedToken | None) -> Self:
        """A newer token in any case."""
        return cls._made(organization, cached, Purpose.FORCED)

    @classmethod
    def of_candidate(cls, organization: str, fingerprint: str) -> Self:
        """A pasted refresh token, saved as the candidate, is to be tried."""
        return cls._made(organization, None, Purpose.CANDIDATE, candidate=fingerprint)

    @classmethod
    def _made(
        cls,
        organization: str,
        cached: CachedToken | None,
        purpose: Purpose,
        *,
        rejected: Secret | None = None,
        sure: bool = False,
        candidate: str | None = None,
    ) -> Self:
        made = cls.__new__(cls)
        made.__attrs_init__(organization, cached, purpose, rejected, sure, candidate)
        return made

    def with_cached(self, cached: CachedToken | None) -> Self:
        """The same, by what this process has now."""
        if cached is self.cached:
            return self
        return self._made(
            self.organization, cached, self.purpose, rejected=self.rejected, sure=self.sure, candidate=self.candidate
        )


async def refresh(context: RefreshContext, wanted: RefreshParameters) -> CachedToken:
    """Find or fetch what is wanted. Raises what the caller should see."""
    return await _Refresh(context, wanted).run()


class _Refresh:
    """One refresh, over as many looks at the store as it takes."""

    def __init__(self, context: RefreshContext, wanted: RefreshParameters) -> None:
        self._context = context
        self._wanted = wanted
        self._now = context.clock.monotonic
        self._began = self._now()
        self._first: int | None = None  # the generation at the first look, which may be newer than ours
        self._known = None if wanted.cached is None else wanted.cached.generation
        self._peer = PeerLease()

    async def run(self) -> CachedToken:
        while True:
            record = await self._load()
            payload = decode(record)
            if (credential := self._client_credentials(payload)) is not None:
                return await self._without_store(record, credential)
            self._refuse_if_dead(record, payload)
            found = self._adopt(record, payload)
            if found is not None and self._is_enough(found, payload):
                return found
            self._respect_back_off(record, payload)
            if record.lease is None or self._peer.left(record, self._now()) <= 0:
                if (rotated := await self._rotate(record, payload)) is not None:
                    return rotated
            elif found is not None and self._can_go_on_with(found):
                return found
            else:
                await self._wait_for_peer(record)

    # Look

    async def _load(self) -> Record:
        organization, cached = self._wanted.organization, self._wanted.cached
        record = await self._context.store.load(organization)
        if cached is not None and (record is None or record.generation < cached.generation):
            record = await self._write_back(cached, record)
        if record is None or record.status == "disconnected":
            if self._wanted.purpose is Purpose.CANDIDATE:
                raise refused_elsewhere(organization, "" if record is None else decode(record).said)
            raise UnknownOrganizationError(
                f"organization {organization!r} is not connected", organization=organization, remedy=Remedy.CONNECT
            )
        if self._first is None:
            self._first = record.generation
            self._known = record.generation if self._known is None else self._known
        return record_.believable(record, self._context.clock.time())

    async def _write_back(self, cached: CachedToken, record: Record | None) -> Record | None:
        """A fail-over lost what we had committed. The refresh token in the store is spent: it is never sent."""
        organization = self._wanted.organization
        logger.error("the store lost a commit of organization %r: written back from memory", organization)
        restored = to_record(self._context, organization, cached, record)
        store, lease_for = self._context.store, self._context.timing.lease
        return await store.swap(restored, lease_for=lease_for) or await store.load(organization)

    def _client_credentials(self, payload: Payload) -> Credential | None:
        credential = payload.credential
        if self._wanted.purpose is Purpose.CANDIDATE or credential is None:
            return None
        return credential if credential.kind == "client_credentials" else None

    async def _without_store(self, record: Record, credential: Credential) -> CachedToken:
        """Client credentials: no token of theirs is stored, and any request is free."""
        if self._wanted.purpose is Purpose.STORED and self._wanted.cached is not None:
            return self._wanted.cached
        return await token_requests.refresh_client_credentials(self._context, record, credential)

    def _refuse_if_dead(self, record: Record, payload: Payload) -> None:
        if record.status == "reauthorization_required" and self._wanted.purpose is not Purpose.CANDIDATE:
            raise ReauthorizationRequired(
                record.cause or REVOKED, organization=record.organization, error_description=payload.said
            )

    # Adopt

    def _adopt(self, record: Record, payload: Payload) -> CachedToken | None:
        """The token that is stored, with what this process knows of its age."""
        cached = self._wanted.cached
        if payload.token is not None and cached is not None and cached.generation == record.generation:
            found: CachedToken | None = cached  # the same token, and monotonic time knows better when it ends
        else:
            found = from_record(self._context, record, payload)
        if found is None or self._first is None or found.generation <= self._first:
            return found
        if record.lease is not None:  # perhaps written back by a host that knew it: not new
            self._first = found.generation
            return found
        # Committed while we waited: that tells how old it is, whatever the wall clocks of two hosts say.
        return with_deadlines(self._context, found, found.lifetime - payload.age - (self._now() - self._began))

    def _is_enough(self, found: CachedToken, payload: Payload) -> bool:
        wanted = self._wanted
        if wanted.purpose is Purpose.CANDIDATE:
            return wanted.candidate in payload.seen
        if self._now() >= (found.due if wanted.purpose is Purpose.AHEAD else found.expires):
            return False  # newer than what the caller knows, perhaps, and run out all the same
        if wanted.purpose is Purpose.STORED:
            return True
        if wanted.purpose is Purpose.FORCED:
            return found.generation > (self._known or 0)
        if wanted.rejected is None or found.token.access_token != wanted.rejected:
            return True
        seconds = self._context.clock.time() - payload.rejected_at
        return is_too_soon(payload.rejections, seconds, sure=wanted.sure)  # then the same one has to do

    def _can_go_on_with(self, found: CachedToken) -> bool:
        """Whether there is no need to wait for the peer that fetches the next token."""
        return self._wanted.purpose is Purpose.AHEAD and self._now() < found.expires

    # Wait

    def _respect_back_off(self, record: Record, payload: Payload) -> None:
        """Raise where nothing may be sent for this family now."""
        if self._wanted.purpose is Purpose.CANDIDATE or record.not_before <= self._context.clock.time():
            return
        if record.maybe_spent or self._wanted.purpose is not Purpose.FORCED:
            said = f" (the last one: {payload.said})" if payload.said else ""
            raise TemporarilyUnavailable(
                f"no token for organization {record.organization!r} now, after {record.failures} failed attempts{said};"
                " the connection is kept",
                organization=record.organization,
                next_attempt_at=record.not_before,
            )

    async def _wait_for_peer(self, record: Record) -> None:
        """Look until the peer has written something or its lease has ended."""
        poll, left = SHORTEST_POLL, self._peer.left(record, self._now())
        while True:
            if not await self._context.tasks.pause(min(poll, left) * (0.5 + self._context.clock.random())):
                raise ManagerError("the manager is closing", organization=record.organization)
            current = await self._context.store.load(record.organization)
            if current is None or current.version != record.version:
                return
            if (left := self._peer.left(current, self._now())) <= 0:
                return
            poll = min(poll * 1.5, LONGEST_POLL)

    # Rotate

    async def _rotate(self, record: Record, payload: Payload) -> CachedToken | None:
        """Take the lease and spend the refresh token. None: look again."""
        context, ahead = self._context, self._wanted.purpose is Purpose.AHEAD
        spend = self._spend_of(record, payload)
        token_requests.client_secret(context, spend.credential, record.organization)  # fail before a write
        async with context.tasks.rotations:
            lease = await Lease.take(context, record, payload, spend)
            if lease is None:
                return None
            rejected = self._wanted.purpose is Purpose.REJECTED
            rotation = Rotation(context, lease, patient=not ahead and record.failures == 0, rejected=rejected)
            if record.lease is None and not may_still_arrive(lease.record, spend):
                return await rotation.run()
        if not await hold_off(context, lease, ahead=ahead):
            return None
        async with context.tasks.rotations:  # not held meanwhile: others need not wait for this
            return await rotation.run() if await lease.renew() else None

    def _spend_of(self, record: Record, payload: Payload) -> Spend:
        """The refresh token to use. Raises TokenEndpointError where the candidate is not there any more."""
        wanted, candidate = self._wanted, payload.candidate
        trial = wanted.purpose is Purpose.CANDIDATE
        spend = spend_of(record, payload, candidate=trial or record.status == "connecting")
        if spend is None or (trial and (candidate is None or candidate.fingerprint != wanted.candidate)):
            raise refused_elsewhere(record.organization, "")
        return spend
