"""The manager against what the authorization server was measured to do, on every profile of the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
from aiohttp import ClientSession

from tribe_oauth import (
    CallbackError,
    Client,
    ClientCredentialsGrant,
    ReauthorizationRequired,
    RefreshTokenGrant,
    TokenEndpointError,
    TokenManager,
    TribeOAuthError,
)
from tribe_oauth.errors import TemporarilyUnavailable
from tribe_oauth.sandbox import PROFILES, Sandbox

from .helpers import VirtualClock

DAY = 86_400


@attrs.define
class World:
    """A sandbox, and a manager with an organization "acme" that was connected with a pasted token."""

    sandbox: Sandbox
    client: Client
    clock: VirtualClock
    manager: TokenManager


@pytest.fixture(params=PROFILES)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    clock = VirtualClock()
    async with Sandbox(profile=request.param, clock=clock.time) as sandbox:
        client = sandbox.client(scope="read offline")
        async with TokenManager(client, clock=clock) as manager:
            pasted = sandbox.paste_token("Acme", client=client)
            await manager.connect("acme", RefreshTokenGrant(client, pasted))
            yield World(sandbox, client, clock, manager)


async def test_the_database_is_away_for_hours(world: World) -> None:
    """F9: invalid_client for every request, however often, ends no connection; the token that is valid is served."""
    before = await world.manager.token("acme")
    fault = world.sandbox.fault("database_away", times=None)
    world.clock.advance(DAY - 3600)
    assert await world.manager.token("acme") == before
    world.clock.advance(3600)
    for _ in range(20):
        with pytest.raises(TokenEndpointError) as error:
            await world.manager.token("acme")
        assert not isinstance(error.value, ReauthorizationRequired)
        world.clock.advance(3001)  # beyond the longest back-off
    assert fault.hits >= 20
    fault.cancel()
    after = await world.manager.token("acme")
    assert world.sandbox.ledger.is_live(after.access_token.reveal())
    assert world.sandbox.ledger.reused() == ()


async def test_the_database_is_away_and_both_causes_are_named(world: World) -> None:
    """Credentials that worked before are not said to be wrong: it may be the server, and may be over soon."""
    world.sandbox.fault("database_away", times=None)
    world.clock.advance(DAY)
    with pytest.raises(TemporarilyUnavailable, match="client_secret"):
        await world.manager.token("acme")


async def test_a_code_after_the_database_was_away(world: World) -> None:
    """S6: the code was not looked at, so that the same grant may be tried again."""
    request = world.client.authorization_request()
    grant = request.grant(await world.sandbox.approve(request.url, organization="Beta"))
    fault = world.sandbox.fault("database_away", times=None)
    with pytest.raises(TokenEndpointError):
        await world.manager.connect("beta", grant)
    fault.cancel()
    token = await world.manager.connect("beta", grant)
    assert world.sandbox.ledger.is_live(token.access_token.reveal())


async def test_revoked_elsewhere(world: World) -> None:
    """Whatever the version answers then: connect again, and the server is asked once."""
    token = await world.manager.token("acme")
    form = {
        "client_id": world.client.client_id,
        "client_secret": world.client.client_secret.reveal(),
        "token": token.access_token.reveal(),
    }
    async with ClientSession() as session, session.post(f"{world.sandbox.base}/oauth2/revoke", data=form) as response:
        assert response.status == 200
    before = world.sandbox.ledger.token_requests
    for _ in range(3):
        with pytest.raises(ReauthorizationRequired):
            await world.manager.refresh("acme", rejected=token)
    assert world.sandbox.ledger.token_requests == before + 1
    assert world.sandbox.ledger.spent_twice() == ()


async def test_client_credentials_without_a_scope(world: World) -> None:
    """A scope that is known to be empty is no unknown one."""
    token = await world.manager.connect("service", ClientCredentialsGrant(world.client, scope=""))
    assert token.scope == frozenset()


async def test_a_denied_consent(world: World) -> None:
    """The server's code for it, whichever that is."""
    request = world.client.authorization_request()
    with pytest.raises(CallbackError) as error:
        request.grant(await world.sandbox.approve(request.url, deny=True))
    assert error.value.error == PROFILES[world.sandbox.profile].denied


async def test_the_useful_part_of_a_refusal_is_told(world: World) -> None:
    """It stands behind 236 characters that are always the same, or in a member of its own."""
    stranger = world.sandbox.client(scope="read")
    of_another = RefreshTokenGrant(world.client, world.sandbox.paste_token("Acme", client=stranger))
    with pytest.raises(TokenEndpointError) as error:
        await world.manager.connect("wrong", of_another)
    assert "does not match the ID" in str(error.value)


async def test_a_grant_type_that_the_application_may_not_use(world: World) -> None:
    """A setting of the Application is wrong, which connecting again does not change: 1.5 calls it invalid_grant."""
    client = world.sandbox.client(grant_types=["refresh_token"])
    with pytest.raises(TokenEndpointError) as error:
        await world.manager.connect("service", ClientCredentialsGrant(client))
    assert "check the Application's settings in Tribe" in str(error.value)


async def test_a_grant_type_that_is_taken_from_the_application_for_a_while(world: World) -> None:
    """Nothing was spent: the connection recovers when the Application may refresh again."""
    application = world.sandbox._authority.applications[world.client.client_id]
    allowed, application.grant_types = application.grant_types, frozenset({"client_credentials"})
    world.clock.advance(DAY)
    with pytest.raises(TribeOAuthError):
        await world.manager.token("acme")
    application.grant_types = allowed
    world.clock.advance(DAY)
    token = await world.manager.token("acme")
    assert world.sandbox.ledger.is_live(token.access_token.reveal())
