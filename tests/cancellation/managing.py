"""Scenarios of the manager, over a SQLite store; what takes tokens out of it, also over the other stores."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any
from unittest import mock

from aiohttp import ClientSession

from tribe_oauth import RateLimit, TokenManager
from tribe_oauth._oauth.client import AuthorizationCodeGrant
from tribe_oauth.sandbox import Sandbox

from .harness import Subject, scenario
from .leaks import Snapshot
from .worlds import DAY, Place, Tribe, application, tribe

STORES = ("memory", "sqlite", "postgres", "redis", "encrypted")


# Entering and leaving


@scenario("TokenManager.__aenter__: with a client")
async def enter(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place, warm=False) as world:
        yield Subject(run=world.manager.__aenter__, owns=world.before, frees="everything if cut")


async def _enter_from_env(place: Place, **variables: str) -> AsyncIterator[Subject]:
    async with Sandbox(organizations=["acme"], persons=1) as sandbox:
        settings = sandbox.environment | {"TRIBE_STORE": str(place.folder / "tribe.db")} | variables
        if "TRIBE_REFRESH_TOKEN" in variables:
            settings["TRIBE_REFRESH_TOKEN"] = sandbox.paste_token("acme")
        with mock.patch.dict(os.environ, settings):
            before, manager = Snapshot.take(), TokenManager.from_env()
        yield Subject(run=manager.__aenter__, owns=before, frees="everything if cut")
        await manager.close()
        with mock.patch.dict(os.environ, settings):
            again = TokenManager.from_env()
        async with again:  # what the environment says connects it, whatever was cut
            assert sandbox.ledger.is_live((await again.refresh()).access_token.reveal())
        assert sandbox.ledger.spent_twice() == sandbox.ledger.reused() == ()


@scenario("TokenManager.__aenter__: from the environment, client credentials")
async def enter_with_credentials(place: Place) -> AsyncIterator[Subject]:
    async for subject in _enter_from_env(place):
        yield subject


@scenario("TokenManager.__aenter__: from the environment, Quick Setup")
async def enter_with_refresh_token(place: Place) -> AsyncIterator[Subject]:
    async for subject in _enter_from_env(place, TRIBE_REFRESH_TOKEN="pasted"):
        yield subject


@scenario("TokenManager.__aexit__")
async def leave(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world:
        await world.manager.__aenter__()
        yield Subject(run=lambda: world.manager.__aexit__(None, None, None), owns=world.before, frees="everything")


@scenario("TokenManager.close: idle")
async def close_idle(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world, world.manager.session("acme") as session:
        await _read(session)
        yield Subject(run=world.manager.close, owns=world.before, frees="everything")


@scenario("TokenManager.close: a refresh is on the wire")
async def close_busy(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world:
        await _on_the_wire(world)
        yield Subject(run=world.manager.close, owns=world.before, frees="everything")


async def _on_the_wire(world: Tribe) -> None:
    """Begin a refresh whose caller goes away, and whose answer comes late."""
    fault = world.sandbox.fault("delay", seconds=0.1)
    caller = asyncio.ensure_future(world.manager.refresh("acme"))
    await fault.reached()
    caller.cancel()
    await asyncio.wait({caller})


# Tokens


def _with_every_store(
    name: str, run: Callable[[Tribe], Coroutine[Any, Any, object]], *, ahead: float = 0.0, **options: Any
) -> None:
    for kind in STORES:

        async def open_world(place: Place, kind: str = kind) -> AsyncIterator[Subject]:
            async with tribe(place, store=kind, **options) as world:
                world.clock.ahead = ahead
                yield Subject(run=lambda: run(world))

        scenario(f"{name}, {kind}")(open_world)


_with_every_store("TokenManager.token: of a store", lambda world: world.manager.token("acme"), warm=False)
_with_every_store("TokenManager.token: expired", lambda world: world.manager.token("acme"), ahead=2 * DAY)
_with_every_store(
    "TokenManager.connect: a refresh token", lambda world: world.manager.connect("beta", world.pasted("beta"))
)


@scenario("TokenManager.token: ahead of time")
async def token_ahead(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world:
        world.clock.ahead = 0.95 * DAY
        yield Subject(run=lambda: world.manager.token("acme"))


@scenario("TokenManager.token: of the only organization")
async def token_of_the_only_one(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place, warm=False) as world:
        yield Subject(run=world.manager.token)


@scenario("TokenManager.refresh: in any case")
async def refresh(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world:
        yield Subject(run=lambda: world.manager.refresh("acme"))


@scenario("TokenManager.refresh: a rejected token")
async def refresh_rejected(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world:
        rejected = await world.manager.token("acme")
        yield Subject(run=lambda: world.manager.refresh("acme", rejected=rejected))


@scenario("TokenManager.refresh: the server is slow, others wait too")
async def refresh_together(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world:
        world.sandbox.fault("delay", seconds=0.05)
        other = asyncio.ensure_future(world.manager.refresh("acme"))
        yield Subject(run=lambda: world.manager.refresh("acme"))
        await other  # those who were not cut get their token


@scenario("TokenManager.refresh: the answer is lost")
async def refresh_lost(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world:
        world.sandbox.fault("lost_request")
        yield Subject(run=lambda: world.manager.refresh("acme"))


@scenario("TokenManager.warm_up")
async def warm_up(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place, connected=("acme", "beta", "gamma")) as world:
        world.clock.ahead = 2 * DAY
        yield Subject(run=lambda: world.manager.warm_up(concurrency=1))


# Organizations


@scenario("TokenManager.connect: client credentials")
async def connect_credentials(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world:
        grant = application(world, "beta")
        yield Subject(run=lambda: world.manager.connect("beta", grant))


async def _consented(world: Tribe) -> AuthorizationCodeGrant:
    request = world.client.authorization_request()
    return request.grant(await world.sandbox.approve(request.url, organization="beta"))


@scenario("TokenManager.connect: a code")
async def connect_code(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world:
        grant = await _consented(world)
        yield Subject(run=lambda: world.manager.connect("beta", grant))


@scenario("TokenManager.connect: a code, whose organization is found")
async def connect_found(place: Place) -> AsyncIterator[Subject]:
    async def find(session: ClientSession) -> str:
        await _read(session)
        return "beta"

    async with tribe(place) as world:
        grant = await _consented(world)
        yield Subject(run=lambda: world.manager.connect(find, grant))


@scenario("TokenManager.disconnect")
async def disconnect(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place, connected=("acme", "beta")) as world:
        yield Subject(run=lambda: world.manager.disconnect("acme"))


@scenario("TokenManager.status")
async def status(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world:
        yield Subject(run=lambda: world.manager.status("acme"))


@scenario("TokenManager.organizations")
async def organizations(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place, connected=("acme", "beta", "gamma")) as world:

        async def listed() -> None:
            async with aclosing(world.manager.organizations()) as keys:
                async for _key in keys:
                    await asyncio.sleep(0)

        yield Subject(run=listed)


# Requests


async def _read(session: ClientSession) -> None:
    async with session.get("/v1/odata/Relation_Person", params={"$top": "3"}) as response:
        assert response.status == 200
        await response.read()


@scenario("TokenManager.session: a request")
async def request(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place, warm=False) as world, world.manager.session("acme") as session:
        yield Subject(run=lambda: _read(session), after=lambda: _read(session))


@scenario("TokenManager.session: a request with a refused token, sent once more")
async def replayed(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world, world.manager.session("acme") as session:
        world.sandbox.expire("acme")
        yield Subject(run=lambda: _read(session), after=lambda: _read(session))


@scenario("TokenManager.session: a request that waits for its turn")
async def turn(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world:
        limited = TokenManager(world.client, store=world.store, rate_limit=RateLimit(calls=2, seconds=0.2), quiet=0.0)
        async with limited, limited.session("acme") as session:
            await _read(session)
            await _read(session)
            yield Subject(run=lambda: _read(session), after=lambda: _read(session))


@scenario("TokenManager.session: a request whose body cannot be sent again")
async def settled(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place) as world, world.manager.session("acme") as session:

        async def body() -> AsyncIterator[bytes]:
            yield b"{}"

        async def post() -> None:
            async with session.post("/v1/odata/Relation_Person", data=body()) as response:
                await response.read()

        await _on_the_wire(world)
        yield Subject(run=post)
