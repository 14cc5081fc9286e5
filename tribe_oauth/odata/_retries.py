"""What passes by itself, and the pause that is right for it. Imported by what reads and writes, and by the export."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import attrs

from tribe_oauth._clock import Clock, SystemClock
from tribe_oauth._retry import Pause, retry
from tribe_oauth.errors import ConfigurationError, TokenEndpointError, TribeOAuthError
from tribe_oauth.odata._answer import ODataError

logger = logging.getLogger("tribe_oauth.odata")

Result = TypeVar("Result")

GIVE_UP_AFTER: Final = 900.0
"""Seconds for which a page is tried, where the caller says nothing else."""
TOO_MANY: Final = 60.0
"""Seconds to wait after a 429 that names no time: a minute or more, then longer; who goes on is blocked (Tribe's rule,
likely and not confirmed)."""
_FIRST: Final = 0.2
_LONGEST: Final = 30.0
_REJECTIONS: Final = 3
"""Attempts after a 401. It was the second in a row; another host may have replaced that token in the same moment."""


def asked_pause(error: ODataError) -> float | None:
    """Seconds before which the API wants nothing of this organization: as it says, or by its rule for 429."""
    return TOO_MANY if error.retry_after is None and error.status == 429 else error.retry_after


@attrs.define
class Pauses:
    """The pauses between the attempts of one page, each kind of failure counted by itself."""

    clock: Clock
    _failures: Counter[int | None] = attrs.field(factory=Counter, init=False)

    def after(self, error: TribeOAuthError) -> Pause | None:
        """The pause after a failure; None: it does not pass by itself."""
        status = error.status if isinstance(error, ODataError) else None
        failures = self._failures[status]
        self._failures[status] += 1
        if not error.retryable and (status != 401 or failures >= _REJECTIONS):
            return None
        growing = 2.0 ** min(failures, 20)
        own = min(_LONGEST, _FIRST * growing) * (1.0 + 0.25 * self.clock.random())
        match error:
            case ODataError(status=429, retry_after=None):
                return Pause(TOO_MANY * growing, TOO_MANY)
            case ODataError(retry_after=asked) if asked is not None:
                return Pause(max(own, asked), asked)
            case TokenEndpointError(next_attempt_at=at) if at is not None:
                asked = at - self.clock.time()
                return Pause(max(own, asked), asked)
        return Pause(own)


async def persistently(
    attempt: Callable[[], Awaitable[Result]],
    *,
    give_up_after: float,
    on_retry: Callable[[TribeOAuthError, float], object],
    may_repeat: Callable[[TribeOAuthError], bool] = lambda _: True,
    clock: Clock | None = None,
) -> Result:
    """The result of an attempt, for example to read a page, tried for `give_up_after` seconds.

    `may_repeat`: whether it may be tried again after this failure, by what it does. Raises the last attempt's error.
    """
    clock = clock or SystemClock()
    pauses = Pauses(clock)

    def pause_after(error: TribeOAuthError) -> Pause | None:
        return pauses.after(error) if may_repeat(error) else None

    return await retry(attempt, pause_after, give_up_after=give_up_after, on_retry=on_retry, clock=clock)


async def patiently(
    attempt: Callable[[], Awaitable[Result]],
    what: str,
    *,
    give_up_after: float,
    may_repeat: Callable[[TribeOAuthError], bool] = lambda _: True,
) -> Result:
    """The same, for who has no other way to tell of a pause: a warning says that ``what`` is done again.

    Raises ConfigurationError where `give_up_after` is no time.
    """
    check_give_up_after(give_up_after)

    def warn(error: TribeOAuthError, seconds: float) -> None:
        logger.warning("%s again in %.1f s: %s", what, seconds, error)

    return await persistently(attempt, give_up_after=give_up_after, on_retry=warn, may_repeat=may_repeat)


def check_give_up_after(seconds: float) -> None:
    """Raise ConfigurationError for what is no time."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise ConfigurationError("give_up_after is a number of seconds, not negative; 0: nothing is tried again")
