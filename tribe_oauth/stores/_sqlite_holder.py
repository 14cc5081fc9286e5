"""Private files beside an SQLite database, and the locked file by which a process shows that it lives."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tribe_oauth import _durable
from tribe_oauth._durable import UnsafeFileError
from tribe_oauth._remedies import reason, remedy
from tribe_oauth.errors import StoreError

_ID: Final = re.compile("[0-9a-f]{32}")
_LENGTH: Final = 80
"""Bytes in a holder's file: three numbers, filled up with spaces, so that a reader finds the old ones or the new."""


def private_folder(folder: Path) -> None:
    """Create what is missing of a folder, for its owner alone, durably. Raises StoreError."""
    try:
        _durable.make_folder(folder)
    except OSError as error:
        raise StoreError(
            f"the folder {str(folder)!r} cannot be created ({reason(error)}):"
            f" {remedy(error, 'create it, or make its folder writable for this user')}"
        ) from None


def private_file(path: Path) -> None:
    """Create a file for its owner alone, or make sure that it is one. Raises StoreError."""
    try:
        _durable.make_file(path)
    except UnsafeFileError as error:
        raise StoreError(str(error)) from None
    except OSError as error:
        raise StoreError(
            f"the file {str(path)!r} cannot be created ({reason(error)}):"
            f" {remedy(error, 'make its folder writable for this user')}"
        ) from None


class Holder:
    """A locked file of this process: as long as it is locked, the process lives, and the leases it holds count.

    In it stands the file's own number, by which a copy of it is known, and which files of the database are open. Only
    a file that is there, is no copy and can be locked says that its process is gone. One that is missing says nothing:
    whatever cleans up temporary files may have removed it. A process id would not do: it means nothing in another
    container, and is used again. `patience`: seconds to wait for another process that opens the same store.
    """

    def __init__(self, folder: Path, patience: float) -> None:
        if _durable.fcntl is None:
            raise StoreError("SQLiteStore needs a POSIX system: use PostgreSQL or Redis here")
        self.id = uuid.uuid4().hex
        self._name = str(folder / self.id)
        self._folder = folder
        self._patience = patience
        self._opened: tuple[int, ...] = ()
        self._file = self._make()

    def _make(self) -> int:
        """A file under this process's name, locked before it has the name: until then it would look like a dead's."""
        private_folder(self._folder)
        fresh = self._folder / f"{self.id}.new"
        file = _durable.lock(fresh)
        try:
            self._write(file)
            fresh.replace(self._name)
        except BaseException:
            os.close(file)
            raise
        return file

    def _write(self, file: int) -> None:
        os.lseek(file, 0, os.SEEK_SET)
        _durable.write_all(file, _content(os.fstat(file).st_ino, *self._opened))

    def show(self) -> None:
        """Make the file anew where it was removed, replaced or emptied: a lease that is taken now needs it."""
        try:
            found = os.lstat(self._name)
            if found.st_ino == os.fstat(self._file).st_ino and found.st_size == _LENGTH:
                return
        except OSError:
            pass  # it is not there
        fresh = self._make()
        os.close(self._file)
        self._file = fresh

    def has_opened(self, *numbers: int | None) -> None:
        """Write down which files of the database this process has open; none: it has closed it."""
        self._opened = tuple(number for number in numbers if number is not None)
        self._write(self._file)

    def opened_by_others(self) -> list[tuple[int, ...]]:
        """What other processes have written down that live and have the database open."""
        return [found.opened for _, found in self._others() if found.lives and found.opened]

    def log_is_saved(self, *numbers: int | None) -> None:
        """Write down, for all that have these files open, that what is in the log is in the database now."""
        for path, found in self._others():
            if found.opened == numbers:
                with path.open("rb+") as file:
                    file.write(_content(os.fstat(file.fileno()).st_ino))

    def _others(self) -> list[tuple[Path, _Found]]:
        paths = [path for path in self._folder.glob("?" * len(self.id)) if path.name != self.id]
        return [(path, found) for path in paths if (found := _read(path)) is not None]

    def is_gone(self, other: object) -> bool:
        """Whether it is known that the process with this id has ended."""
        if not isinstance(other, str) or not _ID.fullmatch(other):
            return False  # nobody's
        found = _read(self._folder / other)
        return found is not None and not found.lives and not found.is_copy

    def remove_dead(self, needed: Callable[[], Container[str]]) -> None:
        """Remove what processes left that are gone, but for those that are needed: it tells that their leases ended."""
        dead = [path for path, found in self._others() if not found.lives]
        if dead:
            keep = needed()
            for path in dead:
                if path.name not in keep:
                    with contextlib.suppress(OSError):  # a folder that became read-only; the next one does it
                        path.unlink()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the processes that use this folder from doing the same at once. Raises StoreError."""
        file = self._lock(self._folder / "opening")
        try:
            yield
        finally:
            os.close(file)

    def _lock(self, path: Path) -> int:
        private_folder(path.parent)
        end = time.monotonic() + self._patience
        while True:
            try:
                return _durable.lock(path)
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise StoreError(
                        f"another process has been opening the store of {str(self._folder)!r} for too long:"
                        " look for one that hangs"
                    ) from None
            time.sleep(0.005)  # the kernel's own waiting has no end

    def drop(self) -> None:
        """Let go of the file, which stays, and says by that that the leases of this process have ended.

        In a forked child: the lock is its parent's, and has to end with the parent.
        """
        os.close(self._file)


class _Found(NamedTuple):
    """A holder's file. `is_copy`: it is not the one that its process made, and not locked for that reason."""

    lives: bool
    is_copy: bool
    opened: tuple[int, ...]


def _content(*numbers: int) -> bytes:
    return b" ".join(b"%d" % number for number in numbers).ljust(_LENGTH)


def _read(path: Path) -> _Found | None:
    """None: it is not there, or cannot be read."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with contextlib.closing(os.fdopen(file, "rb", buffering=0)) as reader:
        lives = not _can_lock(file)
        try:
            itself, *opened = map(int, (reader.read(_LENGTH) or b"").split())
        except (OSError, ValueError):  # emptied, or no file
            return _Found(lives, is_copy=True, opened=())
        return _Found(lives, itself != os.fstat(file).st_ino, tuple(opened))


def _can_lock(file: int) -> bool:
    try:
        # Shared: two that ask at once don't take each other for the process.
        _durable.lock_descriptor(file, _durable.fcntl.LOCK_SH)
    except OSError:  # it is locked, or there is no telling
        return False
    return True
