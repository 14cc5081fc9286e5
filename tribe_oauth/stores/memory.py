"""A store that lives and dies with its process: for tests, and for tokens that any restart may ask for again."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Callable
from heapq import heapify, heappop, heappush
from typing import Final

import attrs

from tribe_oauth.stores._contract import Record
from tribe_oauth.stores._writes import next_version, written

_SPARE_ENDS: Final = 1000


class MemoryStore:
    """Connections in plain dictionaries, gone when the process ends.

    After a restart every organization has to be connected again: for a service that must not lose its refresh tokens
    there is `tribe_oauth.stores.sqlite.SQLiteStore`. `close` keeps the records, so that the next manager of the same
    process finds them. `clock` gives seconds that never jump; leases and notes end by it.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[str, tuple[Record, float]] = {}  # each with the end of its lease
        self._keys: list[str] = []  # in the order of the first write; nothing is ever removed, so an index holds
        self._due: list[tuple[float, str]] = []  # sorted
        self._notes: dict[str, tuple[bytes, float]] = {}  # each with its end
        self._ends: list[tuple[float, str]] = []  # a heap; a note that was taken leaves its entry for a while

    @property
    def timeout(self) -> float:
        """Seconds that one operation can take at most: none."""
        return 0.0

    async def load(self, organization: str) -> Record | None:
        """See `TokenStore.load`."""
        if (stored := self._records.get(organization)) is None:
            return None
        record, lease_end = stored
        if record.lease is None:
            return record
        return attrs.evolve(record, lease_left=max(0.0, lease_end - self._clock()))

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """See `TokenStore.swap`; here *durable* means until the process ends."""
        stored, lease_end = self._records.get(record.organization, (None, 0.0))
        if record.version != (0 if stored is None else stored.version):
            return None
        now = self._clock()
        if record.lease is None:
            lease_end = 0.0
        elif lease_for is not None:
            lease_end = now + lease_for
        new = written(record, next_version(record.version, now), max(0.0, lease_end - now))
        if stored is None:
            self._keys.append(record.organization)
        self._index(stored, new)
        self._records[record.organization] = (new, lease_end)
        return new

    def _index(self, old: Record | None, new: Record) -> None:
        before = None if old is None else old.due_at
        if before == new.due_at:
            return  # taking a lease, for one, moves nothing
        if before is not None:
            del self._due[bisect_left(self._due, (before, new.organization))]
        if new.due_at is not None:
            insort(self._due, (new.due_at, new.organization))

    async def organizations(self) -> AsyncIterator[str]:
        """See `TokenStore.organizations`."""
        for organization in self._keys:  # a list that only grows may do so while it is walked
            if self._records[organization][0].status != "disconnected":
                yield organization

    async def due(self, before: float) -> AsyncIterator[str]:
        """See `TokenStore.due`."""
        at = 0
        while at < len(self._due) and self._due[at][0] <= before:
            entry = self._due[at]
            yield entry[1]
            at = bisect_right(self._due, entry)  # the list may have changed while the caller worked

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        """See `TokenStore.put`."""
        now = self._clock()
        self._forget_notes(now)
        if (standing := self._notes.get(key)) is not None:
            return standing[0]
        self._notes[key] = (value, now + lives_for)
        heappush(self._ends, (now + lives_for, key))
        return value

    async def take(self, key: str) -> bytes | None:
        """See `TokenStore.take`."""
        self._forget_notes(self._clock())
        value, _ = self._notes.pop(key, (None, 0.0))
        if len(self._ends) > 2 * len(self._notes) + _SPARE_ENDS:  # else what is put and taken all day would add up
            self._ends = [(end, key) for key, (_, end) in self._notes.items()]
            heapify(self._ends)
        return value

    def _forget_notes(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, key = heappop(self._ends)
            if key in self._notes and self._notes[key][1] <= now:  # not one put later under the same key
                del self._notes[key]

    async def close(self) -> None:
        """Nothing to release; the records stay."""
