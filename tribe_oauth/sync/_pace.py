"""How many requests at a time: a limit for each organization and one for all, both adapted to the API's answers.

The rule is TCP's (RFC 5681 §3.1): twice as many in each round of quick answers until the first refusal, then one more;
half as many after a refusal. Three things keep a slow organization from slowing the others: a request that takes long
lends its slot of the limit for all, within bounds; Retry-After delays only the organization that got it; and the limit
for all falls only where many organizations are refused, not where one is.

How many requests there may be in a minute is another question, which the manager's `RateLimit` answers: a request has
its turn there before any clock of its own begins.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from tribe_oauth.errors import ConfigurationError, TribeOAuthError
from tribe_oauth.odata import ODataError
from tribe_oauth.odata._retries import asked_pause

T = TypeVar("T")

_START: Final = 2  # requests at a time of an organization, before its first answer
_MOST, _EACH = 32, 8  # requests at a time in all, and of one organization, where answers come in `_NEAR` seconds
_NEAR: Final = 0.05
_FARTHEST: Final = 3.0  # times as many where they take longer: an aiohttp connector has 100 connections
LENT: Final = 3  # times the highest limit: slots that may be lent at a time
LENT_AT_LEAST: Final = 32
_ROUND: Final = 20  # answers at least, from one look at the limit for all to the next


class Limit:
    """A number of slots, given in the order of the requests. No task waits while a slot is free.

    `now`: how many slots there are, between 1 and `most`; `active`: how many are taken. `most` may change.
    """

    def __init__(self, start: float, most: int) -> None:
        self.now = min(start, most)
        self.active = 0
        self.most = most
        self._was_refused = False
        self._lent = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Wait for a slot."""
        if self.active < int(self.now) and not self._waiting:
            self.active += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # the slot was given in the same moment
            raise

    def release(self) -> None:
        """Give a slot back."""
        self.active -= 1
        self._wake()

    def lend(self) -> bool:
        """Free the slot of a slow owner for others; False where too many are lent: where all are slow, none is free."""
        if self._lent >= max(LENT * self.most, LENT_AT_LEAST):
            return False
        self._lent += 1
        self.release()
        return True

    def end_loan(self) -> None:
        """The owner of a slot that was lent has ended."""
        self._lent -= 1

    def more(self) -> None:
        """An answer was quick, with all slots taken: a round of them gives twice as many; after a refusal, one more."""
        if self.active >= int(self.now) and self.now < self.most:
            self.now = min(self.most, self.now + (1 / self.now if self._was_refused else 1))
            self._wake()

    def less(self) -> None:
        """Half as many slots; at least one."""
        self.now, self._was_refused = max(1.0, self.now / 2), True

    def _wake(self) -> None:
        while self._waiting and self.active < int(self.now):
            turn = self._waiting.popleft()
            if not turn.done():
                self.active += 1
                turn.set_result(None)


class Pace:
    """The limits of a process, for one or several exports. Raises ConfigurationError.

    `most`: requests at a time in all; `each`: of one organization; None: 32 and 8 where answers come within 50 ms, and
    up to three times as many where they take longer. `organizations`: how many are read at a time.
    `patience`: seconds after which a request and its organization no longer count towards `most` and `organizations`,
    so that others start in their place. At most three times `most` (`organizations`) are exempt, or 32 where that is
    more.
    """

    def __init__(
        self, *, most: int | None = None, each: int | None = None, organizations: int = 64, patience: float = 1.0
    ) -> None:
        if min(most or 1, each or 1, organizations) < 1 or 0 in {most, each} or patience <= 0:
            raise ConfigurationError("most, each and organizations are at least 1; patience is more than 0 seconds")
        self.patience = patience
        self.all = Limit(most or _MOST, most or _MOST)
        self.each = each
        self._fits = most is None
        self._usual = _NEAR  # seconds that an answer takes at best, over all organizations
        self._places = Limit(organizations, organizations)
        self._known: WeakValueDictionary[str, OrganizationPace] = WeakValueDictionary()
        self._answers = 0
        self._refused: set[str] = set()
        self._seen: set[str] = set()

    def organization(self, organization: str) -> OrganizationPace:
        """The pace of one organization: the same object for all callers, for as long as one of them has it."""
        pace = self._known.get(organization)
        if pace is None:
            pace = self._known[organization] = OrganizationPace(self, organization)
        return pace

    async def place(self) -> Place:
        """Wait until another organization may start."""
        await self._places.acquire()
        return Place(self._places)

    def fit(self, best: float) -> None:
        """An organization's answers take so many seconds at best: as many requests a second need as many at a time."""
        if self._fits:
            self._usual += (best - self._usual) / _ROUND
            self.all.most = max(int(_MOST * _far(self._usual)), int(self.all.now))

    def answered(self, organization: str, *, refused: bool) -> None:
        """Lower the limit for all where many organizations were refused in the round that this answer ends."""
        self._answers += 1
        self._seen.add(organization)
        if refused:
            self._refused.add(organization)
        if self._answers >= max(_ROUND, 2 * self.all.now):
            if len(self._refused) > max(1, len(self._seen) // 4):
                self.all.less()
            self._answers = 0
            self._refused.clear()
            self._seen.clear()


class Place:
    """One slot of a limit, from its start to its end. It can be lent once in between."""

    def __init__(self, places: Limit) -> None:
        self._places: Limit | None = places
        self._is_lent = False

    def lend(self) -> None:
        """Free it for another one, where the limit allows that."""
        if self._places is not None and not self._is_lent:
            self._is_lent = self._places.lend()

    def leave(self) -> None:
        """End it. Later calls do nothing."""
        places, self._places = self._places, None
        if places is not None:
            if self._is_lent:
                places.end_loan()
            else:
                places.release()

    def left_by(self, task: object) -> None:
        """End it: as a callback of the task that had it."""
        self.leave()


class OrganizationPace:
    """The limit of one organization, shared by all tasks that read it."""

    def __init__(self, pace: Pace, organization: str) -> None:
        self.limit = Limit(_START, pace.each or _EACH)
        self.patience = pace.patience
        self._pace = pace
        self._organization = organization
        self._best = float("inf")
        self._lowered = 0.0
        self._not_before = 0.0
        self._cause: ODataError | None = None  # the answer that asked to wait until then
        self._loop = asyncio.get_running_loop()

    async def run(
        self,
        read: Callable[[], Awaitable[T]],
        slow: Callable[[], object],
        *,
        longest: float = float("inf"),
        turn: Callable[[], Awaitable[AbstractContextManager[object]]] | None = None,
    ) -> T:
        """Call `read` when the limits allow it, and adapt them to the result. Raises the errors of `read` unchanged.

        `slow` is called where it takes longer than `patience`. After 429, 503 and no answer the limit falls. A pause
        that the API asked one task for, or that its rule for 429 has, holds for all tasks of the organization; where it
        is longer than `longest` seconds, the error of that task is raised here. `turn` waits until the rate of requests
        allows one more, and gives the context in which it is made; meanwhile nobody else waits for it.
        """
        await self.limit.acquire()
        try:
            await self._rested(slow, longest)
            with nullcontext() if turn is None else await self._patiently(turn, slow):
                await self._shared(slow, longest)
                return await self._measured(read, slow)
        finally:
            self.limit.release()

    async def _patiently(self, wait: Callable[[], Awaitable[T]], slow: Callable[[], object]) -> T:
        timer = self._loop.call_later(self._pace.patience, slow)
        try:
            return await wait()
        finally:
            timer.cancel()

    async def _rested(self, slow: Callable[[], object], longest: float) -> None:
        """Wait as long as the API asked."""
        while (pause := self._not_before - self._loop.time()) > 0:
            if pause > longest and self._cause is not None:
                raise self._cause.again()
            if pause > self._pace.patience:
                slow()
            await asyncio.sleep(pause)

    async def _shared(self, slow: Callable[[], object], longest: float) -> None:
        """Take a slot of the limit for all."""
        while True:
            await self._rested(slow, longest)
            await self._pace.all.acquire()
            if self._not_before <= self._loop.time():
                return
            self._pace.all.release()

    async def _measured(self, read: Callable[[], Awaitable[T]], slow: Callable[[], object]) -> T:
        began = self._loop.time()
        slot = Place(self._pace.all)

        def too_long() -> None:
            slot.lend()
            slow()

        timer = self._loop.call_later(self._pace.patience, too_long)
        try:
            answer = await read()
        except TribeOAuthError as error:
            self._failed(error, began)
            raise
        else:
            self._answered(self._loop.time() - began)
            return answer
        finally:
            timer.cancel()
            slot.leave()

    def _answered(self, seconds: float) -> None:
        self._pace.answered(self._organization, refused=False)
        # The best time decays slowly: pages of another entity set may take longer, and so may later ones.
        self._best = min(self._best * 1.01, seconds)
        self._pace.fit(self._best)
        if self._pace.each is None:
            self.limit.most = int(_EACH * _far(self._best))
        if seconds <= 4 * self._best + 0.05:
            self.limit.more()
            self._pace.all.more()

    def _failed(self, error: TribeOAuthError, began: float) -> None:
        if not isinstance(error, ODataError) or not error.retryable or error.status not in {429, 503, None}:
            return
        self._pace.answered(self._organization, refused=True)
        now = self._loop.time()
        if began >= self._lowered:  # sent after the limit fell last: it falls once for all requests of a round
            self.limit.less()
            self._lowered = now
        pause = asked_pause(error)
        if pause is not None and now + pause > self._not_before:
            self._not_before, self._cause = now + pause, error


def _far(seconds: float) -> float:
    """How many times as many requests at a time give the same number of answers in a second."""
    return min(max(seconds / _NEAR, 1.0), _FARTHEST)
