"""A sandbox in another process: the client of the routes under /sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientSession, ClientTimeout

from tribe_oauth._oauth.client import Client
from tribe_oauth._oauth.values import Endpoints
from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.sandbox import _application, _browser
from tribe_oauth.sandbox._application import Application
from tribe_oauth.sandbox._faults import Endpoint, Kind


class Remote:
    """A sandbox in another process, by its address. An async context manager, which may be entered again.

    Its methods raise aiohttp's errors where the sandbox does not answer, or refuses; RuntimeError outside of the
    context.
    """

    def __init__(self, base_url: str) -> None:
        self._base = base_url.rstrip("/")
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise RuntimeError(f"this Remote for {self._base} is entered already: make one more for a further use")
        self._session = ClientSession(self._base, raise_for_status=True, timeout=ClientTimeout(total=60))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await run_uninterrupted(session.close())

    @property
    def endpoints(self) -> Endpoints:
        """Where that Tribe is."""
        return _application.endpoints(self._base)

    async def organizations(self) -> dict[str, str]:
        """See `Sandbox.organizations`."""
        about = await self._get("/sandbox/")
        return dict(about["organizations"])

    async def client(self, **options: Any) -> Client:
        """See `Sandbox.client`."""
        got = await self._post("/sandbox/client", **options)
        scope = frozenset(got["scope"].split())
        registered = Application(got["client_id"], got["client_secret"], got["redirect_uri"], scope, "")
        return _application.client(self._base, registered)

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

    async def write(
        self, organization: str, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """See `Sandbox.write`. What the API would refuse is a ClientResponseError with status 400."""
        written = await self._post("/sandbox/write", organization=organization, method=method, path=path, body=body)
        entity: dict[str, Any] | None = written["entity"]
        return entity

    async def rows(self, organization: str, entity_set: str) -> list[dict[str, Any]]:
        """All rows of a set, as they are in truth, in the order of their IDs."""
        return list((await self._post("/sandbox/rows", organization=organization, entity_set=entity_set))["rows"])

    async def ledger(self, *, events: int = 0) -> dict[str, Any]:
        """`Ledger.summary`, with the last `events` events under ``"last"``."""
        return await self._get(f"/sandbox/ledger?events={events}")

    async def calls(self) -> list[dict[str, Any]]:
        """The fields of `Ledger.calls`."""
        return list((await self._get("/sandbox/calls"))["calls"])

    async def deliveries(self) -> list[dict[str, Any]]:
        """The fields of `Sandbox.deliveries`."""
        return list((await self._get("/sandbox/deliveries"))["deliveries"])

    async def is_live(self, token: str) -> bool:
        """See `Ledger.is_live`."""
        return bool((await self._post("/sandbox/live", token=token))["live"])

    async def fault(
        self, kind: Kind, *, times: int | None = 1, endpoint: Endpoint = "token", **options: Any
    ) -> RemoteFault:
        """See `Sandbox.fault`. An order that the sandbox cannot carry out is a ClientResponseError with status 400."""
        order = await self._post("/sandbox/fault", kind=kind, times=times, endpoint=endpoint, **options)
        return RemoteFault(self, order["fault"])

    async def _get(self, path: str) -> dict[str, Any]:
        return await self._ask("GET", path)

    async def _post(self, path: str, /, **order: Any) -> dict[str, Any]:
        return await self._ask("POST", path, json=order)

    async def _ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError(f"this Remote for {self._base} has no connection: use it inside of `async with`")
        async with self._session.request(method, path, **body) as response:
            answer: dict[str, Any] = await response.json()
            return answer


class RemoteFault:
    """A fault that was ordered from another process."""

    def __init__(self, remote: Remote, number: int) -> None:
        self._remote = remote
        self._number = number

    async def reached(self) -> int:
        """Wait until an answer was hit, at most 60 seconds (TimeoutError); returns how many were."""
        return int((await self._remote._get(f"/sandbox/fault/{self._number}?wait=1"))["hits"])

    async def release(self) -> None:
        """See `Fault.release`."""
        await self._remote._post(f"/sandbox/fault/{self._number}/release")

    async def cancel(self) -> None:
        """See `Fault.cancel`."""
        await self._remote._post(f"/sandbox/fault/{self._number}/cancel")
