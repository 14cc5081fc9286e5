"""What is missing says nothing: files that are removed, emptied, copied or put back while processes live."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from tribe_oauth import StoreError
from tribe_oauth.stores import Record
from tribe_oauth.stores._sqlite_files import Files, Names
from tribe_oauth.stores.contract import listed, put, record
from tribe_oauth.stores.sqlite import SQLiteStore


@pytest.fixture
async def other(path: Path) -> AsyncIterator[SQLiteStore]:
    """As another process has it: another thread, another connection, another holder."""
    store = SQLiteStore(path)
    yield store
    await store.close()


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def holders(path: Path) -> list[Path]:
    return sorted(beside(path, "-holders").glob("?" * 32))


async def loaded(store: SQLiteStore, organization: str = "acme") -> Record:
    found = await store.load(organization)
    assert found is not None
    return found


# Who holds a lease


@pytest.mark.parametrize("how", ["removed", "folder", "emptied", "copied", "pipe"])
async def test_a_living_holders_file(how: str, path: Path, store: SQLiteStore, other: SQLiteStore) -> None:
    """Whatever becomes of it, the lease goes on; the next lease makes the file anew."""
    stored = await put(store, record(lease="nonce"), lease_for=100)
    (file,) = holders(path)
    if how == "removed":
        file.unlink()
    elif how == "folder":
        shutil.rmtree(file.parent)
    elif how == "emptied":
        file.write_bytes(b"")
    elif how == "copied":  # a backup that was put back: not locked, and not the file that was made
        shutil.copy2(file, file.with_name("copy"))
        file.with_name("copy").replace(file)
    else:
        file.unlink()
        os.mkfifo(file)
    assert (await loaded(other)).lease_left > 90
    await put(store, stored, lease_for=100)
    assert file.is_file()
    assert file in holders(path)
    with file.open("rb+") as found, pytest.raises(BlockingIOError):
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert (await loaded(other)).lease_left > 90
    await store.close()
    assert (await loaded(other)).lease_left == 0


KILLED = """
import asyncio, os, signal, sys
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.sqlite import SQLiteStore

async def main():
    await put(SQLiteStore(sys.argv[1]), record(lease="nonce"), lease_for=1000)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize("known", [True, False])
async def test_a_killed_holders_file(path: Path, store: SQLiteStore, other: SQLiteStore, known: bool) -> None:
    """While it is there the lease is over, for all who look; where it is gone, time alone decides."""
    command = [sys.executable, "-c", KILLED, str(path)]
    await asyncio.to_thread(subprocess.run, command, timeout=30, check=False)
    if not known:
        for file in holders(path):
            file.unlink()
    for _ in range(2):
        for each in (store, other):
            assert ((await loaded(each)).lease_left == 0) is known


async def test_a_file_that_cannot_be_made_anew(path: Path, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lease is taken without it; other writes go on."""
    stored = await put(store, record())
    (file,) = holders(path)
    file.unlink()
    with monkeypatch.context() as patch:

        def refuse(_path: Path, _target: object) -> None:
            raise PermissionError(13, "Permission denied")

        patch.setattr(Path, "replace", refuse)
        with pytest.raises(StoreError, match="a call failed with PermissionError"):
            await store.swap(attrs.evolve(stored, lease="nonce"), lease_for=10)
    stored = await put(store, attrs.evolve(stored, lease="nonce"), lease_for=10)
    assert holders(path) == [file]


# The log


@pytest.mark.parametrize("removed", [["-wal"], ["-shm"], ["-wal", "-shm"]])
async def test_a_log_that_is_removed(
    removed: list[str], path: Path, store: SQLiteStore, other: SQLiteStore, caplog: pytest.LogCaptureFixture
) -> None:
    """What was confirmed is saved by whoever has it; all who have it open go on; nobody finds "not connected"."""
    stored = await put(store, record(payload=b"new"))
    assert await other.load("acme") == stored
    for suffix in removed:
        beside(path, suffix).unlink()
    late = SQLiteStore(path)
    if "-wal" in removed:
        with pytest.raises(StoreError, match=r"or its -wal removed, while another process has it open: end every"):
            await late.load("acme")
    assert await store.load("acme") == stored
    assert "was removed while it was open; what was in it is saved" in caplog.text
    again = await put(store, stored)
    assert await late.load("acme") == await other.load("acme") == again
    last = await put(other, again)
    assert await store.load("acme") == await late.load("acme") == last
    for each in (store, other, late):
        await each.close()
    assert await late.load("acme") == last
    await late.close()


async def test_a_log_and_the_holders_that_are_removed(path: Path, store: SQLiteStore, other: SQLiteStore) -> None:
    """Who finds it saves the log; a process that was idle meanwhile, and can be told by no file, goes on as well."""
    stored = await put(store, record(payload=b"new"))
    assert await other.load("acme") == stored
    beside(path, "-wal").unlink()
    shutil.rmtree(beside(path, "-holders"))
    again = await put(store, stored)
    assert await other.load("acme") == again
    last = await put(other, again)
    assert await store.load("acme") == last


async def test_a_log_that_vanishes_while_it_is_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks at it: said, nothing is left open, and the next call works."""
    now = Names.now
    for replaced in (False, True):
        store = SQLiteStore(path)
        path.touch(0o600)

        def remove(names: Names, replaced: bool = replaced) -> Files:
            found = now(names)
            Path(names.log).unlink(missing_ok=True)
            if replaced:
                Path(names.log).touch(0o600)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(Names, "now", remove)
            with pytest.raises(StoreError, match=r"the -wal of .* cannot be used \((No such file|it is another)"):
                await store.load("acme")
        assert await store.load("acme") is None
        await store.close()


async def test_a_log_that_is_removed_amid_a_write(path: Path, store: SQLiteStore) -> None:
    """The write fails, and is not in a log that nobody will see; the next saves what was there."""
    stored = await put(store, record())

    def remove(database: object) -> None:
        beside(path, "-wal").unlink()

    looks = 0

    def removing(database: object) -> None:
        nonlocal looks
        still_there = database._still_there  # type: ignore[attr-defined]

        def look() -> None:
            nonlocal looks
            looks += 1
            if looks == 2:
                remove(database)
            still_there()

        database._still_there = look  # type: ignore[attr-defined]

    await store._call(removing)
    with pytest.raises(StoreError, match="was removed amid a write: nothing was changed, try again"):
        await store.swap(attrs.evolve(stored, cause="lost"))
    assert await store.load("acme") == stored


async def test_a_log_that_is_removed_and_in_use(path: Path, store: SQLiteStore) -> None:
    """A writer of another kind keeps it from being saved for the moment."""
    impatient = SQLiteStore(path, busy_timeout=0.01)
    stored = await put(impatient, record())
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    beside(path, "-wal").unlink()
    with pytest.raises(StoreError, match=r"was removed, and is in use: try again|locked by another process"):
        await impatient.load("acme")
    blocker.execute("COMMIT")
    blocker.close()
    assert await impatient.load("acme") == stored
    await impatient.close()


async def test_a_log_that_is_replaced(path: Path, store: SQLiteStore) -> None:
    """By what is not one of ours: nothing is read and nothing written."""
    stored = await put(store, record())
    wal = beside(path, "-wal")
    away = wal.rename(path.with_name("away"))
    wal.touch(0o600)
    for call in (store.load("acme"), store.swap(stored)):
        with pytest.raises(StoreError, match=r"the -wal of .* was replaced while it was open: end every program"):
            await call
    away.rename(wal)
    assert await store.load("acme") == stored


async def test_a_fork_ends_what_was_opened(path: Path, store: SQLiteStore) -> None:
    """A process that lives and has its database closed keeps nobody from opening it without a log."""
    stored = await put(store, record())
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    await asyncio.to_thread(os.waitpid, pid, 0)
    assert not beside(path, "-wal").exists()
    late = SQLiteStore(path)
    assert await late.load("acme") == stored
    await late.close()
    assert await store.load("acme") == stored


# The file


async def test_a_file_that_is_replaced(path: Path, store: SQLiteStore, tmp_path: Path) -> None:
    """By an older copy, while a process has the newer open: neither it nor one that comes later works on either."""
    await put(store, record("before"))
    await store.close()
    shutil.copy2(path, tmp_path / "older")
    stored = await put(store, record())
    away = path.rename(tmp_path / "newer")
    (tmp_path / "older").rename(path)
    with pytest.raises(StoreError, match="was moved, removed or replaced while it was open: put it back"):
        await store.load("acme")
    late = SQLiteStore(path)
    with pytest.raises(StoreError, match="was replaced, or its -wal removed, while another process has it open"):
        await late.load("acme")
    away.replace(path)
    assert await store.load("acme") == await late.load("acme") == stored
    await late.close()


async def test_a_folder_that_is_removed(path: Path, tmp_path: Path) -> None:
    """Said, whatever is asked."""
    folder = tmp_path / "folder"
    store = SQLiteStore(folder / "tribe.db")
    stored = await put(store, record())
    shutil.rmtree(folder)
    for call in (
        store.load("acme"),
        store.swap(stored),
        store.swap(stored, lease_for=1),
        store.put("k", b"", lives_for=1),
    ):
        with pytest.raises(StoreError, match="was moved, removed or replaced while it was open: put it back"):
            await call
    await store.close()
    assert not folder.exists()


def older_content(path: Path, statement: str) -> None:
    """What a restore in place does: the file is the same, and what is in it is older."""
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


async def test_a_record_that_was_there(path: Path, store: SQLiteStore) -> None:
    """It is never "not connected" for a process that has seen it; others are undisturbed, and so is a new program."""
    await put(store, record())
    beta = await put(store, record("beta"))
    older_content(path, "DELETE FROM organizations WHERE organization = CAST('acme' AS BLOB)")
    for _ in range(2):
        with pytest.raises(StoreError, match=r"of organization 'acme' is not in .* any more: an older copy") as error:
            await store.load("acme")
        assert error.value.organization == "acme"
    assert await store.load("beta") == beta
    assert await store.load("never seen") is None
    again = await put(store, record())  # by who has it in memory
    assert await store.load("acme") == again
    await store.close()
    older_content(path, "DELETE FROM organizations WHERE organization = CAST('acme' AS BLOB)")
    assert await store.load("acme") is None


async def test_a_record_that_was_newer(path: Path, store: SQLiteStore, caplog: pytest.LogCaptureFixture) -> None:
    """It is given as it is, for the refresh to write back what it has in memory; said once."""
    stored = await put(store, await put(store, record()))
    older_content(path, "UPDATE organizations SET version = 1")
    for _ in range(2):
        assert (await loaded(store)).version == 1 < stored.version
    assert [line.levelno for line in caplog.records] == [logging.ERROR]
    assert "the record of organization 'acme' in" in caplog.text
    assert "is older than it was" in caplog.text


async def test_what_was_never_committed_is_not_known(store: SQLiteStore) -> None:
    """A write that failed with its batch leaves no record that could be missed, and none that could be older."""
    stored = await put(store, record())

    async def limit(pages: int) -> None:
        await store._call(lambda database: database.connection.execute(f"PRAGMA max_page_count = {pages}"))

    await limit(1)
    calls = [store.swap(stored), store.swap(record("new")), store.load("acme")]
    large = [store.swap(record(f"org {number}", payload=b"x" * 5_000)) for number in range(20)]
    results = await asyncio.gather(*calls, *large, return_exceptions=True)
    assert {type(result) for result in results} == {StoreError}
    await limit(100_000)
    assert await store.load("new") is None
    assert await store.load("acme") == stored


async def test_a_holders_folder_that_cannot_be(path: Path, store: SQLiteStore) -> None:
    """What is needed to save the log and cannot be had is said, and all is well when it can."""
    stored = await put(store, record())
    folder = beside(path, "-holders")
    folder.rename(path.with_name("away"))
    folder.touch()
    beside(path, "-wal").unlink()
    with pytest.raises(StoreError, match="what lies beside it cannot be used"):
        await store.load("acme")
    folder.unlink()
    path.with_name("away").rename(folder)
    assert await store.load("acme") == stored


async def test_tables_that_are_gone(path: Path, store: SQLiteStore) -> None:
    """What the database says is not taken for an odd record."""
    await store.put("note", b"", lives_for=1)
    older_content(path, "DROP TABLE organizations")
    with pytest.raises(StoreError, match=r"failed \(SQLITE_ERROR\)"):
        await store.load("acme")


# Short-lived processes


SHORT = """
import asyncio, sys
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.sqlite import SQLiteStore

async def main():
    for number in range(60):
        store = SQLiteStore(sys.argv[1])
        await put(store, record(f"{sys.argv[2]} {number}", lease="nonce"), lease_for=100)
        await store.close()

asyncio.run(main())
"""


async def test_processes_that_come_and_go(path: Path, store: SQLiteStore) -> None:
    """Files vanish between two looks at them, as the last to close removes the log: no call fails by it."""
    children = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", SHORT, str(path), str(number)) for number in range(4)
    ]
    assert [await child.wait() for child in children] == [0, 0, 0, 0]
    assert len(await listed(store)) == 240
