"""Files that survive a power cut and that only their owner can read: made, locked, written, replaced.

For stores and sinks on a local disk. Functions raise OSError, as the operating system does, and UnsafeFileError for a
file that is not private; each room says in its own errors what that means for its users.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, Final

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None  # Windows has none

# What network file systems and FUSE answer where the system knows the call, and they do not.
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_NO_SYNC: Final = frozenset({errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


class NoLocksError(OSError):
    """The file system has no locks, or none left."""


class AlteredFileError(Exception):
    """A file is not as it was left: somebody else has written to it, or cut it. The text says how."""


class UnsafeFileError(Exception):
    """A file that others can read or have put there. The text is a sentence that names the file and the remedy."""


def make_folder(folder: Path) -> None:
    """Create what is missing of a folder, for its owner alone (0700), durably."""
    for missing in reversed([folder, *folder.parents]):
        try:
            missing.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError:  # of a folder that is there, some systems say first that it could not be made
            if not missing.is_dir():
                raise
        else:
            sync_folder(missing.parent)


def make_file(path: Path) -> bool:
    """Create a file for its owner alone (0600), or make sure that it is one. True: it is new."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        _check(path)
        return False
    return True


def _check(path: Path) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise UnsafeFileError(f"{str(path)!r} is a symbolic link: name the file itself")
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeFileError(f"{str(path)!r} is not a file: name a file")
    if found.st_uid != os.geteuid():
        raise UnsafeFileError(f"{str(path)!r} belongs to another user: run as that user, or name another file")
    if found.st_mode & 0o077:
        raise UnsafeFileError(f"{str(path)!r} can be read by other users: chmod 600 it")
    if not os.access(path, os.R_OK | os.W_OK):
        # To open it would tell why, and closing it again would take away SQLite's locks.
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        raise UnsafeFileError(f"{str(path)!r} cannot be written: chmod 600 it")


def lock(path: Path) -> int:
    """Create or open a file and lock it until its descriptor is closed. Raises BlockingIOError where another has it.

    The kernel drops the lock with the process. On a system without such locks it is up to the user; on a file system
    without, NoLocksError is raised.
    """
    file = open_file(path)
    try:
        if fcntl is not None:
            lock_descriptor(file, fcntl.LOCK_EX)
    except BaseException:
        os.close(file)
        raise
    return file


def lock_descriptor(file: int, kind: int) -> None:
    """Lock an open file at once, or raise BlockingIOError. Raises NoLocksError."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise NoLocksError(error.errno, error.strerror) from None
        raise


def open_file(path: Path) -> int:
    """Create or open a file for its owner alone; its descriptor."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def open_to_read(path: Path) -> BinaryIO:
    """Open a file, and no link; a pipe is not waited for."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK))


def open_to_append(path: Path) -> int:
    """Open a file that is there, to write at its end; its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def append(file: int, content: bytes, *, after: int) -> None:
    """Write at the end of an open file that has `after` bytes. Where it fails half-way, a part may be there.

    Raises AlteredFileError.
    """
    found = os.fstat(file)
    if found.st_nlink == 0:
        raise AlteredFileError("it is gone")
    if found.st_size != after:
        raise AlteredFileError(f"it has {found.st_size} bytes, and {after} were written")
    write_all(file, content)


def replace(path: Path, content: bytes) -> None:
    """Give a file this content, durably and in one step: a reader finds the old or the new."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)  # what a killed process left
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(file, content)
        os.fsync(file)
    finally:
        os.close(file)
    rename(fresh, path)


def rename(path: Path, target: Path) -> None:
    """Rename a file within its folder, durably; what had the name before is gone."""
    path.replace(target)
    sync_folder(target.parent)


def remove(path: Path) -> None:
    """Remove a file, durably; nothing happens where there is none."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync_folder(path.parent)


def truncate(path: Path, size: int) -> None:
    """Cut a file to so many bytes; create it where it is missing."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        os.ftruncate(file, size)
    finally:
        os.close(file)


def sync(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where its file system has a way to wait for that."""
    if os.name != "posix":
        return
    try:
        file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return  # it may be written and not read, and there is no other way to ask
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(file)


def write_all(file: int, content: bytes) -> None:
    """All of it, or OSError: a disk that is nearly full takes a part without a word."""
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]
