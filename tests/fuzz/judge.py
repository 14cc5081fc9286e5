"""The judge of a fuzz: nothing but the library's errors, each naming its organization; no hang; the neighbours work."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Final

import attrs

from tribe_oauth import StoreError
from tribe_oauth.stores import Record
from tribe_oauth.stores.contract import due, listed, put, record

from .targets import KEY, TARGETS, Target

NEIGHBOURS: Final = ("beta", "gamma", "delta")
LONGEST: Final = 60.0
"""Seconds after which a call is believed to hang."""
LISTED_EVERY: Final = 10
"""A listing takes longer than all else, and is made after one round of so many."""


class ViolationError(AssertionError):
    """A promise that was not kept, with the round that shows it again."""


async def fuzz(kind: str, *, records: int, seed: int) -> Counter[str]:
    """Spoil so many records in one kind of store; how often each way, and what came of it. Raises ViolationError."""
    seen: Counter[str] = Counter()
    async with TARGETS[kind]() as target:
        neighbours = {key: await put(target.store, record(key, due_at=1.0)) for key in NEIGHBOURS}
        first = await put(target.store, _first())
        await put(target.store, attrs.evolve(first, lease="c:nonce"), lease_for=1e6)
        await target.remember()
        for number in range(records):
            way = await target.spoil(Random(f"{seed} {number}"))
            try:
                async with asyncio.timeout(LONGEST):
                    seen[f"{way}: {await _judged(target, neighbours, listing=number % LISTED_EVERY == 0)}"] += 1
            except Exception as error:
                raise ViolationError(f"{kind}, seed {seed}, record {number} ({way}): {error!r}") from error
            await target.mend()
    return seen


def _first() -> Record:
    return record(
        KEY, family="c", generation=7, cause="because", failures=3, not_before=1.5, due_at=2.5, payload=b"\x00payload"
    )


async def _judged(target: Target, neighbours: dict[str, Record], *, listing: bool) -> str:
    store = target.store
    outcome = await _of_the_spoiled(target)
    for key in list(neighbours):
        assert await store.load(key) == neighbours[key], f"the neighbour {key!r} is not what it was"
    neighbours["beta"] = await put(store, neighbours["beta"])
    if listing:
        assert set(neighbours) <= set(await listed(store)), "a neighbour is not listed"
        assert set(neighbours) <= set(await due(store, 3.0)), "a neighbour is not found to be due"
    return outcome


async def _of_the_spoiled(target: Target) -> str:
    """What becomes of the record: refused by name, gone, or one that can be written again, as whoever reads it will."""
    store = target.store
    try:
        found = await store.load(KEY)
        if found is None:
            return "gone"
        stored = await store.swap(found, lease_for=10.0)
    except StoreError as refused:
        error = refused
    else:
        assert stored is not None, "what was read cannot be written: whoever tries goes on for ever"
        assert stored.version > found.version
        return "read and written"
    assert error.organization == KEY, f"the error does not name the organization: {error}"
    assert "canary" not in str(error), "the error shows what was found"
    return "refused"
