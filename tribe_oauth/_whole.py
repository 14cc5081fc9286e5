"""Writes that are whole: a stream may take a part, or refuse for a moment. May be imported by every room."""

from __future__ import annotations

import io
import selectors
from typing import BinaryIO


def write_whole(stream: BinaryIO, content: bytes) -> None:
    """Write all of it and flush it. Where the other side of a pipe is slow, wait, also if the pipe does not block.

    Raises OSError.
    """
    left = memoryview(content)
    while left:
        left = left[_taken(stream, left) :]
    while not _is_flushed(stream):
        _wait_for(stream)


def _taken(stream: BinaryIO, content: memoryview) -> int:
    """How many bytes were taken; 0 after a wait."""
    try:
        taken: int | None = stream.write(content)
    except BlockingIOError as refused:  # a buffer has taken what it has room for
        taken = refused.characters_written
    if taken is None:  # of a buffered stream, which takes all; an unbuffered one refuses so
        taken = 0 if isinstance(stream, io.RawIOBase) else len(content)
    if taken == 0:
        _wait_for(stream)
    return taken


def _is_flushed(stream: BinaryIO) -> bool:
    try:
        stream.flush()
    except BlockingIOError:
        return False
    return True


def _wait_for(stream: BinaryIO) -> None:
    """Wait until it takes something again, or will say why not."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_WRITE)
        selector.select()
