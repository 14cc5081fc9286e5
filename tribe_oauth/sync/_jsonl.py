"""JSON Lines: a file for each entity set of each organization, or a stream for all of them.

A file grows under the name ``….jsonl.part`` and gets its own when it is complete. Beside it stands its checkpoint,
which knows how many bytes were safely on the disk at which position. What a killed process wrote after that is cut off
again, and read again: every row is there once.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, TypeVar

import attrs
import msgspec

from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sync._disk import Growing, clear, make_folder, make_lock, path_of
from tribe_oauth.sync._sink import Checkpoint, OutputClosedError, SinkError

T = TypeVar("T")

_SHARE: Final = 10  # times as long as a checkpoint takes, until the next: or a slow disk would do nothing else
_encoder: Final = msgspec.json.Encoder()


def _lines(rows: Sequence[object]) -> bytes:
    """A line of UTF-8 for each. What JSON allows in text and UTF-8 does not, half a surrogate pair, is escaped."""
    try:
        return _encoder.encode_lines(rows)
    except UnicodeEncodeError:
        return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode()


async def _to_its_end(job: Callable[[], T]) -> T:
    """Run it in a thread. Whoever is cancelled waits all the same: nothing writes on behind the caller's back."""
    future = asyncio.get_running_loop().run_in_executor(None, job)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        future.exception()  # what came of it is nobody's business any more
        raise


class JSONLinesFolder:
    """A sink: ``FOLDER/ORGANIZATION/ENTITY_SET.jsonl``. An async context manager; one process at a time.

    `restart`: read everything from the beginning; complete files stay until their successors are. `every`: seconds
    between two checkpoints of a file, and more where the disk is slow. Files and folders are their owner's alone.
    Raises SinkError, and ConfigurationError where another export writes there.
    """

    def __init__(self, folder: str | Path, *, restart: bool = False, every: float = 0.25) -> None:
        self._folder = Path(folder)
        self._restart = restart
        self._every = every
        self._files: dict[tuple[str, str], _Open] = {}
        self._lock: int | None = None

    async def __aenter__(self) -> Self:
        with clear(self._folder):
            make_folder(self._folder)
            self._lock = make_lock(self._folder)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        kept = await asyncio.gather(*(opened.keep() for opened in self._files.values()), return_exceptions=True)
        self._files.clear()
        assert self._lock is not None
        os.close(self._lock)
        self._lock = None
        failed = next((result for result in kept if result is not None), None)
        if failed is not None and error is None:
            raise failed  # else it is the same disk, and the reason is known

    def path(self, organization: str, entity_set: str) -> Path:
        """Where its rows are, once they are complete."""
        return path_of(self._folder, organization, entity_set)

    async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
        """See `Sink`. What was written after the checkpoint is cut off."""
        if self._lock is None:
            raise ConfigurationError("this sink is not open: use it as an async context manager")
        if (before := self._files.pop((organization, entity_set), None)) is not None:
            await before.keep()  # an export into this sink that did not come to its end
        file = Growing(self.path(organization, entity_set))
        with clear(file.final):
            await _to_its_end(lambda: file.open(restart=self._restart))
        self._files[organization, entity_set] = _Open(file, self._every, time.monotonic() + self._every)
        return file.checkpoint

    async def write(self, rows: Sequence[dict[str, Any]], checkpoint: Checkpoint) -> None:
        """See `Sink`."""
        key = checkpoint.organization, checkpoint.entity_set
        opened = self._files[key]
        before = 0 if opened.file.checkpoint is None else opened.file.checkpoint.rows
        if before != checkpoint.rows - len(rows):
            raise SinkError(f"{str(opened.file.final)!r} is written twice at once: give each export a sink of its own")
        with clear(opened.file.final):
            opened.file.append(_lines(rows), checkpoint)  # into the page cache: a thread would cost more
        if checkpoint.done:
            await opened.keep()
            del self._files[key]
        else:
            opened.keep_now_and_then()


@attrs.define(eq=False)
class _Open:
    """A file that is written to. Checkpoints are made beside that: a page that waited for a disk would be memory."""

    file: Growing
    every: float
    due: float
    keeping: asyncio.Task[None] | None = None

    def keep_now_and_then(self) -> None:
        """Begin a checkpoint where one is due. Raises SinkError where the one before failed."""
        if self.keeping is not None and self.keeping.done():
            self.keeping.result()
            self.keeping = None
        if self.keeping is None and time.monotonic() >= self.due:
            self.keeping = asyncio.ensure_future(self._keep())

    async def keep(self) -> None:
        """Make the last checkpoint durable. Raises SinkError."""
        if self.keeping is not None:
            await asyncio.wait([self.keeping])
            self.keeping.result()
        if self.file.checkpoint is not self.file.kept:
            await self._keep()

    async def _keep(self) -> None:
        checkpoint, size, began = self.file.checkpoint, self.file.size, time.monotonic()
        assert checkpoint is not None
        with clear(self.file.final):
            await _to_its_end(lambda: self.file.keep(checkpoint, size))
        ended = time.monotonic()
        self.due = ended + max(self.every, _SHARE * (ended - began))


class JSONLinesStream:
    """A sink: lines of ``{"organization": …, "entity_set": …, "row": …}`` into a binary stream. Keeps no checkpoint."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._turn = asyncio.Lock()

    async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
        """See `Sink`: what went down a stream cannot be gone on from."""
        return None

    async def write(self, rows: Sequence[dict[str, Any]], checkpoint: Checkpoint) -> None:
        """See `Sink`. Waits for whoever reads."""
        whose = {"organization": checkpoint.organization, "entity_set": checkpoint.entity_set}
        content = _lines([{**whose, "row": row} for row in rows])
        async with self._turn:
            try:
                await _to_its_end(lambda: self._write(content))
            except BrokenPipeError:
                raise OutputClosedError("the output was closed") from None
            except OSError as error:
                raise SinkError(
                    f"the output cannot be written ({error.strerror}): make room, or name a folder"
                ) from None

    def _write(self, content: bytes) -> None:
        self._stream.write(content)
        self._stream.flush()
