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
from tribe_oauth.odata._query import SERVICE_ROOT

Row = TypeVar("Row")


@overload
def rows(
    session: ClientSession,
    path: str,
    *,
    select: Iterable[str] = ...,
    filter: str | None = ...,
    expand: Iterable[str] = ...,
    orderby: Iterable[str] = ...,
    page_size: int | None = ...,
) -> AsyncGenerator[dict[str, Any]]: ...


@overload
def rows(
    session: ClientSession,
    path: str,
    *,
    select: Iterable[str] = ...,
    filter: str | None = ...,
    expand: Iterable[str] = ...,
    orderby: Iterable[str] = ...,
    page_size: int | None = ...,
    type: type[Row],
) -> AsyncGenerator[Row]: ...


async def rows(
    session: ClientSession,
    path: str,
    *,
    select: Iterable[str] = (),
    filter: str | None = None,  # noqa: A002 (OData's own word)
    expand: Iterable[str] = (),
    orderby: Iterable[str] = (),
    page_size: int | None = None,
    type: type[Any] = dict,  # noqa: A002 (what a row becomes)
) -> AsyncGenerator[Any]:
    """Read all rows of all pages, as dicts or as instances of an attrs class.

    The options are those of `pages`. A row that does not fit the class raises ODataError; its text names the entity
    set, the row's key and the field, and shows no other value, since rows are personal data.
    """
    plain = type is dict
    if not plain and not attrs.has(type):
        raise ConfigurationError("rows become dicts or instances of an attrs class")
    found = pages(session, path, select=select, filter=filter, expand=expand, orderby=orderby, page_size=page_size)
    async with aclosing(found):
        async for page in found:
            for row in page.rows:
                yield row if plain else _structure(row, type, path)


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


def _structure(row: dict[str, Any], kind: type[Row], path: str) -> Row:
    try:
        return _CONVERTER.structure(row, kind)
    except cattrs.BaseValidationError as error:
        field = _field(error)
    # After the handler: cattrs' errors carry the values, and would travel in this one's context.
    key = shown(row.get("ID")) or "key not known"
    raise ODataError(f"{path.removeprefix(SERVICE_ROOT)}({key}) does not fit {kind.__name__}: {field}")


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
