"""Attempts of one thing until one succeeds, for so many seconds: the loop, and nothing of what it is for.

Imported by `odata`, which says what may be tried again and when, for its own reads and for those of an export. A
refresh has rules of its own (`_oauth.verdict`): what it spends works once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import attrs

from tribe_oauth._clock import Clock
from tribe_oauth.errors import TribeOAuthError

Result = TypeVar("Result")

_NOTHING: Final = 0.001
"""Seconds: what may be left of a time that was slept to its end."""


@attrs.frozen
class Pause:
    """Seconds from a failure to the next attempt: `wanted`, or less where time is short, but `least` in any case."""

    wanted: float
    least: float = 0.0

    def within(self, left: float) -> float | None:
        """The pause where so many seconds are left; None: they are too few."""
        return None if left < _NOTHING or self.least > left else min(self.wanted, left)


async def retry(
    attempt: Callable[[], Awaitable[Result]],
    pause_after: Callable[[TribeOAuthError], Pause | None],
    *,
    give_up_after: float,
    on_retry: Callable[[TribeOAuthError, float], object],
    clock: Clock,
) -> Result:
    """The result of the first attempt that succeeds.

    `pause_after` judges each failure; None: it is raised. Raised is also one after which no attempt could begin within
    `give_up_after` seconds of the first failure. `on_retry` is told the failure and the seconds of the pause.
    """
    ends: float | None = None
    while True:
        try:
            return await attempt()
        except TribeOAuthError as failure:
            now = clock.monotonic()
            ends = now + give_up_after if ends is None else ends
            pause = pause_after(failure)
            seconds = None if pause is None else pause.within(ends - now)
            if seconds is None:
                raise
            on_retry(failure, seconds)
        # After the handler: the next failure is not to carry this one along.
        await clock.sleep(seconds)
