"""The contract's tests of trouble: records that something else wrote, bursts, and what does not answer.

How trouble is made differs from store to store: a test class says it. Each failure says which promise is not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import attrs

from tribe_oauth.errors import StoreError
from tribe_oauth.stores._contract import ASSUMED_TIMEOUT, Record, TokenStore, Unreadable
from tribe_oauth.stores._contract_steps import due, listed, put, record

BURST: Final = 2_000
"""Calls at once."""
LONGEST: Final = 120.0
"""Seconds after which a test believes that a call never ends."""

PATIENCE: Final = 5.0
"""Seconds for a machine that is busy."""


class TroubleContract:
    """The tests. `damage`, `damage_key` and `out_of_reach` have to be overridden."""

    async def damage(self, store: TokenStore, organization: str) -> bool:
        """Change what is stored for an organization into what no store writes. False: nothing else can write there."""
        raise NotImplementedError(
            "the contract asks what becomes of a record that something else wrote: override damage(store, organization)"
            " to write one, and return True; return False where nothing else can write"
        )

    async def damage_key(self, store: TokenStore, organization: str) -> bool:
        """Change the key under which an organization is stored into what is no UTF-8. False: that cannot be."""
        raise NotImplementedError(
            "the contract asks what becomes of a key that something else wrote: override damage_key(store,"
            " organization) to make it one that is no UTF-8, and return True; return False where that cannot be"
        )

    def out_of_reach(self, store: TokenStore) -> AbstractAsyncContextManager[None] | None:
        """While it is entered, what the store stands on does not answer. None: it stands on nothing."""
        raise NotImplementedError(
            "the contract asks what becomes of calls while nothing answers: override out_of_reach(store) to give an"
            " async context manager that stops what the store stands on; return None where it stands on nothing"
        )

    async def test_a_damaged_record_is_named(self, store: TokenStore) -> None:
        """What can be had of it has an `Unreadable` payload; else one StoreError says whose record it is."""
        await put(store, record())
        if not await self.damage(store, "acme"):
            return
        try:
            async with asyncio.timeout(LONGEST):
                found = await store.load("acme")
        except StoreError as refused:
            error = refused
        except Exception as odd:
            raise AssertionError(f"a damaged record came out as {odd!r}: it has to be a StoreError") from odd
        else:
            assert found is not None, "a damaged record is told as one that is not there"
            assert isinstance(found.payload, Unreadable), "a damaged record was given out as if it were sound"
            assert await store.swap(found) is not None, "what was read of a damaged record cannot be written"
            return
        assert error.organization == "acme", "the StoreError about a damaged record has no `organization`"
        assert "acme" in str(error), "the text of the StoreError about a damaged record does not name the organization"

    async def test_a_damaged_record_disturbs_no_other(self, store: TokenStore) -> None:
        """All others are listed, found to be due, read and written, as if it were not there."""
        others = [f"org {number}" for number in range(20)]
        stored = [await put(store, record(key, due_at=1.0)) for key in ["acme", *others]][1:]
        if not await self.damage(store, "acme"):
            return
        async with asyncio.timeout(LONGEST):
            assert set(await listed(store)) - {"acme"} == set(others), "a damaged record hides others from a listing"
            assert set(await due(store, 2.0)) - {"acme"} == set(others), "a damaged record keeps others from being due"
            for each in stored:
                assert await store.load(each.organization) == each
                await put(store, each)

    async def test_a_key_that_is_no_text_is_left_out(self, store: TokenStore) -> None:
        """And logged; those after it are listed, and found to be due."""
        keys = [f"org {number}" for number in range(20)]
        for key in keys:
            await put(store, record(key, due_at=1.0))
        if not await self.damage_key(store, "org 3"):
            return
        keys.remove("org 3")
        async with asyncio.timeout(LONGEST):
            assert sorted(await listed(store)) == sorted(keys), "a key that is no UTF-8 ends a listing"
            assert sorted(await due(store, 2.0)) == sorted(keys), "a key that is no UTF-8 keeps others from being due"

    async def test_a_burst_is_no_failure(self, store: TokenStore) -> None:
        """Whoever waits for the store's own connections waits: no call fails because there are many."""
        stored = await put(store, record())
        calls: list[Awaitable[Record | None]] = []
        for number in range(BURST // 2):
            calls += [store.load("acme"), store.swap(record(f"org {number}"))]
        found = await self._all(calls)
        failed = [answer for answer in found if isinstance(answer, BaseException)]
        assert not failed, f"{len(failed)} of {BURST} calls at once failed, the first with: {failed[0]!r}"
        assert found[::2] == [stored] * (BURST // 2)
        assert all(isinstance(answer, Record) for answer in found[1::2])

    async def test_nothing_waits_for_ever(self, store: TokenStore) -> None:
        """While nothing answers each call ends soon; when it does again, so does the store."""
        stored = await put(store, record())
        away = self.out_of_reach(store)
        if away is None:
            return
        async with away:
            timeout = float(getattr(store, "timeout", ASSUMED_TIMEOUT))
            calls: list[Awaitable[Record | None]] = []
            for number in range(25):
                calls += [store.load("acme"), store.swap(record(f"org {number}"))]
            begun = asyncio.get_running_loop().time()
            found = await self._all(calls)
            seconds = asyncio.get_running_loop().time() - begun
        odd = [answer for answer in found if isinstance(answer, Exception) and not isinstance(answer, StoreError)]
        assert not odd, f"what does not answer came out as {odd[0]!r}: it has to be a StoreError"
        assert seconds < 3 * timeout + PATIENCE, (
            f"{len(calls)} calls took {seconds:.1f} s, with a timeout of {timeout:g} s"
        )
        assert await store.load("acme") == stored
        await put(store, attrs.evolve(stored, cause="again"))

    async def _all(self, calls: Sequence[Awaitable[Record | None]]) -> list[Record | BaseException | None]:
        async with asyncio.timeout(LONGEST):
            return await asyncio.gather(*calls, return_exceptions=True)
