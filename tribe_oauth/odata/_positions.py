"""Positions of a read, as text for a checkpoint: where it goes on, and what had come and was promised by then.

A read that goes on in another process compares the number of rows as one does that was never interrupted. Imported by
`_pages`.
"""

from __future__ import annotations

import re
import zlib
from typing import Any, Final, Self

import attrs

_WINDOW: Final = re.compile(r"skip=(\d{1,15}),size=(\d{1,9}),count=(\d{0,18})", re.ASCII)
_READ: Final = re.compile(r"rows=(\d{1,15}),count=(\d{0,18}),mark=(\d{0,10})", re.ASCII)


def place(position: str) -> str:
    """A position by links, without what was read before it."""
    return position.partition("#")[0]


@attrs.define
class Read:
    """What a read by links had come to. `rows`: how many; None: not known. `count`: how many were promised first.

    `mark`: of what its last page begins with, to see it come again; None: it has no key.
    """

    rows: int | None = None
    count: int | None = None
    mark: int | None = None

    @classmethod
    def at(cls, fragment: str) -> Self:
        """As it stands in the fragment of a position."""
        found = _READ.fullmatch(fragment)
        return cls() if found is None else cls(int(found[1]), _number(found[2]), _number(found[3]))

    def after(self, rows: int, count: int | None, mark: int | None) -> Self:
        """With one more page, which says that there are `count` rows in all."""
        return type(self)(None if self.rows is None else self.rows + rows, _first(self.count, count), mark)

    def __str__(self) -> str:
        return "" if self.rows is None else f"#rows={self.rows},count={_text(self.count)},mark={_text(self.mark)}"


def mark_of(rows: list[dict[str, Any]], key: str) -> int | None:
    """What the key of a page's first row is remembered by, in this process and in others; None where it has none."""
    value = rows[0].get(key) if rows else None
    return zlib.crc32(str(value).encode("utf-8", "surrogatepass")) if isinstance(value, str | int) else None


@attrs.frozen
class Window:
    """The position of a read by ``$top`` and ``$skip``. `count`: how many rows were promised first."""

    skip: int
    size: int
    count: int | None = None

    @classmethod
    def at(cls, position: str) -> Self | None:
        """As it is written; None where this is another kind of position."""
        found = _WINDOW.fullmatch(position)
        return None if found is None else cls(int(found[1]), int(found[2]), _number(found[3]))

    def after(self, rows: int, count: int | None) -> Self:
        """With one more page, which says that there are `count` rows in all."""
        return type(self)(self.skip + rows, self.size, _first(self.count, count))

    def __str__(self) -> str:
        return f"skip={self.skip},size={self.size},count={_text(self.count)}"


# What the first answer with a count promised stands: rows that are added later may come before the position.


def _first(promised: int | None, count: int | None) -> int | None:
    return count if promised is None else promised


def _text(count: int | None) -> str:
    return "" if count is None else str(count)


def _number(text: str) -> int | None:
    return int(text) if text else None
