"""The way in as people see it, in a real browser: `nox -s browser`. Pictures of each page, in both themes, are kept.

They are written to ``browser-pictures/``, or where TRIBE_TEST_PICTURES says.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import web
from playwright.async_api import BrowserContext, Page, ViewportSize, async_playwright, expect

from tribe_oauth import MemoryStore, TokenManager
from tribe_oauth import web as tribe_web
from tribe_oauth.stores import Record

from ..web.world import World, account, world

PICTURES = Path(os.environ.get("TRIBE_TEST_PICTURES", "browser-pictures"))
DESK: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
_THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@asynccontextmanager
async def browser() -> AsyncIterator[BrowserContext]:
    """A browser of its own, with nothing remembered, signed in as ann. Without scripts: the pages need none."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "install Debian's package chromium"
    async with async_playwright() as playwright:
        process = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        context = await process.new_context(viewport=DESK, java_script_enabled=False)
        context.set_default_timeout(10_000)
        yield context
        await process.close()


@asynccontextmanager
async def visiting(**options: Any) -> AsyncIterator[tuple[World, BrowserContext, Page]]:
    async with world(**options) as there, browser() as context:
        await context.add_cookies([{"name": "account", "value": "ann", "url": there.address}])
        yield there, context, await context.new_page()


async def picture(page: Page, name: str) -> None:
    """The page on a desk and on a phone, in light and dark."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for size, viewport in (("desk", DESK), ("phone", PHONE)):
        await page.set_viewport_size(viewport)
        for theme in _THEMES:
            await page.emulate_media(color_scheme=theme)
            await page.screenshot(path=PICTURES / f"{name}-{size}-{theme}.png", full_page=True)
    await page.set_viewport_size(DESK)


async def begin(there: World, page: Page, *, organization: str = "Acme") -> None:
    """Open the connections page, click on connect, and choose an organization at Tribe."""
    await page.goto(f"{there.address}/connections")
    await page.get_by_role("link", name="Connect", exact=True).click()
    await page.get_by_label("Organization", exact=True).select_option(label=organization)


async def allow(page: Page) -> None:
    await page.get_by_role("button", name="Allow").click()


async def test_connect() -> None:
    """From an empty page to a connection, and nothing secret in the address at the end."""
    async with visiting() as (there, _context, page):
        await page.goto(f"{there.address}/connections")
        await picture(page, "connections-empty")
        await begin(there, page)
        await picture(page, "tribe-consent")
        await allow(page)
        await expect(page.get_by_text(there.sandbox.organizations["Acme"])).to_be_visible()
        assert page.url == f"{there.address}/connections"
        await page.goto(f"{there.address}/outcome/connected")
        await picture(page, "outcome-connected")


async def test_deny() -> None:
    """Denied at Tribe: told, and one click from trying again."""
    async with visiting() as (there, _context, page):
        await begin(there, page)
        await page.get_by_role("button", name="Deny").click()
        await expect(page.get_by_role("heading", name="Not connected")).to_be_visible()
        await picture(page, "outcome-denied")
        await page.get_by_role("link", name="Try again").click()
        await allow(page)
        await expect(page.get_by_text("connected", exact=True)).to_be_visible()


async def test_narrow_the_scopes() -> None:
    """Without write it connects, without offline it does not."""
    async with visiting() as (there, _context, page):
        await page.goto(f"{there.address}/connect")
        await page.get_by_label("Change your data").uncheck()
        await allow(page)
        await expect(page.get_by_role("heading", name="Connected, with fewer permissions")).to_be_visible()
        await picture(page, "outcome-connected-with-less")
        await page.goto(f"{there.address}/connect")
        await page.get_by_label("Stay connected").uncheck()
        await allow(page)
        await expect(page.get_by_role("heading", name="permission to stay connected is missing")).to_be_visible()
        await picture(page, "outcome-not-offline")


async def test_reload_the_callback() -> None:
    """Opened once more, as a browser does that restores its tabs: nothing is exchanged, and it ends where it did."""
    async with visiting() as (there, _context, page):
        callbacks: list[str] = []
        page.on("request", lambda request: callbacks.append(request.url) if "/callback" in request.url else None)
        await begin(there, page)
        await allow(page)
        await expect(page.get_by_role("heading", name="Connections")).to_be_visible()
        await page.reload()
        assert len(callbacks) == 1
        await page.goto(callbacks[0])
        await expect(page.get_by_role("heading", name="Connections")).to_be_visible()
        assert there.sandbox.ledger.count("authorization_code") == 1
        assert [family.live for family in there.sandbox.ledger.families("Acme")] == [True]


SPECULATIONS = {
    "link": '<link rel="prefetch" href="$">',
    "prefetch": '<script type="speculationrules">{"prefetch": [{"urls": ["$"], "eagerness": "immediate"}]}</script>',
    "prerender": '<script type="speculationrules">{"prerender": [{"urls": ["$"], "eagerness": "immediate"}]}</script>',
}


@pytest.mark.parametrize("how", SPECULATIONS)
async def test_a_browser_that_looks_ahead(how: str) -> None:
    """A page that has the browser prefetch the callback, in each way that there is; then the person opens it."""
    ahead: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    shown = ""

    async def show(request: web.Request) -> web.Response:
        return web.Response(text=f"<!doctype html>{shown}<p>A page with a link", content_type="text/html")

    async def watch(request: web.Request, response: web.StreamResponse) -> None:
        purpose = request.headers.get("Sec-Purpose", request.headers.get("Purpose", ""))
        if purpose and "/callback" in request.path:
            ahead.put_nowait((purpose, response.status))

    def build(app: web.Application, manager: TokenManager) -> web.Application:
        app.router.add_get("/page", show)
        app.on_response_prepare.append(watch)
        tribe_web.setup(app, manager, authorize=account)
        return app

    async with visiting(build=build) as (there, context, page):
        await begin(there, page)
        callback = await there.sandbox.approve(page.url, organization="Acme")
        shown = SPECULATIONS[how].replace("$", callback)
        assert context.browser is not None
        scripted = await context.browser.new_context(storage_state=await context.storage_state())
        looking = await scripted.new_page()
        await looking.goto(f"{there.address.removesuffix('/tribe')}/page")
        purpose, status = await asyncio.wait_for(ahead.get(), 10)
        assert ("prefetch" in purpose, status) == (True, 503)
        assert there.sandbox.ledger.token_requests == 0
        await looking.evaluate("callback => { location.href = callback }", callback)
        await expect(looking.get_by_role("heading", name="Connections")).to_be_visible()
        assert there.sandbox.ledger.count("authorization_code") == 1


async def test_two_tabs() -> None:
    """Two flows at once, the second one ended first."""
    async with visiting() as (there, context, first):
        second = await context.new_page()
        await begin(there, first, organization="Acme")
        await begin(there, second, organization="Beta")
        await allow(second)
        await allow(first)
        for organization in ("Acme", "Beta"):
            await expect(first.get_by_text(there.sandbox.organizations[organization])).to_be_visible()


async def test_reconnect() -> None:
    """Again, in place; another organization is refused."""
    async with visiting() as (there, _context, page):
        await begin(there, page)
        await allow(page)
        await page.get_by_role("link", name="Reconnect").click()
        await page.get_by_label("Organization", exact=True).select_option(label="Beta")
        await allow(page)
        await expect(page.get_by_role("heading", name="that was another organization")).to_be_visible()
        await picture(page, "outcome-other-organization")
        await page.get_by_role("link", name="Try again").click()
        await page.get_by_label("Organization", exact=True).select_option(label="Acme")
        await allow(page)
        await expect(page.get_by_text("connected", exact=True)).to_be_visible()
        assert len(there.sandbox.ledger.families("Acme")) == 2


async def test_refresh_and_disconnect() -> None:
    """Both by a form; disconnecting asks first."""
    async with visiting() as (there, _context, page):
        await begin(there, page)
        await allow(page)
        await page.get_by_role("button", name="Refresh now").click()
        await expect(page.get_by_text("0 s ago")).to_be_visible()
        assert there.sandbox.ledger.count("refresh_token") == 1
        await page.locator("summary").click()
        await picture(page, "connections-disconnect")
        await page.get_by_role("button", name="Disconnect it").click()
        await expect(page.get_by_text("No organization is connected yet")).to_be_visible()
        assert [family.live for family in there.sandbox.ledger.families("Acme")] == [False]


async def test_an_expired_state() -> None:
    """Back from Tribe after half an hour."""
    now = 0.0
    async with visiting(store=MemoryStore(clock=lambda: now)) as (there, _context, page):
        await begin(there, page)
        now = 3600.0
        await allow(page)
        await expect(page.get_by_role("heading", name="does not work any more")).to_be_visible()
        await picture(page, "outcome-unknown")
        assert there.sandbox.ledger.token_requests == 0


async def test_a_forged_state() -> None:
    """A link that somebody else made."""
    async with visiting() as (there, _context, page):
        await page.goto(f"{there.address}/callback/?code=stolen-code&state=forged-forged")
        await expect(page.get_by_role("heading", name="the browser you began with")).to_be_visible()
        assert "stolen" not in page.url
        assert there.sandbox.ledger.token_requests == 0


async def test_another_browser() -> None:
    """A callback that is carried over to another browser is refused there, and still works in its own."""
    async with visiting() as (there, _context, page), browser() as other:
        await begin(there, page)
        callback = await there.sandbox.approve(page.url, organization="Acme")
        stranger = await other.new_page()
        await stranger.goto(callback)
        await expect(stranger.get_by_role("heading", name="the browser you began with")).to_be_visible()
        await picture(stranger, "outcome-other-browser")
        assert there.sandbox.ledger.token_requests == 0
        await page.goto(callback)  # it was not burnt there
        await expect(page.get_by_text(there.sandbox.organizations["Acme"])).to_be_visible()


async def test_another_account() -> None:
    """Signed in to another account when Tribe sends the browser back: told, and nothing is connected."""
    async with visiting() as (there, context, page):
        await begin(there, page)
        await context.add_cookies([{"name": "account", "value": "bob", "url": there.address}])
        await allow(page)
        await expect(page.get_by_role("heading", name="signed in to another account")).to_be_visible()
        await picture(page, "outcome-other-account")
        assert there.sandbox.ledger.token_requests == 0


async def test_who_may_not() -> None:
    """Nobody is signed in."""
    async with visiting() as (there, context, page):
        await context.clear_cookies()
        await page.goto(f"{there.address}/connections")
        await expect(page.get_by_role("heading", name="You cannot see this page")).to_be_visible()
        await picture(page, "forbidden")


async def test_all_states() -> None:
    """The connections page with everything it can show: for a person to look at."""
    store = MemoryStore()
    async with visiting(store=store) as (there, _context, page):
        await begin(there, page)
        await allow(page)
        for organization, status, cause in (
            ("bakkerij-bos", "reauthorization_required", "lost rotation"),
            ("a-name-that-is-much-longer-than-most-names-of-organizations-are", "connected", None),
        ):
            await store.swap(Record(organization=f"ann:{organization}", status=status, cause=cause))  # type: ignore[arg-type]
        await store.swap(Record(organization="ann:damaged", status="connected", payload=b"{"))
        waiting = Record(organization="ann:waiting", status="connected", failures=3, not_before=time.time() + 600)
        await store.swap(waiting)
        await page.goto(f"{there.address}/connections")
        for shown in (
            "has to be connected again",
            "An answer from Tribe was lost",
            "cannot be read",
            "waiting to try again",
        ):
            await expect(page.get_by_text(shown).first).to_be_visible()
        await picture(page, "connections")


@pytest.mark.parametrize(
    "outcome", ["connected-unsaved", "unavailable", "failed", "bad-request", "stale-form", "ahead-of-time"]
)
async def test_the_other_pages(outcome: str) -> None:
    """Those that no click leads to here."""
    async with visiting() as (there, _context, page):
        await page.goto(f"{there.address}/outcome/{outcome}")
        await expect(page.get_by_role("heading")).to_be_visible()
        await picture(page, f"outcome-{outcome}")
