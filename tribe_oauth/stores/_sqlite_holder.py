"""Private files beside an SQLite database, and the locked file by which a process shows that it lives."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tribe_oauth import _durable
from tribe_oauth._durable import UnsafeFileError
from tribe_oauth.errors import StoreError


def private_folder(folder: Path) -> None:
    """Create what is missing of a folder, for its owner alone, durably. Raises StoreError."""
    try:
        _durable.make_folder(folder)
    except OSError as error:
        raise StoreError(f"the folder {str(folder)!r} cannot be created ({error.strerror}): create it") from None


def private_file(path: Path) -> None:
    """Create a file for its owner alone, or make sure that it is one. Raises StoreError."""
    try:
        _durable.make_file(path)
    except UnsafeFileError as error:
        raise StoreError(str(error)) from None
    except OSError as error:
        raise StoreError(
            f"the file {str(path)!r} cannot be created ({error.strerror}): make its folder writable for this user"
        ) from None


class Holder:
    """A locked file of this process: as long as it is locked, the process lives, and the leases it holds count.

    A process id would not do: it means nothing in another container, and is used again. `patience`: seconds to wait
    for another process that opens the same store.
    """

    def __init__(self, folder: Path, patience: float) -> None:
        if _durable.fcntl is None:
            raise StoreError("SQLiteStore needs a POSIX system: use PostgreSQL or Redis here")
        private_folder(folder)
        self.id = uuid.uuid4().hex
        self._folder = folder
        self._patience = patience
        with self.alone():  # a file that is not locked yet looks like that of a process that is gone
            for other in folder.glob("?" * len(self.id)):
                self.is_gone(other.name)  # removes what killed processes left
            self._file = _durable.lock(folder / self.id)

    def is_gone(self, other: str) -> bool:
        """Whether the process with this id has ended."""
        path = self._folder / other
        if _durable.is_locked(path):
            return False
        path.unlink(missing_ok=True)  # an id is never used again
        return True

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the processes that use this folder from doing the same at once. Raises StoreError."""
        file = self._lock(self._folder / "opening")
        try:
            yield
        finally:
            os.close(file)

    def _lock(self, path: Path) -> int:
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

    def close(self) -> None:
        """Remove the file, and let go of it."""
        with contextlib.suppress(OSError):  # a folder that became read-only; the next process to open removes it
            (self._folder / self.id).unlink()
        self.drop()

    def drop(self) -> None:
        """Let go of the file. In a forked child: the lock is its parent's, and has to end with the parent."""
        os.close(self._file)
