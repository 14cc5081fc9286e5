"""S11, S24: no code, state, verifier or token where people or machines keep things."""

from __future__ import annotations

import json
import logging
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web

from tribe_oauth import MemoryStore
from tribe_oauth import web as tribe_web
from tribe_oauth.web import HideCallbacks
from tribe_oauth.web._site import SITE

from .world import browsing, world


async def test_a_canary_search(caplog: pytest.LogCaptureFixture) -> None:
    """Through success, denial, faults and a reload: in no log, page or header but the redirect and the cookie."""
    caplog.set_level(logging.DEBUG)
    kept: list[str] = []

    class Watched(MemoryStore):
        async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
            kept.append(json.loads(value)["request"]["verifier"] if key.startswith("authorization") else "")
            return await super().put(key, value, lives_for=lives_for)

    secrets: set[str] = set()
    shown: list[str] = []
    async with world(store=Watched()) as there, browsing(there) as browser:
        sandbox = there.sandbox
        for deny, fault in ((False, ""), (True, ""), (False, "invalid_client"), (False, "lost_answer")):
            if fault:
                sandbox.fault(fault)  # type: ignore[arg-type]
            out = await browser.get(there.path("connect"))
            callback = await browser.consent(out.location, deny=deny)
            answers = [await browser.get(callback) for _ in range(2)]
            pages = [await browser.get(answer.location) for answer in answers]
            pages.append(await browser.get(there.path("connections")))
            query = dict(parse_qsl(urlsplit(callback).query))
            secrets |= {query["state"], query.get("code", query["state"])}
            shown += [page.text + str(page.headers) for page in [out, *answers, *pages]]
            shown = [text.replace(out.location, "") for text in shown]  # the redirect to Tribe has the state
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
    from tribe_oauth import Client, TokenManager

    for _ in range(3):
        manager = TokenManager(Client("id", "secret", redirect_uri="https://app.example/callback"))
        tribe_web.setup(web.Application(), manager)
    filters = logging.getLogger("aiohttp.access").filters
    assert sum(isinstance(one, HideCallbacks) for one in filters) == 1
