"""One organization from the environment: three lines from credentials to rows."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest

from tribe_oauth import (
    MemoryStore,
    RefreshTokenGrant,
    Secret,
    TokenEndpointError,
    TokenManager,
    UnknownOrganizationError,
)
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
async def test_from_env_means_the_only_one_in_the_store(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that was connected by hand: not another, which the Application's own credentials would give."""
    await connected(server, tmp_path / "tribe-oauth" / "tokens.db", "acme")
    for value in ("acme", None):  # TRIBE_STORE is not set: the file under the state directory is the store
        if value is not None:
            monkeypatch.setenv("TRIBE_ORGANIZATION_ID", value)
        async with TokenManager.from_env() as manager:
            assert (await manager.status()).organization == "acme"
            assert await manager.token() == await manager.token("acme")
        monkeypatch.delenv("TRIBE_ORGANIZATION_ID", raising=False)
    assert [form["grant_type"] for form in server.forms] == ["refresh_token"]


@pytest.mark.usefixtures("environment")
async def test_from_env_means_none_of_several(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are listed, as far as there is room; a name that is not among them is refused."""
    path = tmp_path / "tribe.db"
    monkeypatch.setenv("TRIBE_STORE", str(path))
    await connected(server, path, *(f"org {number:02}" for number in range(12)))
    with pytest.raises(UnknownOrganizationError, match=r"several organizations, 'org 00', .* and more: say which one"):
        await TokenManager.from_env().__aenter__()
    monkeypatch.setenv("TRIBE_ORGANIZATION_ID", "org 99")
    with pytest.raises(UnknownOrganizationError, match="'org 99' is not connected; connected are 'org 00', "):
        await TokenManager.from_env().__aenter__()


@pytest.mark.usefixtures("environment")
async def test_client_credentials_of_the_environment_are_not_stored(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The connection works as any other, and the store knows nothing of it."""
    path = tmp_path / "there" / "tribe.db"
    monkeypatch.setenv("TRIBE_STORE", str(path))
    async with TokenManager.from_env() as manager:
        token = await manager.token()
        assert [key async for key in manager.organizations()] == ["default"]
        assert (await manager.status("default")).state == "fresh"
        assert await manager.refresh() != token
        await manager.disconnect("default")
        assert [key async for key in manager.organizations()] == []
        with pytest.raises(UnknownOrganizationError, match="not connected"):
            await manager.status()
    assert not path.parent.exists()


@pytest.mark.usefixtures("environment")
async def test_what_is_connected_in_its_place_is_stored(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its caller, under the same key: durable. One that fails takes nothing away."""
    path = tmp_path / "tribe.db"
    monkeypatch.setenv("TRIBE_STORE", str(path))
    client = attrs.evolve(server.client("client"), redirect_uri=None)
    async with TokenManager.from_env() as manager:
        with pytest.raises(TokenEndpointError, match="invalid_grant"):
            await manager.connect("default", RefreshTokenGrant(client, "wrong"))
        assert (await manager.status()).state == "fresh"
        connected = await manager.connect("default", RefreshTokenGrant(client, server.paste()))
        assert await manager.token() == connected
    async with TokenManager.from_env() as manager:
        assert await manager.token() == connected


@pytest.mark.usefixtures("environment")
async def test_what_another_process_has_stored_is_listed_once(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Though this process has the same key in memory."""
    path = tmp_path / "tribe.db"
    monkeypatch.setenv("TRIBE_STORE", str(path))
    async with TokenManager.from_env() as manager:
        await connected(server, path, "default", "other")
        assert sorted([key async for key in manager.organizations()]) == ["default", "other"]


@pytest.mark.usefixtures("environment")
async def test_a_refresh_token_of_the_environment_leaves_others_alone(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is for the environment's own organization: one that was connected under another key is not replaced by it."""
    path = tmp_path / "tribe.db"
    monkeypatch.setenv("TRIBE_STORE", str(path))
    await connected(server, path, "acme")
    monkeypatch.setenv("TRIBE_REFRESH_TOKEN", (pasted := server.paste()))
    async with TokenManager.from_env() as manager:
        assert (await manager.status()).organization == "acme"
    assert pasted in server.live


@pytest.mark.usefixtures("environment")
async def test_from_env_that_is_not_entered(server: TokenServer) -> None:
    """It says so, whatever is asked of it; it can be closed."""
    manager = TokenManager.from_env()
    for call in (manager.token, manager.refresh, manager.status, manager.warm_up):
        with pytest.raises(ManagerError, match=r"use `async with TokenManager\.from_env"):
            await call()
    with pytest.raises(ManagerError, match="use `async with"):
        manager.session()
    await manager.close()
    assert server.forms == []


async def connected(server: TokenServer, path: Path, *organizations: str) -> None:
    """Connect them, by refresh tokens, in another process's place."""
    client = attrs.evolve(server.client("client"), redirect_uri=None)
    client = attrs.evolve(client, client_secret=Secret("secret"))
    async with TokenManager(client, store=SQLiteStore(path)) as manager:
        for organization in organizations:
            await manager.connect(organization, RefreshTokenGrant(client, server.paste()))


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
