"""Rows, as dicts or as instances of the caller's attrs classes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final, TypeVar, overload
from uuid import UUID

import attrs
import cattrs
from aiohttp import ClientSession
from cattrs.errors import AttributeValidationNote, IterableValidationNote

from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._answer import ODataError, shown
from tribe_oauth.odata._pages import pages
from tribe_oauth.odata._query import Query, query_of
from tribe_oauth.odata._retries import GIVE_UP_AFTER

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
    type: type[Any] = dict,  # noqa: A002 (what a row becomes)
    give_up_after: float = GIVE_UP_AFTER,
) -> AsyncGenerator[Any]:
    """Read all rows of all pages, or the first `top`, as dicts or as instances of an attrs class.

    The options are those of `pages`, and so is `give_up_after`, in seconds. A row that does not fit the class raises
    ODataError; its text names the entity set, the row's key and the field, and shows no other value, since rows are
    personal data.
    """
    plain = type is dict
    if not plain and not attrs.has(type):
        raise ConfigurationError("rows become dicts or instances of an attrs class")
    query = query_of(
        path, select=select, filter=filter, expand=expand, orderby=orderby, top=top, page_size=page_size, key=key
    )
    left = query.top
    async with aclosing(pages(session, query, give_up_after=give_up_after)) as found:
        async for page in found:
            for row in page.rows[:left]:
                yield row if plain else _structure(row, type, query)
            left = None if left is None else left - len(page.rows)
            if left is not None and left <= 0:
                break  # a server may go on all the same


# Rows of a class


def _as_it_is(value: Any, kind: type[Any]) -> Any:
    """The value itself, of exactly this type: cattrs would turn None into text and True into an int."""
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise TypeError


def _from_text(value: Any, kind: Any) -> Any:
    """GUIDs, dates and times, which JSON has no type for (OData JSON Format 4.0 §7.1)."""
    if type(value) is not str:
        raise TypeError
    return UUID(value) if kind is UUID else kind.fromisoformat(value)


def _decimal(value: Any, kind: type[Decimal]) -> Decimal:
    """From a number, or from text where the service sends decimals as text (IEEE754Compatible)."""
    if type(value) not in {int, float, str}:
        raise TypeError
    try:
        return kind(str(value))
    except ArithmeticError:
        raise ValueError from None


_CONVERTER: Final = cattrs.Converter()
for _kind in (str, int, float, bool):
    _CONVERTER.register_structure_hook(_kind, _as_it_is)
for _textual in (UUID, datetime, date, time):
    _CONVERTER.register_structure_hook(_textual, _from_text)
_CONVERTER.register_structure_hook(Decimal, _decimal)


def _structure(row: dict[str, Any], kind: type[Row], query: Query) -> Row:
    try:
        return _CONVERTER.structure(row, kind)
    except cattrs.BaseValidationError as error:
        field = _field(error)
    # After the handler: cattrs' errors carry the values, and would travel in this one's context.
    key = shown(row.get(query.key)) or "key not known"
    raise ODataError(f"{query.path}({key}) does not fit {kind.__name__}: {field}")


def _field(error: BaseException) -> str:
    """The path of the first field that does not fit, as in ``field Address.City``."""
    names: list[str] = []
    while isinstance(error, cattrs.BaseValidationError):
        error = error.exceptions[0]
        names += [
            str(note.name if isinstance(note, AttributeValidationNote) else note.index)
            for note in getattr(error, "__notes__", ())
            if isinstance(note, AttributeValidationNote | IterableValidationNote)
        ]
    return f"field {'.'.join(names)}" if names else "the class's own check refused it"
