"""What could not be written: copies beside a local store, and how they come back (F4)."""

from __future__ import annotations

import logging
from pathlib import Path

import attrs
import pytest

from tribe_oauth import MemoryStore, RefreshTokenGrant, StoreError, TokenManager
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores import Record
from tribe_oauth.stores._rescue import Rescue
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.sqlite import SQLiteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tribe.db"


def copies(path: Path) -> list[Path]:
    return list(path.with_name("tribe.db-rescue").glob("*"))


async def after_a_crash(path: Path, kept: Record) -> Record | None:
    """What a process that opens the store finds, after an earlier one kept a copy."""
    store = SQLiteStore(path)
    await store.rescue(kept.organization, kept)
    await store.close()
    loaded = await store.load(kept.organization)
    await store.close()
    assert copies(path) == []
    return loaded


async def test_a_copy_comes_back(path: Path) -> None:
    """The next generation of what is stored is taken in, without the lease of the dead."""
    store = SQLiteStore(path)
    stored = await put(store, record(generation=3, lease="dead", payload=b"old"), lease_for=100)
    await store.close()
    loaded = await after_a_crash(path, attrs.evolve(stored, generation=4, payload=b"new"))
    assert loaded is not None
    assert (loaded.generation, loaded.payload, loaded.lease, loaded.version) == (4, b"new", None, 2)


async def test_a_first_record_comes_back(path: Path) -> None:
    """A code was exchanged, and nothing is stored yet."""
    loaded = await after_a_crash(path, record(generation=1, payload=b"new"))
    assert loaded is not None
    assert loaded.payload == b"new"


async def test_a_copy_beside_an_older_backup(path: Path) -> None:
    """F4: the file was damaged and an old backup restored: the copy is the only one that can still be spent."""
    store = SQLiteStore(path)
    stored = await put(store, record(generation=2, payload=b"old"))
    await store.close()
    loaded = await after_a_crash(path, attrs.evolve(stored, generation=5, payload=b"live"))
    assert loaded is not None
    assert (loaded.generation, loaded.payload) == (5, b"live")


async def test_a_copy_that_was_overtaken(path: Path) -> None:
    """Where somebody has gone on from there, connected or disconnected it, the copy is nothing any more."""
    store = SQLiteStore(path)
    stored = await put(store, record(generation=4, payload=b"newer"))
    await store.close()
    assert await after_a_crash(path, attrs.evolve(stored, generation=4, payload=b"late")) == stored


async def test_copies_are_private(path: Path) -> None:
    """S26: as private as the store itself."""
    store = SQLiteStore(path)
    await store.rescue("acme", record(payload=b"x"))
    (copy,) = copies(path)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    for _ in range(2):
        await store.rescue("acme", None)
        assert copies(path) == []


async def test_a_damaged_copy(path: Path) -> None:
    """It is left alone, and said."""
    store = SQLiteStore(path)
    await store.rescue("acme", record())
    (copy,) = copies(path)
    copy.write_text("{")
    with pytest.raises(StoreError, match="cannot be read: move it away"):
        await store.load("acme")
    await store.close()
    assert copy.read_text() == "{"


async def test_a_copy_that_cannot_be_written(path: Path) -> None:
    """One clear error."""
    rescue = Rescue(path)
    rescue._path("acme").mkdir(parents=True)
    path.chmod(0o700)
    with pytest.raises(StoreError, match="cannot be written"):
        rescue.keep(record())


async def test_copies_are_sealed(path: Path) -> None:
    """S24: an encrypted store's copy is encrypted; a store that keeps none has none."""
    store = EncryptedStore(SQLiteStore(path), [generate_key()])
    await store.rescue("acme", record(generation=1, payload=b"canary"))
    (copy,) = copies(path)
    assert b"canary" not in copy.read_bytes()
    loaded = await store.load("acme")
    assert loaded is not None
    assert loaded.payload == b"canary"
    await store.rescue("acme", None)
    await store.close()
    await EncryptedStore(MemoryStore(), [generate_key()]).rescue("acme", record())


class Locked:
    """Makes commits fail, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: float) -> None:
        swap = SQLiteStore.swap

        async def locked(store: SQLiteStore, record: Record, *, lease_for: float | None = None) -> Record | None:
            if lease_for is None and record.generation > 1 and self.times > 0:
                self.times -= 1
                raise StoreError("locked")
            return await swap(store, record, lease_for=lease_for)

        self.times = times
        monkeypatch.setattr(SQLiteStore, "swap", locked)


async def test_a_process_that_ends_with_a_token_unsaved(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F4: spent, answered, not stored, and the process ends: the next one has the token all the same."""
    caplog.set_level(logging.WARNING)
    async with Sandbox() as sandbox:
        client = sandbox.client()
        async with TokenManager(client, store=SQLiteStore(path)) as manager:
            await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
            locked = Locked(monkeypatch, times=float("inf"))
            token = await manager.refresh("acme")
        assert "could not be saved" in caplog.text
        locked.times = 0
        async with TokenManager(client, store=SQLiteStore(path)) as manager:
            assert await manager.token("acme") == token
            assert await manager.refresh("acme") != token
        assert sandbox.ledger.spent_twice() == ()


async def test_a_copy_that_is_not_needed_any_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store can write again, the copy goes."""
    async with Sandbox() as sandbox:
        client = sandbox.client()
        async with TokenManager(client, store=SQLiteStore(path)) as manager:
            await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
            Locked(monkeypatch, times=5)
            await manager.refresh("acme")
            assert len(copies(path)) == 1
        assert copies(path) == []


async def test_neither_store_nor_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F4: a full disk takes neither; both are said."""

    async def full(*args: object, **kwargs: object) -> None:
        raise StoreError("full")

    async with Sandbox() as sandbox:
        client = sandbox.client()
        async with TokenManager(client, store=SQLiteStore(path)) as manager:
            request = client.authorization_request()
            monkeypatch.setattr(SQLiteStore, "swap", full)
            monkeypatch.setattr(SQLiteStore, "rescue", full)
            with pytest.raises(StoreError, match="is connected, but could not be saved yet"):
                await manager.connect("acme", request.grant(await sandbox.approve(request.url)))
    assert "nor could a copy be kept" in caplog.text
