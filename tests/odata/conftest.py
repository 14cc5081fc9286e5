from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ..manager.helpers import VirtualClock

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """An API of scripted answers, by the raw target of the request; each request's target is kept."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.targets: list[str] = []
        self.authorizations: list[str | None] = []
        self.base = ""
        self._arrived = asyncio.Event()

    async def asked(self, times: int) -> None:
        """Wait until so many requests came."""
        while len(self.targets) < times:
            self._arrived.clear()
            await asyncio.wait_for(self._arrived.wait(), 10)

    def says(self, target: str, body: Any, *, status: int = 200, **headers: str) -> None:
        """Answer this target with JSON, or with the bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=content, content_type="application/json", headers=headers)

        self.answers[f"/v1/odata/{target}"] = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        target = request.raw_path if request.raw_path in self.answers else unordered(request.raw_path)
        self.targets.append(target)
        self._arrived.set()
        self.authorizations.append(request.headers.get("Authorization"))
        if ("$skip=" in target or "ID%20gt" in target) and target not in self.answers:
            return web.Response(status=501)  # where no script says otherwise, it knows no $skip, and no order of keys
        return await self.answers[target](request)


def unordered(target: str) -> str:
    """A target without what every read asks for: rows in the order of their keys, a hundred at a time."""
    path, _, options = target.partition("?")
    kept = [option for option in options.split("&") if option not in {"$orderby=ID", "$top=100"}]
    return f"{path}?{'&'.join(kept)}" if any(kept) else path


async def started(stack: list[web.AppRunner]) -> Service:
    """A service on a free port."""
    service = Service()
    app = web.Application()
    app.router.add_get("/{path:.*}", service.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    stack.append(runner)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    return service


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    """Pauses between the attempts of a page take no time, and are kept in `slept`."""
    clock = VirtualClock()
    monkeypatch.setattr("tribe_oauth.odata._retries.SystemClock", lambda: clock)
    return clock


@pytest.fixture
async def runners() -> AsyncIterator[list[web.AppRunner]]:
    runners: list[web.AppRunner] = []
    yield runners
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def service(runners: list[web.AppRunner]) -> Service:
    """The API."""
    return await started(runners)


@pytest.fixture
async def elsewhere(runners: list[web.AppRunner]) -> Service:
    """Another origin."""
    return await started(runners)


@pytest.fixture
async def session(service: Service) -> AsyncIterator[aiohttp.ClientSession]:
    """A session of the user's own, which raises for statuses and has a header that nobody else may see."""
    async with aiohttp.ClientSession(
        service.base, raise_for_status=True, headers={"Authorization": "Bearer canary"}
    ) as session:
        yield session
