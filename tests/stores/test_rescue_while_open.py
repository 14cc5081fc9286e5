"""Copies of what could not be written, for processes that have the database open already (F4)."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import attrs
import pytest

from tribe_oauth import RefreshTokenGrant, StoreError, TokenManager
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores import Record, Rescuer, TokenStore
from tribe_oauth.stores._sqlite_files import rescue_folder
from tribe_oauth.stores._sqlite_rescue import Copy, Rescue
from tribe_oauth.stores.contract import due, listed, put, record
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.sqlite import SQLiteStore

Open = Callable[[], TokenStore]


@pytest.fixture(params=["plain", "encrypted"])
def opened(request: pytest.FixtureRequest, path: Path) -> Open:
    """Opens the store, as a process does."""
    keys = [generate_key()]
    if request.param == "plain":
        return lambda: SQLiteStore(path)
    return lambda: EncryptedStore(SQLiteStore(path), keys)


@pytest.fixture
async def dead(opened: Open) -> AsyncIterator[TokenStore]:
    """The store of a process that keeps a copy, and then is no more."""
    store = opened()
    yield store
    await store.close()


@pytest.fixture
async def store(opened: Open) -> AsyncIterator[TokenStore]:
    """The store of one that has it open all the time."""
    store = opened()
    await store.put("note", b"", lives_for=1)
    yield store
    await store.close()


def copies(path: Path) -> list[Path]:
    return list(path.with_name("tribe.db-rescue").glob("*"))


def locked(path: Path) -> sqlite3.Connection:
    """What a backup does."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


async def keep(store: TokenStore, kept: Record) -> None:
    assert isinstance(store, Rescuer)
    await store.rescue(kept.organization, kept)


async def test_it_is_taken_in(path: Path, dead: TokenStore, store: TokenStore) -> None:
    """By the next load, without the lease; then the copy is gone."""
    old = await put(dead, record(generation=1, lease="dead", payload=b"old"), lease_for=100)
    await keep(dead, attrs.evolve(old, generation=2, payload=b"new"))
    found = await store.load("acme")
    assert found is not None
    assert (found.generation, found.payload, found.lease) == (2, b"new", None)
    assert found.version > old.version
    assert copies(path) == []
    assert await store.load("acme") == found


async def test_a_first_record(path: Path, dead: TokenStore, store: TokenStore) -> None:
    """A code was exchanged, and nothing was stored yet."""
    await keep(dead, record(generation=1, payload=b"new", due_at=1.0))
    found = await store.load("acme")
    assert found is not None
    assert found.payload == b"new"
    assert found.version > 0
    assert await listed(store) == await due(store, 2.0) == ["acme"]


async def test_while_the_database_is_locked(path: Path, dead: TokenStore, store: TokenStore) -> None:
    """It is given at once, by the version that the next swap compares; what that writes has the token in it."""
    old = await put(dead, record(generation=1, lease="dead", payload=b"old"), lease_for=100)
    await keep(dead, attrs.evolve(old, generation=2, payload=b"new"))
    await keep(dead, record("first", generation=1, payload=b"first"))
    backup = locked(path)
    found, first = await store.load("acme"), await store.load("first")
    assert found is not None
    assert first is not None
    assert (found.generation, found.payload, found.lease, found.version) == (2, b"new", None, old.version)
    assert (first.payload, first.version) == (b"first", 0)
    assert len(copies(path)) == 2
    backup.execute("COMMIT")
    backup.close()
    stored = await put(store, attrs.evolve(found, lease="mine"), lease_for=100)
    again = await store.load("acme")
    assert again is not None
    assert attrs.evolve(again, lease_left=stored.lease_left) == stored
    assert len(copies(path)) == 1


async def test_while_the_database_is_locked_and_nothing_is_new(path: Path, dead: TokenStore, store: TokenStore) -> None:
    """A copy that was overtaken is no news, whether or not it can be removed."""
    stored = await put(dead, record(generation=2, payload=b"newer"))
    await keep(dead, attrs.evolve(stored, generation=1, payload=b"late"))
    backup = locked(path)
    assert await store.load("acme") == stored
    backup.execute("COMMIT")
    backup.close()
    assert await store.load("acme") == stored
    assert copies(path) == []


async def test_amid_writes_of_others(path: Path, dead: TokenStore, store: TokenStore) -> None:
    """A load that shares a transaction with writes takes it in with them; the next removes the copy."""
    old = await put(dead, record(generation=1, payload=b"old"))
    await keep(dead, attrs.evolve(old, generation=2, payload=b"new"))
    results = await asyncio.gather(*(put(store, record(f"org {n}")) for n in range(20)), store.load("acme"))
    assert results[-1] is not None
    assert results[-1].payload == b"new"
    assert results[-1].version > old.version
    again = await asyncio.gather(*(put(store, record(f"more {n}")) for n in range(20)), store.load("acme"))
    assert again[-1] == results[-1]
    assert await store.load("acme") == results[-1]
    assert copies(path) == []


async def test_no_lease_of_what_is_older(path: Path, dead: TokenStore, store: TokenStore) -> None:
    """A copy that is kept between a look and the lease: the lease is refused, and the next look finds the token."""
    old = await put(dead, record(generation=1, payload=b"old"))
    seen = await store.load("acme")
    assert seen == old
    await keep(dead, attrs.evolve(old, generation=2, payload=b"new"))
    assert await store.swap(attrs.evolve(seen, lease="mine"), lease_for=100) is None
    found = await store.load("acme")
    assert found is not None
    assert found.payload == b"new"
    assert await store.swap(attrs.evolve(found, lease="mine"), lease_for=100) is not None


async def test_a_later_copy_stays(path: Path) -> None:
    """A copy that is replaced while an earlier one is taken in is not removed with it."""
    store = SQLiteStore(path)
    await keep(store, record(generation=1))
    copy = store_copy(store)
    await keep(store, record(generation=2, payload=b"later"))
    copy.remove()
    assert len(copies(path)) == 1
    found = await store.load("acme")
    assert found is not None
    assert found.payload == b"later"
    copy.remove()
    await store.close()


def store_copy(store: SQLiteStore) -> Copy:
    copy = Rescue(rescue_folder(store._path)).find("acme")
    assert copy is not None
    return copy


@pytest.mark.parametrize("spoil", ["text", "pipe", "folder", "link", "endless", "too large"])
async def test_a_copy_that_cannot_be_read(
    spoil: str, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One error names its organization's file and the remedy; all others are undisturbed, and nothing hangs."""
    store = SQLiteStore(path)
    beta = await put(store, record("beta"))
    acme = await put(store, record())
    await keep(store, record(generation=1))
    (copy,) = copies(path)
    copy.unlink()
    if spoil == "text":
        copy.write_text("{canary")
    elif spoil == "pipe":
        os.mkfifo(copy)
    elif spoil == "folder":
        copy.mkdir()
    elif spoil == "link":
        copy.symlink_to(tmp_path / "nowhere")
    elif spoil == "endless":
        copy.symlink_to("/dev/zero")
    else:
        copy.touch()
        os.truncate(copy, 2**34)
    async with asyncio.timeout(20):
        for _ in range(2):
            for call in (store.load("acme"), store.swap(attrs.evolve(acme, lease="n"), lease_for=1)):
                with pytest.raises(StoreError, match="cannot be read: move it away") as error:
                    await call
                assert repr(str(copy)) in str(error.value)
            assert await store.load("beta") == beta
            assert sorted(await listed(store)) == ["acme", "beta"]
            await store.close()
    assert "cannot be read: move it away" in caplog.text
    assert "canary" not in caplog.text
    copy.rename(tmp_path / "away")
    assert await store.load("acme") == acme
    await store.close()


DYING = """
import asyncio, sys
from tribe_oauth import Client, TokenManager
from tribe_oauth.sandbox import Remote
from tribe_oauth.stores.sqlite import SQLiteStore

async def main(base, client_id, client_secret, path):
    client = Client(client_id, client_secret, endpoints=Remote(base).endpoints)
    async with TokenManager(client, store=SQLiteStore(path, busy_timeout=0.01)) as manager:
        keys = [organization async for organization in manager.organizations()]
        tokens = await asyncio.gather(*(manager.refresh(key) for key in keys))
        for key, token in zip(keys, tokens):
            print(key, token.access_token.reveal(), flush=True)
        await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("dies", ["before the lock ends", "after a look"])
async def test_a_process_that_dies_with_tokens_unsaved(path: Path, dies: str) -> None:
    """Ten organizations refreshed while a backup locks the database, then killed: one that lives on has all ten."""
    keys = [f"org {number}" for number in range(10)]
    async with Sandbox() as sandbox:
        client = sandbox.client()
        async with TokenManager(client, store=SQLiteStore(path), quiet=0.2) as manager:
            for key in keys:
                await manager.connect(key, RefreshTokenGrant(client, sandbox.paste_token(key)))
            fault = sandbox.fault("hang", times=None)
            arguments = [sandbox.base, client.client_id, client.client_secret.reveal(), str(path)]
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-W", "ignore", "-c", DYING, *arguments, stdout=PIPE, stderr=DEVNULL
            )
            while fault.hits < 10:
                await fault.reached()
                await asyncio.sleep(0)
            backup = locked(path)
            fault.cancel()
            assert child.stdout is not None
            told = dict([(await child.stdout.readline()).decode().rsplit(maxsplit=1) for _ in keys])
            if dies == "after a look":  # what the living reads is the new token, though it cannot be written
                looked = [await manager.refresh(key, rejected=await manager.token(key)) for key in keys]
                assert [token.access_token.reveal() for token in looked] == [told[key] for key in keys]
            child.kill()
            await child.wait()
            backup.execute("COMMIT")
            backup.close()
            found = {key: await manager.refresh(key, rejected=None) for key in keys}
            assert sorted(found) == sorted(told)
            for key in keys:
                assert (await manager.status(key)).state == "fresh"
        await manager.store.close()
        assert sandbox.ledger.spent_twice() == ()
        families = [family for key in keys for family in sandbox.ledger.families(key)]
        assert [family.live for family in families] == [True] * 10
    assert copies(path) == []
