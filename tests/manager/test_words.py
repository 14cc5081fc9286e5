"""What the server says is told, and read: each refusal with its cause and remedy, on every profile of the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
from aiohttp import ClientSession
from yarl import URL

from tribe_oauth import (
    CallbackError,
    Client,
    ClientCredentialsGrant,
    MemoryStore,
    ReauthorizationRequired,
    RefreshTokenGrant,
    TokenEndpointError,
    TokenManager,
)
from tribe_oauth._oauth.client import AuthorizationCodeGrant, Grant
from tribe_oauth.errors import (
    CLIENT_REFUSED,
    EXPIRED,
    GRANT_TYPE,
    OTHER_CLIENT,
    PKCE,
    REDIRECT_URI,
    REVOKED,
    SCOPE,
    USED_ELSEWHERE,
    StoreError,
    TemporarilyUnavailable,
)
from tribe_oauth.sandbox import PROFILES, Sandbox
from tribe_oauth.stores import Record

from .helpers import VirtualClock

DAY = 86_400
STANDARD = "The provided authorization grant"


@attrs.define
class World:
    """A sandbox, an Application of it, and a manager on a store."""

    sandbox: Sandbox
    client: Client
    clock: VirtualClock
    store: MemoryStore
    manager: TokenManager

    def another_client(self) -> Client:
        """Another Application of the same kind."""
        return self.sandbox.client(organization="Acme")

    def another_manager(self, client: Client | None = None) -> TokenManager:
        """As in another process, on the same store."""
        return TokenManager(client or self.client, store=self.store, clock=self.clock)

    async def consent(self, client: Client, *, pkce: bool = True, **query: str | None) -> AuthorizationCodeGrant:
        """A code, whose authorization request lost parameters on its way, or has others."""
        request = client.authorization_request(pkce=pkce)
        url = URL(request.url)
        url = url.without_query_params(*query).update_query({name: value for name, value in query.items() if value})
        return request.grant(await self.sandbox.approve(str(url), organization="Acme"))


@pytest.fixture(params=PROFILES)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    clock = VirtualClock()
    store = MemoryStore(clock=clock.monotonic)
    async with Sandbox(profile=request.param, clock=clock.time) as sandbox:
        client = sandbox.client()
        async with TokenManager(client, store=store, clock=clock) as manager:
            yield World(sandbox, client, clock, store, manager)


async def refused(manager: TokenManager, grant: Grant) -> TokenEndpointError:
    """The error of a grant that is refused for good."""
    with pytest.raises(TokenEndpointError) as error:
        await manager.connect("acme", grant)
    assert not error.value.retryable
    assert STANDARD not in str(error.value)
    return error.value


# The client


async def test_a_token_of_another_application(world: World) -> None:
    """It is not told as used or expired: the client is wrong, and with the right one it works."""
    owner = world.another_client()
    pasted = world.sandbox.paste_token("Acme", client=owner)
    for _ in range(2):
        error = await refused(world.manager, RefreshTokenGrant(world.client, pasted))
        assert error.cause == OTHER_CLIENT
        assert f"belongs to another Application than {world.client.client_id!r}" in str(error)
        assert "does not match the ID" in (error.error_description or "")
        assert "used" not in str(error)
        assert "expired" not in str(error)
    token = await world.manager.connect("acme", RefreshTokenGrant(owner, pasted))
    assert world.sandbox.ledger.is_live(token.access_token.reveal())
    assert world.sandbox.ledger.reused() == ()


async def test_a_secret_that_was_put_right(world: World) -> None:
    """A pasted token that was tried with a wrong secret is tried again with the right one, not with the stored one."""
    mine = world.another_client()
    pasted = world.sandbox.paste_token("Acme", client=mine)
    wrong = attrs.evolve(mine, client_secret="wrong-secret")
    error = await refused(world.manager, RefreshTokenGrant(wrong, pasted))
    assert error.cause == CLIENT_REFUSED
    assert "check client_id and client_secret; a server whose database is away says the same" in str(error)
    token = await world.manager.connect("acme", RefreshTokenGrant(mine, pasted))
    assert world.sandbox.ledger.is_live(token.access_token.reveal())


async def test_a_code_of_another_application(world: World) -> None:
    """The other sentence that the server has for it; the code is not said to be used."""
    grant = await world.consent(world.client)
    grant._request = attrs.evolve(grant._request, client=world.another_client())
    error = await refused(world.manager, grant)
    assert error.cause == OTHER_CLIENT
    assert "this code belongs to another Application" in str(error)
    assert "works once" not in str(error)


# The redirect URI and PKCE


async def test_a_redirect_uri_that_is_missing(world: World) -> None:
    """Which one was sent, and which switch is wrong."""
    client = attrs.evolve(world.client, redirect_uri_in_exchange=False)
    error = await refused(world.manager, await world.consent(client))
    assert error.cause == REDIRECT_URI
    assert "redirect URI (none was sent)" in str(error)
    assert "leave redirect_uri_in_exchange at True" in str(error)


async def test_a_redirect_uri_that_differs(world: World) -> None:
    """The one that was sent is named."""
    grant = await world.consent(world.client)
    other = attrs.evolve(world.client, redirect_uri="https://other.example/callback")
    grant._request = attrs.evolve(grant._request, client=other)
    error = await refused(world.manager, grant)
    assert error.cause == REDIRECT_URI
    assert "redirect URI (https://other.example/callback)" in str(error)


@pytest.mark.parametrize("challenge", [None, "x" * 43])
async def test_a_verifier_that_does_not_fit(world: World, challenge: str | None) -> None:
    """Where the consent does not pass the challenge on, or another one: PKCE can be switched off, and then it works."""
    method = challenge and "S256"
    grant = await world.consent(world.client, code_challenge=challenge, code_challenge_method=method)
    error = await refused(world.manager, grant)
    assert error.cause == PKCE
    assert "pkce=False" in str(error)
    grant = await world.consent(world.client, pkce=False)
    assert await world.manager.connect("acme", grant)


# What the Application may


@pytest.mark.parametrize("grant_type", ["client_credentials", "refresh_token", "authorization_code"])
async def test_a_grant_type(world: World, grant_type: str) -> None:
    """The Application is named, and the grant type that it may not use; 1.5 calls that an invalid grant."""
    allowed = sorted({"client_credentials", "refresh_token", "authorization_code"} - {grant_type})
    client = world.sandbox.client(grant_types=allowed)
    grant: Grant
    if grant_type == "client_credentials":
        grant = ClientCredentialsGrant(client)
    elif grant_type == "refresh_token":
        grant = RefreshTokenGrant(client, world.sandbox.paste_token("Acme", client=client))
    else:
        grant = await world.consent(client)
    error = await refused(world.manager, grant)
    assert error.cause == GRANT_TYPE
    assert f"{client.client_id!r} may not use the grant type {grant_type}" in str(error)
    assert "Configuration > Applications in Tribe" in str(error)


async def test_a_scope_of_client_credentials(world: World) -> None:
    """Which scope was asked for, and where to set it."""
    client = world.sandbox.client(scope="read")
    error = await refused(world.manager, ClientCredentialsGrant(client, scope="read write"))
    assert (error.error, error.cause) == ("invalid_scope", SCOPE)
    assert "asked for 'read write'" in str(error)
    assert "scope= of the client or the grant, TRIBE_SCOPE" in str(error)
    assert "not allowed to request scope 'write'" in str(error)


async def test_a_scope_of_a_consent(world: World) -> None:
    """The callback says it; its words are not cut off, nor left in a member that is not read."""
    client = world.sandbox.client(scope="read")
    request = client.authorization_request(scope="read write")
    with pytest.raises(CallbackError) as error:
        request.grant(await world.sandbox.approve(request.url))
    assert error.value.error == "invalid_scope"
    for said in ("not allowed to request scope 'write'", "asked for 'read write'", "scope= of the client"):
        assert said in str(error.value)


async def test_a_scope_that_is_taken_from_the_application(world: World) -> None:
    """It is not the end of the connection, which recovers when the scope is given back."""
    await world.manager.connect("acme", RefreshTokenGrant(world.client, world.sandbox.paste_token("Acme")))
    application = world.sandbox._authority.applications[world.client.client_id]
    allowed, application.scope = application.scope, frozenset({"read", "offline"})
    world.clock.advance(DAY)
    with pytest.raises(TokenEndpointError, match="taken from the Application") as error:
        await world.manager.token("acme")
    assert error.value.cause == SCOPE
    application.scope = allowed
    world.clock.advance(DAY)
    assert await world.manager.token("acme")


# The refresh token itself

PASTED = {  # one that was used already; one that was not used for too long
    "hydra-1.5": (REVOKED, None),
    "hydra-1.10": (REVOKED, None),
    "hydra-1.11": (REVOKED, REVOKED),
    "hydra-2.3": (USED_ELSEWHERE, EXPIRED),
    "strict": (USED_ELSEWHERE, None),
}


async def test_a_pasted_token_that_was_used(world: World) -> None:
    """As much as the server says, and no more."""
    pasted = world.sandbox.paste_token("Acme", client=world.client)
    async with TokenManager(world.client, clock=world.clock) as other:
        await other.connect("acme", RefreshTokenGrant(world.client, pasted))
    error = await refused(world.manager, RefreshTokenGrant(world.client, pasted))
    assert error.cause == PASTED[world.sandbox.profile][0]
    assert "copy a new one from Tribe" in str(error)
    if error.cause == USED_ELSEWHERE:
        assert "The refresh token was already used." in str(error)
        assert "it was used already" in str(error)
    else:
        assert "it was used, was revoked, has expired, or is not one of this server" in str(error)


async def test_a_pasted_token_that_expired(world: World) -> None:
    """Where the server calls it an invalid request, that may be a proxy's doing as well."""
    pasted = world.sandbox.paste_token("Acme", client=world.client)
    world.clock.advance(31 * DAY)
    error = await refused(world.manager, RefreshTokenGrant(world.client, pasted))
    expected = PASTED[world.sandbox.profile][1]
    assert error.cause == (expected or REVOKED)
    if expected is None:
        assert "it has expired, or something on the way to the server changes requests" in str(error)
        assert "whitelisted" not in str(error)


async def test_the_words_that_end_a_connection(world: World) -> None:
    """They are in the error, in the status, and kept for other processes."""
    token = await world.manager.connect("acme", RefreshTokenGrant(world.client, world.sandbox.paste_token("Acme")))
    assert token.refresh_token is not None
    form = {
        "grant_type": "refresh_token",
        "client_id": world.client.client_id,
        "client_secret": world.client.client_secret.reveal(),
        "refresh_token": token.refresh_token.reveal(),
    }
    async with ClientSession() as session, session.post(world.client.endpoints.token_endpoint, data=form) as response:
        assert response.status == 200  # by another program, with a copy
    words = {"hydra-2.3": "The refresh token was already used.", "strict": "The refresh token was already used."}
    said = words.get(world.sandbox.profile)
    world.clock.advance(DAY)
    async with world.another_manager() as other:
        for manager in (world.manager, other):
            with pytest.raises(ReauthorizationRequired) as error:
                await manager.token("acme")
            assert error.value.error_description == said
            assert ("the server says" in str(error.value)) is (said is not None)
            status = await manager.status("acme")
            assert status.said == said
            assert status.why == (f"{status.cause}: {said}" if said else status.cause)
    assert world.sandbox.ledger.spent_twice() != ()  # ours was the second


async def test_why_the_last_attempts_failed(world: World) -> None:
    """Not only the process that heard it knows."""
    await world.manager.connect("acme", RefreshTokenGrant(world.client, world.sandbox.paste_token("Acme")))
    world.sandbox.fault("database_away", times=None)
    world.clock.advance(DAY)
    with pytest.raises(TemporarilyUnavailable):
        await world.manager.token("acme")
    async with world.another_manager() as other:
        with pytest.raises(TemporarilyUnavailable, match=r"after 1 failed attempts \(the last one: invalid_client\)"):
            await other.token("acme")
    async with world.another_manager() as third:
        assert (await third.status("acme")).why == "1 attempts failed: invalid_client"


# A client that is refused, or a server with a fault


async def test_a_code_is_tried_again_while_the_database_is_away(world: World) -> None:
    """S6, F9: the server has not looked at it; within the time-out it is sent again, and the customer is connected."""
    grant = await world.consent(world.client)
    fault = world.sandbox.fault("database_away", times=4)
    token = await world.manager.connect("acme", grant)
    assert world.sandbox.ledger.is_live(token.access_token.reveal())
    assert fault.hits == 4
    assert sum(world.clock.slept) == 1 + 2 + 4 + 8
    assert world.sandbox.ledger.reused() == ()


async def test_a_code_while_the_database_is_away_for_long(world: World) -> None:
    """With credentials that worked before in this process, both causes are named, and the same grant is good later."""
    await world.manager.connect("acme", RefreshTokenGrant(world.client, world.sandbox.paste_token("Acme")))
    grant = await world.consent(world.client)
    fault = world.sandbox.fault("database_away", times=None)
    with pytest.raises(TemporarilyUnavailable, match=r"has a fault.*client_secret, which worked before") as error:
        await world.manager.connect("beta", grant)
    assert error.value.cause == CLIENT_REFUSED
    assert fault.hits == 5
    fault.cancel()
    assert await world.manager.connect("beta", grant)


async def test_a_code_of_an_organization_that_is_connected(world: World) -> None:
    """After a restart too: the store knows that the organization's client worked; of another one nobody does."""
    await world.manager.connect("acme", RefreshTokenGrant(world.client, world.sandbox.paste_token("Acme")))
    fault = world.sandbox.fault("database_away", times=None)
    async with world.another_manager() as restarted:
        with pytest.raises(TemporarilyUnavailable, match="which worked before"):
            await restarted.connect("acme", await world.consent(world.client))
    async with world.another_manager() as restarted:
        for organization, client in (("acme", world.another_client()), ("beta", world.client)):
            with pytest.raises(TokenEndpointError, match="a server whose database is away says the same") as error:
                await restarted.connect(organization, await world.consent(client))
            assert not error.value.retryable
    fault.cancel()


async def test_a_code_beside_a_record_that_cannot_be_read(world: World) -> None:
    """It says nothing about the client, and is no error of its own."""
    await world.manager.connect("acme", RefreshTokenGrant(world.client, world.sandbox.paste_token("Acme")))
    record = await world.store.load("acme")
    assert record is not None
    assert await world.store.swap(attrs.evolve(record, payload=b"{"))
    world.sandbox.fault("database_away", times=None)
    async with world.another_manager() as restarted:
        with pytest.raises(TokenEndpointError, match="a server whose database is away says the same"):
            await restarted.connect("acme", await world.consent(world.client))


async def test_a_code_while_the_store_cannot_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same: who asks whether the client worked has no answer."""

    async def away(organization: str) -> Record | None:
        raise StoreError("away")

    grant = await world.consent(world.client)
    world.sandbox.fault("database_away", times=None)
    async with world.another_manager() as restarted:
        monkeypatch.setattr(world.store, "load", away)
        with pytest.raises(TokenEndpointError, match="a server whose database is away says the same"):
            await restarted.connect("acme", grant)


async def test_client_credentials_that_worked_before(world: World) -> None:
    """F9: of an organization that asks for another scope now, and of one that was stored before a restart."""
    await world.manager.connect("acme", ClientCredentialsGrant(world.client))
    world.sandbox.fault("database_away", times=None)
    async with world.another_manager() as restarted:
        for grant in (ClientCredentialsGrant(world.client), ClientCredentialsGrant(world.client, scope="read")):
            with pytest.raises(TemporarilyUnavailable, match="which worked before"):
                await restarted.connect("acme", grant)


async def test_a_paste_beside_a_connection(world: World) -> None:
    """F9: by the same client, whose credentials worked: both causes are named."""
    await world.manager.connect("acme", RefreshTokenGrant(world.client, world.sandbox.paste_token("Acme")))
    world.sandbox.fault("database_away", times=None)
    async with world.another_manager() as restarted:
        with pytest.raises(TemporarilyUnavailable, match="which worked before"):
            await restarted.connect("acme", RefreshTokenGrant(world.client, world.sandbox.paste_token("Acme")))


async def test_a_revocation_while_the_database_is_away(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """F9: it is made later, and the log says why not now; versions that say 200 to it cannot be seen through."""
    token = await world.manager.connect("acme", RefreshTokenGrant(world.client, world.sandbox.paste_token("Acme")))
    assert token.refresh_token is not None
    world.sandbox.fault("database_away", times=2)
    await world.manager.disconnect("acme")
    await world.manager.close()  # a pause that is cut short is no further attempt
    honest = PROFILES[world.sandbox.profile].revocation_without_database == 401
    assert ("could not be revoked at the server (invalid_client): it is tried again" in caplog.text) is honest
