"""One organization from the environment: three lines from credentials to rows."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest

from tribe_oauth import MemoryStore, RefreshTokenGrant, TokenEndpointError, TokenManager
from tribe_oauth.errors import ManagerError
from tribe_oauth.stores.sqlite import SQLiteStore

from .helpers import TokenServer


@pytest.fixture
def environment(server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TRIBE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRIBE_CLIENT_ID", "client")
    monkeypatch.setenv("TRIBE_CLIENT_SECRET", "secret")
    monkeypatch.setenv("TRIBE_AUTH_URL", server.base)
    monkeypatch.setenv("TRIBE_API_URL", server.base)
    monkeypatch.setenv("TRIBE_ALLOW_INSECURE_LOOPBACK", "1")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.usefixtures("environment")
async def test_from_env_with_client_credentials(server: TokenServer) -> None:
    """Two variables are enough for a server-to-server integration."""
    async with TokenManager.from_env() as manager:
        assert await manager.token() == await manager.token("default")
        assert isinstance(manager.store, MemoryStore)
        async with manager.session() as session, session.get("/v1/odata/x") as response:
            assert response.status == 200
    assert [form["grant_type"] for form in server.forms] == ["client_credentials"]


@pytest.mark.usefixtures("environment")
async def test_from_env_keeps_a_pasted_token_for_the_next_start(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A refresh token works once: without TRIBE_STORE its successor is kept under the state directory."""
    pasted = server.paste()
    monkeypatch.setenv("TRIBE_REFRESH_TOKEN", pasted)
    monkeypatch.setenv("TRIBE_ORGANIZATION_ID", "acme")
    for _ in range(3):
        async with TokenManager.from_env() as manager:
            token = await manager.token()
            assert await manager.token("acme") == token
    assert server.refreshes() == [pasted]
    assert (tmp_path / "tribe-oauth" / "tokens.db").stat().st_mode & 0o777 == 0o600
    newer = server.paste()
    monkeypatch.setenv("TRIBE_REFRESH_TOKEN", newer)
    async with TokenManager.from_env() as manager:
        assert await manager.token() != token
    assert server.refreshes() == [pasted, newer]


@pytest.mark.usefixtures("environment")
async def test_from_env_uses_what_the_store_has(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a refresh token in the environment, a connection in the store comes before client credentials."""
    path = tmp_path / "tribe.db"
    client = attrs.evolve(server.client("client"), redirect_uri=None)
    async with TokenManager(client, store=SQLiteStore(path)) as manager:
        await manager.connect("default", RefreshTokenGrant(client, server.paste()))
    monkeypatch.setenv("TRIBE_STORE", str(path))
    async with TokenManager.from_env() as manager:
        assert (await manager.token()).refresh_token is not None
        await manager.disconnect("default")
    assert len(server.forms) == 1


@pytest.mark.usefixtures("environment")
async def test_the_environments_organization_stays_the_default(server: TokenServer) -> None:
    """Others may be connected beside it; the one that needs no name is the environment's."""
    async with TokenManager.from_env() as manager:
        token = await manager.token()
        await manager.connect("other", RefreshTokenGrant(attrs.evolve(server.client("client")), server.paste()))
        assert await manager.token() == token
        await manager.disconnect("other")
        assert await manager.token() == token


@pytest.mark.usefixtures("environment")
async def test_from_env_that_cannot_connect(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error on entering leaves nothing open."""
    monkeypatch.setenv("TRIBE_REFRESH_TOKEN", "wrong")
    manager = TokenManager.from_env()
    with pytest.raises(TokenEndpointError, match="invalid_grant"):
        await manager.__aenter__()
    with pytest.raises(ManagerError, match="closed"):
        await manager.token("default")
