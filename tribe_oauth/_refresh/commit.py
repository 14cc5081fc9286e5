"""Make an answer durable. What the server gave for a spent refresh token, or for a code, exists once: here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.payload import decode
from tribe_oauth.errors import StoreError
from tribe_oauth.stores import Record, Rescuer

logger = logging.getLogger("tribe_oauth.commit")

PAUSES: Final = (0.05, 0.2, 0.5, 1.0)
"""Seconds between attempts to save before callers are told."""
LONGEST_PAUSE: Final = 30.0

Change = Callable[[Record | None], Record]
Fits = Callable[[Record | None], bool]


async def write(
    context: RefreshContext, organization: str, record: Record | None, change: Change, fits: Fits
) -> Record | None:
    """Apply a change to whatever record still fits, by compare-and-swap. Returns what is stored.

    None: the record does not fit any more. Raises StoreError where it is not known whether it was written; calling
    again finds out, since a change that was written is recognized.
    """
    while True:
        changed = change(record)
        stored = await context.store.swap(changed)
        if stored is not None:
            return stored
        record = await context.store.load(organization)
        if record is not None and _was_written(record, changed):
            return record
        if not fits(record):
            return None


def _was_written(stored: Record, changed: Record) -> bool:
    """Whether a write whose outcome was not known did happen."""
    if (stored.family, stored.generation) != (changed.family, changed.generation):
        return False
    return decode(stored).token == decode(changed).token  # the rest may differ: its age


async def write_patiently(
    context: RefreshContext, organization: str, record: Record | None, change: Change, fits: Fits
) -> Record | None:
    """The same with a few attempts. When the store still cannot write, saving goes on in the background.

    That is a named window: spent, answered, and not stored. It is logged as CRITICAL, and StoreError is raised.
    """
    for pause in PAUSES:
        try:
            return await write(context, organization, record, change, fits)
        except StoreError:
            await context.tasks.pause(pause)
    try:
        return await write(context, organization, record, change, fits)
    except StoreError as error:
        logger.critical(
            "a new refresh token of organization %r could not be saved (%s): it is kept in memory and saved as soon as"
            " the store can write; if this process ends before, the organization may have to be connected again",
            organization,
            error,
        )
        await _keep_copy(context, organization, change(record))
        context.tasks.spawn(_write_later(context, organization, record, change, fits))
        raise


async def _write_later(
    context: RefreshContext, organization: str, record: Record | None, change: Change, fits: Fits
) -> None:
    pause = PAUSES[-1]
    while True:
        go_on = await context.tasks.pause(pause * (1 + context.clock.random()))
        try:
            await write(context, organization, record, change, fits)
        except StoreError:
            logger.critical("still not saved: a new refresh token of organization %r", organization)
            if not go_on:
                return  # closing, and this was the last try: the log says what that means
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            logger.warning("saved at last: a new refresh token of organization %r", organization)
            await _keep_copy(context, organization, None)
            return


async def _keep_copy(context: RefreshContext, organization: str, record: Record | None) -> None:
    """Where the store is a local file: keep a copy beside it; None: remove it, it is not needed any more."""
    if not isinstance(context.store, Rescuer):
        return
    try:
        await context.store.rescue(organization, record)
    except StoreError as error:
        logger.critical("nor could a copy be kept beside the store: %s", error)
