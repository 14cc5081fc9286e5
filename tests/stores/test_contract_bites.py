"""A store that keeps only the old promises is told by name what it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tribe_oauth import MemoryStore, StoreError, TokenStore
from tribe_oauth.stores import Record
from tribe_oauth.stores import _contract_trouble as trouble
from tribe_oauth.stores.contract import StoreContract

TESTS = ["a_damaged_record_is_named", "a_damaged_record_disturbs_no_other", "a_key_that_is_no_text_is_left_out"]


class OldStore(MemoryStore):
    """What is found comes out as it comes; two calls at a time, each with so many seconds, the wait included."""

    timeout = 0.02

    def __init__(self, *, raises: Exception | None = None, ends: bool = True) -> None:
        super().__init__()
        self._slots = asyncio.Semaphore(2)
        self._raises = raises
        self._comes_to_an_end = ends
        self.damaged = set[str]()
        self.away = False

    async def load(self, organization: str) -> Record | None:
        if organization in self.damaged and self._raises is not None:
            raise self._raises
        if self.away:
            if self._comes_to_an_end:
                raise self._raises or StoreError("away")
            await asyncio.sleep(self.timeout * 3 + 6)
        try:
            async with asyncio.timeout(self.timeout), self._slots:
                await asyncio.sleep(0.001)
                return await super().load(organization)
        except TimeoutError:
            raise StoreError("it did not answer") from None

    async def organizations(self) -> AsyncIterator[str]:
        async for organization in super().organizations():
            if organization in self.damaged:
                return
            yield organization


class OldTest(StoreContract):
    """The tests of the store's author."""


class NewTest(StoreContract):
    """The same, with trouble."""

    async def damage(self, store: TokenStore, organization: str) -> bool:
        assert isinstance(store, OldStore)
        store.damaged.add(organization)
        return True

    damage_key = damage

    def out_of_reach(self, store: TokenStore) -> AbstractAsyncContextManager[None] | None:
        return self._away(store)

    @asynccontextmanager
    async def _away(self, store: TokenStore) -> AsyncIterator[None]:
        assert isinstance(store, OldStore)
        store.away = True
        yield
        store.away = False


@pytest.mark.parametrize("name", [*TESTS, "nothing_waits_for_ever"])
async def test_what_the_test_lacks(name: str) -> None:
    """How trouble is made has to be said."""
    with pytest.raises(NotImplementedError, match=r"the contract asks what becomes of .*: override (damage|out_of)"):
        await getattr(OldTest(), f"test_{name}")(OldStore())


@pytest.mark.parametrize(
    ("name", "raises", "match"),
    [
        (TESTS[0], KeyError("x"), r"a damaged record came out as KeyError\('x'\): it has to be a StoreError"),
        (TESTS[0], None, "a damaged record was given out as if it were sound"),
        (TESTS[0], StoreError("damaged"), "has no `organization`"),
        (TESTS[0], StoreError("damaged", organization="acme"), "does not name the organization"),
        (TESTS[1], KeyError("x"), "a damaged record hides others from a listing"),
        (TESTS[2], None, r"a key that is no UTF-8 ends a listing"),
        ("a_burst_is_no_failure", None, r"\d+ of 2000 calls at once failed, the first with: StoreError"),
        ("nothing_waits_for_ever", KeyError("x"), r"what does not answer came out as KeyError\('x'\)"),
    ],
)
async def test_what_the_store_lacks(name: str, raises: Exception | None, match: str) -> None:
    """The failure says which promise it is."""
    with pytest.raises(AssertionError, match=match):
        await getattr(NewTest(), f"test_{name}")(OldStore(raises=raises))


async def test_calls_that_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the other one: a call that ends late, or never."""
    monkeypatch.setattr(trouble, "LONGEST", 0.5)
    with pytest.raises(TimeoutError):
        await NewTest().test_nothing_waits_for_ever(OldStore(ends=False))
    monkeypatch.setattr(trouble, "PATIENCE", 0.0)
    monkeypatch.setattr(trouble, "LONGEST", 60.0)
    monkeypatch.setattr(OldStore, "timeout", -1.95)  # sleeps for a moment
    with pytest.raises(AssertionError, match=r"calls took .* s, with a timeout of"):
        await NewTest().test_nothing_waits_for_ever(OldStore(ends=False))
