"""One lease, one refresh token: send it, keep what comes back, or write down what was learned.

A rotation may be overtaken at any step, by a peer or by a new connection. Every write is a compare-and-swap, and one
that loses ends the rotation with *look again*, which is None. What it never does: send while an earlier request can
still arrive, or throw away an answer.
"""

from __future__ import annotations

import logging
from collections import Counter

import attrs

from tribe_oauth._clock import Clock
from tribe_oauth._oauth.endpoint import Answered, Outcome
from tribe_oauth._oauth.explanation import Asked, error_for, pasted_refused, reason_of
from tribe_oauth._oauth.messages import Granted
from tribe_oauth._oauth.values import Secret, Token
from tribe_oauth._oauth.verdict import Verdict, back_off, cause_of, judge, pause_before, refusal_in, retry_after_of
from tribe_oauth._refresh import record as record_
from tribe_oauth._refresh import token_requests
from tribe_oauth._refresh.cached_token import CachedToken, from_record, head_start
from tribe_oauth._refresh.commit import Change, Commit
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.lease import Lease
from tribe_oauth._refresh.payload import Payload, decode, readable
from tribe_oauth._refresh.rejections import counted
from tribe_oauth._refresh.spend import is_lost, may_be_spent, takes_answer
from tribe_oauth.errors import ReauthorizationRequired, StoreError
from tribe_oauth.stores import Record

logger = logging.getLogger("tribe_oauth.rotation")


@attrs.frozen
class Sent:
    """When a request was sent: Unix time, and monotonic time."""

    at: float
    monotonic: float

    @classmethod
    def now(cls, clock: Clock) -> Sent:
        """What the clock says."""
        return cls(clock.time(), clock.monotonic())


class Rotation:
    """Spends the refresh token of a lease.

    `patient`: callers wait, and no attempt has failed before: try again at once where that may help. `rejected`: it is
    for a 401 of the API, which is counted.
    """

    def __init__(self, context: RefreshContext, lease: Lease, *, patient: bool, rejected: bool) -> None:
        self._context = context
        self._lease = lease
        self._spend = lease.spend
        self._organization = lease.record.organization
        self._patient = patient
        self._rejected = rejected
        credential = lease.spend.credential
        self._asked = Asked(
            grant_type="refresh_token", client_id=credential.client_id, redirect_uri=credential.redirect_uri
        )
        self._tries: Counter[Verdict] = Counter()

    async def run(self) -> CachedToken | None:
        """Send, until there is an answer or no more sense in it. None: the record changed under it, look again."""
        while True:
            sent = Sent.now(self._context.clock)
            outcome = await self._post()
            verdict = judge(outcome)
            if verdict is Verdict.COMMIT:
                assert isinstance(outcome, Answered)
                return await self._keep(outcome, sent)
            if verdict is Verdict.DEAD:
                await self._mark_refused(outcome)
                return None
            if not await self._may_try_again(verdict, outcome):
                return None

    async def _post(self) -> Outcome:
        form = token_requests.refresh_form(self._context, self._spend, self._organization)
        endpoint = self._spend.credential.token_endpoint
        return await self._context.endpoint.post(endpoint, form, may_leave=self._lease.may_send)

    async def _may_try_again(self, verdict: Verdict, outcome: Outcome) -> bool:
        """Write down what the outcome means, and wait until the next attempt. False: there is none, look again."""
        if verdict in {Verdict.MAYBE_SPENT, Verdict.RESET} and not await self._lease.renew_with(
            lambda record: record_.marked_maybe_spent(record, self._spend, now=self._context.clock.time())
        ):
            return False
        pause = self._pause_before(verdict, outcome)
        if pause is None and verdict is Verdict.RACING and (self._spend.is_candidate or self._is_old(outcome)):
            await self._mark_refused(outcome)
            return False
        if pause is None or not await self._context.tasks.pause(pause):
            await self._give_up(verdict, outcome)
            return False
        return await self._lease.renew()

    def _pause_before(self, verdict: Verdict, outcome: Outcome) -> float | None:
        """Seconds until the next attempt; None: it ends here."""
        attempt = self._tries[verdict]
        self._tries[verdict] += 1
        if not self._patient and verdict is not Verdict.RACING:
            return None
        quiet, retry_after = self._context.timing.quiet, retry_after_of(outcome)
        pause = pause_before(verdict, attempt, quiet=quiet, retry_after=retry_after)
        return None if pause is None else pause * (1 + 0.2 * self._context.clock.random())

    # How it ends: with an answer

    async def _keep(self, answered: Answered, sent: Sent) -> CachedToken | None:
        """Make the answer durable, then give it out; only then complain of what is wrong beside it."""
        granted = answered.reading
        assert isinstance(granted, Granted)
        payload = self._new_payload(granted, sent, answered.date)
        change = self._commit_of(granted, payload, sent)
        try:
            stored = await self._context.commits.save(
                Commit(self._organization, self._lease.record, change, self._fits)
            )
        except StoreError:
            stored = change(self._lease.record)  # served from memory, and saved as soon as the store can write
        else:
            if stored is not None:
                self._revoke_replaced()
        if stored is None:
            await self._drop(change(self._lease.record))
            return None
        if granted.complaints:
            logger.warning(
                "the answer to a refresh of organization %r was kept, although it is not as it should be (%s): look at"
                " what stands between this host and the token endpoint",
                self._organization,
                ", ".join(granted.complaints),
            )
        if granted.access_token is None:
            raise error_for(self._organization, self._asked, answered, stored.not_before)
        logger.info(
            "organization %r has a new token: generation %d, good for %d s",
            self._organization,
            stored.generation,
            granted.expires_in,
        )
        # This process asked for it: monotonic time decides, whatever happened to the wall clock meanwhile.
        remaining = granted.expires_in - (self._context.clock.monotonic() - sent.monotonic)
        cached = from_record(self._context, stored, payload, remaining=remaining)
        assert cached is not None  # what was committed has a token
        return cached

    def _revoke_replaced(self) -> None:
        """A candidate took the place of a family: that one is no longer needed."""
        credential, token = self._lease.payload.credential, self._lease.payload.token
        old = None if token is None else token.refresh_token
        if self._spend.is_candidate and credential is not None and old is not None and old != self._spend.refresh_token:
            token_requests.revoke_meanwhile(self._context, credential, old, self._organization)

    def _fits(self, record: Record | None) -> bool:
        return takes_answer(record, self._spend)

    def _new_payload(self, granted: Granted, sent: Sent, date: float | None) -> Payload:
        """What the answer gives to keep."""
        spend, scope, before = self._spend, granted.scope, self._lease.payload.token
        lifetime = float(granted.expires_in) if granted.access_token is not None else 0.0
        if scope is None and before is not None and not spend.is_candidate:
            scope = before.scope
        elif before is not None and before.scope not in {None, scope}:
            logger.warning("the scope of organization %r changed in a refresh", self._organization)
        token = Token(
            access_token=granted.access_token or Secret(""),
            refresh_token=granted.refresh_token or spend.refresh_token,  # RFC 6749 §6: none in the answer keeps the old
            expires_at=sent.at + lifetime,
            scope=scope,
        )
        rejections, rejected_at = self._lease.payload.rejections, self._lease.payload.rejected_at
        if self._rejected:
            rejections, rejected_at = counted(rejections, sent.at - rejected_at), sent.at
        return Payload(
            credential=spend.credential,
            token=token,
            lifetime=lifetime,
            issued_at=sent.at,
            issued_date=date or 0.0,
            rejections=rejections,
            rejected_at=rejected_at,
        )

    def _commit_of(self, granted: Granted, payload: Payload, sent: Sent) -> Change:
        """The change from whatever record still matches to the next generation."""
        lease, clock, token = self._lease, self._context.clock, payload.token
        assert token is not None
        due_at = token.expires_at - head_start(clock, payload.lifetime)
        not_before = 0.0
        if granted.access_token is None:
            not_before = clock.time() + back_off(Verdict.COMMIT, lease.record.failures, retry_after=None, chance=1.0)

        def change(record: Record | None) -> Record:
            if record is None or is_lost(record, self._spend):
                record = record_.in_place_of(record, lease.record)
            committed = record_.committed(
                record,
                lease.payload if record.payload == lease.record.payload else readable(record) or lease.payload,
                self._spend,
                attrs.evolve(payload, age=round(clock.monotonic() - sent.monotonic, 3)),
                due_at=due_at,
                nonce=lease.nonce,
                now=clock.time(),
                quiet=self._context.timing.quiet,
            )
            if granted.access_token is not None:
                return committed
            return attrs.evolve(committed, not_before=not_before, failures=record.failures + 1)

        return change

    async def _drop(self, late: Record) -> None:
        """The record moved on without this answer. Where it has another family now, what came is revoked.

        Within a family a peer has committed, and revoking would kill what it got.
        """
        current = await self._context.store.load(self._organization)
        if current is not None and current.family == late.family:
            return
        token = decode(late).token
        assert token is not None
        assert token.refresh_token is not None
        await token_requests.revoke(self._context, self._spend.credential, token.refresh_token, self._organization)

    # How it ends: without

    def _is_old(self, outcome: Outcome) -> bool:
        """Whether the refresh token can have expired, by the server's own dates and by this host's clock."""
        payload, lifetime = self._lease.payload, self._context.timing.refresh_token_lifetime
        if not isinstance(outcome, Answered) or outcome.date is None or not payload.issued_date:
            return False  # this host's clock alone may be years ahead, and every token look old
        return min(self._context.clock.time() - payload.issued_at, outcome.date - payload.issued_date) >= lifetime

    async def _mark_refused(self, outcome: Outcome) -> None:
        """The server's own refusal: written down once, and raised. Returns where a peer has written meanwhile."""
        old, refused = self._is_old(outcome), refusal_in(outcome)
        assert refused is not None  # no other answer says that a token is dead
        cause, said = "", refused.description

        def change(record: Record) -> Record:
            nonlocal cause
            cause = cause_of(outcome, maybe_spent=may_be_spent(record, self._spend), old=old)
            return record_.refused(record, self._spend, cause, said)

        if not await self._lease.give_back(change):
            return
        if self._spend.is_candidate:
            raise pasted_refused(self._organization, outcome, cause)
        why = f"{cause}; the server says: {said}" if said else cause
        logger.warning("organization %r has to be connected again: %s", self._organization, why)
        raise ReauthorizationRequired(cause, organization=self._organization, error_description=said)

    async def _give_up(self, verdict: Verdict, outcome: Outcome) -> None:
        """Give the lease back with the time before which nobody sends, and raise. Returns where the record moved on."""
        clock = self._context.clock
        failures, retry_after = self._lease.record.failures, retry_after_of(outcome)
        not_before = clock.time() + back_off(verdict, failures, retry_after=retry_after, chance=clock.random())

        def change(record: Record) -> Record:
            if self._spend.is_candidate:  # its failures are not the family's
                return record_.released(record)
            return record_.postponed(record, not_before=not_before, said=reason_of(outcome))

        if await self._lease.give_back(change):
            spend, payload = self._spend, self._lease.payload
            worked_before = not spend.is_candidate or spend.credential.is_same_client(payload.credential)
            raise error_for(self._organization, self._asked, outcome, not_before, worked_before=worked_before)
