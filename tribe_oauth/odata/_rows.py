"""Rows, as dicts or as instances of the caller's attrs classes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, TypeVar, overload

import attrs
from aiohttp import ClientSession

from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._pages import pages
from tribe_oauth.odata._query import MAX_BYTES, Query, query_of
from tribe_oauth.odata._retries import GIVE_UP_AFTER
from tribe_oauth.odata._typed import structurer

Row = TypeVar("Row")


@overload
def rows(
    session: ClientSession,
    path: str | Query,
    *,
    select: Iterable[str] = ...,
    filter: str | None = ...,
    expand: Iterable[str] = ...,
    orderby: Iterable[str] = ...,
    top: int | None = ...,
    page_size: int | None = ...,
    key: str = ...,
    max_bytes: int = ...,
    give_up_after: float = ...,
) -> AsyncGenerator[dict[str, Any]]: ...


@overload
def rows(
    session: ClientSession,
    path: str | Query,
    *,
    select: Iterable[str] = ...,
    filter: str | None = ...,
    expand: Iterable[str] = ...,
    orderby: Iterable[str] = ...,
    top: int | None = ...,
    page_size: int | None = ...,
    key: str = ...,
    max_bytes: int = ...,
    type: type[Row],
    give_up_after: float = ...,
) -> AsyncGenerator[Row]: ...


async def rows(
    session: ClientSession,
    path: str | Query,
    *,
    select: Iterable[str] = (),
    filter: str | None = None,  # noqa: A002 (OData's own word)
    expand: Iterable[str] = (),
    orderby: Iterable[str] = (),
    top: int | None = None,
    page_size: int | None = None,
    key: str = "ID",
    max_bytes: int = MAX_BYTES,
    type: type[Any] = dict,  # noqa: A002 (what a row becomes)
    give_up_after: float = GIVE_UP_AFTER,
) -> AsyncGenerator[Any]:
    """Read all rows of all pages, or the first `top`, as dicts or as instances of an attrs class.

    The options are those of `pages`, and so is `give_up_after`, in seconds. The values of a class are exact: a Decimal
    has the digits that the API wrote, and an int may come in quotes. A row that does not fit the class raises
    ODataError, and so does a number that no float can hold, in a dict; its text names the entity set, the row's key and
    the field, and shows no other value, since rows are personal data. A class that no row can become raises
    ConfigurationError.
    """
    structure = structured(type)
    query = query_of(
        path,
        select=select,
        filter=filter,
        expand=expand,
        orderby=orderby,
        top=top,
        page_size=page_size,
        key=key,
        max_bytes=max_bytes,
    )
    query = attrs.evolve(query, exact=query.exact or structure is not None)
    async with aclosing(pages(session, query, give_up_after=give_up_after)) as found:
        async for page in found:
            for row in page.rows:
                yield row if structure is None else structure(row, query)


def structured(kind: type[Any]) -> Callable[[dict[str, Any], Query], Any] | None:
    """How a row becomes an instance of a class; None for a dict. Raises ConfigurationError."""
    if kind is dict:
        return None
    if not attrs.has(kind):
        raise ConfigurationError("rows become dicts or instances of an attrs class")
    return structurer(kind)
