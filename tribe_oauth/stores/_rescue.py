"""The last resort of a local store: private files beside it, for records that it could not write. For stores only.

A refresh token that was spent, answered and not stored dies with its process; a file beside the store may still be
writable when the database is locked, damaged or read-only. The store takes it in the next time it is opened.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from tribe_oauth.errors import StoreError
from tribe_oauth.stores._contract import Record
from tribe_oauth.stores._files import private_file, private_folder


class Rescue:
    """One file for each organization, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, organization: str) -> Path:
        return self._folder / f"{hashlib.sha256(organization.encode()).hexdigest()}.json"

    def keep(self, record: Record) -> None:
        """Write a record, durably, in one step. Raises StoreError."""
        values = attrs.asdict(record) | {"payload": base64.b64encode(record.payload).decode()}
        path = self._path(record.organization)
        new = path.with_suffix(".new")
        private_folder(self._folder)
        try:
            private_file(new)
            with new.open("w", encoding="utf-8") as file:
                json.dump(values, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            raise StoreError(f"the copy {str(path)!r} cannot be written ({error.strerror})") from None

    def forget(self, organization: str) -> None:
        """The record is stored now."""
        self._path(organization).unlink(missing_ok=True)

    def kept(self) -> Iterator[Record]:
        """All records that were kept. One that cannot be read is left where it is."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                values = json.loads(path.read_bytes())
                yield Record(**values | {"payload": base64.b64decode(values["payload"])})
            except (ValueError, TypeError, KeyError):
                raise StoreError(f"the copy {str(path)!r} cannot be read: move it away") from None
