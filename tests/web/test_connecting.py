"""From the connect link to a connection: what works, and what is refused."""

from __future__ import annotations

import asyncio
import json
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from aiohttp import ClientSession, web
from yarl import URL

from tribe_oauth import ClientCredentialsGrant, MemoryStore, Secret, StoreError, TokenManager, TribeOAuthError
from tribe_oauth import web as tribe_web
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sandbox import PROFILES
from tribe_oauth.web._pending import COOKIE_LIFETIME, LIFETIME, cookie_name
from tribe_oauth.web._site import SITE

from ..manager.helpers import VirtualClock
from .world import World, account, browsing, listening, serving, world


async def keys(there: World) -> list[str]:
    return sorted([key async for key in there.manager.organizations()])


async def test_an_organization_connects_itself() -> None:
    """One link and one consent: the organization is found by asking the API, and kept under the tenant."""
    async with world() as there, browsing(there) as browser:
        seen = await browser.connect()
        assert (seen.status, seen.outcome) == (303, "connected")
        page = await browser.get(seen.location)
        assert page.status == 200
        assert "Your organization is connected" in page.text
        assert await keys(there) == [f"ann:{there.sandbox.organizations['Acme']}"]


async def test_afterwards_it_goes_on_where_it_should() -> None:
    """`next` is followed when all went well."""
    async with world() as there, browsing(there) as browser:
        seen = await browser.connect("?next=/settings%3Ftab%3D2")
        assert seen.location == "/settings?tab=2"


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "\\/evil.example", "settings", "", "/a\nb", "/a b"],
)
async def test_next_is_a_path_here(target: str) -> None:
    """S9: anything that may lead elsewhere is refused before anything is begun."""
    async with world() as there, browsing(there) as browser:
        seen = await browser.get(there.path("connect") + "?next=" + quote(target, safe=""))
        assert seen.status == 400
        assert "evil" not in seen.text


@pytest.mark.parametrize(
    "query", ["?organization=", "?again=" + "x" * 301, "?again=%C3%A9" + "x" * 299, "?next=/a&next=/b", "?a=1&a=2"]
)
async def test_a_link_that_cannot_be_understood(query: str) -> None:
    """One clear page, no flow."""
    async with world() as there, browsing(there) as browser:
        seen = await browser.get(there.path("connect") + query)
        assert (seen.status, "Set-Cookie" in seen.headers) == (400, False)


async def test_state_and_cookie() -> None:
    """S1: 256 random bits, kept as a hash; a cookie for each flow that scripts do not see."""
    kept: dict[str, bytes] = {}

    class Watched(MemoryStore):
        async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
            kept[key] = value
            assert lives_for == LIFETIME
            return await super().put(key, value, lives_for=lives_for)

    async with world(store=Watched()) as there, browsing(there) as browser:
        first = await browser.get(there.path("connect"))
        second = await browser.get(there.path("connect"))
        states = [dict(parse_qsl(urlsplit(seen.location).query))["state"] for seen in (first, second)]
        assert len(set(states)) == 2
        assert all(len(state) >= 43 for state in states)
        cookies = [SimpleCookie(seen.headers["Set-Cookie"]) for seen in (first, second)]
        assert len({name for cookie in cookies for name in cookie}) == 2
        for cookie in cookies:
            for morsel in cookie.values():
                assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Lax", "/")
                assert morsel["max-age"] == str(COOKIE_LIFETIME)
                assert not morsel["secure"]  # plain http, on loopback
                assert morsel.value not in str(kept)
        assert not any(state in str(kept) for state in states)
        assert len([key for key in kept if key.startswith("authorization:")]) == 2


async def test_pkce() -> None:
    """S3: S256, another verifier for each flow, which never leaves for the browser."""
    async with world() as there, browsing(there) as browser:
        queries = [dict(parse_qsl(urlsplit(await browser.start()).query)) for _ in range(2)]
        assert {query["code_challenge_method"] for query in queries} == {"S256"}
        assert len({query["code_challenge"] for query in queries}) == 2


async def test_many_open_flows() -> None:
    """The cookies of flows that nobody ends do not pile up; the newest works."""
    async with world() as there, browsing(there) as browser:
        for _ in range(30):
            url = await browser.start()
        flows = [cookie.key for cookie in browser.session.cookie_jar if cookie.key.startswith("tribe-flow-")]
        assert len(flows) == 16
        seen = await browser.get(await browser.consent(url))
        assert seen.outcome == "connected"


async def test_two_tabs() -> None:
    """Two flows of one browser at once, ended in the other order."""
    async with world() as there, browsing(there) as browser:
        first, second = await browser.start(), await browser.start()
        assert (await browser.get(await browser.consent(second, organization="Beta"))).outcome == "connected"
        assert (await browser.get(await browser.consent(first, organization="Acme"))).outcome == "connected"
        assert len(await keys(there)) == 2


async def test_a_hundred_callbacks_with_one_state() -> None:
    """S2: the state is good once; a hundred callbacks make one exchange, and all show what came of it."""
    async with world() as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        seen = await asyncio.gather(*(browser.get(callback) for _ in range(100)))
        assert [one.outcome for one in seen] == ["connected"] * 100
        assert there.sandbox.ledger.count("authorization_code") == 1
        assert not there.sandbox.ledger.reused()


async def test_a_reload_kills_nothing() -> None:
    """S2, S6: the code is not exchanged a second time, which would revoke the live connection."""
    async with world() as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start("?next=/settings"))
        for _ in range(3):
            assert (await browser.get(callback)).location == "/settings"
        assert there.sandbox.ledger.count("authorization_code") == 1
        token = await there.manager.token()
        assert there.sandbox.ledger.is_live(token.access_token.reveal())


async def test_another_browser() -> None:
    """S1: a callback without the flow's cookie connects nothing, and ends nothing: a scanner of links burns no code."""
    async with world() as there, browsing(there) as browser, browsing(there, "eve") as other:
        callback = await browser.consent(await browser.start())
        state = dict(parse_qsl(urlsplit(callback).query))["state"]
        name = cookie_name(Secret(state), secure=False)
        for cookie in ({}, {"Cookie": f"account=ann; {name}=guessed"}):
            seen = await other.get(callback, headers=cookie)
            assert seen.outcome == ("unknown" if cookie else "other-browser")
        assert there.sandbox.ledger.token_requests == 0
        assert (await browser.get(callback)).outcome == "connected"


@pytest.mark.parametrize("query", ["", "?state=forged-forged-forged&code=x", "?state=%ED%A0%80&code=x", "?code=x"])
async def test_a_forged_state(query: str) -> None:
    """A callback that nobody waits for goes to a page, and nothing is exchanged."""
    async with world() as there, browsing(there) as browser:
        outcome = (await browser.get(there.path("callback/") + query)).outcome
        assert outcome == ("other-browser" if "state" in query else "unknown")
        assert there.sandbox.ledger.token_requests == 0


async def test_a_doubled_parameter() -> None:
    """S10: refused, whichever it is."""
    async with world() as there, browsing(there) as browser:
        for double in ("code=x", "state=y", "scope=read"):
            callback = await browser.consent(await browser.start())
            assert (await browser.get(f"{callback}&{double}")).outcome == "unknown"
        assert there.sandbox.ledger.token_requests == 0


async def test_an_old_state() -> None:
    """It lives half an hour, by the store's clock."""
    now = 0.0
    async with world(store=MemoryStore(clock=lambda: now)) as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        now = LIFETIME + 1.0
        assert (await browser.get(callback)).outcome == "unknown"
        assert there.sandbox.ledger.token_requests == 0


async def test_slash_or_no_slash() -> None:
    """Tribe adds a slash to the redirect URI before the question mark; others do not."""
    async with world() as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        assert "/callback/?" in callback
        assert (await browser.get(callback.replace("/callback/?", "/callback?"))).outcome == "connected"


async def test_head_consumes_nothing() -> None:
    """A link checker's HEAD does not use up the state."""
    async with world() as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        async with browser.session.head(callback) as response:
            assert response.status == 405
        assert (await browser.get(callback)).outcome == "connected"


async def test_a_denial() -> None:
    """The customer is told that nothing was changed, and may try again with the same link."""
    async with world() as there, browsing(there) as browser:
        seen = await browser.connect("?next=/settings", deny=True)
        assert seen.outcome == "denied"
        page = await browser.get(seen.location)
        assert (page.status, "/tribe/connect?next=%2Fsettings" in page.text) == (403, True)
        assert await keys(there) == []


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ("access_denied", "denied"),
        ("login_required", "denied"),
        ("a_code_of_its_own", "denied"),
        ("temporarily_unavailable", "unavailable"),
        ("server_error", "unavailable"),
        ("invalid_scope", "failed"),
        ("unauthorized_client", "failed"),
    ],
)
async def test_errors_in_the_callback(error: str, outcome: str) -> None:
    """RFC 6749 §4.1.2.1: what is the customer's doing, what passes, and what is ours."""
    async with world() as there, browsing(there) as browser:
        state = dict(parse_qsl(urlsplit(await browser.start()).query))["state"]
        seen = await browser.get(there.path("callback/") + f"?error={error}&error_description=%3Cb%3Eno&state={state}")
        assert seen.outcome == outcome
        assert "<b>" not in (await browser.get(seen.location)).text


async def test_another_issuer() -> None:
    """S4: an `iss` that is not ours."""
    async with world() as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        assert (await browser.get(callback + "&iss=https://evil.example")).outcome == "unknown"
        assert there.sandbox.ledger.token_requests == 0


async def test_less_was_granted() -> None:
    """S7: a narrowed scope connects, and is said."""
    async with world() as there, browsing(there) as browser:
        seen = await browser.connect(scopes=["read", "offline"])
        assert seen.outcome == "connected-with-less"
        assert (await there.manager.token()).scope == frozenset({"read", "offline"})


async def test_offline_was_not_granted() -> None:
    """S7: said at once, with the remedy, and nothing is stored."""
    async with world() as there, browsing(there) as browser:
        seen = await browser.connect(scopes=["read", "write"])
        assert seen.outcome == "not-offline"
        assert "leave that permission ticked" in " ".join((await browser.get(seen.location)).text.split())
        assert await keys(there) == []


async def test_more_was_granted(caplog: pytest.LogCaptureFixture) -> None:
    """S7: refused; whose fault it is stands in the log."""
    async with world() as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        seen = await browser.get(callback.replace("scope=read", "scope=admin%20read"))
        assert seen.outcome == "failed"
        assert "more was granted" in caplog.text
        assert [record.name for record in caplog.records if record.levelname == "ERROR"] == ["tribe_oauth.web.flow"]


async def test_pinned() -> None:
    """`organization` pins one by Tribe's id: its consent page offers no other."""
    async with world() as there, browsing(there) as browser:
        beta = there.sandbox.organizations["Beta"]
        url = await browser.start(f"?organization={beta.upper()}")
        assert f"organization_id={beta}" in url
        with pytest.raises(RuntimeError, match="no organization"):
            await browser.consent(url, organization="Acme")
        assert (await browser.get(await browser.consent(url, organization="Beta"))).outcome == "connected"
        assert await keys(there) == [f"ann:{beta}"]


async def test_another_organization_consents() -> None:
    """S8: to connect it again, it has to be the same; nothing is overwritten and the new tokens are revoked."""
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        acme = there.sandbox.organizations["Acme"]
        before = await there.manager.token()
        seen = await browser.connect(f"?again={acme}", organization="Beta")
        assert seen.outcome == "other-organization"
        assert await keys(there) == [f"ann:{acme}"]
        assert await there.manager.token() == before
        assert [family.live for family in there.sandbox.ledger.families("Beta")] == [False]


async def test_connecting_again_in_place() -> None:
    """The old family works until the new one is saved; then the new one does."""
    async with world() as there, browsing(there) as browser:
        await browser.connect()
        before = await there.manager.token()
        seen = await browser.connect(f"?again={there.sandbox.organizations['Acme']}")
        assert seen.outcome == "connected"
        after = await there.manager.token()
        assert after != before
        assert there.sandbox.ledger.is_live(after.access_token.reveal())


async def test_several_workers() -> None:
    """The callback may come to another worker than the link did: what is pending is in the store."""
    store = MemoryStore()
    async with world(store=store) as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        async with TokenManager(there.client, store=store) as other:
            app = web.Application()
            tribe_web.setup(app, other, authorize=account)
            listener = listening()
            async with serving(app, listener):
                port = listener.getsockname()[1]
                moved = callback.replace(f":{urlsplit(callback).port}", f":{port}")
                assert (await browser.get(moved)).outcome == "connected"


async def test_the_client_was_changed_meanwhile() -> None:
    """A deploy with another client ends the flows that are under way, with a page."""
    store = MemoryStore()
    async with world(store=store) as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        site = there.app[SITE]
        other = there.sandbox.client(redirect_uri=f"{there.address}/callback")
        object.__setattr__(site, "client", other)
        assert (await browser.get(callback)).outcome == "unknown"


async def test_the_store_is_down() -> None:
    """No flow begins, none is finished, and the pages say to wait."""

    class Down(MemoryStore):
        down = True

        async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
            if self.down:
                raise StoreError("the store does not answer")
            return await super().put(key, value, lives_for=lives_for)

        async def take(self, key: str) -> bytes | None:
            if self.down:
                raise StoreError("the store does not answer")
            return await super().take(key)

    store = Down()
    async with world(store=store) as there, browsing(there) as browser:
        assert (await browser.get(there.path("connect") + "?next=/x")).status == 503
        store.down = False
        callback = await browser.consent(await browser.start())
        store.down = True
        seen = await browser.get(callback)
        assert seen.outcome == "unavailable"
        assert (await browser.get(seen.location)).status == 503
        assert there.sandbox.ledger.token_requests == 0
        store.down = False  # nothing is burnt by it
        assert (await browser.get(callback)).outcome == "connected"


async def test_the_store_is_down_after_the_exchange() -> None:
    """The tokens are kept, work, and are saved as soon as the store takes them."""

    class Failing(MemoryStore):
        failing = False
        saved = asyncio.Event()

        async def swap(self, record: Any, *, lease_for: float | None = None) -> Any:
            if self.failing:
                raise StoreError("the disk is full")
            stored = await super().swap(record, lease_for=lease_for)
            self.saved.set()
            return stored

    store = Failing()
    async with world(store=store) as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        store.failing = True
        seen = await browser.get(callback)
        assert seen.outcome == "connected-unsaved"
        assert (await browser.get(seen.location)).status == 202
        key = f"ann:{there.sandbox.organizations['Acme']}"
        assert there.sandbox.ledger.is_live((await there.manager.token(key)).access_token.reveal())
        store.failing = False
        await asyncio.wait_for(store.saved.wait(), 10)
        assert await keys(there) == [key]


async def test_the_code_cannot_be_exchanged() -> None:
    """An answer that is lost: the code may be spent, so it is never sent again; the customer starts once more."""
    async with world() as there, browsing(there) as browser:
        there.sandbox.fault("lost_answer")
        assert (await browser.connect()).outcome == "unavailable"
        assert there.sandbox.ledger.count("authorization_code") == 1
        assert (await browser.connect()).outcome == "connected"


@pytest.mark.parametrize("profile", PROFILES)
async def test_the_client_is_refused(profile: str, caplog: pytest.LogCaptureFixture) -> None:
    """F9: for a moment, and nobody notices; for longer, it is a setting where the client never worked, else a fault."""
    clock = VirtualClock()
    async with world(sandbox={"profile": profile}, manager={"clock": clock}) as there, browsing(there) as browser:
        fault = there.sandbox.fault("database_away", times=None)
        assert (await browser.connect()).outcome == "failed"
        assert "a server whose database is away says the same" in caplog.text
        fault.cancel()
        there.sandbox.fault("database_away", times=2)
        assert (await browser.connect()).outcome == "connected"
        there.sandbox.fault("database_away", times=None)
        assert (await browser.connect()).outcome == "unavailable"
        assert "which worked before" in caplog.text


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_consent_that_loses_the_challenge(profile: str, caplog: pytest.LogCaptureFixture) -> None:
    """S3: the customer is not told of an old link: the log names the setting, which helps."""
    lost = ("code_challenge", "code_challenge_method")
    async with world(sandbox={"profile": profile}) as there, browsing(there) as browser:
        url = URL(await browser.start()).without_query_params(*lost)
        assert (await browser.get(await browser.consent(str(url)))).outcome == "failed"
        assert "pkce=False for authorization_request or web.setup" in caplog.text
    async with world(sandbox={"profile": profile}, pkce=False) as there, browsing(there) as browser:
        url = URL(await browser.start())
        assert not url.query.keys() & set(lost)
        assert (await browser.get(await browser.consent(str(url)))).outcome == "connected"


async def test_the_code_has_run_out() -> None:
    """A code that the server does not know any more: the link does not work any more."""
    async with world() as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        async with ClientSession() as session:  # whoever saw the code spends it elsewhere
            query = dict(parse_qsl(urlsplit(callback).query))
            form = {
                "grant_type": "authorization_code",
                "code": query["code"],
                "client_id": there.client.client_id,
                "client_secret": there.client.client_secret.reveal(),
            }
            async with session.post(there.client.endpoints.token_endpoint, data=form) as response:
                assert response.status == 400
        altered = callback.replace(query["code"], "x" * 20)
        assert (await browser.get(altered)).outcome == "unknown"


async def test_the_api_does_not_say_who_it_is() -> None:
    """The organization cannot be found: the new tokens are revoked, nothing is stored."""
    async with world() as there, browsing(there) as browser:
        there.sandbox.fault("status", endpoint="api", times=None, status=500)
        assert (await browser.connect()).outcome == "unavailable"
        assert [family.live for family in there.sandbox.ledger.families("Acme")] == [False]
        assert await keys(there) == []


async def test_a_function_that_finds_it() -> None:
    """A caller's own `find` is asked with a session that carries the new token; its errors cost nothing."""
    answers: list[object] = []

    async def find(session: ClientSession) -> str:
        async with session.get("/v1/odata/GetCurrentEmployee()") as response:
            assert response.status == 200
        if isinstance(answers[0], BaseException):
            raise answers.pop(0)  # type: ignore[misc]
        return str(answers.pop(0))

    async with world(find=find) as there, browsing(there) as browser:
        answers[:] = [TribeOAuthError("not this one"), ZeroDivisionError(), "x" * 600, "customer 7"]
        outcomes = [(await browser.connect()).outcome for _ in range(4)]
        assert outcomes == ["failed", "failed", "failed", "connected"]
        assert await keys(there) == ["ann:customer 7"]
        assert [family.live for family in there.sandbox.ledger.families("Acme")] == [False] * 3 + [True]


async def test_a_new_token_that_the_api_refuses() -> None:
    """There is no other to try: the function sees the 401, and nothing is stored."""

    async def find(session: ClientSession) -> str:
        async with session.get("/v1/odata/GetCurrentEmployee()") as response:
            return f"status {response.status}"

    async with world(find=find) as there, browsing(there) as browser:
        there.sandbox.fault("status", endpoint="api", times=None, status=401)
        await browser.connect()
        assert await keys(there) == ["ann:status 401"]
        assert there.sandbox.ledger.count("refresh_token") == 0


async def test_only_a_code_is_connected_before_it_is_known_whose() -> None:
    """Other grants are stored before they are spent, so they need the organization's key."""
    async with world() as there:
        with pytest.raises(ConfigurationError, match="only an authorization code"):
            await there.manager.connect(tribe_web.organization_id, ClientCredentialsGrant(there.client))


@pytest.mark.parametrize("found", ["", None, 42, "x" * 301, "\ud800"])
async def test_a_function_that_finds_nonsense(found: object, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be an organization is not stored, and the log says whose fault it is."""

    async def find(session: ClientSession) -> Any:
        return found

    async with world(find=find) as there, browsing(there) as browser:
        assert (await browser.connect()).outcome == "failed"
        assert "find() returned" in caplog.text
        assert await keys(there) == []
        assert [family.live for family in there.sandbox.ledger.families("Acme")] == [False]


async def test_a_function_that_never_finds_it() -> None:
    """It has as long as a token request has; then the new tokens are revoked, and the customer is told."""

    async def find(session: ClientSession) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async with world(find=find, manager={"request_timeout": 0.2}) as there, browsing(there) as browser:
        assert (await browser.connect()).outcome == "unavailable"
        assert [family.live for family in there.sandbox.ledger.families("Acme")] == [False]


async def test_whatever_is_found_can_be_connected_again() -> None:
    """S28: spaces, colons, hashes, capitals, NUL: one key, in the list, in a session, and in the link to reconnect."""
    names = ["Acme\xa0B.V.", "nl:acme", "d41d8cd98f00b204e9800998ecf8427e", "ACME", "é" * 150, "a\0b", "../😀"]
    current = ""

    async def find(session: ClientSession) -> str:
        return current

    async with world(find=find) as there, browsing(there) as browser:
        for current in names:
            assert (await browser.connect()).outcome == "connected"
            assert (await browser.connect(f"?again={quote(current, safe='')}")).outcome == "connected"
        assert await keys(there) == sorted(f"ann:{name}" for name in names)


async def test_an_operator_does_not_connect_as_a_tenant() -> None:
    """A colon without a tenant before it would be some tenant's organization."""

    async def find(session: ClientSession) -> str:
        return "ann:acme"

    async with world(find=find, authorize=lambda request: True) as there, browsing(there) as browser:
        assert (await browser.connect()).outcome == "failed"
        assert (await browser.get(there.path("connect") + "?organization=ann:acme")).status == 400


async def test_a_link_from_a_mail() -> None:
    """What others add to a link is passed over."""
    async with world() as there, browsing(there) as browser:
        assert (await browser.connect("?utm_source=x&next=/caf%C3%A9%3Fa=b")).location == "/caf%C3%A9?a=b"


async def test_less_was_granted_on_the_way_elsewhere() -> None:
    """It is told all the same, with a link to continue."""
    async with world() as there, browsing(there) as browser:
        seen = await browser.connect("?next=/settings", scopes=["read", "offline"])
        assert seen.outcome == "connected-with-less"
        page = await browser.get(seen.location)
        assert 'href="/settings">Continue' in page.text
        assert "Connect again" in page.text
        assert (await browser.get(there.path("outcome/connected") + "?next=//evil.example")).status == 400


async def test_a_note_of_another_version() -> None:
    """What was begun by a version that kept it differently cannot be finished, and says so."""

    class Older(MemoryStore):
        async def take(self, key: str) -> bytes | None:
            return None if await super().take(key) is None else b"{}"

    async with world(store=Older()) as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        assert (await browser.get(callback)).outcome == "unknown"


async def test_while_the_application_ends() -> None:
    """A manager that is closing: another worker may answer the next attempt."""
    async with world() as there, browsing(there) as browser:
        callback = await browser.consent(await browser.start())
        await there.manager.close()
        assert (await browser.get(callback)).outcome == "unavailable"


async def test_other_cookies() -> None:
    """Cookies that only look like ours are left alone, however odd their names are."""
    async with world() as there, browsing(there) as browser:
        odd = "; ".join(f"tribe-flow-{{{number}}}=x" for number in range(40))
        seen = await browser.get(there.path("connect"), headers={"Cookie": f"account=ann; {odd}"})
        assert (seen.status, len(seen.headers.getall("Set-Cookie"))) == (303, 1)


async def test_nothing_to_find_it_by() -> None:
    """The ready function says what to do where the API's answer is of another shape."""
    async with world() as there, browsing(there) as browser:
        answer = {"value": [{"Name": "x", "Relation": None}]}
        there.sandbox.fault("body", endpoint="api", body=json.dumps(answer), content_type="application/json")
        assert (await browser.connect()).outcome == "failed"


async def test_without_looking() -> None:
    """find=None: the link has to pin the organization, and whoever consents is believed."""
    async with world(find=None) as there, browsing(there) as browser:
        assert (await browser.get(there.path("connect"))).status == 400
        acme = there.sandbox.organizations["Acme"]
        assert (await browser.connect(f"?organization={acme}")).outcome == "connected"
        assert (await browser.connect(f"?again={acme}")).outcome == "connected"
        assert await keys(there) == [f"ann:{acme}"]


async def test_an_operator() -> None:
    """authorize() gives True: no tenant before the keys; a tenant's organization is connected again in place."""
    async with (
        world(authorize=lambda request: True if account(request) == "op" else account(request)) as there,
        browsing(there) as browser,
        browsing(there, "op") as operator,
    ):
        acme = there.sandbox.organizations["Acme"]
        await browser.connect()
        await operator.connect(organization="Beta")
        assert (await operator.connect(f"?again=ann:{acme}")).outcome == "connected"
        assert await keys(there) == sorted([f"ann:{acme}", there.sandbox.organizations["Beta"]])


@pytest.mark.parametrize("tenant", ["", "x" * 300, "\udcff", 42, b"ann"])
async def test_an_impossible_tenant(tenant: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An empty name would see all tenants: refused, and the log says why."""
    async with world(authorize=lambda request: tenant) as there, browsing(there) as browser:
        assert (await browser.get(there.path("connect"))).status == 500
        assert "authorize() returned what is no tenant" in caplog.text


@pytest.mark.parametrize("tenant", ["a:b", "a", "a%3A", "../", "é", "😀", "A"])
async def test_tenants_are_told_apart(tenant: str) -> None:
    """S28: no tenant's keys begin with another's, whatever the names."""

    async def authorize(request: web.Request) -> str:
        return {"ann": tenant, "bob": "a"}[request.cookies["account"]]

    async with world(authorize=authorize) as there, browsing(there) as ann, browsing(there, "bob") as bob:
        await ann.connect()
        page = await bob.get(there.path("connections"))
        assert (there.sandbox.organizations["Acme"] in page.text) == (tenant == "a")


async def test_refused_by_default() -> None:
    """Without `authorize` nobody sees anything but a page that says so."""
    async with world(build=lambda app, manager: _set_up(app, manager)) as there, browsing(there) as browser:
        for path in ("connect", "connections"):
            seen = await browser.get(there.path(path))
            assert (seen.status, "Sign in first" in seen.text) == (403, True)
        assert (await browser.post(there.path("connections"), {})).status == 403


def _set_up(app: web.Application, manager: TokenManager) -> web.Application:
    tribe_web.setup(app, manager)
    return app


async def test_a_sign_in_page() -> None:
    """`authorize` may raise a redirect, and be a coroutine function."""

    async def authorize(request: web.Request) -> str:
        raise web.HTTPSeeOther("/sign-in")

    async with world(authorize=authorize) as there, browsing(there) as browser:
        assert (await browser.get(there.path("connect"))).location == "/sign-in"
