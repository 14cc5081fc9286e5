"""What a store has to do, as tests that every implementation can be run against.

Subclass `StoreContract` in a test module, give it a fixture ``store`` that yields an empty store, and say how trouble
is made for it: override ``damage``, ``damage_key`` and ``out_of_reach``. Where its clock can be moved, override
``pass_time``. The tests are ``async def``: run them with pytest-asyncio or anyio::

    class TestMyStore(StoreContract):
        @pytest.fixture
        async def store(self):
            store = MyStore(...)
            yield store
            await store.close()

        async def damage(self, store, organization):
            store.database.execute("UPDATE ... SET status = 'nonsense' WHERE ...", organization)
            return True
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import attrs

from tribe_oauth.stores._contract import Record, TokenStore
from tribe_oauth.stores._contract_slots import SlotContract
from tribe_oauth.stores._contract_steps import due, listed, put, record
from tribe_oauth.stores._contract_trouble import TroubleContract

__all__ = ["KEYS", "StoreContract", "due", "listed", "put", "record"]

KEYS: Sequence[str] = (
    "acme",
    "ACME",
    "../acme",
    "a\0b",
    "a",
    "😀",
    " ",
    "x" * 512,
    "%",
    "'; --",
    "{acme}",
    "\u00e9",
    "e\u0301",
)
"""Keys that are easily taken for one another."""


class StoreContract(SlotContract, TroubleContract):
    """The tests. Each needs a ``store`` that is empty."""

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass for the store; by default really."""
        await asyncio.sleep(seconds)

    # Records

    async def test_nothing_is_there(self, store: TokenStore) -> None:
        """An organization that was never written is None."""
        assert await store.load("acme") is None
        assert await listed(store) == []

    async def test_what_is_written_is_read(self, store: TokenStore) -> None:
        """All fields come back; the version is one higher."""
        new = record(
            family="family", generation=7, cause="because", maybe_spent=True, failures=3, not_before=1.5, due_at=2.5,
            status="reauthorization_required", payload=bytes(range(256)),
        )  # fmt: skip
        stored = await put(store, new)
        assert stored == attrs.evolve(new, version=stored.version)
        assert stored.version > 0
        assert await store.load("acme") == stored

    async def test_a_large_payload(self, store: TokenStore) -> None:
        """Two tokens of 8 KiB and more fit."""
        payload = b"\xff\0" * 20_000
        await put(store, record(payload=payload))
        loaded = await store.load("acme")
        assert loaded is not None
        assert loaded.payload == payload

    async def test_compare_and_swap(self, store: TokenStore) -> None:
        """A write whose version is not the stored one changes nothing."""
        first = await put(store, record(cause="first"))
        second = await put(store, attrs.evolve(first, cause="second"))
        assert second.version > first.version
        assert await store.swap(attrs.evolve(first, cause="late")) is None
        assert await store.swap(record(cause="new")) is None
        assert await store.swap(attrs.evolve(second, version=second.version + 1)) is None
        assert await store.load("acme") == second

    async def test_a_version_that_never_was(self, store: TokenStore) -> None:
        """A record that is gone is not written over as if it were there."""
        assert await store.swap(record(version=1)) is None
        assert await store.load("acme") is None

    async def test_one_of_a_hundred_wins(self, store: TokenStore) -> None:
        """Of a hundred swaps of one version at once, exactly one happens; so too for the first write."""
        version = 0
        for _ in range(3):
            contenders = [record(version=version, cause=str(number)) for number in range(100)]
            results = await asyncio.gather(*(store.swap(contender) for contender in contenders))
            winners = [result for result in results if result is not None]
            assert len(winners) == 1
            assert await store.load("acme") == winners[0]
            version = winners[0].version

    async def test_keys_are_unambiguous(self, store: TokenStore) -> None:
        """S28: no two keys are one, and each is listed as it was given."""
        for number, key in enumerate(KEYS):
            await put(store, record(key, failures=number, due_at=1.0))
        for number, key in enumerate(KEYS):
            loaded = await store.load(key)
            assert loaded is not None
            assert (loaded.organization, loaded.failures) == (key, number)
        assert sorted(await listed(store)) == sorted(set(KEYS))
        assert sorted(await due(store, 2.0)) == sorted(set(KEYS))

    # The lease

    async def test_a_lease_runs(self, store: TokenStore) -> None:
        """It has about as many seconds left as it was taken for."""
        stored = await put(store, record(lease="nonce"), lease_for=100)
        assert stored.lease == "nonce"
        assert 90 < stored.lease_left <= 100.001
        loaded = await store.load("acme")
        assert loaded is not None
        assert 90 < loaded.lease_left <= 100.001

    async def test_a_lease_ends(self, store: TokenStore) -> None:
        """When its time is over, the nonce is still there, and nothing is left."""
        await put(store, record(lease="nonce"), lease_for=0.05)
        await self.pass_time(0.06)
        loaded = await store.load("acme")
        assert loaded is not None
        assert (loaded.lease, loaded.lease_left) == ("nonce", 0.0)

    async def test_a_write_that_is_not_about_the_lease(self, store: TokenStore) -> None:
        """The end of a lease stays as it was."""
        stored = await put(store, record(lease="nonce"), lease_for=100)
        await self.pass_time(0.06)
        again = await put(store, attrs.evolve(stored, failures=1, lease_left=1e6))
        assert again.lease == "nonce"
        assert 90 < again.lease_left <= stored.lease_left - 0.05

    async def test_a_nonce_is_written_as_it_stands(self, store: TokenStore) -> None:
        """Without a length it gets what time there was: all that was left, or none."""
        stored = await put(store, record(lease="one"), lease_for=100)
        again = await put(store, attrs.evolve(stored, lease="two"))
        assert again.lease == "two"
        assert 90 < again.lease_left <= 100.001
        new = await put(store, record("new", lease="one"))
        assert (new.lease, new.lease_left) == ("one", 0.0)
        again = await put(store, attrs.evolve(new, lease="two"))
        assert (again.lease, again.lease_left) == ("two", 0.0)

    async def test_a_lease_is_renewed(self, store: TokenStore) -> None:
        """A new end counts from now."""
        stored = await put(store, record(lease="one"), lease_for=10)
        again = await put(store, attrs.evolve(stored, lease="two"), lease_for=100)
        assert again.lease == "two"
        assert 90 < again.lease_left <= 100.001

    async def test_a_lease_is_given_back(self, store: TokenStore) -> None:
        """None removes it; a length without a nonce is no lease."""
        stored = await put(store, record(lease="nonce"), lease_for=100)
        stored = await put(store, attrs.evolve(stored, lease=None))
        assert (stored.lease, stored.lease_left) == (None, 0.0)
        stored = await put(store, attrs.evolve(stored, lease=None), lease_for=100)
        assert (stored.lease, stored.lease_left) == (None, 0.0)

    # Listing

    async def test_disconnected_ones_are_not_listed(self, store: TokenStore) -> None:
        """A tombstone is kept, and can be read, but is no organization."""
        stored = await put(store, record(due_at=1.0))
        stored = await put(store, attrs.evolve(stored, status="disconnected", due_at=None))
        assert await listed(store) == []
        assert await due(store, 2.0) == []
        assert await store.load("acme") == stored
        await put(store, attrs.evolve(stored, status="connecting"))
        assert await listed(store) == ["acme"]

    async def test_a_scan_beside_writers(self, store: TokenStore) -> None:
        """Each of 1,200 organizations is listed exactly once, whatever is written meanwhile."""
        keys = [f"org {number}" for number in range(1_200)]
        await asyncio.gather(*(put(store, record(key)) for key in keys))
        seen = []
        async for organization in store.organizations():
            seen.append(organization)
            if len(seen) % 100 == 0:
                await put(store, record(f"new {len(seen)}"))
                loaded = await store.load(keys[len(seen) // 2])
                assert loaded is not None
                await put(store, loaded)
        assert sorted(key for key in seen if key.startswith("org")) == sorted(keys)
        assert len(seen) == len(set(seen))

    async def test_what_is_due(self, store: TokenStore) -> None:
        """The longest due first; what is due later, or never, is not there."""
        for key, at in (("b", 2.0), ("a", 1.0), ("never", None), ("later", 10.0), ("c", 3.0)):
            await put(store, record(key, due_at=at))
        assert await due(store, 3.0) == ["a", "b", "c"]
        assert await due(store, 0.5) == []

    async def test_due_changes_with_each_write(self, store: TokenStore) -> None:
        """What was refreshed is not due any more."""
        stored = await put(store, record(due_at=1.0))
        stored = await put(store, attrs.evolve(stored, due_at=5.0))
        assert await due(store, 2.0) == []
        stored = await put(store, attrs.evolve(stored, due_at=1.5))
        assert await due(store, 2.0) == ["acme"]
        await put(store, attrs.evolve(stored, due_at=None))
        assert await due(store, 9e9) == []

    async def test_due_in_pages(self, store: TokenStore) -> None:
        """1,200 that are due at one moment are all found, though each is taken care of when it is found."""
        await asyncio.gather(*(put(store, record(f"org {number}", due_at=1.0)) for number in range(1_200)))
        seen = []
        async for organization in store.due(2.0):
            seen.append(organization)
            loaded = await store.load(organization)
            assert loaded is not None
            await put(store, attrs.evolve(loaded, due_at=100.0))
        assert len(seen) == len(set(seen)) == 1_200

    # Notes

    async def test_a_note_is_taken_once(self, store: TokenStore) -> None:
        """A hundred take one note: one gets it."""
        assert await store.put("key", b"value", lives_for=100) == b"value"
        taken = await asyncio.gather(*(store.take("key") for _ in range(100)))
        assert sorted(taken, key=str) == [None] * 99 + [b"value"] or taken.count(b"value") == 1
        assert taken.count(None) == 99

    async def test_the_first_note_stands(self, store: TokenStore) -> None:
        """A second under the same key changes nothing and learns of the first; of a hundred, all learn of one."""
        assert await store.put("key", b"first", lives_for=100) == b"first"
        assert await store.put("key", b"second", lives_for=100) == b"first"
        assert await store.take("key") == b"first"
        standing = await asyncio.gather(*(store.put("new", str(n).encode(), lives_for=100) for n in range(100)))
        assert len(set(standing)) == 1

    async def test_a_note_ends(self, store: TokenStore) -> None:
        """When its time is over it is as if it had never been."""
        await store.put("taken", b"old", lives_for=0.05)
        await store.put("put", b"old", lives_for=0.05)
        await self.pass_time(0.06)
        assert await store.take("taken") is None
        assert await store.put("put", b"new", lives_for=100) == b"new"
        assert await store.take("put") == b"new"

    async def test_notes_are_not_organizations(self, store: TokenStore) -> None:
        """A note under the name of an organization is something else."""
        await store.put("acme", b"note", lives_for=100)
        assert await store.load("acme") is None
        await put(store, record())
        assert await store.take("acme") == b"note"

    # The store itself

    async def test_closed_and_used_again(self, store: TokenStore) -> None:
        """Closing twice is harmless; the next call opens it again."""
        stored = await put(store, record())
        await store.close()
        await store.close()
        assert await store.load("acme") == stored

    async def test_a_caller_who_leaves(self, store: TokenStore) -> None:
        """Calls that are cancelled disturb no other, and leave the record whole."""
        stored = await put(store, record())
        calls = [asyncio.ensure_future(store.swap(attrs.evolve(stored, cause=str(n)))) for n in range(20)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        loaded = await store.load("acme")
        assert loaded is not None
        assert loaded.version > stored.version
        assert sum(isinstance(result, Record) for result in results) <= 1
