"""The consent page, in front of a person."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import ClientSession

from tribe_oauth.sandbox import Sandbox


async def callback(sandbox: Sandbox, **changes: str | None) -> dict[str, list[str]]:
    """What comes back for an authorization URL with some parameters changed."""
    from yarl import URL

    url = URL(sandbox.client().authorization_request().url)
    query = {**dict(url.query), **changes}
    url = url.with_query({name: value for name, value in query.items() if value is not None})
    return parse_qs(urlsplit(await sandbox.approve(str(url))).query)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"state": "short"}, "invalid_state"),
        ({"state": None}, "invalid_state"),
        ({"scope": "read admin"}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"organization_id": "no such"}, "access_denied"),
    ],
)
async def test_what_is_wrong_comes_back(changes: dict[str, str | None], error: str) -> None:
    """A request that cannot be asked of anybody is answered at the callback, with its state."""
    async with Sandbox() as sandbox:
        answer = await callback(sandbox, **changes)
        assert answer["error"] == [error]
        assert "code" not in answer
        assert ("state" in answer) == (changes.get("state", "") is not None)


async def test_what_never_comes_back() -> None:
    """An unknown client or a wrong redirect URI is shown here: the callback may be an attacker's."""
    async with Sandbox() as sandbox:
        with pytest.raises(RuntimeError, match="This application is not known"):
            await callback(sandbox, client_id="nobody")
        with pytest.raises(RuntimeError, match="The redirect URI does not match"):
            await callback(sandbox, redirect_uri="https://evil.example")
        service = sandbox.client(redirect_uri=None)
        with pytest.raises(RuntimeError, match="The redirect URI does not match"):
            await callback(sandbox, client_id=service.client_id)


@pytest.mark.parametrize(
    ("redirect_uri", "known"),
    [
        ("http://127.0.0.1:8123/callback", True),
        ("http://127.0.0.1/callback", True),
        ("http://127.0.0.1:8123/other", False),
        ("http://127.0.0.1:8123/callback?x=1", False),
        ("http://localhost:8123/callback", False),
        ("https://127.0.0.1/callback", False),
    ],
)
async def test_any_port_on_loopback(redirect_uri: str, known: bool) -> None:
    """RFC 8252 §7.3: a command listens at the port that it finds free."""
    async with Sandbox(redirect_uri="http://127.0.0.1/callback") as sandbox:
        if known:
            assert "code" in await callback(sandbox, redirect_uri=redirect_uri)
        else:
            with pytest.raises(RuntimeError, match="The redirect URI does not match"):
                await callback(sandbox, redirect_uri=redirect_uri)


@pytest.mark.parametrize(("profile", "error"), [("strict", "consent request denied"), ("hydra-2.3", "access_denied")])
async def test_denied(profile: str, error: str) -> None:
    """The code for it need not be access_denied."""
    async with Sandbox(profile=profile) as sandbox:
        request = sandbox.client().authorization_request()
        for deny in (True, False):
            answer = parse_qs(urlsplit(await sandbox.approve(request.url, deny=deny, scopes=[])).query)
            assert answer["error"] == [error]
            assert answer["state"] == [request.state]


async def test_an_organization_that_is_not_offered() -> None:
    """A pinned organization is the only choice."""
    async with Sandbox() as sandbox:
        request = sandbox.client().authorization_request(organization_id=sandbox.organizations["Acme"])
        assert "code=" in await sandbox.approve(request.url, organization="Acme")
        with pytest.raises(RuntimeError, match="no organization 'Cobra Logistiek'"):
            await sandbox.approve(request.url, organization="Cobra Logistiek")


async def test_the_page() -> None:
    """Readable, safe, self-contained; whatever is reflected is escaped."""
    async with Sandbox(organizations=["<b>Bold</b>"]) as sandbox, ClientSession() as session:
        client = sandbox.client(scope="read odd<i>")
        request = client.authorization_request(scope="read odd<i>")
        async with session.get(request.url) as response:
            text = await response.text()
            headers = response.headers
    assert "<b>Bold" not in text
    assert "odd<i>" not in text
    assert "&lt;b&gt;Bold" in text
    assert "Read your data" in text
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
