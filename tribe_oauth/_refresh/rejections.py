"""How far a 401 of the API is believed, and how often a token may be rotated for one.

One path can refuse every token for ever, because a right is missing, while all others take it: a rotation for each such
answer would burn one for every page view. But after a real revocation the next request has to recover.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from tribe_oauth._oauth.values import Token

RECENTLY: Final = 60.0
"""Seconds for which a token that the API took somewhere is held to be good everywhere."""
SOON: Final = 5.0
"""Seconds between the first rotations for refusals that are sure."""
FIRST_PAUSE: Final = 60.0
LONGEST_PAUSE: Final = 2400.0
"""Seconds between further rotations."""
FORGOTTEN: Final = 7200.0
"""Seconds after which an earlier rotation does not count."""
APART: Final = 60.0
"""Seconds by which another host's clock may be ahead, so that a rotation seems to be yet to come."""
MAX_SETS: Final = 1000


class Belief(enum.Enum):
    """What a 401 says about the token."""

    SURE = "a set that took it refuses it now, twice"
    POSSIBLE = "nothing took it of late"
    DOUBTED = "others take it: the fault is not the token's"


class Acceptance:
    """What one organization's token was accepted for, in this process. `monotonic` gives the time."""

    __slots__ = ("_last", "_monotonic", "_sets", "_token")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._token: Token | None = None
        self._sets: set[str] = set()
        self._last = 0.0

    def accepted(self, token: Token, path: str) -> None:
        """The API took this token for a path."""
        if token is not self._token:
            self._token = token
            self._sets = set()
        self._last = self._monotonic()
        if len(self._sets) < MAX_SETS:
            self._sets.add(path.partition("(")[0])  # an entity's key is not its set

    def is_known(self, token: Token, path: str) -> bool:
        """Whether this very set took this very token: then it is worth asking once more."""
        return token is self._token and path.partition("(")[0] in self._sets

    def belief(self, token: Token) -> Belief:
        """What any other 401 says."""
        recent = token is self._token and self._monotonic() - self._last < RECENTLY
        return Belief.DOUBTED if recent else Belief.POSSIBLE


def is_too_soon(count: int, seconds: float, *, sure: bool) -> bool:
    """Whether it is too soon for another rotation for a 401, after so many of them, so long after the last one."""
    if not count or not -APART <= seconds < FORGOTTEN:
        return False
    pause = SOON if sure and count < 3 else min(FIRST_PAUSE * 2.0 ** (count - 1), LONGEST_PAUSE)
    return seconds < pause


def counted(count: int, seconds: float) -> int:
    """How many rotations there were, this one included."""
    return count + 1 if -APART <= seconds < FORGOTTEN else 1
