"""The manager itself: construction, loops, forks, closing, status, listing, warming up, sessions, environment."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import pickle
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web

from tribe_oauth import (
    ClientCredentialsGrant,
    MemoryStore,
    RefreshTokenGrant,
    Secret,
    StoreError,
    Token,
    TokenManager,
    TribeOAuthError,
    UnknownOrganizationError,
)
from tribe_oauth.errors import ConfigurationError, ManagerError, ReauthorizationRequired, TemporarilyUnavailable
from tribe_oauth.stores import Record

from ..stored import checked, text_of
from .conftest import MakeManager
from .helpers import TokenServer, VirtualClock, held_back, page, until

DAY = 86_400


# Construction and keys


@pytest.mark.parametrize("options", [{"leeway": -1.0}, {"quiet": -1.0}, {"request_timeout": 0.0}])
def test_times_that_make_no_sense(options: dict[str, float]) -> None:
    """Negative times are refused at once."""
    with pytest.raises(ConfigurationError, match="seconds"):
        TokenManager(**options)  # type: ignore[arg-type]


def test_endpoints_come_with_the_client(server: TokenServer) -> None:
    """One place says where Tribe is."""
    client = server.client()
    assert TokenManager(client, endpoints=server.endpoints)
    with pytest.raises(ConfigurationError, match="leave `endpoints` out"):
        TokenManager(client, endpoints=attrs.evolve(server.endpoints, api="https://elsewhere.example"))


@pytest.mark.parametrize("key", ["", "x" * 513, "\udc80", 7])
async def test_keys_that_cannot_be(manager: TokenManager, server: TokenServer, key: str) -> None:
    """S28: an empty, over-long or unwritable key is refused everywhere, before anything happens."""
    with pytest.raises(ConfigurationError, match="organization's key"):
        await manager.token(key)
    with pytest.raises(ConfigurationError, match="organization's key"):
        await manager.connect(key, RefreshTokenGrant(server.client(), "x"))
    with pytest.raises(ConfigurationError, match="organization's key"):
        await manager.disconnect(key)
    with pytest.raises(ConfigurationError, match="organization's key"):
        manager.middleware(key)


async def test_keys_are_unambiguous(make_manager: MakeManager, server: TokenServer) -> None:
    """S28: whatever the keys look like, each is an organization of its own."""
    manager = make_manager()
    keys = ["../x", "x", "X", "a\0b", "a", "😀", "x" * 512, " ", "None", "default"]
    tokens = {key: await manager.connect(key, RefreshTokenGrant(server.client(), server.paste())) for key in keys}
    assert len(set(tokens.values())) == len(keys)
    assert sorted([key async for key in manager.organizations()]) == sorted(keys)
    for key in keys:
        assert await manager.token(key) == tokens[key]


# Loops, processes, closing


def test_a_second_loop(server: TokenServer) -> None:
    """F10: another loop while the first is open is said clearly; when the first is gone, the next takes over."""
    manager = TokenManager(server.client())
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def ask() -> None:
        with pytest.raises(UnknownOrganizationError):
            await manager.token("acme")

    async def intrude() -> None:
        with pytest.raises(ManagerError, match="make one manager for each loop"):
            await manager.token("acme")

    first.run_until_complete(ask())
    second.run_until_complete(intrude())
    first.close()
    second.run_until_complete(ask())
    second.run_until_complete(manager.close())
    second.close()


FORKING = """
import asyncio, os, sys
from tribe_oauth import Client, ClientCredentialsGrant, Endpoints, TokenManager

endpoints = Endpoints.at(sys.argv[1], sys.argv[1], allow_insecure_loopback=True)
manager = TokenManager(Client("client", "secret", endpoints=endpoints))
loop = asyncio.new_event_loop()
token = loop.run_until_complete(manager.connect("acme", ClientCredentialsGrant(manager._context.client)))
child = os.fork()

async def in_the_child():
    assert await manager.token("acme") == token
    assert await manager.refresh("acme") != token

if child == 0:
    asyncio.run(in_the_child())  # the parent's loop is not running here, and is not closed
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert loop.run_until_complete(manager.token("acme")) == token
loop.run_until_complete(manager.close())
loop.close()
"""


async def test_a_forked_child(server: TokenServer) -> None:
    """F10: a child is noticed by its process id: what belonged to the parent's loop is void there."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", FORKING, server.base)
    assert await process.wait() == 0
    assert len(server.forms) == 2


async def test_a_closed_manager(manager: TokenManager) -> None:
    """After `close` everything is refused, clearly; closing again is harmless."""
    await manager.close()
    await manager.close()
    with pytest.raises(ManagerError, match="closed"):
        await manager.token("acme")
    with pytest.raises(ManagerError, match="closed"):
        manager.session("acme")


async def test_closing_is_bounded(
    make_manager: MakeManager,
    server: TokenServer,
    store: MemoryStore,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """F7: a store that hangs does not keep `close` for ever; nothing is cancelled, and the alarm is raised."""
    manager = make_manager(request_timeout=0.02, quiet=0.0)
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    hanging = asyncio.Event()

    async def hang(organization: str) -> Record | None:
        hanging.set()
        await server.released.wait()
        raise StoreError("at last")

    monkeypatch.setattr(store, "load", hang)
    clock.advance(DAY)
    caller = asyncio.ensure_future(manager.token("acme"))
    await hanging.wait()
    await manager.close()
    assert "closed with 1 tasks still running" in caplog.text
    server.released.set()
    with pytest.raises(StoreError):
        await caller


async def test_callers_sessions_and_connectors_are_theirs(make_manager: MakeManager, server: TokenServer) -> None:
    """A connector that was given is used and never closed; sessions of ours are closed with the manager."""
    connector = aiohttp.TCPConnector()
    manager = make_manager(connector=connector)
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    session = manager.session("acme")
    async with session.get("/v1/odata/x") as response:
        assert response.status == 200
    own = aiohttp.ClientSession(server.base, middlewares=[manager.middleware("acme")])
    async with own.get("/v1/odata/x") as response:
        assert response.status == 200
    await manager.close()
    assert session.closed
    assert not connector.closed
    assert not own.closed
    await own.close()
    await connector.close()


async def test_sessions_do_not_pile_up(manager: TokenManager) -> None:
    """A session for each request is no leak."""
    for _ in range(10):
        async with manager.session("acme"):
            pass
    gc.collect()
    assert len(manager._sessions._open) == 0


# Sessions


async def test_a_request_without_a_name(manager: TokenManager) -> None:
    """A session of the only organization: the same token, also after a refusal."""
    async with manager.session() as session:
        old = await manager.token()
        new = await manager.refresh(rejected=old)
        async with session.get("/v1/odata/x") as response:
            assert response.status == 200
        assert await manager.token() == new


async def test_an_upload_waits_for_a_refresh_under_way(manager: TokenManager, server: TokenServer) -> None:
    """A body that cannot be sent again is not sent with a token that is about to be deleted at the server."""

    async def body() -> object:
        yield b"once"

    server.order(held_back(server))
    refreshing = asyncio.ensure_future(manager.refresh("acme"))
    await server.arrived.wait()
    async with manager.session("acme") as session:
        uploading = asyncio.ensure_future(session.post("/v1/odata/x", data=body()))
        await asyncio.sleep(0)
        assert not uploading.done()
        server.released.set()
        new = await refreshing
        response = await uploading
        assert response.status == 200
        assert response.request_info.headers["Authorization"] == f"Bearer {new.access_token.reveal()}"
        response.release()
        async with session.post("/v1/odata/x", data=body()) as response:
            assert response.status == 200


# Status and listing


async def test_status(manager: TokenManager, server: TokenServer, clock: VirtualClock, store: MemoryStore) -> None:
    """The four states, without a token request."""
    fresh = await manager.status("acme")
    assert (fresh.state, fresh.cause) == ("fresh", None)
    assert fresh.expires_at == pytest.approx(clock.time() + DAY)
    assert fresh.next_attempt_at is not None
    assert fresh.expires_at is not None
    assert fresh.next_attempt_at < fresh.expires_at
    clock.advance(DAY)
    assert (await manager.status()).state == "stale"
    server.order(page(404))
    with pytest.raises(TemporarilyUnavailable) as error:
        await manager.token("acme")
    backing_off = await manager.status("acme")
    assert backing_off.state == "backing_off"
    assert backing_off.cause == str(error.value)
    assert backing_off.next_attempt_at == pytest.approx(error.value.next_attempt_at)


async def test_status_of_a_peers_organization(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """A host that has nothing in memory reads it all from the store."""
    peer = make_manager()
    assert (await peer.status("acme")).state == "fresh"
    clock.advance(DAY)
    server.order(page(404))
    with pytest.raises(TemporarilyUnavailable):
        await manager.token("acme")
    status = await peer.status("acme")
    assert (status.state, status.cause) == ("backing_off", "1 attempts failed")
    assert status.next_attempt_at is not None
    with pytest.raises(TemporarilyUnavailable, match="after 1 failed attempts"):
        await peer.token("acme")


async def test_status_of_client_credentials(make_manager: MakeManager, server: TokenServer) -> None:
    """The token is in memory alone: elsewhere it is stale."""
    manager = make_manager()
    await manager.connect("acme", ClientCredentialsGrant(server.client()))
    assert (await manager.status("acme")).state == "fresh"
    assert (await make_manager().status("acme")).state == "stale"


async def test_a_record_that_cannot_be_read(
    manager: TokenManager, make_manager: MakeManager, store: MemoryStore
) -> None:
    """F4: damage is one clear error with a remedy, and nothing is overwritten."""
    record = await store.load("acme")
    assert record is not None
    damaged = await store.swap(attrs.evolve(record, payload=b'{"token": 7'))
    peer = make_manager()
    with pytest.raises(StoreError, match="cannot be read: it was damaged; restore it from a backup"):
        await peer.token("acme")
    assert await store.load("acme") == damaged


# Warming up


async def test_warm_up(make_manager: MakeManager, server: TokenServer, clock: VirtualClock, store: MemoryStore) -> None:
    """What is due is refreshed, what is not is left alone, and each failure stands beside the successes."""
    manager = make_manager()
    for number in range(5):
        await manager.connect(f"org {number}", RefreshTokenGrant(server.client(), server.paste()))
    await manager.connect("application", ClientCredentialsGrant(server.client()))
    assert await manager.warm_up() == {}
    clock.advance(DAY)
    await manager.connect("new", RefreshTokenGrant(server.client(), server.paste()))
    dead = manager._tokens["org 3"].token.refresh_token
    assert dead is not None
    server.live.discard(dead.reveal())
    results = await manager.warm_up(concurrency=2)
    assert set(results) == {*(f"org {number}" for number in range(5)), "application"}
    assert isinstance(results["org 3"], ReauthorizationRequired)
    assert sum(isinstance(result, TribeOAuthError) for result in results.values()) == 1
    assert await manager.warm_up() == {}


async def test_warm_up_finds_that_a_peer_was_first(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """A cron job beside a service: what the service has refreshed is not refreshed again."""
    clock.advance(DAY)
    await make_manager().token("acme")
    assert await manager.warm_up() == {}
    assert len(server.refreshes()) == 2


async def test_warm_up_beside_a_back_off(manager: TokenManager, server: TokenServer, clock: VirtualClock) -> None:
    """What has just failed ahead of time is not tried again for the asking."""
    clock.advance(DAY * 0.95)
    server.order(page(404))
    assert isinstance((await manager.warm_up())["acme"], TemporarilyUnavailable)
    assert await manager.warm_up() == {}
    assert len(server.refreshes()) == 2


async def test_warm_up_needs_one_worker(manager: TokenManager) -> None:
    """Zero at a time would never end."""
    with pytest.raises(ConfigurationError, match="at least 1"):
        await manager.warm_up(concurrency=0)


# Errors as values


async def test_errors_can_be_copied_and_pickled(manager: TokenManager) -> None:
    """An error keeps its fields through a process pool."""
    error = ReauthorizationRequired("lost rotation", organization="acme")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), error.again()):  # noqa: S301
        assert twin is not error
        assert (type(twin), str(twin), twin.cause, twin.organization) == (
            ReauthorizationRequired,
            str(error),
            "lost rotation",
            "acme",
        )


# Secrets


async def test_logs_have_no_secret(
    manager: TokenManager, server: TokenServer, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """S24: every line that this library, aiohttp and asyncio log during a life of trouble is free of tokens."""
    caplog.set_level(logging.DEBUG)
    for answer in (page(502), page(404), page(429)):
        server.order(answer)
        clock.advance(2 * DAY)
        await asyncio.gather(manager.token("acme"), return_exceptions=True)
        assert repr(manager._tokens["acme"])
        assert repr(await manager._context.store.load("acme"))
    server.live.clear()
    clock.advance(2 * DAY)
    await asyncio.gather(manager.token("acme"), return_exceptions=True)
    secrets = {*server.access, *server.refreshes(), "secret of client"}
    assert len(secrets) > 4
    said = caplog.text + repr(manager._single_flight._failures["acme"].error.__dict__)
    assert not [secret for secret in secrets if secret in said]


async def test_an_upload_that_is_given_up_while_it_waits(
    manager: TokenManager, server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    """F7: nobody is left who has not heard how the flight ended."""

    async def body() -> object:
        yield b"once"

    server.order(held_back(server))
    refreshing = asyncio.ensure_future(manager.refresh("acme"))
    await server.arrived.wait()
    server.live.clear()
    async with manager.session("acme") as session:
        uploading = asyncio.ensure_future(session.post("/v1/odata/x", data=body()))
        await until(lambda: len(manager._single_flight._in_flight["acme"].waiters) == 2)
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
    server.released.set()
    with pytest.raises(ReauthorizationRequired):
        await refreshing
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_an_upload_with_a_token_that_is_due(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """S22: asking for the token begins a refresh ahead of time, which would end it while the body is on its way."""
    clock.advance(0.9 * 86_400)

    async def replace(form: Mapping[str, str], request: web.Request) -> web.StreamResponse:
        server.access.clear()  # as the server drops the old token when it issues the new one
        return await server.rotate(form, request)

    server.order(replace)

    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    async with manager.session("acme") as session, session.post("/v1/odata/x", data=body()) as response:
        assert response.status == 200
    assert len(server.refreshes()) == 2  # the pasted one, and this one


async def test_as_many_at_a_time_as_one_likes(manager: TokenManager, clock: VirtualClock) -> None:
    """A very large number means no bound, and costs nothing."""
    clock.advance(86_400)
    assert list(await manager.warm_up(concurrency=10**9)) == ["acme"]


async def test_a_scope_that_could_not_be_written_again(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """A damaged record is refused before its refresh token is spent, not after."""
    record = await store.load("acme")
    assert record is not None
    payload = json.loads(text_of(record.payload))
    payload["token"]["scope"] = [None, "read"]
    assert await store.swap(attrs.evolve(record, payload=checked(json.dumps(payload).encode())))
    spent = len(server.refreshes())
    with pytest.raises(StoreError, match="cannot be read"):
        await manager.refresh("acme")
    assert len(server.refreshes()) == spent


async def test_a_client_that_is_no_text(manager: TokenManager, store: MemoryStore) -> None:
    """Numbers are not taken for text, nor for one another."""
    record = await store.load("acme")
    assert record is not None
    payload = json.loads(text_of(record.payload))
    payload["credential"]["client_id"] = 1
    assert await store.swap(attrs.evolve(record, payload=checked(json.dumps(payload).encode())))
    with pytest.raises(StoreError, match="cannot be read"):
        await manager.status("acme")


async def test_no_secret_outlives_its_organization(manager: TokenManager, server: TokenServer) -> None:
    """S24: nothing that was decoded is kept after a disconnect, nor after closing."""
    texts = texts_of(await manager.refresh("acme"))
    assert texts <= secrets_alive()
    await manager.disconnect("acme")
    assert not texts & secrets_alive()
    texts = texts_of(await manager.connect("beta", RefreshTokenGrant(server.client(), server.paste())))
    await manager.status("beta")
    assert texts <= secrets_alive()
    await manager.close()
    assert not texts & secrets_alive()


def texts_of(token: Token) -> set[str]:
    assert token.refresh_token is not None
    return {token.access_token.reveal(), token.refresh_token.reveal()}


def secrets_alive() -> set[str]:
    """The texts of those that some object still holds."""
    gc.collect()
    return {found.reveal() for found in gc.get_objects() if isinstance(found, Secret)}


async def test_an_eager_loop(make_manager: MakeManager) -> None:
    """A loop whose tasks begin at once (Python 3.12) changes nothing: flights are tasks of the plain kind."""
    loop = asyncio.get_running_loop()

    def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        raise AssertionError("a flight must not depend on the loop's factory")

    manager = make_manager()
    loop.set_task_factory(factory)
    try:
        with pytest.raises(UnknownOrganizationError):
            await manager.token("nobody")
    finally:
        loop.set_task_factory(None)


def test_a_flight_of_a_loop_that_is_gone(server: TokenServer) -> None:
    """F10: its remains end no flight of the next loop, and nobody who waits there hangs."""

    class Slow(MemoryStore):
        gate: asyncio.Event

        async def load(self, organization: str) -> Record | None:
            await self.gate.wait()
            return await super().load(organization)

    store = Slow()
    manager = TokenManager(server.client(), store=store)

    async def ask() -> asyncio.Task[Any]:
        store.gate = asyncio.Event()
        asking = asyncio.ensure_future(manager.refresh("acme"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return asking

    async def go_on() -> None:
        asking = await ask()
        left.clear()
        gc.collect()  # of the first loop's task, which ends here
        store.gate.set()
        with pytest.raises(UnknownOrganizationError):
            await asyncio.wait_for(asking, 10)
        await manager.close()

    first = asyncio.new_event_loop()
    left = [first.run_until_complete(ask())]
    first.close()
    del first
    asyncio.run(go_on())
