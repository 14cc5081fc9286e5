"""Pages and rows of Tribe's OData API (OData 4.0). Knows sessions, not tokens: any `ClientSession` will do.

The session has to have the API's origin as its base URL, as those of a `TokenManager` have. What the server says comes
next (`@odata.nextLink`) is followed as it stands; where it says nothing, the page is the last one.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar, overload
from urllib.parse import quote
from uuid import UUID

import attrs
import cattrs
from aiohttp import ClientError, ClientSession, InvalidURL
from cattrs.errors import AttributeValidationNote, IterableValidationNote
from yarl import URL

from tribe_oauth.errors import ConfigurationError, TribeOAuthError

SERVICE_ROOT: Final = "/v1/odata/"
_SHOWN: Final = 300  # characters of the server's own words in an error

Row = TypeVar("Row")


class ODataError(TribeOAuthError):
    """The API refused, or what it sent is not what OData promises.

    `status` is the HTTP status, where there was an answer. `code`, `message` and `target` are the server's own words
    (OData JSON Format 4.0 §19), shortened and made printable, or None: the server may leave each of them out.
    """

    def __init__(
        self,
        text: str,
        *,
        status: int | None = None,
        code: str | None = None,
        message: str | None = None,
        target: str | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.message = message
        self.target = target


@attrs.frozen
class Page:
    """The rows of one answer. `count` is the number of all rows, where it was asked for and the server said it."""

    rows: list[dict[str, Any]]
    count: int | None = None


async def pages(
    session: ClientSession,
    path: str,
    *,
    select: Iterable[str] = (),
    filter: str | None = None,  # noqa: A002 (OData's own word)
    expand: Iterable[str] = (),
    orderby: Iterable[str] = (),
    count: bool = False,
    top: int | None = None,
) -> AsyncGenerator[Page]:
    """Read page after page, in the server's order, each asked for when the one before was taken.

    `path` is under ``/v1/odata``, with or without it: ``"Relation_Person"``. The options are OData's, unencoded; write
    values into `filter` with `literal`. Raises ODataError also for an answer that breaks off: the end is only where the
    server says so. Errors of the session's own middlewares come as they are.
    """
    options = {
        "$select": _joined(select),
        "$filter": filter,
        "$expand": _joined(expand),
        "$orderby": _joined(orderby),
        "$count": "true" if count else None,
        "$top": None if top is None else str(top),
    }
    url: URL | None = _request_url(path, options)
    seen: set[str] = set()
    while url is not None:
        body, asked = await _get(session, url)
        seen.add(str(asked))
        url = _next(body, asked)
        if url is not None and str(url) in seen:
            raise ODataError("@odata.nextLink leads to a page that was read already")
        yield Page(body["value"], _count(body))


@overload
def rows(
    session: ClientSession,
    path: str,
    *,
    select: Iterable[str] = ...,
    filter: str | None = ...,
    expand: Iterable[str] = ...,
    orderby: Iterable[str] = ...,
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
    type: type[Any] = dict,  # noqa: A002 (what a row becomes)
) -> AsyncGenerator[Any]:
    """Read all rows of all pages, as dicts or as instances of an attrs class.

    A row that does not fit the class raises ODataError, which names the entity set, the row's key and the field, and
    shows no value: these are people's data. Otherwise as `pages`.
    """
    plain = type is dict
    if not plain and not attrs.has(type):
        raise ConfigurationError("rows become dicts or instances of an attrs class")
    found = pages(session, path, select=select, filter=filter, expand=expand, orderby=orderby)
    async with aclosing(found):
        async for page in found:
            for row in page.rows:
                yield row if plain else _structure(row, type, path)


def literal(value: object) -> str:
    """Write a value as it stands in a filter (OData URL Conventions 4.0 §5.1.1.6): text quoted, GUIDs bare.

    A datetime needs its time zone. Raises ConfigurationError for what OData has no literal for.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case int() | UUID():
            return str(value)
        case Decimal() if value.is_finite():
            return format(value, "f")
        case float() if math.isfinite(value):
            return repr(value)
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date() if not isinstance(value, datetime):
            return value.isoformat()
    raise ConfigurationError(
        f"a filter has no literal for this {type(value).__name__}: give text, a finite number, a bool, a UUID, a date,"
        " a datetime with a time zone, or None"
    )


# The request


def _joined(names: Iterable[str]) -> str | None:
    return (names if isinstance(names, str) else ",".join(names)) or None


def _request_url(path: str, options: Mapping[str, str | None]) -> URL:
    """Encoded by hand: aiohttp's `params` writes a space as ``+``, which the API reads as a plus."""
    relative = path.removeprefix(SERVICE_ROOT)
    if not relative or relative.startswith("/") or any(mark in path for mark in ("?", "#", "..", "\\")):
        raise ConfigurationError(
            f"the path names what to read, as in 'Relation_Person' or '{SERVICE_ROOT}Relation_Person';"
            " options go into their own arguments"
        )
    query = "&".join(f"{name}={quote(value, safe=_SAFE)}" for name, value in options.items() if value is not None)
    return URL(f"{SERVICE_ROOT}{quote(relative, safe=_SAFE)}{'?' if query else ''}{query}", encoded=True)


_SAFE: Final = "$'()*,/:=@!"  # RFC 3986 §3.4 allows these, and none of them separates options


async def _get(session: ClientSession, url: URL) -> tuple[dict[str, Any], URL]:
    """One page's body, and the absolute URL that it came from."""
    status, asked, content = await _fetch(session, url)
    body = _parsed(content)
    if status != 200:
        raise _refusal(status, body)
    if not isinstance(body, dict) or "error" in body or not _are_rows(body.get("value")):
        raise ODataError("the API's answer is not a whole OData collection", status=status)
    return body, asked


async def _fetch(session: ClientSession, url: URL) -> tuple[int, URL, bytes]:
    try:
        # A redirect could lead elsewhere; rows come from the API or not at all.
        async with session.get(
            url, headers={"Accept": "application/json"}, allow_redirects=False, raise_for_status=False
        ) as response:
            return response.status, response.url, await response.read()
    except InvalidURL:
        problem = "this session has no base URL: give it the API's origin, as in https://api.tribecrm.nl"
    except (ClientError, TimeoutError) as error:
        problem = f"no whole answer came from the API ({type(error).__name__})"
    # After the handler: aiohttp's errors carry the request's headers, and would travel in this one's context.
    raise ODataError(problem)


def _parsed(content: bytes) -> Any:
    """The JSON value, or None: a proxy's HTML is nothing that OData says."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _are_rows(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _count(body: Mapping[str, Any]) -> int | None:
    count = body.get("@odata.count")
    return count if type(count) is int else None


def _refusal(status: int, body: Any) -> ODataError:
    error = body.get("error") if isinstance(body, dict) else None
    words = error if isinstance(error, dict) else {}
    code, message, target = (_printable(words.get(name)) for name in ("code", "message", "target"))
    told = ": ".join(word for word in (code, message) if word)
    text = f"the API answered {status}" + (f": {told}" if told else "")
    return ODataError(text, status=status, code=code, message=message, target=target)


def _printable(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in value[:_SHOWN])


# The next page


def _next(body: Mapping[str, Any], asked: URL) -> URL | None:
    """Where the next page is, after a look at where that is: the session's token goes with the request."""
    link, context = body.get("@odata.nextLink"), body.get("@odata.context")
    if link is None:
        return None
    try:
        base = asked.join(_root(context)) if isinstance(context, str) else asked
        url = base.join(_verbatim(link)).with_fragment(None)
        if _origin(url) == _origin(asked) and "@" not in url.raw_authority and _below_root(url.path):
            return url
    except ValueError:
        pass
    raise ODataError(f"@odata.nextLink leads out of the API's {SERVICE_ROOT}: it is not followed")


def _verbatim(link: object) -> URL:
    """The link without any re-encoding: a server may compare it with what it gave."""
    if not isinstance(link, str) or not link or any(not "!" <= mark <= "~" or mark == "\\" for mark in link):
        raise ValueError
    return URL(link, encoded=True)


def _root(context: str) -> URL:
    """The service root that a context URL begins with (OData Protocol 4.0 §10)."""
    return _verbatim(context.partition("$metadata")[0] or ".")


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host and url.host.lower(), url.port


def _below_root(path: str) -> bool:
    return path.startswith(SERVICE_ROOT) and not {".", ".."} & set(path.split("/"))


# Rows of a class


def _as_it_is(value: Any, kind: type[Any]) -> Any:
    """Without this, cattrs would make text of None and an int of True."""
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise TypeError


_CONVERTER: Final = cattrs.Converter()
for _kind in (str, int, float, bool):
    _CONVERTER.register_structure_hook(_kind, _as_it_is)


def _structure(row: dict[str, Any], kind: type[Row], path: str) -> Row:
    try:
        return _CONVERTER.structure(row, kind)
    except cattrs.BaseValidationError as error:
        field = _field(error)
    # After the handler: cattrs' errors carry the values, and would travel in this one's context.
    key = _printable(row.get("ID")) or "key not known"
    raise ODataError(f"{path.removeprefix(SERVICE_ROOT)}({key}) does not fit {kind.__name__}: {field}")


def _field(error: BaseException) -> str:
    """The path to the first field that did not fit, as in ``Address.City``."""
    names: list[str] = []
    while isinstance(error, cattrs.BaseValidationError):
        error = error.exceptions[0]
        names += [
            str(note.name if isinstance(note, AttributeValidationNote) else note.index)
            for note in getattr(error, "__notes__", ())
            if isinstance(note, AttributeValidationNote | IterableValidationNote)
        ]
    return f"field {'.'.join(names)}" if names else "the class's own check refused it"
