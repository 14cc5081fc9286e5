"""What is one request: an entity, a number of rows, the metadata. Each is retried as a page is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeVar, overload

from aiohttp import ClientSession
from yarl import URL

from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._answer import ODataError, get, get_text
from tribe_oauth.odata._inside import check
from tribe_oauth.odata._query import MAX_BYTES, SERVICE_ROOT, Query
from tribe_oauth.odata._retries import GIVE_UP_AFTER, patiently
from tribe_oauth.odata._rows import structured

Row = TypeVar("Row")

_AGAIN: Final = "it is asked for"
_METADATA: Final = URL(f"{SERVICE_ROOT}$metadata", encoded=True)


@overload
async def entity(
    session: ClientSession,
    path: str,
    *,
    select: Iterable[str] = ...,
    expand: Iterable[str] = ...,
    max_bytes: int = ...,
    give_up_after: float = ...,
) -> dict[str, Any] | None: ...


@overload
async def entity(
    session: ClientSession,
    path: str,
    *,
    select: Iterable[str] = ...,
    expand: Iterable[str] = ...,
    max_bytes: int = ...,
    type: type[Row],
    give_up_after: float = ...,
) -> Row | None: ...


async def entity(
    session: ClientSession,
    path: str,
    *,
    select: Iterable[str] = (),
    expand: Iterable[str] = (),
    max_bytes: int = MAX_BYTES,
    type: type[Any] = dict,  # noqa: A002 (what the entity becomes)
    give_up_after: float = GIVE_UP_AFTER,
) -> Any:
    """Read one entity with one request: at ``"Relation_Person(6f9619ff-8b86-d011-b42d-00c04fc964ff)"``, for example.

    As a dict, or as an instance of an attrs class; see `rows`. The path may lead on to what belongs to it, as in
    ``"…(…)/Organization"``: None where that is nothing. An entity that is not there is an ODataError with `status` 404,
    and so is a path that leads to a collection.
    """
    structure = structured(type)
    query = Query(path, select=select, expand=expand, exact=structure is not None, max_bytes=max_bytes)
    if "(" not in query.path:
        raise ConfigurationError("the path of an entity has its key in parentheses; a set is read as rows")

    async def read() -> list[Any]:
        answer = await get(session, query, query.url(), first=True)
        check(answer, query)
        if not answer.is_one:
            raise ODataError(f"{query.path} is a collection, and not one entity: read it as rows")
        return answer.rows

    rows = await patiently(read, _AGAIN, give_up_after=give_up_after)
    return next(iter(rows if structure is None else [structure(row, query) for row in rows]), None)


async def count(
    session: ClientSession,
    path: str,
    *,
    filter: str | None = None,  # noqa: A002 (OData's own word)
    key: str = "ID",
    give_up_after: float = GIVE_UP_AFTER,
) -> int:
    """How many rows there are, or those that a filter lets through. One row is read with the number.

    Raises ODataError, also where the API gives no number; ConfigurationError.
    """
    query = Query(path, select=[key], filter=filter, top=1, count=True)

    async def read() -> int:
        answer = await get(session, query, query.url())
        if answer.count is None:
            raise ODataError("the API gives no number of the rows")
        return answer.count

    return await patiently(read, _AGAIN, give_up_after=give_up_after)


async def metadata(session: ClientSession, *, max_bytes: int = MAX_BYTES, give_up_after: float = GIVE_UP_AFTER) -> str:
    """What sets, types and properties the organization has: its CSDL document, as XML text (OData CSDL 4.0).

    It is of the organization, with all of its own types, and may have megabytes. Raises ODataError.
    """
    query = Query("$metadata", max_bytes=max_bytes)
    return await patiently(
        lambda: get_text(session, query, _METADATA, "application/xml"), _AGAIN, give_up_after=give_up_after
    )
