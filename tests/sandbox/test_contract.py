"""What the server does, seen from outside only: on each profile, and on any real server whose address is given.

For a real one set TRIBE_TEST_AUTH_URL, TRIBE_TEST_CLIENT_ID, TRIBE_TEST_CLIENT_SECRET and TRIBE_TEST_REFRESH_TOKEN (of
an Application for the purpose: its token family is used up), and TRIBE_TEST_API_URL where the API is to be asked too.

What is compared is what the RFCs promise a client, and what all versions of the server were measured to do alike.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from urllib.parse import quote, urlencode

import pytest
from aiohttp import encode_basic_auth

from tribe_oauth.sandbox import Sandbox

from .servers import FORM, NAMES, NAMES_WITH_API, Server, serve


@pytest.fixture(params=NAMES)
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    async with serve(request.param) as server:
        yield server


@pytest.fixture(params=NAMES_WITH_API)
async def with_api(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    async with serve(request.param) as server:
        yield server


def is_a_token_answer(answer: dict[str, object]) -> bool:
    """What RFC 6749 §5.1 promises of a 200, whatever else is in it; and Tribe's page, which has a lifetime in it."""
    assert {"access_token", "token_type", "expires_in"} <= set(answer)
    assert str(answer["token_type"]).lower() == "bearer"
    assert isinstance(answer["expires_in"], int)
    assert answer["expires_in"] > 0
    return isinstance(answer["access_token"], str)


async def test_a_refresh_replaces_the_refresh_token(server: Server) -> None:
    """Tribe's page: the new refresh token replaces the previous one. RFC 6749 §5.1: none of it may be cached."""
    form = {**server.credentials, "grant_type": "refresh_token", "refresh_token": server.refresh_token}
    said = await server.post("/oauth2/token", form)
    answer = json.loads(said.text)
    await server.rotated(answer["refresh_token"])
    assert said.status == 200
    assert is_a_token_answer(answer)
    assert answer["refresh_token"] != server.refresh_token
    assert "offline" in answer["scope"].split()
    assert "no-store" in said.headers["Cache-Control"]


async def test_the_access_token_opens_the_api(with_api: Server) -> None:
    """Rows, in OData's form."""
    _, answer = await with_api.refresh()
    status, _, rows = await with_api.get("/v1/odata/Relation_Person?$top=1", answer["access_token"])
    assert status == 200
    assert isinstance(rows["value"], list)


async def test_the_api_without_a_token(with_api: Server) -> None:
    """401, for none and for a wrong one."""
    for token in ("", "wrong"):
        status, headers, _ = await with_api.get("/v1/odata/Relation_Person", token)
        assert status == 401
        assert headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_refresh_deletes_the_previous_access_token(with_api: Server) -> None:
    """Other hosts' copies die before their time."""
    _, first = await with_api.refresh()
    _, second = await with_api.refresh(first["refresh_token"])
    assert (await with_api.get("/v1/odata/Relation_Person?$top=1", first["access_token"]))[0] == 401
    assert (await with_api.get("/v1/odata/Relation_Person?$top=1", second["access_token"]))[0] == 200


async def test_client_credentials(server: Server) -> None:
    """No refresh token, though `offline` was asked for (RFC 6749 §4.4.3); each call a new token."""
    form = {"grant_type": "client_credentials", "scope": "read write offline"}
    (status, first), (_, second) = await server.token(**form), await server.token(**form)
    assert status == 200
    assert is_a_token_answer(first)
    assert "refresh_token" not in first
    assert first["access_token"] != second["access_token"]


async def test_client_credentials_without_a_scope(server: Server) -> None:
    """A token, for nothing: RFC 6749 §3.3 wants the server to say so."""
    status, answer = await server.token(grant_type="client_credentials")
    assert status == 200
    assert is_a_token_answer(answer)
    assert answer["scope"] == ""


async def test_a_scope_that_the_application_does_not_have(server: Server) -> None:
    """400 invalid_scope (RFC 6749 §5.2)."""
    status, answer = await server.token(grant_type="client_credentials", scope="no-such-scope")
    assert (status, answer["error"]) == (400, "invalid_scope")


async def test_a_wrong_secret(server: Server) -> None:
    """401 invalid_client, in OAuth's form."""
    status, answer = await server.token(grant_type="client_credentials", scope="read", client_secret="wrong")
    assert (status, answer["error"]) == (401, "invalid_client")


async def test_a_client_that_is_not_known(server: Server) -> None:
    """401 invalid_client, too."""
    status, answer = await server.token(grant_type="client_credentials", scope="read", client_id="nobody")
    assert (status, answer["error"]) == (401, "invalid_client")


async def test_http_basic(server: Server) -> None:
    """The credentials belong in the body: 401 for them in a header, though they are right."""
    basic = encode_basic_auth(server.client_id, server.client_secret)
    form = {"grant_type": "client_credentials", "scope": "read"}
    said = await server.post("/oauth2/token", form, Authorization=basic)
    assert (said.status, said.error) == (401, "invalid_client")


@pytest.mark.parametrize("way", ["no credentials", "empty", "encoded twice", "JSON"])
async def test_a_body_that_something_spoiled(server: Server, way: str) -> None:
    """400 invalid_request, which is what an expired refresh token can get as well; it spends nothing."""
    form = {"grant_type": "refresh_token", "refresh_token": server.refresh_token}
    everything = {**form, **server.credentials}
    body, content_type = {
        "no credentials": (urlencode(form), FORM),
        "empty": ("", FORM),
        "encoded twice": (quote(urlencode(everything)), FORM),
        "JSON": (json.dumps(everything), "application/json"),
    }[way]
    said = await server.post("/oauth2/token", body, **{"Content-Type": content_type})
    assert (said.status, said.error) == (400, "invalid_request")
    assert (await server.refresh())[0] == 200


async def test_a_parameter_that_is_there_twice(server: Server) -> None:
    """The first counts, though RFC 6749 §3.2 forbids it."""
    form = [*server.credentials.items(), ("grant_type", "client_credentials"), ("scope", "read"), ("scope", "x")]
    assert (await server.post("/oauth2/token", form)).status == 200
    form[3:] = reversed(form[3:])
    assert (await server.post("/oauth2/token", form)).error == "invalid_scope"


async def test_an_unknown_grant_type(server: Server) -> None:
    """400, and an error code of RFC 6749 §5.2."""
    status, answer = await server.token(grant_type="password")
    assert status == 400
    assert answer["error"] in {"invalid_request", "unsupported_grant_type"}


async def test_a_refresh_token_that_never_was(server: Server) -> None:
    """Refused with invalid_grant (RFC 6749 §5.2): connect again."""
    status, answer = await server.refresh("never-was")
    assert (status, answer["error"]) == (400, "invalid_grant")


async def test_the_token_endpoint_takes_posts_only(server: Server) -> None:
    """RFC 6749 §3.2: a GET is no token request."""
    assert (await server.ask("GET", "/oauth2/token")).status in {404, 405}


async def test_a_consent_page_for_an_unknown_client(server: Server) -> None:
    """An unknown client, or a wrong redirect URI, never reaches a callback."""
    for query in ("client_id=nobody", f"client_id={server.client_id}&redirect_uri=https://evil.example/"):
        said = await server.ask("GET", f"/oauth2/auth?{query}")
        assert not said.headers.get("Location", "").startswith("https://evil.example")
        assert "code=" not in said.headers.get("Location", "")


async def test_revoking_a_spent_refresh_token(server: Server) -> None:
    """200, and its family lives on."""
    _, answer = await server.refresh()
    form = {**server.credentials, "token": server.refresh_token}
    assert (await server.post("/oauth2/revoke", form)).status == 200
    assert (await server.refresh(answer["refresh_token"]))[0] == 200


async def test_the_last_thing_is_revoking(server: Server) -> None:
    """RFC 7009: an unknown token gets 200; a revoked one is dead. Last, since it ends a real server's token family."""
    _, answer = await server.refresh()
    for token in ("unknown", answer["refresh_token"]):
        assert (await server.post("/oauth2/revoke", {**server.credentials, "token": token})).status == 200
    assert (await server.refresh(answer["refresh_token"]))[0] in {400, 401}


async def test_an_application_is_as_it_was_asked_for() -> None:
    """Its redirect URI is the one that is named, also where another sandbox would have it anyway."""
    async with Sandbox(redirect_uri="http://127.0.0.1/callback") as sandbox:
        assert sandbox.client() == sandbox.client()
        assert sandbox.client().redirect_uri == "http://127.0.0.1/callback"
        assert sandbox.client(redirect_uri="http://127.0.0.1/callback") == sandbox.client()
        assert (
            sandbox.client(redirect_uri="https://app.example/callback").redirect_uri == "https://app.example/callback"
        )
        assert sandbox.client(redirect_uri=None).redirect_uri is None
        assert sandbox.client(organization="Acme").redirect_uri == "http://127.0.0.1/callback"
