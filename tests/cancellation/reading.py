"""Scenarios of what reads the API: pages, rows, and exports into their sinks."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
from aiohttp import ClientSession

from tribe_oauth import odata
from tribe_oauth.sync import Checkpoint, JSONLinesFolder, JSONLinesStream, Pace, export

from .harness import Subject, scenario
from .leaks import Snapshot
from .worlds import Place, Tribe, tribe

PERSONS: Final = "Relation_Person"
QUERY: Final = odata.Query(PERSONS, count=True)


@asynccontextmanager
async def _session(place: Place) -> AsyncIterator[ClientSession]:
    async with tribe(place, store="memory") as world, world.manager.session("acme") as session:
        await world.manager.token("acme")
        yield session


async def _all(found: Any) -> None:
    async with aclosing(found):
        async for _each in found:
            await asyncio.sleep(0)


@scenario("odata.pages: to the end")
async def pages(place: Place) -> AsyncIterator[Subject]:
    async with _session(place) as session:
        yield Subject(run=lambda: _all(odata.pages(session, PERSONS)), owns=Snapshot.take())


@scenario("odata.pages: closed in the middle, while the next is read")
async def pages_closed(place: Place) -> AsyncIterator[Subject]:
    async with tribe(place, store="memory") as world, world.manager.session("acme") as session:
        await world.manager.token("acme")
        before, found = Snapshot.take(), odata.pages(session, PERSONS)
        await anext(found)
        world.sandbox.fault("delay", endpoint="api", seconds=0.05)
        yield Subject(run=found.aclose, owns=before)


@scenario("odata.rows: to the end")
async def rows(place: Place) -> AsyncIterator[Subject]:
    async with _session(place) as session:
        yield Subject(run=lambda: _all(odata.rows(session, PERSONS)), owns=Snapshot.take())


@scenario("odata.rows: closed in the middle, while the next page is read")
async def rows_closed(place: Place) -> AsyncIterator[Subject]:
    async with _session(place) as session:
        before, found = Snapshot.take(), odata.rows(session, PERSONS)
        await anext(found)
        yield Subject(run=found.aclose, owns=before)


@scenario("odata.entity")
async def one_entity(place: Place) -> AsyncIterator[Subject]:
    async with _session(place) as session:
        (row,) = [row async for row in odata.rows(session, PERSONS, top=1)]
        yield Subject(run=lambda: odata.entity(session, f"{PERSONS}({row['ID']})"), owns=Snapshot.take())


@scenario("odata.count")
async def a_number(place: Place) -> AsyncIterator[Subject]:
    async with _session(place) as session:
        yield Subject(run=lambda: odata.count(session, PERSONS), owns=Snapshot.take())


@scenario("odata.metadata")
async def the_metadata(place: Place) -> AsyncIterator[Subject]:
    async with _session(place) as session:
        yield Subject(run=lambda: odata.metadata(session), owns=Snapshot.take())


# The export


def _checkpoint(rows: int, *, done: bool = False) -> Checkpoint:
    return Checkpoint(
        organization="acme", entity_set=PERSONS, query=str(QUERY), position=None if done else "…", rows=rows, done=done
    )


@attrs.frozen
class Folder:
    """The folder of an export."""

    path: Path

    async def is_free(self) -> None:
        """Another one may write there."""
        async with JSONLinesFolder(self.path):
            pass

    async def can_be_completed(self, world: Tribe, *organizations: str) -> None:
        """A further run gives every row once."""
        async with world.anew() as manager, JSONLinesFolder(self.path) as sink:
            outcomes = await export(manager, organizations, [QUERY], sink)
            assert [outcome.error for outcome in outcomes] == [None] * len(organizations)
            for organization in organizations:
                lines = sink.path(organization, PERSONS).read_text(encoding="utf-8").splitlines()
                keys = [json.loads(line)["ID"] for line in lines]
                expected = [row["ID"] for row in world.sandbox.organization(organization).all(PERSONS)]
                assert sorted(keys) == sorted(expected), f"{organization} has {len(keys)} of {len(expected)} rows"


@scenario("sync.export: into a folder")
async def export_to_folder(place: Place) -> AsyncIterator[Subject]:
    folder = Folder(place.folder / "export")
    async with tribe(place, connected=("acme", "beta"), store="memory") as world:
        async with JSONLinesFolder(folder.path, every=0.0) as sink:
            both = ["acme", "beta"]
            yield Subject(run=lambda: export(world.manager, both, [QUERY], sink), owns=Snapshot.take())
        await folder.can_be_completed(world, "acme", "beta")


@scenario("sync.export: into a folder that it opens and closes")
async def export_and_close(place: Place) -> AsyncIterator[Subject]:
    folder = Folder(place.folder / "export")
    async with tribe(place, store="memory") as world:

        async def run() -> None:
            async with JSONLinesFolder(folder.path, every=0.0) as sink:
                await export(world.manager, ["acme"], [QUERY], sink)

        yield Subject(run=run, owns=Snapshot.take(), after=folder.is_free)
        await folder.can_be_completed(world, "acme")


@scenario("sync.export: into a stream")
async def export_to_stream(place: Place) -> AsyncIterator[Subject]:
    stream = io.BytesIO()
    async with tribe(place, connected=("acme", "beta"), store="memory") as world:
        sink, both = JSONLinesStream(stream), ["acme", "beta"]
        yield Subject(run=lambda: export(world.manager, both, [QUERY], sink), owns=Snapshot.take())
        assert all(json.loads(line)["row"] for line in stream.getvalue().splitlines())


@scenario("Pace.place")
async def place_to_read(place: Place) -> AsyncIterator[Subject]:
    pace = Pace(organizations=1)
    taken = await pace.place()

    async def in_turn() -> None:
        (await pace.place()).leave()

    asyncio.get_running_loop().call_later(0.005, taken.leave)
    yield Subject(run=in_turn)
    async with asyncio.timeout(1.0):  # no place is lost
        taken.leave()
        await in_turn()


# The sinks


@scenario("JSONLinesFolder.__aenter__")
async def folder_enter(place: Place) -> AsyncIterator[Subject]:
    before, sink = Snapshot.take(), JSONLinesFolder(place.folder)

    async def run() -> None:
        async with sink:
            await asyncio.sleep(0)

    yield Subject(run=run, owns=before, frees="everything", after=Folder(place.folder).is_free)


@asynccontextmanager
async def _begun(folder: Path, **options: Any) -> AsyncIterator[JSONLinesFolder]:
    """A folder with two pages in it, the second of which is not safely on the disk."""
    async with JSONLinesFolder(folder, every=0.0, **options) as sink:
        await sink.begin("acme", PERSONS)
        await sink.write([{"ID": 1}], _checkpoint(1))
        await sink.write([{"ID": 2}], _checkpoint(2))
        yield sink


def _continues_at(folder: Path, *possible: int) -> Any:
    """Another one that opens the folder finds a checkpoint, and as many rows as that says."""

    async def check() -> None:
        async with JSONLinesFolder(folder) as sink:
            found = await sink.begin("acme", PERSONS)
            rows = 0 if found is None else found.rows
            assert rows in possible, f"it goes on at row {rows}"
            path = sink.path("acme", PERSONS)
            written = path if found is not None and found.done else path.with_name(f"{path.name}.part")
            assert len(written.read_bytes().splitlines()) == rows

    return check


@scenario("JSONLinesFolder.__aexit__: what is written is not safe yet")
async def folder_exit(place: Place) -> AsyncIterator[Subject]:
    before, sink = Snapshot.take(), JSONLinesFolder(place.folder, every=0.0)
    await sink.__aenter__()
    for entity_set in (PERSONS, "Relation_Organization", "Activity_Task"):
        await sink.begin("acme", entity_set)
        for rows in (1, 2):
            checkpoint = attrs.evolve(_checkpoint(rows), entity_set=entity_set)
            await sink.write([{"ID": rows}], checkpoint)
    yield Subject(
        run=lambda: sink.__aexit__(None, None, None),
        owns=before,
        frees="everything",
        after=_continues_at(place.folder, 2),
    )


@scenario("JSONLinesFolder.begin: where there is nothing")
async def folder_begin(place: Place) -> AsyncIterator[Subject]:
    async with JSONLinesFolder(place.folder) as sink:
        yield Subject(run=lambda: sink.begin("acme", PERSONS), owns=Snapshot.take())
    await _continues_at(place.folder, 0)()


@scenario("JSONLinesFolder.begin: once more")
async def folder_begin_again(place: Place) -> AsyncIterator[Subject]:
    before = Snapshot.take()
    async with _begun(place.folder) as sink:
        yield Subject(run=lambda: sink.begin("acme", PERSONS), owns=before)
    await _continues_at(place.folder, 0, 1, 2)()


@scenario("JSONLinesFolder.write: in the middle")
async def folder_write(place: Place) -> AsyncIterator[Subject]:
    async with _begun(place.folder) as sink:
        yield Subject(run=lambda: sink.write([{"ID": 3}], _checkpoint(3)))
    await _continues_at(place.folder, 2, 3)()


@scenario("JSONLinesFolder.write: the last page")
async def folder_write_last(place: Place) -> AsyncIterator[Subject]:
    before = Snapshot.take()
    async with _begun(place.folder) as sink:
        yield Subject(run=lambda: sink.write([{"ID": 3}], _checkpoint(3, done=True)), owns=before)
    await _continues_at(place.folder, 2, 3)()


@scenario("JSONLinesStream.begin")
async def stream_begin(place: Place) -> AsyncIterator[Subject]:
    sink = JSONLinesStream(io.BytesIO())
    yield Subject(run=lambda: sink.begin("acme", PERSONS), owns=Snapshot.take())


@scenario("JSONLinesStream.write")
async def stream_write(place: Place) -> AsyncIterator[Subject]:
    stream = io.BytesIO()
    sink = JSONLinesStream(stream)

    async def two() -> None:
        """One waits for the other."""
        async with asyncio.TaskGroup() as group:
            group.create_task(sink.write([{"ID": 1}], _checkpoint(1)))
            await sink.write([{"ID": 2}], _checkpoint(2))

    async def whole() -> None:
        assert all(json.loads(line)["row"]["ID"] in {1, 2} for line in stream.getvalue().splitlines())

    yield Subject(run=two, owns=Snapshot.take(), after=whole)
