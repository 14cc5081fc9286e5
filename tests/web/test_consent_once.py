"""What a browser, a scanner or another account does to a consent that is under way: only its person ends it, once."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from tribe_oauth import MemoryStore, StoreError
from tribe_oauth.web._flow import MAX_LINK
from tribe_oauth.web._pending import MAX_PENDING

from .world import account, browsing, world

AHEAD = [
    {"Sec-Purpose": "prefetch"},
    {"Sec-Purpose": "prefetch;prerender"},
    {"Sec-Purpose": "prefetch;anonymous-client-ip"},
    {"Purpose": "prefetch"},
    {"X-Purpose": "preview"},
    {"X-Moz": "prefetch"},
]


@pytest.mark.parametrize("header", AHEAD, ids=repr)
async def test_a_browser_that_looks_ahead(header: dict[str, str]) -> None:
    """S2: what is only prefetched begins and ends nothing; its answer is an error, which browsers throw away."""
    store = MemoryStore()
    async with world(store=store) as there, browsing(there) as browser:
        seen = await browser.get(there.path("connect"), headers=header)
        assert (seen.status, "Set-Cookie" in seen.headers, len(store._notes)) == (503, False, 0)
        callback = await browser.consent(await browser.start())
        seen = await browser.get(callback, headers=header)
        assert (seen.status, seen.headers["Cache-Control"]) == (503, "no-store")
        assert 'href="">Try again' in seen.text  # its own address, which does not stand in the page
        assert there.sandbox.ledger.token_requests == 0
        assert (await browser.get(callback)).outcome == "connected"
        assert (await browser.get(callback, headers=header)).status == 503


async def test_a_double_click() -> None:
    """S6: the second callback comes while the first is worked on: it waits, and shows what came of it."""
    async with world() as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        fault = there.sandbox.fault("hang")
        first = asyncio.ensure_future(browser.get(callback))
        await fault.reached()
        second = asyncio.ensure_future(browser.get(callback))
        await asyncio.wait({second}, timeout=0.3)
        assert not second.done()
        fault.release()
        assert [(await seen).outcome for seen in (first, second)] == ["connected"] * 2
        assert there.sandbox.ledger.count("authorization_code") == 1


async def test_a_reload_after_a_refusal() -> None:
    """Whatever came of the first is shown again, with the same link to start once more."""
    async with world() as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start("?next=/settings"), deny=True)
        answers = [await browser.get(callback) for _ in range(2)]
        assert [seen.outcome for seen in answers] == ["denied"] * 2
        assert answers[0].location == answers[1].location


async def test_an_outcome_that_cannot_be_kept(caplog: pytest.LogCaptureFixture) -> None:
    """The store fails after the connection was saved: it is connected all the same."""

    class Failing(MemoryStore):
        async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
            if b"outcome" in value:
                raise StoreError("the disk is full")
            return await super().put(key, value, lives_for=lives_for)

    async with world(store=Failing()) as there, browsing(there) as browser:
        assert (await browser.connect()).outcome == "connected"
        assert "could not be kept" in caplog.text


async def test_another_account_comes_back() -> None:
    """Begun by one account, consented while another is signed in: refused with a word, and nothing is exchanged."""
    async with world() as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start("?next=/settings"))
        browser.session.cookie_jar.update_cookies({"account": "bob"})
        seen = await browser.get(callback)
        assert seen.outcome == "other-account"
        page = await browser.get(seen.location)
        assert (page.status, "signed in to another account" in page.text) == (409, True)
        assert there.sandbox.ledger.token_requests == 0
        assert [key async for key in there.manager.organizations()] == []


async def test_signed_out_meanwhile() -> None:
    """The flow's cookie says whose it is: an expired sign-in, or a cookie that is not sent across sites, is no harm."""

    async def authorize(request: web.Request) -> str:
        if (name := account(request)) is None:
            raise web.HTTPSeeOther("/sign-in")
        return name

    for rule in (account, authorize):
        async with world(authorize=rule) as there, browsing(there) as browser:
            callback = await browser.consent(await browser.start())
            browser.session.cookie_jar.clear(lambda cookie: cookie.key == "account")
            assert (await browser.get(callback)).outcome == "connected"
            assert [key.partition(":")[0] async for key in there.manager.organizations()] == ["ann"]


async def test_an_operator_for_a_tenant() -> None:
    """Who connects a tenant's organization again as an operator comes back as one."""
    rule = lambda request: True if account(request) == "op" else account(request)  # noqa: E731
    async with world(authorize=rule) as there, browsing(there, "op") as operator:
        acme = there.sandbox.organizations["Acme"]
        callback = await operator.consent(await operator.start(f"?again=ann:{acme}"))
        operator.session.cookie_jar.update_cookies({"account": "ann"})
        assert (await operator.get(callback)).outcome == "other-account"
        operator.session.cookie_jar.update_cookies({"account": "op"})
        assert (await operator.connect(f"?again=ann:{acme}")).outcome == "connected"


async def test_a_store_that_an_account_fills() -> None:
    """However often a link is opened and however long it is: so many flows, of so many bytes; the newest works."""
    store = MemoryStore()
    async with world(store=store) as there, browsing(there) as browser:
        longest = "?next=/" + "x" * (MAX_LINK - 1)
        for _ in range(3 * MAX_PENDING):
            url = await browser.start(longest)
        assert len(store._notes) == MAX_PENDING + 1
        assert sum(len(value) for value, _ in store._notes.values()) < 10_000 * MAX_PENDING
        assert len(store._ends) < 2 * MAX_PENDING + 1100
        assert (await browser.get(await browser.consent(url))).location == "/" + "x" * (MAX_LINK - 1)
        assert (await browser.get(there.path("connect") + longest + "x")).status == 400


async def test_a_stranger_writes_nothing() -> None:
    """Callbacks of nobody's flows, with cookies made up for them: the store has nothing of them, nor has the log."""
    store = MemoryStore()
    async with world(store=store) as there, browsing(there, None) as stranger:
        for number in range(20):
            await stranger.get(there.path("callback") + f"?code=x&state=made-up-{number:040}")
        assert len(store._notes) == len(store._ends) == 0


async def test_a_name_that_is_too_long(caplog: pytest.LogCaptureFixture) -> None:
    """A form's organization that cannot be one is refused, and makes no long line in the log."""
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        form = await browser.form() | {"do": "refresh", "organization": "x" * 100_000}
        assert (await browser.post(there.path("connections"), form)).status == 400
        assert "xxxx" not in caplog.text
