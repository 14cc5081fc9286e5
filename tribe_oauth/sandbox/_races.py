"""Refreshes with one refresh token at the same instant: who wins, by the version of the server and by chance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from attrs import Factory, define

from tribe_oauth.sandbox._profiles import Race
from tribe_oauth.sandbox._refusals import SERVER_ERROR, RefusedError


@define(eq=False)
class _Contest:
    """The refreshes with one token that are under way. `presented`: how many there were, refused ones included."""

    began: float
    presented: int = 1
    running: int = 0
    over: asyncio.Event = Factory(asyncio.Event)


@define(eq=False)
class Races:
    """All refreshes under way.

    `chance` is seeded: the same requests in the same order end in the same way. `window`: seconds after the beginning
    of the first in which another one is at the same instant.
    """

    race: Race
    chance: Random
    window: float
    _contests: dict[str, _Contest] = Factory(dict)

    @asynccontextmanager
    async def refreshing(self, mark: str) -> AsyncIterator[bool]:
        """Inside of the context, the refresh token with this fingerprint is being spent.

        Gives whether it had to wait for others to end: then the token has to be checked again. Raises RefusedError
        for one that loses and does no harm.
        """
        now, waited = asyncio.get_running_loop().time(), False
        if (contest := self._contests.get(mark)) is not None:
            contest.presented += 1
            waited = now - contest.began >= self.window or self._is_late(contest.presented)
            if waited:
                await contest.over.wait()
        contest = self._contests.setdefault(mark, _Contest(now))
        contest.running += 1
        try:
            yield waited
        finally:
            contest.running -= 1
            if not contest.running:
                del self._contests[mark]
                contest.over.set()

    def _is_late(self, place: int) -> bool:
        """Whether one at the same instant has to wait for those under way, instead of being saved along with them."""
        if place > 2 and self.chance.random() < self.race.fails:
            raise RefusedError(SERVER_ERROR)
        drawn = self.chance.random()
        if drawn >= self.race.both + self.race.reuse:
            raise RefusedError(self.chance.choice(self.race.refused))
        return drawn >= self.race.both
