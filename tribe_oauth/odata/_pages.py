"""Page after page, each requested while the one before is used: by `@odata.nextLink`, else by ``$top`` and ``$skip``.

May be imported by `_rows` and by `sync`, which reads the same pages and retries them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Final

import attrs
from aiohttp import ClientSession
from yarl import URL

from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.errors import ConfigurationError, TribeOAuthError
from tribe_oauth.odata._answer import Answer, ODataError, get
from tribe_oauth.odata._inside import check
from tribe_oauth.odata._next_link import is_below_root, next_url, verbatim
from tribe_oauth.odata._positions import Read, Window, mark_of, place
from tribe_oauth.odata._query import MAX_BYTES, Query, query_of
from tribe_oauth.odata._retries import GIVE_UP_AFTER, check_give_up_after, persistently
from tribe_oauth.odata._sets import with_the_sets
from tribe_oauth.odata._trail import Beginnings, Trail, came_again

logger = logging.getLogger("tribe_oauth.odata")

_SIZE: Final = 100  # rows of a page, where the server does not show how many it gives


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
    the `next` of an earlier page of the same query. `@odata.nextLink` is followed without changes. Where the server
    gives none and still has rows, they are read with ``$top`` and ``$skip`` in a stable order until a page is empty;
    with `page_size` that is done from the beginning. Fewer rows than the first count that the server gives are an
    error, and so are pages that come again, and a row whose expanded collection the server cuts. An answer that is cut
    off is read a second time.

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
    check_give_up_after(give_up_after)
    reader = Reader(session, query)

    async def read(position: str | None) -> Page:
        return await persistently(lambda: reader.page(position), give_up_after=give_up_after, on_retry=_warn)

    async with aclosing(ahead(read, start, query)) as found:
        async for page in found:
            yield page


def _warn(error: TribeOAuthError, seconds: float) -> None:
    logger.warning("a page is asked for again in %.1f s: %s", seconds, error)


async def ahead(read: Callable[[str | None], Awaitable[Page]], start: str | None, query: Query) -> AsyncGenerator[Page]:
    """Pages that `read` gets, each for the `next` of the page before, while that page is used."""
    trail, beginnings = Trail(), Beginnings(query.key)
    trail.add(place(start) if start else query.url().raw_path_qs)
    page = await read(start)
    beginnings.add(page.rows)
    while page.next is not None:
        trail.add(place(page.next))
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


async def _end(reading: asyncio.Future[Page]) -> None:
    """Cancel a read, where it is still under way, and wait until it has ended."""
    if not reading.done():
        reading.cancel()
        await run_uninterrupted(asyncio.gather(reading, return_exceptions=True))
    elif not reading.cancelled():
        reading.exception()  # marks it as retrieved: a caller who stopped before this page has no use for its error


@attrs.define
class Reader:
    """Reads the pages of one query, one at a time."""

    session: ClientSession
    query: Query
    _before: object = None

    async def page(self, position: str | None) -> Page:
        """The page at a position; None: the first. Raises ODataError; ConfigurationError for an invalid position."""
        if position is None:
            return await with_the_sets(self._first(), self.session, self.query)
        if (window := Window.at(position)) is not None:
            return await self._counted(window)
        link, _, read = position.partition("#")
        try:
            url = verbatim(link)
        except ValueError:
            url = URL("")
        if url.absolute or not is_below_root(url.path):
            raise ConfigurationError("`start` is no position of a read: give the `next` of a page")
        return self._linked(await self._get(url), Read.at(read))

    async def _get(self, url: URL, *, first: bool = False) -> Answer:
        answer = await get(self.session, self.query, url, first=first)
        check(answer, self.query)
        return answer

    async def _first(self) -> Page:
        if self.query.page_size is not None:
            return await self._counted(Window(0, self.query.page_size))
        answer = await self._get(self.query.url(), first=True)
        size = len(answer.rows)
        if answer.is_one or answer.next_link is not None or await self._is_all(answer):
            return self._linked(answer, Read(rows=0))
        # The server left rows out and said nothing. Its own order may differ from request to request: begin again, in
        # an order that is the same for all.
        return await self._counted(Window(0, size or _SIZE, answer.count))

    async def _is_all(self, answer: Answer) -> bool:
        """Whether an answer without a nextLink has all rows, as OData promises. Some services leave rows out."""
        size = len(answer.rows)
        more_are_said = answer.count is not None and answer.count > size
        if size == self.query.top or (size == 0 and not more_are_said) or answer.count == size:
            return True
        try:
            more = (await self._get(self.query.beyond(size))).rows
        except ODataError as error:
            if error.status not in {400, 404, 405, 501}:
                raise
            return True  # without $skip, a server has no way to give more
        return not more or more == answer.rows  # the same rows again: the server ignores the options

    def _linked(self, answer: Answer, read: Read) -> Page:
        url, mark = next_url(answer), mark_of(answer.rows, self.query.key)
        if mark is not None and mark == read.mark:
            raise came_again()
        read = read.after(len(answer.rows), answer.count, mark)
        if self.query.top is not None and (surplus := (read.rows or 0) - self.query.top) >= 0:
            return Page(answer.rows[: len(answer.rows) - surplus], answer.count)  # a server may know no $top
        if url is None and read.rows is not None:
            self._check_all(read.rows, read.count)
        return Page(answer.rows, answer.count, None if url is None else f"{url.raw_path_qs}{read}")

    async def _counted(self, window: Window) -> Page:
        left = None if self.query.top is None else self.query.top - window.skip
        size = window.size if left is None else min(window.size, left)
        if size <= 0:
            return Page([])
        answer = await self._get(self.query.window(window.skip, size), first=window.skip == 0)
        got = len(answer.rows)
        begins_with = answer.rows[0].get(self.query.key) if got else None
        if got > size or (begins_with is not None and begins_with == self._before):
            raise ODataError("the API does not keep to $top and $skip: leave page_size out")
        self._before = begins_with
        after = window.after(got, answer.count)
        if got not in {0, left} and not _is_last(answer, size, after.skip):
            return Page(answer.rows, answer.count, str(after))
        if got == 0 and answer.next_link is not None:
            raise _short(after.skip, after.count)
        self._check_all(after.skip, after.count)
        return Page(answer.rows, answer.count)

    def _check_all(self, got: int, promised: int | None) -> None:
        """Compare the number of all rows with those that were promised. Raises ODataError."""
        top = promised if self.query.top is None else self.query.top
        if promised is not None and top is not None and got < min(promised, top):
            raise _short(got, promised)


def _is_last(answer: Answer, size: int, read: int) -> bool:
    """Whether a page by ``$top`` and ``$skip`` is known to be the last. A short one alone may be cut, or have gaps."""
    all_came = answer.count is not None and answer.count <= read and answer.next_link is None
    return answer.is_one or (all_came and len(answer.rows) < size)


def _short(got: int, promised: int | None) -> ODataError:
    return ODataError(
        f"the API gives {got} rows and no more, and says that there are {promised or 'more'}: the read is not complete."
        " Read it again from the beginning; rows that are deleted in the middle of a read have this effect too"
    )
