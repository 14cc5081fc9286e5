"""Many organizations at once: warming up, and keeping idle ones alive.

What is due is found by the store's index: neither start-up nor an idle hour grows with the number of organizations.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from tribe_oauth._oauth.messages import MAX_EXPIRES_IN
from tribe_oauth._oauth.values import Token
from tribe_oauth._refresh.cached_token import CachedToken
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.refresh import RefreshParameters
from tribe_oauth._refresh.single_flight import SingleFlight
from tribe_oauth._shield import closing
from tribe_oauth.errors import StoreError, TribeOAuthError

logger = logging.getLogger("tribe_oauth.warm_up")

IDLE: Final = 20 * 24 * 3600.0
"""Seconds after which an organization is refreshed although no caller asks for it: its refresh token dies after 30 days
without use (720 hours, the authorization server's default)."""
LOOK_FOR_IDLE: Final = 3600.0
"""Seconds between two looks for such organizations, on average."""
LOOK_AT_ALL: Final = 5 * 24 * 3600.0
"""Seconds between two looks at all organizations, on average: for those that a host with a wrong clock has put off."""
FURTHEST: Final = MAX_EXPIRES_IN + 24 * 3600.0
"""Seconds ahead: nothing is due later."""
AT_ONCE: Final = 10
"""Idle organizations that are refreshed at a time: there is no hurry."""


async def warm_up(
    context: RefreshContext, single_flight: SingleFlight, *, concurrency: int
) -> dict[str, Token | TribeOAuthError]:
    """Refresh what is due in the store, then what only memory knows of: client credentials."""
    now = context.clock.monotonic()

    async def due() -> AsyncIterator[str]:
        async with closing(context.store.due(context.clock.time())) as organizations:
            async for organization in organizations:
                cached = single_flight.tokens.get(organization)
                if cached is None or cached.due <= now:
                    yield organization
        for known, cached in list(single_flight.tokens.items()):
            if known is not None and cached.credential.kind == "client_credentials" and cached.due <= now:
                yield known

    return await _refresh_all(single_flight, due(), concurrency)


async def keep_alive(context: RefreshContext, single_flight: SingleFlight) -> None:
    """Until the manager closes: now and then, refresh what has been due for long without being asked for."""
    look_at_all = _soon(context, LOOK_AT_ALL)
    while await context.tasks.pause(LOOK_FOR_IDLE * (0.5 + context.clock.random())):
        try:
            results = await _refresh_all(single_flight, context.store.due(context.clock.time() - IDLE), AT_ONCE)
            if context.clock.monotonic() >= look_at_all:
                results |= await _refresh_all(single_flight, _put_off(context), AT_ONCE)
                look_at_all = _soon(context, LOOK_AT_ALL)
        except StoreError as error:
            logger.warning("idle organizations could not be looked for: %s", error)
            continue
        except Exception:
            # Of whatever kind: without this task, every idle organization is lost within a month.
            logger.exception("idle organizations could not be looked for: it is tried again within two hours")
            continue
        if results:
            logger.info("%d idle organizations were refreshed", len(results))


def _soon(context: RefreshContext, seconds: float) -> float:
    return context.clock.monotonic() + seconds * (0.5 + context.clock.random())


async def _put_off(context: RefreshContext) -> AsyncIterator[str]:
    """Organizations whose token is due at a time that no clock which is right can have written."""
    async with closing(context.store.organizations()) as organizations:
        async for organization in organizations:
            try:
                record = await context.store.load(organization)
            except StoreError as error:
                if error.organization is None:
                    raise  # it is not about this one
                logger.error("organization %r is not kept alive: %s", organization, error)  # noqa: TRY400 (the text says all)
                continue
            if record is not None and (record.due_at or 0.0) > context.clock.time() + FURTHEST:
                yield organization


async def _refresh_all(
    single_flight: SingleFlight, organizations: AsyncIterator[str], concurrency: int
) -> dict[str, Token | TribeOAuthError]:
    """No tasks but the refreshes themselves, which go on when the caller is cancelled."""
    results: dict[str, Token | TribeOAuthError] = {}
    under_way: set[asyncio.Future[CachedToken]] = set()
    free = asyncio.Semaphore(concurrency)

    def landed(organization: str, future: asyncio.Future[CachedToken]) -> None:
        free.release()
        under_way.discard(future)
        error = future.exception()
        assert error is None or isinstance(error, TribeOAuthError)
        results[organization] = error or future.result().token

    async with closing(organizations):
        async for organization in organizations:
            await free.acquire()
            wanted = RefreshParameters.ahead_of_time(organization, single_flight.tokens.get(organization))
            future = single_flight.join(wanted)
            under_way.add(future)
            future.add_done_callback(partial(landed, organization))
    if under_way:
        await asyncio.wait(under_way)
    return results
