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

import msgspec

from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sync._disk import Growing, clear, make_folder, make_lock, path_of
from tribe_oauth.sync._sink import Checkpoint, SinkError

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
        # With each, when its next checkpoint is due.
        self._files: dict[tuple[str, str], tuple[Growing, float]] = {}
        self._lock: int | None = None

    async def __aenter__(self) -> Self:
        with clear(self._folder):
            make_folder(self._folder)
            self._lock = make_lock(self._folder)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for file, _due in self._files.values():
                if not file.is_kept:
                    await self._keep(file)
        except SinkError:
            if error is None:
                raise  # else it is the same disk, and the reason is known
        finally:
            self._files.clear()
            assert self._lock is not None
            os.close(self._lock)
            self._lock = None

    def path(self, organization: str, entity_set: str) -> Path:
        """Where its rows are, once they are complete."""
        return path_of(self._folder, organization, entity_set)

    async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
        """See `Sink`. What was written after the checkpoint is cut off."""
        if self._lock is None:
            raise ConfigurationError("this sink is not open: use it as an async context manager")
        file = Growing(self.path(organization, entity_set))
        with clear(file.final):
            await _to_its_end(lambda: file.open(restart=self._restart))
        self._files[organization, entity_set] = file, time.monotonic() + self._every
        return file.checkpoint

    async def write(self, rows: Sequence[dict[str, Any]], checkpoint: Checkpoint) -> None:
        """See `Sink`."""
        key = checkpoint.organization, checkpoint.entity_set
        file, due = self._files[key]
        with clear(file.final):
            file.append(_lines(rows), checkpoint)  # into the page cache: a thread would cost more
        began = time.monotonic()
        if checkpoint.done:
            await self._keep(file)
            del self._files[key]
        elif began >= due:
            await self._keep(file)
            took = time.monotonic() - began
            self._files[key] = file, began + took + max(self._every, _SHARE * took)

    async def _keep(self, file: Growing) -> None:
        with clear(file.final):
            await _to_its_end(file.keep)


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
            except OSError as error:
                raise SinkError(f"the output was closed ({error.strerror})") from None

    def _write(self, content: bytes) -> None:
        self._stream.write(content)
        self._stream.flush()
