"""Sinks that are cancelled at each of their awaits: when they have ended, nothing of them is under way."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest

from tribe_oauth import _durable
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sync import Checkpoint, JSONLinesFolder, JSONLinesStream
from tribe_oauth.sync._threads import Threads

from ..odata.cancelling import KINDS, SlowDisk, Stepped, no_complaints, open_files, run, under_way

ROWS: list[dict[str, Any]] = [{"ID": "1"}, {"ID": "2"}]
TEXT = '{"ID":"1"}\n{"ID":"2"}\n'


def checkpoint(rows: int, organization: str = "acme", *, done: bool = False) -> Checkpoint:
    position = None if done else str(rows)
    return Checkpoint(
        organization=organization, entity_set="People", query="q", position=position, rows=rows, done=done
    )


async def assert_unlocked(folder: Path) -> None:
    """Another export can have the folder."""
    async with JSONLinesFolder(folder):
        pass


# The folder


async def fill(folder: Path) -> None:
    """Everything that an export does with a sink: pages, checkpoints in the background, the last page, a second run."""
    async with JSONLinesFolder(folder, every=0) as sink:
        found = await sink.begin("acme", "People")
        done = 0 if found is None else found.rows
        if found is None or not found.done:
            for rows in range(done + 2, 7, 2):
                await sink.write(ROWS, checkpoint(rows))
                await asyncio.sleep(0)
            await sink.begin("acme", "People")
            await sink.write([], checkpoint(6, done=True))
        await sink.begin("beta", "People")
        await sink.write(ROWS, checkpoint(2, "beta"))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_folder_cancelled_at_each_await(tmp_path: Path, disk: SlowDisk, kind: str) -> None:
    """No thread, no task, no file and no lock is left, and the next run completes the files."""
    with no_complaints():
        for at in count(1):
            folder = tmp_path / str(at)
            stepped = Stepped(fill(folder), at)
            stepped.at_the_end = partial(under_way, disk, folder)
            await run(kind, stepped)
            assert stepped.left == []
            await assert_unlocked(folder)
            shutil.rmtree(folder / "beta", ignore_errors=True)
            await fill(folder)
            assert JSONLinesFolder(folder).path("acme", "People").read_text() == TEXT * 3
            if not stepped.was_struck:
                break
    assert at > 7


class Gate:
    """A disk that does not answer until it is opened."""

    def __init__(self) -> None:
        self._closed = False
        self._begun, self._open = threading.Event(), threading.Event()

    def close(self) -> None:
        """From here on."""
        self._closed = True

    def open(self) -> None:
        """Let all through."""
        self._open.set()

    def pass_through(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do it when the gate is open."""
        if self._closed:
            self._begun.set()
            self._open.wait()
        return work(*arguments)

    async def reached(self) -> None:
        """Wait until something stands before it."""
        assert await asyncio.to_thread(self._begun.wait, 10)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Before all that the files of a sink wait for."""
    gate = Gate()
    for name in ("sync", "truncate"):
        monkeypatch.setattr(_durable, name, partial(gate.pass_through, getattr(_durable, name)))
    yield gate
    gate.open()


async def leave(folder: Path, gate: Gate) -> None:
    async with JSONLinesFolder(folder, every=60) as sink:
        await sink.begin("acme", "People")
        await sink.write(ROWS, checkpoint(2))
        gate.close()


async def leave_while_keeping(folder: Path, gate: Gate) -> None:
    async with JSONLinesFolder(folder, every=0) as sink:
        await sink.begin("acme", "People")
        gate.close()
        await sink.write(ROWS, checkpoint(2))


async def write_the_last_page(folder: Path, gate: Gate) -> None:
    async with JSONLinesFolder(folder, every=60) as sink:
        await sink.begin("acme", "People")
        gate.close()
        await sink.write(ROWS, checkpoint(2, done=True))


async def begin(folder: Path, gate: Gate) -> None:
    async with JSONLinesFolder(folder) as sink:
        gate.close()
        await sink.begin("acme", "People")


async def begin_again(folder: Path, gate: Gate) -> None:
    async with JSONLinesFolder(folder, every=60) as sink:
        await sink.begin("acme", "People")
        await sink.write(ROWS, checkpoint(2))
        gate.close()
        await sink.begin("acme", "People")


WORKS = [leave, leave_while_keeping, write_the_last_page, begin, begin_again]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("work", WORKS)
async def test_a_thread_is_waited_for(
    tmp_path: Path, gate: Gate, kind: str, work: Callable[[Path, Gate], Coroutine[Any, Any, None]]
) -> None:
    """While one works for it, a cancelled sink has not ended, and no other export gets its folder."""
    stepped = Stepped(work(tmp_path, gate))
    stepped.at_the_end = partial(open_files, tmp_path)
    with no_complaints():
        running = asyncio.create_task(run(kind, stepped))
        await gate.reached()
        stepped.strike()
        for _ in range(20):
            await asyncio.sleep(0)
            assert not stepped.has_ended
        with pytest.raises(ConfigurationError, match="another export"):
            await JSONLinesFolder(tmp_path).__aenter__()
        gate.open()
        await running
    assert stepped.left == []
    await assert_unlocked(tmp_path)


@pytest.mark.parametrize("work", WORKS)
async def test_all_tasks_are_cancelled(
    tmp_path: Path, gate: Gate, work: Callable[[Path, Gate], Coroutine[Any, Any, None]]
) -> None:
    """As at the end of an event loop, those too that clean up: again and again, and still a thread is waited for."""
    before = asyncio.all_tasks()
    stepped = Stepped(work(tmp_path, gate))
    stepped.at_the_end = partial(open_files, tmp_path)
    with no_complaints():
        running = asyncio.create_task(run("cancel", stepped))
        await gate.reached()
        for _ in range(20):
            for task in asyncio.all_tasks() - before:
                task.cancel()
            await asyncio.sleep(0)
            assert not stepped.has_ended
        gate.open()
        await asyncio.wait([running])
    assert stepped.left == []
    await assert_unlocked(tmp_path)


async def test_work_that_outlives_its_block(tmp_path: Path, gate: Gate) -> None:
    """A `begin` that was left behind in a task of its own is waited for too, and is refused then."""
    with no_complaints():
        async with JSONLinesFolder(tmp_path) as sink:
            gate.close()
            beginning = asyncio.create_task(sink.begin("acme", "People"))
            await gate.reached()
            leaving = asyncio.create_task(sink.__aexit__(None, None, None))
            await asyncio.sleep(0)
            assert not leaving.done()
            gate.open()
            await leaving
            with pytest.raises(ConfigurationError, match="is not open"):
                await beginning
            await sink.__aenter__()


async def test_nothing_starts_after_the_end(tmp_path: Path, gate: Gate) -> None:
    """A `begin` that waits for a checkpoint when its sink is closed is refused after that."""
    async with JSONLinesFolder(tmp_path, every=0) as sink:
        await sink.begin("acme", "People")
        gate.close()
        await sink.write(ROWS, checkpoint(2))
        await gate.reached()
        beginning = asyncio.create_task(sink.begin("acme", "People"))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(sink.__aexit__(None, None, None))
        await asyncio.sleep(0)
        gate.open()
        await leaving
        with pytest.raises(ConfigurationError, match="is not open"):
            await beginning
        await sink.__aenter__()


async def test_closed_threads() -> None:
    """After the end, nothing is started."""
    threads = Threads()
    await threads.close()
    with pytest.raises(ConfigurationError, match="this sink is closed"):
        threads.start(list)


async def test_threads_of_an_executor_that_was_shut_down() -> None:
    """Work that never ran is over too, and nothing complains of it."""
    loop, threads, go_on = asyncio.get_running_loop(), Threads(), threading.Event()
    with ThreadPoolExecutor(1) as executor, no_complaints():
        loop.set_default_executor(executor)
        working, waiting = threads.start(go_on.wait), threads.start(go_on.wait)
        executor.shutdown(wait=False, cancel_futures=True)
        go_on.set()
        await threads.close()
        assert working.done()
        assert waiting.cancelled()


async def test_a_last_checkpoint_that_fails_while_cancelled(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The cancellation comes out; the failure is in the log, with what it means."""

    def refuse(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(_durable, "sync", partial(gate.pass_through, refuse))
    stepped = Stepped(leave(tmp_path, gate))
    with no_complaints():
        running = asyncio.create_task(run("cancel", stepped))
        await gate.reached()
        stepped.strike()
        gate.open()
        await running
    (record,) = caplog.records
    assert record.name == "tribe_oauth.sync"
    assert "a last checkpoint was not stored" in record.getMessage()
    assert "Input/output error" in record.getMessage()
    await assert_unlocked(tmp_path)


# The stream


async def test_a_stream_cancelled_at_each_await(disk: SlowDisk) -> None:
    """Lines are whole, and none is written after the call has ended."""
    with no_complaints():
        for kind, at in product(KINDS, range(1, 6)):
            read, write = os.pipe()
            with os.fdopen(write, "wb") as stream:
                sink = JSONLinesStream(stream)
                other = asyncio.create_task(sink.write(ROWS, checkpoint(2)))
                await asyncio.sleep(0)  # it has its turn; the one that is cancelled waits, and then writes
                stepped = Stepped(sink.write(ROWS, checkpoint(2)), at)
                stepped.at_the_end = partial(unexplained, disk, other)
                await run(kind, stepped)
                assert stepped.left == []
                await other
            with os.fdopen(read, "rb") as lines:
                assert len(lines.read().splitlines()) in {2, 4}


def unexplained(disk: SlowDisk, other: asyncio.Task[None]) -> list[Any]:
    """Threads that work, where the other write has none."""
    return disk.under_way() if other.done() else []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_whose_reader_is_slow(kind: str) -> None:
    """A write that was cancelled ends when the reader has taken its lines, not in the middle of one."""
    read, write = os.pipe()
    rows = [{"Name": "x" * 1000}] * 1000  # more than a pipe takes at once
    with os.fdopen(write, "wb") as stream:
        stepped = Stepped(JSONLinesStream(stream).write(rows, checkpoint(1000)))
        running = asyncio.create_task(run(kind, stepped))
        first = await asyncio.to_thread(os.read, read, 1)
        stepped.strike()
        for _ in range(20):
            await asyncio.sleep(0)
            assert not stepped.has_ended
        reading = asyncio.get_running_loop().run_in_executor(None, read_all, read)
        await running
        assert stepped.left == []
    lines = (first + await reading).splitlines()
    assert [len(line) for line in lines] == [len(lines[0])] * 1000


def read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
