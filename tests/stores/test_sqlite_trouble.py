"""SQLite in trouble: no caller waits for ever, and nothing confirmed is lost, whatever is done to process and files."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import attrs
import pytest

from tribe_oauth import StoreError
from tribe_oauth._clock import boottime
from tribe_oauth.stores import _sqlite_worker
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.sqlite import SQLiteStore

Result = TypeVar("Result")


async def soon(call: Awaitable[Result]) -> Result:
    """A call that never returns fails the test."""
    return await asyncio.wait_for(call, 10)


def holders(path: Path) -> Path:
    return path.with_name("tribe.db-holders")


# Opening and closing


async def test_something_unforeseen_in_the_folder(path: Path, store: SQLiteStore) -> None:
    """F4: the operating system's refusal is an error of each call; when it is over, all is well."""
    (holders(path) / "opening").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"cannot be opened \(Is a directory\): make the file and its folder"):
            await soon(store.load("acme"))
    (holders(path) / "opening").rmdir()
    assert await soon(store.load("acme")) is None


async def test_a_path_that_is_none(tmp_path: Path) -> None:
    """A name that no file can have is an error like any other."""
    store = SQLiteStore(f"{tmp_path}/a\0b")
    with pytest.raises(StoreError, match=r"cannot be opened \(ValueError\)"):
        await soon(store.load("acme"))
    await soon(store.close())


async def test_no_thread_to_have(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that ends, or a full process table: a clear error."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(StoreError, match="needs a thread, and there is none to have"):
            await soon(store.put("note", b"", lives_for=1))
    assert await soon(store.load("acme")) is None


async def test_a_process_that_hangs_while_it_opens(path: Path) -> None:
    """F6: it is waited for as long as for a lock, and no longer."""
    store = SQLiteStore(path, busy_timeout=0.05)
    await soon(store.put("note", b"", lives_for=1))
    await soon(store.close())
    opening = os.open(holders(path) / "opening", os.O_RDWR)
    fcntl.flock(opening, fcntl.LOCK_EX)
    with pytest.raises(StoreError, match="for too long: look for one that hangs"):
        await soon(store.load("acme"))
    os.close(opening)
    assert await soon(store.load("acme")) is None
    await soon(store.close())


async def test_a_folder_that_became_read_only(path: Path, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """F4: what earlier processes left cannot be removed: it holds no lease, and the store opens all the same."""
    (holders(path)).mkdir(mode=0o700)
    left = holders(path) / ("a" * 32)
    left.touch(0o600)

    def refuse(_path: Path, missing_ok: bool = False) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert await soon(store.load("acme")) is None
        await soon(store.close())
    assert left.exists()
    await soon(store.load("acme"))
    assert not left.exists()


async def test_a_lease_of_a_store_that_was_closed(path: Path, store: SQLiteStore) -> None:
    """It is over at once; the file that says so stays for as long as the lease would have run."""
    clock = 1_000.0
    stored = await put(store, record(lease="nonce"), lease_for=100)
    await soon(store.close())
    (left,) = holders(path).glob("?" * 32)
    for _ in range(2):
        loaded = await soon(store.load("acme"))
        assert loaded is not None
        assert (loaded.version, loaded.lease_left) == (stored.version, 0)
        await soon(store.close())
    assert left.exists()
    later = SQLiteStore(path, clock=lambda: boottime() + clock)
    await soon(later.load("acme"))
    assert not left.exists()
    await soon(later.close())


async def test_killed_processes_leave_nothing(path: Path, store: SQLiteStore) -> None:
    """Their files go when the next one opens, also where their leases are never asked for; those of the living stay."""
    await put(store, record(lease="nonce"), lease_for=100)
    for name in ("a" * 32, "b" * 32):
        (holders(path) / name).touch(0o600)
    other = SQLiteStore(path)
    loaded = await soon(other.load("acme"))
    assert loaded is not None
    assert loaded.lease_left > 90
    assert len(list(holders(path).glob("?" * 32))) == 2
    await soon(other.close())


# Files that are moved, emptied, restored


async def test_a_file_that_is_moved_while_it_is_open(path: Path, store: SQLiteStore) -> None:
    """F4: nothing is confirmed that no other process would find; put back, it works again."""
    stored = await put(store, record())
    away = path.rename(path.with_name("away"))
    for call in (store.load("acme"), store.swap(stored)):
        with pytest.raises(StoreError, match="was moved, removed or replaced while it was open: put it back"):
            await soon(call)
    path.touch(0o600)
    with pytest.raises(StoreError, match="was moved, removed or replaced"):
        await soon(store.load("acme"))
    away.rename(path)
    await put(store, stored)


@pytest.mark.parametrize("how", ["missing", "empty"])
async def test_a_log_without_its_file(how: str, path: Path, store: SQLiteStore, tmp_path: Path) -> None:
    """F4: a new, empty file would take the log with it, and with that what was confirmed."""
    stored = await put(store, record())
    (tmp_path / "crashed").mkdir(mode=0o700)
    found = [shutil.copy2(file, tmp_path / "crashed") for file in (path, path.with_name("tribe.db-wal"))]
    crashed, log = map(Path, found)
    content, logged = crashed.read_bytes(), log.read_bytes()
    crashed.unlink() if how == "missing" else crashed.write_bytes(b"")
    later = SQLiteStore(crashed)
    with pytest.raises(StoreError, match="is missing or empty, and its -wal is not: restore it"):
        await soon(later.load("acme"))
    assert log.read_bytes() == logged
    crashed.write_bytes(content)
    crashed.chmod(0o600)
    assert await soon(later.load("acme")) == stored
    await soon(later.close())


# Forks


FORK = """
import asyncio, os, sys
from tribe_oauth import StoreError
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.sqlite import SQLiteStore

store = SQLiteStore(sys.argv[1])
asyncio.run(put(store, record("acme", lease="nonce"), lease_for=1000))
refused = SQLiteStore("/dev/null")  # has a thread, and never anything open
try:
    asyncio.run(refused.load("acme"))
except StoreError:
    pass
to_parent, to_child = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    asyncio.run(put(store, record("before")))
    os.write(to_parent[1], b"x")
    os.read(to_child[0], 1)
    asyncio.run(put(store, record("after")))  # confirmed
    os._exit(0)
os.read(to_parent[0], 1)
assert asyncio.run(store.load("acme")).lease_left > 900  # a fork ends no lease
asyncio.run(store.close())
os.write(to_child[1], b"x")
assert os.waitpid(child, 0)[1] == 0
"""


def test_what_a_forked_child_writes_is_kept(path: Path) -> None:
    """F10: the first to close, parent or child, takes nothing of the other's with it."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, str(path)], check=True, timeout=30)
    store = SQLiteStore(path)
    for organization in ("acme", "before", "after"):
        assert asyncio.run(store.load(organization)) is not None, organization
    asyncio.run(store.close())


BUSY_FORK = """
import asyncio, os, sys, threading
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.sqlite import SQLiteStore

store = SQLiteStore(sys.argv[1])

async def main():
    writes = [asyncio.ensure_future(put(store, record(f"org {n}"))) for n in range(3_000)]
    await asyncio.sleep(0)  # all are under way
    for number in range(5):
        child = os.fork()
        if child == 0:
            os._exit(0 if not threading.active_count() > 1 and in_child(number) else 1)
        assert await asyncio.to_thread(os.waitpid, child, 0) == (child, 0)
    await asyncio.gather(*writes)
    await store.close()

def in_child(number):
    asyncio._set_running_loop(None)
    return asyncio.run(put(store, record(f"child {number}"))) is not None

asyncio.run(main())
"""


async def test_forks_amid_writes(path: Path, store: SQLiteStore) -> None:
    """F10: the parent's writes all happen, once, and each child can write at once."""
    command = [sys.executable, "-W", "ignore", "-c", BUSY_FORK, str(path)]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=30)
    assert len([organization async for organization in store.organizations()]) == 3_005


async def test_a_fork_of_this_process(path: Path, store: SQLiteStore) -> None:
    """F10: what happens around a fork, one step after the other: the database is closed, and the lease goes on."""
    stored = await put(store, record(lease="nonce"), lease_for=100)
    idle = SQLiteStore(path.with_name("idle.db"))
    held, go_on = threading.Event(), threading.Event()

    def hold(_database: object) -> None:
        held.set()
        go_on.wait(10)

    waiting = asyncio.ensure_future(idle._call(hold))
    await asyncio.to_thread(held.wait, 10)
    fork = asyncio.ensure_future(asyncio.to_thread(forked))
    go_on.set()
    await waiting
    assert await fork == []
    loaded = await store.load("acme")
    assert loaded is not None
    assert loaded.lease_left > 90
    assert attrs.evolve(loaded, lease_left=stored.lease_left) == stored
    await idle.close()


def forked() -> list[Path]:
    """What a process of ours has open in its child, of all stores. No child is made: only what surrounds it is done."""
    _sqlite_worker._before_fork()
    still_open = [Path(os.readlink(f"/proc/self/fd/{fd}")) for fd in os.listdir("/proc/self/fd") if _is_file(fd)]
    _sqlite_worker._after_fork_in_parent()
    return [file for file in still_open if file.name.startswith(("tribe.db", "idle.db"))]


def _is_file(fd: str) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")
