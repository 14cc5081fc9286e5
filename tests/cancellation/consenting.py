"""Scenarios of consent: the login on one's own machine, and the pages of an application, whose clients disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress

import attrs
from aiohttp import ClientError, ClientSession, web

from tribe_oauth import web as tribe_web
from tribe_oauth._oauth.client import AuthorizationCodeGrant
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.web._loopback import login

from ..web.world import Browser, World, listening
from .harness import Subject, scenario
from .kinds import Gate
from .leaks import Snapshot
from .worlds import Place, Tribe, tribe

# The login


async def _login(sandbox: Sandbox, shown: asyncio.Future[str], pasted: Callable[[], Awaitable[str]]) -> str:
    """Connects with what takes a moment, and is the login's own: what a manager does goes on without it."""

    def show(url: str) -> None:
        if not shown.done():
            shown.set_result(url)

    async def connect(grant: AuthorizationCodeGrant) -> str:
        await asyncio.sleep(0.005)
        return "connected"

    return await login(sandbox.client(), connect, show=show, show_problem=show, pasted=pasted)


@scenario("web.login: the browser comes back")
async def login_by_browser(place: Place) -> AsyncIterator[Subject]:
    async with Sandbox(redirect_uri="http://127.0.0.1/callback", organizations=["acme"], persons=1) as sandbox:
        shown: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def browse(url: str) -> None:
            with suppress(ClientError, RuntimeError):  # the login may be gone
                callback = await sandbox.approve(url)
                async with ClientSession() as session, session.get(callback) as response:
                    await response.read()

        async def nothing_is_pasted() -> str:
            await asyncio.Event().wait()
            raise AssertionError

        def begin(shown: asyncio.Future[str]) -> None:
            if not shown.cancelled():
                browser.submit(asyncio.run, browse(shown.result()))

        browser = ThreadPoolExecutor(1)  # with a loop of its own: what it has open is not the login's
        shown.add_done_callback(begin)
        before = Snapshot.take()
        yield Subject(run=lambda: _login(sandbox, shown, nothing_is_pasted), owns=before, frees="everything")
        shown.cancel()
        await asyncio.to_thread(browser.shutdown)


@scenario("web.login: the address is pasted")
async def login_by_paste(place: Place) -> AsyncIterator[Subject]:
    async with Sandbox(organizations=["acme"], persons=1) as sandbox:
        shown: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def pasted() -> str:
            return await sandbox.approve(await shown)

        yield Subject(run=lambda: _login(sandbox, shown, pasted), owns=Snapshot.take(), frees="everything")


# The pages of an application


def nobody_else(request: web.Request) -> bool:
    """All may see everything."""
    return True


@attrs.frozen(kw_only=True)
class Site:
    """An application with `tribe_web.setup`, a browser, and the gate at which its handlers are cut."""

    tribe: Tribe
    runner: web.AppRunner
    browser: Browser
    gate: Gate

    def path(self, name: str) -> str:
        """Of one of its pages."""
        return self.browser.world.path(name)

    def request(self, make: Callable[[], Awaitable[object]]) -> Subject:
        """A request whose client goes away; afterwards the application answers as before."""

        async def run() -> None:
            with suppress(ClientError):
                await make()

        return Subject(run=run, gate=self.gate, after=self.answers)

    async def answers(self) -> None:
        """To the next request."""
        async with ClientSession() as session, session.get(self.browser.world.address + "/connections") as response:
            assert response.status == 200
            await response.read()


async def _mine(request: web.Request) -> web.StreamResponse:
    async with aclosing(tribe_web.organizations(request)) as keys:  # type: ignore[type-var]
        known = [key async for key in keys]
    async with tribe_web.session(request, known[0]) as session, session.get("/v1/odata/Relation_Person") as response:
        return web.Response(body=await response.read())


@asynccontextmanager
async def _site(place: Place, *, started: bool = True) -> AsyncIterator[Site]:
    listener = listening()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/tribe"
    async with tribe(place, redirect_uri=f"{address}/callback") as world:
        gate = Gate()
        app = web.Application(middlewares=[gate.middleware])
        tribe_web.setup(app, world.manager, authorize=nobody_else)
        app.router.add_get("/mine", _mine)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=2.0)
        if started:
            await runner.setup()
            await web.SockSite(runner, listener).start()
        there = World(sandbox=world.sandbox, client=world.client, manager=world.manager, app=app, address=address)
        browser = Browser(there)
        yield Site(tribe=world, runner=runner, browser=browser, gate=gate)
        await browser.close()
        await runner.cleanup()
        listener.close()


@scenario("web.setup: the application starts")
async def start_up(place: Place) -> AsyncIterator[Subject]:
    async with _site(place, started=False) as site:
        yield Subject(run=site.runner.setup)


@scenario("web.setup: the application ends")
async def clean_up(place: Place) -> AsyncIterator[Subject]:
    async with _site(place) as site:
        await site.tribe.manager.refresh("acme")
        yield Subject(run=site.runner.cleanup)


@scenario("web.setup: GET connect", request=True)
async def connect(place: Place) -> AsyncIterator[Subject]:
    async with _site(place) as site:
        yield site.request(lambda: site.browser.get(site.path("connect")))


@scenario("web.setup: GET callback", request=True)
async def callback(place: Place) -> AsyncIterator[Subject]:
    async with _site(place) as site:
        url = await site.browser.consent(await site.browser.start(), organization="beta")
        yield site.request(lambda: site.browser.get(url))


@scenario("web.setup: GET outcome", "web.setup", "Pages.outcome", request=True)
async def outcome(place: Place) -> AsyncIterator[Subject]:
    async with _site(place) as site:
        yield site.request(lambda: site.browser.get(site.path("outcome/connected")))


@scenario("web.setup: GET connections", "web.setup", "Pages.connections", request=True)
async def connections(place: Place) -> AsyncIterator[Subject]:
    async with _site(place) as site:
        yield site.request(lambda: site.browser.get(site.path("connections")))


async def _act(site: Site, do: str) -> Subject:
    form = await site.browser.form() | {"do": do}
    return site.request(lambda: site.browser.post(site.path("connections"), form))


@scenario("web.setup: POST connections, refresh", request=True)
async def refresh(place: Place) -> AsyncIterator[Subject]:
    async with _site(place) as site:
        site.tribe.sandbox.fault("delay", seconds=0.02)
        yield await _act(site, "refresh")


@scenario("web.setup: POST connections, disconnect", request=True)
async def disconnect(place: Place) -> AsyncIterator[Subject]:
    async with _site(place) as site:
        yield await _act(site, "disconnect")


@scenario("web.session: in a handler", "web.session", "web.organizations", request=True)
async def session(place: Place) -> AsyncIterator[Subject]:
    async with _site(place) as site:
        yield site.request(lambda: site.browser.get("/mine"))


@scenario("web.organization_id")
async def organization_id(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world, world.manager.session("acme") as session:
        yield Subject(run=lambda: tribe_web.organization_id(session))
