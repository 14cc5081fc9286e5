"""Reading the pages of one entity set at its organization's pace, each until it is there. Imported by `_export`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import attrs

from tribe_oauth._limit.reservation import Reservation, reserve
from tribe_oauth.errors import TribeOAuthError
from tribe_oauth.odata import ODataError, Page
from tribe_oauth.odata._pages import Reader
from tribe_oauth.odata._retries import persistently
from tribe_oauth.sync._pace import OrganizationPace

_GONE: Final = frozenset({400, 404, 410})  # what servers answer to a link that has expired


@attrs.define(eq=False, kw_only=True)
class PersistentReader:
    """Reads pages, each for `give_up_after` seconds from its first failure, and `request_timeout` for each attempt.

    `starts`: the positions of an earlier run. `on_slow` is called where an attempt, or the pause before it, takes
    longer than the pace's patience, `on_retry` before each further attempt.
    """

    reader: Reader
    pace: OrganizationPace
    give_up_after: float
    request_timeout: float
    starts: frozenset[str]
    on_slow: Callable[[], object]
    on_retry: Callable[[TribeOAuthError], object]

    async def page(self, position: str | None) -> Page:
        """The page at a position. Raises the error of the last attempt."""
        try:
            return await persistently(
                lambda: self._attempt(position), give_up_after=self.give_up_after, on_retry=self._before_retry
            )
        except ODataError as error:
            if position not in self.starts or error.status not in _GONE:
                raise
            text, status = str(error), error.status
        raise ODataError(
            f"{text}; an earlier run stopped here, and the API no longer knows the link to the next page: restart",
            status=status,
        )

    def _before_retry(self, error: TribeOAuthError, seconds: float) -> None:
        if seconds > self.pace.patience:
            self.on_slow()
        self.on_retry(error)

    async def _attempt(self, position: str | None) -> Page:
        return await self.pace.run(
            lambda: self._within_time(position), self.on_slow, longest=self.give_up_after, turn=self._turn
        )

    async def _turn(self) -> Reservation:
        """The slot of its first request: no time-out runs while it waits for that."""
        return await reserve(self.reader.session, self.give_up_after)

    async def _within_time(self, position: str | None) -> Page:
        seconds = self.request_timeout
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self.reader.page(position)
        except TimeoutError:
            if not limit.expired():
                raise  # of a store or a middleware, not of this request
        raise ODataError(f"no whole answer came from the API within {seconds:g} seconds", retryable=True)
