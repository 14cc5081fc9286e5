"""SQLite on file systems that refuse: the reason is told, with what helps, and never taken for another one."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tribe_oauth import StoreError, _durable
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.sqlite import SQLiteStore


def refusing(number: int, real: Callable[..., Any] | None = None, only: str = "") -> Callable[..., Any]:
    """A call that fails, for names that end so; `real` for others."""

    def refuse(name: Any, *arguments: Any, **options: Any) -> Any:
        if real is None or str(name).endswith(only):
            raise OSError(number, os.strerror(number))
        return real(name, *arguments, **options)

    return refuse


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
async def test_no_locks(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """F4: a lease would be nobody's: it is refused, and the mode of the file is not blamed."""
    monkeypatch.setattr(_durable.fcntl, "flock", refusing(number))
    with pytest.raises(StoreError, match=r"cannot be opened \(.*\): that file system .*use a local disk"):
        await put(store, record())


async def test_folders_that_cannot_be_synced(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """F4: there is no way to wait for a new name there; nothing else is missing."""
    fsync = os.fsync

    def refuse(file: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{file}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(file)

    monkeypatch.setattr(os, "fsync", refuse)
    await put(store, record())
    await store.rescue("acme", record())
    await store.rescue("acme", None)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "mounted read-only"),
        (errno.ENOSPC, "make room on that disk"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EACCES, "make its folder writable for this user"),
    ],
)
async def test_a_file_that_cannot_be_made(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    """F4: each reason has its own remedy."""
    monkeypatch.setattr(os, "open", refusing(number, os.open, "tribe.db"))
    with pytest.raises(StoreError, match=f"{os.strerror(number)}.*{words}"):
        await put(store, record())


async def test_a_folder_that_cannot_be_looked_into(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """F4: what cannot be looked at is not gone: the database is not said to be moved, nor its log to be lost."""
    stored = await put(store, record())
    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", refusing(errno.EACCES, os.lstat, "-wal"))
        with pytest.raises(StoreError, match=r"what lies beside it cannot be used \(Permission denied\)"):
            await store.load("acme")
    assert await store.load("acme") == stored


async def test_a_holder_that_cannot_be_written_at_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F4: a disk that became read-only: the store closes, and says so in the log; no thread dies of it."""
    store = SQLiteStore(path)
    stored = await put(store, record())
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "tribe_oauth.stores.sqlite"):
        patch.setattr(_durable, "write_all", refusing(errno.EROFS))
        await asyncio.wait_for(store.close(), 10)
    assert "what lies beside it cannot be written (Read-only file system)" in caplog.text
    later = SQLiteStore(path)
    assert await later.load("acme") == stored
    await later.close()


async def test_writes_that_are_taken_in_part(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F4: what a process writes down of itself is whole, so that others can read it."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, bytes(content)[:7]))
    one, other = SQLiteStore(path), SQLiteStore(path)
    await put(one, record(lease="nonce"), lease_for=100)
    (holder,) = path.with_name("tribe.db-holders").glob("?" * 32)
    assert holder.stat().st_size == 80
    loaded = await other.load("acme")
    assert loaded is not None
    assert loaded.lease_left > 90
    await one.close()
    await other.close()


async def test_a_file_that_may_not_grow(path: Path) -> None:
    """F4: a quota or a limit is no disk that fails."""
    store = SQLiteStore(path)
    stored = await put(store, record())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"make room, also in the quota.*SQLITE_IOERR_WRITE"):
            await put(store, record("beta", payload=b"x" * 500_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert await store.load("acme") == stored
    await put(store, record("beta", payload=b"x" * 500_000))
    await store.close()
