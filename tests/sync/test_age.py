"""Since when the rows of a file are: told, and read again where they are too old."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata import Query
from tribe_oauth.sync import Checkpoint, CheckpointError, Event, JSONLinesFolder, Outcome, export

from .conftest import Kept, World, connected

SET = "Relation_Person"
HOUR = 3_600.0


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """One organization of three pages."""
    async with connected(organizations=["acme"], persons=25, page_size=10) as world:
        yield world


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day, to be moved; the manager's stays as it is."""
    now = [time.time()]

    class Moved:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def time() -> float:
            return now[0]

    for module in ("_stream", "_stored"):
        monkeypatch.setattr(f"tribe_oauth.sync.{module}.time", Moved)
    return now


async def run(world: World, folder: Path, *, stop_at: int | None = None, **options: Any) -> Outcome:
    def stop(event: Event) -> None:
        if event.rows == stop_at:
            raise KeyError("enough")

    async with JSONLinesFolder(folder, **options) as sink:
        (outcome,) = await export(world.manager, ["acme"], [SET], sink, on_event=stop)
    return outcome


async def test_since_when(world: World, tmp_path: Path, clock: list[float]) -> None:
    """The time at which the first row was read, however many runs it took, and whatever a later one finds complete."""
    began = clock[0]
    with pytest.raises(KeyError):
        await run(world, tmp_path, stop_at=10)
    clock[0] += HOUR
    outcome = await run(world, tmp_path)
    assert (outcome.rows, outcome.read, outcome.error) == (25, 15, None)
    clock[0] += HOUR
    again = await run(world, tmp_path)
    assert (again.rows, again.read, again.error) == (25, 0, None)
    assert outcome.since == again.since == pytest.approx(began, abs=0.001)


async def test_rows_that_are_too_old(world: World, tmp_path: Path, clock: list[float]) -> None:
    """They are read again; younger ones are not; the complete file stays until the new one is complete."""
    began = clock[0]
    assert (await run(world, tmp_path, max_age=HOUR)).read == 25
    clock[0] += HOUR - 1
    assert (await run(world, tmp_path, max_age=HOUR)).read == 0
    clock[0] += 2
    with pytest.raises(KeyError):
        await run(world, tmp_path, max_age=HOUR, stop_at=10)
    final = tmp_path / "acme" / f"{SET}.jsonl"
    assert len(final.read_bytes().splitlines()) == 25
    outcome = await run(world, tmp_path, max_age=HOUR)
    assert (outcome.rows, outcome.read) == (25, 15)
    assert outcome.since == pytest.approx(began + HOUR + 1, abs=0.001)


async def test_a_part_that_is_too_old(world: World, tmp_path: Path, clock: list[float]) -> None:
    """Rows of last week and of today are no export of today: it begins anew."""
    with pytest.raises(KeyError):
        await run(world, tmp_path, stop_at=20)
    clock[0] += 7 * 24 * HOUR
    assert (await run(world, tmp_path, max_age=24 * HOUR)).read == 25


async def test_a_clock_that_was_set_back(world: World, tmp_path: Path, clock: list[float]) -> None:
    """A time to come is no proof of youth."""
    await run(world, tmp_path)
    clock[0] -= 24 * HOUR
    assert (await run(world, tmp_path)).read == 0
    assert (await run(world, tmp_path, max_age=HOUR)).read == 25


async def test_a_time_that_is_not_known(tmp_path: Path) -> None:
    """A file whose age nobody knows is older than any."""
    done = Checkpoint(organization="acme", entity_set=SET, query="q", rows=1, done=True)
    async with JSONLinesFolder(tmp_path) as sink:
        await sink.begin("acme", SET)
        await sink.write([{"ID": "1"}], done)
    async with JSONLinesFolder(tmp_path) as sink:
        assert await sink.begin("acme", SET) == done
    async with JSONLinesFolder(tmp_path, max_age=1e9) as sink:
        assert await sink.begin("acme", SET) is None


@pytest.mark.parametrize("age", [0, -1, float("nan")])
def test_an_age_that_is_none(tmp_path: Path, age: float) -> None:
    """It would read everything each time: that has a name."""
    with pytest.raises(ConfigurationError, match="`restart` reads everything again"):
        JSONLinesFolder(tmp_path, max_age=age)


async def test_a_whole_number_of_seconds(tmp_path: Path) -> None:
    """A sink's user may give one; it is the same time when it is read again."""
    given = Checkpoint(organization="acme", entity_set=SET, query="q", position="p", rows=1, since=1_700_000_000)
    async with JSONLinesFolder(tmp_path) as sink:
        await sink.begin("acme", SET)
        await sink.write([{"ID": "1"}], given)
    async with JSONLinesFolder(tmp_path) as sink:
        assert await sink.begin("acme", SET) == given


async def test_events_tell_it(world: World, tmp_path: Path) -> None:
    """Each event of an export that reads nothing says so, and since when that is."""
    first = await run(world, tmp_path)
    events: list[Event] = []
    async with JSONLinesFolder(tmp_path) as sink:
        await export(world.manager, ["acme"], [SET], sink, on_event=events.append)
    assert [(event.kind, event.rows, event.read, event.since) for event in events] == [
        ("started", 25, 0, first.since),
        ("finished", 25, 0, first.since),
    ]


async def test_the_same_folder_with_another_query(world: World, tmp_path: Path) -> None:
    """It says what was asked then and now, and what to do; with a restart, it is done."""
    await run(world, tmp_path)
    query = Query(SET, select=["ID"], count=True)
    async with JSONLinesFolder(tmp_path) as sink:
        (outcome,) = await export(world.manager, ["acme"], [query], sink)
    assert isinstance(outcome.error, ConfigurationError)
    for words in ("with other options", f"{SET}?$count=true", "$select=ID", "restart", "another folder"):
        assert words in str(outcome.error)
    assert len((tmp_path / "acme" / f"{SET}.jsonl").read_bytes().splitlines()) == 25
    async with JSONLinesFolder(tmp_path, restart=True) as sink:
        (outcome,) = await export(world.manager, ["acme"], [query], sink)
    assert outcome.error is None
    lines = (tmp_path / "acme" / f"{SET}.jsonl").read_text(encoding="utf-8").splitlines()
    assert {tuple(json.loads(line)) for line in lines} == {("ID",)}


# Checkpoints of a sink of one's own

WRONG: list[dict[str, Any]] = [
    {"organization": "beta"},
    {"entity_set": "Relation_Organization"},
    {"organization": 7},
    {"query": None},
    {"position": 7},
    {"position": ""},
    {"position": None},
    {"done": True},
    {"done": 0},
    {"rows": "10"},
    {"rows": True},
    {"rows": -1},
    {"since": "now"},
    {"since": float("nan")},
    {"since": 1e300},
    {"since": -1},
]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
async def test_a_sink_that_gives_back_another(wrong: dict[str, Any]) -> None:
    """It is not trusted either: the error of this entity set, which says what to remove; the others are read."""
    async with connected(organizations=["acme", "beta"], persons=25, page_size=10) as world:
        query = str(Query(SET, count=True))
        good = Checkpoint(organization="acme", entity_set=SET, query=query, position="skip=10,size=10,full=1", rows=10)
        sink = Kept()
        sink.checkpoints["acme", SET] = attrs.evolve(good, **wrong)
        outcomes = await export(world.manager, ["acme", "beta"], [SET], sink)
    errors = {outcome.organization: outcome.error for outcome in outcomes}
    assert errors["beta"] is None
    assert isinstance(errors["acme"], CheckpointError)
    assert errors["acme"].organization == "acme"
    assert "remove it, and the entity set is read from the beginning" in str(errors["acme"])


async def test_a_sink_that_has_nothing_yet(world: World) -> None:
    """It may say so by a checkpoint of no rows."""
    sink = Kept()
    query = str(Query(SET, count=True))
    sink.checkpoints["acme", SET] = Checkpoint(organization="acme", entity_set=SET, query=query)
    (outcome,) = await export(world.manager, ["acme"], [SET], sink)
    assert (outcome.error, outcome.rows) == (None, 25)
