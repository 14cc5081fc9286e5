"""What is SQLite's own: the file, its privacy, its damage, other processes, durability, shared commits."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import pytest

from tribe_oauth import StoreError, _durable
from tribe_oauth.stores import Record
from tribe_oauth.stores._sqlite_holder import private_file
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.sqlite import SQLiteStore

NOBODY = 65534


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def foreign(path: Path) -> None:
    path.touch(0o600)
    os.chown(path, NOBODY, NOBODY)


# The file


async def test_nothing_happens_before_the_first_call(path: Path) -> None:
    """The constructor does no I/O, and closing what was never opened does none either."""
    store = SQLiteStore(path)
    await store.close()
    assert not path.exists()


async def test_private_files(tmp_path: Path) -> None:
    """S26: the file, what SQLite puts beside it, and the folders that were missing belong to the owner alone."""
    os.umask(os.umask(0o077))
    path = tmp_path / "a" / "b" / "tribe.db"
    store = SQLiteStore(path)
    await put(store, record())
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == mode(path.with_name("tribe.db-holders")) == 0o700
    assert {mode(file) for file in path.parent.iterdir() if file.is_file()} == {0o600}
    assert path.with_name("tribe.db-wal").exists()
    await store.close()


@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        (lambda path: path.mkdir(), "is not a file: name a file"),
        (lambda path: path.symlink_to(path.with_name("other")), "is a symbolic link: name the file itself"),
        (lambda path: (path.touch(0o600), path.chmod(0o640)), "can be read by other users: chmod 600"),
        (foreign, "belongs to another user"),
        (lambda path: (path.write_bytes(b"no database" * 99), path.chmod(0o600)), "is not a database, or is damaged"),
    ],
    ids=["directory", "symlink", "readable", "foreign", "garbage"],
)  # fmt: skip
async def test_files_that_are_refused(path: Path, spoil: object, remedy: str) -> None:
    """S26, F4: one clear error with the remedy; what was there stays as it was."""
    spoil(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else None
    store = SQLiteStore(path)
    for _ in range(2):
        with pytest.raises(StoreError, match=remedy):
            await store.load("acme")
    await store.close()
    assert (path.read_bytes() if path.is_file() else None) == before


async def test_another_programs_database(path: Path) -> None:
    """A database that is not ours is left alone."""
    path.touch(0o600)
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE theirs (x)")
    foreign.close()
    with pytest.raises(StoreError, match="another program's database: name another file"):
        await SQLiteStore(path).load("acme")


async def test_another_version(path: Path, store: SQLiteStore) -> None:
    """A file that a newer version wrote is not touched."""
    await put(store, record())
    await store.close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StoreError, match="has schema 99, and this version of tribe-oauth knows 1"):
        await store.load("acme")


async def test_a_damaged_file(path: Path, store: SQLiteStore) -> None:
    """F4: damage is said, and never answered with a new, empty file."""
    for number in range(50):
        await put(store, record(f"org {number}", payload=b"x" * 2_000))
    await store.close()
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = os.urandom(len(damaged) - 4096)
    path.write_bytes(damaged)
    with pytest.raises(
        StoreError, match="damaged: move it away, with its -wal, and restore a backup; nothing was changed"
    ):
        await store.load("org 7")
    await store.close()
    assert path.read_bytes()[4096:8192] == damaged[4096:8192]


async def test_reading_what_is_not_there(tmp_path: Path) -> None:
    """It finds nothing, and makes nothing, neither file nor folder; the first write makes them."""
    store = SQLiteStore(tmp_path / "folder" / "tribe.db")
    assert await store.load("acme") is None
    assert await store.take("note") is None
    assert [key async for key in store.organizations()] == []
    assert [key async for key in store.due(0.0)] == []
    await store.close()
    assert list(tmp_path.iterdir()) == []
    await store.put("note", b"kept", lives_for=60)
    assert await store.take("note") == b"kept"
    await store.close()


async def test_a_folder_that_cannot_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be there is not taken for nothing."""

    def refuse(_path: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "lstat", refuse)
    store = SQLiteStore(tmp_path / "tribe.db")
    assert not store.is_nowhere


async def test_no_shared_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite cannot have a write-ahead log, it says so; such file systems lose locks as well."""
    connect = sqlite3.connect

    class Fake:
        def __init__(self, *args: object, **kwargs: object) -> None:
            self.real = connect(*args, **kwargs)  # type: ignore[call-overload]
            self.close = self.real.close

        def execute(self, sql: str, *values: object) -> object:
            return self.real.execute("SELECT 'delete'" if "journal_mode" in sql else sql, *values)

    monkeypatch.setattr(sqlite3, "connect", Fake)
    with pytest.raises(StoreError, match="use a local disk"):
        await SQLiteStore(path).put("note", b"", lives_for=1)


async def test_not_on_windows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the kernel's file locks there is no promise to keep."""
    monkeypatch.setattr(_durable, "fcntl", None)
    with pytest.raises(StoreError, match="needs a POSIX system: use PostgreSQL or Redis"):
        await SQLiteStore(path).put("note", b"", lives_for=1)


AS_NOBODY = """
import anyio, asyncio, os, sys
from tribe_oauth import StoreError
from tribe_oauth.stores import Record
from tribe_oauth.stores.sqlite import SQLiteStore

asyncio.run(anyio.sleep(0))  # imports what it does late: nobody may not read the folder that Python is in
os.setgid(65534); os.setuid(65534)

async def main():
    store = SQLiteStore(sys.argv[1])
    try:
        await store.swap(Record(organization="acme", status="connected"))
    except StoreError as error:
        print(error)
    await store.close()

asyncio.run(main())
"""


def as_nobody(path: Path) -> str:
    """What a user without rights is told: root would be allowed anything."""
    program = AS_NOBODY if os.geteuid() == 0 else AS_NOBODY.replace("os.setgid(65534); os.setuid(65534)", "")
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def open_tmp_path(tmp_path: Path) -> Path:
    """A folder that another user can reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    if os.geteuid() == 0:
        os.chown(tmp_path, NOBODY, NOBODY)
    return tmp_path


async def test_a_folder_that_cannot_be_written(open_tmp_path: Path) -> None:
    """F4: neither the file nor a folder for it can be made there."""
    open_tmp_path.chmod(0o511)
    assert "make its folder writable" in as_nobody(open_tmp_path / "tribe.db")
    assert "cannot be created" in as_nobody(open_tmp_path / "new" / "tribe.db")
    open_tmp_path.chmod(0o711)
    assert as_nobody(open_tmp_path / "other.db") == ""
    (open_tmp_path / "other.db").unlink()
    open_tmp_path.chmod(0o511)
    assert "other.db' cannot be created" in as_nobody(open_tmp_path / "other.db")


async def test_a_path_that_cannot_be(path: Path) -> None:
    """F4: a file where a folder should be."""
    path.touch(0o600)
    with pytest.raises(StoreError, match=r"cannot be created .*: make its folder writable for this user"):
        private_file(path / "tribe.db")
    with pytest.raises(StoreError, match="cannot be created"):
        await SQLiteStore(path / "tribe.db").load("acme")
    with pytest.raises(StoreError, match="cannot be created"):
        await SQLiteStore(path / "folder" / "tribe.db").load("acme")


async def test_a_file_without_rights(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F4: the same where the kernel says so."""
    path.touch(0o600)
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(StoreError, match="cannot be written: chmod 600 it"):
        await SQLiteStore(path).load("acme")


async def test_a_file_that_cannot_be_written(open_tmp_path: Path) -> None:
    """F4: a read-only file is refused before anything is sent on the strength of it."""
    path = open_tmp_path / "tribe.db"
    assert as_nobody(path) == ""
    path.chmod(0o400)
    assert "cannot be written: chmod 600 it" in as_nobody(path)


async def test_a_full_disk(path: Path, store: SQLiteStore) -> None:
    """F4: what does not fit is a StoreError, what was stored stays, and when there is room it works again."""
    stored = await put(store, record())

    async def limit(pages: int) -> None:
        await store._call(lambda database: database.connection.execute(f"PRAGMA max_page_count = {pages}"))

    await limit(1)
    with pytest.raises(StoreError, match="the disk is full: make room"):
        await asyncio.gather(*(store.swap(record(f"org {n}", payload=b"x" * 5_000)) for n in range(20)))
    assert await store.load("acme") == stored
    await limit(100_000)
    await put(store, attrs.evolve(stored, cause="room"))


async def test_a_database_that_is_locked(path: Path, store: SQLiteStore) -> None:
    """F4: another program that holds the database for too long: said, and over when it lets go."""
    stored = await put(store, record())
    impatient = SQLiteStore(path, busy_timeout=0.01)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked by another process for too long"):
        await impatient.swap(stored)
    assert await impatient.load("acme") == stored
    blocker.execute("COMMIT")
    blocker.close()
    await put(impatient, stored)
    await impatient.close()


async def test_a_mistake_of_one_call(store: SQLiteStore) -> None:
    """A call that fails by itself fails alone; those in the same commit are written."""
    calls = [store.swap(record("good")), store.swap(record("bad", payload=object())), store.swap(record("\udc80"))]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [Record, StoreError, StoreError]
    assert await store.load("good") is not None


# Durability and shared commits


async def test_as_durable_as_it_gets(path: Path, store: SQLiteStore) -> None:
    """Every commit is flushed to disk, in a write-ahead log."""
    await put(store, record())
    pragmas = ["journal_mode", "synchronous", "fullfsync", "secure_delete"]
    answers = [
        await store._call(lambda database, name=name: database.connection.execute(f"PRAGMA {name}").fetchone()[0])  # type: ignore[misc]
        for name in pragmas
    ]
    assert answers == ["wal", 2, 1, 1]


async def test_saves_that_arrive_together_share_a_commit(store: SQLiteStore) -> None:
    """A hundred at once cost a few flushes, not a hundred."""
    await put(store, record())
    statements: list[str] = []
    await store._call(lambda database: database.connection.set_trace_callback(statements.append))
    await asyncio.gather(*(put(store, record(f"org {number}")) for number in range(100)))
    commits = [statement for statement in statements if statement == "COMMIT"]
    assert 1 <= len(commits) <= 5


WRITER = """
import asyncio, os, sys
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.sqlite import SQLiteStore

async def main():
    store = SQLiteStore(sys.argv[1])
    for number in range(10_000):
        await put(store, record(f"org {number}"))
        print(number, flush=True)

asyncio.run(main())
"""


async def test_killed_after_a_confirmed_write(path: Path, store: SQLiteStore) -> None:
    """F1: whatever was confirmed before kill -9 is there."""
    child = await start(WRITER, path)
    assert child.stdout is not None
    confirmed = -1
    while confirmed < 50:
        confirmed = int(await child.stdout.readline())
    child.kill()
    rest = (await child.stdout.read()).split()
    await child.wait()
    last = int(rest[-1]) if rest else confirmed
    for number in range(last + 1):
        assert await store.load(f"org {number}") is not None


def test_the_end_of_the_interpreter(path: Path) -> None:
    """F10: a program that forgets to close ends at once, and what it was told is true."""
    program = WRITER.replace("10_000", "3")
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, timeout=30, check=True)
    assert done.stdout.split() == [b"0", b"1", b"2"]
    assert asyncio.run(_count(path)) == 3


async def _count(path: Path) -> int:
    store = SQLiteStore(path)
    count = len([organization async for organization in store.organizations()])
    await store.close()
    return count


async def test_a_loop_that_is_gone(path: Path) -> None:
    """A result for an event loop that was closed is dropped, and stops nothing."""
    store = SQLiteStore(path)
    gone = asyncio.new_event_loop()
    held, go_on = threading.Event(), threading.Event()

    def hold(database: object) -> None:
        held.set()
        go_on.wait(10)

    async def leave() -> None:
        asyncio.ensure_future(store._call(hold))  # noqa: RUF006
        await asyncio.sleep(0)

    await asyncio.to_thread(gone.run_until_complete, leave())
    await asyncio.to_thread(held.wait, 10)
    for task in asyncio.all_tasks(gone):
        task.cancel()
    await asyncio.to_thread(gone.run_until_complete, asyncio.sleep(0))
    gone.close()
    go_on.set()
    assert await store.load("acme") is None
    await store.close()


# Other processes


async def start(program: str, *arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )


HOLDER = """
import asyncio, sys
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.sqlite import SQLiteStore

async def main():
    store = SQLiteStore(sys.argv[1])
    await put(store, record(lease="nonce"), lease_for=1000)
    print("held", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


async def left(store: SQLiteStore) -> float:
    loaded = await store.load("acme")
    assert loaded is not None
    return loaded.lease_left


async def test_a_killed_holder(path: Path, store: SQLiteStore) -> None:
    """F1: the lease of a killed process is over at once; that of a frozen one is not (F6)."""
    child = await start(HOLDER, path)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"held\n"
    assert await left(store) > 900
    child.send_signal(signal.SIGSTOP)
    assert await left(store) > 900
    child.send_signal(signal.SIGKILL)
    await child.wait()
    assert await left(store) == 0
    assert await left(store) == 0
    other = SQLiteStore(path)
    assert await left(other) == 0  # for every process, also one that opens the store later
    loaded = await store.load("acme")
    assert loaded is not None
    await put(store, loaded, lease_for=1000)
    await other.close()
    assert await left(other) > 900
    holders = [file for file in path.with_name("tribe.db-holders").iterdir() if len(file.name) == 32]
    assert len(holders) == 2  # what is not needed any more was removed
    await other.close()


async def test_a_reboot_does_not_make_a_lease_endless(path: Path, store: SQLiteStore) -> None:
    """The kernel's count of seconds begins anew: a lease never has more left than it was taken for."""
    await put(store, record(lease="nonce"), lease_for=10)
    earlier = SQLiteStore(path, clock=lambda: 0.0)
    assert await left(earlier) <= 10
    await earlier.close()


FORK = """
import asyncio, os, sys
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.sqlite import SQLiteStore

store = SQLiteStore(sys.argv[1])
asyncio.run(put(store, record(lease="nonce"), lease_for=1000))
child = os.fork()
if child == 0:
    loaded = asyncio.run(store.load("acme"))
    assert loaded.lease_left > 900, loaded  # held by its parent
    asyncio.run(put(store, record("child")))
    print(os.getppid(), flush=True)
    sys.stdin.read()
    asyncio.run(store.close())
    os._exit(0)
os.waitpid(child, 0)
"""


async def test_a_forked_child(path: Path, store: SQLiteStore) -> None:
    """F10: a child opens the file for itself, and does not keep its parent's lease alive."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FORK, str(path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdin is not None
    parent = int(await child.stdout.readline())
    assert parent == child.pid
    assert await left(store) > 900
    child.kill()
    async with asyncio.timeout(5):
        while await left(store):
            pass
    assert await store.load("child") is not None
    child.stdin.close()
    await child.stdout.read()  # until the grandchild has ended, too
    await child.wait()


COUNTER = """
import asyncio, sys, attrs
from tribe_oauth.stores.sqlite import SQLiteStore

async def main():
    store, done = SQLiteStore(sys.argv[1]), 0
    while done < 500:
        current = await store.load("acme")
        if await store.swap(attrs.evolve(current, failures=current.failures + 1)) is not None:
            done += 1
    await store.close()

asyncio.run(main())
"""


async def test_no_update_is_lost(path: Path, store: SQLiteStore) -> None:
    """Two processes count to a thousand together."""
    await put(store, record())
    children = [await start(COUNTER, path) for _ in range(2)]
    assert [await child.wait() for child in children] == [0, 0]
    loaded = await store.load("acme")
    assert loaded is not None
    assert loaded.failures == 1_000


async def test_two_processes_create_the_file(path: Path) -> None:
    """The one that comes second finds the tables."""
    stores = [SQLiteStore(path) for _ in range(4)]
    await asyncio.gather(*(put(store, record(f"org {number}")) for number, store in enumerate(stores)))
    assert await _count(path) == 4
    for store in stores:
        await store.close()
