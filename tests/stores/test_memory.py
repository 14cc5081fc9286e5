"""What is the memory store's own."""

from __future__ import annotations

from tribe_oauth import MemoryStore


async def test_a_note_that_was_put_again() -> None:
    """The end of an earlier note under the same key is not the end of the later one."""
    now = 0.0
    store = MemoryStore(clock=lambda: now)
    await store.put("key", b"first", lives_for=10)
    assert await store.take("key") == b"first"
    await store.put("key", b"second", lives_for=20)
    now = 11.0
    assert await store.put("other", b"x", lives_for=1) == b"x"
    assert await store.take("key") == b"second"


async def test_notes_that_were_taken_take_no_room() -> None:
    """However many are put and taken in a day; those that stand end when they should."""
    now = 0.0
    store = MemoryStore(clock=lambda: now)
    for number in range(10):
        await store.put(f"stands {number}", b"x", lives_for=100.0 + number)
    for number in range(5_000):
        await store.put(f"taken {number}", b"x", lives_for=1e6)
        await store.take(f"taken {number}")
    assert len(store._ends) < 1_100
    now = 105.0
    assert [await store.take(f"stands {number}") for number in range(10)] == [None] * 6 + [b"x"] * 4
