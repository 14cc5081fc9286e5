"""S11, S24: no code, state, verifier or token where people or machines keep things."""

from __future__ import annotations

import json
import logging
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from tribe_oauth import MemoryStore, TokenManager
from tribe_oauth import web as tribe_web
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.web import HideCallbacks
from tribe_oauth.web._site import SITE

from ..manager.helpers import VirtualClock
from ..stored import text_of
from .world import World, account, browsing, listening, world


async def test_a_canary_search(caplog: pytest.LogCaptureFixture) -> None:
    """Through success, denial, faults and a reload: in no log, page or header but the redirect and the cookie."""
    caplog.set_level(logging.DEBUG)
    kept: list[str] = []

    class Watched(MemoryStore):
        async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
            kept.append(json.loads(text_of(value))["request"]["verifier"] if b'"verifier"' in value else "")
            return await super().put(key, value, lives_for=lives_for)

    secrets: set[str] = set()
    shown: list[str] = []
    clock = {"clock": VirtualClock()}
    async with world(store=Watched(), manager=clock) as there, browsing(there) as browser:
        sandbox = there.sandbox
        faults = ((False, "", 0), (True, "", 0), (False, "database_away", 3), (False, "lost_answer", 1))
        for deny, fault, times in faults:
            if fault:
                sandbox.fault(fault, times=times)  # type: ignore[arg-type]
            out = await browser.get(there.path("connect"))
            callback = await browser.consent(out.location, deny=deny)
            answers = [await browser.get(callback) for _ in range(2)]
            pages = [await browser.get(answer.location) for answer in answers]
            pages.append(await browser.get(there.path("connections")))
            query = dict(parse_qsl(urlsplit(callback).query))
            secrets |= {query["state"], query.get("code", query["state"])}
            shown += [page.text + str(page.headers) for page in [out, *answers, *pages]]
            for its_own in (out.location, out.headers["Set-Cookie"]):  # the redirect to Tribe has the state
                shown = [text.replace(its_own, "") for text in shown]
        token = await there.manager.token()
        assert token.refresh_token is not None
        secrets |= {token.access_token.reveal(), token.refresh_token.reveal(), there.client.client_secret.reveal()}
        secrets |= {cookie.value for cookie in browser.session.cookie_jar if "flow" in cookie.key}
        shown.append(repr(there.app[SITE]))
    secrets |= {verifier for verifier in kept if verifier}
    assert len(secrets) > 10
    log = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert "/tribe/callback/?code=***" in log
    for secret in secrets:
        assert len(secret) > 20
        assert secret not in log
        assert not any(secret in text for text in shown)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("GET /sign-in?next=/callback%3Fcode%3Dabc%2525%26state%3Ddef HTTP/1.1", ()),
        ("GET /sign-in?next=%2Fsign-in%3Fnext%3D%252Fcallback%253Fcode%253Dabc%2526state%253Ddef HTTP/1.1", ()),
        ("GET /sign-in?next=/callback%3Fcode=abc%26state=def HTTP/1.1", ()),
        ('"GET / HTTP/1.1" "https://app.example/callback/?code=abc&state=def" "Python"', ()),
        ("cookies: account=ann; __Host-tribe-flow-0123456789012345=abc; tribe-flow-0123456789012345=def", ()),
        ("GET /callback/?code=abc&state=def&scope=read HTTP/1.1", ()),
        ("%s", ("GET /callback/?scope=read&state=def&code=abc HTTP/1.1",)),
        ("%s", ("GET /callback/?access_token=abc HTTP/1.1",)),
        ("%(line)s", ({"line": "/callback/?code=abc&x=1"},)),
        ("%d", (7,)),
    ],
)
def test_the_filter(message: str, arguments: tuple[object, ...]) -> None:
    """Whatever shape a log line has."""
    record = logging.LogRecord("aiohttp.access", logging.INFO, "", 0, message, arguments, None)
    assert HideCallbacks().filter(record)
    assert not any(secret in record.getMessage() for secret in ("abc", "def"))


def test_the_filter_is_there_once() -> None:
    """However many applications are set up."""
    from tribe_oauth import Client

    for _ in range(3):
        manager = TokenManager(Client("id", "secret", redirect_uri="https://app.example/callback"))
        tribe_web.setup(web.Application(), manager)
    filters = logging.getLogger("aiohttp.access").filters
    assert sum(isinstance(one, HideCallbacks) for one in filters) == 1


class OwnFormat(AbstractAccessLogger):
    """As applications have it that write their access log by themselves, to wherever they like."""

    lines: ClassVar[list[str]] = []

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        self.lines.append(f"{request.path_qs} {request.raw_path} {request.url} {request.query_string}")


@pytest.mark.parametrize(
    "options",
    [{"access_log": logging.getLogger("my.own.log")}, {"access_log_class": OwnFormat}, {"access_log": None}],
    ids=["logger", "class", "none"],
)
async def test_an_access_log_of_ones_own(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """S11, S30: whatever logger the server was given, and whatever class writes the lines of callbacks."""
    caplog.set_level(logging.INFO)
    OwnFormat.lines.clear()
    listener = listening()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/tribe"
    async with Sandbox(redirect_uri=f"{address}/callback") as sandbox:
        client = sandbox.client()
        app = web.Application()
        manager = TokenManager(client)
        tribe_web.setup(app, manager, authorize=account)
        runner = web.AppRunner(app, **options)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        async with browsing(
            World(sandbox=sandbox, client=client, manager=manager, app=app, address=address)
        ) as browser:
            callback = await browser.consent(await browser.start())
            assert (await browser.get(callback)).outcome == "connected"
        await runner.cleanup()
    log = caplog.text + "\n".join(OwnFormat.lines)
    assert ("/tribe/callback/?code=***" in log) is (options != {"access_log": None})
    for secret in dict(parse_qsl(urlsplit(callback).query)).values():
        assert secret not in log or secret == "read write offline"
