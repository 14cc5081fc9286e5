"""One lease, one refresh token: begin is done, now POST, commit, or mark what was learned.

A flight may be overtaken at any step, by a peer or by a new connection. Every write is a compare-and-swap, and one
that loses ends the flight with *look again*, which is None. What it never does: send while an earlier request can
still arrive, or throw away an answer.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from tribe_oauth._oauth import messages as _protocol
from tribe_oauth._oauth.endpoint import Answered, Outcome
from tribe_oauth._oauth.messages import Granted
from tribe_oauth._oauth.values import Secret, Token
from tribe_oauth._oauth.verdict import Verdict, back_off, error_for, judge, pause_before
from tribe_oauth._refresh import commit as _commit
from tribe_oauth._refresh import record as _record
from tribe_oauth._refresh import token_requests as _exchange
from tribe_oauth._refresh.context import CachedToken, RefreshContext, logger
from tribe_oauth._refresh.payload import Payload, decode
from tribe_oauth._refresh.record import Spend
from tribe_oauth.errors import ManagerError, ReauthorizationRequired, StoreError, TokenEndpointError
from tribe_oauth.stores import Record


class Rotation:
    """Holds the lease from its making until `run` returns."""

    def __init__(
        self,
        context: RefreshContext,
        record: Record,
        payload: Payload,
        spend: Spend,
        *,
        nonce: str,
        ends: float,
        hold_off: bool,
        patient: bool,
    ) -> None:
        self._context = context
        self._record = record
        self._payload = payload
        self._spend = spend
        self._nonce = nonce
        self._ends = ends
        self._hold_off = hold_off
        self._patient = patient
        self._began_in_doubt = _record.may_be_spent(record, spend)
        self._organization = record.organization

    async def run(self) -> CachedToken | None:
        """Spend the refresh token. None: the record changed under it, look again."""
        if self._hold_off and not await self._wait_for_quiet():
            return None
        tries: dict[Verdict, int] = {}
        while True:
            asked_at, asked = self._context.clock.time(), self._context.clock.monotonic()
            outcome = await self._post()
            verdict = judge(outcome)
            match verdict:
                case Verdict.COMMIT:
                    assert isinstance(outcome, Answered)
                    assert isinstance(outcome.reading, Granted)
                    return await self._keep(outcome.reading, asked_at, asked)
                case Verdict.DEAD:
                    await self._refused(outcome)
                    return None
            maybe_spent = verdict in {Verdict.MAYBE_SPENT, Verdict.RESET}
            if maybe_spent and not await self._write(
                lambda record: _record.marked_maybe_spent(record, self._spend), renew=True
            ):
                return None
            pause = self._pause_before(verdict, tries.get(verdict, 0), outcome)
            tries[verdict] = tries.get(verdict, 0) + 1
            if pause is None and verdict is Verdict.RACING:
                await self._refused(outcome)
                return None
            if pause is None or not await self._context.pause(pause):
                await self._give_up(verdict, outcome)
                return None
            if not await self._write(lambda record: record, renew=True):  # read again, and renew the lease
                return None

    async def _post(self) -> Outcome:
        credential = self._spend.credential
        form = _protocol.refresh_request(
            credential.client_id,
            self._context.secret_of(credential, self._organization),
            refresh_token=self._spend.refresh_token,
            redirect_uri=credential.redirect_uri,
        )
        return await self._context.endpoint.post(credential.token_endpoint, form, may_leave=self._may_send)

    def _may_send(self) -> bool:
        """Asked right before the bytes leave: whether enough of the lease is left for all that can follow."""
        return self._context.clock.monotonic() + self._context.timing.before_sending <= self._ends

    def _pause_before(self, verdict: Verdict, attempt: int, outcome: Outcome) -> float | None:
        if not self._patient and verdict is not Verdict.RACING:
            return None
        retry_after = outcome.retry_after if isinstance(outcome, Answered) else None
        pause = pause_before(verdict, attempt, quiet=self._context.timing.quiet, retry_after=retry_after)
        return None if pause is None else pause * (1 + 0.2 * self._context.clock.random())

    async def _wait_for_quiet(self) -> bool:
        """Wait until the request of whoever held the lease before cannot arrive any more. False: look again."""
        if await self._context.pause(self._context.timing.quiet):
            return await self._write(lambda record: record, renew=True)
        # Closing: whoever comes next has to wait as well. A candidate's doubt says so itself.
        not_before = 0.0 if self._spend.is_candidate else self._context.clock.time()
        await self._write(lambda record: _record.released(record, not_before=not_before), renew=False)
        raise ManagerError("the manager is closing", organization=self._organization)

    async def _write(self, change: Callable[[Record], Record], *, renew: bool) -> bool:
        """Apply a change while the lease is ours and the refresh token the one to use. False: it is not."""
        while True:
            ends = self._context.clock.monotonic() + self._context.timing.lease
            stored = await self._context.store.swap(
                change(self._record), lease_for=self._context.timing.lease if renew else None
            )
            if stored is not None:
                self._record, self._payload = stored, decode(stored)
                self._ends = ends if renew else self._ends
                return True
            current = await self._context.store.load(self._organization)
            if current is None or current.lease != self._nonce or not _record.matches(current, self._spend):
                return False
            self._record, self._payload = current, decode(current)

    # The ends of a flight

    async def _keep(self, granted: Granted, asked_at: float, asked: float) -> CachedToken | None:
        """Make the answer durable, then give it out; only then complain of what is wrong beside it."""
        payload = self._new_payload(granted, asked_at)
        change = self._committed(granted, payload, asked)
        try:
            stored = await _commit.write_patiently(self._context, self._organization, self._record, change, self._fits)
        except StoreError:
            stored = change(self._record)  # served from memory, and saved as soon as the store can write
        if stored is None:
            await self._too_late(change(self._record))
            return None
        if granted.access_token is None:
            answered = Answered(granted, 200, None)
            raise error_for(self._organization, Verdict.COMMIT, answered, stored.not_before)
        # This process asked for it: monotonic time decides, whatever happened to the wall clock meanwhile.
        remaining = granted.expires_in - (self._context.clock.monotonic() - asked)
        cached = self._context.cached_from(stored, payload, remaining=remaining)
        assert cached is not None  # what was committed has a token
        return cached

    def _fits(self, record: Record | None) -> bool:
        """Chain and generation decide, whoever holds the lease and whatever the status says."""
        return _record.matches(record, self._spend)

    def _new_payload(self, granted: Granted, asked_at: float) -> Payload:
        """What the answer gives to keep."""
        spend, scope = self._spend, granted.scope
        before = self._payload.token
        lifetime = float(granted.expires_in) if granted.access_token is not None else 0.0
        if scope is None and before is not None and not spend.is_candidate:
            scope = before.scope
        elif before is not None and before.scope not in {None, scope}:
            logger.warning("the scope of organization %r changed in a refresh", self._organization)
        token = Token(
            access_token=granted.access_token or Secret(""),
            refresh_token=granted.refresh_token or spend.refresh_token,  # RFC 6749 §6: none in the answer keeps the old
            expires_at=asked_at + lifetime,
            scope=scope,
        )
        return Payload(credential=spend.credential, token=token, lifetime=lifetime)

    def _committed(self, granted: Granted, payload: Payload, asked: float) -> _commit.Change:
        """The change from whatever record still matches to the next generation."""
        context, spend = self._context, self._spend
        token, lifetime = payload.token, payload.lifetime
        assert token is not None
        due_at = token.expires_at - context.ahead(lifetime)
        not_before = 0.0
        if granted.access_token is None:
            wait = back_off(Verdict.COMMIT, self._record.failures, retry_after=None, chance=1.0)
            not_before = context.clock.time() + wait

        def change(record: Record | None) -> Record:
            assert record is not None  # one that fits
            committed = _record.committed(
                record,
                self._payload if record is self._record else decode(record),
                spend,
                token,
                lifetime=lifetime,
                age=round(context.clock.monotonic() - asked, 3),
                due_at=due_at,
                nonce=self._nonce,
                began_maybe_spent=self._began_in_doubt,
            )
            if granted.access_token is not None:
                return committed
            return attrs.evolve(committed, not_before=not_before, failures=record.failures + 1)

        return change

    async def _too_late(self, changed: Record) -> None:
        """The record moved on without this answer. Of another family now: revoke and drop what came.

        Within a family a peer has committed, and revoking would kill what it got.
        """
        current = await self._context.store.load(self._organization)
        if current is not None and current.family == changed.family:
            return
        token = decode(changed).token
        assert token is not None
        assert token.refresh_token is not None
        await _exchange.revoke(self._context, self._spend.credential, token.refresh_token, self._organization)

    async def _refused(self, outcome: Outcome) -> None:
        """The server's own refusal: marked, once, and raised. Returns where a peer has written meanwhile."""
        if not await self._write(lambda record: _record.refused(record, self._spend), renew=False):
            return
        if not self._spend.is_candidate:
            cause = self._record.cause or ""
            logger.warning("organization %r has to be connected again: %s", self._organization, cause)
            raise ReauthorizationRequired(cause, organization=self._organization)
        said = error_for(self._organization, Verdict.DEAD, outcome, None)
        raise TokenEndpointError(
            f"the refresh token for organization {self._organization!r} was refused ({said.error}): it was used,"
            " revoked or has expired; copy a new one from Tribe and connect it",
            organization=self._organization,
            status=said.status,
            error=said.error,
            error_description=said.error_description,
        )

    async def _give_up(self, verdict: Verdict, outcome: Outcome) -> None:
        """Give the lease back with the time before which nobody sends, and raise. Returns where the record moved on."""
        context = self._context
        wait = back_off(
            verdict,
            self._record.failures,
            retry_after=outcome.retry_after if isinstance(outcome, Answered) else None,
            chance=context.clock.random(),
        )
        not_before = context.clock.time() + wait

        def change(record: Record) -> Record:
            if self._spend.is_candidate:  # its failures are not the family's
                return _record.released(record)
            return _record.postponed(record, not_before=not_before)

        if await self._write(change, renew=False):
            raise error_for(self._organization, verdict, outcome, not_before)
