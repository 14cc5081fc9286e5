"""Page after page, each requested while the one before is used: by `@odata.nextLink`, else by ``$top`` and ``$skip``.

May be imported by `_rows` and by `sync`, which reads the same pages and retries them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import lru_cache
from typing import Any, Final

import attrs
from aiohttp import ClientSession
from yarl import URL

from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.errors import ConfigurationError, TribeOAuthError
from tribe_oauth.odata._answer import Answer, ODataError, get
from tribe_oauth.odata._query import SERVICE_ROOT, Query, query_of
from tribe_oauth.odata._retries import GIVE_UP_AFTER, check_give_up_after, persistently
from tribe_oauth.odata._sets import with_the_sets

logger = logging.getLogger("tribe_oauth.odata")

_REMEMBERED: Final = 64  # pages: a loop of up to 64 pages is found at once, a longer one a round or two later
_VISIBLE: Final = re.compile(r"[!-\[\]-~]+")  # RFC 3986 §2; without the backslash, which some take for a slash
_ODD: Final = re.compile("[\x00-\x1f\x7f]|%(2[ef5]|5c)", re.IGNORECASE)
_WINDOW: Final = re.compile(r"skip=(\d{1,15}),size=(\d{1,9}),full=([01])")


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
    give_up_after: float = GIVE_UP_AFTER,
) -> AsyncGenerator[Page]:
    """Read page after page. While one page is used, the next one is read, and no more than that.

    `path` and the options are those of `Query`, or it is a `Query`; write values into `filter` with `literal`. `start`:
    the `next` of an earlier page of the same query. `@odata.nextLink` is followed without changes. Where the server
    gives none and still has rows, they are read with ``$top`` and ``$skip`` in a stable order; with `page_size` that is
    done from the beginning. An answer that is cut off is read a second time.

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
    trail = Trail()
    trail.add(start or query.url().raw_path_qs)
    page = await read(start)
    while page.next is not None:
        trail.add(page.next)
        reading = asyncio.ensure_future(read(page.next))
        try:
            yield page
            del page  # it would stay in memory while the next one is read
            # Awaited directly, the read would be cancelled again at each of its awaits by an anyio scope.
            page = await asyncio.shield(reading)
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
            raise ODataError("@odata.nextLink leads to a page that was read already")
        self._recent.append(place)
        self._steps += 1
        if self._steps == self._until_mark:
            self._mark, self._until_mark = place, 2 * self._until_mark


@attrs.frozen
class _Window:
    """The position of a read by ``$top`` and ``$skip``. `full`: a page had `size` rows, so that a shorter one ends."""

    skip: int
    size: int
    full: bool = False

    def __str__(self) -> str:
        return f"skip={self.skip},size={self.size},full={self.full:d}"


@attrs.define
class Reader:
    """Reads the pages of one query, one at a time."""

    session: ClientSession
    query: Query
    _before: object = None

    async def page(self, position: str | None) -> Page:
        """The page at a position; None: the first. Raises ODataError; ConfigurationError for an invalid position."""
        if position is None:
            return await with_the_sets(self._first(), self.session, self.query.path)
        if (window := _WINDOW.fullmatch(position)) is not None:
            skip, size, full = map(int, window.groups())
            return await self._counted(_Window(skip, size, bool(full)))
        try:
            url = _verbatim(position)
        except ValueError:
            url = URL("")
        if url.absolute or not _below_root(url.path):
            raise ConfigurationError("`start` is no position of a read: give the `next` of a page")
        return self._linked(await get(self.session, url))

    async def _first(self) -> Page:
        if self.query.page_size is not None:
            return await self._counted(_Window(0, self.query.page_size))
        answer = await get(self.session, self.query.url())
        size = len(answer.rows)
        page = self._linked(answer)
        if page.next is not None or await self._is_all(answer):
            return page
        # The server left rows out and said nothing. Its own order may differ from request to request: begin again, in
        # an order that is the same for all.
        return await self._counted(_Window(0, size))

    async def _is_all(self, answer: Answer) -> bool:
        """Whether an answer without a nextLink has all rows, as OData promises. Some services leave rows out."""
        size = len(answer.rows)
        more_are_said = answer.count is not None and answer.count > size
        if size == self.query.top or (size == 0 and not more_are_said) or answer.count == size:
            return True
        more: list[dict[str, Any]] = []
        try:
            more = (await get(self.session, self.query.beyond(size))).rows
        except ODataError as error:
            if error.status not in {400, 404, 405, 501}:
                raise
            # A server without $skip has no way to give more, so that these are all; unless its count is higher.
        # The same rows again: the server ignores the options.
        is_all = not more or more == answer.rows
        if is_all and more_are_said:
            raise _short(answer.count, size)
        return is_all

    def _linked(self, answer: Answer) -> Page:
        url = _next(answer)
        return Page(answer.rows, answer.count, None if url is None else url.raw_path_qs)

    async def _counted(self, window: _Window) -> Page:
        left = None if self.query.top is None else self.query.top - window.skip
        size = window.size if left is None else min(window.size, left)
        if size <= 0:
            return Page([])
        answer = await get(self.session, self.query.window(window.skip, size))
        got = len(answer.rows)
        begins_with = answer.rows[0].get(self.query.key) if got else None
        if got > size or (begins_with is not None and begins_with == self._before):
            raise ODataError("the API does not keep to $top and $skip: leave page_size out")
        self._before = begins_with
        skip, full = window.skip + got, window.full or got == window.size
        more_are_said = (answer.count or 0) > skip or answer.next_link is not None
        if got == 0 and left is None and more_are_said:
            raise _short(answer.count, skip)
        ended = got == 0 or (got < size and full and not more_are_said) or got == left
        return Page(answer.rows, answer.count, None if ended else str(_Window(skip, window.size, full)))


def _short(count: int | None, got: int) -> ODataError:
    return ODataError(
        f"the API gives {got} rows and no more, and says that there are {count or 'more'}: the read is not complete"
    )


# The next page


def _next(answer: Answer) -> URL | None:
    """The next page's URL, checked: it has to be the API's own, since the session's token goes with the request."""
    link, context, asked = answer.next_link, answer.context, answer.asked
    if link is None:
        return None
    try:
        base = _base(asked.with_query(None), context) if isinstance(context, str) else asked
        url = base.join(_verbatim(link)).with_fragment(None)
        if _origin(url) == _origin(asked) and "@" not in url.raw_authority and _below_root(url.path):
            if url == asked:
                raise ODataError("@odata.nextLink leads to a page that was read already")
            return url
    except ValueError:
        pass
    raise ODataError(f"@odata.nextLink leads out of the API's {SERVICE_ROOT}: it is not followed")


def _verbatim(link: object) -> URL:
    """The link without re-encoding: a server may compare it with the one that it sent."""
    if not isinstance(link, str) or not _VISIBLE.fullmatch(link):
        raise ValueError
    return URL(link, encoded=True)


@lru_cache(maxsize=64)  # the same for every page of a read
def _base(asked: URL, context: str) -> URL:
    """The service root, which a context URL begins with (OData Protocol 4.0 §10)."""
    return asked.join(_verbatim(context.partition("$metadata")[0] or "."))


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host and url.host.lower(), url.port


def _below_root(path: str) -> bool:
    """Whether a decoded path stays below the service root, in every way that servers read paths.

    Some cut a segment at its ``;``, some take a backslash for a slash, and some decode twice.
    """
    segments = {segment.partition(";")[0] for segment in re.split(r"[/\\]", path)}
    return path.startswith(SERVICE_ROOT) and not {".", ".."} & segments and not _ODD.search(path)
