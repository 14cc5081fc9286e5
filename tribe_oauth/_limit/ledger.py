"""The slots of all processes that share a store, as a value. All times are the store's; nothing here knows a clock.

A block has a name as long as its process may send from it or waits for an answer. A slot whose answer came has an end
and no name: those of all processes that end about the same time are one number, so that the value stays small.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Final

import attrs

from tribe_oauth._limit.line import REMEMBERED
from tribe_oauth._limit.rate_limit import RateLimit

COVER: Final = 120.0
"""Seconds for which a block is taken, beside those of the limit: for so long its process may be silent, or dead."""
WAITING: Final = 2.0
"""Seconds for which one who waits is taken to wait; it says so again every second."""
_GRAINS: Final = 240
"""Ends within so small a part of the limit's time are one: within a quarter of a second, by Tribe's rule."""
_LONGEST_STOP: Final = 90_000.0
"""Seconds: a stop that seems to last longer is of another clock, as after a reboot."""


@attrs.define(eq=False)
class Ledger:
    """What is held, and what the API refused.

    `blocks`: whether it is the background's, slots and end, by name. `spent`: ends and numbers of slots, people's and
    the background's. `waiting`: until when requests of either kind are taken to wait. `refusals`, `until`: as in
    `Line`. `probe`: until when it is waited for what came of the probe under way. `changed`: it has to be written.
    """

    blocks: dict[str, tuple[bool, int, float]] = attrs.Factory(dict)
    spent: tuple[dict[float, int], dict[float, int]] = attrs.Factory(lambda: ({}, {}))
    waiting: list[float] = attrs.Factory(lambda: [0.0, 0.0])
    refusals: int = 0
    until: float = 0.0
    probe: float = 0.0
    changed: bool = False

    @classmethod
    def read(cls, stored: bytes, now: float, longest: float) -> Ledger:
        """What still stands of it. Nothing is held for more than `longest` seconds: a clock that was set back held it.

        What cannot be read is as if it were not there.
        """
        last = now + longest
        try:
            blocks, spent, (people, others), refusals, until, probe = json.loads(stored or _NOTHING)
            return cls(
                {
                    name: (bool(background), int(slots), min(end, last))
                    for name, (background, slots, end) in blocks.items()
                    if end > now
                },
                (_standing(spent[0], now, last), _standing(spent[1], now, last)),
                [min(float(people), now + WAITING), min(float(others), now + WAITING)],
                int(refusals),
                min(float(until), now + _LONGEST_STOP),
                min(float(probe), last),
            )
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return cls()

    def written(self) -> bytes:
        """As it is stored."""
        spent = [[[*kind], [*kind.values()]] for kind in self.spent]
        return _encode([self.blocks, spent, self.waiting, self.refusals, self.until, self.probe]).encode()

    def ends(self, now: float) -> float:
        """Seconds after which nothing of it stands any more. Refusals are remembered for an hour after the stop."""
        ends = [end for _, _, end in self.blocks.values()] + [end for kind in self.spent for end in kind]
        return max([*ends, *self.waiting, self.until + REMEMBERED if self.refusals else 0.0]) - now

    def held(self, background: bool) -> int:
        """Slots that one kind of request holds, in all processes."""
        return sum(self.spent[background].values()) + sum(
            slots for kind, slots, _ in self.blocks.values() if kind is background
        )

    def take(self, name: str, background: bool, wanted: int, limit: RateLimit, now: float) -> int:
        """Take so many slots, or as many as there are, as a block of this name. 0: those who want them wait.

        After a stop it is one, the probe; the next may go when it is known what came of it, or `seconds` later.
        """
        if now < max(self.until, self.probe):
            return 0
        own, other = self.held(background), self.held(not background)
        most = limit.most(background=background, others_wait=self.waiting[not background] > now)
        granted = min(wanted, limit.calls - own - other, most - own)
        if granted <= 0:
            if self.waiting[background] < now + WAITING / 2:
                self.waiting[background], self.changed = now + WAITING, True
            return 0
        if self.refusals:
            granted, self.probe = 1, now + limit.seconds
        self.blocks[name], self.changed = (background, granted, now + COVER + limit.seconds), True
        return granted

    def tell(
        self, name: str, background: bool, held: int, spent: Iterable[float], limit: RateLimit, now: float
    ) -> None:
        """What has become of a block: so many of its slots may still be used, and these ends have the others."""
        self.changed = True
        if held:
            self.blocks[name] = (background, held, now + COVER + limit.seconds)
        else:
            self.blocks.pop(name, None)
        kind, grain = self.spent[background], limit.seconds / _GRAINS
        for end in spent:
            if end > now:
                rounded = math.ceil(end / grain) * grain
                kind[rounded] = kind.get(rounded, 0) + 1

    def stop(self, refusals: int, until: float) -> None:
        """The API refused."""
        self.changed = True
        self.refusals, self.until, self.probe = max(self.refusals, refusals), max(self.until, until), 0.0

    def go_on(self) -> None:
        """The API took a probe."""
        self.refusals, self.until, self.probe, self.changed = 0, 0.0, 0.0, True

    def more_in(self, now: float, longest: float) -> float:
        """Seconds until there may be more, so many at most: others give back what they don't use."""
        ends = [end for kind in self.spent for end in kind]
        return min([longest, *(max(end - now, longest / 50) for end in ends)])


def _standing(spent: tuple[list[float], list[int]], now: float, last: float) -> dict[float, int]:
    standing = {end: slots for end, slots in zip(*spent, strict=True) if now < end}
    if standing and max(standing) > last:
        late = [end for end in standing if end > last]
        standing[last] = standing.get(last, 0) + sum(standing.pop(end) for end in late)
    return standing


_NOTHING: Final = b"[{},[[[],[]],[[],[]]],[0,0],0,0,0]"
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
