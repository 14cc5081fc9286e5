"""What could not be written: copies beside a local store, and how they come back (F4)."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from pathlib import Path

import attrs
import pytest

from tribe_oauth import MemoryStore, RefreshTokenGrant, StoreError, TokenManager
from tribe_oauth._refresh.payload import decode
from tribe_oauth._strict_json import to_json
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores import Record, Rekeyer, Rescuer
from tribe_oauth.stores._sqlite_rescue import Rescue
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.sqlite import SQLiteStore


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
    assert (loaded.generation, loaded.payload, loaded.lease) == (4, b"new", None)
    assert loaded.version > stored.version


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


def test_a_copy_that_another_takes_in(path: Path) -> None:
    """Two processes that open the store at once: what one has taken in is no trouble for the other."""
    rescue = Rescue(path.with_name("tribe.db-rescue"))
    for key in ("acme", "beta"):
        rescue.keep(record(key))
    taken: list[Record] = []

    def write(kept: Record) -> None:
        taken.append(kept)
        for copy in copies(path):
            copy.unlink()

    rescue.take_in(write)
    assert len(taken) == 1


async def test_a_copy_that_was_overtaken(path: Path) -> None:
    """A copy is dropped when the stored record has reached its generation by a refresh, a connect or a disconnect."""
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


def spoiled(without: str = "", **members: object) -> bytes:
    """A copy with these members changed, and one missing."""
    kept = json.loads(to_json(record(generation=1, payload=b"canary"))) | members
    kept.pop(without, None)
    return json.dumps(kept).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"null",
        b"[" * 200_000,
        b'{"organization":' * 200_000,
        spoiled(without="generation"),
        spoiled(without="payload"),
        spoiled(without="organization"),
        spoiled(generation="7"),
        spoiled(generation=True),
        spoiled(status="canary"),
        spoiled(not_before="now"),
        spoiled(not_before=10**400),
        spoiled(payload="no base64!"),
        spoiled(payload=["canary"]),
        spoiled(maybe_spent=1),
        spoiled(organization="another"),
        spoiled(organization="\ud800"),
        spoiled(generation=2**70),
        spoiled(cause="\ud800"),
    ],
)
async def test_a_damaged_copy(path: Path, content: bytes) -> None:
    """It is left where it is, and one error names it and the remedy; moved away, the store opens."""
    store = SQLiteStore(path)
    await store.rescue("acme", record())
    (copy,) = copies(path)
    copy.write_bytes(content)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"of a record .* cannot be read: move it away") as error:
            await store.load("acme")
        assert repr(str(copy)) in str(error.value)
        assert "canary" not in str(error.value)
    assert copy.read_bytes() == content
    copy.rename(path.with_name("away"))
    assert await store.load("acme") is None
    await store.close()


async def test_a_copy_that_is_no_file(path: Path) -> None:
    """The same for what the operating system does not let us read."""
    store = SQLiteStore(path)
    await store.rescue("acme", record())
    (copy,) = copies(path)
    copy.unlink()
    copy.mkdir()
    with pytest.raises(StoreError, match="cannot be read: move it away"):
        await store.load("acme")
    await store.close()


async def test_a_copy_of_a_later_version(path: Path) -> None:
    """A member that this version does not know is no reason to lose a token; nor is the form of an earlier version."""
    store = SQLiteStore(path)
    await store.rescue("acme", record())
    (copy,) = copies(path)
    copy.write_bytes(spoiled(invented_later=[1]))
    loaded = await store.load("acme")
    assert loaded is not None
    assert (loaded.generation, loaded.payload) == (1, b"canary")
    await store.close()


async def test_a_copy_that_cannot_be_written(path: Path) -> None:
    """One clear error, for writing and for removing."""
    rescue = Rescue(path)
    (rescue._path("acme") / "inside").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot be written .*: make its folder writable, and make room"):
        rescue.keep(record())
    with pytest.raises(StoreError, match=r"cannot be removed .*: remove it"):
        rescue.forget("acme")


async def test_a_copy_survives_a_power_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its content is on the disk before it has its name, and so is its name, and the name's removal."""
    synced: list[str] = []
    fsync = os.fsync

    def watch(file: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)
        fsync(file)

    rescue = Rescue(path.with_name("tribe.db-rescue"))
    monkeypatch.setattr(os, "fsync", watch)
    rescue.keep(record())
    name = rescue._path("acme").name
    assert synced == [path.parent.name, f"{name}.new", "tribe.db-rescue"]
    rescue.forget("acme")
    assert synced[3:] == ["tribe.db-rescue"]


async def test_copies_are_encrypted(path: Path) -> None:
    """S24: an encrypted store's copy is encrypted."""
    store = EncryptedStore(SQLiteStore(path), [generate_key()])
    assert isinstance(store, Rescuer)
    await store.rescue("acme", record(generation=1, payload=b"canary"))
    (copy,) = copies(path)
    assert b"canary" not in copy.read_bytes()
    loaded = await store.load("acme")
    assert loaded is not None
    assert loaded.payload == b"canary"
    await store.rescue("acme", None)
    await store.close()


def test_which_stores_keep_copies(path: Path) -> None:
    """A store in a local file does, also when it is encrypted; one in memory does not, encrypted or not."""
    for store, keeps in ((SQLiteStore(path), True), (MemoryStore(), False)):
        encrypted = EncryptedStore(store, [generate_key()])
        assert isinstance(store, Rescuer) is isinstance(encrypted, Rescuer) is keeps
        assert isinstance(encrypted, Rekeyer)
        assert not isinstance(store, Rekeyer)


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


async def test_a_copy_from_the_first_failure_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt to write a file that is locked takes seconds, in which the process may be killed."""
    found: list[int] = []
    async with Sandbox() as sandbox:
        client, store = sandbox.client(), SQLiteStore(path, busy_timeout=0.02)
        async with TokenManager(client, store=store) as manager:
            await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
            blocker, rescue = sqlite3.connect(path, isolation_level=None), store.rescue
            fault = sandbox.fault("hang")
            refreshing = asyncio.ensure_future(manager.refresh("acme"))
            await fault.reached()
            blocker.execute("BEGIN IMMEDIATE")

            async def unlocking(organization: str, kept: Record | None) -> None:
                await rescue(organization, kept)
                found.append(len(copies(path)))
                blocker.close()

            monkeypatch.setattr(store, "rescue", unlocking)
            fault.release()
            token = await refreshing
            assert found == [1, 0]
            stored = await store.load("acme")
            assert stored is not None
            assert decode(stored).token == token


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
