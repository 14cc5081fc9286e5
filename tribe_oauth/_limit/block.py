"""Some slots that one process has at once, for the requests of about a second. For `shared`."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping
from typing import Final

from tribe_oauth._limit.ledger import COVER
from tribe_oauth._limit.line import Line, Terms

_LIVES: Final = 60
"""A block is for so small a part of the limit's time: for a second, by Tribe's rule."""


def life_of(terms: Terms) -> float:
    """Seconds for which something is sent from a block."""
    return min(1.0, terms.limit.seconds / _LIVES)


class Block:
    """So many slots. It is the `Lot` of each of its requests.

    `left`: those that nothing was sent with. `known`: how many the store has under its name. `spent`: for each answer
    that the store does not know of, the moment (monotonic) from which on its slot is held for `seconds`. `closed`:
    nothing more is sent from it. `ended` is called where no request is in flight any more either.
    """

    __slots__ = (
        *("_clock", "_ended", "_life", "_line"),
        *("background", "closed", "in_flight", "known", "left", "name", "opened", "spent", "told", "used"),
    )

    def __init__(self, line: Line, background: bool, slots: int, ended: Callable[[Block], object]) -> None:
        self.name = uuid.uuid4().hex[:16]
        self.background = background
        self.left = slots
        self.used = 0
        self.in_flight = self.known = 0
        self.spent: list[float] = []
        self.closed = False
        self._line = line
        self._clock = line.terms.clock.monotonic
        self._life = life_of(line.terms)
        self._ended = ended
        self.opened = self.told = self._clock()

    @property
    def held(self) -> int:
        """Slots whose end is not known."""
        return self.in_flight + self.left

    @property
    def look_at(self) -> float:
        """When something has to be done about it, by itself."""
        return self.told + COVER / 2 if self.closed else self.opened + self._life

    def has_news(self, now: float) -> bool:
        """Whether the store has to hear of it."""
        return self.known != self.held or bool(self.spent) or (self.closed and now >= self.look_at)

    def give(self, now: float) -> bool:
        """One of its slots to a request, where it has one and is not too old."""
        if not self.left or now >= self.opened + self._life:
            return False
        self.left -= 1
        self.used += 1
        self.in_flight += 1
        return True

    def need(self, now: float) -> int:
        """How many the next one should have: what was used in its time, twice as many as here at most."""
        if self.left:
            return max(1, self.used)
        return min(2 * self.used, math.ceil(self.used * self._life / max(now - self.opened, 0.001))) or 1

    def close(self) -> None:
        """Nothing is sent from it any more. What was not used goes back."""
        self.closed, self.left = True, 0
        if not self.in_flight:
            self._ended(self)

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """See `Lot`."""
        self.spent.append(self._clock())
        self._done()
        if status == 429 or self._line.refusals:
            self._line.judge(status, headers)

    def lost(self) -> None:
        """See `Lot`."""
        self.spent.append(self._clock() + self._line.terms.quiet)
        self._done()

    def unused(self) -> None:
        """See `Lot`."""
        self.used -= 1
        if not self.closed:
            self.left += 1
        self._done()
        self._line.serve()

    def _done(self) -> None:
        self.in_flight -= 1
        if not self.in_flight and not self.left:
            self._ended(self)
