"""One entity set in several parts that are read side by side: where they begin. Imported by `_export`.

The first pages of the parts are read by ``$skip``. From there each goes on by the key, to where the next one begins, so
that rows that move make no difference any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import attrs

from tribe_oauth.odata import ODataError, Page, Query
from tribe_oauth.odata._answer import REFUSALS
from tribe_oauth.odata._keys import key_of
from tribe_oauth.odata._positions import Key, Place

_MOST: Final = 8
_LEAST: Final = 500  # rows of a part
_SPARE: Final = 16  # a part's last page is shorter by a sixteenth at least: rows that are added need no further page


def can_be_parted(position: str) -> bool:
    """Whether a read by key has enough left for parts, and a count that says how much."""
    place = Place.at(position)
    return place.is_by_key and place.rows is not None and _number(place) > 1


def left_of(positions: list[str]) -> int | None:
    """How many rows are left at these positions; None: not known."""
    left = [Place.at(position).left for position in positions]
    return None if None in left else sum(filter(None, left))


def until(position: str, key: Key) -> str:
    """The position of a read that ends in front of a key, where the next part begins."""
    # What was left before says nothing of how much is left until there.
    return str(attrs.evolve(Place.at(position), before=key, rows=None, left=None))


async def parts_of(
    position: str, query: Query, read: Callable[[str | None], Coroutine[Any, Any, Page]]
) -> list[tuple[Key, Page]]:
    """The parts of what is left at a position, but for the one that goes on there: their first pages, and their keys.

    None where they cannot be told apart, as where rows moved too much meanwhile: all is read as one.
    """
    place = Place.at(position)
    begins = [str(Place(rows=None, skip=skip, longest=place.longest)) for skip in _skips(place)]
    try:
        async with asyncio.TaskGroup() as tasks:
            reading = [tasks.create_task(read(begin)) for begin in begins]
    except ExceptionGroup as group:
        if not all(isinstance(error, ODataError) and error.status in REFUSALS for error in group.exceptions):
            raise
        return []
    pages = [task.result() for task in reading]
    keys = [key for page in pages for row in page.rows if (key := key_of(row, query.key)) is not None]
    if any(page.next is None for page in pages) or len({place.last, *keys}) <= len(keys):
        return []
    return [(key, page) for page in pages if (key := key_of(page.rows[0], query.key)) is not None]


def _number(place: Place) -> int:
    return min(_MOST, ((place.rows or 0) + (place.left or 0)) // _LEAST) if place.left else 0


def _skips(place: Place) -> list[int]:
    """Where all parts but the first begin: at whole pages, and a few rows less, so that the last page is a short one.

    A short page ends a part; after a full one, another request would have to say that nothing follows.
    """
    rows, left, size, parts = place.rows or 0, place.left or 0, place.longest, _number(place)
    pages = left // size + 1
    while (spare := (pages * size - left) // parts) * _SPARE < size:
        pages += 1
    return [rows + pages * part // parts * size - part * spare for part in range(1, parts)]
