"""How many requests at a time: a limit for each organization and one for all, each found by trying.

The rule is TCP's (RFC 5681 §3.1): one more for each round of quick answers, half when the other side has had enough.
What keeps organizations out of each other's way: a request that takes long lends its share of what is for all to
others, within bounds; Retry-After holds back only the organization that was told to wait, and the limit for all falls
only when many organizations are refused, not when one is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from tribe_oauth.errors import ConfigurationError, TribeOAuthError
from tribe_oauth.odata import ODataError

T = TypeVar("T")

_START: Final = 2  # requests at a time, of an organization that nothing is known of
LENT: Final = 3  # times as many as there may be at a time
LENT_AT_LEAST: Final = 32
_ROUND: Final = 20  # answers at least, before the limit for all may fall


class Limit:
    """So many at a time, first come first served. No task ever waits for a slot that is free."""

    def __init__(self, start: float, most: int) -> None:
        self.now = min(start, most)
        self.active = 0
        self._most = most
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
                self.release()  # it was given in the moment of the cancellation
            raise

    def release(self) -> None:
        """Give a slot back."""
        self.active -= 1
        self._wake()

    def lend(self) -> bool:
        """Give a slot to others while its owner is slow. Not without end: where all are slow, more would not help."""
        if self._lent >= max(LENT * self._most, LENT_AT_LEAST):
            return False
        self._lent += 1
        self.release()
        return True

    def returned(self) -> None:
        """Whoever lent a slot is done with its own work."""
        self._lent -= 1

    def more(self) -> None:
        """An answer was quick: one more for each round, as long as all slots are in use."""
        if self.active >= int(self.now):
            self.now = min(self._most, self.now + 1 / self.now)
            self._wake()

    def less(self) -> None:
        """Half of it."""
        self.now = max(1.0, self.now / 2)

    def _wake(self) -> None:
        while self._waiting and self.active < int(self.now):
            turn = self._waiting.popleft()
            if not turn.done():
                self.active += 1
                turn.set_result(None)


class Pace:
    """The pace of a process, for one or several exports.

    `most`: requests at a time in all; `each`: of one organization; `organizations`: how many are read at a time.
    `patience`: seconds after which a request, and its organization, no longer count among those, so that others take
    their place: up to three times as many as may be at a time, and 32 at least.
    """

    def __init__(self, *, most: int = 32, each: int = 8, organizations: int = 64, patience: float = 1.0) -> None:
        if min(most, each, organizations) < 1 or patience <= 0:
            raise ConfigurationError("most, each and organizations are at least 1; patience is more than 0 seconds")
        self.patience = patience
        self.all = Limit(max(8, most // 4), most)
        self._each = each
        self._places = Limit(organizations, organizations)
        self._known: WeakValueDictionary[str, OrganizationPace] = WeakValueDictionary()
        self._answers = 0
        self._refused: set[str] = set()
        self._seen: set[str] = set()

    def organization(self, organization: str) -> OrganizationPace:
        """The pace of one organization: the same for all who ask while somebody has it."""
        pace = self._known.get(organization)
        if pace is None:
            pace = self._known[organization] = OrganizationPace(self, organization, self._each)
        return pace

    async def place(self) -> Place:
        """Wait until another organization may begin."""
        await self._places.acquire()
        return Place(self._places)

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
    """One place among several. It may be lent while it is slow, and is left at the end."""

    def __init__(self, places: Limit) -> None:
        self._places: Limit | None = places
        self._is_lent = False

    def lend(self) -> None:
        """Let another one begin, where that is not one too many."""
        if self._places is not None and not self._is_lent:
            self._is_lent = self._places.lend()

    def leave(self) -> None:
        """Done with it."""
        places, self._places = self._places, None
        if places is not None:
            if self._is_lent:
                places.returned()
            else:
                places.release()

    def is_left(self, task: object) -> None:
        """For whoever tells that a task has ended."""
        self.leave()


class OrganizationPace:
    """One organization's limit, shared by all tasks that read it."""

    def __init__(self, pace: Pace, organization: str, each: int) -> None:
        self.limit = Limit(_START, each)
        self._pace = pace
        self._organization = organization
        self._best = float("inf")
        self._lowered = 0.0
        self._not_before = 0.0
        self._told: ODataError | None = None  # what said so
        self._loop = asyncio.get_running_loop()

    async def run(
        self, read: Callable[[], Awaitable[T]], slow: Callable[[], object], *, longest: float = float("inf")
    ) -> T:
        """Read when it is time, and learn from how that went. `slow` is called where it takes longer than `patience`.

        Errors come as they are. 429, 503 and no answer at all mean: less. Where the API told another task to wait for
        more than `longest` seconds, what it said is raised here too.
        """
        await self.limit.acquire()
        try:
            await self._shared(slow, longest)
            return await self._measured(read, slow)
        finally:
            self.limit.release()

    async def _shared(self, slow: Callable[[], object], longest: float) -> None:
        """A slot of those for all, once the organization may be asked again."""
        while True:
            while (pause := self._not_before - self._loop.time()) > 0:
                if pause > longest and self._told is not None:
                    raise self._told.again()
                if pause > self._pace.patience:
                    slow()
                await asyncio.sleep(pause)
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
        # The best so far, slowly forgotten: a page of another entity set, or of tomorrow, may take longer.
        self._best = min(self._best * 1.01, seconds)
        if seconds <= 4 * self._best + 0.05:
            self.limit.more()
            self._pace.all.more()

    def _failed(self, error: TribeOAuthError, began: float) -> None:
        if not isinstance(error, ODataError) or not error.retryable or error.status not in {429, 503, None}:
            return
        self._pace.answered(self._organization, refused=True)
        now = self._loop.time()
        if began >= self._lowered:  # else it was on its way before the limit fell: once a round is enough
            self.limit.less()
            self._lowered = now
        if error.retry_after is not None and now + error.retry_after > self._not_before:
            self._not_before, self._told = now + error.retry_after, error
