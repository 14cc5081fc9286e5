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
