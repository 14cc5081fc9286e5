"""The contract's tests of a `SlotStore`. A store that is none passes them all: the ability is optional."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tribe_oauth.stores._contract import Slots, SlotStore, TokenStore
from tribe_oauth.stores._contract_steps import listed, put, record


class SlotContract:
    """The tests. `pass_time` is the contract's."""

    pass_time: Callable[[float], Awaitable[None]]

    async def test_no_slots_are_kept(self, store: TokenStore) -> None:
        """What was never kept has version 0; the store's clock goes on."""
        if isinstance(store, SlotStore):
            first = await store.slots("key")
            assert (first.state, first.version) == (b"", 0)
            await self.pass_time(0.05)
            assert 0.04 < (await store.slots("key")).now - first.now < 60

    async def test_slots_are_compared_and_swapped(self, store: TokenStore) -> None:
        """A write whose version is not the kept one changes nothing; each has a version higher than any before."""
        if isinstance(store, SlotStore):
            first = await store.swap_slots("key", b"\xff\0first", version=0, lives_for=100)
            assert first is not None
            assert (first.state, first.version > 0) == (b"\xff\0first", True)
            assert await store.swap_slots("key", b"again", version=0, lives_for=100) is None
            second = await store.swap_slots("key", b"second", version=first.version, lives_for=100)
            assert second is not None
            assert second.version > first.version
            assert await store.swap_slots("key", b"late", version=first.version, lives_for=100) is None
            found = await store.slots("key")
            assert (found.state, found.version) == (b"second", second.version)
            assert first.now <= second.now <= found.now

    async def test_slots_that_never_were(self, store: TokenStore) -> None:
        """What is gone is not written over as if it were there."""
        if isinstance(store, SlotStore):
            assert await store.swap_slots("key", b"state", version=1, lives_for=100) is None
            assert (await store.slots("key")).version == 0

    async def test_slots_end(self, store: TokenStore) -> None:
        """When their time is over it is as if they had never been, also for a write that began before."""
        if isinstance(store, SlotStore):
            first = await store.swap_slots("key", b"old", version=0, lives_for=0.05)
            assert first is not None
            assert await store.swap_slots("other", b"other", version=0, lives_for=100)
            await self.pass_time(0.06)
            assert (await store.slots("key")).version == 0
            assert await store.swap_slots("key", b"late", version=first.version, lives_for=100) is None
            new = await store.swap_slots("key", b"new", version=0, lives_for=100)
            assert new is not None
            assert new.version > first.version
            assert (await store.slots("other")).state == b"other"

    async def test_one_of_a_hundred_has_the_slots(self, store: TokenStore) -> None:
        """Of a hundred writes of one version at once, exactly one happens; so too for the first."""
        if isinstance(store, SlotStore):
            version = 0
            for _ in range(3):
                contenders = (
                    store.swap_slots("key", str(number).encode(), version=version, lives_for=100)
                    for number in range(100)
                )
                winners: list[Slots] = [kept for kept in await asyncio.gather(*contenders) if kept is not None]
                assert len(winners) == 1
                found = await store.slots("key")
                assert (found.state, found.version) == (winners[0].state, winners[0].version)
                version = found.version

    async def test_slots_are_no_organizations(self, store: TokenStore) -> None:
        """What is kept under the name of an organization, or of a note, is something else."""
        if isinstance(store, SlotStore):
            assert await store.swap_slots("acme", b"slots", version=0, lives_for=100)
            assert await store.load("acme") is None
            assert await store.take("acme") is None
            await put(store, record())
            assert (await store.slots("acme")).state == b"slots"
            assert await listed(store) == ["acme"]

    async def test_slots_after_closing(self, store: TokenStore) -> None:
        """The next call opens the store again."""
        if isinstance(store, SlotStore):
            assert await store.swap_slots("key", b"slots", version=0, lives_for=100)
            await store.close()
            assert (await store.slots("key")).state == b"slots"
