"""What an answer means for a read: where it goes on, or that this was the end. Without I/O. Imported by the readers.

Rows are added and deleted while they are read, and the server may count with one query and read with another. So a read
by key ends where the answer's own count is within its rows *and* the page is shorter than pages can be; a page that is
short alone may be cut. What a server says with links is believed, and compared with its first count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from tribe_oauth.odata._answer import Answer, ODataError
from tribe_oauth.odata._keys import as_text, digests_of, key_of, mark_of
from tribe_oauth.odata._next_link import next_url
from tribe_oauth.odata._positions import Place
from tribe_oauth.odata._query import Query


class ShortError(ODataError):
    """The API says that there are more rows, and gives none. Asked again, it may correct the one or the other."""


def short(got: int, promised: int | None) -> ShortError:
    """So many rows came, and so many were promised."""
    return ShortError(
        f"the API gives {got} rows and no more, and says that there are {promised or 'more'}: the read is not complete."
        " Read it again from the beginning"
    )


@attrs.frozen
class _Told:
    """An answer in its read. `got`: rows of its request, with those of the links that led on from it.

    `left`: how many more the server promised. `is_counted`: it did so for this request.
    """

    place: Place
    size: int
    got: int
    left: int | None
    is_counted: bool
    asked: int

    @classmethod
    def of(cls, place: Place, answer: Answer, skip: int, asked: int) -> _Told:
        """`skip`: how many rows of what the server counts are in front of the answer's."""
        size, is_link = len(answer.rows), place.link is not None
        got = size + (place.got if is_link else 0)
        promised = place.left is not None and (is_link or answer.count is None)
        if promised:
            assert place.left is not None
            left: int | None = place.left - size  # of links, the first count stands
        else:
            left = None if answer.count is None else answer.count - skip - size
        is_counted = answer.count is not None or (is_link and promised)
        return cls(place, size, got, left, is_counted, asked)

    def is_end(self) -> bool:
        """Whether nothing is left. Raises ShortError where nothing comes and something is promised."""
        nothing_is_promised = self.left is None or self.left <= 0
        if self.size == 0 and not nothing_is_promised:
            raise self.short()
        if self.place.link is not None and nothing_is_promised and not self.may_be_cut():
            return True
        if self.size == 0:
            return True
        return self.is_counted and nothing_is_promised and self.got < (self.place.longest or self.asked)

    def may_be_cut(self) -> bool:
        """Whether a chain of links may have ended because no more rows were asked for."""
        return self.place.ordered and self.got == self.asked

    def short(self) -> ShortError:
        rows = (self.place.rows or 0) + self.size
        return short(rows, None if self.left is None else rows + self.left)


def by_key(place: Place, answer: Answer, query: Query) -> Place | None:
    """Where a read by key goes on; None: this was the end. Raises ODataError."""
    told = _Told.of(place, answer, place.got if place.link is not None else 0, query.size(place.rows))
    following = _following(place, told, answer, query)
    if (url := next_url(answer)) is not None:
        return attrs.evolve(following, link=url.raw_path_qs)
    if place.rows is None or told.is_end():
        return None
    if not place.ordered:
        raise told.short()
    following = attrs.evolve(following, longest=max(place.longest, told.got))
    if following.last is None:  # rows without a key
        return attrs.evolve(following, skip=following.rows)
    recent = "" if place.sure else as_text(digests_of(answer.rows, query.key))
    return attrs.evolve(following, recent=recent)


def by_window(place: Place, skip: int, answer: Answer, new: Sequence[Any], query: Query) -> Place | None:
    """Where a read by windows goes on, after the one at `skip`; `new`: its rows that did not come before."""
    told = _Told.of(place, answer, skip, query.size(place.rows))
    reached = skip + told.size
    following = attrs.evolve(_following(place, told, answer, query, len(new)), skip=reached, last=None)
    if (url := next_url(answer)) is not None:
        return attrs.evolve(following, link=url.raw_path_qs)
    is_short = told.size < (place.longest or told.asked)
    if told.is_end() or (not new and is_short and not told.is_counted):
        return None
    if not new and reached <= (place.skip or 0):
        raise told.short()
    return attrs.evolve(following, longest=max(place.longest, told.got), sure=place.sure or skip > 0)


def _following(place: Place, told: _Told, answer: Answer, query: Query, new: int | None = None) -> Place:
    last = key_of(answer.rows[-1], query.key) if told.size else place.last
    return attrs.evolve(
        place,
        rows=None if place.rows is None else place.rows + (told.size if new is None else new),
        last=last,
        link=None,
        got=told.got,
        left=told.left,
        mark=mark_of(answer.rows, query.key),
    )


def contradicts(place: Place, answer: Answer, query: Query) -> bool:
    """Whether the rows behind a key are not what they should be: the service does not know the filter, or another order.

    They may not have the row of that key in them, and are as many as were left, but for what moved meanwhile.
    """
    if any(key_of(row, query.key) == place.last for row in answer.rows):
        return True
    if answer.count is None or place.left is None:
        return False
    return abs(answer.count - place.left) > max(query.size(), place.left // 10)
