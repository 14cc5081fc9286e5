"""Scenarios of the stores: every operation of each, on connections that have to be opened, and on open ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final, cast

from tribe_oauth import MemoryStore, TokenStore
from tribe_oauth.stores import Record
from tribe_oauth.stores.encrypted import EncryptedStore
from tribe_oauth.stores.postgres import PostgresStore

from .harness import Subject, scenario
from .leaks import Snapshot
from .worlds import KEYS, Place

Operation = Callable[[Any], Coroutine[Any, Any, object]]

KNOWN: Final = ("acme", "beta", "gamma")
CLASSES: Final = {
    "memory": "MemoryStore",
    "sqlite": "SQLiteStore",
    "postgres": "PostgresStore",
    "redis": "RedisStore",
    "encrypted": "EncryptedStore",
}


def record(organization: str, **fields: Any) -> Record:
    """One with a payload that tells whose it is."""
    return Record(
        organization=organization, status="connected", family="f", due_at=1.0, payload=organization.encode(), **fields
    )


async def _each(keys: AsyncIterator[str]) -> None:
    async with aclosing(cast("Any", keys)):
        async for _key in keys:
            await asyncio.sleep(0)


OPERATIONS: Final[dict[str, Operation]] = {
    "load": lambda store: store.load("beta"),
    "swap": lambda store: store.swap(record("delta"), lease_for=1.0),
    "organizations": lambda store: _each(store.organizations()),
    "due": lambda store: _each(store.due(2.0)),
    "put": lambda store: store.put("a note", b"new", lives_for=60.0),
    "take": lambda store: store.take("an old note"),
}


async def _fill(store: TokenStore) -> None:
    for organization in KNOWN:
        assert await store.swap(record(organization)) is not None
    await store.put("an old note", b"old", lives_for=60.0)


async def _works(store: TokenStore) -> None:
    """Whatever was cut, answers belong to their questions."""
    for organization in KNOWN:
        found = await store.load(organization)
        assert found is not None, f"{organization} is gone"
        assert found.payload == organization.encode(), f"{organization} has the record of {found.payload!r}"
    assert await store.put("another note", b"its text", lives_for=60.0) == b"its text"
    assert await store.take("another note") == b"its text"
    assert await store.take("an old note") in {b"old", None}


async def _filled(place: Place, kind: str, *, is_open: bool) -> TokenStore:
    store = await place.empty_store(kind)
    await _fill(store)
    if is_open or isinstance(store, MemoryStore):
        return store
    await store.close()
    return place.store(kind)


def _operation(kind: str, operation: str, situation: str, run: Operation) -> None:
    async def open_world(place: Place) -> AsyncIterator[Subject]:
        store = await _filled(place, kind, is_open=situation == "open")
        yield Subject(run=lambda: run(store), owns=Snapshot.take(), after=lambda: _works(store))
        await store.close()

    scenario(f"{CLASSES[kind]}.{operation}: {situation}")(open_world)


def _close(kind: str) -> None:
    async def open_world(place: Place) -> AsyncIterator[Subject]:
        before = Snapshot.take()
        store = await _filled(place, kind, is_open=True)
        yield Subject(run=store.close, owns=before, frees="everything")
        await _works(store)
        await store.close()

    scenario(f"{CLASSES[kind]}.close")(open_world)


for _kind in CLASSES:
    _close(_kind)
    for _name, _run in OPERATIONS.items():
        _operation(_kind, _name, "open", _run)
        if _kind != "memory":
            _operation(_kind, _name, "to be opened", _run)

for _kind in ("sqlite", "postgres", "redis", "encrypted"):
    for _situation in ("open", "to be opened"):
        _operation(_kind, "slots", _situation, lambda store: store.slots("key"))
        _operation(
            _kind, "swap_slots", _situation, lambda store: store.swap_slots("key", b"state", version=0, lives_for=1.0)
        )

for _kind in ("sqlite", "encrypted"):
    _operation(_kind, "rescue", "a copy is kept", lambda store: store.rescue("acme", record("acme")))
    _operation(_kind, "rescue", "a copy is not needed any more", lambda store: store.rescue("acme", None))


@scenario("PostgresStore.create_schema")
async def create_schema(place: Place) -> AsyncIterator[Subject]:
    place.drop_tables()
    store = PostgresStore(place.postgres)
    yield Subject(run=store.create_schema, owns=Snapshot.take())
    await store.create_schema()
    await _fill(store)
    await _works(store)
    await store.close()


@scenario("EncryptedStore.rekey")
async def rekey(place: Place) -> AsyncIterator[Subject]:
    inside = place.store("sqlite")
    await _fill(EncryptedStore(inside, KEYS[:1]))
    store = EncryptedStore(inside, [KEYS[1], KEYS[0]])
    yield Subject(run=store.rekey, owns=Snapshot.take())
    await store.rekey()
    await _works_without_notes(EncryptedStore(inside, KEYS[1:]))
    await store.close()


async def _works_without_notes(store: TokenStore) -> None:
    for organization in KNOWN:
        found = await store.load(organization)
        assert found is not None
        assert found.payload == organization.encode()
