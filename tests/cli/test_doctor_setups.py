"""`tribe-oauth doctor` on broken set-ups, each of one kind: what is named, and with which remedy.

`pytest -v` of this file is a table: the set-up, the level, and words that the finding has.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme
import typer
from aiohttp import ClientTimeout, web

from tribe_oauth import ClientCredentialsGrant, RefreshTokenGrant, TokenEndpointError, TokenManager
from tribe_oauth.cli import _trials
from tribe_oauth.cli._doctor import doctor
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores import Record
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.sqlite import SQLiteStore

from .served import use


@attrs.define
class World:
    """A set-up that works, to be broken."""

    sandbox: Sandbox
    folder: Path
    env: pytest.MonkeyPatch
    stack: AsyncExitStack

    @property
    def store(self) -> Path:
        return self.folder / "tribe.db"

    def set(self, **values: str) -> None:
        for name, value in values.items():
            self.env.setenv(f"TRIBE_{name}", value)

    async def connect(self, key: str = "acme", name: str = "Acme") -> None:
        client = self.sandbox.client()
        async with TokenManager(client, store=SQLiteStore(self.store)) as manager:
            await manager.connect(key, RefreshTokenGrant(client, self.sandbox.paste_token(name)))

    async def serve(self, tls: ssl.SSLContext | None = None, **answer: Any) -> str:
        """Another web server; its address."""

        async def handle(request: web.Request) -> web.Response:
            return web.Response(**answer)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        scheme = "http" if tls is None else "https"
        return f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"


Break = Callable[[World], Awaitable[None]]
SETUPS: list[Any] = []


def setup(level: str, words: str) -> Callable[[Break], Break]:
    """Add a set-up to the table, under the function's name."""

    def add(breaks: Break) -> Break:
        what = breaks.__name__.replace("_", " ")
        SETUPS.append(pytest.param(breaks, level, words, id=f"{what} | {level} | {words}"))
        return breaks

    return add


# Settings


@setup("wrong", "TRIBE_CLIENT_ID is not set: set it")
async def no_client_id(world: World) -> None:
    world.env.delenv("TRIBE_CLIENT_ID")


@setup("look", "may be meant for TRIBE_CLIENT_SECRET")
async def a_variable_that_is_mistyped(world: World) -> None:
    world.set(CLIENT_SECRT="x")


@setup("look", "nothing reads it: unset it")
async def a_variable_of_nobody(world: World) -> None:
    world.set(FLAVOUR_OF_THE_DAY="x")


@setup("wrong", "both set: unset one of them")
async def a_variable_and_its_file(world: World) -> None:
    world.set(CLIENT_ID_FILE="/x")


@setup("wrong", "the file cannot be read")
async def a_file_that_is_not_there(world: World) -> None:
    world.set(SCOPE_FILE=str(world.folder / "no such"))


@setup("wrong", "only one of TRIBE_AUTH_URL and TRIBE_API_URL is set")
async def half_an_address(world: World) -> None:
    world.env.delenv("TRIBE_API_URL")


@setup("wrong", "TRIBE_ALLOW_INSECURE_LOOPBACK=1 allows it")
async def plain_http(world: World) -> None:
    world.env.delenv("TRIBE_ALLOW_INSECURE_LOOPBACK")


@setup("wrong", "leave the path out")
async def an_API_with_a_path(world: World) -> None:  # noqa: N802
    world.set(API_URL=world.sandbox.base + "/v1/odata")


@setup("wrong", "redirect_uri has to be an absolute URL")
async def a_redirect_URI_that_is_none(world: World) -> None:  # noqa: N802
    world.set(REDIRECT_URI="callback")


# The client


@setup("wrong", "copy both again from Configuration > Applications")
async def a_wrong_client_id(world: World) -> None:
    world.set(CLIENT_ID="application-99")


@setup("wrong", "copy both again from Configuration > Applications")
async def a_wrong_secret(world: World) -> None:
    world.set(CLIENT_SECRET="wrong")


@setup("wrong", "the value is in quotes")
async def a_secret_in_quotes(world: World) -> None:
    world.set(CLIENT_SECRET=f'"{world.sandbox.client().client_secret.reveal()}"')


@setup("wrong", "the value has a blank in it")
async def a_secret_with_a_blank(world: World) -> None:
    world.set(CLIENT_SECRET=f"{world.sandbox.client().client_secret.reveal()} copied")


@setup("wrong", "set TRIBE_SCOPE to what is ticked")
async def a_scope_that_the_Application_lacks(world: World) -> None:  # noqa: N802
    world.set(SCOPE="read write offline admin")


@setup("look", "does not grant write")
async def a_scope_that_is_not_granted(world: World) -> None:
    world.sandbox.fault(
        "body",
        body='{"access_token": "x", "token_type": "bearer", "expires_in": 60, "scope": "read offline"}',
        content_type="application/json",
    )


@setup("wrong", "connect by consent ('tribe-oauth login')")
async def no_client_credentials(world: World) -> None:
    client = world.sandbox.client(grant_types=["refresh_token"])
    world.set(CLIENT_ID=client.client_id, CLIENT_SECRET=client.client_secret.reveal())


@setup("wrong", "a proxy that changes requests")
async def a_proxy_that_mangles(world: World) -> None:
    world.sandbox.fault("status", status=400, body='{"error": "invalid_request"}', content_type="application/json")


# Servers


@setup("wrong", "is no authorization server (HTTP 404 that is not JSON): correct TRIBE_AUTH_URL")
async def AUTH_URL_at_another_server(world: World) -> None:  # noqa: N802
    world.set(AUTH_URL=await world.serve(status=404, text="<html>", content_type="text/html"))


@setup("wrong", "nothing listens there; correct the address")
async def AUTH_URL_where_nothing_listens(world: World) -> None:  # noqa: N802
    world.set(AUTH_URL="http://127.0.0.1:1")


@setup("wrong", "there is no such name; correct the address")
async def AUTH_URL_without_such_a_name(world: World) -> None:  # noqa: N802
    world.set(AUTH_URL="https://no-such-host.invalid")


@setup("wrong", "name its file in SSL_CERT_FILE")
async def a_certificate_of_nobody_known(world: World) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    world.set(AUTH_URL=await world.serve(context))


@setup("wrong", "it does not speak TLS; correct the scheme")
async def TLS_where_there_is_none(world: World) -> None:  # noqa: N802
    world.set(AUTH_URL=world.sandbox.base.replace("http:", "https:"))


@setup("wrong", "has a fault (503): try again later")
async def an_authorization_server_with_a_fault(world: World) -> None:
    world.sandbox.fault("status", status=503)


@setup("look", "too many requests (429)")
async def an_authorization_server_that_is_busy(world: World) -> None:
    world.sandbox.fault("status", status=429)


@setup("wrong", "a token request got no answer")
async def a_firewall_that_cuts_off_POST(world: World) -> None:  # noqa: N802
    world.sandbox.fault("lost_request")


@setup("wrong", "the connection failed (ServerDisconnectedError)")
async def an_API_that_hangs_up(world: World) -> None:  # noqa: N802
    world.sandbox.fault("lost_request", endpoint="api", times=None)


@setup("wrong", "nothing came within 10 s; look for a firewall")
async def an_API_that_never_answers(world: World) -> None:  # noqa: N802
    world.env.setattr(_trials, "PATIENCE", ClientTimeout(total=0.3))
    world.sandbox.fault("hang", endpoint="api", times=None)


@setup("wrong", "the API gives no row: the connection failed (ServerDisconnectedError)")
async def one_organization_cut_off(world: World) -> None:
    await world.connect()
    world.sandbox.fault("lost_request", endpoint="api", organization="Acme", times=None)


@setup("wrong", "is not Tribe's API (200): correct TRIBE_API_URL")
async def API_URL_at_another_server(world: World) -> None:  # noqa: N802
    world.set(API_URL=await world.serve(text="<html>"))


@setup("look", "set this machine's clock")
async def a_clock_that_is_off(world: World) -> None:
    world.env.setattr(world.sandbox, "_clock", lambda: 0.0)


# The store


@setup("look", "where something was connected before, correct TRIBE_STORE")
async def TRIBE_STORE_mistyped(world: World) -> None:  # noqa: N802
    world.set(STORE=str(world.folder / "mistyped" / "x.db"))


@setup("wrong", "is no folder that this user can write to")
async def TRIBE_STORE_below_a_file(world: World) -> None:  # noqa: N802
    (world.folder / "file").touch()
    world.set(STORE=str(world.folder / "file" / "x.db"))


@setup("wrong", "is not a database, or is damaged: move it away")
async def a_store_that_is_none(world: World) -> None:
    world.store.write_bytes(b"this is no database" * 100)
    world.store.chmod(0o600)


@setup("wrong", "can be read by other users: chmod 600 it")
async def a_store_that_others_can_read(world: World) -> None:
    await world.connect()
    world.store.chmod(0o644)


@setup("look", "every refresh token is lost when this process ends")
async def a_store_in_memory(world: World) -> None:
    world.set(STORE="memory:")


@setup("wrong", "no store for mongodb")
async def a_store_of_another_kind(world: World) -> None:
    world.set(STORE="mongodb://x")


@setup("wrong", "no connection to the database")
async def a_database_that_is_away(world: World) -> None:
    world.set(STORE="postgresql://u:p@127.0.0.1:1/db")


@setup("wrong", "'tribe-oauth keygen' makes one")
async def a_key_that_is_none(world: World) -> None:
    world.set(STORE_KEYS="secret")


@setup("wrong", "a key that is not given; add it to the keys (TRIBE_STORE_KEYS)")
async def another_key(world: World) -> None:
    client = world.sandbox.client()
    async with TokenManager(client, store=EncryptedStore(SQLiteStore(world.store), [generate_key()])) as manager:
        await manager.connect("acme", RefreshTokenGrant(client, world.sandbox.paste_token("Acme")))
    world.set(STORE_KEYS=base64.b64encode(bytes(32)).decode())


@setup("ok", "1 fresh")
async def another_key_for_one_of_two(world: World) -> None:
    await another_key(world)
    client = world.sandbox.client()
    keys = [base64.b64encode(bytes(32)).decode()]
    async with TokenManager(client, store=EncryptedStore(SQLiteStore(world.store), keys)) as manager:
        await manager.connect("beta", RefreshTokenGrant(client, world.sandbox.paste_token("Acme")))
    world.set(ORGANIZATION_ID="acme")


@setup("wrong", "a key that is not given; add it to the keys (TRIBE_STORE_KEYS)")
async def another_key_beside_a_refresh_token(world: World) -> None:
    await another_key(world)
    world.set(ORGANIZATION_ID="acme", REFRESH_TOKEN=world.sandbox.paste_token("Acme"))


# The refresh token in the environment


@setup("look", "it is not tried here, since it works only once")
async def a_refresh_token_not_tried(world: World) -> None:
    world.set(REFRESH_TOKEN=world.sandbox.paste_token("Acme"))


@setup("wrong", "has spaces or other characters that none has")
async def a_refresh_token_with_a_blank(world: World) -> None:
    world.set(REFRESH_TOKEN="a b")


@setup("wrong", "an access token or the client secret: copy it again")
async def an_access_token_for_a_refresh_token(world: World) -> None:
    world.set(REFRESH_TOKEN="ory_at_abc")


@setup("wrong", "it was tried before, and refused: copy a new one")
async def a_dead_refresh_token(world: World) -> None:
    world.set(REFRESH_TOKEN="dead")
    with pytest.raises(TokenEndpointError, match="invalid_grant"):
        async with TokenManager.from_env():
            pass


@setup("wrong", "it is spent, and what came of it has ended")
async def a_refresh_token_whose_family_is_dead(world: World) -> None:
    world.set(REFRESH_TOKEN=world.sandbox.paste_token("Acme"))
    async with TokenManager.from_env() as manager:
        token = await manager.token()
    store = SQLiteStore(world.store)
    record = await store.load("default")
    assert record is not None
    assert token.refresh_token is not None
    await store.swap(attrs.evolve(record, status="reauthorization_required", cause="lost rotation"))
    await store.close()


@setup("look", "it was tried before: 'tribe-oauth status' shows what came of it")
async def a_refresh_token_of_another_organization(world: World) -> None:
    world.set(REFRESH_TOKEN=(pasted := world.sandbox.paste_token("Acme")))
    client = world.sandbox.client()
    async with TokenManager(client, store=SQLiteStore(world.store)) as manager:
        await manager.connect("acme", RefreshTokenGrant(client, pasted))


# Organizations


@setup("wrong", "organization 'acne' is not connected; connected are 'acme'")
async def an_unknown_organization(world: World) -> None:
    await world.connect()
    world.set(ORGANIZATION_ID="acne")


@setup("look", "connected are 'acme', 'beta': name one")
async def several_organizations(world: World) -> None:
    await world.connect()
    await world.connect("beta", "Bakkerij Bos")


@setup("wrong", "it may not be read (403): give the Application")
async def one_organization_forbidden(world: World) -> None:
    await world.connect()
    world.sandbox.fault("status", endpoint="api", status=403, organization="Acme", times=None)


@setup("wrong", "the API refuses its token (401)")
async def one_organization_revoked(world: World) -> None:
    await world.connect()
    world.sandbox.expire("Acme")


@setup("wrong", "the API has a fault (503: Away): try again later")
async def one_organization_with_a_fault(world: World) -> None:
    await world.connect()
    world.sandbox.fault(
        "status", endpoint="api", status=503, organization="Acme", times=None, body='{"error": {"message": "Away"}}'
    )


@setup("look", "too many calls (429)")
async def one_organization_at_its_limit(world: World) -> None:
    await world.connect()
    world.sandbox.fault("status", endpoint="api", status=429, organization="Acme", times=None, body="[]")


@setup("wrong", "connect it again with 'tribe-oauth login'")
async def one_organization_ended(world: World) -> None:
    store = SQLiteStore(world.store)
    await store.swap(Record(organization="acme", status="reauthorization_required", cause="expired"))
    await store.close()


@setup("look", "waiting to try again: 3 attempts failed")
async def one_organization_backing_off(world: World) -> None:
    store = SQLiteStore(world.store)
    later = (datetime.now(UTC) + timedelta(minutes=10)).timestamp()
    await store.swap(Record(organization="acme", status="connected", failures=3, not_before=later))
    await store.close()


@setup("look", "its access token has ended")
async def one_organization_idle(world: World) -> None:
    store = SQLiteStore(world.store)
    await store.swap(Record(organization="acme", status="connected"))
    await store.close()


@setup("wrong", "set TRIBE_CLIENT_ID and TRIBE_CLIENT_SECRET to those of that Application")
async def another_client_than_it_was_connected_with(world: World) -> None:
    await world.connect()
    other = world.sandbox.client(organization="Acme")
    world.set(CLIENT_ID=other.client_id, CLIENT_SECRET=other.client_secret.reveal())


@setup("wrong", "set TRIBE_AUTH_URL and TRIBE_API_URL to where it was connected")
async def another_Tribe_than_it_was_connected_at(world: World) -> None:  # noqa: N802
    await world.connect()
    world.set(AUTH_URL=world.sandbox.base.replace("127.0.0.1", "localhost"))


@setup("wrong", "invalid_client")
async def an_organization_whose_own_client_was_changed(world: World) -> None:
    client = world.sandbox.client(organization="Cobra Logistiek")
    async with TokenManager(world.sandbox.client(), store=SQLiteStore(world.store)) as manager:
        await manager.connect("cobra", ClientCredentialsGrant(client))
    world.sandbox._authority.applications[client.client_id].client_secret = "changed"


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    async with Sandbox() as sandbox, AsyncExitStack() as stack:
        use(sandbox, monkeypatch, tmp_path / "tribe.db")
        yield World(sandbox, tmp_path, monkeypatch, stack)


async def diagnosis() -> list[tuple[str, str, str]]:
    """What it finds: what, level, text. Its exit code says whether something is wrong."""
    screen, failed = StringIO(), False
    with redirect_stdout(screen):
        try:
            await doctor()
        except typer.Exit as ended:
            failed = ended.exit_code == 1
    rows = [line.strip("│").split("│") for line in screen.getvalue().splitlines() if line.startswith("│")]
    assert failed == any(level.strip() == "wrong" for _, level, _ in rows)
    return [(what.strip(), level.strip(), text.strip()) for what, level, text in rows]


@pytest.mark.parametrize(("breaks", "level", "words"), SETUPS)
async def test_a_broken_set_up(world: World, breaks: Break, level: str, words: str) -> None:
    """It is named with its remedy; no refresh token is spent, no file is made, and no secret is shown."""
    await breaks(world)
    files, spent = sorted(world.folder.rglob("*")), world.sandbox.ledger.count("refresh_token")
    found = await diagnosis()
    assert any(at == level and words in text for _, at, text in found), found
    assert world.sandbox.ledger.count("refresh_token") == spent
    if world.store not in files:  # one that is opened has files beside it
        assert sorted(world.folder.rglob("*")) == files
    assert world.sandbox.client().client_secret.reveal() not in str(found)


def test_there_are_enough() -> None:
    """Thirty at least, and each is different."""
    assert len({parameter.id for parameter in SETUPS}) == len(SETUPS) >= 30


async def test_all_is_well(world: World) -> None:
    """By client credentials, and by a refresh token: nothing but ok, and a row was asked for."""
    world.env.delenv("TRIBE_STORE")
    world.env.setenv("XDG_STATE_HOME", str(world.folder))
    found = await diagnosis()
    assert {level for _, level, _ in found} == {"ok"}
    assert ("organization default", "ok", "gives rows") in found
    assert not list(world.folder.iterdir())
    world.set(STORE=str(world.store))
    await world.connect()
    client = world.sandbox.client(grant_types=["refresh_token"])
    found = await diagnosis()
    assert ("organizations", "ok", "1 fresh") in found
    async with TokenManager(client, store=SQLiteStore(world.store)) as manager:
        await manager.disconnect("acme")
        await manager.connect("own", RefreshTokenGrant(client, world.sandbox.paste_token("Acme", client=client)))
    world.set(CLIENT_ID=client.client_id, CLIENT_SECRET=client.client_secret.reveal(), ORGANIZATION_ID="own")
    found = await diagnosis()
    assert {level for _, level, _ in found} == {"ok"}, found
    assert any("need not" in text for _, _, text in found)
    world.set(REFRESH_TOKEN=world.sandbox.paste_token("Acme", client=client))
    async with TokenManager.from_env() as manager:
        await manager.token()
    assert ("TRIBE_REFRESH_TOKEN", "ok", "organization own was connected by it") in await diagnosis()
