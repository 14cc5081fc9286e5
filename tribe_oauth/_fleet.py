"""Many organizations at once: warming up, and keeping idle ones alive. For the manager only.

What is due is found by the store's index: neither start-up nor an idle hour grows with the number of organizations.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from tribe_oauth._flights import Flights
from tribe_oauth._parts import Held, Parts, logger
from tribe_oauth._refresh import Wanted
from tribe_oauth._token import Token
from tribe_oauth.errors import StoreError, TribeOAuthError

IDLE: Final = 20 * 24 * 3600.0
"""Seconds after which an organization that nobody asks for is refreshed all the same: its refresh token dies after 30
days without use (720 hours, the authorization server's default)."""
LOOK_FOR_IDLE: Final = 3600.0
"""Seconds between two looks for such organizations, on average."""
AT_ONCE: Final = 10
"""Idle organizations that are refreshed at a time: there is no hurry."""


async def warm_up(parts: Parts, flights: Flights, *, concurrency: int) -> dict[str, Token | TribeOAuthError]:
    """Refresh what is due in the store, then what only memory knows of: client credentials."""
    now = parts.clock.monotonic()

    async def due() -> AsyncIterator[str]:
        async for organization in parts.store.due(parts.clock.time()):
            held = flights.held.get(organization)
            if held is None or held.due <= now:
                yield organization
        for known, held in list(flights.held.items()):
            if known is not None and held.credential.kind == "client_credentials" and held.due <= now:
                yield known

    return await _refresh_all(flights, due(), concurrency)


async def keep_alive(parts: Parts, flights: Flights) -> None:
    """Until the manager closes: now and then, refresh what has been due for long and nobody asked for."""
    while await parts.pause(LOOK_FOR_IDLE * (0.5 + parts.clock.random())):
        try:
            idle = parts.store.due(parts.clock.time() - IDLE)
            results = await _refresh_all(flights, idle, AT_ONCE)
        except StoreError as error:
            logger.warning("idle organizations could not be looked for: %s", error)
            continue
        if results:
            logger.info("%d idle organizations were refreshed", len(results))


async def _refresh_all(
    flights: Flights, organizations: AsyncIterator[str], concurrency: int
) -> dict[str, Token | TribeOAuthError]:
    """No tasks but the flights' own, which go on when the caller is cancelled."""
    results: dict[str, Token | TribeOAuthError] = {}
    under_way: set[asyncio.Future[Held]] = set()
    free = asyncio.Semaphore(concurrency)

    def landed(organization: str, future: asyncio.Future[Held]) -> None:
        free.release()
        under_way.discard(future)
        error = future.exception()
        assert error is None or isinstance(error, TribeOAuthError)
        results[organization] = error or future.result().token

    async for organization in organizations:
        await free.acquire()
        wanted = Wanted(organization=organization, held=flights.held.get(organization), ahead=True)
        future = flights.join(wanted)
        under_way.add(future)
        future.add_done_callback(partial(landed, organization))
    if under_way:
        await asyncio.wait(under_way)
    return results
