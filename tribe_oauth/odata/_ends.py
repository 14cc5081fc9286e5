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
from tribe_oauth.odata._keys import Known, digests_of, key_of, mark_of
from tribe_oauth.odata._next_link import next_url
from tribe_oauth.odata._positions import Key, Place
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
    """An answer in its read. `new`: rows that did not come before.

    `got`: rows of its request, with those of the links that led on from it. `left`: how many more the server promised;
    `is_counted`: it did so for this request.
    """

    place: Place
    size: int
    new: int
    got: int
    left: int | None
    is_counted: bool
    asked: int

    @classmethod
    def of(cls, place: Place, answer: Answer, query: Query, *, skip: int, new: int) -> _Told:
        """`skip`: how many rows of what the server counts are in front of the answer's."""
        size, is_link = len(answer.rows), place.link is not None
        promised = None if place.left is None else place.left - new
        if answer.count is not None and (promised is None or not is_link):  # of links, the first count stands
            promised = answer.count - skip - size
        is_counted = answer.count is not None or (is_link and promised is not None)
        got = size + (place.got if is_link else 0)
        return cls(place, size, new, got, promised, is_counted, query.size(place.rows))

    def is_end(self) -> bool:
        """Whether nothing is left. Raises ShortError where nothing comes and something is promised."""
        nothing_is_promised = self.left is None or self.left <= 0
        if self.place.link is not None and not self.may_be_cut():
            return nothing_is_promised
        if self.size == 0 and self.place.link is None:
            if not nothing_is_promised:
                raise self.short()
            return True
        return self.is_counted and nothing_is_promised and self.got < (self.place.longest or self.asked)

    def may_be_cut(self) -> bool:
        """Whether a chain of links may have ended because no more rows were asked for."""
        return self.place.ordered and self.got == self.asked

    def short(self) -> ShortError:
        """The error where this is the end all the same."""
        rows = (self.place.rows or 0) + self.new
        return short(rows, None if self.left is None or self.left <= 0 else rows + self.left)

    def following(self, answer: Answer, query: Query) -> Place:
        """The place behind it."""
        place, link = self.place, next_url(answer)
        return attrs.evolve(
            place,
            rows=None if place.rows is None else place.rows + self.new,
            last=key_of(answer.rows[-1], query.key) if self.size else place.last,
            link=None if link is None else link.raw_path_qs,
            got=self.got,
            longest=place.longest if link is not None else max(place.longest, self.got),
            left=self.left,
            mark=None if link is None else mark_of(answer.rows, query.key),
        )


def by_key(place: Place, answer: Answer, query: Query) -> Place | None:
    """Where a read by key goes on; None: this was the end. Raises ODataError."""
    skip = place.got if place.link is not None else 0
    told = _Told.of(place, answer, query, skip=skip, new=len(answer.rows))
    following = told.following(answer, query)
    if not place.sure:
        following = attrs.evolve(following, recent=_recent(place, told, answer, query))
    if following.link is not None:
        return following
    if (place.rows is None and not place.ordered) or told.is_end():
        return None
    if not place.ordered:
        raise told.short()
    if following.last is None:  # rows without a key
        return attrs.evolve(following, skip=following.rows)
    return following


def _recent(place: Place, told: _Told, answer: Answer, query: Query) -> str:
    """The rows to tell apart from those of the next request, until the service has shown that it knows keys."""
    if not place.ordered:
        return ""
    before = Known.at(place.recent, 0) if told.got <= told.asked else Known([], 0)
    before.add(digests_of(answer.rows, query.key))
    return str(before)


def by_window(place: Place, skip: int, answer: Answer, new: Sequence[Any], query: Query) -> Place | None:
    """Where a read by windows goes on, after the one at `skip`; `new`: its rows that did not come before."""
    told = _Told.of(place, answer, query, skip=skip, new=len(new))
    reached = skip + told.size
    following = attrs.evolve(told.following(answer, query), skip=reached, last=None)
    if following.link is not None:
        return following
    if told.is_end():
        return None
    return attrs.evolve(following, sure=place.sure or skip > 0)


def contradicts(place: Place, answer: Answer, query: Query, first: Key | None) -> bool:
    """Whether the rows behind a key are none: the service does not know the filter, or has another order for it.

    They may not have rows in them that came before, and are as many as were left, but for what moved meanwhile.
    `first`: the key of the very first row.
    """
    known = Known.at(place.recent, 0)
    if any(digest in known for digest in digests_of(answer.rows, query.key)):
        return True
    if answer.rows and key_of(answer.rows[0], query.key) == first:
        return True
    if answer.count is None or place.left is None:
        return False
    return abs(answer.count - place.left) > max(query.size(), place.left // 10)
