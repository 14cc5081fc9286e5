"""SQLite's thread outlives whatever it meets: each call gets a StoreError, and the next one works (F4)."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tribe_oauth import StoreError
from tribe_oauth.stores._sqlite_database import Database, Reopen
from tribe_oauth.stores._sqlite_files import Files, Names, rescue_folder
from tribe_oauth.stores._sqlite_holder import Holder
from tribe_oauth.stores._sqlite_rescue import Rescue
from tribe_oauth.stores.contract import due, listed, put, record
from tribe_oauth.stores.sqlite import SQLiteStore

from .trouble import is_altered


@pytest.mark.parametrize("error", [ValueError, MemoryError, RecursionError, SystemExit, KeyboardInterrupt, OSError])
async def test_errors_that_nobody_expects(
    error: type[BaseException], path: Path, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes from, all who wait are told, and the database is opened anew."""
    stored = await put(store, record())
    for place in ("run", "close", "_open"):
        with monkeypatch.context() as patch:

            def fail(*_: object) -> None:
                raise error("canary")

            if place != "run":
                await store.close()
            patch.setattr(Database, "_open" if place == "_open" else "run", fail)
            if place == "close":
                patch.setattr(Holder, "has_opened", fail)
            calls = [store.load("acme"), store.swap(stored), store.put("note", b"", lives_for=1)]
            found = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
        assert {type(answer) for answer in found} == {StoreError}
        assert all(str(path) in str(answer) and "canary" not in str(answer) for answer in found)
        assert await asyncio.wait_for(store.load("acme"), 10) == stored


async def test_a_database_that_does_not_close(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fork, the end, and a file that has to be opened anew go on."""
    stored = await put(store, record())

    def fail(_holder: Holder, *_numbers: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Holder, "has_opened", fail)
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        await asyncio.to_thread(os.waitpid, pid, 0)
        assert "what lies beside it cannot be written (No space left on device)" in caplog.text
        with pytest.raises(StoreError, match="No space left"):
            await asyncio.wait_for(store.load("acme"), 10)
    assert await asyncio.wait_for(store.load("acme"), 10) == stored
    await asyncio.wait_for(store.close(), 10)


async def test_a_database_that_breaks_when_it_is_closed(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises: the store is closed, and opens again."""
    stored, close = await put(store, record()), Database.close

    def fail(database: Database) -> None:
        close(database)
        raise RuntimeError("of a driver")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "close", fail)
        await asyncio.wait_for(store.close(), 10)
    assert "was not closed well (RuntimeError)" in caplog.text
    assert await store.load("acme") == stored


async def test_files_that_are_others_at_each_look(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that gives them new numbers is said, and not looked at for ever."""
    stored = await put(store, record())

    def again(_database: Database) -> None:
        raise Reopen

    with monkeypatch.context() as patch:
        patch.setattr(Database, "_still_there", again)
        with pytest.raises(StoreError, match="are others at each look: find out what replaces them"):
            await asyncio.wait_for(store.load("acme"), 10)
    assert await store.load("acme") == stored


def a_folder(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


def a_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def unreadable_text(path: Path) -> None:
    path.write_bytes(b"\xff" * 100)


def without_an_end(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 2**33)


def deep(path: Path) -> None:
    path.write_bytes(b"[" * 1_000_000)


ODD: list[Callable[[Path], None]] = [
    a_folder, a_pipe, a_socket, a_link, a_loop, unreadable_text, without_an_end, deep
]  # fmt: skip


@pytest.mark.parametrize("make", ODD)
@pytest.mark.parametrize("opened", [False, True], ids=["opening", "open"])
async def test_an_odd_copy(make: Callable[[Path], None], opened: bool, path: Path, store: SQLiteStore) -> None:
    """It is named with its organization, others are undisturbed, and no descriptor stays open."""
    stored = await put(store, record(due_at=1.0))
    beta = await put(store, record("beta", due_at=1.0))
    if not opened:
        await store.close()
    rescue_folder(path).mkdir(mode=0o700)
    copy = Rescue(rescue_folder(path))._path("acme")
    make(copy)
    make(rescue_folder(path) / "\udcff.json")  # a name that is no text
    assert await asyncio.wait_for(store.load("beta"), 10) == beta
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(StoreError, match=r"cannot be read: move it away; organization 'acme' may have to") as error:
            await asyncio.wait_for(store.load("acme"), 10)
        assert error.value.organization == "acme"
    assert len(os.listdir("/proc/self/fd")) <= before
    assert sorted(await listed(store)) == sorted(await due(store, 2.0)) == ["acme", "beta"]
    copy.rename(path.with_name("away"))
    assert await asyncio.wait_for(store.load("acme"), 10) == stored


@pytest.mark.parametrize("where", ["-rescue", "-holders"])
async def test_a_folder_that_is_a_file(where: str, path: Path, store: SQLiteStore) -> None:
    """Beside the database: one error, or none, and no hang."""
    path.with_name(f"tribe.db{where}").write_bytes(b"canary")
    if where == "-holders":
        with pytest.raises(StoreError):
            await asyncio.wait_for(store.load("acme"), 10)
    else:
        stored = await asyncio.wait_for(put(store, record()), 10)
        with pytest.raises(StoreError, match="cannot be written"):
            await store.rescue("acme", stored)


def change(path: Path, sql: str, *values: object) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(sql, values)
    connection.close()


@pytest.mark.parametrize("holder", ["a\0b", "../../etc/passwd", "x" * 100_000, b"\xff", 7, 1.5, "0" * 32])
async def test_a_holder_that_is_none(holder: object, path: Path, store: SQLiteStore) -> None:
    """Nobody's lease goes on for as long as it was taken for, and nothing is looked for outside of the folder."""
    await put(store, record(lease="nonce"), lease_for=100)
    change(path, "UPDATE organizations SET lease_holder = ?", holder)
    found = await store.load("acme")
    assert found is not None
    assert 90 < found.lease_left <= 100


async def test_a_holder_that_is_no_text(path: Path, store: SQLiteStore) -> None:
    """It names its organization, and keeps nobody from opening the database where processes have died."""
    await put(store, record(lease="nonce"), lease_for=100)
    beta = await put(store, record("beta"))
    sql = "UPDATE organizations SET lease_holder = CAST(? AS TEXT) WHERE organization = CAST('acme' AS BLOB)"
    change(path, sql, b"\xff")
    (path.with_name("tribe.db-holders") / ("a" * 32)).touch(0o600)
    late = SQLiteStore(path)
    assert await late.load("beta") == beta
    await is_altered(late)
    await late.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE organizations SET payload = 1000000000000000000",  # bytes of that length would be made of it
        "UPDATE organizations SET maybe_spent = 2",
        "UPDATE organizations SET version = 0",
        "UPDATE organizations SET version = -1",
        "UPDATE organizations SET generation = 9223372036854775807",
        "UPDATE organizations SET not_before = 9e999",
        "UPDATE organizations SET due_at = -9e999",
        "UPDATE organizations SET lease = 'n', lease_end = 9e999, lease_for = 9e999",
        "UPDATE organizations SET lease = 'n', lease_for = -1",
    ],
)
async def test_numbers_that_no_store_wrote(sql: str, path: Path, store: SQLiteStore) -> None:
    """A lease without an end, a version that no write has, room that no computer has."""
    await put(store, record())
    await store.close()
    change(path, sql)
    await is_altered(store)


async def test_keys_of_another_type(path: Path, store: SQLiteStore, caplog: pytest.LogCaptureFixture) -> None:
    """Text that cannot be read, and numbers, stop no listing; what is logged finds them."""
    for key in "abcd":
        await put(store, record(key, due_at=1.0))
    for key, value in (("a", "CAST(x'ff41' AS TEXT)"), ("b", "7"), ("c", "'canary'")):
        change(path, f"UPDATE organizations SET organization = {value} WHERE organization = ?", key.encode())  # noqa: S608
    assert await listed(store) == await due(store, 2.0) == ["d"]
    assert "key is no text ('FF41')" in caplog.text


async def test_notes_of_another_type(path: Path, store: SQLiteStore) -> None:
    """They are bytes for who takes them."""
    await store.put("put", b"value", lives_for=100)
    await store.put("taken", b"value", lives_for=100)
    change(path, "UPDATE notes SET value = CAST(? AS TEXT)", b"\xff")
    assert await store.put("put", b"new", lives_for=100) == b"\xff"
    assert await store.take("taken") == b"\xff"


async def test_a_process_that_is_ending(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder's file can be the last that the kernel takes: it is looked at again before anything is said."""
    looks: list[list[tuple[int, ...]]] = [[(1, 2)], [(1, 2)], []]
    monkeypatch.setattr(Holder, "opened_by_others", lambda _: looks.pop(0))
    await put(store, record())
    assert looks == []


async def test_no_locks_to_be_had(path: Path, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has run out of locks does not end the leases of the living."""
    other = SQLiteStore(path)
    await put(store, record(lease="nonce"), lease_for=100)
    await other.load("acme")

    def refuse(_file: int, _how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("tribe_oauth._durable.fcntl.flock", refuse)
    found = await other.load("acme")
    assert found is not None
    assert found.lease_left > 90
    monkeypatch.undo()
    await other.close()


def test_what_has_no_name() -> None:
    """A path that cannot be looked at has no files."""
    assert Names.of(Path("/nowhere")).now() == Files(None, None, None)
