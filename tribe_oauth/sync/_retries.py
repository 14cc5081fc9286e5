"""Reading the pages of one entity set at its organization's pace, with retries by stamina. Imported by `_export`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import attrs
import stamina

from tribe_oauth.errors import ConfigurationError, TokenEndpointError, TribeOAuthError
from tribe_oauth.odata import ODataError, Page
from tribe_oauth.odata._pages import Reader
from tribe_oauth.sync._pace import OrganizationPace

_GONE: Final = frozenset({400, 404, 410})  # what servers answer to a link that has expired


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How long a page is tried for. Raises ConfigurationError.

    `attempts`: for each page; `request_timeout`: seconds for each attempt; `longest_pause`: seconds: where the API or
    the token endpoint asks for a longer pause, that is a failure.
    """

    attempts: int
    request_timeout: float
    longest_pause: float

    def __attrs_post_init__(self) -> None:
        if self.attempts < 1 or self.request_timeout <= 0 or self.longest_pause < 0:
            raise ConfigurationError("attempts is at least 1, request_timeout more than 0, longest_pause not negative")

    def allows(self, error: Exception) -> bool | float:
        """Whether to send again after an error, or the seconds to wait before; a pause of the API's is the pace's."""
        if isinstance(error, ODataError):
            # This 401 is the second in a row: another host may have replaced the second token at the same moment.
            return (error.retryable or error.status == 401) and (error.retry_after or 0.0) <= self.longest_pause
        if isinstance(error, TokenEndpointError) and error.retryable and error.next_attempt_at is not None:
            pause = max(0.1, error.next_attempt_at - time.time())
            return pause if pause <= self.longest_pause else False
        return isinstance(error, TribeOAuthError) and error.retryable


@attrs.define(eq=False, kw_only=True)
class PersistentReader:
    """Reads pages, each until it is there or the policy says to stop.

    `start`: the position of an earlier run. `on_slow` is called where an attempt takes longer than the pace's patience,
    `on_retry` before each further attempt.
    """

    reader: Reader
    pace: OrganizationPace
    policy: RetryPolicy
    start: str | None
    on_slow: Callable[[], object]
    on_retry: Callable[[TribeOAuthError], object]

    async def page(self, position: str | None) -> Page:
        """The page at a position. Raises the error of the last attempt."""
        try:
            return await self._attempt(position)
        except TribeOAuthError as error:
            failed = error
        try:
            return await self._retry(position, failed)
        except ODataError as error:
            if position is None or position != self.start or error.status not in _GONE:
                raise
            text, status = str(error), error.status
        raise ODataError(
            f"{text}; an earlier run stopped here, and the API no longer knows the link to the next page: restart",
            status=status,
        )

    async def _attempt(self, position: str | None) -> Page:
        return await self.pace.run(lambda: self._within_time(position), self.on_slow, longest=self.policy.longest_pause)

    async def _retry(self, position: str | None, failed: TribeOAuthError) -> Page:
        """Further attempts. What stamina takes for the first one has been made: most pages need no stamina at all."""
        attempts = 0

        async def attempt() -> Page:
            nonlocal attempts, failed
            attempts += 1
            if attempts == 1:
                raise failed
            self.on_retry(failed)
            try:
                return await self._attempt(position)
            except TribeOAuthError as error:
                failed = error
                raise

        retry = stamina.AsyncRetryingCaller(
            attempts=self.policy.attempts, timeout=None, wait_initial=0.2, wait_max=30.0, wait_jitter=0.2
        )
        return await retry(self.policy.allows, attempt)

    async def _within_time(self, position: str | None) -> Page:
        seconds = self.policy.request_timeout
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self.reader.page(position)
        except TimeoutError:
            if not limit.expired():
                raise  # of a store or a middleware, not of this request
        raise ODataError(f"no whole answer came from the API within {seconds:g} seconds", retryable=True)
