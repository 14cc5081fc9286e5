"""A store as the refresh may rely on it: whatever goes wrong in it is a StoreError.

Stores are written by users too. One that raises KeyError, MemoryError or a stray CancelledError in the moment of a
commit would else cost a customer the connection, and one that does so in a listing, the task that keeps others alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar, cast

from tribe_oauth._shield import closing
from tribe_oauth.errors import StoreError
from tribe_oauth.stores import MemoryStore, Record, Rescuer, Slots, SlotStore, TokenStore

Result = TypeVar("Result")

ASSUMED_TIMEOUT: Final = 5.0
"""Seconds that one operation of a store may take that does not tell."""


class GuardedStore:
    """Calls the store inside. `timeout`: seconds that one of its operations can take at most, once it is asked.

    Before that a call may wait for one of the store's few connections, behind thousands of others. What has to be saved
    does not: it goes first, so that it waits for no more than one operation under way. And a lease counts from before
    its swap waited: one that waited for too long is at its end when it begins, and is renewed before anything is sent.

    One organization may live in this process's memory alone, as if it were stored.
    """

    def __init__(self, store: TokenStore) -> None:
        self.inner = store
        self._memory = MemoryStore()
        self._in_memory: str | None = None

    def keep_in_memory(self, organization: str) -> None:
        """From now on, what is written of this organization is not stored."""
        self._in_memory = organization

    @contextmanager
    def stored(self, organization: str) -> Iterator[None]:
        """What is written meanwhile is stored, and from then on too; where it fails, memory has it as before."""
        before = self._in_memory
        if organization == before:
            self._in_memory = None
        try:
            yield
        except BaseException:
            self._in_memory = before
            raise

    def _store_of(self, organization: str) -> TokenStore:
        return self._memory if organization == self._in_memory else self.inner

    @property
    def timeout(self) -> float:
        """What the store says, else what is assumed."""
        timeout = getattr(self.inner, "timeout", ASSUMED_TIMEOUT)
        return float(timeout) if isinstance(timeout, int | float) else ASSUMED_TIMEOUT

    async def load(self, organization: str) -> Record | None:
        """See `TokenStore.load`."""
        return await _guarded(lambda: self._store_of(organization).load(organization))

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """See `TokenStore.swap`."""
        return await _guarded(lambda: self._store_of(record.organization).swap(record, lease_for=lease_for))

    async def organizations(self) -> AsyncGenerator[str]:
        """See `TokenStore.organizations`."""
        async with closing(_each(self.inner.organizations)) as stored:
            async for organization in stored:
                if organization != self._in_memory:
                    yield organization
        if self._in_memory is not None:
            async for organization in self._memory.organizations():
                yield organization

    def due(self, before: float) -> AsyncGenerator[str]:
        """See `TokenStore.due`."""
        return _each(lambda: self.inner.due(before))

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        """See `TokenStore.put`."""
        return await _guarded(lambda: self.inner.put(key, value, lives_for=lives_for))

    async def take(self, key: str) -> bytes | None:
        """See `TokenStore.take`."""
        return await _guarded(lambda: self.inner.take(key))

    async def rescue(self, organization: str, record: Record | None) -> bool:
        """Keep a copy beside the store, or remove it (None). False: this store has no place for copies."""
        store = self.inner
        if not isinstance(store, Rescuer):
            return False
        await _guarded(lambda: store.rescue(organization, record))
        return True

    def slots_of(self, organization: str) -> SlotStore | None:
        """Where the processes share this organization's limit of calls; None: they do not.

        One that lives in memory, where there is no store yet: sending requests would make it.
        """
        if not isinstance(self.inner, SlotStore):
            return None
        return None if organization == self._in_memory and getattr(self.inner, "is_nowhere", False) else self

    async def slots(self, key: str) -> Slots:
        """See `SlotStore.slots`."""
        store = cast("SlotStore", self.inner)
        return await _guarded(lambda: store.slots(key))

    async def swap_slots(self, key: str, state: bytes, *, version: int, lives_for: float) -> Slots | None:
        """See `SlotStore.swap_slots`."""
        store = cast("SlotStore", self.inner)
        return await _guarded(lambda: store.swap_slots(key, state, version=version, lives_for=lives_for))

    async def close(self) -> None:
        """See `TokenStore.close`."""
        await _guarded(self.inner.close)


async def _guarded(call: Callable[[], Awaitable[Result]]) -> Result:
    try:
        return await call()
    except StoreError:
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise  # it is this task that is cancelled, not something inside the store
        failure = "CancelledError"
    except Exception as error:
        failure = type(error).__name__
    raise StoreError(
        f"the store failed with {failure}, so that it is not known whether it did what it was asked: a TokenStore"
        " raises StoreError; look at what it stands on"
    )


async def _each(listing: Callable[[], AsyncIterator[str]]) -> AsyncGenerator[str]:
    async def begin() -> AsyncIterator[str]:
        return listing()

    async with closing(await _guarded(begin)) as organizations:
        while (organization := await _guarded(lambda: anext(organizations, None))) is not None:
            yield organization
