from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sync import (
    Checkpoint,
    CheckpointError,
    JSONLinesFolder,
    JSONLinesStream,
    OutputClosedError,
    SinkError,
)
from tribe_oauth.sync._disk import path_of
from tribe_oauth.sync._jsonl import _lines

ROWS: list[dict[str, Any]] = [{"ID": "1", "Name": "Zoë"}, {"ID": "2", "Name": None}]
TEXT = '{"ID":"1","Name":"Zoë"}\n{"ID":"2","Name":null}\n'


def checkpoint(
    rows: int, position: str | None = "next", *, done: bool = False, organization: str = "acme"
) -> Checkpoint:
    return Checkpoint(
        organization=organization, entity_set="People", query="q", position=position, rows=rows, done=done
    )


def part(folder: Path) -> Path:
    return folder / "acme" / "People.jsonl.part"


def kept(folder: Path) -> Path:
    return folder / "acme" / "People.jsonl.checkpoint"


async def test_a_complete_file(tmp_path: Path) -> None:
    """It has its name when it is complete, not before; its lines are UTF-8, with nothing to spare."""
    async with JSONLinesFolder(tmp_path / "new" / "out") as sink:
        final = sink.path("acme", "People")
        assert final == tmp_path / "new" / "out" / "acme" / "People.jsonl"
        assert await sink.begin("acme", "People") is None
        await sink.write(ROWS, checkpoint(2))
        assert not final.exists()
        await sink.write([], checkpoint(2, None, done=True))
    assert final.read_text(encoding="utf-8") == TEXT
    assert stat.S_IMODE(final.stat().st_mode) == 0o600
    assert stat.S_IMODE(final.parent.stat().st_mode) == 0o700
    async with JSONLinesFolder(tmp_path / "new" / "out") as sink:
        assert await sink.begin("acme", "People") == checkpoint(2, None, done=True)
    assert final.read_text(encoding="utf-8") == TEXT


async def test_what_was_written_after_the_checkpoint_is_cut_off(tmp_path: Path) -> None:
    """What a killed process left is gone: whole lines, half a line, and a page whose checkpoint was not yet due."""
    sink = JSONLinesFolder(tmp_path, every=0)
    async with sink:
        await sink.begin("acme", "People")
        await sink.write(ROWS, checkpoint(2, "2"))
        keeping = sink._files["acme", "People"].keeping
        assert keeping is not None
        await keeping
        assert json.loads(kept(tmp_path).read_text())["rows"] == 2
    with part(tmp_path).open("a") as file:
        file.write(TEXT + '{"ID":')
    async with JSONLinesFolder(tmp_path) as sink:
        assert await sink.begin("acme", "People") == checkpoint(2, "2")
        await sink.write([{"ID": "3"}], checkpoint(3, None, done=True))
        assert sink.path("acme", "People").read_text(encoding="utf-8") == TEXT + '{"ID":"3"}\n'


async def test_checkpoints_are_now_and_then(tmp_path: Path) -> None:
    """They are not stored after each page, and always at the end: an orderly end loses nothing."""
    async with JSONLinesFolder(tmp_path, every=60) as sink:
        await sink.begin("acme", "People")
        await sink.begin("acme", "Phones")
        await sink.write(ROWS, checkpoint(2, "2"))
        assert not kept(tmp_path).exists()
    async with JSONLinesFolder(tmp_path) as sink:
        assert await sink.begin("acme", "People") == checkpoint(2, "2")
        assert await sink.begin("acme", "Phones") is None


async def test_more_files_than_stay_open(tmp_path: Path) -> None:
    """Descriptors are few: with many organizations, a file is open only while a page is written to it."""
    names = [f"acme-{number}" for number in range(70)]
    async with JSONLinesFolder(tmp_path, every=60) as sink:
        for name in names:
            await sink.begin(name, "People")
        before = len(os.listdir("/dev/fd"))
        for rows in (2, 4):
            for name in names:
                await sink.write(ROWS, checkpoint(rows, organization=name))
        assert len(os.listdir("/dev/fd")) == before
    assert {(tmp_path / name / "People.jsonl.part").read_text(encoding="utf-8") for name in names} == {TEXT * 2}


async def test_the_same_sink_again(tmp_path: Path) -> None:
    """A file that an earlier export into the same sink left unfinished is continued after its last page."""
    async with JSONLinesFolder(tmp_path, every=60) as sink:
        await sink.begin("acme", "People")
        await sink.write(ROWS, checkpoint(2, "2"))
        assert await sink.begin("acme", "People") == checkpoint(2, "2")
        await sink.write([{"ID": "3"}], checkpoint(3, None, done=True))
        assert sink.path("acme", "People").read_text(encoding="utf-8") == TEXT + '{"ID":"3"}\n'


async def test_a_checkpoint_that_fails_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next page raises it: no export runs for hours without checkpoints."""

    def refuse(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with JSONLinesFolder(tmp_path, every=0) as sink:
        await sink.begin("acme", "People")
        monkeypatch.setattr(os, "fsync", refuse)
        await sink.write(ROWS, checkpoint(2, "2"))
        keeping = sink._files["acme", "People"].keeping
        assert keeping is not None
        await asyncio.wait([keeping])
        with pytest.raises(SinkError, match="Input/output error"):
            await sink.write(ROWS, checkpoint(4, "4"))
        monkeypatch.undo()
        sink._files.clear()


async def test_killed_between_the_last_checkpoint_and_the_name(tmp_path: Path) -> None:
    """The file is complete, and only has to get its name."""
    async with JSONLinesFolder(tmp_path) as sink:
        await sink.begin("acme", "People")
        await sink.write(ROWS, checkpoint(2, None, done=True))
        final = sink.path("acme", "People")
    final.rename(part(tmp_path))
    async with JSONLinesFolder(tmp_path) as sink:
        assert await sink.begin("acme", "People") == checkpoint(2, None, done=True)
    assert final.read_text(encoding="utf-8") == TEXT
    assert not part(tmp_path).exists()


async def test_restart(tmp_path: Path) -> None:
    """Everything is read from the beginning; the complete file stays until its successor is."""
    async with JSONLinesFolder(tmp_path) as sink:
        await sink.begin("acme", "People")
        await sink.write(ROWS, checkpoint(2, None, done=True))
    async with JSONLinesFolder(tmp_path, restart=True) as sink:
        assert await sink.begin("acme", "People") is None
        final = sink.path("acme", "People")
        assert final.read_text(encoding="utf-8") == TEXT
        await sink.write([{"ID": "9"}], checkpoint(1, None, done=True))
    assert final.read_text(encoding="utf-8") == '{"ID":"9"}\n'


async def test_one_export_at_a_time(tmp_path: Path) -> None:
    """A second one, in this process or another, is refused until the first has ended."""
    script = (
        "import asyncio, sys\nfrom tribe_oauth.sync import JSONLinesFolder\n"
        "async def main():\n    async with JSONLinesFolder(sys.argv[1]): print('in')\nasyncio.run(main())"
    )

    def other() -> str:
        run = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
        return run.stdout + run.stderr

    async with JSONLinesFolder(tmp_path):
        with pytest.raises(ConfigurationError, match="another export writes to"):
            await JSONLinesFolder(tmp_path).__aenter__()
        assert "another export writes to" in await asyncio.to_thread(other)
    assert await asyncio.to_thread(other) == "in\n"


async def test_a_sink_that_is_not_open(tmp_path: Path) -> None:
    """It is an error, instead of a second export beside another one."""
    with pytest.raises(ConfigurationError, match="async context manager"):
        await JSONLinesFolder(tmp_path).begin("acme", "People")


async def test_a_folder_that_is_none(tmp_path: Path) -> None:
    """One clear line."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match=r"file' cannot be written \(Not a directory\): make room or access"):
        await JSONLinesFolder(tmp_path / "file").__aenter__()


async def test_a_full_disk(tmp_path: Path) -> None:
    """A page that is written in part is an error, and is cut off when there is room again; the reason is kept."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def write() -> None:
        async with JSONLinesFolder(tmp_path) as sink:
            await sink.begin("acme", "People")
            await sink.write(ROWS, checkpoint(2, "2"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(TEXT.encode()) + 5, limits[1]))
            try:
                await sink.write(ROWS, checkpoint(4, "4"))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with pytest.raises(SinkError, match=r"acme.People\.jsonl' cannot be written \(File too large\)"):
        await write()
    assert part(tmp_path).stat().st_size == len(TEXT.encode()) + 5
    async with JSONLinesFolder(tmp_path) as sink:
        assert await sink.begin("acme", "People") == checkpoint(2, "2")
    assert part(tmp_path).read_text(encoding="utf-8") == TEXT


@pytest.mark.parametrize("other", [False, True], ids=["alone", "after another error"])
async def test_a_last_checkpoint_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: bool) -> None:
    """It is raised, unless there is an error already, which is raised then."""

    def refuse(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def write() -> None:
        async with JSONLinesFolder(tmp_path, every=60) as sink:
            await sink.begin("acme", "People")
            await sink.write(ROWS, checkpoint(2, "2"))
            monkeypatch.setattr(os, "fsync", refuse)
            if other:
                raise KeyError("mine")

    with pytest.raises(KeyError if other else SinkError, match="mine" if other else "Input/output error"):
        await write()
    monkeypatch.undo()
    async with JSONLinesFolder(tmp_path):
        pass  # the lock was let go of


def test_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no flock, and folders cannot be synced, files are written all the same."""

    async def write() -> None:
        async with JSONLinesFolder(tmp_path) as sink:
            await sink.begin("acme", "People")
            await sink.write(ROWS, checkpoint(2, None, done=True))

    monkeypatch.setattr("tribe_oauth._durable.os", _Elsewhere())
    monkeypatch.setattr("tribe_oauth._durable.fcntl", None)
    asyncio.run(write())
    assert (tmp_path / "acme" / "People.jsonl").read_text(encoding="utf-8") == TEXT


class _Elsewhere:
    name = "nt"

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


# Names

NAMES = [
    "acme", "Acme", "ACME", "", ".", "..", "../x", "/", "a/b", "a\\b", "a b", "a_b", "a\0b", "é", "e\u0301", "🙂",
    "x" * 100, "x" * 101, "x" * 511 + "y", "x" * 511 + "z", "acme~", ".lock", "nul", "-", "_", "\n", "\ud800",
]  # fmt: skip


def test_names_are_safe_and_differ(tmp_path: Path) -> None:
    """S28: any organization has a folder of its own, below the one that was named, where capitals count nothing too."""
    paths = [path_of(tmp_path, name, "People") for name in NAMES]
    assert len({str(path).lower() for path in paths}) == len(NAMES)
    for path in paths:
        assert path.parent.parent == tmp_path
        path.parent.mkdir()
        path.write_text("")
    assert path_of(tmp_path, "acme", "Relation_Person(1)/Phones").parent == tmp_path / "acme"
    assert path_of(tmp_path, "acme", "People") != path_of(tmp_path, "acme", "People ")


def test_lines_of_what_utf_8_has_not() -> None:
    """Half a surrogate pair is escaped, and read back as it was."""
    rows = [{"Name": "a\ud800ë"}, {"Name": "b"}]
    assert [json.loads(line) for line in _lines(rows).decode().splitlines()] == rows
    assert _lines([]) == b""


@pytest.mark.parametrize("name", ["a", "\ud800"])
async def test_a_row_that_is_nested_too_deeply(tmp_path: Path, name: str) -> None:
    """It can be read and not be written, one level below the limit: the error of its entity set, not of the export."""
    row: dict[str, Any] = {"Name": name}
    for _ in range(100_000):
        row = {"a": row}
    row = {"Name": name, "a": row}
    async with JSONLinesFolder(tmp_path) as sink:
        await sink.begin("acme", "People")
        for target in (sink, JSONLinesStream(io.BytesIO())):
            with pytest.raises(CheckpointError, match="nested too deeply to be written: select"):
                await target.write([row], checkpoint(1))
    while row:
        row = row.get("a", {})  # level by level: the garbage collector would need as many of its own


def test_numbers_are_kept() -> None:
    """Whole numbers of any size."""
    assert _lines([{"n": 10**30}]) == b'{"n":1000000000000000000000000000000}\n'


# Streams


async def test_a_stream() -> None:
    """Each line names its organization; pages are not mixed up; there is no checkpoint."""
    out = io.BytesIO()
    sink = JSONLinesStream(out)
    assert await sink.begin("acme", "People") is None
    await asyncio.gather(*(sink.write(ROWS, checkpoint(2)) for _ in range(20)))
    lines = [json.loads(line) for line in out.getvalue().decode().splitlines()]
    assert lines == [{"organization": "acme", "entity_set": "People", "row": row} for row in ROWS] * 20


async def test_a_stream_that_was_closed() -> None:
    """Its reader has closed it: one clear error."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as stream, pytest.raises(OutputClosedError):
        await JSONLinesStream(stream).write(ROWS, checkpoint(2))


async def test_a_stream_that_cannot_be_written() -> None:
    """A full disk behind the output is not taken for a closed output: the error gives the reason."""
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=0)
    with full as stream, pytest.raises(SinkError, match="No space left") as error:
        await JSONLinesStream(stream).write(ROWS, checkpoint(2))
    assert not isinstance(error.value, OutputClosedError)


async def test_a_file_that_is_written_twice_at_once(tmp_path: Path) -> None:
    """Two exports into one sink are refused before rows are doubled."""
    async with JSONLinesFolder(tmp_path) as sink:
        await sink.begin("acme", "People")
        await sink.write(ROWS, checkpoint(2))
        with pytest.raises(SinkError, match="written twice at once"):
            await sink.write(ROWS, checkpoint(2))


async def test_one_file_that_fails_at_the_end(tmp_path: Path) -> None:
    """The others' checkpoints are stored all the same, and no thread writes after the sink is closed."""
    sink = JSONLinesFolder(tmp_path, every=60)
    await sink.__aenter__()
    for organization in ("acme", "gone", "zeta"):
        await sink.begin(organization, "People")
        await sink.write(ROWS, checkpoint(2, organization=organization))
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(SinkError, match="gone"):
        await sink.__aexit__(None, None, None)
    async with JSONLinesFolder(tmp_path) as sink:
        for organization in ("acme", "zeta"):
            assert await sink.begin(organization, "People") == checkpoint(2, organization=organization)


def test_without_the_extra() -> None:
    """It says how to get it."""
    script = "import sys\nsys.modules['msgspec'] = None\nimport tribe_oauth.sync"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'tribe-oauth[sync]'" in run.stderr
