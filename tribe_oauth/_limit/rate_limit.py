"""The rule that the API sets, as the caller gives it. May be imported by everything."""

from __future__ import annotations

import math
from typing import Final

import attrs

from tribe_oauth.errors import ConfigurationError

_KEPT: Final = 20
"""Of so many slots, one is kept for the kind of request that has to wait for the other."""


@attrs.frozen
class RateLimit:
    """So many calls in any so many seconds, for each client id and organization.

    `calls`, `seconds`: the API's rule. Tribe's is said to be 1,000 in 60 s; give less where other programs use the same
    Application. `share`: the part of the calls that exports may have, more than 0 and at most 1; the rest is free at
    once for requests that people wait for, which go first in any case. `longest_wait`: seconds for which a request
    waits for its turn; after that it raises TemporarilyUnavailable, with `next_attempt_at`. Raises ConfigurationError.
    """

    calls: int = 1000
    seconds: float = 60.0
    share: float = 1.0
    longest_wait: float = 60.0

    def __attrs_post_init__(self) -> None:
        if isinstance(self.calls, bool) or not isinstance(self.calls, int) or self.calls < 1:
            raise ConfigurationError("RateLimit: calls is a whole number, at least 1; None in its place turns it off")
        if not 0 < self.seconds < math.inf or not 0 < self.share <= 1 or not self.longest_wait >= 0:
            raise ConfigurationError(
                "RateLimit: seconds is more than 0, share more than 0 and at most 1, and longest_wait not negative"
            )

    @property
    def kept(self) -> int:
        """Slots that an export keeps while people wait: a twentieth."""
        return min(max(1, self.calls // _KEPT), self.calls - 1)

    def most(self, *, background: bool, others_wait: bool) -> int:
        """Slots that one kind of request may hold; `others_wait`: requests of the other kind do."""
        if background:
            most = max(1, int(self.calls * self.share))
            return min(most, self.kept) if others_wait else most
        return self.calls - self.kept if others_wait else self.calls
