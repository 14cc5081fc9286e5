"""Reading by ``$top`` and ``$skip`` while rows move: windows overlap, and their seam has to match.

A row that is deleted moves those behind it to the front, across the edge of a window. So each window begins with the
last rows of the one before. Where its first row is not known, there is a gap in front of it: it is read further in
front. What came before does not come again. Imported by `_pages`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
from yarl import URL

from tribe_oauth.odata._answer import REFUSALS, Answer, ODataError
from tribe_oauth.odata._ends import by_window, short
from tribe_oauth.odata._keys import Known, digests_of
from tribe_oauth.odata._positions import Place, no_position
from tribe_oauth.odata._query import Query
from tribe_oauth.odata._trail import moved

_OVERLAP: Final = 3  # rows: two may be deleted in front of each window for nothing


@attrs.frozen
class Window:
    """An answer, its rows that did not come before, and where it goes on."""

    answer: Answer
    rows: list[Any]
    following: Place | None

    @property
    def is_news(self) -> bool:
        """Whether it takes a read further: to new rows, to a link, or to the end."""
        return bool(self.rows) or self.following is None or self.following.link is not None

    def page(self) -> Answer:
        """The answer without the rows that came before."""
        return attrs.evolve(self.answer, rows=self.rows)


@attrs.define
class Windows:
    """Reads the windows of one query, one after another.

    `known`: the rows that came; `first`: the digest of the very first. `ended`: how many rows there were where a window
    had nothing new, and a count said otherwise.
    """

    get: Callable[[URL, bool], Awaitable[Answer]]
    query: Query
    known: Known | None = None
    first: bytes | None = None
    ended: int | None = None

    async def read(self, place: Place) -> Window:
        """The next window with rows that did not come before, or the end. Raises ODataError."""
        known = self._known_at(place)
        size = place.longest or self.query.size()
        overlap = min(_OVERLAP, size - 1) if known else 0
        skip, back = max(0, (place.skip or 0) - overlap), size
        while True:
            answer = await self._answer(place, skip)
            if answer is None:
                return self._all_there_is(place)
            digests = digests_of(answer.rows, self.query.key)
            if self._is_over(answer, digests):
                return Window(answer, [], None)
            if skip and overlap and not (digests and digests[0] in known):
                skip, back = max(0, skip - back), 2 * back  # there is a gap in front of it
                continue
            if not skip and overlap < (place.skip or 0) and not known.is_all_or_any_of(digests):
                raise moved()
            window = await self._taken(place, skip, answer, digests)
            if window.is_news:
                return window
            reached = skip + len(digests)
            self.ended = reached if len(digests) < size else None
            skip, back = self._further(place, skip, reached - overlap, window), size

    def _further(self, place: Place, skip: int, further: int, window: Window) -> int:
        """Where to look next, where all of a window came before. Raises ShortError where that is not further on."""
        if further <= skip:
            left = window.following.left if window.following is not None else None
            raise short(place.rows or 0, (place.rows or 0) + max(0, left or 0))
        return further

    async def _answer(self, place: Place, skip: int) -> Answer | None:
        """The window at a position; None where the server does not know ``$skip``, or ignores it."""
        try:
            answer = await self._get(place, skip)
        except ODataError as error:
            if place.sure or not place.skip or error.status not in REFUSALS:
                raise
            return None
        if place.sure or not skip or digests_of(answer.rows[:1], self.query.key) != [self.first]:
            return answer
        if self.query.page_size is not None:
            raise unkept()
        return None

    async def linked(self, place: Place, answer: Answer) -> Window:
        """The same for an answer that a link led to."""
        self._known_at(place)
        window = await self._taken(place, place.skip or 0, answer, digests_of(answer.rows, self.query.key))
        if not window.is_news and window.following is not None:
            self._further(place, 0, 0, window)  # raises
        return window

    async def _get(self, place: Place, skip: int) -> Answer:
        """The answer at a position. Rows that came before are asked for in addition."""
        again = max(_OVERLAP, (place.skip or 0) - skip) if skip else 0
        asked = min(self.query.size(), self.query.size(place.rows) + again)
        answer = await self.get(self.query.window(skip, asked), place.skip == 0)
        if self.query.page_size is not None and len(answer.rows) > asked:
            raise unkept()
        return answer

    async def _taken(self, place: Place, skip: int, answer: Answer, digests: list[bytes]) -> Window:
        known = self.known
        assert known is not None
        if not digests:
            return Window(answer, answer.rows, by_window(place, skip, answer, answer.rows, self.query))
        new = [at for at, digest in enumerate(digests) if digest not in known]
        rows = [answer.rows[at] for at in new] if len(new) < len(digests) else answer.rows
        if not new and await self._is_end(place, skip + len(digests), answer):
            return Window(answer, [], None)
        following = by_window(place, skip, answer, rows, self.query)
        self.ended = None if new else self.ended
        known.add([digests[at] for at in new])
        if skip == 0:
            self.first = digests[0]
        return Window(answer, rows, following and attrs.evolve(following, recent=str(known)))

    def _is_over(self, answer: Answer, digests: list[bytes]) -> bool:
        """Whether a count is explained by what came, that was too high for a window before: rows were deleted since."""
        if self.known is None or self.ended is None or answer.count is None or answer.next_link is not None:
            return False
        return answer.count <= self.ended and all(digest in self.known for digest in digests)

    async def _is_end(self, place: Place, reached: int, answer: Answer) -> bool:
        """Whether nothing is behind a window without new rows: where no count says it, the server has to."""
        if answer.count is not None or answer.next_link is not None or place.left or place.link is not None:
            return False
        return not (await self.get(self.query.window(reached, 1), False)).rows

    def _all_there_is(self, place: Place) -> Window:
        """The end, where a server has no way to give more. Raises ShortError where it promised more."""
        if place.left is not None and place.left > 0:
            raise short(place.rows or 0, (place.rows or 0) + place.left)
        return Window(Answer(URL(), []), [], None)

    def _known_at(self, place: Place) -> Known:
        rows = place.rows or 0
        if self.known is None or self.known.rows != rows:
            try:
                self.known = Known.at(place.recent, rows)
            except ValueError:
                raise no_position() from None
            if not place.sure and self.known.is_all:
                self.first = self.known.oldest
        return self.known


def unkept() -> ODataError:
    """The error for a server that gives what was not asked for."""
    return ODataError("the API does not keep to $top and $skip: leave page_size out")
