"""What the server does, seen from outside only: on each profile, and on any real server whose address is given.

For a real one set TRIBE_TEST_AUTH_URL, TRIBE_TEST_API_URL, TRIBE_TEST_CLIENT_ID, TRIBE_TEST_CLIENT_SECRET and
TRIBE_TEST_REFRESH_TOKEN (of an Application for the purpose: its token family is used up).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .servers import NAMES, Server, serve


@pytest.fixture(params=NAMES)
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    async with serve(request.param) as server:
        yield server


async def test_a_refresh_replaces_the_refresh_token(server: Server) -> None:
    """Tribe's page: four members, and a refresh token that replaces the previous one."""
    status, answer = await server.refresh()
    assert status == 200
    assert set(answer) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert answer["token_type"] == "bearer"
    assert isinstance(answer["expires_in"], int)
    assert answer["refresh_token"] != server.refresh_token


async def test_the_access_token_opens_the_api(server: Server) -> None:
    """Rows, in OData's form."""
    _, answer = await server.refresh()
    status, _, rows = await server.get("/v1/odata/Relation_Person?$top=1", answer["access_token"])
    assert status == 200
    assert isinstance(rows["value"], list)


async def test_the_api_without_a_token(server: Server) -> None:
    """401, for none and for a wrong one."""
    for token in ("", "wrong"):
        status, headers, _ = await server.get("/v1/odata/Relation_Person", token)
        assert status == 401
        assert headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_refresh_deletes_the_previous_access_token(server: Server) -> None:
    """Other hosts' copies die before their time."""
    _, first = await server.refresh()
    _, second = await server.refresh(first["refresh_token"])
    assert (await server.get("/v1/odata/Relation_Person?$top=1", first["access_token"]))[0] == 401
    assert (await server.get("/v1/odata/Relation_Person?$top=1", second["access_token"]))[0] == 200


async def test_client_credentials(server: Server) -> None:
    """No refresh token, though `offline` was asked for; each call a new token."""
    form = {"grant_type": "client_credentials", "scope": "read write offline"}
    (status, first), (_, second) = await server.token(**form), await server.token(**form)
    assert status == 200
    assert set(first) == {"access_token", "token_type", "expires_in"}
    assert first["access_token"] != second["access_token"]


async def test_a_wrong_secret(server: Server) -> None:
    """401 invalid_client, in OAuth's form."""
    status, answer = await server.token(grant_type="client_credentials", scope="read", client_secret="wrong")
    assert (status, answer["error"]) == (401, "invalid_client")


async def test_an_unknown_grant_type(server: Server) -> None:
    """400 invalid_request."""
    status, answer = await server.token(grant_type="password")
    assert (status, answer["error"]) == (400, "invalid_request")


async def test_a_refresh_token_that_never_was(server: Server) -> None:
    """Refused, in words that mean: connect again."""
    status, answer = await server.refresh("never-was")
    assert (status, answer["error"]) in {(400, "invalid_grant"), (401, "token_inactive")}


async def test_a_consent_page_for_an_unknown_client(server: Server) -> None:
    """An unknown client, or a wrong redirect URI, never reaches a callback."""
    for query in ("client_id=nobody", f"client_id={server.client_id}&redirect_uri=https://evil.example/"):
        async with server.session.get(f"{server.auth}/oauth2/auth?{query}", allow_redirects=False) as response:
            assert "evil.example" not in response.headers.get("Location", "")
            assert "code=" not in response.headers.get("Location", "")


async def test_the_last_thing_is_revoking(server: Server) -> None:
    """RFC 7009: an unknown token gets 200; a revoked one is dead. Last, since it ends a real server's token family."""
    _, answer = await server.refresh()
    for token in ("unknown", answer["refresh_token"]):
        form = {"token": token, "client_id": server.client_id, "client_secret": server.client_secret}
        async with server.session.post(f"{server.auth}/oauth2/revoke", data=form) as response:
            assert response.status == 200
    assert (await server.refresh(answer["refresh_token"]))[0] in {400, 401}
