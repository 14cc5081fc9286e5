"""Rules of the library taken away, one by one: each has to be found out, or the judge is asleep."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import pytest

from tribe_oauth._refresh import record as record_
from tribe_oauth._refresh.cached_token import CachedToken, to_record
from tribe_oauth._refresh.commit import Commit, Commits
from tribe_oauth._refresh.context import RefreshContext, Timing
from tribe_oauth._refresh.hold_off import hold_off
from tribe_oauth._refresh.lease import Lease
from tribe_oauth._refresh.payload import decode, encode
from tribe_oauth._refresh.refresh import _Refresh
from tribe_oauth._refresh.rotation import Rotation
from tribe_oauth._refresh.spend import matches
from tribe_oauth.stores import Record

Break = Callable[[pytest.MonkeyPatch], None]


def no_hold_off(patch: pytest.MonkeyPatch) -> None:
    """A lease that ran out is taken over, and its refresh token sent at once."""

    async def at_once(*arguments: object, **options: object) -> bool:
        return True

    patch.setattr("tribe_oauth._refresh.refresh.hold_off", at_once)


def sleeps_instead_of_looking(patch: pytest.MonkeyPatch) -> None:
    """Time in which the store is away counts for the hold-off."""

    async def sleep(context: RefreshContext, lease: Lease, *, ahead: bool) -> bool:
        await context.tasks.pause(context.timing.hold_off(context.store.timeout, ahead=ahead))
        return True

    patch.setattr("tribe_oauth._refresh.refresh.hold_off", sleep)


def looks_without_writing(patch: pytest.MonkeyPatch) -> None:
    """A server that can only be read counts as the store."""

    async def reading(context: RefreshContext, lease: Lease, *, ahead: bool) -> bool:
        async def read() -> bool:
            lasts = lease._ends - context.clock.monotonic() > context.timing.lease / 2
            return await (lease.look() if lasts else Lease.renew(lease))

        lease.renew = read  # type: ignore[method-assign]
        try:
            return await hold_off(context, lease, ahead=ahead)
        finally:
            del lease.renew

    patch.setattr("tribe_oauth._refresh.refresh.hold_off", reading)


def generations_begin_at_one(patch: pytest.MonkeyPatch) -> None:
    """Of two connections with an emptied store between them, nobody can tell which is the newer one."""
    first = record_.first_generation
    patch.setattr(record_, "first_generation", lambda record, now: first(record, 1.0))


def no_look_at_the_lease(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks whether the lease still lasts; and it is over before a request can be."""
    patch.setattr(Lease, "may_send", lambda self: True)
    patch.setattr(Timing, "lease", 20.0)


def no_patience_with_the_store(patch: pytest.MonkeyPatch) -> None:
    """What could not be saved at the first attempt is thrown away."""

    async def once(self: Commits, commit: Commit) -> object:
        return await commit.write(self._store)

    patch.setattr(Commits, "save", once)


def looks_rarely_for_the_store(patch: pytest.MonkeyPatch) -> None:
    """What is owed is tried again after up to a minute."""
    patch.setattr("tribe_oauth._refresh.commit.LONGEST_PAUSE", 60.0)


def invalid_request_is_believed(patch: pytest.MonkeyPatch) -> None:
    """An answer that a proxy can give ends a connection, however young its refresh token is."""
    patch.setattr(Rotation, "_is_old", lambda self, outcome: True)


def no_salvage(patch: pytest.MonkeyPatch) -> None:
    """An answer that is not in form is no answer."""
    patch.setattr("tribe_oauth._oauth.messages._salvaged", lambda body, sent, unreadable: None)


def what_the_store_lost_stays_lost(patch: pytest.MonkeyPatch) -> None:
    """The record is believed, although it is older than what this host remembers."""

    async def as_it_is(self: _Refresh, cached: CachedToken, record: Record | None) -> Record | None:
        return record

    patch.setattr(_Refresh, "_write_back", as_it_is)


def an_answer_without_a_record_is_dropped(patch: pytest.MonkeyPatch) -> None:
    """A commit wants the record to be there as it was."""
    patch.setattr(Rotation, "_fits", lambda self, record: matches(record, self._spend))


def doubt_forgotten_at_write_back(patch: pytest.MonkeyPatch) -> None:
    """What is written back counts as fresh, although a peer may have sent it just now."""

    def without(context: RefreshContext, organization: str, cached: CachedToken, lost: Record | None) -> Record:
        record = to_record(context, organization, cached, lost)
        payload = attrs.evolve(decode(record), maybe_spent_at=0.0, maybe_spent_generation=0)
        return attrs.evolve(record, maybe_spent=False, not_before=0.0, lease=None, payload=encode(payload))

    patch.setattr("tribe_oauth._refresh.refresh.to_record", without)


def every_not_before_is_believed(patch: pytest.MonkeyPatch) -> None:
    """A host whose clock is years ahead puts an organization off for years."""
    patch.setattr(record_, "believable", lambda record, now: record)


def exceptions_as_they_come(patch: pytest.MonkeyPatch) -> None:
    """What a store raises is not translated."""

    async def call_it(call: Callable[[], Awaitable[Any]]) -> Any:
        return await call()

    patch.setattr("tribe_oauth._refresh.guarded_store._guarded", call_it)


def doubt_is_over_at_once(patch: pytest.MonkeyPatch) -> None:
    """The first answer to a resend is taken to be good."""
    patch.setattr(record_, "_doubt_is_over", lambda record, payload, now, quiet: True)


def every_refusal_by_the_api_is_believed(patch: pytest.MonkeyPatch) -> None:
    """Each 401 makes a rotation."""
    patch.setattr("tribe_oauth._refresh.refresh.is_too_soon", lambda count, seconds, *, sure: False)


def closes_at_once(patch: pytest.MonkeyPatch) -> None:
    """Closing does not let anything end."""

    async def cut(self: Any, timeout: float) -> None:
        self._closing.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.sleep(0)

    patch.setattr("tribe_oauth._refresh.tasks.Tasks.close", cut)


BROKEN: Final[dict[str, Break]] = {
    broken.__name__: broken
    for broken in (
        no_hold_off,
        sleeps_instead_of_looking,
        looks_without_writing,
        generations_begin_at_one,
        no_look_at_the_lease,
        no_patience_with_the_store,
        looks_rarely_for_the_store,
        invalid_request_is_believed,
        no_salvage,
        what_the_store_lost_stays_lost,
        an_answer_without_a_record_is_dropped,
        doubt_forgotten_at_write_back,
        every_not_before_is_believed,
        exceptions_as_they_come,
        doubt_is_over_at_once,
        every_refusal_by_the_api_is_believed,
        closes_at_once,
    )
}
