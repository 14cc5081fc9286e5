"""Copies of records that an SQLite database could not take: private files in a folder beside it.

A refresh token that was spent and answered, and whose successor is not stored, is lost when its process ends. A file
may still be writable while the database is locked, damaged or full. The next process to open the store takes it in, and
so does one that has it open, before it believes the record.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from tribe_oauth import _durable
from tribe_oauth._remedies import reason, remedy
from tribe_oauth._strict_json import MalformedError, from_json, to_json
from tribe_oauth.errors import StoreError, UnreadableError, named
from tribe_oauth.stores._columns import is_sound
from tribe_oauth.stores._contract import Record
from tribe_oauth.stores._sqlite_holder import private_folder

logger = logging.getLogger("tribe_oauth.stores.sqlite")

LARGEST: Final = 2**24
"""Bytes of a copy that are read: hundreds of times what a record takes."""


class Rescue:
    """One file for each organization, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, organization: str) -> Path:
        return self._folder / f"{hashlib.sha256(organization.encode()).hexdigest()}.json"

    def keep(self, record: Record) -> None:
        """Write a copy, durably, in one step. Raises StoreError."""
        private_folder(self._folder)
        path = self._path(record.organization)
        try:
            _durable.replace(path, to_json(record))
        except OSError as error:
            raise StoreError(
                f"the copy {str(path)!r} cannot be written ({reason(error)}):"
                f" {remedy(error, 'make its folder writable, and make room')}"
            ) from None

    def forget(self, organization: str) -> None:
        """Remove a copy, durably: the record is stored now. Raises StoreError."""
        _remove(self._path(organization))

    def take_in(self, write: Callable[[Record], None]) -> None:
        """Have every copy written into the database, each removed after that.

        One that is not what `keep` wrote is left where it is, and logged: `find` raises for its organization.
        """
        for path in sorted(self._folder.glob("*.json")):
            try:
                copy = self._read(path)
                if copy is not None:
                    write(copy.record)
                    copy.remove()
            except StoreError as error:
                logger.error("%s", error)  # noqa: TRY400 (the error's text says all)

    def find(self, organization: str) -> Copy | None:
        """The copy that is kept for an organization. One look at the disk where there is none. Raises StoreError."""
        if not os.path.lexists(self._folder):
            return None
        return self._read(self._path(organization), organization)

    def _read(self, path: Path, organization: str | None = None) -> Copy | None:
        try:
            inode, content = _content(path)
            record = from_json(content, Record, complete=True)
            belongs = self._path(record.organization) == path and is_sound(record)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, MalformedError):
            belongs = False
        if not belongs:
            raise _unreadable(path, organization)
        return Copy(path, inode, record)


@attrs.frozen
class Copy:
    """A copy that was found."""

    path: Path
    inode: int
    record: Record = attrs.field(repr=False)

    def remove(self) -> None:
        """Remove it, durably, unless there is a later one by now. Raises StoreError."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.lstat().st_ino == self.inode:
                _remove(self.path)


def _content(path: Path) -> tuple[int, bytes]:
    """A file's number and what is in it. A pipe, or a file without an end, is not waited for. Raises OSError."""
    with _durable.open_to_read(path) as reader:
        return os.fstat(reader.fileno()).st_ino, reader.read(LARGEST)


def _remove(path: Path) -> None:
    try:
        _durable.remove(path)
    except OSError as error:
        raise StoreError(
            f"the copy {str(path)!r} cannot be removed ({reason(error)}): {remedy(error, 'remove it')}"
        ) from None


def _unreadable(path: Path, organization: str | None) -> UnreadableError:
    whose = "its organization" if organization is None else named(organization)
    return UnreadableError(
        f"the copy {str(path)!r} of a record that could not be stored cannot be read: move it away;"
        f" {whose} may have to be connected again",
        organization=organization,
    )
