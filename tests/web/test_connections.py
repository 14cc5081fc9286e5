"""The connections page, and sessions for handlers."""

from __future__ import annotations

import asyncio
import re
from html import escape
from typing import Any

import pytest
from aiohttp import web

from tribe_oauth import Client, MemoryStore, RefreshTokenGrant, StoreError, TokenManager, UnknownOrganizationError
from tribe_oauth import web as tribe_web
from tribe_oauth._refresh.payload import decode
from tribe_oauth.errors import ConfigurationError, ManagerError
from tribe_oauth.stores import Record
from tribe_oauth.web import _connections
from tribe_oauth.web._site import SITE

from .world import World, account, browsing, listening, serving, world


async def add(there: World, key: str, organization: str = "Acme") -> None:
    """Connect by a pasted token under a key."""
    await there.manager.connect(
        key, RefreshTokenGrant(there.client, there.sandbox.paste_token(organization, client=there.client))
    )


async def test_what_it_shows() -> None:
    """Organizations with state, permissions, age, next refresh; ways to connect, reconnect, refresh and disconnect."""
    async with world() as there, browsing(there) as browser:
        await browser.connect(scopes=["offline", "read"])
        text = (await browser.get(there.path("connections"))).text
        for shown in (
            there.sandbox.organizations["Acme"],
            ">connected<",
            "offline read",
            "0 s ago",
            "/tribe/connect?again=",
            'value="refresh"',
            'value="disconnect"',
            "Organizations in Tribe CRM: 1",
        ):
            assert shown in text
        assert re.search("in (19|2[0-2]) h", text)
        assert "<script" not in text


async def test_nothing_yet() -> None:
    """An empty list says so, and how to begin."""
    async with world() as there, browsing(there) as browser:
        text = (await browser.get(there.path("connections"))).text
        assert "No organization is connected yet" in text
        assert 'href="/tribe/connect?next=%2Ftribe%2Fconnections"' in text


async def test_headers() -> None:
    """S10: not stored, no referrer, a CSP without scripts; the style's hash is the style's."""
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        for path in ("connections", "outcome/denied", "outcome/nothing", "connect", "callback/?state=x"):
            headers = (await browser.get(there.path(path))).headers
            assert headers["Cache-Control"] == "no-store"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


async def test_only_ones_own() -> None:
    """Another tenant sees nothing of it, and cannot act on it either."""
    async with world() as there, browsing(there) as ann, browsing(there, "bob") as bob:
        await ann.connect()
        await bob.connect(organization="Beta")
        acme = there.sandbox.organizations["Acme"]
        assert acme not in (await bob.get(there.path("connections"))).text
        form = await bob.form()
        seen = await bob.post(there.path("connections"), form | {"organization": acme, "do": "disconnect"})
        assert seen.status == 303
        assert (await there.manager.status(f"ann:{acme}")).state == "fresh"


async def test_refresh_now() -> None:
    """One request, and back to the page."""
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        seen = await browser.post(there.path("connections"), await browser.form() | {"do": "refresh"})
        assert (seen.status, seen.location) == (303, "/tribe/connections")
        assert there.sandbox.ledger.count("refresh_token") == 1


async def test_a_refresh_that_fails() -> None:
    """The page says what went wrong, and when it is tried again."""
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        there.sandbox.fault("status", status=503, times=None, body="<b>down</b>")
        await browser.post(there.path("connections"), await browser.form() | {"do": "refresh"})
        text = (await browser.get(there.path("connections"))).text
        assert "waiting to try again" in text
        assert "nothing is lost" in text
        assert "503" not in text


async def test_what_an_operator_sees(caplog: pytest.LogCaptureFixture) -> None:
    """Those who run the application see the errors themselves."""
    store = MemoryStore()
    async with world(store=store, authorize=lambda request: True) as there, browsing(there) as browser:
        await browser.connect()
        await store.swap(Record(organization="broken", status="connected", payload=b"{"))
        there.sandbox.fault("status", status=503, times=None, body="<b>down</b>")
        await browser.post(
            there.path("connections"),
            await browser.form() | {"do": "refresh", "organization": there.sandbox.organizations["Acme"]},
        )
        text = (await browser.get(there.path("connections"))).text
        assert "HTTP 503" in text
        assert "restore it from a backup" in text
        logged = {record.name for record in caplog.records if record.name.startswith("tribe_oauth.web")}
        assert logged == {"tribe_oauth.web.connections"}
        assert "<b>" not in text


async def test_a_refresh_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser does not wait for ever; the refresh goes on."""
    monkeypatch.setattr(_connections, "PATIENCE", 0.05)
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        fault = there.sandbox.fault("hang")
        seen = await browser.post(there.path("connections"), await browser.form() | {"do": "refresh"})
        assert seen.status == 303
        fault.release()
        await there.manager.refresh()
        assert there.sandbox.ledger.spent_twice() == ()


async def test_disconnect() -> None:
    """Revoked at the server, and gone from the page."""
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        await browser.post(there.path("connections"), await browser.form() | {"do": "disconnect"})
        assert "No organization is connected" in (await browser.get(there.path("connections"))).text
        assert [family.live for family in there.sandbox.ledger.families("Acme")] == [False]


async def test_reauthorization_required() -> None:
    """What has to be connected again says so, with its cause."""
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        there.sandbox.fault("status", status=400, body='{"error": "invalid_grant"}', content_type="application/json")
        await browser.post(there.path("connections"), await browser.form() | {"do": "refresh"})
        text = (await browser.get(there.path("connections"))).text
        assert "has to be connected again" in text
        assert "taken back in Tribe" in text
        assert (await browser.connect(f"?again={there.sandbox.organizations['Acme']}")).outcome == "connected"
        assert "has to be connected again" not in (await browser.get(there.path("connections"))).text


@pytest.mark.parametrize("forged", [{"form": "x"}, {"form": ""}, {}])
async def test_forged_forms(forged: dict[str, str]) -> None:
    """A form without the page's own value changes nothing."""
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        form = await browser.form()
        seen = await browser.post(
            there.path("connections"), {"organization": form["organization"], "do": "disconnect", **forged}
        )
        assert seen.status == 403
        assert (await there.manager.status()).state == "fresh"


async def test_forms_from_elsewhere() -> None:
    """Another site's form is refused by where it comes from, and one without our cookie too."""
    async with world() as there, browsing(there) as browser, browsing(there) as fresh:
        await browser.connect()
        form = await browser.form() | {"do": "disconnect"}
        headers = {"Sec-Fetch-Site": "cross-site"}
        assert (await browser.post(there.path("connections"), form, headers=headers)).status == 403
        assert (await fresh.post(there.path("connections"), form)).status == 403
        assert (await there.manager.status()).state == "fresh"


async def test_a_form_that_cannot_be_understood() -> None:
    """Neither an action nor an organization that is text: a clear page."""
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        form = await browser.form()
        assert (await browser.post(there.path("connections"), form | {"do": "explode"})).status == 400
        assert (await browser.post(there.path("connections"), {"form": form["form"], "do": "refresh"})).status == 400


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"do": "refresh"}', "application/json", 400),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 400),
        (b"form=%FF&do=refresh", "application/x-www-form-urlencoded; charset=bogus", 400),
        (b"form=\xff", "application/x-www-form-urlencoded", 400),
        (b"form=%FF", "application/x-www-form-urlencoded", 403),
        (b"", "application/x-www-form-urlencoded", 403),
    ],
)
async def test_bodies_that_are_no_form(body: bytes, content_type: str, status: int) -> None:
    """Whatever is posted: a clear page."""
    async with world() as there, browsing(there) as browser:
        url = there.address + "/connections"
        async with browser.session.post(url, data=body, headers={"Content-Type": content_type}) as response:
            assert response.status == status, await response.text()


@pytest.mark.parametrize("cookie", ["x", "x" * 5000, "\xff" * 43, '"><script>'])
async def test_a_form_cookie_that_is_not_ours(cookie: str) -> None:
    """It is replaced, and shown nowhere."""
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        headers = {"Cookie": f"account=ann; tribe-form={cookie}"}
        seen = await browser.get(there.path("connections"), headers=headers)
        assert seen.status == 200
        assert "tribe-form=" in seen.headers["Set-Cookie"]
        assert f'value="{cookie}"' not in seen.text


async def test_other_tabs_stay_good() -> None:
    """The cookie of the forms comes along from Tribe too, and is the same all the time."""
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        first = await browser.form()
        seen = await browser.get(there.path("connections"))
        assert "SameSite=Lax" in seen.headers["Set-Cookie"]
        assert (await browser.form()) == first


async def test_names_are_text() -> None:
    """S10: whatever an organization is called, the page shows it and does not run it."""
    name = "<script>alert(1)</script>\"'&😀"
    async with world() as there, browsing(there) as browser:
        await add(there, f"ann:{name}")
        text = (await browser.get(there.path("connections"))).text
        assert "<script" not in text
        assert escape(name) in text
        assert (await browser.form())["organization"] == name


@pytest.mark.parametrize("page", ["0", "1", "2", "3", "4", "x", "%C2%B2", "99999999999"])
async def test_many_organizations(page: str) -> None:
    """Fifty on a page, in order; one that is not there is the nearest."""
    store = MemoryStore()
    async with world(store=store) as there, browsing(there) as browser:
        for number in range(120):
            await store.swap(Record(organization=f"ann:{number:03}", status="connected"))
        seen = await browser.get(there.path("connections") + f"?page={page}")
        rows = re.findall(r'<th scope="row">(\d+)</th>', seen.text)
        number = {"2": 2, "3": 3, "4": 3}.get(page, 1)
        assert rows == [f"{n:03}" for n in range(50 * (number - 1), min(120, 50 * number))]
        assert ("Earlier" in seen.text, "Later" in seen.text) == (number > 1, number < 3)


async def test_a_record_that_cannot_be_read() -> None:
    """One damaged record is shown as that; the others are there."""
    store = MemoryStore()
    async with world(store=store) as there, browsing(there) as browser:
        await browser.connect()
        await store.swap(Record(organization="ann:broken", status="connected", payload=b"{"))
        text = (await browser.get(there.path("connections"))).text
        assert "cannot be read" in text
        assert there.sandbox.organizations["Acme"] in text


async def test_a_damaged_record_is_replaced() -> None:
    """Connecting again is the remedy for it."""
    store = MemoryStore()
    async with world(store=store) as there, browsing(there) as browser:
        key = f"ann:{there.sandbox.organizations['Acme']}"
        await store.swap(Record(organization=key, status="connected", payload=b"{"))
        assert (await browser.connect(f"?again={there.sandbox.organizations['Acme']}")).outcome == "connected"
        record = await store.load(key)
        assert record is not None
        assert decode(record).token is not None
        assert "cannot be read" not in (await browser.get(there.path("connections"))).text


async def test_disconnected_while_it_is_listed() -> None:
    """An organization that goes away between the list and its status is left out."""

    class Listing(MemoryStore):
        async def organizations(self) -> Any:
            yield "ann:gone"

    async with world(store=Listing()) as there, browsing(there) as browser:
        seen = await browser.get(there.path("connections"))
        assert (seen.status, ">gone<" in seen.text) == (200, False)


async def test_the_store_is_down() -> None:
    """The page, and disconnecting, say to wait."""

    class Down(MemoryStore):
        down = False

        async def organizations(self) -> Any:
            if self.down:
                raise StoreError("the store does not answer")
            async for key in super().organizations():
                yield key

        async def load(self, organization: str) -> Record | None:
            if self.down:
                raise StoreError("the store does not answer")
            return await super().load(organization)

    store = Down()
    async with world(store=store) as there, browsing(there) as browser:
        await browser.connect()
        form = await browser.form() | {"do": "disconnect"}
        store.down = True
        assert (await browser.get(there.path("connections"))).status == 503
        seen = await browser.post(there.path("connections"), form)
        assert (seen.status, "Not disconnected yet" in seen.text) == (503, True)


async def test_pages_of_ones_own() -> None:
    """Callers put their own pages in place; the headers are added."""

    class Own(tribe_web.Pages):
        async def outcome(
            self, request: web.Request, outcome: tribe_web.Outcome, links: tribe_web.Links
        ) -> web.StreamResponse:
            return web.Response(text=f"{outcome.value} {links.again}")

        async def connections(self, request: web.Request, view: tribe_web.Connections) -> web.StreamResponse:
            names = ", ".join(row.organization for row in view.rows)
            return web.Response(text=names, headers={"Content-Security-Policy": "default-src 'self'"})

    async with world(pages=Own()) as there, browsing(there) as browser:
        seen = await browser.get((await browser.connect()).location)
        assert (seen.text, seen.headers["Cache-Control"]) == ("connected None", "no-store")
        page = await browser.get(there.path("connections"))
        assert page.text == there.sandbox.organizations["Acme"]
        assert page.headers["Content-Security-Policy"] == "default-src 'self'"


# Sessions for handlers


async def persons(request: web.Request) -> web.Response:
    try:
        async with (
            tribe_web.session(request, request.match_info["organization"]) as session,
            session.get("/v1/odata/Relation_Person", params={"$top": "3"}) as response,
        ):
            return web.json_response((await response.json())["value"])
    except UnknownOrganizationError:
        raise web.HTTPNotFound from None


async def mine(request: web.Request) -> web.Response:
    return web.json_response([organization async for organization in tribe_web.organizations(request)])


def with_handlers(app: web.Application, manager: TokenManager) -> web.Application:
    tribe_web.setup(app, manager, authorize=account)
    app.router.add_get("/persons/{organization}", persons)
    app.router.add_get("/mine", mine)
    return app


async def test_a_session_for_a_request() -> None:
    """An authenticated session in one call, for an organization of whoever asks and of nobody else."""
    async with world(build=with_handlers) as there, browsing(there) as ann, browsing(there, "bob") as bob:
        await ann.connect()
        acme = there.sandbox.organizations["Acme"]
        seen = await ann.get(f"/persons/{acme}")
        assert seen.text.count('"FirstName"') == 3
        assert (await ann.get("/mine")).text == f'["{acme}"]'
        assert (await bob.get("/mine")).text == "[]"
        assert (await ann.get(f"/persons/{acme.upper()}")).status == 200
        assert (await bob.get(f"/persons/{acme}")).status == 404
        assert (await ann.get(f"/persons/{'x' * 600}")).status == 404
        async with browsing(there, None) as stranger:
            assert (await stranger.get(f"/persons/{acme}")).status == 403


async def test_the_manager_for_handlers() -> None:
    """The manager is where its key says, and closed with the application."""
    async with world() as there:
        assert there.app[tribe_web.MANAGER] is there.manager
        with pytest.raises(UnknownOrganizationError):
            await there.manager.token("nobody")
    with pytest.raises(ManagerError):
        await there.manager.token("nobody")


async def test_without_setup() -> None:
    """A handler of an application without it is told what to call."""
    app = web.Application()
    app.router.add_get("/tribe/mine", mine)
    async with world(build=lambda _app, _manager: app) as there, browsing(there) as browser:
        assert (await browser.get("/tribe/mine")).status == 500


# Where the pages are


async def test_in_a_sub_application() -> None:
    """Set up in a sub-app: its prefix is taken away by the parent, so `path` says what is left."""

    def build(app: web.Application, manager: TokenManager) -> web.Application:
        sub = web.Application()
        tribe_web.setup(sub, manager, authorize=account, path="/tribe")
        app.add_subapp("/admin", sub)
        return app

    async with world(build=build, base="/admin/tribe") as there, browsing(there) as browser:
        seen = await browser.connect("?next=/admin/tribe/connections")
        assert there.sandbox.organizations["Acme"] in (await browser.get(seen.location)).text


async def test_behind_a_proxy_that_takes_a_prefix_away() -> None:
    """S5: the browser sees another path, host and scheme than this app; all of it comes from the redirect URI."""
    store = MemoryStore()
    async with world(store=store, base="") as there, browsing(there) as browser:
        client = there.sandbox.client(redirect_uri="https://app.example/ext/tribe/callback")
        app = web.Application()
        tribe_web.setup(app, TokenManager(client, store=store), authorize=account, path="/tribe")
        listener = listening()
        async with serving(app, listener):
            local = f"http://127.0.0.1:{listener.getsockname()[1]}/tribe"
            headers = {"Host": "evil.example"}
            seen = await browser.get(f"{local}/connect", headers=headers)
            assert "evil" not in str(seen.headers)
            assert "redirect_uri=https%3A%2F%2Fapp.example%2Fext%2Ftribe%2Fcallback" in seen.location
            cookie = seen.headers["Set-Cookie"]
            assert cookie.startswith("__Host-tribe-flow-")
            assert "Secure" in cookie
            assert "Path=/" in cookie
            callback = await browser.consent(seen.location)
            assert callback.startswith("https://app.example/ext/tribe/callback/?")
            headers["Cookie"] = cookie.partition(";")[0]
            done = await browser.get(callback.replace("https://app.example/ext/tribe", local), headers=headers)
            assert done.location == "/ext/tribe/outcome/connected"
            old = "; ".join(f"__Host-tribe-flow-{number:016x}=x" for number in range(16))
            seen = await browser.get(f"{local}/connect", headers={"Cookie": f"account=ann; {old}"})
            (deleted,) = [cookie for cookie in seen.headers.getall("Set-Cookie") if "Max-Age=0" in cookie]
            assert deleted.startswith("__Host-tribe-flow-0000000000000000=")
            assert "Secure" in deleted
            page = await browser.get(f"{local}/connections", headers={"Cookie": "account=ann"})
            assert 'action="/ext/tribe/connections"' in page.text
            assert page.headers["Set-Cookie"].startswith("__Host-tribe-form=")


@pytest.mark.parametrize(
    ("redirect_uri", "path", "says"),
    [
        (None, None, "redirect_uri"),
        ("https://app.example", None, "no path"),
        ("https://app.example/", None, "no path"),
        ("https://app.example/a/callback", "/b", "'/a/callback'"),
        ("https://app.example/a/callback", "a", "'/a/callback'"),
    ],
)
def test_setup_that_cannot_work(redirect_uri: str | None, path: str | None, says: str) -> None:
    """One clear error, at once, that names the remedy."""
    manager = TokenManager(Client("id", "secret", redirect_uri=redirect_uri))
    with pytest.raises(ConfigurationError, match=says):
        tribe_web.setup(web.Application(), manager, path=path)


def test_setup_twice() -> None:
    """The second would run in the first one's place: refused."""
    app, client = web.Application(), Client("id", "secret", redirect_uri="https://app.example/tribe/callback")
    tribe_web.setup(app, TokenManager(client))
    with pytest.raises(ConfigurationError, match="already"):
        tribe_web.setup(app, TokenManager(client))


async def test_behind_a_proxy_when_the_store_is_down() -> None:
    """The link to try again leads where the browser sees it."""

    class Down(MemoryStore):
        async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
            raise StoreError("the store does not answer")

    async with world(store=Down()) as there, browsing(there) as browser:
        object.__setattr__(there.app[SITE], "base", "/ext/tribe")
        seen = await browser.get(there.path("connect") + "?next=/x&a=b")
        assert 'href="/ext/tribe/connect?next=%2Fx"' in seen.text


def test_a_manager_without_a_client() -> None:
    """Then setup() has to be given one."""
    with pytest.raises(ConfigurationError, match="or to setup"):
        tribe_web.setup(web.Application(), TokenManager())


async def test_at_the_root() -> None:
    """A redirect URI right under the host."""
    async with world(base="") as there, browsing(there) as browser:
        assert (await browser.connect()).location == "/outcome/connected"


async def test_many_at_once() -> None:
    """Browsers that connect at the same time do not see each other."""
    names = [f"tenant {number}" for number in range(20)]
    async with world() as there:

        async def one(name: str) -> str:
            async with browsing(there, name.replace(" ", "-")) as browser:
                return (await browser.connect()).outcome

        assert set(await asyncio.gather(*map(one, names))) == {"connected"}
        assert len([key async for key in there.manager.organizations()]) == 20
