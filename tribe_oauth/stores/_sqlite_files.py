"""The files of an SQLite database: which ones it is, and whether they are still the ones that were opened.

SQLite never asks for a file's name again: a ``-wal`` that is removed goes on to take what is written, and no other
process ever sees it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, NamedTuple

from tribe_oauth._remedies import reason
from tribe_oauth.errors import StoreError
from tribe_oauth.stores._sqlite_holder import Holder, private_file, private_folder

_ENDING: Final = 0.2
"""Seconds that a process has to end: the kernel takes its files from it one by one, the holder's perhaps last."""
_END_ALL: Final = (
    "end every program that uses it, put back the newest copy, with the -wal that belongs to it, and start again"
)


class Files(NamedTuple):
    """The numbers by which the file system knows them; None: not there."""

    database: int | None
    log: int | None
    shared_memory: int | None


class Names(NamedTuple):
    """Those of the files, as text: each batch looks at them."""

    database: str
    log: str
    shared_memory: str

    @classmethod
    def of(cls, path: Path) -> Names:
        """Those of a database."""
        return cls(str(path), f"{path}-wal", f"{path}-shm")

    def now(self) -> Files:
        """Which files have these names."""
        return Files(*map(_inode, self))


def rescue_folder(path: Path) -> Path:
    """Where copies are kept of what could not be written."""
    return path.with_name(f"{path.name}-rescue")


def is_missing(path: str | os.PathLike[str]) -> bool:
    """Whether it is known that nothing has this name: what cannot be looked at may be there."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        pass
    return False


def prepare_files(path: Path, holder: Holder) -> None:
    """Create the database's file, or make sure that it is its owner's alone and all there, before SQLite opens it.

    Raises StoreError, OSError.
    """
    private_folder(path.parent)
    if _size(path.with_name(f"{path.name}-wal")) and not _size(path):  # SQLite would remove the log
        raise StoreError(
            f"{str(path)!r} is missing or empty, and its -wal is not: restore it, or move the -wal away to begin anew"
        )
    end = time.monotonic() + _ENDING
    while _others_have_opened_others(path, holder):
        if time.monotonic() >= end:
            raise StoreError(
                f"{str(path)!r} was replaced, or its -wal removed, while another process has it open: {_END_ALL}"
            )
        time.sleep(0.005)
    private_file(path)


def _others_have_opened_others(path: Path, holder: Holder) -> bool:
    found = Names.of(path).now()
    return any(opened != (found.database, found.log) for opened in holder.opened_by_others())


def check_database(path: Path, opened: Files, found: Files) -> None:
    """A file that was moved away while it is open would take what is written with it. Raises StoreError."""
    if found.database != opened.database:
        raise StoreError(
            f"{str(path)!r} was moved, removed or replaced while it was open: put it back, or restart the program"
        )


class Log:
    """The -wal as it was opened, to be asked when it has no name any more. SQLite has no locks on this file.

    Raises StoreError where it is not there, or another by now.
    """

    def __init__(self, path: Path, opened: Files) -> None:
        self._path = path
        try:
            self._file = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise _log_removed(path, reason(error)) from None
        if os.fstat(self._file).st_ino != opened.log:
            os.close(self._file)
            raise _log_removed(path, "it is another by now")

    def check_saved(self) -> None:
        """Another took its place: what was in it has to be in the database by now. Raises StoreError.

        Who finds it removed saves it, which empties it.
        """
        if os.fstat(self._file).st_size:
            raise StoreError(f"the -wal of {str(self._path)!r} was replaced while it was open: {_END_ALL}")

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)


def _log_removed(path: Path, why: str) -> StoreError:
    return StoreError(f"the -wal of {str(path)!r} cannot be used ({why}): find out what removes it, and try again")


def _inode(name: str) -> int | None:
    try:
        return os.lstat(name).st_ino
    except (FileNotFoundError, NotADirectoryError):  # any other error does not say that it is gone
        return None


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # another process that closes its database removes its -wal
        return 0
