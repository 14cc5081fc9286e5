"""Orders and questions over HTTP, for tests and demos whose sandbox is another process: the routes and their client."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aiohttp import ClientSession, ClientTimeout, web

from tribe_oauth.sandbox import _browser
from tribe_oauth.sandbox._authority import Application
from tribe_oauth.sandbox._faults import Endpoint, Fault, Kind

if TYPE_CHECKING:
    from tribe_oauth._oauth.client import Client
    from tribe_oauth._oauth.values import Endpoints
    from tribe_oauth.sandbox._server import Sandbox


def add_routes(app: web.Application, sandbox: Sandbox) -> None:
    """Everything under /sandbox."""
    control = _Control(sandbox)
    app.router.add_get("/sandbox/", control.about)
    app.router.add_get("/sandbox/ledger", control.ledger)
    app.router.add_post("/sandbox/live", control.live)
    app.router.add_post("/sandbox/client", control.client)
    app.router.add_post("/sandbox/paste-token", control.paste_token)
    app.router.add_post("/sandbox/expire", control.expire)
    app.router.add_post("/sandbox/fault", control.fault)
    app.router.add_get("/sandbox/fault/{number}", control.reached)
    app.router.add_post("/sandbox/fault/{number}/{order:release|cancel}", control.end_fault)


class _Control:
    """The routes' handlers."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._faults: list[Fault] = []

    async def about(self, request: web.Request) -> web.Response:
        return web.json_response({"profile": self._sandbox.profile, "organizations": self._sandbox.organizations})

    async def ledger(self, request: web.Request) -> web.Response:
        ledger = self._sandbox.ledger
        last = int(request.query.get("events", "0"))
        return web.json_response({**ledger.summary(), "last": ledger.tail(last)})

    async def live(self, request: web.Request) -> web.Response:
        return web.json_response({"live": self._sandbox.ledger.is_live((await request.json())["token"])})

    async def client(self, request: web.Request) -> web.Response:
        asked = await request.json()
        client = self._sandbox.client(**asked)
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

    async def fault(self, request: web.Request) -> web.Response:
        try:
            self._faults.append(self._sandbox.fault(**(await request.json())))
        except (TypeError, ValueError) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return web.json_response({"fault": len(self._faults) - 1})

    async def reached(self, request: web.Request) -> web.Response:
        fault = self._faults[int(request.match_info["number"])]
        if "wait" in request.query:
            await fault.reached()
        return web.json_response({"hits": fault.hits})

    async def end_fault(self, request: web.Request) -> web.Response:
        fault = self._faults[int(request.match_info["number"])]
        if request.match_info["order"] == "release":
            fault.release()
        else:
            fault.cancel()
        return web.json_response({})


class Remote:
    """A sandbox in another process, by its address. An async context manager."""

    def __init__(self, base_url: str) -> None:
        self._base = base_url.rstrip("/")
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = ClientSession(self._base, raise_for_status=True, timeout=ClientTimeout(total=60))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    @property
    def endpoints(self) -> Endpoints:
        """Where that Tribe is."""
        from tribe_oauth.sandbox._server import endpoints

        return endpoints(self._base)

    async def organizations(self) -> dict[str, str]:
        """See `Sandbox.organizations`."""
        about = await self._get("/sandbox/")
        return dict(about["organizations"])

    async def client(self, **options: str | None) -> Client:
        """See `Sandbox.client`."""
        from tribe_oauth.sandbox._server import client

        got = await self._post("/sandbox/client", **options)
        scope = frozenset(got["scope"].split())
        return client(self._base, Application(got["client_id"], got["client_secret"], got["redirect_uri"], scope, ""))

    async def paste_token(self, organization: str) -> str:
        """See `Sandbox.paste_token`."""
        return str((await self._post("/sandbox/paste-token", organization=organization))["refresh_token"])

    async def approve(
        self, url: str, *, organization: str | None = None, scopes: Sequence[str] | None = None, deny: bool = False
    ) -> str:
        """See `Sandbox.approve`."""
        return await _browser.approve(url, organization=organization, scopes=scopes, deny=deny)

    async def expire(self, organization: str) -> None:
        """See `Sandbox.expire`."""
        await self._post("/sandbox/expire", organization=organization)

    async def ledger(self, *, events: int = 0) -> dict[str, Any]:
        """`Ledger.summary`, with the last events under ``"last"``."""
        return await self._get(f"/sandbox/ledger?events={events}")

    async def is_live(self, token: str) -> bool:
        """See `Ledger.is_live`."""
        return bool((await self._post("/sandbox/live", token=token))["live"])

    async def fault(
        self, kind: Kind, *, times: int | None = 1, endpoint: Endpoint = "token", **options: Any
    ) -> RemoteFault:
        """See `Sandbox.fault`."""
        order = await self._post("/sandbox/fault", kind=kind, times=times, endpoint=endpoint, **options)
        return RemoteFault(self, order["fault"])

    async def _get(self, path: str) -> dict[str, Any]:
        assert self._session is not None
        async with self._session.get(path) as response:
            answer: dict[str, Any] = await response.json()
            return answer

    async def _post(self, path: str, **order: Any) -> dict[str, Any]:
        assert self._session is not None
        async with self._session.post(path, json=order) as response:
            answer: dict[str, Any] = await response.json()
            return answer


class RemoteFault:
    """A fault that was ordered from another process."""

    def __init__(self, remote: Remote, number: int) -> None:
        self._remote = remote
        self._number = number

    async def reached(self) -> int:
        """Wait until an answer was hit; how many were."""
        return int((await self._remote._get(f"/sandbox/fault/{self._number}?wait=1"))["hits"])

    async def release(self) -> None:
        """See `Fault.release`."""
        await self._remote._post(f"/sandbox/fault/{self._number}/release")

    async def cancel(self) -> None:
        """See `Fault.cancel`."""
        await self._remote._post(f"/sandbox/fault/{self._number}/cancel")
