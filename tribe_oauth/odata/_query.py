"""What to read: a path, the query options and literals, as written in a URL (OData URL Conventions 4.0).

May be imported by the rooms of `odata` and by `sync`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import attrs
from yarl import URL

from tribe_oauth.errors import ConfigurationError

SERVICE_ROOT: Final = "/v1/odata/"
MAX_BYTES: Final = 16 * 2**20
_SIZE: Final = 100
"""Rows to a page where nothing else is asked for: the most that Tribe gives."""
_GUID: Final = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,12})?)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_SAFE: Final = "$'()*,/:=@!"  # RFC 3986 §3.4 allows these, and none of them separates options
_BYTES: Final = f"a number of bytes, at least 1; by default {MAX_BYTES}"
_NAMES: Final = ("select", "expand", "orderby")
_TYPES: Final[Mapping[str, tuple[Any, str]]] = {
    "path": (str, "text, as in 'Relation_Person'"),
    "filter": (str | None, "text in OData's own words, with values written by literal(), as in \"Name eq 'Bos'\""),
    "top": (int | None, "a number of rows"),
    "page_size": (int | None, "a number of rows"),
    "key": (str, "the name of a property, as in 'ID'"),
    "max_bytes": (int, _BYTES),
}


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else (names,)


def _path(path: str) -> str:
    return path.removeprefix(SERVICE_ROOT) if isinstance(path, str) else path


@attrs.frozen
class Query:
    """A path below ``/v1/odata/``, with or without that prefix, and OData's query options, unencoded.

    The path may lead to what belongs to an entity:
    ``"Relation_Person(6f9619ff-8b86-d011-b42d-00c04fc964ff)/Phones"``. `page_size`: rows in a page. `key`: the property
    that tells rows apart, and whose order is the pages' where there is no other, or among equal rows. `exact`: numbers
    with a fraction are `Number`s, which keep all digits. `max_bytes`: of one answer, decompressed; a longer one is an
    error. Raises ConfigurationError.
    """

    path: str = attrs.field(converter=_path)
    select: tuple[str, ...] = attrs.field(default=(), converter=_names, kw_only=True)
    filter: str | None = attrs.field(default=None, kw_only=True)
    expand: tuple[str, ...] = attrs.field(default=(), converter=_names, kw_only=True)
    orderby: tuple[str, ...] = attrs.field(default=(), converter=_names, kw_only=True)
    count: bool = attrs.field(default=False, kw_only=True)
    top: int | None = attrs.field(default=None, kw_only=True)
    page_size: int | None = attrs.field(default=None, kw_only=True)
    key: str = attrs.field(default="ID", kw_only=True)
    exact: bool = attrs.field(default=False, kw_only=True)
    max_bytes: int = attrs.field(default=MAX_BYTES, kw_only=True)

    def __attrs_post_init__(self) -> None:
        self._check_types()
        if not self.path or self.path.startswith("/") or any(mark in self.path for mark in ("?", "#", "..", "\\")):
            raise ConfigurationError(
                f"the path names what to read, as in 'Relation_Person' or '{SERVICE_ROOT}Relation_Person';"
                " options go into their own arguments"
            )
        if (self.top is not None and self.top < 0) or (self.page_size is not None and self.page_size < 1):
            raise ConfigurationError("top is a number of rows, not negative; page_size is at least 1")
        if self.max_bytes < 1:
            raise ConfigurationError(f"max_bytes is {_BYTES}")

    def _check_types(self) -> None:
        for name, (kind, said) in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ConfigurationError(f"{name} is {said}, and not of type {type(value).__name__}")
            if isinstance(value, str):
                _check_unicode(name, value)
        for name in _NAMES:
            if not all(isinstance(named, str) for named in getattr(self, name)):
                raise ConfigurationError(f"{name} is a list of names, as in {name}=['ID', 'Name']")
            _check_unicode(name, "".join(getattr(self, name)))

    def __str__(self) -> str:
        """The whole query as text: a position is kept with it, and is valid for the same text only."""
        return f"{self.url().raw_path_qs} key={self.key} page_size={self.page_size}"

    @property
    def is_by_key(self) -> bool:
        """Whether the rows come in the order of their keys, as they do where no other is asked for."""
        return not self.orderby or [part.split() for part in self.orderby] == [[self.key]]

    def size(self, rows: int | None = 0) -> int:
        """How many rows to ask for where so many have come."""
        size = _SIZE if self.page_size is None else self.page_size
        return size if self.top is None or rows is None else max(0, min(size, self.top - rows))

    def url(self) -> URL:
        """The rows in the server's own order and pages, or one entity."""
        return self._url(self.orderby, top=self.top, count=self.count and not self.path.endswith(")"))

    def first(self) -> URL:
        """The first rows in the order of their keys."""
        return self._url((self.key,), top=self.size(), count=self.count)

    def behind(self, last: str | int, before: str | int | None, size: int) -> URL:
        """The rows whose key is behind `last` and in front of `before`."""
        own = "" if self.filter is None else f"({self.filter}) and "
        # By parts, of which all but the keys are the same for each page.
        filters = _quoted(f"{own}{self.key} gt ") + quote(key_literal(last), safe=_SAFE)
        if before is not None:
            filters += _quoted(f" and {self.key} lt ") + quote(key_literal(before), safe=_SAFE)
        return self._url((self.key,), top=size, count=self.count, filters=filters)

    def window(self, skip: int, size: int) -> URL:
        """Rows `skip` to `skip + size`, in an order that is the same for every request: ties are broken by the key."""
        by_key = any(part.split()[0] == self.key for part in self.orderby if part.strip())
        orderby = self.orderby if by_key else (*self.orderby, self.key)
        return self._url(orderby, top=size, count=self.count, skip=skip or None)

    def beyond(self, skip: int) -> URL:
        """The row after the first `skip` rows, in the server's own order: to see whether there is one."""
        return self._url(self.orderby, top=1, count=self.count, skip=skip)

    def _url(
        self,
        orderby: tuple[str, ...],
        *,
        top: int | None,
        count: bool,
        skip: int | None = None,
        filters: str | None = None,
    ) -> URL:
        """Encoded by hand: aiohttp's `params` writes a space as ``+``, which the API reads as a plus.

        `filters`: encoded already, in place of the query's own.
        """
        options = {
            "$select": _quoted(",".join(self.select)) or None,
            "$filter": (None if self.filter is None else _quoted(self.filter)) if filters is None else filters,
            "$expand": _quoted(",".join(self.expand)) or None,
            "$orderby": _quoted(",".join(orderby)) or None,
            "$count": "true" if count else None,
            "$top": None if top is None else str(top),
            "$skip": None if skip is None else str(skip),
        }
        query = "&".join([f"{name}={value}" for name, value in options.items() if value is not None])
        return URL(f"{SERVICE_ROOT}{_quoted(self.path)}{'?' if query else ''}{query}", encoded=True)


def query_of(path: str | Query, **options: Any) -> Query:
    """The query that the arguments of `pages` and `rows` describe. Raises ConfigurationError."""
    if not isinstance(path, Query):
        return Query(path, **options)
    if Query(path.path, **options) != Query(path.path):
        raise ConfigurationError(
            "a Query has its options in it: leave them out here, or give a path instead of a Query"
        )
    return path


@lru_cache(maxsize=256)
def _quoted(text: str) -> str:
    """Encoded for a URL. For what is the same in every request of a read."""
    return quote(text, safe=_SAFE)


def key_literal(key: str | int) -> str:
    """The literal of a row's own key: a GUID comes as text."""
    return key if isinstance(key, str) and _GUID.fullmatch(key) else literal(key)


def literal(value: object, *, time: bool = False) -> str:
    """Write a value as a literal of a filter (OData URL Conventions 4.0 §5.1.1.6): text in quotes, GUIDs without.

    A datetime needs a time zone, and has microseconds. `time`: the value is text, a time as the API wrote it, with all
    of its digits. Raises ConfigurationError for a value that OData has no literal for.
    """
    if time:
        if isinstance(value, str) and _TIME.fullmatch(value):
            return value
        raise ConfigurationError("a time is text as the API writes it, as in '2022-09-27T08:34:26.1234567Z'")
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            _check_unicode("a text", value)
            return "'" + value.replace("'", "''") + "'"
        case UUID():
            return str(value)
    text = _number(value) or _moment(value)
    if text is None:
        raise ConfigurationError(
            f"a filter has no literal for this {type(value).__name__}: give text, a finite number, a bool, a UUID, a"
            " date, a datetime with a time zone, or None"
        )
    return text


def _check_unicode(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{name} has half of a surrogate pair, which is no character: no URL can hold it"
        ) from None


def _number(value: object) -> str | None:
    match value:
        case int():
            return str(value)
        case Decimal() if value.is_finite():
            return format(value, "f")
        case float() if math.isfinite(value):
            return repr(value)
    return None


def in_utc(moment: datetime) -> str:
    """A moment as the API writes it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(value: object) -> str | None:
    match value:
        case datetime() if value.tzinfo is not None:
            return in_utc(value)
        case date() if not isinstance(value, datetime):
            return value.isoformat()
    return None
