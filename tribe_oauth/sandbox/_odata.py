"""The door of the API under /v1/odata: the token, the limit of calls and the faults come first."""

from __future__ import annotations

from collections.abc import Callable
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
from tribe_oauth.sandbox._problems import ProblemError, limited, refusal, unauthorized
from tribe_oauth.sandbox._reading import Reading
from tribe_oauth.sandbox._rules import ApiRules
from tribe_oauth.sandbox._shown import Shown

ROOT = "/v1/odata"


@define(eq=False)
class OData:
    """The API over one authority's access tokens. `base`: the sandbox's address, once it is served."""

    authority: Authority
    faults: Faults
    rules: ApiRules
    limit: Limit
    data: Callable[[str], Data]
    reading: Reading
    base: Callable[[], str]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request to the service root or below it."""
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
        path = unquote(request.rel_url.raw_path).removeprefix(ROOT)
        if not path:
            return web.Response(status=307, headers={"Location": f"{ROOT}/"})
        if path == "/$batch":
            raise ProblemError(501, "Not implemented")
        if path != "/" and path.endswith("/"):
            raise ProblemError(400, "The path ends in a slash")
        if request.method != "GET":
            raise ProblemError(405, f"{request.method} is not allowed here")
        if "read" not in access.scope:
            raise ProblemError(403, "The scope read is needed")
        if not _accepts_json(request.headers.get("Accept", "*/*")):
            raise ProblemError(406, "Only JSON is given")
        shown = Shown(self.rules, f"{self.base()}{ROOT}/")
        return self.reading.answer(self.data(access.organization), path[1:], request.rel_url.raw_query_string, shown)


def _accepts_json(accept: str) -> bool:
    return any(each in accept for each in ("json", "*/*", "application/*", "xml"))
