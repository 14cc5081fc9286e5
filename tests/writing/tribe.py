"""A small Tribe that takes writes, over a real socket, and what may come between: connections that are cut.

It follows the rules of what is publicly known of Tribe's API: POST creates, or changes what has that ID; PUT merges;
links are ``{"ID": …}``, objects without ID are created; answers carry the entity, or nothing.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import attrs
from aiohttp import ClientSession, web

from tribe_oauth import Client, ClientCredentialsGrant, Endpoints, RateLimit, TokenManager
from tribe_oauth._clock import Clock
from tribe_oauth.sandbox._application import environment

from ..serving import Answer, served

Row = dict[str, Any]

ORGANIZATION = "0b7e5a5e-4f5b-4a55-9d0c-0c6d3f6f4a11"
BASE_SETS = {"Entity", "Relation", "Relationship", "Activity"}
SETS = {"Relation_Person", "Relation_Organization", "Relationship_Person_Contact_Standard", "Attachment", "Note"}
REQUIRED = {"Relation_Person": "LastName", "Relation_Organization": "Name"}
INSIDE = {"Person": "Relation_Person", "Relation": "Relation_Organization", "Notes": "Note"}


class RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@attrs.define
class Seen:
    """A request as it came."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Row:
        found: Row = json.loads(self.body)
        return found


@attrs.define
class Tribe:
    """The API and its token endpoint.

    `post`, `put`: statuses of successes, 204 without a body. `before`, `after`: what happens in place of the next
    answers, before a request takes effect or when it has.
    """

    rows: dict[str, dict[str, Row]] = attrs.field(factory=lambda: {name: {} for name in SETS})
    post: int = 201
    put: int = 200
    headers: Callable[[str], dict[str, str]] = lambda key: {}
    identities: list[Row] = attrs.field(factory=lambda: [_identity("Acme B.V.")])
    seen: list[Seen] = attrs.field(factory=list)
    before: deque[Answer] = attrs.field(factory=deque)
    after: deque[Answer] = attrs.field(factory=deque)
    tokens: int = 1
    base: str = ""

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints.at(self.base, self.base, allow_insecure_loopback=True)

    @property
    def environment(self) -> dict[str, str]:
        """As a sandbox has it."""
        return environment(self.base, Client("id", "secret", endpoints=self.endpoints))

    def writes(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.method != "GET"]

    def expire(self) -> None:
        """The token that was given last is refused from now on."""
        self.tokens += 1

    # Requests

    async def token(self, request: web.Request) -> web.Response:
        return web.json_response({"access_token": f"token-{self.tokens}", "token_type": "bearer", "expires_in": 86399})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = unquote(request.rel_url.raw_path).removeprefix("/v1/odata/")
        self.seen.append(Seen(request.method, path, await request.read(), dict(request.headers)))
        if request.headers.get("Authorization") != f"Bearer token-{self.tokens}":
            return web.Response(status=401)
        if self.before:
            return await self.before.popleft()(request)
        try:
            answer = await self._answer(request, path)
        except RefusedError as error:
            answer = web.json_response({"error": {"code": None, "message": str(error)}}, status=error.status)
        return await self.after.popleft()(request) if self.after else answer

    async def _answer(self, request: web.Request, path: str) -> web.Response:
        match request.method:
            case "GET":
                return self._read(request, path)
            case "POST":
                return await self._post(request, path)
        found = re.fullmatch(r"(\w+)\(([0-9a-f-]{36})\)", path)
        if found is None:
            raise RefusedError(405, "this is no entity")
        entity_set, key = self._where(found[1], found[2])
        if request.method == "DELETE":
            del self.rows[entity_set][key]
            return web.Response(status=204)
        self._merge(entity_set, self.rows[entity_set][key], await self._body(request))
        return self._written(self.put, self.rows[entity_set][key], entity_set)

    async def _post(self, request: web.Request, entity_set: str) -> web.Response:
        if entity_set not in SETS:
            raise RefusedError(400 if entity_set in BASE_SETS else 404, "this set takes no entities")
        fields = await self._body(request)
        if "ID" in fields:
            entity_set, key = self._where(entity_set, fields["ID"])
            row = self.rows[entity_set][key]
            if "_UpgradeType" in fields:
                del self.rows[entity_set][key]
                entity_set = fields.pop("_UpgradeType").replace(".", "_")
                self.rows.setdefault(entity_set, {})[key] = row
            self._merge(entity_set, row, fields)
        else:
            row = self._create(entity_set, fields)
        return self._written(self.post, row, entity_set)

    async def _body(self, request: web.Request) -> Row:
        if request.content_type != "application/json":
            raise RefusedError(400, "the content type is missing")
        try:
            fields = json.loads(await request.read())
        except ValueError:
            raise RefusedError(400, "this is no JSON") from None
        if not isinstance(fields, dict):
            raise RefusedError(400, "this is no entity")
        return fields

    def _where(self, entity_set: str, key: str) -> tuple[str, str]:
        sets = self.rows if entity_set in BASE_SETS else [entity_set]
        for name in sets:
            if key in self.rows.get(name, {}):
                return name, key
        raise RefusedError(404, "there is no such entity")

    def _create(self, entity_set: str, fields: Row) -> Row:
        needed = REQUIRED.get(entity_set)
        if needed is not None and not fields.get(needed):
            raise RefusedError(400, f"{needed} is required")
        row: Row = {"ID": str(uuid4())}
        self._merge(entity_set, row, fields)
        self.rows[entity_set][row["ID"]] = row
        return row

    def _merge(self, entity_set: str, row: Row, fields: Row) -> None:
        row.update({name: self._value(name, value) for name, value in fields.items()})

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(name, item) for item in value]
        if not isinstance(value, dict):
            return value
        if "Data" in value:
            return value | {"Data": base64.b64decode(value["Data"], validate=True)}
        if "ID" not in value:
            return {"ID": self._create(INSIDE[name], value)["ID"]}
        self._where("Entity", value["ID"])
        return {"ID": value["ID"]}

    def _written(self, status: int, row: Row, entity_set: str) -> web.Response:
        if status == 204:
            return web.Response(status=204, headers=self.headers(row["ID"]))
        shown = {"@odata.context": f"$metadata#OData.{entity_set}/$entity"} | _shown(row)
        return web.json_response(shown, status=status, headers=self.headers(row["ID"]))

    def _read(self, request: web.Request, path: str) -> web.Response:
        if path == "GetCurrentEmployee()":
            return web.json_response({"@odata.context": "$metadata#OData.Employee", "ID": str(uuid4()), "Hours": 36.50})
        if path == "Relationship_Organization_Identity":
            return web.json_response({"@odata.context": "$metadata#OData.X", "value": self.identities})
        if path.startswith("/v1/odata-file/"):
            return self._file(*path.removeprefix("/v1/odata-file/").split("/"))
        if found := re.fullmatch(r"(\w+)\(([0-9a-f-]{36})\)", path):
            entity_set, key = self._where(found[1], found[2])
            return self._written(200, self.rows[entity_set][key], entity_set)
        sets = [path] if path in self.rows else list(self.rows) if path in BASE_SETS else []
        if not sets:
            raise RefusedError(404, "there is no such set")
        found_rows = [
            _shown(row)
            for name in sets
            for row in self.rows[name].values()
            if _fits(row, request.query.get("$filter", ""))
        ]
        skip = int(request.query.get("$skip", 0))
        return web.json_response({"@odata.context": f"$metadata#OData.{path}", "value": found_rows[skip:]})

    def _file(self, entity_set: str, key: str, field: str) -> web.Response:
        name, key = self._where(entity_set, key)
        file = self.rows[name][key].get(field)
        if not isinstance(file, dict):
            raise RefusedError(404, "there is no such file")
        return web.Response(
            body=file["Data"],
            content_type=file["MimeType"],
            headers={"Content-Disposition": f'attachment; filename="{file["Name"]}"'},
        )


def _identity(name: str | None, organization: str = ORGANIZATION) -> Row:
    return {"ID": str(uuid4()), "Name": name, "Relation": {"ID": organization}}


def _fits(row: Row, condition: str) -> bool:
    """The two filters that a look-up needs."""
    if found := re.fullmatch(r"ID eq ([0-9a-f-]{36})", condition):
        return bool(row["ID"] == found[1])
    text = re.fullmatch(r"contains\(ImportId,'(.*)'\)", condition)
    wanted = text[1].replace("''", "'").lower() if text else ""
    return wanted in str(row.get("ImportId") or "").lower()


def _shown(row: Row) -> Row:
    """A row as the API shows it: without the bytes of files."""
    shown: Row = _without_data(row)
    return shown


def _without_data(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_data(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_data(item) for key, item in value.items() if key != "Data"}
    return value


@asynccontextmanager
async def tribe() -> AsyncIterator[Tribe]:
    """Serve one."""
    there = Tribe()
    app = web.Application(client_max_size=2**30)
    app.router.add_post("/oauth2/token", there.token)
    app.router.add_route("*", "/v1/{path:.*}", there.handle)
    async with served(app, handler_cancellation=True) as there.base:
        yield there


@asynccontextmanager
async def connected(
    there: Tribe, api: str | None = None, *, rate_limit: RateLimit | None = None, clock: Clock | None = None
) -> AsyncIterator[ClientSession]:
    """A manager's session for it; `api`: another way to it. Without a limit, only the writes wait after a 429."""
    endpoints = Endpoints.at(there.base, api or there.base, allow_insecure_loopback=True)
    async with TokenManager(endpoints=endpoints, rate_limit=rate_limit, clock=clock) as manager:
        await manager.connect("acme", ClientCredentialsGrant(Client("id", "secret", endpoints=endpoints)))
        async with manager.session("acme") as session:
            yield session


# Connections that are cut

Framing = Callable[[bytes, bytes], bytes]


def by_length(head: bytes, body: bytes) -> bytes:
    return head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def by_chunks(head: bytes, body: bytes) -> bytes:
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
    return head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def by_the_end(head: bytes, body: bytes) -> bytes:
    return head + b"\r\nConnection: close\r\n\r\n" + body


@attrs.define
class Cut:
    """A connection between a client and an API.

    `answer`: bytes of the answer that arrive; `request`: bytes of the request that do, so many `times`; None: all.
    `length`: of the last whole answer. `stray`: what comes after the next answer, on a connection that is kept.
    """

    there: Tribe
    framing: Framing = by_length
    answer: int | None = None
    request: int | None = None
    times: int = 1_000_000
    length: int = 0
    stray: bytes = b""
    strayed: asyncio.Event = attrs.field(factory=asyncio.Event)
    base: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if self.request is not None and self.times > 0:
                await reader.readexactly(self.request)
                self.times -= 1
                writer.transport.abort()
                return
            while await self._is_kept(reader, writer):
                pass
        writer.close()

    async def _is_kept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass one request on, and its answer. False: that was the last one here."""
        head = await reader.readuntil(b"\r\n\r\n")
        size = re.search(rb"(?i)content-length: (\d+)", head)
        body = await reader.readexactly(int(size[1]) if size else 0)
        answer = self.framing(*await self._asked(head, body))
        self.length = len(answer)
        writer.write(answer[: self.answer])
        await writer.drain()
        if self.stray:
            await asyncio.sleep(0.05)  # by then the client has read the answer
            writer.write(self.stray)
            self.stray = b""
            self.strayed.set()
            await reader.read()
        return self.answer is None and self.framing is not by_the_end

    async def _asked(self, head: bytes, body: bytes) -> tuple[bytes, bytes]:
        """The answer's head, without what frames it, and its body."""
        host, _, port = self.there.base.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body)
        answered, _, content = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        lines = [line for line in answered.split(b"\r\n") if not line.lower().startswith((b"content-length", b"conn"))]
        return b"\r\n".join(lines), content


@asynccontextmanager
async def cutting(there: Tribe) -> AsyncIterator[Cut]:
    """Such a connection, for as many clients as come."""
    cut = Cut(there)
    server = await asyncio.start_server(cut.serve, "127.0.0.1", 0)
    cut.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield cut
