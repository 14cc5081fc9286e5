"""Private files and folders, and locks that the kernel drops with their process. For stores on a local disk."""

from __future__ import annotations

import contextlib
import importlib
import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tribe_oauth.errors import StoreError

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None  # Windows has none


def private_folder(folder: Path) -> None:
    """Create what is missing of a folder, for its owner alone. Raises StoreError."""
    try:
        for missing in reversed([folder, *folder.parents]):
            with contextlib.suppress(FileExistsError):
                missing.mkdir(mode=0o700)
    except OSError as error:
        raise StoreError(f"the folder {str(folder)!r} cannot be created ({error.strerror}): create it") from None


def private_file(path: Path) -> bool:
    """Create a file for its owner alone, or make sure that it is one. True: it is new. Raises StoreError."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        _check(path)
        return False
    except OSError as error:
        raise StoreError(
            f"the file {str(path)!r} cannot be created ({error.strerror}): make its folder writable for this user"
        ) from None
    return True


def _check(path: Path) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise StoreError(f"{str(path)!r} is a symbolic link: name the file itself")
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{str(path)!r} is not a file: name a file")
    if found.st_uid != os.geteuid():
        raise StoreError(f"{str(path)!r} belongs to another user: run as that user, or name another file")
    if found.st_mode & 0o077:
        raise StoreError(f"{str(path)!r} can be read by other users: chmod 600 it")
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreError(f"{str(path)!r} cannot be written: chmod 600 it")


class Holder:
    """A locked file of this process: whoever can lock it knows that the process is gone.

    Not a process id, which means nothing in another container and is used again. `patience`: seconds to wait for
    another process that opens the same store.
    """

    def __init__(self, folder: Path, patience: float) -> None:
        if fcntl is None:
            raise StoreError("SQLiteStore needs a POSIX system: use PostgreSQL or Redis here")
        private_folder(folder)
        self.id = uuid.uuid4().hex
        self._folder = folder
        self._patience = patience
        with self.alone():  # a file that is not locked yet looks like that of a process that is gone
            for other in folder.glob("?" * len(self.id)):
                self.is_gone(other.name)  # removes what killed processes left
            private_file(folder / self.id)
            self._file = os.open(folder / self.id, os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def is_gone(self, other: str) -> bool:
        """Whether the process with this id has ended."""
        try:
            file = os.open(self._folder / other, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            (self._folder / other).unlink(missing_ok=True)  # an id is never used again
            return True
        finally:
            os.close(file)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the processes that use this folder from doing the same at once. Raises StoreError."""
        file = os.open(self._folder / "opening", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._wait_for(file)
            yield
        finally:
            os.close(file)

    def _wait_for(self, file: int) -> None:
        end = time.monotonic() + self._patience
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[no-any-return]
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise StoreError(
                        f"another process has been opening the store of {str(self._folder)!r} for too long:"
                        " look for one that hangs"
                    ) from None
            time.sleep(0.005)  # the kernel's own waiting has no end

    def close(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):  # a folder that became read-only; the next to open removes it
            (self._folder / self.id).unlink()
        self.drop()

    def drop(self) -> None:
        """Let go of the file. In a forked child: the lock is its parent's, and must end with that."""
        os.close(self._file)
