"""Files on file systems that cannot do everything, and in folders that others change."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tribe_oauth import _durable
from tribe_oauth._durable import AlteredFileError, NoLocksError, UnsafeFileError


def refusing(number: int) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_folder_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Network file systems have no way to do it: nothing else is left to do, and files are written all the same."""
    monkeypatch.setattr(os, "fsync", refusing(number))
    _durable.make_folder(tmp_path / "a" / "b")
    (tmp_path / "a" / "file").write_text("x")
    _durable.rename(tmp_path / "a" / "file", tmp_path / "a" / "name")
    _durable.remove(tmp_path / "a" / "name")
    assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a" / "name").exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_folder_whose_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """That is an error: the name may be lost."""
    monkeypatch.setattr(os, "fsync", refusing(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        _durable.sync_folder(tmp_path)


def test_a_folder_that_can_be_written_and_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no other way to wait for its names."""
    monkeypatch.setattr(os, "open", refusing(errno.EACCES))
    _durable.sync_folder(tmp_path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSYS, errno.EISDIR])
def test_folders_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Of a folder that is there, some systems say that it could not be made: it need not be."""
    monkeypatch.setattr(Path, "mkdir", refusing(number))
    _durable.make_folder(tmp_path)
    with pytest.raises(OSError, match=os.strerror(number)):
        _durable.make_folder(tmp_path / "missing")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS])
def test_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A file system without locks is not a lock that another has; no descriptor is left open."""
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(_durable.fcntl, "flock", refusing(number))
    with pytest.raises(NoLocksError) as error:
        _durable.lock(tmp_path / "lock")
    assert error.value.errno == number
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_another_error_of_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what it is."""
    monkeypatch.setattr(_durable.fcntl, "flock", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error") as error:
        _durable.lock(tmp_path / "lock")
    assert not isinstance(error.value, NoLocksError | BlockingIOError)


@pytest.mark.parametrize("content", [b"", b"longer"])
def test_a_file_that_somebody_else_has_changed(tmp_path: Path, content: bytes) -> None:
    """Nothing is written after what is not there any more."""
    path = tmp_path / "file"
    path.write_bytes(b"four")
    file = _durable.open_to_append(path)
    try:
        path.write_bytes(content)
        with pytest.raises(AlteredFileError, match=f"it has {len(content)} bytes, and 4 were written"):
            _durable.append(file, b"more", after=4)
        assert path.read_bytes() == content
        path.unlink()
        with pytest.raises(AlteredFileError, match="it is gone"):
            _durable.append(file, b"more", after=4)
    finally:
        os.close(file)


def test_a_file_on_a_disk_that_became_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To change its mode would be of no use."""
    path = tmp_path / "file"
    assert _durable.make_file(path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UnsafeFileError, match="chmod 600"):
        _durable.make_file(path)

    class ReadOnly:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(os, "statvfs", lambda _: ReadOnly())
    with pytest.raises(OSError, match="Read-only file system"):
        _durable.make_file(path)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    """It is not waited for, nor read without an end; no descriptor is left open."""
    make(path := tmp_path / "odd")
    before = len(os.listdir("/proc/self/fd"))
    with suppress(IsADirectoryError), _durable.open_to_read(path) as file:
        assert file.read(10) == b""
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(OSError, match=r"directory|device"):
        _durable.truncate(path, 0)


def test_a_link(tmp_path: Path) -> None:
    """What it leads to is somebody else's: neither read nor cut."""
    (tmp_path / "mine").write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        _durable.open_to_read(link)
    with pytest.raises(OSError, match="symbolic links"):
        _durable.truncate(link, 0)
    assert (tmp_path / "mine").read_text() == "mine"
