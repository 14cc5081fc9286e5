"""Page after page, each requested while the one before is used: by `@odata.nextLink`, else by ``$top`` and ``$skip``.

May be imported by `_rows` and by `sync`, which reads the same pages and retries them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Final

import attrs
from aiohttp import ClientSession
from yarl import URL

from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.odata._answer import REFUSALS, Answer, ODataError, get
from tribe_oauth.odata._ends import ShortError, by_key, contradicts, short
from tribe_oauth.odata._inside import check
from tribe_oauth.odata._json import Parse
from tribe_oauth.odata._keys import key_of, mark_of
from tribe_oauth.odata._next_link import is_below_root, verbatim
from tribe_oauth.odata._positions import Key, Place, no_position
from tribe_oauth.odata._query import MAX_BYTES, Query, query_of
from tribe_oauth.odata._retries import GIVE_UP_AFTER, patiently
from tribe_oauth.odata._sets import with_the_sets
from tribe_oauth.odata._trail import Beginnings, Trail, came_again, moved
from tribe_oauth.odata._windows import Windows, unkept

_LOOKS: Final = 3  # at an answer whose count and rows contradict each other


@attrs.frozen
class Page:
    """The rows of one answer. `count`: the number of all rows, where it was asked for and the server gave it.

    `next`: the position of the page after this one, for `start` of the same query, in this process or a later one;
    None after the last page.
    """

    rows: list[dict[str, Any]]
    count: int | None = None
    next: str | None = attrs.field(default=None, eq=False)


async def pages(
    session: ClientSession,
    path: str | Query,
    *,
    select: Iterable[str] = (),
    filter: str | None = None,  # noqa: A002 (OData's own word)
    expand: Iterable[str] = (),
    orderby: Iterable[str] = (),
    count: bool = False,
    top: int | None = None,
    page_size: int | None = None,
    key: str = "ID",
    start: str | None = None,
    exact: bool = False,
    max_bytes: int = MAX_BYTES,
    give_up_after: float = GIVE_UP_AFTER,
) -> AsyncGenerator[Page]:
    """Read page after page. While one page is used, the next one is read, and no more than that.

    `path` and the options are those of `Query`, or it is a `Query`; write values into `filter` with `literal`. `start`:
    the `next` of an earlier page of the same query. Without an order of the caller's, pages are read behind the last
    key, `page_size` rows at a time (100); with one, and where the server knows no other way, by ``$top`` and ``$skip``,
    each with some rows of the page before. No row that is there throughout is missing or comes twice, whatever is
    added or deleted meanwhile. It ends where the server's count says so (`count`), or with a page without rows.
    `@odata.nextLink` is followed without changes. Fewer rows than the server says that there are, are an error, and so
    are pages that come again, and a row whose expanded collection the server cuts. An answer that is cut off is read a
    second time.

    What passes by itself (429, 5xx but 501, no answer, a token endpoint that is busy) is tried again for
    `give_up_after` seconds from a page's first failure, with growing pauses, or those that the server asks for; each
    time is a warning in the log ``tribe_oauth.odata``. 0: nothing is. Raises ODataError, and errors of the session's
    own middlewares unchanged, and ConfigurationError.

    Closed or cancelled, the generator ends after the request that is under way has ended. Where you leave a loop early,
    close it: ``async with contextlib.aclosing(pages(...)) as found``. Otherwise that is left to the event loop, after
    garbage collection.
    """
    query = query_of(
        path,
        select=select,
        filter=filter,
        expand=expand,
        orderby=orderby,
        count=count,
        top=top,
        page_size=page_size,
        key=key,
        exact=exact,
        max_bytes=max_bytes,
    )
    reader = Reader(session, query)

    async def read(position: str | None) -> Page:
        return await patiently(lambda: reader.page(position), "a page is asked for", give_up_after=give_up_after)

    async with aclosing(ahead(read, start, query)) as found:
        async for page in found:
            yield page


async def ahead(
    read: Callable[[str | None], Awaitable[Page]],
    start: str | None,
    query: Query,
    until: Callable[[str], bool] = lambda _: False,
) -> AsyncGenerator[Page]:
    """Pages that `read` gets, each for the `next` of the page before, while that page is used.

    The first page whose `next` is where `until` says so is the last.
    """
    trail, beginnings = Trail(), Beginnings(query.key)
    trail.add(_link(start) if start else query.first().raw_path_qs)
    page = await read(start)
    beginnings.add(page.rows)
    while page.next is not None and not until(page.next):
        trail.add(_link(page.next))
        reading = asyncio.ensure_future(read(page.next))
        try:
            yield page
            del page  # it would stay in memory while the next one is read
            # Awaited directly, the read would be cancelled again at each of its awaits by an anyio scope.
            page = await asyncio.shield(reading)
            beginnings.add(page.rows)
        finally:
            await _end(reading)
            del reading  # it would keep its page in memory
    yield page


def _link(position: str) -> str:
    """What tells a position from others: a link by itself, whatever came before it."""
    return (Place.at(position).link or position) if '"link":' in position else position


async def _end(reading: asyncio.Future[Page]) -> None:
    """Cancel a read, where it is still under way, and wait until it has ended."""
    if not reading.done():
        reading.cancel()
        await run_uninterrupted(asyncio.gather(reading, return_exceptions=True))
    elif not reading.cancelled():
        reading.exception()  # marks it as retrieved: a caller who stopped before this page has no use for its error


class Reader:
    """Reads the pages of one query: one at a time, or those of parts, each at its own positions.

    `parse`: in place of the query's own way.
    """

    def __init__(self, session: ClientSession, query: Query, parse: Parse | None = None) -> None:
        self.session = session
        self._query = query
        self._parse = parse
        self._first_key: Key | None = None
        self._windows = Windows(self._get, query)

    async def page(self, position: str | None) -> Page:
        """The page at a position; None: the first. Raises ODataError; ConfigurationError for an invalid position."""
        if position is None:
            return await with_the_sets(self._settled(self._first), self.session, self._query)
        place = Place.at(position)
        if place.link is not None:
            return await self._linked(place, place.link)
        if place.skip is None:
            return await self._settled(lambda: self._behind(place))
        return await self._settled(lambda: self._begun(place) if place.begins_a_part else self._window(place))

    async def _settled(self, step: Callable[[], Awaitable[Page]]) -> Page:
        """Ask again where count and rows contradict each other: they come from two looks at rows that move."""
        for _ in range(_LOOKS - 1):
            with contextlib.suppress(ShortError):
                return await step()
        return await step()

    async def _get(self, url: URL, first: bool = False) -> Answer:
        answer = await get(self.session, self._query, url, first=first, parse=self._parse)
        check(answer, self._query)
        return answer

    async def _first(self) -> Page:
        query = self._query
        if "(" in query.path and (page := await self._whole()) is not None:
            return page
        if not query.is_by_key:
            return await self._window(Place(skip=0))
        answer = await self._get(query.first())
        if query.page_size is not None and len(answer.rows) > query.size():
            raise unkept()
        self._first_key = key_of(answer.rows[0], query.key) if answer.rows else None
        return self._page(Place(), answer, by_key(Place(), answer, query), answer.count)

    async def _whole(self) -> Page | None:
        """One entity, or what the server gives of a collection without an order; None where that is not all of it.

        A path below an entity may lead to the one or to the other, and an entity can be refused with an order.
        """
        answer = await self._get(self._query.url(), first=True)
        if answer.next_link is not None:
            place = Place(ordered=False)
            return self._page(place, answer, by_key(place, answer, self._query), answer.count)
        if not answer.is_one and not await self._is_all(answer):
            return None
        size = len(answer.rows)
        if answer.count is not None and size < min(
            answer.count, answer.count if self._query.top is None else self._query.top
        ):
            raise short(size, answer.count)
        return self._page(Place(), answer, None, answer.count)

    async def _is_all(self, answer: Answer) -> bool:
        """Whether an answer without a nextLink has all rows, as OData promises. Some services leave rows out."""
        size = len(answer.rows)
        if size == self._query.top or (size == 0 and not answer.count) or answer.count == size:
            return True
        try:
            more = (await self._get(self._query.beyond(size))).rows
        except ODataError as error:
            if error.status not in REFUSALS:
                raise
            return True  # without $skip, a server has no way to give more
        return not more or more == answer.rows  # the same rows again: the server ignores the options

    async def _behind(self, place: Place) -> Page:
        """The page behind a key. Where the service does not know that, which is seen once, it is read by windows."""
        query = self._query
        assert place.last is not None
        answer = None
        try:
            answer = await self._get(query.behind(place.last, place.before, query.size(place.rows)))
        except ODataError as error:
            if place.sure or error.status not in REFUSALS:
                raise
        if answer is None or (not place.sure and contradicts(place, answer, query, self._first_key)):
            return await self._window(attrs.evolve(place, last=None, skip=place.rows))
        if answer.rows and key_of(answer.rows[0], query.key) == place.last:
            raise came_again()
        if place.is_fresh and not answer.rows:
            raise moved()
        sure = place if place.sure else attrs.evolve(place, sure=True, recent="")
        return self._page(sure, answer, by_key(sure, answer, query))

    async def _begun(self, place: Place) -> Page:
        """The first page of a part: what follows is read behind its last key."""
        assert place.skip is not None
        answer = await self._get(self._query.window(place.skip, self._query.size()))
        last = key_of(answer.rows[-1], self._query.key) if answer.rows else None
        following = (
            None
            if last is None
            else Place(rows=None, last=last, sure=True, longest=max(place.longest, len(answer.rows)))
        )
        return self._page(place, answer, following, answer.count)

    async def _window(self, place: Place) -> Page:
        window = await self._windows.read(place)
        return self._page(place, window.page(), window.following, window.answer.count)

    async def _linked(self, place: Place, link: str) -> Page:
        try:
            url = verbatim(link)
        except ValueError:
            url = URL("")
        if url.absolute or not is_below_root(url.path):
            raise no_position()
        answer = await self._get(url)
        if place.mark is not None and mark_of(answer.rows, self._query.key) == place.mark:
            raise came_again()
        if place.skip is None:
            return self._page(place, answer, by_key(place, answer, self._query), answer.count)
        window = await self._windows.linked(place, answer)
        return self._page(place, window.page(), window.following, window.answer.count)

    def _page(self, place: Place, answer: Answer, following: Place | None, count: int | None = None) -> Page:
        """Not more rows than are asked for: a server may know no ``$top``, and links lead on."""
        rows, top = answer.rows, self._query.top
        if top is not None and place.rows is not None and place.rows + len(rows) >= top:
            return Page(rows[: top - place.rows], count)
        return Page(rows, count, None if following is None else str(following))
