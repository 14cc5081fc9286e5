"""Files that somebody changes while an export writes them, and file systems that cannot do everything."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tribe_oauth import _durable
from tribe_oauth.sync import CheckpointError, Event, JSONLinesFolder, Outcome, SinkError, export

from .conftest import World, connected

SET: Final = "Relation_Person"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Two organizations of three pages."""
    async with connected(organizations=["acme", "beta"], persons=25, page_size=10) as world:
        yield world


async def run(world: World, folder: Path, *, every: float = 60, on_event: Any = None) -> dict[str, Outcome]:
    async with JSONLinesFolder(folder, every=every) as sink:
        outcomes = await export(world.manager, ["acme", "beta"], [SET], sink, on_event=on_event)
    return {outcome.organization: outcome for outcome in outcomes}


def assert_right(world: World, folder: Path, organization: str) -> None:
    lines = (folder / organization / f"{SET}.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == world.expected(organization)


def remove_folder(folder: Path) -> None:
    """While the export writes there: what was listed has another name by then, or the folder has something new."""
    while folder.exists():
        with suppress(OSError):
            shutil.rmtree(folder)


CHANGES: Final[dict[str, Callable[[Path], object]]] = {
    "emptied": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, 100),
    "a line cut": lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1])),
    "written to": lambda path: path.write_bytes(path.read_bytes() + b"{}\n"),
    "removed": lambda path: path.unlink(),
    "with its folder": lambda path: remove_folder(path.parent),
    "replaced": lambda path: path.write_bytes(b"{}\n"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("every", [0, 60], ids=["with checkpoints", "without"])
async def test_changed_amid_the_export(world: World, tmp_path: Path, change: str, every: float) -> None:
    """It is the error of this entity set, which names the file; the other is complete; the next run is right."""

    def strike(event: Event) -> None:
        if (event.kind, event.organization, event.rows) == ("page", "acme", 10):
            CHANGES[change](tmp_path / "acme" / f"{SET}.jsonl.part")

    outcomes = await run(world, tmp_path, every=every, on_event=strike)
    assert outcomes["beta"].error is None
    assert isinstance(outcomes["acme"].error, CheckpointError)
    assert f"{SET}.jsonl" in str(outcomes["acme"].error)
    assert "run the export again" in str(outcomes["acme"].error) or "it is gone" in str(outcomes["acme"].error)
    assert not (tmp_path / "acme" / f"{SET}.jsonl").exists()
    assert_right(world, tmp_path, "beta")
    again = await run(world, tmp_path)
    assert again["acme"].error is None
    assert_right(world, tmp_path, "acme")


@pytest.mark.parametrize("change", ["cut", "written to", "emptied"])
async def test_changed_right_before_the_end(
    world: World, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after the last page is written: what is called complete has all rows and nothing else."""
    sync = _durable.sync

    def strike(path: Path) -> None:
        sync(path)
        if path.parent.name == "acme" and path.read_bytes().count(b"\n") == 25:
            CHANGES[change](path)

    with monkeypatch.context() as patch:
        patch.setattr(_durable, "sync", strike)
        outcomes = await run(world, tmp_path)
    assert isinstance(outcomes["acme"].error, CheckpointError)
    assert "was changed while it was written" in str(outcomes["acme"].error)
    assert not (tmp_path / "acme" / f"{SET}.jsonl").exists()
    assert (await run(world, tmp_path))["acme"].error is None
    assert_right(world, tmp_path, "acme")


@contextmanager
def file_size(most: int) -> Iterator[None]:
    """No file becomes longer."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_file_that_may_not_grow(world: World, tmp_path: Path) -> None:
    """A page that was taken in part: the error says what to do; with the limit away, nothing is lost or twice."""
    with file_size(12_000):
        outcomes = await run(world, tmp_path)
    for outcome in outcomes.values():
        assert isinstance(outcome.error, CheckpointError)
        assert "File too large" in str(outcome.error)
        assert "ulimit -f" in str(outcome.error)
        assert not (tmp_path / outcome.organization / f"{SET}.jsonl").exists()
    again = await run(world, tmp_path)
    for organization, outcome in again.items():
        assert outcome.error is None
        assert outcome.read < 25
        assert_right(world, tmp_path, organization)


_CLOSE: Final = os.close  # whose failure does not leave the file open
FULL: Final = {errno.ENOSPC: "make room on that disk", errno.EDQUOT: "quota", errno.EROFS: "mounted read-only"}


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("when", ["write", "fsync", "close", "replace"])
async def test_a_disk_that_takes_nothing_more(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, when: str
) -> None:
    """It ends the export with the reason and its remedy, also where the disk says so only at the end of a file."""
    with monkeypatch.context() as patch:

        def strike(event: Event) -> None:
            if event.kind == "page":
                refuse_own(patch, when, number, tmp_path)

        with pytest.raises(SinkError, match=f"{os.strerror(number)}.*{FULL[number]}") as error:
            await run(world, tmp_path, on_event=strike)
        assert not isinstance(error.value, CheckpointError)
    outcomes = await run(world, tmp_path)
    for organization in ("acme", "beta"):
        assert outcomes[organization].error is None
        assert_right(world, tmp_path, organization)


def refuse_own(patch: pytest.MonkeyPatch, when: str, number: int, folder: Path) -> None:
    """Have a call of the system fail for the files of the export, and for no others."""
    if when == "replace":
        patch.setattr(Path, "replace", _refusal(Path.replace, number, folder))
    else:
        patch.setattr(os, when, _refusal(getattr(os, when), number, folder))


def _refusal(real: Callable[..., Any], number: int, folder: Path) -> Callable[..., Any]:
    if getattr(real, "is_a_refusal", False):
        return real

    def refuse(file: Any, *arguments: Any) -> Any:
        name = str(file) if isinstance(file, Path) else os.readlink(f"/proc/self/fd/{file}")
        is_own = name.startswith((str(folder / "acme"), str(folder / "beta")))
        done = real(file, *arguments) if not is_own or real is _CLOSE else None
        if is_own:
            raise OSError(number, os.strerror(number))
        return done

    refuse.is_a_refusal = True  # type: ignore[attr-defined]
    return refuse


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
async def test_a_file_system_without_locks(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not taken for another export: the log says once that nobody else may write there, and the export works."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_durable.fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING, "tribe_oauth.sync"):
        outcomes = await run(world, tmp_path / "out")
    assert [outcome.error for outcome in outcomes.values()] == [None, None]
    assert_right(world, tmp_path / "out", "acme")
    (record,) = caplog.records
    assert f"has no locks ({os.strerror(number)}): see to it that no other export" in record.getMessage()


async def test_folders_that_cannot_be_synced(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some network file systems: files are, and the export works."""
    fsync = os.fsync

    def refuse(file: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{file}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(file)

    monkeypatch.setattr(os, "fsync", refuse)
    outcomes = await run(world, tmp_path / "out")
    assert [outcome.error for outcome in outcomes.values()] == [None, None]
    assert_right(world, tmp_path / "out", "acme")


async def test_two_exports_where_there_are_no_locks(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They see each other's rows and fail: no file is wrong and called complete."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(_durable.fcntl, "flock", refuse)
    async with JSONLinesFolder(tmp_path) as one, JSONLinesFolder(tmp_path) as other:
        for sink in (one, other):
            await sink.begin("acme", SET)
        rows = world.expected("acme")
        await one.write(rows[:10], _checkpoint(10))
        with pytest.raises(CheckpointError, match="bytes, and 0 were written: end what else writes to it"):
            await other.write(rows[:10], _checkpoint(10))
    assert not one.path("acme", SET).exists()


def _checkpoint(rows: int) -> Any:
    from tribe_oauth.sync import Checkpoint

    return Checkpoint(organization="acme", entity_set=SET, query="q", position=str(rows), rows=rows)
