"""Copies of records that an SQLite database could not take: private files in a folder beside it.

A refresh token that was spent and answered, and whose successor is not stored, is lost when its process ends. A file
may still be writable while the database is locked, damaged or full. The next process to open the store takes it in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from tribe_oauth import _durable
from tribe_oauth._strict_json import MalformedError, from_json, to_json
from tribe_oauth.errors import StoreError
from tribe_oauth.stores._contract import Record
from tribe_oauth.stores._sqlite_holder import private_folder


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
                f"the copy {str(path)!r} cannot be written ({error.strerror}): make its folder writable, and make room"
            ) from None

    def forget(self, organization: str) -> None:
        """Remove a copy, durably: the record is stored now. Raises StoreError."""
        _remove(self._path(organization))

    def take_in(self, write: Callable[[Record], None]) -> None:
        """Have every copy written into the database, each removed after that.

        Raises StoreError for one that is not what `keep` wrote; it is left where it is.
        """
        for path in sorted(self._folder.glob("*.json")):
            record = self._read(path)
            try:
                write(record)
            except (OverflowError, ValueError):  # a number or a text that no database takes
                raise _unreadable(path) from None
            _remove(path)

    def _read(self, path: Path) -> Record:
        try:
            record = from_json(path.read_bytes(), Record, complete=True)
            belongs = self._path(record.organization) == path
        except (OSError, ValueError, MalformedError):
            belongs = False
        if not belongs:
            raise _unreadable(path)
        return record


def _remove(path: Path) -> None:
    try:
        _durable.remove(path)
    except OSError as error:
        raise StoreError(f"the copy {str(path)!r} cannot be removed ({error.strerror}): remove it") from None


def _unreadable(path: Path) -> StoreError:
    return StoreError(
        f"the copy {str(path)!r} of a record that could not be stored cannot be read: move it away;"
        " its organization may have to be connected again"
    )
