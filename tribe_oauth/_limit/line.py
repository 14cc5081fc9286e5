"""Who waits for a slot, in which order, and what follows from a 429. Where the slots are from: `window`, `shared`."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol

import attrs

from tribe_oauth._clock import Clock
from tribe_oauth._limit.rate_limit import RateLimit
from tribe_oauth._retry_after import read_retry_after
from tribe_oauth.errors import ManagerError, TemporarilyUnavailable

logger = logging.getLogger("tribe_oauth.limit")

STOP: Final = 60.0
"""Seconds to send nothing after a 429 that names no time."""
LONGEST_STOP: Final = 3600.0
"""Seconds to which it grows, where every probe is refused; the API may ask for more."""
REMEMBERED: Final = 3600.0
"""Seconds after a stop for which it is remembered, where nobody sends anything."""


class Lot(Protocol):
    """The slot of one request. Exactly one of these is called, once."""

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of the answer came just now, with this status."""
        ...

    def lost(self) -> None:
        """It was sent, perhaps, and there was no answer: it may arrive for `quiet` seconds more."""
        ...

    def unused(self) -> None:
        """Nothing was sent."""
        ...


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Terms:
    """What is the same for all lines of a manager. `quiet`: seconds for which an unanswered request may arrive."""

    limit: RateLimit
    quiet: float
    clock: Clock


@attrs.define(eq=False, repr=False)
class _Waiter:
    """One who waits. `ends`: the moment (monotonic) up to which that is of use."""

    turn: asyncio.Future[Lot]
    ends: float
    timer: asyncio.TimerHandle | None = None


class Line(ABC):
    """The line of one client and organization. `organization` is for errors.

    `refusals`: refused probes in a row, and the 429 that began it; `until`: nothing is sent before that moment. Both
    are 0 as long as the API takes what is sent.
    """

    def __init__(self, terms: Terms, organization: str) -> None:
        self.terms = terms
        self.organization = organization
        self.refusals = 0
        self.until = 0.0
        self._monotonic = terms.clock.monotonic
        self._waiting: tuple[deque[_Waiter], deque[_Waiter]] = (deque(), deque())  # people's, and the background's
        self._probe: _Probe | None = None
        self._timer: asyncio.TimerHandle | None = None

    # What a request does

    @abstractmethod
    def take(self, background: bool) -> Lot | None:
        """A slot, where there is one now and nobody waits for it."""

    async def turn(self, background: bool, longest: float, *, patient: bool = False) -> Lot:
        """Wait for a slot, for so many seconds at most. Raises TemporarilyUnavailable.

        `patient`: only a stop can last too long, however many there are who wait.
        """
        now, loop = self._monotonic(), asyncio.get_running_loop()
        waiter = _Waiter(loop.create_future(), now + longest)
        if self.until > waiter.ends:
            raise self._too_long(self.until - now)
        self._waiting[background].append(waiter)
        self.serve()
        if not patient and not waiter.turn.done():
            waiter.timer = loop.call_later(longest, self._give_up, waiter)
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                waiter.turn.result().unused()  # it was given in the same moment
            raise
        finally:
            if waiter.timer is not None:
                waiter.timer.cancel()

    def judge(self, status: int, headers: Mapping[str, str]) -> None:
        """What an answer means for all: called for each 429, and for each answer while there are `refusals`."""
        if status == 429:
            self._refused(read_retry_after(headers))
        elif self._monotonic() >= self.until:
            self._accepted()

    # Order

    @property
    def waits(self) -> bool:
        """Whether anybody does."""
        return any(waiter for queue in self._waiting for waiter in queue if not waiter.turn.done())

    def others_wait(self, background: bool) -> bool:
        """Whether requests of the other kind do."""
        return bool(self._waiting[not background])

    def serve(self) -> None:
        """Give what there is to those who wait, people first; look again when there may be more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._monotonic()
        for queue in self._waiting:
            while queue and queue[0].turn.done():
                queue.popleft()  # it left
        if now >= self.until:
            for background in (False, True):
                self._serve(self._waiting[background], background, now)
        if self.waits:
            seconds = self.until - now if self.until > now else self._more_in(now)
            if seconds is not None:
                self._timer = asyncio.get_running_loop().call_later(max(seconds, 0.0), self.serve)

    def _serve(self, queue: deque[_Waiter], background: bool, now: float) -> None:
        while queue:
            if queue[0].turn.done():
                queue.popleft()
                continue
            if self._probe is not None:
                return  # the next one goes when it is known what came of it
            lot = self._give(background, now)
            if lot is None:
                return
            if self.refusals:
                lot = self._probe = _Probe(self, lot)
            queue.popleft().turn.set_result(lot)

    @abstractmethod
    def _give(self, background: bool, now: float) -> Lot | None:
        """A slot, where there is one."""

    @abstractmethod
    def _more_in(self, now: float) -> float | None:
        """Seconds until there may be a slot; None: `serve` is called then."""

    # The rule for 429

    def _refused(self, asked: float | None) -> None:
        now = self._monotonic()
        if now < self.until:  # sent before it stopped
            self.until = max(self.until, now + (asked or 0.0))
        else:
            self.refusals += 1
            seconds = (STOP if asked is None else asked) * 2.0 ** min(self.refusals - 1, 20)
            seconds = max(min(seconds, LONGEST_STOP), asked or 0.0)
            self.until = now + seconds
            logger.warning(
                "organization %r: the API answered 429, somebody else spends its limit: nothing is sent for %.0f s",
                self.organization,
                seconds,
            )
        self.stopped()

    def stopped(self) -> None:
        """It has stopped, or for longer: those who would wait for too long hear it at once."""
        now = self._monotonic()
        for queue in self._waiting:
            for waiter in queue:
                if waiter.ends < self.until and not waiter.turn.done():
                    waiter.turn.set_exception(self._too_long(self.until - now))
        self.serve()

    def _accepted(self) -> None:
        self.refusals, self.until, self._probe = 0, 0.0, None
        self.serve()

    def probe_ended(self, probe: _Probe) -> None:
        """What came of the probe is known, or nothing did: the next one may go."""
        if self._probe is probe:
            self._probe = None
            self.serve()

    def _give_up(self, waiter: _Waiter) -> None:
        if not waiter.turn.done():
            now = self._monotonic()
            waiter.turn.set_exception(self._too_long(max(self.until - now, self._more_in(now) or 1.0)))

    def _too_long(self, seconds: float) -> TemporarilyUnavailable:
        limit = self.terms.limit
        why = (
            "the API refused more calls (429)"
            if self.refusals
            else f"its limit of {limit.calls} calls in {limit.seconds:g} s is used up"
        )
        return TemporarilyUnavailable(
            f"organization {self.organization!r}: {why}, and no turn comes in the time that this request may wait"
            f" (longest_wait); nothing was sent: ask again in {seconds:.0f} s, and send less",
            organization=self.organization,
            next_attempt_at=self.terms.clock.time() + seconds,
        )

    # The line itself

    def is_idle(self, now: float) -> bool:
        """Whether nothing is held, nobody waits, and no stop has to be remembered: it can be forgotten."""
        is_stopped = self.refusals and now < self.until + REMEMBERED
        return not is_stopped and not self.waits and not self._is_used(now)

    @abstractmethod
    def _is_used(self, now: float) -> bool:
        """Whether a slot is held, or something of one has to be told."""

    def forget_loop(self) -> None:
        """The event loop is gone, and with it those who waited. What they sent may yet arrive."""
        for queue in self._waiting:
            queue.clear()
        self._timer = self._probe = None

    async def close(self) -> None:
        """Nobody gets a turn any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for queue in self._waiting:
            for waiter in queue:
                if not waiter.turn.done():
                    waiter.turn.set_exception(ManagerError("the manager is closing: nothing was sent"))


class _Probe:
    """The one request that goes after a stop: what comes of it decides for all."""

    def __init__(self, line: Line, lot: Lot) -> None:
        self._line = line
        self._lot = lot

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        self._lot.answered(status, headers)
        self._line.probe_ended(self)

    def lost(self) -> None:
        self._lot.lost()
        self._line.probe_ended(self)

    def unused(self) -> None:
        self._lot.unused()
        self._line.probe_ended(self)
