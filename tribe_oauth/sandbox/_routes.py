"""The routes under /sandbox: orders and questions over HTTP, for tests and demos whose sandbox is another process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web
from attrs import asdict

from tribe_oauth._oauth.client import Client
from tribe_oauth.sandbox._data import Data
from tribe_oauth.sandbox._faults import Fault
from tribe_oauth.sandbox._ledger import Ledger
from tribe_oauth.sandbox._webhooks import Delivery


class Controlled(Protocol):
    """What the routes need of a sandbox. The arguments of `client` and `fault` are those that the request names."""

    profile: str

    @property
    def organizations(self) -> dict[str, str]: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def client(self) -> Callable[..., Client]: ...

    @property
    def fault(self) -> Callable[..., Fault]: ...

    @property
    def deliveries(self) -> tuple[Delivery, ...]: ...

    def organization(self, name: str) -> Data: ...

    def write(
        self, organization: str, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any] | None: ...

    def paste_token(self, organization: str) -> str: ...

    def expire(self, organization: str) -> None: ...


def add_routes(app: web.Application, sandbox: Controlled) -> None:
    """Add everything under /sandbox."""
    routes = _Routes(sandbox)
    app.router.add_get("/sandbox/", routes.about)
    app.router.add_get("/sandbox/ledger", routes.ledger)
    app.router.add_get("/sandbox/calls", routes.calls)
    app.router.add_get("/sandbox/deliveries", routes.deliveries)
    app.router.add_post("/sandbox/live", routes.live)
    app.router.add_post("/sandbox/client", routes.client)
    app.router.add_post("/sandbox/paste-token", routes.paste_token)
    app.router.add_post("/sandbox/expire", routes.expire)
    app.router.add_post("/sandbox/write", routes.write)
    app.router.add_post("/sandbox/rows", routes.rows)
    app.router.add_post("/sandbox/fault", routes.fault)
    app.router.add_get(r"/sandbox/fault/{number:\d+}", routes.reached)
    app.router.add_post(r"/sandbox/fault/{number:\d+}/{order:release|cancel}", routes.end_fault)


class _Routes:
    """The handlers. Faults are numbered from 0, in the order of the requests that made them."""

    def __init__(self, sandbox: Controlled) -> None:
        self._sandbox = sandbox
        self._faults: list[Fault] = []

    async def about(self, request: web.Request) -> web.Response:
        return web.json_response({"profile": self._sandbox.profile, "organizations": self._sandbox.organizations})

    async def ledger(self, request: web.Request) -> web.Response:
        ledger = self._sandbox.ledger
        last = int(request.query.get("events", "0"))
        return web.json_response({**ledger.summary(), "last": ledger.tail(last)})

    async def calls(self, request: web.Request) -> web.Response:
        return web.json_response({"calls": [asdict(call) for call in self._sandbox.ledger.calls]})

    async def deliveries(self, request: web.Request) -> web.Response:
        return web.json_response({"deliveries": [asdict(delivery) for delivery in self._sandbox.deliveries]})

    async def live(self, request: web.Request) -> web.Response:
        return web.json_response({"live": self._sandbox.ledger.is_live((await request.json())["token"])})

    async def client(self, request: web.Request) -> web.Response:
        client = self._sandbox.client(**await request.json())
        return web.json_response(
            {
                "client_id": client.client_id,
                "client_secret": client.client_secret.reveal(),
                "redirect_uri": client.redirect_uri,
                "scope": client.scope,
            }
        )

    async def paste_token(self, request: web.Request) -> web.Response:
        return web.json_response({"refresh_token": self._sandbox.paste_token((await request.json())["organization"])})

    async def expire(self, request: web.Request) -> web.Response:
        self._sandbox.expire((await request.json())["organization"])
        return web.json_response({})

    async def write(self, request: web.Request) -> web.Response:
        try:
            written = self._sandbox.write(**await request.json())
        except (TypeError, ValueError) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return web.json_response({"entity": written})

    async def rows(self, request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response({"rows": self._sandbox.organization(asked["organization"]).all(asked["entity_set"])})

    async def fault(self, request: web.Request) -> web.Response:
        try:
            self._faults.append(self._sandbox.fault(**await request.json()))
        except (TypeError, ValueError) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return web.json_response({"fault": len(self._faults) - 1})

    async def reached(self, request: web.Request) -> web.Response:
        fault = self._ordered(request)
        if "wait" in request.query:
            await fault.reached()
        return web.json_response({"hits": fault.hits})

    async def end_fault(self, request: web.Request) -> web.Response:
        fault = self._ordered(request)
        if request.match_info["order"] == "release":
            fault.release()
        else:
            fault.cancel()
        return web.json_response({})

    def _ordered(self, request: web.Request) -> Fault:
        number = int(request.match_info["number"])
        if number >= len(self._faults):
            raise web.HTTPNotFound(text=f"no fault {number}: so far, {len(self._faults)} were ordered")
        return self._faults[number]
