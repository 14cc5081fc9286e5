"""Scenarios of what writes to the API, and of its files: a create is sent once at most, whoever goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import attrs
from aiohttp import ClientError, ClientSession, web

from tribe_oauth import odata
from tribe_oauth import web as tribe_web

from ..serving import served
from ..web.test_webhooks import HEADER, SECRET, message, signature
from ..writing.tribe import Tribe, connected
from ..writing.tribe import tribe as serving
from .harness import Subject, scenario
from .kinds import Gate
from .leaks import Snapshot
from .worlds import Place

PERSONS: Final = "Relation_Person"
PHOTO: Final = odata.File(b"x" * 150_000, name="photo.jpg", mime_type="image/jpeg")


@attrs.frozen
class Written:
    """A Tribe with one person in it, and a session for it."""

    tribe: Tribe
    session: ClientSession
    key: str

    def subject(self, run: Callable[[], Coroutine[Any, Any, object]]) -> Subject:
        """Cut it: nothing of it goes on, and it was sent once at most."""
        self.tribe.seen.clear()

        async def once() -> None:
            assert len(self.tribe.seen) <= 1, "it was sent twice"

        return Subject(run=run, owns=Snapshot.take(), after=once)


@asynccontextmanager
async def _written() -> AsyncIterator[Written]:
    async with serving() as there, connected(there) as session:
        key = (await odata.create(session, PERSONS, {"LastName": "Bos"}))["ID"]
        yield Written(there, session, key)


@scenario("odata.create")
async def create(place: Place) -> AsyncIterator[Subject]:
    async with _written() as world:
        yield world.subject(lambda: odata.create(world.session, PERSONS, {"LastName": "Vos"}))


@scenario("odata.create: with a file")
async def create_with_file(place: Place) -> AsyncIterator[Subject]:
    async with _written() as world:
        yield world.subject(lambda: odata.create(world.session, "Attachment", {"File": PHOTO}))


@scenario("odata.update")
async def update(place: Place) -> AsyncIterator[Subject]:
    async with _written() as world:
        yield world.subject(lambda: odata.update(world.session, PERSONS, world.key, {"LastName": "Vos"}))


@scenario("odata.link")
async def link(place: Place) -> AsyncIterator[Subject]:
    async with _written() as world:
        yield world.subject(lambda: odata.link(world.session, PERSONS, world.key, "Gender", world.key))


@scenario("odata.delete")
async def delete(place: Place) -> AsyncIterator[Subject]:
    async with _written() as world:
        yield world.subject(lambda: odata.delete(world.session, PERSONS, world.key))


@scenario("odata.upload")
async def upload(place: Place) -> AsyncIterator[Subject]:
    async with _written() as world:
        yield world.subject(lambda: odata.upload(world.session, PERSONS, world.key, "Picture", PHOTO))


@scenario("odata.call")
async def call(place: Place) -> AsyncIterator[Subject]:
    async with _written() as world:
        yield world.subject(lambda: odata.call(world.session, "GetCurrentEmployee"))


@scenario("odata.own_organization")
async def own_organization(place: Place) -> AsyncIterator[Subject]:
    async with _written() as world:
        yield Subject(run=lambda: odata.own_organization(world.session), owns=Snapshot.take())


@scenario("odata.download")
async def download(place: Place) -> AsyncIterator[Subject]:
    async with _written() as world:
        await odata.upload(world.session, PERSONS, world.key, "Picture", PHOTO)

        async def run() -> None:
            async with odata.download(world.session, f"{PERSONS}/{world.key}/Picture") as file:
                async for _block in file:
                    await asyncio.sleep(0)

        yield world.subject(run)


@scenario("web.webhooks: a message", "web.webhooks", request=True)
async def webhook(place: Place) -> AsyncIterator[Subject]:
    gate, handled = Gate(), asyncio.Event()

    async def handle(event: tribe_web.WebhookEvent) -> None:
        await asyncio.sleep(0)
        handled.set()

    app = web.Application(middlewares=[gate.middleware])
    tribe_web.webhooks(app, "/hook", handle, verify=tribe_web.Signature(HEADER, SECRET))
    body = message()

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:9]
        await asyncio.sleep(0.005)
        yield body[9:]

    async def post() -> int:
        async with (
            ClientSession() as session,
            session.post(f"{address}/hook", data=slowly(), headers={HEADER: signature(body)}) as response,
        ):
            return response.status

    async def run() -> None:
        with suppress(ClientError):
            await post()

    async def answers() -> None:
        assert await post() == 200
        await asyncio.wait_for(handled.wait(), 5)

    async with served(app, handler_cancellation=True, shutdown_timeout=2.0) as address:
        yield Subject(run=run, gate=gate, after=answers)
