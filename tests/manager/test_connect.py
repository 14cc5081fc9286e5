"""The three ways in, and the way out."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import attrs
import pytest
from yarl import URL

from tribe_oauth import (
    CallbackError,
    Client,
    ClientCredentialsGrant,
    MemoryStore,
    ReauthorizationRequired,
    RefreshTokenGrant,
    StoreError,
    TokenEndpointError,
    TokenManager,
    TokenStore,
    UnknownOrganizationError,
)
from tribe_oauth._oauth.client import AuthorizationCodeGrant
from tribe_oauth._oauth.endpoint import Outcome
from tribe_oauth.errors import ConfigurationError, ScopeError, TemporarilyUnavailable
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.sqlite import SQLiteStore

from ..stored import with_other
from .conftest import MakeManager
from .helpers import (
    TokenServer,
    VirtualClock,
    held_back,
    json_answer,
    oauth_error,
    page,
    reset,
    spent_then_reset,
    until,
)

DAY = 86_400


def consent(client: Client, scope: str = "read write offline") -> AuthorizationCodeGrant:
    request = client.authorization_request()
    return request.grant(f"https://app.example/callback/?code=c0de&scope={scope}&state={request.state}")


# Quick Setup


async def test_a_pasted_token_is_spent_once(manager: TokenManager, server: TokenServer, clock: VirtualClock) -> None:
    """Quick Setup: the pasted token and all its successors are refreshed without a redirect_uri."""
    clock.advance(DAY)
    await manager.token("acme")
    assert len(server.refreshes()) == len(set(server.refreshes())) == 2
    assert not any("redirect_uri" in form for form in server.forms)


async def test_an_equal_paste_changes_nothing(manager: TokenManager, server: TokenServer) -> None:
    """The same refresh token again, as at every start of a service: the stored family goes on."""
    pasted = server.refreshes()[0]
    token = await manager.connect("acme", RefreshTokenGrant(server.client(), pasted))
    assert token == await manager.token("acme")
    assert len(server.forms) == 1


async def test_an_older_paste_changes_nothing(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer
) -> None:
    """A host that was not redeployed yet brings the token before the last: nothing happens."""
    first, second = server.refreshes()[0], server.paste()
    new = await manager.connect("acme", RefreshTokenGrant(server.client(), second))
    assert await make_manager().connect("acme", RefreshTokenGrant(server.client(), first)) == new
    assert server.refreshes() == [first, second]


async def test_a_refused_paste_destroys_nothing(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """A wrong refresh token over a connection that works: the error has the server's code, the connection goes on."""
    old = await manager.token("acme")
    with pytest.raises(TokenEndpointError, match=r"refused \(invalid_grant: gone\).*copy a new one") as error:
        await manager.connect("acme", RefreshTokenGrant(server.client(), "wrong"))
    assert error.value.error == "invalid_grant"
    assert await manager.token("acme") == old
    clock.advance(DAY)
    assert await manager.token("acme") != old


async def test_a_refused_first_paste_leaves_nothing(make_manager: MakeManager, server: TokenServer) -> None:
    """Nothing was connected, nothing is: and another try is a fresh one."""
    manager = make_manager()
    for _ in range(2):
        with pytest.raises(TokenEndpointError, match="invalid_grant"):
            await manager.connect("acme", RefreshTokenGrant(server.client(), "wrong"))
    assert [organization async for organization in manager.organizations()] == []
    with pytest.raises(UnknownOrganizationError):
        await manager.token("acme")
    assert await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))


async def test_a_paste_revives_a_dead_organization(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """What has to be connected again is connected again, under a new family."""
    server.live.clear()
    with pytest.raises(ReauthorizationRequired):
        await manager.refresh("acme")
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    assert (await manager.status("acme")).state == "fresh"
    clock.advance(DAY)
    assert await manager.token("acme")


async def test_one_paste_belongs_to_one_organization(manager: TokenManager, server: TokenServer) -> None:
    """A token that is known under another organization is refused before it is spent; after a disconnect it is not."""
    pasted = server.refreshes()[0]
    with pytest.raises(ConfigurationError, match="connected as organization 'acme' already"):
        await manager.connect("beta", RefreshTokenGrant(server.client(), pasted))
    assert len(server.forms) == 1
    await manager.disconnect("acme")
    with pytest.raises(TokenEndpointError, match="invalid_grant"):
        await manager.connect("beta", RefreshTokenGrant(server.client(), pasted))


async def test_a_candidate_survives_a_crash(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """F1: saved before it is spent: a process that asks for the organization after a crash finishes the connection."""
    server.order(page(404))
    pasted = server.paste()
    with pytest.raises(TemporarilyUnavailable):
        await make_manager().connect("acme", RefreshTokenGrant(server.client(), pasted))
    record = await store.load("acme")
    assert record is not None
    assert record.status == "connecting"
    assert (await make_manager().token("acme")).access_token.reveal() in server.access
    assert server.refreshes() == [pasted, pasted]


async def test_a_candidate_whose_answer_was_lost(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """Connecting again with the same token after an unknown outcome waits until the first cannot arrive any more."""
    pasted = server.paste()
    server.order(page(502), page(502))
    manager = make_manager()
    with pytest.raises(TemporarilyUnavailable):
        await manager.connect("acme", RefreshTokenGrant(server.client(), pasted))
    clock.slept.clear()
    assert await manager.connect("acme", RefreshTokenGrant(server.client(), pasted))
    assert sum(clock.slept) >= 10


async def test_two_hosts_paste_the_same_token(make_manager: MakeManager, server: TokenServer) -> None:
    """A deploy: every host connects with the same new token at once; it is spent once, all have its successor."""
    pasted = server.paste()
    hosts = [make_manager() for _ in range(5)]
    tokens = await asyncio.gather(*(host.connect("acme", RefreshTokenGrant(server.client(), pasted)) for host in hosts))
    assert len(set(tokens)) == 1
    assert server.refreshes() == [pasted]


async def test_two_hosts_paste_the_same_wrong_token(make_manager: MakeManager, server: TokenServer) -> None:
    """The one that comes second is told what the first was."""
    hosts = [make_manager() for _ in range(2)]
    results = await asyncio.gather(
        *(host.connect("acme", RefreshTokenGrant(server.client(), "wrong")) for host in hosts), return_exceptions=True
    )
    for error in results:
        assert isinstance(error, TokenEndpointError)
        assert (error.error, error.error_description) == ("invalid_grant", "gone")
        assert "(invalid_grant: gone)" in str(error)


async def test_pasting_over_client_credentials(make_manager: MakeManager, server: TokenServer) -> None:
    """An organization may change its way in."""
    manager = make_manager()
    await manager.connect("acme", ClientCredentialsGrant(server.client()))
    token = await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    assert token.refresh_token is not None
    assert (await manager.connect("acme", ClientCredentialsGrant(server.client()))).refresh_token is None


# Client credentials


async def test_client_credentials(make_manager: MakeManager, server: TokenServer, clock: VirtualClock) -> None:
    """No refresh token although `offline` was asked for; when the token runs out, another is asked for."""
    manager = make_manager()
    token = await manager.connect("acme", ClientCredentialsGrant(server.client()))
    assert token.refresh_token is None
    assert server.forms[0]["scope"] == "read write offline"
    clock.advance(DAY)
    assert await manager.token("acme") != token
    assert len(server.forms) == 2


async def test_an_equal_client_credentials_grant(make_manager: MakeManager, server: TokenServer) -> None:
    """The store keeps the client, not the token: after a restart, equal credentials write nothing."""
    await make_manager().connect("acme", ClientCredentialsGrant(server.client("other", scope="read")))
    manager = make_manager()
    assert await manager.token("acme")
    assert await manager.connect("acme", ClientCredentialsGrant(server.client("other"), scope="read"))
    assert {form["client_id"] for form in server.forms} == {"other"}
    assert {form["scope"] for form in server.forms} == {"read"}


@pytest.mark.parametrize(
    "answer", [page(502), reset, oauth_error("invalid_client", 401), oauth_error("server_error", 500)]
)
async def test_client_credentials_are_asked_again_at_once(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock, answer: object
) -> None:
    """Tribe's page: any number of calls is free, so that a failed one is repeated."""
    server.order(answer)  # type: ignore[arg-type]
    assert await make_manager().connect("acme", ClientCredentialsGrant(server.client()))
    assert len(server.forms) == 2
    assert sum(clock.slept) < 2


async def test_client_credentials_that_are_wrong(make_manager: MakeManager, server: TokenServer) -> None:
    """A wrong secret: the server's code, the remedy, and nothing stored."""
    manager = make_manager()
    server.order(*[oauth_error("invalid_client", 401)] * 3)
    with pytest.raises(TokenEndpointError, match=r"invalid_client.*check client_id and client_secret"):
        await manager.connect("acme", ClientCredentialsGrant(server.client()))
    with pytest.raises(UnknownOrganizationError):
        await manager.token("acme")


async def test_client_credentials_without_an_access_token(make_manager: MakeManager, server: TokenServer) -> None:
    """An answer that has a refresh token and no access token is of no use here."""
    server.order(json_answer({"refresh_token": "x", "token_type": "bearer"}))
    with pytest.raises(TemporarilyUnavailable, match="no readable access token"):
        await make_manager().connect("acme", ClientCredentialsGrant(server.client()))


async def test_a_refused_scope(make_manager: MakeManager, server: TokenServer) -> None:
    """Tribe rejects a scope that the Application does not have: told with the server's words."""
    server.order(oauth_error("invalid_scope"))
    with pytest.raises(TokenEndpointError, match="invalid_scope: told so"):
        await make_manager().connect("acme", ClientCredentialsGrant(server.client(), scope="read offline"))


async def test_more_than_was_asked_for(make_manager: MakeManager, server: TokenServer) -> None:
    """S7: a scope beyond the asked is refused at connect."""
    server.order(json_answer({"access_token": "a", "token_type": "bearer", "scope": "read admin"}))
    with pytest.raises(ScopeError, match=r"more was granted.*\(admin\)"):
        await make_manager().connect("acme", ClientCredentialsGrant(server.client(), scope="read"))


async def test_each_organization_its_own_client(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore
) -> None:
    """A client that a grant brought is stored with the organization; the manager's own never is."""
    await make_manager().connect("acme", ClientCredentialsGrant(server.client("acme's")))
    await make_manager().connect("beta", RefreshTokenGrant(server.client(), server.paste()))
    acme, beta = await store.load("acme"), await store.load("beta")
    assert acme is not None
    assert beta is not None
    assert b"secret of acme's" in acme.payload
    assert b"secret of" not in beta.payload
    assert await make_manager(client=None, endpoints=server.endpoints).token("acme")
    with pytest.raises(ConfigurationError, match="with the client 'client': give that client to the manager"):
        await make_manager(client=None, endpoints=server.endpoints).refresh("beta")


async def test_another_tribe(make_manager: MakeManager, server: TokenServer) -> None:
    """A store of staging under a manager of production: nothing is sent to the wrong server."""
    await make_manager().connect("acme", ClientCredentialsGrant(server.client("acme's")))
    with pytest.raises(ConfigurationError, match="connected at another token endpoint"):
        await make_manager(client=None).token("acme")
    with pytest.raises(ConfigurationError, match="other endpoints than the manager"):
        await make_manager().connect("beta", ClientCredentialsGrant(Client("a", "b")))


async def test_a_manager_without_a_client(make_manager: MakeManager, server: TokenServer) -> None:
    """Where Tribe is has been decided when it was made: its sessions lead there, whatever is connected later."""
    manager = make_manager(client=None, endpoints=server.client().endpoints)
    await manager.connect("acme", ClientCredentialsGrant(server.client()))
    async with manager.session("acme") as session, session.get("/v1/odata/Relation_Person") as response:
        assert response.status == 200


async def test_a_grant_for_another_tribe(server: TokenServer) -> None:
    """A manager that was made for Tribe itself refuses a grant for another, names the remedy and sends nothing."""
    async with TokenManager() as manager, manager.session("acme") as session:
        with pytest.raises(ConfigurationError, match="endpoints="):
            await manager.connect("acme", ClientCredentialsGrant(server.client()))
        assert session._base_url == URL("https://api.tribecrm.nl")
    assert server.forms == []


# Authorization code


async def test_a_code(make_manager: MakeManager, server: TokenServer, clock: VirtualClock) -> None:
    """S5: the identical redirect_uri at the exchange and at every refresh; the callback's scope is the granted one."""
    manager = make_manager()
    token = await manager.connect("acme", consent(server.client(), "read%20offline"))
    assert token.scope == frozenset({"read", "offline"})
    clock.advance(DAY)
    assert (await manager.token("acme")).scope == frozenset({"read", "offline"})
    exchange, refresh = server.forms
    assert exchange["code"] == "c0de"
    assert "code_verifier" in exchange
    assert exchange["redirect_uri"] == refresh["redirect_uri"] == "https://app.example/callback"


async def test_the_redirect_uri_can_be_left_out_of_the_exchange(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """Tribe's parameter table has none there; a documented switch follows it."""
    manager = make_manager()
    await manager.connect("acme", consent(server.client(redirect_uri_in_exchange=False)))
    await manager.refresh("acme")
    exchange, refresh = server.forms
    assert "redirect_uri" not in exchange
    assert refresh["redirect_uri"] == "https://app.example/callback"


@pytest.mark.parametrize("answer", [reset, page(502), page(200), oauth_error("invalid_grant"), page(429)])
async def test_a_code_is_never_sent_twice(manager: TokenManager, server: TokenServer, answer: object) -> None:
    """S6: without a definite answer the code may be spent; the error says to connect again; what worked goes on."""
    old = await manager.token("acme")
    grant = consent(server.client())
    server.order(answer)  # type: ignore[arg-type]
    with pytest.raises(TokenEndpointError, match="start the connection again"):
        await manager.connect("acme", grant)
    with pytest.raises(CallbackError, match="used already"):
        await manager.connect("acme", grant)
    assert len([form for form in server.forms if form["grant_type"] == "authorization_code"]) == 1
    assert await manager.token("acme") == old


async def test_a_code_that_was_not_sent_can_be_sent(make_manager: MakeManager, server: TokenServer) -> None:
    """Where no connection came about, the code is as good as before."""
    client = server.client()
    away = attrs.evolve(server.endpoints, token_endpoint="http://127.0.0.1:9/oauth2/token")
    lost = attrs.evolve(client, endpoints=away)
    manager = make_manager(client=lost)
    grant = consent(lost)
    for _ in range(2):
        with pytest.raises(TemporarilyUnavailable):
            await manager.connect("acme", grant)


async def test_offline_refused_in_the_callback(make_manager: MakeManager, server: TokenServer) -> None:
    """S7: said at once, with the remedy, before the code is spent."""
    with pytest.raises(ScopeError, match="ask for the scope 'offline' and have it ticked"):
        await make_manager().connect("acme", consent(server.client(), "read"))
    assert server.forms == []


async def test_offline_refused_in_the_answer(manager: TokenManager, server: TokenServer) -> None:
    """S7: no refresh token in the answer; what was connected before is untouched."""
    old = await manager.token("acme")
    server.order(json_answer({"access_token": "a", "token_type": "bearer"}))
    with pytest.raises(ScopeError, match="offline"):
        await manager.connect("acme", consent(server.client()))
    assert await manager.token("acme") == old


async def test_a_code_that_grants_more(make_manager: MakeManager, server: TokenServer) -> None:
    """S7: a scope beyond the asked, in the callback or in the answer, is refused, and what came is revoked."""
    with pytest.raises(ScopeError, match="admin"):
        await make_manager().connect("acme", consent(server.client(), "read%20offline%20admin"))
    server.order(
        json_answer({"access_token": "a", "token_type": "bearer", "refresh_token": "much", "scope": "offline admin"})
    )
    with pytest.raises(ScopeError, match="admin"):
        await make_manager().connect("acme", consent(server.client()))
    assert server.revoked == ["much"]


async def test_a_caller_who_leaves_during_the_exchange(make_manager: MakeManager, server: TokenServer) -> None:
    """F7: the browser went away; the connection is stored all the same."""
    manager = make_manager()
    server.order(held_back(server))
    connecting = asyncio.ensure_future(manager.connect("acme", consent(server.client())))
    await server.arrived.wait()
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    server.released.set()
    token = await manager.token("acme") if await _known(manager) else None
    assert token is not None


async def _known(manager: TokenManager) -> bool:
    """Connecting holds the organization's turn: whoever comes next finds it connected."""
    async with manager._tasks.lock("acme"):
        return "acme" in manager._tokens


async def test_a_caller_who_leaves_before_a_refusal(make_manager: MakeManager, server: TokenServer) -> None:
    """F7: an error for somebody who has gone is nobody's."""
    manager = make_manager()

    async def refuse(form: object, request: object) -> object:
        await server.released.wait()
        return await oauth_error("invalid_grant")({}, None)  # type: ignore[arg-type]

    server.order(refuse)  # type: ignore[arg-type]
    connecting = asyncio.ensure_future(manager.connect("acme", consent(server.client())))
    await server.arrived.wait()
    connecting.cancel()
    server.released.set()
    assert not await _known(manager)


# The way out


async def test_disconnect(manager: TokenManager, server: TokenServer, store: MemoryStore) -> None:
    """Revoked at the server, erased in the store; a tombstone keeps the numbers from being used again."""
    token = await manager.token("acme")
    await manager.disconnect("acme")
    assert token.refresh_token is not None
    assert server.revoked == [token.refresh_token.reveal()]
    record = await store.load("acme")
    assert record is not None
    assert (record.status, record.payload) == ("disconnected", b"")
    with pytest.raises(UnknownOrganizationError):
        await manager.token("acme")
    await manager.disconnect("acme")
    await manager.disconnect("never heard of")
    generation = record.generation
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    again = await store.load("acme")
    assert again is not None
    assert again.generation > generation


async def test_disconnect_forgets_even_if_the_revocation_fails(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its client's secret the revocation cannot be made; the organization is forgotten all the same."""
    await make_manager().connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    stranger = make_manager(client=server.client("stranger"))
    await stranger.disconnect("acme")
    assert "not revoked at the server" in caplog.text
    record = await store.load("acme")
    assert record is not None
    assert record.payload == b""


async def test_disconnect_without_a_revocation_endpoint(
    make_manager: MakeManager, server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is none, there is nothing to tell; where it fails, that is logged."""
    client = attrs.evolve(server.client(), endpoints=attrs.evolve(server.endpoints, revocation_endpoint=None))
    manager = make_manager(client=client)
    await manager.connect("acme", RefreshTokenGrant(client, server.paste()))
    await manager.disconnect("acme")
    assert server.revoked == []
    away = attrs.evolve(server.endpoints, revocation_endpoint=f"{server.base}/nowhere")
    client = attrs.evolve(server.client(), endpoints=away)
    manager = make_manager(client=client)
    await manager.connect("acme", RefreshTokenGrant(client, server.paste()))
    await manager.disconnect("acme")
    assert "could not be revoked" in caplog.text


async def test_closing_amid_a_revocation_that_is_tried_again(
    manager: TokenManager, server: TokenServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is given up, with a line in the log; no task ends with an error that nobody hears."""
    server.revoking = [503]
    await manager.disconnect("acme")
    again = asyncio.Event()

    async def never(*_: object, **__: object) -> Outcome:
        again.set()
        nothing: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        return await nothing

    monkeypatch.setattr(manager._context.endpoint, "post", never)
    await again.wait()
    await manager.close()
    gc.collect()
    assert "was not revoked at the server: it dies by itself" in caplog.text
    assert "never retrieved" not in caplog.text


async def test_disconnect_client_credentials_and_candidates(make_manager: MakeManager, server: TokenServer) -> None:
    """There is nothing to revoke for client credentials; a pasted token that was never spent is revoked too."""
    manager = make_manager()
    await manager.connect("acme", ClientCredentialsGrant(server.client()))
    await manager.disconnect("acme")
    assert server.revoked == []
    pasted = server.paste()
    server.order(page(404))
    with pytest.raises(TemporarilyUnavailable):
        await manager.connect("beta", RefreshTokenGrant(server.client(), pasted))
    await manager.disconnect("beta")
    assert server.revoked == [pasted]


async def test_disconnect_waits_for_a_flight(manager: TokenManager, server: TokenServer) -> None:
    """F11: in this process a refresh under way ends first, and its result is what is revoked."""
    server.order(held_back(server))
    refreshing = asyncio.ensure_future(manager.refresh("acme"))
    await server.arrived.wait()
    leaving = asyncio.ensure_future(manager.disconnect("acme"))
    server.released.set()
    token = await refreshing
    await leaving
    assert token.refresh_token is not None
    assert server.revoked == [token.refresh_token.reveal()]


async def test_disconnected_elsewhere_during_a_flight(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer
) -> None:
    """F11: a late result for an organization that is gone is revoked and dropped."""
    server.order(held_back(server))
    refreshing = asyncio.ensure_future(manager.refresh("acme"))
    await server.arrived.wait()
    await make_manager().disconnect("acme")
    server.live.add(server.refreshes()[-1])  # this server answers although the token was revoked meanwhile
    server.released.set()
    with pytest.raises(UnknownOrganizationError):
        await refreshing
    assert len(server.revoked) == 2
    assert server.live == set()


async def test_reconnected_elsewhere_during_a_flight(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer
) -> None:
    """F11: a late result for the old family is dropped; what is given out belongs to the new one."""
    server.order(held_back(server))
    refreshing = asyncio.ensure_future(manager.refresh("acme"))
    await server.arrived.wait()
    new = await make_manager().connect("acme", consent(server.client()))
    server.released.set()
    assert await refreshing == new
    assert len(set(server.revoked)) == 2  # what was there before, and what came too late for it


async def test_a_code_while_the_store_is_down(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named window: exchanged and not saved. The token works here, saving goes on, and the caller is told."""
    manager = make_manager()
    swap = store.swap

    async def down(*args: object, **kwargs: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "swap", down)
    with pytest.raises(StoreError, match="is connected, but could not be saved yet"):
        await manager.connect("acme", consent(server.client()))
    token = await manager.token("acme")
    monkeypatch.setattr(store, "swap", swap)
    await asyncio.wait(manager._tasks._tasks)
    assert await make_manager().token("acme") == attrs.evolve(token)


async def test_a_peers_candidate_is_overwritten(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """Two hosts paste different tokens at once: one family results, the other's late result is revoked."""
    first, second = server.paste(), server.paste()
    server.order(held_back(server))
    one, two = make_manager(), make_manager()
    connecting = asyncio.ensure_future(one.connect("acme", RefreshTokenGrant(server.client(), first)))
    await server.arrived.wait()
    other = asyncio.ensure_future(two.connect("acme", RefreshTokenGrant(server.client(), second)))
    await until(lambda: len(clock.slept) > 3)
    server.released.set()
    results = await asyncio.gather(connecting, other, return_exceptions=True)
    assert await make_manager().token("acme") in results


async def test_a_lost_candidate_answer_is_told(make_manager: MakeManager, server: TokenServer) -> None:
    """Spent, and the answer lost, at the very first request: refused the second time, and nothing is left behind."""
    server.order(spent_then_reset(server))
    with pytest.raises(TokenEndpointError, match="copy a new one"):
        await make_manager().connect("acme", RefreshTokenGrant(server.client(), server.paste()))


async def test_a_client_whose_secret_was_renewed(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore
) -> None:
    """The same paste with the client's new secret spends nothing and keeps it; another client's is not taken."""
    pasted = server.paste()
    old, stranger = server.client("own"), server.client("stranger")
    new = Client("own", "renewed", endpoints=server.endpoints, redirect_uri="https://app.example/callback")
    await make_manager().connect("acme", RefreshTokenGrant(old, pasted))
    for client in (stranger, new, new):
        await make_manager().connect("acme", RefreshTokenGrant(client, pasted))
    await make_manager().refresh("acme")
    assert [form["client_secret"] for form in server.forms] == ["secret of own", "renewed"]


async def test_a_callback_without_a_scope(make_manager: MakeManager, server: TokenServer) -> None:
    """Then nobody has said what was granted, and the token says so too."""
    client = server.client()
    request = client.authorization_request()
    grant = request.grant(f"/callback?code=c0de&state={request.state}")
    assert (await make_manager().connect("acme", grant)).scope is None


async def test_consent_after_a_disconnect(manager: TokenManager, server: TokenServer) -> None:
    """A tombstone is no obstacle."""
    await manager.disconnect("acme")
    assert await manager.connect("acme", consent(server.client()))


async def test_pasting_while_others_write(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that loses to another is made again on what the other has written."""
    pasted, swap, losing = server.paste(), store.swap, [True]

    async def lose_first(*args: object, **kwargs: object) -> object:
        return None if losing and losing.pop() else await swap(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "swap", lose_first)
    token = await make_manager().connect("acme", RefreshTokenGrant(server.client("own"), pasted))
    losing.append(True)
    renewed = Client("own", "renewed", endpoints=server.endpoints)
    assert await make_manager().connect("acme", RefreshTokenGrant(renewed, pasted)) == token
    record = await store.load("acme")
    assert record is not None
    assert b"renewed" in record.payload


# What is no longer needed, and what belongs to another


async def test_what_is_replaced_is_revoked(make_manager: MakeManager, server: TokenServer) -> None:
    """Reconnecting revokes the family that was there before, once the new one is committed; never the new one."""
    manager = make_manager()
    old = await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    for grant in (RefreshTokenGrant(server.client(), server.paste()), consent(server.client())):
        new = await manager.connect("acme", grant)
        await until(lambda old=old: old.refresh_token.reveal() in server.revoked)  # type: ignore[misc]
        assert new.refresh_token is not None
        assert new.refresh_token.reveal() in server.live
        old = new


@pytest.mark.parametrize("way", ["code", "paste"])
async def test_what_is_replaced_cannot_be_revoked(
    manager: TokenManager, server: TokenServer, store: MemoryStore, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """It was connected at another Tribe than this manager's: that is said, and connecting works."""
    record = await store.load("acme")
    assert record is not None
    payload = with_other(record.payload, server.base.encode(), b"https://staging.example")
    await store.swap(attrs.evolve(record, payload=payload))
    grant = consent(server.client()) if way == "code" else RefreshTokenGrant(server.client(), server.paste())
    assert await manager.connect("acme", grant)
    await until(lambda: "organization 'acme' had before was not revoked at the server" in caplog.text)
    assert "connected at another token endpoint (https://staging.example/oauth2/token)" in caplog.text
    assert server.revoked == []


async def test_a_revocation_while_tribe_is_down(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """It is tried again later; disconnecting does not wait for it."""
    manager = make_manager()
    token = await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    server.revoking = [503, 503]
    await manager.disconnect("acme")
    assert server.revoked == []
    await until(lambda: bool(server.revoked))
    assert token.refresh_token is not None
    assert server.revoked == [token.refresh_token.reveal()]
    assert 660 < sum(clock.slept) < 800


async def test_a_revocation_that_never_succeeds(
    make_manager: MakeManager, server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is given up after hours, and said; closing does not wait for it."""
    manager = make_manager()
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    server.revoking = [503] * 3
    await manager.disconnect("acme")
    await manager.close()
    assert "was not revoked at the server: it dies by itself" in caplog.text


async def test_a_revocation_that_fails_for_hours(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """After the last attempt it is left to die by itself."""
    manager = make_manager()
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    server.revoking = [503] * 5
    await manager.disconnect("acme")
    for sleeping in (1, 2):  # the longer pauses, which pass when the clock is moved
        await until(lambda sleeping=sleeping: len(clock.sleepers) == sleeping)  # type: ignore[misc]
        clock.advance(DAY)
    await until(lambda: "was not revoked at the server: it dies by itself" in caplog.text)
    assert server.revoking == []


async def test_one_callback_makes_one_exchange(make_manager: MakeManager, server: TokenServer) -> None:
    """Two grants of one callback, in two processes: the second is refused without a request, and the first lives on."""
    request = server.client().authorization_request()
    callback = f"https://app.example/callback?code=c0de&state={request.state}"
    token = await make_manager().connect("acme", request.grant(callback))
    other = make_manager()
    with pytest.raises(CallbackError, match="used already"):
        await other.connect("acme", request.grant(callback))
    assert len(server.forms) == 1
    assert await other.token("acme") == token


async def test_the_same_grant_after_invalid_client(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """S6: the server did not look at the code: that grant, and no other of the same code, may try again."""
    manager, request = make_manager(), server.client().authorization_request()
    callback = f"https://app.example/callback?code=c0de&state={request.state}"
    grant = request.grant(callback)
    server.order(*[oauth_error("invalid_client", 401)] * 3)  # within five seconds, no fourth attempt can begin
    with pytest.raises(TokenEndpointError, match="invalid_client"):
        await manager.connect("acme", grant)
    assert sum(clock.slept) == 1 + 2
    with pytest.raises(CallbackError, match="used already"):
        await manager.connect("acme", request.grant(callback))
    assert await manager.connect("acme", grant) == await manager.token("acme")


@pytest.mark.parametrize(("kind", "times"), [("clear", 1), ("encrypted", 0), ("memory", 0)])
async def test_a_secret_that_is_stored_in_clear(
    kind: str,
    times: int,
    make_manager: MakeManager,
    server: TokenServer,
    store: MemoryStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another Application's secret in a store that does not encrypt: said once, with the remedy."""
    clear = SQLiteStore(tmp_path / "tribe.db")
    stores: dict[str, TokenStore] = {
        "clear": clear,
        "encrypted": EncryptedStore(clear, [generate_key()]),
        "memory": store,
    }
    manager = make_manager(store=stores[kind])
    await manager.connect("own", RefreshTokenGrant(server.client(), server.paste()))
    assert "EncryptedStore" not in caplog.text
    for number in range(3):
        await manager.connect(f"acme {number}", RefreshTokenGrant(server.client("other"), server.paste()))
    await manager.close()
    assert caplog.text.count("put an EncryptedStore around the store") == times
    in_clear = any(b"secret of other" in file.read_bytes() for file in tmp_path.glob("tribe.db*") if file.is_file())
    assert in_clear is (kind == "clear")
