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


@attrs.define
class Windows:
    """Reads the windows of one query, one after another. `first`: the digest of the very first row."""

    get: Callable[[URL, bool], Awaitable[Answer]]
    query: Query
    known: Known | None = None
    first: bytes | None = None

    async def read(self, place: Place) -> tuple[Answer, list[Any], Place | None]:
        """The answer at a place, its rows that did not come before, and where it goes on. Raises ODataError."""
        known = self._known_at(place)
        assert place.skip is not None
        overlap = min(_OVERLAP, (place.longest or self.query.size()) - 1) if known else 0
        skip = max(0, place.skip - overlap)
        back = self.query.size()
        while True:
            try:
                answer = await self._window(place, skip)
            except ODataError as error:
                if place.sure or not place.skip or error.status not in REFUSALS:
                    raise
                return self._all_there_is(place)  # without $skip, a server has no way to give more
            digests = digests_of(answer.rows, self.query.key)
            if skip and not place.sure and digests and digests[0] == self.first:
                if self.query.page_size is not None:
                    raise unkept()
                return self._all_there_is(place)  # the server ignores $skip
            if skip == 0 or not overlap or (digests and digests[0] in known):
                break
            skip, back = max(0, skip - back), 2 * back
        if skip == 0 and place.skip > _OVERLAP and not known.is_all and not any(it in known for it in digests):
            raise moved()
        return await self._taken(place, skip, answer, digests)

    async def linked(self, place: Place, answer: Answer) -> tuple[Answer, list[Any], Place | None]:
        """The same for an answer that a link led to."""
        self._known_at(place)
        return await self._taken(place, place.skip or 0, answer, digests_of(answer.rows, self.query.key))

    async def _window(self, place: Place, skip: int) -> Answer:
        """The answer at a position. Rows that came before are asked for in addition."""
        asked = min(self.query.size(), self.query.size(place.rows) + (place.skip or 0) - skip)
        answer = await self.get(self.query.window(skip, asked), place.skip == 0)
        if self.query.page_size is not None and len(answer.rows) > asked:
            raise unkept()
        return answer

    async def _taken(
        self, place: Place, skip: int, answer: Answer, digests: list[bytes]
    ) -> tuple[Answer, list[Any], Place | None]:
        known = self.known
        assert known is not None
        if not digests:
            following = by_window(place, skip, answer, answer.rows, self.query)
            return answer, answer.rows, following
        new = [at for at, digest in enumerate(digests) if digest not in known]
        rows = [answer.rows[at] for at in new] if len(new) < len(digests) else answer.rows
        if not new and await self._is_end(place, skip + len(digests), answer):
            return answer, [], None
        following = by_window(place, skip, answer, rows, self.query)
        known.add([digests[at] for at in new])
        if skip == 0:
            self.first = digests[0]
        return answer, rows, following and attrs.evolve(following, recent=str(known))

    async def _is_end(self, place: Place, reached: int, answer: Answer) -> bool:
        """Whether nothing is behind a window without new rows: where no count says it, the server has to."""
        if answer.count is not None or answer.next_link is not None or place.left or place.link is not None:
            return False
        return not (await self.get(self.query.window(reached, 1), False)).rows

    def _all_there_is(self, place: Place) -> tuple[Answer, list[Any], None]:
        if place.left is not None and place.left > 0:
            raise short(place.rows or 0, (place.rows or 0) + place.left)
        return Answer(URL(), []), [], None

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
