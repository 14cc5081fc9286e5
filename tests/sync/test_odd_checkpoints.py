"""What a folder can look like when an export begins: each state ends as a clear error, or as the right file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from tribe_oauth.errors import ConfigurationError, TribeOAuthError
from tribe_oauth.sync import CheckpointError, Event, JSONLinesFolder, Outcome, export

from .conftest import World, connected

SET: Final = "Relation_Person"
PAGE: Final = 10


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Two organizations of three pages, whose rows are as long as each other's."""
    async with connected(organizations=["acme", "beta"], persons=25, page_size=PAGE) as world:
        yield world


@attrs.frozen
class Place:
    """What an export leaves in a folder for an organization."""

    folder: Path
    organization: str = "acme"

    @property
    def final(self) -> Path:
        return self.folder / self.organization / f"{SET}.jsonl"

    @property
    def part(self) -> Path:
        return self.final.with_name(f"{SET}.jsonl.part")

    @property
    def kept(self) -> Path:
        return self.final.with_name(f"{SET}.jsonl.checkpoint")

    @property
    def other(self) -> Place:
        return Place(self.folder, "beta")

    def edit(self, **changes: Any) -> None:
        """Change members of the checkpoint."""
        self.kept.write_text(json.dumps(json.loads(self.kept.read_text()) | changes))

    def leave_out(self, name: str) -> None:
        """Remove a member of the checkpoint."""
        members = json.loads(self.kept.read_text())
        del members[name]
        self.kept.write_text(json.dumps(members))

    def append(self, text: bytes) -> None:
        """Write at the end of the file that is there."""
        path = self.final if self.final.exists() else self.part
        path.write_bytes(path.read_bytes() + text)

    def lines(self, count: int) -> bytes:
        """The first lines that were written."""
        return b"".join(self.part.read_bytes().splitlines(keepends=True)[:count])

    def flip(self, at: int) -> None:
        """Change one letter of a file."""
        path = self.final if self.final.exists() else self.part
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)


async def leave(world: World, folder: Path, rows: int) -> None:
    """What an export leaves that ends after so many rows of each."""

    def stop(event: Event) -> None:
        if event.rows >= rows:
            raise KeyError("enough")

    for organization in ("acme", "beta"):
        with pytest.raises(KeyError):
            async with JSONLinesFolder(folder, every=60) as sink:
                await export(world.manager, [organization], [SET], sink, on_event=stop)


async def run(world: World, folder: Path) -> list[Outcome]:
    async with JSONLinesFolder(folder) as sink:
        return await export(world.manager, ["acme", "beta"], [SET], sink)


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def copied(place: Place) -> None:
    """The whole folder of the other organization under this one's name."""
    shutil.rmtree(place.final.parent)
    shutil.copytree(place.other.final.parent, place.final.parent)


def no_folder(place: Place) -> None:
    """A file in its place."""
    shutil.rmtree(place.final.parent)
    place.final.parent.write_text("")


NEST: Final = b"[" * 100_000
LINK: Final = f"/v1/odata/{SET}?$count=true&$skiptoken="

# What is done to the files of one organization, after two of its three pages.
BEGUN: Final[dict[str, Callable[[Place], object]]] = {
    "as it was left": lambda it: "nothing",
    "an empty checkpoint": lambda it: it.kept.write_bytes(b""),
    "no JSON": lambda it: it.kept.write_bytes(b"\x00\xff"),
    "half of it": lambda it: it.kept.write_bytes(it.kept.read_bytes()[:60]),
    "a list": lambda it: it.kept.write_bytes(b"[1]"),
    "a nest": lambda it: it.kept.write_bytes(NEST),
    "a nest in a member": lambda it: it.kept.write_bytes(it.kept.read_bytes()[:-1] + b',"more":' + NEST),
    "a checkpoint without an end": lambda it: it.kept.write_bytes(it.kept.read_bytes() + b" " * 2**21),
    "no organization": lambda it: it.leave_out("organization"),
    "no position": lambda it: it.leave_out("position"),
    "no size": lambda it: it.leave_out("bytes"),
    "no checksum": lambda it: it.leave_out("crc"),
    "a checksum of another": lambda it: it.edit(crc=7),
    "rows as text": lambda it: it.edit(rows="20"),
    "rows as a float": lambda it: it.edit(rows=20.0),
    "too few rows": lambda it: it.edit(rows=10),
    "too many rows": lambda it: it.edit(rows=21),
    "no rows": lambda it: it.edit(rows=0),
    "rows without an end": lambda it: it.edit(rows=10**30),
    "a part of a byte": lambda it: it.edit(bytes=1.5),
    "a byte less": lambda it: it.edit(bytes=len(it.part.read_bytes()) - 1),
    "a line less": lambda it: it.edit(bytes=len(it.lines(19))),
    "a page less": lambda it: it.edit(bytes=len(it.lines(10)), rows=10),
    "a byte more": lambda it: it.edit(bytes=len(it.part.read_bytes()) + 1),
    "no bytes": lambda it: it.edit(bytes=0),
    "bytes below nothing": lambda it: it.edit(bytes=-1),
    "an earlier position": lambda it: it.edit(position=f"{LINK}WzEwLCBudWxsXQ%3D%3D"),
    "the position of another set": lambda it: it.edit(position="/v1/odata/Relation_Organization"),
    "a position that is none": lambda it: it.edit(position="away"),
    "a position elsewhere": lambda it: it.edit(position="http://127.0.0.1/x"),
    "an empty position": lambda it: it.edit(position=""),
    "a position of a wrong type": lambda it: it.edit(position=["next"]),
    "not a position": lambda it: it.edit(position=None),
    "done too early": lambda it: it.edit(position=None, done=True),
    "done and a position": lambda it: it.edit(done=True),
    "done as text": lambda it: it.edit(done="yes"),
    "another query": lambda it: it.edit(query=f"/v1/odata/{SET}?$top=5"),
    "a time as text": lambda it: it.edit(since="yesterday"),
    "a time without an end": lambda it: it.kept.write_text(
        it.kept.read_text().replace('"since":1', '"since":1e999,"x":1')
    ),
    "a time to come": lambda it: it.edit(since=4e9),
    "another organization": lambda it: it.edit(organization="beta"),
    "another set": lambda it: it.edit(entity_set="Relation_Organization"),
    "a folder that was renamed": copied,
    "the checkpoint of another": lambda it: shutil.copy(it.other.kept, it.kept),
    "the rows of another": lambda it: shutil.copy(it.other.part, it.part),
    "an older checkpoint": lambda it: it.part.write_bytes(it.lines(10)),
    "rows that were cut off": lambda it: os.truncate(it.part, 100),
    "lines that were cut off": lambda it: it.part.write_bytes(it.lines(15)),
    "rows that were emptied": lambda it: os.truncate(it.part, 0),
    "rows that are gone": lambda it: it.part.unlink(),
    "rows in another order": lambda it: it.part.write_bytes(b"".join(sorted(it.part.read_bytes().splitlines(True)))),
    "a letter of another": lambda it: it.flip(99),
    "half a line more": lambda it: it.append(b'{"ID":'),
    "lines more": lambda it: it.append(it.lines(3)),
    "the checkpoint a folder": lambda it: replaced(it.kept, Path.mkdir),
    "the checkpoint a pipe": lambda it: replaced(it.kept, os.mkfifo),
    "the checkpoint a link": lambda it: replaced(it.kept, lambda path: path.symlink_to("/dev/zero")),
    "the rows a folder": lambda it: replaced(it.part, Path.mkdir),
    "the rows a pipe": lambda it: replaced(it.part, os.mkfifo),
    "the rows a link": lambda it: replaced(it.part, lambda path: path.symlink_to(it.other.part)),
    "no folder": no_folder,
}

# And when all was complete.
COMPLETE: Final[dict[str, Callable[[Place], object]]] = {
    "as it was left": lambda it: "nothing",
    "the folder of another": copied,
    "the rows of another": lambda it: shutil.copy(it.other.final, it.final),
    "the checkpoint of another": lambda it: shutil.copy(it.other.kept, it.kept),
    "lines that were cut off": lambda it: os.truncate(it.final, 100),
    "rows that were emptied": lambda it: os.truncate(it.final, 0),
    "rows that are gone": lambda it: it.final.unlink(),
    "a letter of another": lambda it: it.flip(99),
    "a line more": lambda it: it.append(b'{"ID":"x"}\n'),
    "half a line more": lambda it: it.append(b"{"),
    "not done": lambda it: it.edit(done=False, position=f"{LINK}WzEwLCBudWxsXQ%3D%3D"),
    "too few rows": lambda it: it.edit(rows=24),
    "the name of the unfinished": lambda it: it.final.rename(it.part),
    "an unfinished beside it": lambda it: it.part.write_bytes(b"{"),
    "another's unfinished beside it": lambda it: shutil.copy(it.other.final, it.part),
    "the rows a folder": lambda it: replaced(it.final, Path.mkdir),
    "no checkpoint": lambda it: it.kept.unlink(),
}


async def judge(world: World, folder: Path) -> TribeOAuthError | None:
    """The right file, or no file and a clear error; the other organization's file is right."""
    acme, beta = sorted(await run(world, folder), key=lambda outcome: outcome.organization)
    assert beta.error is None
    for place, outcome in ((Place(folder), acme), (Place(folder, "beta"), beta)):
        if outcome.error is None:
            lines = place.final.read_text(encoding="utf-8").splitlines()
            assert [json.loads(line) for line in lines] == world.expected(place.organization)
            assert outcome.rows == 25
            assert not place.part.is_file() or place.final.is_file()
        else:
            assert "delete it" in str(outcome.error) or "restart" in str(outcome.error) or "make" in str(outcome.error)
            assert len(str(outcome.error)) < 500
    return acme.error


@pytest.mark.parametrize("state", BEGUN)
async def test_what_is_left_of_a_part(world: World, tmp_path: Path, state: str) -> None:
    """Never a file that is wrong and called complete, and never the other organization's failure."""
    await leave(world, tmp_path, 2 * PAGE)
    BEGUN[state](Place(tmp_path))
    error = await judge(world, tmp_path)
    assert error is None or isinstance(error, CheckpointError | ConfigurationError)
    if state in {"as it was left", "half a line more", "lines more"}:
        assert error is None


@pytest.mark.parametrize("state", COMPLETE)
async def test_what_is_left_of_a_complete_file(world: World, tmp_path: Path, state: str) -> None:
    """The same for one that an earlier run has completed."""
    assert [outcome.error for outcome in await run(world, tmp_path)] == [None, None]
    COMPLETE[state](Place(tmp_path))
    assert await judge(world, tmp_path) is None or state in {"the folder of another", "the checkpoint of another"} | {
        "the rows a folder"
    }


def test_there_are_enough_of_them() -> None:
    """The table has not shrunk."""
    assert len(BEGUN) + len(COMPLETE) >= 75
