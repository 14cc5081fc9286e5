"""Writes are whole, whatever stands behind a stream and however slowly it takes them."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, cast

import pytest

from tribe_oauth import _whole
from tribe_oauth._whole import write_whole

CONTENT = b"".join(b"line %d\n" % number for number in range(60_000))  # more than a pipe takes at once


class Reader(threading.Thread):
    """Reads a pipe to its end, a little at a time."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self.pipe = pipe
        self.found = b""

    def run(self) -> None:
        with os.fdopen(self.pipe, "rb", buffering=0) as file:
            while piece := file.read(1000):
                self.found += piece


@pytest.mark.parametrize("buffering", [0, -1, 100], ids=["unbuffered", "buffered", "a small buffer"])
@pytest.mark.parametrize("blocks", [True, False], ids=["blocking", "not blocking"])
def test_a_slow_reader(buffering: int, blocks: bool) -> None:
    """It gets everything, once, in order; also through a pipe that refuses what it has no room for."""
    read, write = os.pipe()
    os.set_blocking(write, blocks)
    reader = Reader(read)
    with os.fdopen(write, "wb", buffering=buffering) as stream:
        reader.start()
        for _ in range(3):
            write_whole(stream, CONTENT)
    reader.join()
    assert reader.found == 3 * CONTENT


def test_a_pipe_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stream has taken and cannot pass on, it passes on when somebody reads, and not before."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    reader, wait_for = Reader(read), _whole._wait_for

    def read_now(stream: BinaryIO) -> None:
        if not reader.is_alive():
            reader.start()
        wait_for(stream)

    monkeypatch.setattr(_whole, "_wait_for", read_now)
    with os.fdopen(write, "wb") as stream:
        write_whole(stream, b"the end")
    reader.join()
    assert reader.found.endswith(b"\0the end")


@pytest.mark.parametrize("buffering", [0, -1], ids=["unbuffered", "buffered"])
@pytest.mark.parametrize("blocks", [True, False], ids=["blocking", "not blocking"])
def test_a_reader_that_goes_away(buffering: int, blocks: bool) -> None:
    """While it is waited for: the write ends with an error, and does not wait for ever."""
    read, write = os.pipe()
    os.set_blocking(write, blocks)
    leaving = threading.Timer(0.05, os.close, [read])
    leaving.start()
    stream = os.fdopen(write, "wb", buffering=buffering)
    with pytest.raises(BrokenPipeError):
        write_whole(stream, CONTENT)
    leaving.join()
    with suppress(BrokenPipeError):  # of what is left in its buffer
        stream.close()


class Grudging(io.RawIOBase):
    """A file that takes three bytes at a time."""

    def __init__(self) -> None:
        self.found = b""

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        taken = bytes(cast("bytes", content))[:3]
        self.found += taken
        return len(taken)


def test_a_file_that_takes_a_part() -> None:
    """As a disk does that is nearly full: what it left is offered again."""
    stream = Grudging()
    write_whole(cast("BinaryIO", stream), b"ten bytes.")
    assert stream.found == b"ten bytes."


class Silent:
    """A stream of somebody else, which takes everything and says nothing of how much."""

    def __init__(self) -> None:
        self.found = b""

    def write(self, content: bytes) -> None:
        self.found += content

    def flush(self) -> None:
        pass


def test_streams_in_memory() -> None:
    """Whether they say how much they took or not."""
    stream, silent = io.BytesIO(), Silent()
    write_whole(stream, CONTENT)
    write_whole(cast("BinaryIO", silent), CONTENT)
    assert stream.getvalue() == silent.found == CONTENT


@pytest.fixture(params=[0, -1], ids=["unbuffered", "buffered"])
def full(request: pytest.FixtureRequest) -> Iterator[BinaryIO]:
    """A full disk."""
    stream = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=request.param)
    yield cast("BinaryIO", stream)
    with suppress(OSError):  # of what is left in its buffer
        stream.close()


def test_a_full_disk(full: BinaryIO) -> None:
    """The error is raised at once, not at the end."""
    with pytest.raises(OSError, match="No space") as error:
        write_whole(full, b"x")
    assert error.value.errno == errno.ENOSPC
