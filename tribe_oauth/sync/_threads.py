"""File work in threads that never outlives its owner. Imported by `_jsonl`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.errors import ConfigurationError

T = TypeVar("T")


class Threads:
    """Runs functions in threads, until it is closed; then none of them runs any more."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Future[Any]] = set()
        self._is_closed = False

    def start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` in a thread. Not to be cancelled: a thread cannot be stopped, and would run on unseen.

        Raises ConfigurationError after `close`.
        """
        if self._is_closed:
            raise ConfigurationError("this sink is closed: use it inside its `async with`")
        future = asyncio.get_running_loop().run_in_executor(None, work)
        self._under_way.add(future)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._under_way.discard(future)
        with contextlib.suppress(asyncio.CancelledError):  # of an executor that was shut down
            future.exception()  # marks it as retrieved: a caller that was cancelled does not

    async def close(self) -> None:
        """Start nothing any more, and wait for what runs. A cancellation is raised after that."""
        self._is_closed = True
        await run_uninterrupted(asyncio.gather(*self._under_way, return_exceptions=True))
