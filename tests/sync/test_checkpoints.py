"""Checkpoints on the disk, and files that are not as theirs says."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tribe_oauth._strict_json import to_json
from tribe_oauth.sync import Checkpoint, CheckpointError, JSONLinesFolder, SinkError, export
from tribe_oauth.sync._stored import Stored

from .conftest import World, connected

ROWS: list[dict[str, Any]] = [{"ID": "1", "Name": "Zoë"}, {"ID": "2", "Name": None}]
CONTENT = '{"ID":"1","Name":"Zoë"}\n{"ID":"2","Name":null}\n'.encode()


def checkpoint(
    rows: int, position: str | None = "next", *, done: bool = False, since: float | None = 1_700_000_000.5
) -> Checkpoint:
    return Checkpoint(
        organization="acme", entity_set="People", query="q", position=position, rows=rows, done=done, since=since
    )


def stored(found: Checkpoint, rows: bytes = CONTENT) -> dict[str, Any]:
    """As an export stores it."""
    return dict(json.loads(to_json(Stored.of(found, len(rows), zlib.crc32(rows)))))


GOOD = stored(checkpoint(2))
DONE = stored(checkpoint(2, None, done=True))


def part(folder: Path) -> Path:
    return folder / "acme" / "People.jsonl.part"


def kept(folder: Path) -> Path:
    return folder / "acme" / "People.jsonl.checkpoint"


def put(folder: Path, content: bytes, rows: bytes = CONTENT) -> None:
    kept(folder).parent.mkdir()
    kept(folder).write_bytes(content)
    part(folder).write_bytes(rows)


async def begin(folder: Path, **options: Any) -> Checkpoint | None:
    async with JSONLinesFolder(folder, **options) as sink:
        return await sink.begin("acme", "People")


@pytest.mark.parametrize("members", [GOOD, DONE, GOOD | {"more": [1]}], ids=repr)
async def test_a_checkpoint(tmp_path: Path, members: dict[str, Any]) -> None:
    """It is read as it was stored; a member that a later version adds does no harm."""
    put(tmp_path, json.dumps(members).encode())
    found = await begin(tmp_path)
    assert found == checkpoint(2, members["position"], done=members["done"])
    assert part(tmp_path).exists() is not members["done"]
    file = part(tmp_path) if part(tmp_path).exists() else tmp_path / "acme" / "People.jsonl"
    assert file.read_bytes() == CONTENT


MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "a list": b"[]",
    "a number": b"1",
    "no members": b"{}",
    "only bytes": b'{"bytes": 1}',
    "bytes a text": b'{"bytes": "x"}',
    "others": b'{"bytes": 1, "more": 2}',
    "not UTF-8": b"\xff\xfe",
    "NaN": json.dumps(GOOD | {"rows": float("nan")}).encode(),
    "a nest": b"[" * 100_000,
    "a nest in a member": json.dumps(GOOD).encode()[:-1] + b', "more": ' + b'{"a":' * 100_000,
    "a number of many digits": json.dumps(GOOD).encode().replace(b'"rows": 2', b'"rows": ' + b"2" * 5000),
    "a time that is no number": json.dumps(GOOD | {"since": 1}).encode().replace(b'"since": 1', b'"since": 1e999'),
    "half": json.dumps(GOOD).encode()[:-5],
}
WRONG: list[dict[str, Any]] = [
    {"done": "no"},
    {"done": 0},
    {"done": None},
    {"rows": "7"},
    {"rows": 2.0},
    {"rows": True},
    {"rows": -2},
    {"rows": None},
    {"bytes": 1.5},
    {"bytes": -1},
    {"bytes": None},
    {"bytes": [len(CONTENT)]},
    {"query": None},
    {"query": {"text": "q"}},
    {"position": 7},
    {"position": ["next"]},
    {"position": ""},
    {"position": "", "done": True},
    {"position": None},
    {"since": "now"},
    {"since": True},
    {"since": -1.0},
    {"since": 253_402_300_800},
    {"crc": None},
    {"crc": 1.0},
    {"done": True},
    {"organization": 1},
    {"entity_set": None},
    {"rows": 0},
    {"bytes": 0},
    {"rows": len(CONTENT)},
]
MALFORMED |= {repr(wrong): json.dumps(GOOD | wrong).encode() for wrong in WRONG}
MALFORMED |= {
    f"without {name}": json.dumps({key: value for key, value in GOOD.items() if key != name}).encode() for name in GOOD
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_checkpoint_that_is_none(tmp_path: Path, name: str) -> None:
    """It is not guessed at, and its rows stay as they are; the error names the file and the remedy, which works."""
    put(tmp_path, MALFORMED[name])
    with pytest.raises(CheckpointError, match=r"not a checkpoint of this library.*: delete it") as error:
        await begin(tmp_path)
    assert repr(str(kept(tmp_path))) in str(error.value)
    assert error.value.organization == "acme"
    assert error.value.__context__ is None or error.value.__suppress_context__
    assert part(tmp_path).read_bytes() == CONTENT
    kept(tmp_path).unlink()
    assert await begin(tmp_path) is None
    kept(tmp_path).write_bytes(MALFORMED[name])
    assert await begin(tmp_path, restart=True) is None


@pytest.mark.parametrize("other", [{"organization": "beta"}, {"entity_set": "Phones"}], ids=repr)
async def test_the_checkpoint_of_another(tmp_path: Path, other: dict[str, str]) -> None:
    """A file that was copied to another name is not taken for that one's: the rows would be of two organizations."""
    put(tmp_path, json.dumps(GOOD | other).encode())
    with pytest.raises(CheckpointError, match="is the checkpoint of another organization or entity set: delete it"):
        await begin(tmp_path)


async def test_a_checkpoint_that_cannot_be_opened(tmp_path: Path) -> None:
    """A folder of that name: the same error, with the system's reason."""
    kept(tmp_path).mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"checkpoint' cannot be read \(Is a directory\): delete it"):
        await begin(tmp_path)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Two organizations of three pages."""
    async with connected(organizations=["acme", "beta"], persons=25, page_size=10) as world:
        yield world


@pytest.mark.parametrize("content", [b"[" * 100_000, json.dumps(GOOD | {"rows": "7"}).encode()], ids=len)
async def test_it_is_the_error_of_one(world: World, tmp_path: Path, content: bytes) -> None:
    """Of one entity set of one organization: all others are exported."""
    damaged = tmp_path / "acme" / "Relation_Person.jsonl.checkpoint"
    damaged.parent.mkdir()
    damaged.write_bytes(content)
    sets = ["Relation_Person", "Relation_Organization"]
    async with JSONLinesFolder(tmp_path) as sink:
        outcomes = await export(world.manager, ["acme", "beta"], sets, sink)
    assert {
        (outcome.organization, outcome.entity_set): type(outcome.error)
        for outcome in outcomes
        if outcome.error is not None
    } == {("acme", "Relation_Person"): CheckpointError}
    assert sum(path.suffix == ".jsonl" for path in tmp_path.rglob("*")) == 3


# Files that are not as their checkpoint says


@pytest.mark.parametrize("loss", ["part gone", "part shorter", "final gone", "final shorter"])
async def test_a_file_that_was_taken_away(tmp_path: Path, loss: str, caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to continue: it is read from the beginning, and the log says so."""
    done = loss.startswith("final")
    async with JSONLinesFolder(tmp_path) as sink:
        await sink.begin("acme", "People")
        await sink.write(ROWS, checkpoint(2, None if done else "2", done=done))
        path = sink.path("acme", "People") if done else part(tmp_path)
    if loss.endswith("gone"):
        path.unlink()
    else:
        os.truncate(path, 3)
    async with JSONLinesFolder(tmp_path) as sink:
        assert await sink.begin("acme", "People") is None
        assert part(tmp_path).read_bytes() == b""
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("tribe_oauth.sync", logging.WARNING)
    assert f"{str(path)!r} is not as its checkpoint says: it is read from the beginning" in record.getMessage()


@pytest.mark.parametrize("size", [3, 5, len(CONTENT) - 1, len(CONTENT) + 1, 2**62, 10**30], ids=repr)
@pytest.mark.parametrize("members", [GOOD, DONE], ids=["a part", "complete"])
async def test_a_size_in_the_middle_of_a_line(tmp_path: Path, members: dict[str, Any], size: int) -> None:
    """A broken line is never called complete, nor continued: the file is read from the beginning."""
    put(tmp_path, json.dumps(members | {"rows": 1, "bytes": size}).encode())
    assert await begin(tmp_path) is None
    assert part(tmp_path).read_bytes() == b""
    assert not (tmp_path / "acme" / "People.jsonl").exists()


@pytest.mark.parametrize("done", [False, True])
async def test_no_rows(tmp_path: Path, done: bool) -> None:
    """A file without rows is as complete as another."""
    none = checkpoint(0, None if done else "next", done=done)
    async with JSONLinesFolder(tmp_path) as sink:
        await sink.begin("acme", "People")
        await sink.write([], none)
    assert await begin(tmp_path) == none


async def test_a_restart_forgets_the_checkpoint_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is durably gone before the rows are: after a power cut, it would count rows that others have replaced."""
    put(tmp_path, json.dumps(GOOD).encode())
    synced: list[tuple[bool, int]] = []
    sync = os.fsync

    def seen(file: int) -> None:
        synced.append((kept(tmp_path).exists(), part(tmp_path).stat().st_size))
        sync(file)

    monkeypatch.setattr(os, "fsync", seen)
    await begin(tmp_path, restart=True)
    assert synced == [(False, len(CONTENT))]


# One export at a time


async def test_two_that_begin_at_once(tmp_path: Path) -> None:
    """Two exports into one sink: the second is told before it can cut off what the first has written."""
    async with JSONLinesFolder(tmp_path) as sink:
        first = asyncio.create_task(sink.begin("acme", "People"))
        await asyncio.sleep(0)
        with pytest.raises(SinkError, match="written twice at once"):
            await sink.begin("acme", "People")
        with pytest.raises(SinkError, match="written twice at once"):
            await sink.write(ROWS, checkpoint(2))
        assert await first is None
        await sink.write(ROWS, checkpoint(2))


async def test_a_page_before_begin(tmp_path: Path) -> None:
    """Refused, with a word on what is missing."""
    async with JSONLinesFolder(tmp_path) as sink:
        with pytest.raises(SinkError, match="or before `begin`"):
            await sink.write(ROWS, checkpoint(2))


async def test_two_that_wait_for_the_last_page(tmp_path: Path) -> None:
    """A `write` of the last page that was left in a task of its own, and the end of the sink, store it once."""
    sink = await JSONLinesFolder(tmp_path, every=60).__aenter__()
    await sink.begin("acme", "People")
    await sink.write(ROWS, checkpoint(2))
    last = asyncio.create_task(sink.write([], checkpoint(2, None, done=True)))
    await asyncio.sleep(0)
    await sink.__aexit__(None, None, None)
    await last
    assert sink.path("acme", "People").read_bytes() == CONTENT
