"""The API under /v1/odata: an OData 4.0 service over generated rows, for requests with an access token."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import quote, unquote

from aiohttp import web
from attrs import define, frozen

from tribe_oauth.sandbox import _faults
from tribe_oauth.sandbox._authority import Authority
from tribe_oauth.sandbox._data import ENTITY_SETS, Data, EntitySet, Row
from tribe_oauth.sandbox._faults import Faults
from tribe_oauth.sandbox._filter import FilterError, compile_filter
from tribe_oauth.sandbox._issued import Access

_PATH: Final = re.compile(r"(?P<set>\w+)(?:\((?P<guid>[0-9a-fA-F-]{36})\))?(?:/(?P<navigation>\w+))?")
_OPTIONS: Final = {"$top", "$skip", "$filter", "$select", "$orderby", "$expand", "$count", "$skiptoken"}
_EXPAND: Final = re.compile(r"(\w+)(?:\(\$select=([\w,]+)\))?")


class ProblemError(Exception):
    """An error answer (OData JSON Format 4.0 §19). Its `code` is null, as in the services of this kind."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@frozen
class Query:
    """The system query options of one request."""

    top: int | None
    skip: int
    keep: Callable[[Row], Any] | None
    select: tuple[str, ...]
    orderby: tuple[tuple[str, bool], ...]
    expand: tuple[tuple[str, tuple[str, ...]], ...]
    count: bool


@define(eq=False)
class OData:
    """The API over one authority's access tokens."""

    authority: Authority
    faults: Faults
    data: Callable[[str], Data]
    page_size: int
    base: Callable[[], str]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request to the service root or below it."""
        access = self._access(request)
        fault = self.faults.take("api", None if access is None else access.organization)
        if fault is None:
            return await self._answer(request)
        response, _delivered = await _faults.serve(fault, request, lambda: self._answer(request))
        return response

    def _access(self, request: web.Request) -> Access | None:
        """What the request's token gives access to, now."""
        return self.authority.access(self._bearer(request))

    @staticmethod
    def _bearer(request: web.Request) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else ""

    async def _answer(self, request: web.Request) -> web.Response:
        access = self._access(request)
        if access is None:
            challenge = 'Bearer error="invalid_token"' if self._bearer(request) else "Bearer"
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        try:
            answer = self._read(request, access)
        except ProblemError as problem:
            error = {"error": {"code": None, "message": problem.message}}
            return self._json(error, status=problem.status)
        return self._json(answer)

    def _json(self, answer: dict[str, Any], status: int = 200) -> web.Response:
        return web.Response(
            body=json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode(),
            status=status,
            headers={"Content-Type": "application/json;odata.metadata=minimal", "OData-Version": "4.0"},
        )

    def _read(self, request: web.Request, access: Access) -> dict[str, Any]:
        if "read" not in access.scope:
            raise ProblemError(403, "The scope read is needed")
        if request.method != "GET":
            raise ProblemError(405, "This sandbox is read-only")
        data = self.data(access.organization)
        path = unquote(request.rel_url.raw_path).removeprefix("/v1/odata").strip("/")
        options = _options(request.rel_url.raw_query_string)
        context = f"{self.base()}/v1/odata/$metadata"
        if not path:
            sets = [{"name": name, "kind": "EntitySet", "url": name} for name in ENTITY_SETS]
            return {"@odata.context": context, "value": sets}
        if path == "GetCurrentEmployee()":
            return {"@odata.context": f"{context}#Relation_Person/$entity", **data.employee()}
        match = _PATH.fullmatch(path)
        if match is None or match["set"] not in ENTITY_SETS:
            raise ProblemError(404, "There is nothing at this path")
        entity_set = ENTITY_SETS[match["set"]]
        if match["guid"]:
            return self._entity(data, entity_set, match["guid"], match["navigation"], options, context)
        if match["navigation"]:
            raise ProblemError(404, "A navigation property belongs to one entity")
        return self._collection(data, entity_set, options, context)

    def _entity(
        self,
        data: Data,
        entity_set: EntitySet,
        guid: str,
        navigation: str | None,
        options: dict[str, str],
        context: str,
    ) -> dict[str, Any]:
        row = data.find(entity_set.name, guid)
        if row is None:
            raise ProblemError(404, "There is no such entity")
        if navigation is not None:
            if navigation not in entity_set.navigation:
                raise ProblemError(404, f"{entity_set.name} has no navigation property {navigation}")
            row = data.navigate(entity_set.name, row, navigation)
            entity_set = ENTITY_SETS[entity_set.navigation[navigation]]
        query = _query(options, entity_set)
        return {"@odata.context": f"{context}#{entity_set.name}/$entity", **_shape(data, entity_set, row, query)}

    def _collection(self, data: Data, entity_set: EntitySet, options: dict[str, str], context: str) -> dict[str, Any]:
        query = _query(options, entity_set)
        rows, total = self._select(data, entity_set, query)
        start, left = _token(options) if "$skiptoken" in options else (query.skip, query.top)
        stop = min(total, start + self.page_size if left is None else start + min(left, self.page_size))
        page = [_shape(data, entity_set, row, query) for row in rows(start, stop)]
        answer: dict[str, Any] = {"@odata.context": f"{context}#{entity_set.name}"}
        if query.count:
            answer["@odata.count"] = total
        answer["value"] = page
        left = None if left is None else left - len(page)
        if stop < total and left != 0:
            answer["@odata.nextLink"] = f"{self.base()}/v1/odata/{entity_set.name}?{_continued(options, stop, left)}"
        return answer

    def _select(
        self, data: Data, entity_set: EntitySet, query: Query
    ) -> tuple[Callable[[int, int], Iterable[Row]], int]:
        """Rows by position, and how many there are. Without filter and order they are made one page at a time."""
        if query.keep is None and not query.orderby:
            return lambda start, stop: data.rows(entity_set.name, start, stop), data.count(entity_set.name)
        rows = data.all(entity_set.name)
        if query.keep is not None:
            rows = list(filter(query.keep, rows))
        for name, descending in reversed(query.orderby):
            rows = sorted(rows, key=lambda row: (row[name] is not None, row[name]), reverse=descending)
        return lambda start, stop: rows[start:stop], len(rows)


def _options(raw: str) -> dict[str, str]:
    """The query, only percent-decoded: a plus sign is not a space in services of this kind."""
    options: dict[str, str] = {}
    for pair in filter(None, raw.split("&")):
        name, _, value = pair.partition("=")
        name = unquote(name)
        if name.startswith("$") and name not in _OPTIONS:
            raise ProblemError(400, f"The query option {name} is not supported")
        if name in options:
            raise ProblemError(400, f"The query option {name} is given twice")
        options[name] = unquote(value)
    return options


def _query(options: dict[str, str], entity_set: EntitySet) -> Query:
    select = tuple(name.strip() for name in options["$select"].split(",")) if "$select" in options else ()
    unknown = set(select) - set(entity_set.properties)
    if unknown:
        raise ProblemError(400, f"{entity_set.name} has no property {min(unknown)}")
    keep = None
    if "$filter" in options:
        try:
            keep = compile_filter(options["$filter"], entity_set.properties)
        except (FilterError, RecursionError) as error:
            raise ProblemError(400, f"The filter cannot be read: {error}") from None
    return Query(
        top=_whole(options, "$top"),
        skip=_whole(options, "$skip") or 0,
        keep=keep,
        select=select,
        orderby=tuple(_order(part, entity_set) for part in options.get("$orderby", "").split(",") if part.strip()),
        expand=tuple(_expanded(options.get("$expand", ""), entity_set)),
        count=options.get("$count") == "true",
    )


def _whole(options: dict[str, str], name: str) -> int | None:
    value = options.get(name)
    if value is None:
        return None
    if not value.isdecimal():
        raise ProblemError(400, f"{name} is a whole number, not negative")
    return int(value)


def _order(part: str, entity_set: EntitySet) -> tuple[str, bool]:
    name, _, direction = part.strip().partition(" ")
    if name not in entity_set.properties or direction not in {"", "asc", "desc"}:
        raise ProblemError(400, f"{entity_set.name} cannot be ordered by {part.strip()}")
    return name, direction == "desc"


def _expanded(text: str, entity_set: EntitySet) -> Iterable[tuple[str, tuple[str, ...]]]:
    rest = text
    while rest:
        match = _EXPAND.match(rest)
        if (
            match is None
            or match[1] not in entity_set.navigation
            or rest[match.end() : match.end() + 1] not in {"", ","}
        ):
            raise ProblemError(400, f"{entity_set.name} cannot be expanded by {text}")
        yield match[1], tuple(match[2].split(",")) if match[2] else ()
        rest = rest[match.end() + 1 :]


def _shape(data: Data, entity_set: EntitySet, row: Row, query: Query) -> Row:
    shaped = {name: row[name] for name in query.select} if query.select else dict(row)
    for name, select in query.expand:
        target = data.navigate(entity_set.name, row, name)
        shaped[name] = {key: value for key, value in target.items() if not select or key in select}
    return shaped


def _continued(options: dict[str, str], at: int, left: int | None) -> str:
    token = base64.urlsafe_b64encode(json.dumps([at, left]).encode()).decode()
    kept = {name: value for name, value in options.items() if name not in {"$top", "$skip", "$skiptoken"}}
    return "&".join(f"{quote(name, safe='$')}={quote(value)}" for name, value in {**kept, "$skiptoken": token}.items())


def _token(options: dict[str, str]) -> tuple[int, int | None]:
    try:
        at, left = json.loads(base64.urlsafe_b64decode(options["$skiptoken"]))
        return int(at), None if left is None else int(left)
    except (ValueError, TypeError, binascii.Error):
        raise ProblemError(400, "The skiptoken is not one of this service") from None
