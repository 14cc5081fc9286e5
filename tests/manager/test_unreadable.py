"""Records and notes that cannot be read, damaged or under a key that is gone: a way out, and no harm beside (S27)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tribe_oauth import (
    CallbackError,
    Client,
    ClientCredentialsGrant,
    MemoryStore,
    RefreshTokenGrant,
    Secret,
    Token,
    TokenEndpointError,
    TokenManager,
    TokenStore,
    UnknownOrganizationError,
)
from tribe_oauth._oauth.client import AuthorizationCodeGrant, Grant
from tribe_oauth._refresh.payload import decode, fingerprint, readable
from tribe_oauth.errors import ConfigurationError, UnreadableError
from tribe_oauth.stores import Record
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.sqlite import SQLiteStore

from .conftest import MakeManager
from .helpers import TokenServer, VirtualClock, held_back, until

DAY = 86_400
OLD, NEW = generate_key(), generate_key()


def consent(client: Client, code: str = "c0de") -> AuthorizationCodeGrant:
    request = client.authorization_request()
    return request.grant(f"https://app.example/callback?code={code}&state={request.state}")


GRANTS: dict[str, Callable[[TokenServer], Grant]] = {
    "code": lambda server: consent(server.client()),
    "pasted refresh token": lambda server: RefreshTokenGrant(server.client(), server.paste()),
    "client credentials": lambda server: ClientCredentialsGrant(server.client()),
}


async def stored(store: TokenStore, organization: str = "acme") -> Record:
    record = await store.load(organization)
    assert record is not None
    return record


async def connect(manager: TokenManager, server: TokenServer, organization: str) -> Token:
    return await manager.connect(organization, RefreshTokenGrant(server.client(), server.paste()))


@attrs.define
class World:
    """A store in which "acme" cannot be read and "beta" can, and a manager that has seen neither."""

    store: TokenStore
    manager: TokenManager
    generation: int
    token: Token


@pytest.fixture(params=["damaged", "altered", "under a lost key", "of odd columns"])
async def world(
    request: pytest.FixtureRequest, make_manager: MakeManager, server: TokenServer, store: MemoryStore, tmp_path: Path
) -> World:
    before: TokenStore = EncryptedStore(store, [OLD])
    after: TokenStore = EncryptedStore(store, [NEW, OLD])
    if request.param == "damaged":
        before = after = store
    elif request.param == "under a lost key":
        after = EncryptedStore(store, [NEW])
    elif request.param == "of odd columns":
        before = after = SQLiteStore(tmp_path / "tribe.db")
    token = await connect(make_manager(store=before), server, "acme")
    await connect(make_manager(store=after), server, "beta")
    generation = (await stored(before)).generation
    if request.param in {"damaged", "altered"}:
        record = await stored(store)
        await store.swap(attrs.evolve(record, payload=record.payload[:-1] + b"?"))
    elif request.param == "of odd columns":
        with sqlite3.connect(tmp_path / "tribe.db") as connection:
            connection.execute("UPDATE organizations SET status = 'odd' WHERE organization = CAST('acme' AS BLOB)")
        connection.close()
    return World(after, make_manager(store=after), generation, token)


async def test_it_is_told(world: World) -> None:
    """One error, which names the organization and the remedy, has no secret, and is none to try again after."""
    assert world.token.refresh_token is not None
    for ask in (world.manager.token, world.manager.refresh, world.manager.status):
        with pytest.raises(
            UnreadableError, match=r"'acme' cannot be read: it .*, or connect the organization"
        ) as error:
            await ask("acme")
        assert error.value.organization == "acme"
        assert not error.value.retryable
        assert world.token.refresh_token.reveal() not in str(error.value)


async def test_others_go_on(world: World, clock: VirtualClock) -> None:
    """It is listed beside them, and a warm-up says of each what came of it."""
    assert sorted([key async for key in world.manager.organizations()]) == ["acme", "beta"]
    assert (await world.manager.status("beta")).state == "fresh"
    clock.advance(DAY)
    results = await world.manager.warm_up()
    assert isinstance(results["beta"], Token)
    assert isinstance(results.get("acme", UnreadableError("")), UnreadableError)  # due, where that can be read


@pytest.mark.parametrize("way", GRANTS)
async def test_it_can_be_replaced(world: World, make_manager: MakeManager, server: TokenServer, way: str) -> None:
    """By each grant; what is new has the higher generation, and another process reads it."""
    token = await world.manager.connect("acme", GRANTS[way](server))
    assert await world.manager.token("acme") == token
    assert (await stored(world.store)).generation > world.generation
    other = make_manager(store=world.store)
    assert (await other.token("acme")) == token or way == "client credentials"
    assert (await other.status("acme")).state == "fresh"
    assert await other.token("beta")


@pytest.mark.parametrize("way", GRANTS)
async def test_it_can_be_removed(world: World, server: TokenServer, caplog: pytest.LogCaptureFixture, way: str) -> None:
    """Its secrets are gone, its generation is not; that nothing could be revoked is said; it can be connected anew."""
    await world.manager.disconnect("acme")
    gone = await stored(world.store)
    assert (gone.status, gone.payload) == ("disconnected", b"")
    assert gone.generation > world.generation
    assert "not revoked at the server: the record of organization 'acme' cannot be read" in caplog.text
    with pytest.raises(UnknownOrganizationError):
        await world.manager.status("acme")
    await world.manager.connect("acme", GRANTS[way](server))
    assert (await stored(world.store)).generation > gone.generation
    assert await world.manager.token("beta")


# A key that is not lost, but not given here


@pytest.fixture
async def here(make_manager: MakeManager, server: TokenServer, store: MemoryStore) -> TokenManager:
    """It has the new key only; "acme" works for who has the old one."""
    await connect(make_manager(store=EncryptedStore(store, [OLD])), server, "acme")
    return make_manager(store=EncryptedStore(store, [NEW]))


async def works_there(make_manager: MakeManager, store: MemoryStore) -> None:
    there = make_manager(store=EncryptedStore(store, [OLD]))
    assert await there.token("acme") != await there.refresh("acme")


async def test_a_refused_paste_leaves_it_as_it_stood(
    here: TokenManager, make_manager: MakeManager, server: TokenServer, store: MemoryStore
) -> None:
    """Connecting never destroys what works elsewhere: it was in the way for as long as the server was asked."""
    before = await stored(store)
    with pytest.raises(TokenEndpointError, match="invalid_grant"):
        await here.connect("acme", RefreshTokenGrant(server.client(), "wrong"))
    after = await stored(store)
    assert attrs.evolve(after, version=before.version) == before
    with pytest.raises(UnreadableError):
        await here.token("acme")
    await works_there(make_manager, store)


async def test_what_was_pasted_before_is_not_sent(
    here: TokenManager, make_manager: MakeManager, server: TokenServer, store: MemoryStore
) -> None:
    """Every start pastes the same refresh token. Where its record cannot be read, sending it would end the family."""
    pasted = server.refreshes()[0]
    for _ in range(2):
        with pytest.raises(UnreadableError, match="was pasted before, so that it may be spent: copy a new one"):
            await here.connect("acme", RefreshTokenGrant(server.client(), pasted))
    assert server.refreshes() == [pasted]
    await works_there(make_manager, store)


@pytest.mark.parametrize("asked", ["refresh", "paste"])
async def test_an_answer_that_comes_when_the_record_cannot_be_read_any_more(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, asked: str
) -> None:
    """Changed to a key that this process lacks, while the server is asked: the answer is saved over it, not lost."""
    mine = EncryptedStore(store, [OLD])
    manager = make_manager(store=mine)
    await connect(manager, server, "acme")
    server.order(held_back(server))
    asking = manager._tasks.spawn(manager.refresh("acme") if asked == "refresh" else connect(manager, server, "acme"))
    await until(lambda: server.at_once == 1)
    assert await EncryptedStore(store, [NEW, OLD]).rekey() == 1
    assert readable(await stored(mine)) is None
    server.released.set()
    token = await asking
    assert decode(await stored(mine)).token == token
    assert await manager.refresh("acme") != token


async def test_a_start_replaces_nothing(
    make_manager: MakeManager, server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program with a wrong key says so, however old the refresh token of its environment is, and sends nothing."""
    pasted, client = server.paste(), attrs.evolve(server.client(), redirect_uri=None)
    store = EncryptedStore(SQLiteStore(tmp_path / "tribe.db"), [OLD])
    await make_manager(store=store, client=client).connect("acme", RefreshTokenGrant(client, pasted))
    await store.take(f"pasted:{fingerprint(Secret(pasted))}")  # its time is over
    for name, value in {
        "CLIENT_ID": "client", "CLIENT_SECRET": "secret of client", "AUTH_URL": server.base, "API_URL": server.base,
        "ALLOW_INSECURE_LOOPBACK": "1", "ORGANIZATION_ID": "acme", "STORE": str(tmp_path / "tribe.db"),
        "STORE_KEYS": NEW.reveal(),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"TRIBE_{name}", value)
    for refresh_token in (None, pasted):
        if refresh_token is not None:
            monkeypatch.setenv("TRIBE_REFRESH_TOKEN", refresh_token)
        with pytest.raises(UnreadableError, match="add it to the keys"):
            async with TokenManager.from_env():
                pass
    assert len(server.forms) == 1
    monkeypatch.setenv("TRIBE_STORE_KEYS", OLD.reveal())
    async with TokenManager.from_env() as manager:
        assert await manager.refresh()


async def test_idle_ones_behind_it_are_kept_alive(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A look at all organizations passes over one of which nothing can be read, and finds those after it."""

    class Odd(MemoryStore):
        async def load(self, organization: str) -> Record | None:
            if organization == "acme":
                raise UnreadableError("nothing of it can be read", organization=organization)
            return await super().load(organization)

    store = Odd(clock=clock.monotonic)
    await store.swap(Record(organization="acme", status="connected"))
    clock.jump(5 * 365 * DAY)
    await connect(make_manager(store=store), server, "beta")
    clock.jump(-5 * 365 * DAY)
    async with make_manager(store=store):
        await until(lambda: len(clock.sleepers) == 1)
        clock.advance(10 * DAY)
        await until(lambda: len(clock.sleepers) == 2)
    assert len(server.refreshes()) == 2
    assert "is not kept alive: nothing of it can be read" in caplog.text


async def test_a_family_without_a_refresh_token(manager: TokenManager, make_manager: MakeManager) -> None:
    """Something else emptied its payload: that is told as damage, not as a bug, and it can be connected again."""
    store = manager.store
    await store.swap(attrs.evolve(await stored(store), payload=b""))
    with pytest.raises(UnreadableError, match="it has no refresh token; restore it from a backup"):
        await make_manager().token("acme")


# Notes


@pytest.fixture
async def changed(make_manager: MakeManager, server: TokenServer, store: MemoryStore) -> TokenManager:
    """Its "acme" and "beta" were connected under the old key; `rekey` was run, and the old key was taken away."""
    before = make_manager(store=EncryptedStore(store, [OLD]))
    await connect(before, server, "acme")
    await connect(before, server, "beta")
    assert await EncryptedStore(store, [NEW, OLD]).rekey() == 2
    return make_manager(store=EncryptedStore(store, [NEW]))


async def test_the_same_paste_after_a_change_of_keys(
    changed: TokenManager, server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    """As at every start of a service: nothing is sent, and from the second time on its note is under the new key."""
    pasted = server.refreshes()
    for _ in range(2):
        await changed.connect("acme", RefreshTokenGrant(server.client(), pasted[0]))
    assert server.refreshes() == pasted
    assert caplog.text.count("a note in the store cannot be read: it is encrypted under a key that is not given") == 2


async def test_a_paste_of_another_organization_after_a_change_of_keys(
    changed: TokenManager, server: TokenServer
) -> None:
    """Whose it is, is found in the records: one family in two organizations would end for both."""
    pasted = server.refreshes()
    with pytest.raises(ConfigurationError, match="connected as organization 'acme' already"):
        await changed.connect("gamma", RefreshTokenGrant(server.client(), pasted[0]))
    assert server.refreshes() == pasted
    await changed.disconnect("acme")
    with pytest.raises(TokenEndpointError, match="invalid_grant"):  # of the server, which may be asked now
        await changed.connect("gamma", RefreshTokenGrant(server.client(), pasted[0]))


async def test_a_damaged_note(manager: TokenManager, server: TokenServer, store: MemoryStore) -> None:
    """What was pasted is found in the record; a note of nothing that is known is replaced."""
    pasted, unknown = server.refreshes()[0], server.paste()
    for refresh_token in (pasted, unknown):
        key = f"pasted:{fingerprint(Secret(refresh_token))}"
        await store.take(key)
        await store.put(key, b"\xff" * 20, lives_for=100)
    await store.swap(Record(organization="odd", status="connected", payload=b"odd"))
    await manager.connect("acme", RefreshTokenGrant(server.client(), pasted))
    assert server.refreshes() == [pasted]
    await manager.connect("gamma", RefreshTokenGrant(server.client(), unknown))
    assert server.refreshes() == [pasted, unknown]
    with pytest.raises(ConfigurationError, match="connected as organization 'gamma' already"):
        await manager.connect("delta", RefreshTokenGrant(server.client(), unknown))


async def test_whose_a_paste_is_where_a_record_is_in_the_way(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """One of which nothing can be read is passed over in that search."""

    class Odd(MemoryStore):
        async def load(self, organization: str) -> Record | None:
            if organization == "odd":
                raise UnreadableError("nothing of it can be read", organization=organization)
            return await super().load(organization)

    store, pasted = Odd(clock=clock.monotonic), server.paste()
    await store.swap(Record(organization="odd", status="connected"))
    await store.put(f"pasted:{fingerprint(Secret(pasted))}", b"\xff" * 20, lives_for=100)
    manager = make_manager(store=store)
    assert await manager.connect("acme", RefreshTokenGrant(server.client(), pasted))


async def test_a_code_after_a_change_of_keys(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore
) -> None:
    """That there is a note says enough: the code was used, and used again it would end what it gave."""
    await make_manager(store=EncryptedStore(store, [OLD])).connect("acme", consent(server.client()))
    with pytest.raises(CallbackError, match="was used already"):
        await make_manager(store=EncryptedStore(store, [NEW])).connect("acme", consent(server.client()))
    assert len(server.forms) == 1
