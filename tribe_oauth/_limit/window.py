"""The slots of one process, in memory: exact, and half a microsecond for a request."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from tribe_oauth._limit.line import Line, Lot, Terms


class Held:
    """The slots of one kind of request. It is their `Lot`, too: which one a request has makes no difference.

    `held`: how many there are, with those that have ended since `free` was called last.
    """

    __slots__ = ("_ends", "_late", "_line", "_monotonic", "_quiet", "_seconds", "held")

    def __init__(self, line: Line, before: Held | None = None) -> None:
        terms = line.terms
        self._line = line
        self._monotonic = terms.clock.monotonic
        self._seconds = terms.limit.seconds
        self._quiet = terms.quiet + terms.limit.seconds
        # Two, each in the order of time: until when the slots of answered requests are held, and of unanswered ones.
        self._ends: deque[float] = deque() if before is None else before._ends.copy()
        self._late: deque[float] = deque() if before is None else before._late.copy()
        self.held: int = 0 if before is None else before.held
        self._late.extend([self._monotonic() + self._quiet] * (self.held - len(self._ends) - len(self._late)))

    def free(self, now: float) -> int:
        """Let go of those that have ended; how many are left."""
        for queue in (self._ends, self._late):
            while queue and queue[0] <= now:
                queue.popleft()
                self.held -= 1
        return self.held

    def next_end(self) -> float:
        """When the first of them ends, of those whose end is known."""
        return min((queue[0] for queue in (self._ends, self._late) if queue), default=float("inf"))

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """See `Lot`."""
        self._ends.append(self._monotonic() + self._seconds)
        if status == 429 or self._line.refusals:
            self._line.judge(status, headers)

    def lost(self) -> None:
        """See `Lot`."""
        self._late.append(self._monotonic() + self._quiet)

    def unused(self) -> None:
        """See `Lot`."""
        self.held -= 1
        self._line.serve()


class Window(Line):
    """A line whose slots are this process's own."""

    def __init__(self, terms: Terms, organization: str) -> None:
        super().__init__(terms, organization)
        self._held = (Held(self), Held(self))
        self._calls = terms.limit.calls
        self._share = terms.limit.most(background=True, others_wait=False)

    def take(self, background: bool) -> Lot | None:
        """See `Line.take`. As long as there is room, it does not even look at the clock."""
        if self.refusals or self._waiting[0] or self._waiting[1]:
            return None
        people, others = self._held
        if people.held + others.held >= self._calls or (background and others.held >= self._share):
            return self._give(background, self._monotonic())
        own = others if background else people
        own.held += 1
        return own

    def _give(self, background: bool, now: float) -> Lot | None:
        own, other = self._held[background], self._held[not background]
        held = own.free(now)
        if held + other.free(now) >= self._calls:
            return None
        if held >= self.terms.limit.most(background=background, others_wait=self.others_wait(background)):
            return None
        own.held += 1
        return own

    def _more_in(self, now: float) -> float | None:
        end = min(held.next_end() for held in self._held)
        return None if end == float("inf") else end - now

    def _is_used(self, now: float) -> bool:
        return any(held.free(now) for held in self._held)

    def forget_loop(self) -> None:
        """See `Line.forget_loop`."""
        super().forget_loop()
        # New ones: a request of the loop that is gone may still end, as garbage, and would be counted twice.
        self._held = (Held(self, self._held[0]), Held(self, self._held[1]))
