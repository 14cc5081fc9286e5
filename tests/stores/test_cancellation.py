"""Cancelled at any await, by any means: nothing stays open, nothing goes on, and the store works afterwards."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from tribe_oauth.stores import Rekeyer, Rescuer, TokenStore
from tribe_oauth.stores import redis as redis_store
from tribe_oauth.stores.contract import due, listed, put, record
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.stores.redis import RedisStore
from tribe_oauth.stores.sqlite import SQLiteStore

from . import redis_servers
from .servers import RedisServer

Make = Callable[[], TokenStore]
Operation = Callable[[TokenStore], Coroutine[Any, Any, Any]]


class Stepped:
    """Drives a coroutine, counts how often it is suspended, and does something at one of these moments."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, act: Callable[[], object]) -> None:
        self.suspensions = 0
        self._coroutine = coroutine
        self._at = at
        self._act = act

    def __await__(self) -> Generator[Any, None, Any]:
        thrown: BaseException | None = None
        while True:
            try:
                future = self._coroutine.send(None) if thrown is None else self._coroutine.throw(thrown)
            except StopIteration as end:
                return end.value
            self.suspensions += 1
            if self.suspensions == self._at:
                self._act()
            thrown = None
            try:
                yield future
            except BaseException as error:
                thrown = error


async def natively(coroutine: Coroutine[Any, Any, Any], at: int) -> tuple[int, BaseException | None]:
    """`Task.cancel` at the suspension with this number. How many there were, and what was raised."""
    stepped = Stepped(coroutine, at, lambda: task.cancel())

    async def run() -> object:
        return await stepped

    task = asyncio.ensure_future(run())
    try:
        await task
    except asyncio.CancelledError as cancelled:
        return stepped.suspensions, cancelled
    return stepped.suspensions, None


async def by_timeout(coroutine: Coroutine[Any, Any, Any], at: int) -> tuple[int, BaseException | None]:
    """`asyncio.timeout` that runs out at the suspension with this number."""
    try:
        async with asyncio.timeout(None) as timeout:
            stepped = Stepped(coroutine, at, lambda: timeout.reschedule(0))
            await stepped
    except TimeoutError as late:
        return stepped.suspensions, late
    return stepped.suspensions, None


async def by_scope(coroutine: Coroutine[Any, Any, Any], at: int) -> tuple[int, BaseException | None]:
    """An anyio scope, which cancels every await from then on."""
    raised: BaseException | None = None
    with anyio.CancelScope() as scope:
        stepped = Stepped(coroutine, at, scope.cancel)
        try:
            await stepped
        except asyncio.CancelledError as cancelled:
            raised = cancelled
            raise
    return stepped.suspensions, raised


def descriptors() -> set[str]:
    """What this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return found


async def until_closed(before: set[str]) -> None:
    """A transport closes its socket in the next round of the event loop."""
    async with asyncio.timeout(5):
        while descriptors() - before:  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0)


@pytest.fixture(scope="module")
def redis_cluster() -> Iterator[str]:
    """The URL of a cluster, whose first server is not there."""
    with redis_servers.cluster() as nodes:
        yield f"redis+cluster://127.0.0.1:9,127.0.0.1:{nodes[0].port}"


@pytest.fixture(scope="module")
def redis_sentinel() -> Iterator[str]:
    """The URL of a master that Sentinel knows; the first Sentinel is not there."""
    with redis_servers.watched() as watched:
        yield watched.url.replace("//", "//127.0.0.1:9,")


@pytest.fixture(params=["sqlite", "encrypted", "postgres", "redis", "redis_cluster", "redis_sentinel"])
async def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes stores of one kind on the same data, with one connection each."""
    keys = [generate_key()]
    if request.param == "postgres":
        database: str = request.getfixturevalue("database")
        prepared = PostgresStore(database)
        await prepared.create_schema()
        await prepared.close()
        return lambda: PostgresStore(database, pool_size=1)
    prefix = uuid.uuid4().hex
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return lambda: RedisStore(server.url, prefix=prefix, pool_size=1)
    if request.param in {"redis_cluster", "redis_sentinel"}:
        url: str = request.getfixturevalue(request.param)
        monkeypatch.setattr(redis_store, "BUCKETS", 4)  # a listing asks for one after the other: no await is another
        return lambda: RedisStore(url, prefix=prefix, pool_size=1)
    if request.param == "encrypted":
        return lambda: EncryptedStore(SQLiteStore(tmp_path / "tribe.db"), keys)
    return lambda: SQLiteStore(tmp_path / "tribe.db")


async def save(store: TokenStore) -> None:
    await store.swap(record("new", lease="nonce"), lease_for=10)


async def load(store: TokenStore) -> None:
    await store.load("acme")


async def put_note(store: TokenStore) -> None:
    await store.put("note", b"value", lives_for=10)


async def take_note(store: TokenStore) -> None:
    await store.take("note")


async def list_all(store: TokenStore) -> None:
    await listed(store)


async def list_due(store: TokenStore) -> None:
    await due(store, 2.0)


async def keep_a_copy(store: TokenStore) -> None:
    assert isinstance(store, Rescuer)
    await store.rescue("acme", record())
    await store.rescue("acme", None)


async def rekey(store: TokenStore) -> None:
    assert isinstance(store, Rekeyer)
    await store.rekey()


OPERATIONS: list[Operation] = [load, save, put_note, take_note, list_all, list_due]
Cancel = Callable[[Coroutine[Any, Any, Any], int], Awaitable[tuple[int, BaseException | None]]]
MEANS: list[Cancel] = [natively, by_timeout, by_scope]


@pytest.mark.parametrize("cancel", MEANS)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("busy", [False, True], ids=["alone", "busy"])
async def test_cancelled_at_every_await(
    make: Make,
    operation: Operation,
    cancel: Cancel,
    busy: bool,
) -> None:
    """Also while the connection is being opened, and while another call has it: no descriptor and no task is left."""
    await cancel_at_every_await(make, operation, cancel, busy)


@pytest.mark.parametrize("make", ["encrypted"], indirect=True)
@pytest.mark.parametrize("cancel", MEANS)
@pytest.mark.parametrize("operation", [keep_a_copy, rekey])
async def test_optional_abilities_are_cancelled_at_every_await(
    make: Make, operation: Operation, cancel: Cancel
) -> None:
    """The same for what not every store can do."""
    await cancel_at_every_await(make, operation, cancel, busy=False)


async def cancel_at_every_await(make: Make, operation: Operation, cancel: Cancel, busy: bool) -> None:
    """Cancel it at its first suspension, then on a new store at its second, and so on to its end."""
    store = make()
    stored = await put(store, record(due_at=1.0, payload=b"secret"))
    await store.close()
    for at in count(1):
        store = make()
        open_before, tasks_before = descriptors(), asyncio.all_tasks()
        other = asyncio.ensure_future(store.load("acme")) if busy else None
        await asyncio.sleep(0)
        suspensions, error = await cancel(operation(store), at)
        if other is not None:
            assert await other == stored
        assert asyncio.all_tasks() == tasks_before
        assert await store.load("acme") == stored
        await store.close()
        await until_closed(open_before)
        del error  # only now: what it refers to was not the reason that anything was closed
        if suspensions < at:
            return


@pytest.mark.parametrize("cancel", MEANS)
async def test_closing_is_cancelled_at_every_await(make: Make, cancel: Cancel) -> None:
    """It finishes all the same, and the next call opens the store again."""
    for at in count(1):
        store = make()
        open_before, tasks_before = descriptors(), asyncio.all_tasks()
        await store.load("acme")
        suspensions, _ = await cancel(store.close(), at)
        assert asyncio.all_tasks() == tasks_before
        await until_closed(open_before)
        assert await store.load("acme") is None
        await store.close()
        if suspensions < at:
            return


@pytest.mark.parametrize("cancel", MEANS)
async def test_creating_the_schema_is_cancelled_at_every_await(database: str, cancel: Cancel) -> None:
    """It can be called again, and nothing of the first call holds it up."""
    for at in count(1):
        store = PostgresStore(database, pool_size=1)
        open_before, tasks_before = descriptors(), asyncio.all_tasks()
        suspensions, error = await cancel(store.create_schema(), at)
        assert asyncio.all_tasks() == tasks_before
        await store.create_schema()
        await store.close()
        await until_closed(open_before)
        del error
        if suspensions < at:
            return


async def test_a_listing_that_is_left_half_way(make: Make) -> None:
    """Closed by its reader, it leaves nothing for the event loop to close."""
    store = make()
    open_before, tasks_before = descriptors(), asyncio.all_tasks()
    for number in range(5):
        await put(store, record(f"org {number}", due_at=1.0))
    for listing in (store.organizations(), store.due(2.0)):
        assert isinstance(listing, AsyncGenerator)
        await anext(listing)
        await listing.aclose()
        assert asyncio.all_tasks() == tasks_before
    await store.close()
    await until_closed(open_before)


async def test_closing_while_the_thread_works(tmp_path: Path) -> None:
    """A close that is cancelled, more than once, returns when the thread has written what it had and has ended."""
    store = SQLiteStore(tmp_path / "tribe.db")
    open_before = descriptors()
    held, go_on = threading.Event(), threading.Event()

    def hold(_database: object) -> None:
        held.set()
        go_on.wait(10)

    holding = asyncio.ensure_future(store._call(hold))
    await asyncio.to_thread(held.wait, 10)
    saving = asyncio.ensure_future(store.swap(record()))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(store.close())
    for _ in range(3):
        await asyncio.sleep(0)
        closing.cancel()
    await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert descriptors() <= open_before
    assert saving.done()
    assert (await saving) is not None
    await holding


async def test_a_copy_is_kept_by_a_call_that_was_cancelled(tmp_path: Path) -> None:
    """A rescue that has begun ends before its caller goes on, so that a removal after it removes it."""
    store = SQLiteStore(tmp_path / "tribe.db")
    suspensions, error = await natively(store.rescue("acme", record()), 1)
    assert suspensions > 1
    assert isinstance(error, asyncio.CancelledError)
    assert len(list(tmp_path.glob("tribe.db-rescue/*.json"))) == 1
    await store.rescue("acme", None)
    assert list(tmp_path.glob("tribe.db-rescue/*")) == []
