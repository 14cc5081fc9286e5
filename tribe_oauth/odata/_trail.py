"""Reads that would never end: pages that come again, and pages that bring nothing. Imported by `_pages`."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from tribe_oauth.odata._answer import ODataError
from tribe_oauth.odata._keys import key_of

_REMEMBERED: Final = 64  # pages: a loop of up to 64 pages is found at once, a longer one a round or two later
_STILL: Final = 1000  # pages in a row without a new row: a service that filters late gives some


def came_again() -> ODataError:
    """The error for a page that comes again."""
    return ODataError("the API leads back to a page that was read already: the read would never end")


def moved() -> ODataError:
    """The error for rows that moved over the edge of a part."""
    return ODataError(
        "so many rows were added or deleted that this read cannot be continued: read it again from the beginning"
    )


class Trail:
    """The positions of a read, in constant memory: a loop of any length is found (Brent's cycle detection)."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)
        self._mark: int | None = None
        self._steps = 0
        self._until_mark = 1

    def add(self, position: str) -> None:
        """Note the next position. Raises ODataError where it was read before."""
        place = hash(position)
        if place == self._mark or place in self._recent:
            raise came_again()
        self._recent.append(place)
        self._steps += 1
        if self._steps == self._until_mark:
            self._mark, self._until_mark = place, 2 * self._until_mark


class Beginnings:
    """The first rows of a read's pages: links that are new all the time do not make their rows new."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._trail = Trail()
        self._last: Any = None
        self._still = 0

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Note the next page. Raises ODataError where it is known, or nothing has come for long."""
        first = rows[0] if rows else None
        if first is not None and (key := key_of(first, self._key)) is not None:
            self._trail.add(str(key))
            self._still = 0
            return
        self._still = self._still + 1 if first == self._last else 0
        self._last = first
        if self._still >= _STILL:
            raise ODataError(f"{_STILL} pages in a row have no new row: the read would never end")
