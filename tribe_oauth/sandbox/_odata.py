"""The door of the API under /v1: the token, the limit of calls and the faults come first."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from attrs import define

from tribe_oauth.sandbox import _faults
from tribe_oauth.sandbox._authority import Authority
from tribe_oauth.sandbox._data import Data
from tribe_oauth.sandbox._faults import Faults
from tribe_oauth.sandbox._issued import Access
from tribe_oauth.sandbox._ledger import Cause, fingerprint
from tribe_oauth.sandbox._limit import Limit
from tribe_oauth.sandbox._model import BY_TYPE
from tribe_oauth.sandbox._paths import place_of
from tribe_oauth.sandbox._problems import ProblemError, answer, limited, refusal, unauthorized
from tribe_oauth.sandbox._query import Shape
from tribe_oauth.sandbox._reading import Reading
from tribe_oauth.sandbox._rules import ApiRules
from tribe_oauth.sandbox._shown import Shown
from tribe_oauth.sandbox._webhooks import Webhooks
from tribe_oauth.sandbox._writing import Writing


@define(eq=False)
class OData:
    """The API over one authority's access tokens. `base`: the sandbox's address, once it is served."""

    authority: Authority
    faults: Faults
    rules: ApiRules
    limit: Limit
    data: Callable[[str], Data]
    reading: Reading
    writing: Writing
    webhooks: Webhooks
    base: Callable[[], str]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request to the API."""
        access = self._access(request)
        if access is not None:
            status, free_at = self.limit.call(access.client_id, access.organization)
            self.authority.ledger.called(access.client_id, access.organization, status)
            if status != 200:
                return limited(self.rules, status, self.authority.clock(), free_at=free_at)
        fault = self.faults.take("api", None if access is None else access.organization)
        if fault is None:
            return await self._answer(request)
        response, _delivered = await _faults.serve(fault, request, lambda: self._answer(request))
        return response

    def _access(self, request: web.Request) -> Access | None:
        """What the request's token gives access to, now. One in the query is recorded."""
        token, in_query = self._token(request)
        access = self.authority.access(token)
        if in_query:
            cause = Cause() if access is None else Cause(client_id=access.client_id, organization=access.organization)
            self.authority.ledger.write("exposed", cause, "access", fingerprint(token))
        return access

    def _token(self, request: web.Request) -> tuple[str, bool]:
        """The request's token, and whether it came in the query."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return token, False
        query = dict(parse_qsl(request.rel_url.raw_query_string))
        return query.get("access_token", ""), "access_token" in query

    async def _answer(self, request: web.Request) -> web.Response:
        token, in_query = self._token(request)
        access = self.authority.access(token)
        if access is None or (in_query and self.rules.query_token == 401):
            return unauthorized(self.rules, presented=bool(token))
        try:
            return await self._carried_out(request, access)
        except ProblemError as problem:
            return refusal(problem, self.rules, request.path, self.authority.clock())

    async def _carried_out(self, request: web.Request, access: Access) -> web.Response:
        kind, slash, path = unquote(request.rel_url.raw_path).removeprefix("/v1/").partition("/")
        if kind == "odata" and not slash:
            return web.Response(status=307, headers={"Location": "/v1/odata/"})
        if path.endswith("/"):
            raise ProblemError(400, "The path ends in a slash")
        answered = {"odata": self._below_root, "odata-file": self._file, "webhooks": self._webhook}
        return await answered[kind](request, access, path)

    async def _below_root(self, request: web.Request, access: Access, path: str) -> web.Response:
        if path == "$batch":
            raise ProblemError(501, "Not implemented")
        shown = Shown(self.rules, f"{self.base()}/v1/odata/")
        if request.method != "GET":
            return await self._write(request, access, path, shown)
        _check(request, access, "GET")
        if not _accepts_json(request.headers.get("Accept", "*/*")):
            raise ProblemError(406, "Only JSON is given")
        if path == "Webhook":
            rows = [{"ID": each["id"], "Url": each["url"]} for each in self.webhooks.of(access.organization)]
            return answer({"@odata.context": "$metadata#OData.Webhook", "value": rows})
        return self.reading.answer(self.data(access.organization), path, request.rel_url.raw_query_string, shown)

    async def _file(self, request: web.Request, access: Access, path: str) -> web.Response:
        _check(request, access, "GET")
        return self.reading.file(self.data(access.organization), path)

    async def _write(self, request: web.Request, access: Access, path: str, shown: Shown) -> web.Response:
        _check(request, access, "POST", "PUT", "PATCH", "DELETE")
        body = None if request.method == "DELETE" else await _json(request)
        data, place = self.data(access.organization), place_of(path, self.rules)
        written = self.writing.write(data, request.method, place, body)
        self.webhooks.tell(access.organization, written.events)
        if written.row is None or written.status == 204:
            return web.Response(status=204)
        shape = Shape(BY_TYPE[written.row["_Type"]])
        return answer({**shown.context(shape, entity=True), **shown.entity(data, written.row, shape)}, written.status)

    async def _webhook(self, request: web.Request, access: Access, guid: str) -> web.Response:
        if request.method == "DELETE":
            _check(request, access, "DELETE")
            self.webhooks.remove(access.organization, guid)
            return web.Response(status=204)
        _check(request, access, "GET", "POST")
        if guid:
            raise ProblemError(405, f"{request.method} is not allowed here")
        if request.method == "GET":
            return web.json_response(self.webhooks.of(access.organization))
        return web.json_response(self.webhooks.make(access.organization, await _json(request)), status=201)


def _check(request: web.Request, access: Access, *methods: str) -> None:
    if request.method not in methods:
        raise ProblemError(405, f"{request.method} is not allowed here")
    needed = "read" if request.method == "GET" else "write"
    if needed not in access.scope:
        raise ProblemError(403, f"The scope {needed} is needed")


def _accepts_json(accept: str) -> bool:
    return any(each in accept for each in ("json", "*/*", "application/*", "xml"))


async def _json(request: web.Request) -> Any:
    """The body of a request."""
    if "Content-Type" not in request.headers:
        raise ProblemError(400, "The Content-Type is missing")
    if request.content_type != "application/json":
        raise ProblemError(406, f"{request.content_type} is not understood")
    try:
        return json.loads(await request.read())
    except web.HTTPRequestEntityTooLarge:
        raise ProblemError(413, "The request is too large") from None
    except (ValueError, RecursionError):
        raise ProblemError(400, "The body is no JSON") from None
