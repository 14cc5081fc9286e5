"""Keys of rows: which row was the last, and which rows came before, remembered by digests.

Imported by the rooms that read pages. A key is compared for equality alone: how the service orders keys is its own
affair.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, Self

from tribe_oauth.odata._json import as_dict
from tribe_oauth.odata._positions import Key

_BYTES: Final = 8  # of a digest: among a million rows, two are the same once in forty million reads
_STORED: Final = 1000  # rows that a position remembers: so many may be added in front of it until it is used
_HALF: Final = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: no character."""


def key_of(row: Any, name: str) -> Key | None:
    """The key of a row; None where it has none, or one that no URL can hold."""
    value = (row if isinstance(row, dict) else as_dict(row)).get(name)
    return value if type(value) is int or (type(value) is str and not _HALF.search(value)) else None


def mark_of(rows: Sequence[Any], name: str) -> int | None:
    """What the key of a page's first row is remembered by, in this process and in others; None where it has none."""
    key = key_of(rows[0], name) if rows else None
    return None if key is None else zlib.crc32(str(key).encode())


def digests_of(rows: Sequence[Any], name: str) -> list[bytes]:
    """A digest for each row; none at all where a row has no key."""
    keys = [key_of(row, name) for row in rows]
    if None in keys:
        return []
    return [blake2b(str(key).encode(), digest_size=_BYTES).digest() for key in keys]


class Known:
    """The rows that a read has had, by their digests. `rows`: how many; `is_all`: none is missing from it."""

    def __init__(self, digests: Sequence[bytes], rows: int) -> None:
        self._set = set(digests)
        self._last = deque(digests, maxlen=_STORED)
        self.rows = rows
        self.is_all = len(digests) >= rows

    @classmethod
    def at(cls, recent: str, rows: int) -> Self:
        """From a position. Raises ValueError."""
        content = base64.b64decode(recent, validate=True)
        return cls([content[at : at + _BYTES] for at in range(0, len(content), _BYTES)], rows)

    @property
    def oldest(self) -> bytes | None:
        """The first of those that a position remembers."""
        return self._last[0] if self._last else None

    def __bool__(self) -> bool:
        return bool(self._set)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._set

    def is_all_or_any_of(self, digests: Sequence[bytes]) -> bool:
        """Whether it can be told of these rows which are new: everything is remembered, or some of them are."""
        return self.is_all or any(digest in self for digest in digests)

    def add(self, digests: Sequence[bytes]) -> None:
        """Remember rows that came."""
        self._set.update(digests)
        self._last.extend(digests)
        self.rows += len(digests)

    def __str__(self) -> str:
        return base64.b64encode(b"".join(self._last)).decode()
