"""Make an answer durable. What the server gave for a spent refresh token, or for a code, exists once: here.

What could not be saved at once is *owed*. Whoever takes over its lease waits in unbroken sight of the store, and sends
only then; so one prober looks for the store every second or two, for all that is owed, however long it takes: between
the store's return and a successor's first byte, every holder that can reach the store has saved.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import attrs

from tribe_oauth._clock import Clock
from tribe_oauth._refresh.guarded_store import GuardedStore
from tribe_oauth._refresh.payload import decode
from tribe_oauth._refresh.tasks import Tasks
from tribe_oauth.errors import StoreError
from tribe_oauth.stores import Record
from tribe_oauth.stores._turns import going_first

logger = logging.getLogger("tribe_oauth.commit")

PAUSES: Final = (0.05, 0.2, 0.5)
"""Seconds between attempts to save before callers are told."""
LOOK_EVERY: Final = 1.0
LONGEST_PAUSE: Final = 2.0
"""Seconds between two looks for the store, while something is owed."""
LAST_LOOKS: Final = 10.0
"""Seconds for which a manager that closes goes on looking."""
REMIND_EVERY: Final = 60.0
SAVING: Final = 2.0
"""Seconds that all that is owed takes to be saved, once the store is back."""

Change = Callable[[Record | None], Record]
Fits = Callable[[Record | None], bool]


@attrs.frozen(eq=False, repr=False)
class Commit:
    """A change of one organization's record. `record`: what it was last known to be; `fits`: whether it still applies.

    `change` is applied to whatever record still fits.
    """

    organization: str
    record: Record | None
    change: Change
    fits: Fits

    async def write(self, store: GuardedStore) -> Record | None:
        """Write by compare-and-swap. Returns what is stored; None: the record does not fit any more.

        Raises StoreError where it is not known whether it was written; calling again finds out, since a change that was
        written is recognized.
        """
        with going_first():  # a store with a queue has those wait who only want to know
            return await self._write(store)

    async def _write(self, store: GuardedStore) -> Record | None:
        record = self.record
        while True:
            changed = self.change(record)
            stored = await store.swap(changed)
            if stored is not None:
                return stored
            record = await store.load(self.organization)
            if record is not None and _was_written(record, changed):
                return record
            if not self.fits(record):
                return None


def _was_written(stored: Record, changed: Record) -> bool:
    """Whether a write whose outcome was not known did happen."""
    if (stored.family, stored.generation) != (changed.family, changed.generation):
        return False
    return decode(stored).token == decode(changed).token  # the rest may differ: its age


class Commits:
    """Saves, with a few attempts; and all that is owed, by one prober."""

    def __init__(self, store: GuardedStore, clock: Clock, tasks: Tasks) -> None:
        self._store = store
        self._clock = clock
        self._tasks = tasks
        self._owed: list[Commit] = []
        self._prober: asyncio.Task[None] | None = None
        self._remind_at = 0.0

    def forget_loop(self) -> None:
        """The event loop is gone, and the prober with it; what is owed is still owed."""
        self._prober = None
        if self._owed:
            self._begin_probing()

    async def save(self, commit: Commit) -> Record | None:
        """Write, with a few attempts. When the store still cannot, saving goes on in the background.

        That is a named window: spent, answered, and not stored. It is logged as CRITICAL, and StoreError is raised.
        """
        try:
            return await commit.write(self._store)
        except StoreError:  # a store that is locked takes its time to say so: each attempt is a window
            await self._keep_copy(commit.organization, commit.change(commit.record))
        try:
            stored = await self._write_again(commit)
        except StoreError as error:
            logger.critical(
                "a new refresh token of organization %r could not be saved (%s): it is kept in memory and saved as soon"
                " as the store can write; if this process ends before, the organization may have to be connected again",
                commit.organization,
                error,
            )
            self._owed.append(commit)
            self._begin_probing()
            raise
        await self._keep_copy(commit.organization, None)
        return stored

    async def _write_again(self, commit: Commit) -> Record | None:
        for pause in PAUSES[:-1]:
            await self._tasks.pause(pause)
            with suppress(StoreError):
                return await commit.write(self._store)
        await self._tasks.pause(PAUSES[-1])
        return await commit.write(self._store)

    def _begin_probing(self) -> None:
        if self._prober is None or self._prober.done():
            self._prober = self._tasks.spawn(self._probe())

    async def _probe(self) -> None:
        while self._owed and await self._tasks.pause(self._pause()):
            await self._save_owed()
        end = self._clock.monotonic() + LAST_LOOKS
        while self._owed and self._clock.monotonic() < end:  # the manager is closing
            await self._save_owed()
            if self._owed:
                await self._clock.sleep(self._pause())
        for commit in self._owed:
            logger.critical(
                "closed with a new refresh token of organization %r that the store did not take: if there is no copy of"
                " it beside the store, the organization may have to be connected again",
                commit.organization,
            )

    def _pause(self) -> float:
        return LOOK_EVERY + (LONGEST_PAUSE - LOOK_EVERY) * self._clock.random()

    async def _save_owed(self) -> None:
        """One of them shows whether the store is back; then all at once."""
        if await self._save_late(self._owed[0]):
            await asyncio.gather(*(self._save_late(commit) for commit in list(self._owed)))

    async def _save_late(self, commit: Commit) -> bool:
        try:
            await commit.write(self._store)
        except StoreError:
            self._remind()
            return False
        self._owed.remove(commit)
        logger.warning("saved at last: a new refresh token of organization %r", commit.organization)
        await self._keep_copy(commit.organization, None)
        return True

    def _remind(self) -> None:
        """Say now and then that something is owed."""
        now = self._clock.monotonic()
        if now >= self._remind_at:
            self._remind_at = now + REMIND_EVERY
            logger.critical("still not saved: new refresh tokens of %d organizations", len(self._owed))

    async def _keep_copy(self, organization: str, record: Record | None) -> None:
        """Where the store is a local file: keep a copy beside it; None: remove it, it is not needed any more."""
        try:
            await self._store.rescue(organization, record)
        except StoreError as error:
            logger.critical("nor could a copy be kept beside the store: %s", error)
