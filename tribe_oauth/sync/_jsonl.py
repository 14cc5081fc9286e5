"""JSON Lines: a file for each entity set of each organization, or one stream for all of them.

A file is named ``….jsonl.part`` while it grows, and gets its own name when it is complete. Its checkpoint stands beside
it and says how many bytes were on the disk at which position, with a checksum of both. What a killed process wrote
after that is cut off and read again, so that every row is there once.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import attrs
import msgspec

from tribe_oauth._remedies import reason, remedy
from tribe_oauth._shield import run_uninterrupted
from tribe_oauth._whole import write_whole
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata import Number
from tribe_oauth.sync._disk import PartFile, lock_folder, path_of, sink_errors
from tribe_oauth.sync._sink import Checkpoint, CheckpointError, OutputClosedError, SinkError
from tribe_oauth.sync._threads import Threads

logger = logging.getLogger("tribe_oauth.sync")

_OPEN: Final = 64  # files that stay open: descriptors are few
_SHARE: Final = 10  # times the duration of a checkpoint, until the next: a slow disk would do nothing else otherwise


def _digits(number: Number) -> msgspec.Raw:
    return msgspec.Raw(number.text.encode())


_encoder: Final = msgspec.json.Encoder(enc_hook=_digits)


def _lines(rows: Sequence[object]) -> bytes:
    """A line of UTF-8 for each row, as it came where it was not parsed.

    Half a surrogate pair, which JSON allows and UTF-8 does not, is escaped. Raises CheckpointError for a row that is
    nested too deeply: it was just shallow enough to be read.
    """
    if rows and type(rows[0]) is msgspec.Raw:
        return b"\n".join((*rows, b""))  # type: ignore[arg-type]
    try:
        try:
            return _encoder.encode_lines(rows)
        except UnicodeEncodeError:
            return "".join(f"{_escaped(row)}\n" for row in rows).encode()
    except RecursionError:
        raise CheckpointError(
            "a row is nested too deeply to be written: select the properties without that one"
        ) from None


def _escaped(value: object) -> str:
    """JSON in ASCII. Written here, since Python's own encoder has no way to keep a number's digits."""
    match value:
        case dict():
            return f"{{{','.join(f'{json.dumps(name)}:{_escaped(inner)}' for name, inner in value.items())}}}"
        case list():
            return f"[{','.join(map(_escaped, value))}]"
        case Number():
            return value.text
    return json.dumps(value)


class JSONLinesFolder:
    """A sink: ``FOLDER/ORGANIZATION/ENTITY_SET.jsonl``. An async context manager; one process at a time.

    `restart`: read everything from the beginning; a complete file stays until the new one is complete. `max_age`:
    seconds; what was begun before that is read from the beginning too; None: rows of any age are kept. `every`: seconds
    between two checkpoints of a file; more where the disk is slow. Only the owner can read the files and folders.
    Raises SinkError, CheckpointError for one entity set alone, and ConfigurationError where another export has the
    folder, or `max_age` is not more than 0.

    What is on the disk is not trusted: a file is continued, or taken for complete, where its checksum is right, for
    which it is read once.

    When the `async with` block has ended, however it was cancelled, no thread works for the sink, all files are closed,
    and the folder is unlocked.
    """

    exact: Final = True
    as_json: Final = True

    def __init__(
        self, folder: str | Path, *, restart: bool = False, max_age: float | None = None, every: float = 0.25
    ) -> None:
        if max_age is not None and not max_age > 0:
            raise ConfigurationError("max_age is in seconds, and more than 0; `restart` reads everything again")
        self._folder = Path(folder)
        self._restart = restart
        self._max_age = max_age
        self._every = every
        self._files: dict[tuple[str, str], _OpenFile] = {}
        self._opening: set[tuple[str, str]] = set()
        self._threads = Threads()
        self._lock: int | None = None

    async def __aenter__(self) -> Self:
        with sink_errors(self._folder):  # without an await: a cancellation cannot come between the lock and its owner
            self._lock = lock_folder(self._folder)
        self._threads = Threads()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lock, self._lock = self._lock, None
        files, self._files = list(self._files.values()), {}
        assert lock is not None
        failed: list[BaseException] = []
        with ExitStack() as last:
            last.callback(_log, failed)
            last.callback(os.close, lock)
            for opened in files:
                last.callback(opened.file.close)
            try:
                await run_uninterrupted(_keep(files, failed))
            finally:
                await self._threads.close()
            if failed and error is None:
                raise failed.pop(0)

    def path(self, organization: str, entity_set: str) -> Path:
        """The file of an entity set, once it is complete."""
        return path_of(self._folder, organization, entity_set)

    async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
        """See `Sink`. Rows that were written after the checkpoint are cut off."""
        self._check_open()
        key = organization, entity_set
        if key in self._opening:
            raise self._written_twice(*key)
        self._opening.add(key)
        try:
            file = await self._opened(*key)
        finally:
            self._opening.discard(key)
        self._check_open()  # it may have been closed meanwhile
        self._files[key] = _OpenFile(file, self._threads, self._every, time.monotonic() + self._every)
        return file.checkpoint

    async def _opened(self, organization: str, entity_set: str) -> PartFile:
        if (before := self._files.get((organization, entity_set))) is not None:  # an earlier export did not finish it
            before.file.close()
            await before.keep()
            self._files.pop((organization, entity_set), None)
        file = PartFile(organization=organization, entity_set=entity_set, final=self.path(organization, entity_set))
        with sink_errors(file.final, organization):
            await run_uninterrupted(
                self._threads.start(lambda: file.open(restart=self._restart, max_age=self._max_age))
            )
        return file

    async def write(self, rows: Sequence[dict[str, Any]], checkpoint: Checkpoint) -> None:
        """See `Sink`. Where this was the last page, the file is complete on the disk when the call returns."""
        key = checkpoint.organization, checkpoint.entity_set
        opened = self._files.get(key)
        if opened is None or key in self._opening or not opened.file.continues(checkpoint, len(rows)):
            raise self._written_twice(*key)
        try:
            with sink_errors(opened.file.final, key[0]):
                # To the page cache: a thread would take longer.
                opened.file.append(_lines(rows), checkpoint, stay_open=len(self._files) <= _OPEN)
            if checkpoint.done:
                opened.file.close()
                await opened.keep()
                self._files.pop(key, None)
            else:
                opened.keep_where_due()
        except CheckpointError:
            opened.has_failed = True
            raise

    def _check_open(self) -> None:
        if self._lock is None:
            raise ConfigurationError("this sink is not open: use it as an async context manager")

    def _written_twice(self, organization: str, entity_set: str) -> SinkError:
        path = self.path(organization, entity_set)
        return SinkError(f"{str(path)!r} is written twice at once, or before `begin`: give each export its own sink")


async def _keep(files: Sequence[_OpenFile], failed: list[BaseException]) -> None:
    """Store the last checkpoint of each file; note what failed, but of a file whose failure is known."""
    kept = await asyncio.gather(*(opened.keep() for opened in files), return_exceptions=True)
    failed += [result for opened, result in zip(files, kept, strict=True) if result and not opened.has_failed]


def _log(failed: list[BaseException]) -> None:
    """Log the errors that another one leaves no room for: one exception alone can be raised."""
    for error in failed:
        logger.warning("a last checkpoint was not stored: %s; the rows after the one before are read again", error)


@attrs.define(eq=False)
class _OpenFile:
    """A file that is being written. Its checkpoints are stored in the background: pages that wait would take memory.

    `due`: when the next checkpoint is to be stored. `keeping`: the one that is being stored, or that failed.
    `has_failed`: its entity set has ended with a CheckpointError.
    """

    file: PartFile
    threads: Threads
    every: float
    due: float
    keeping: asyncio.Future[None] | None = None
    has_failed: bool = False

    def keep_where_due(self) -> None:
        """Start to store a checkpoint where one is due. Raises SinkError where that failed the last time."""
        if self.keeping is not None and self.keeping.done():
            self.keeping.result()
            self.keeping = None
        if self.keeping is None and time.monotonic() >= self.due:
            self.keeping = self._start()

    async def keep(self) -> None:
        """Store the last checkpoint. Raises SinkError, also for one that failed before.

        After a failure, the disk may report success for data that it has lost: what failed once is not tried again.
        """
        while self.keeping is not None or self.file.checkpoint is not self.file.kept:
            keeping = self.keeping = self.keeping or self._start()
            await run_uninterrupted(keeping)
            if self.keeping is keeping:
                self.keeping = None

    def _start(self) -> asyncio.Future[None]:
        checkpoint, size, crc = self.file.checkpoint, self.file.size, self.file.crc
        assert checkpoint is not None
        return self.threads.start(lambda: self._keep(checkpoint, size, crc))

    def _keep(self, checkpoint: Checkpoint, size: int, crc: int) -> None:
        began = time.monotonic()
        with sink_errors(self.file.final, self.file.organization):
            self.file.keep(checkpoint, size, crc)
        ended = time.monotonic()
        self.due = ended + max(self.every, _SHARE * (ended - began))


class JSONLinesStream:
    """A sink: lines of ``{"organization": …, "entity_set": …, "row": …}`` into a binary stream. Keeps no checkpoint.

    The stream may be buffered or not, and may refuse to block. Raises SinkError, and OutputClosedError where the reader
    of a pipe has gone.
    """

    exact: Final = True
    as_json: Final = True

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._turn = asyncio.Lock()

    async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
        """See `Sink`. Always None: a stream cannot be continued."""
        return None

    async def write(self, rows: Sequence[dict[str, Any]], checkpoint: Checkpoint) -> None:
        """See `Sink`. Returns when the stream has taken the lines, also where the call is cancelled meanwhile."""
        names = {"organization": checkpoint.organization, "entity_set": checkpoint.entity_set}
        content = _lines([{**names, "row": row} for row in rows])
        async with self._turn:
            try:
                loop = asyncio.get_running_loop()
                await run_uninterrupted(loop.run_in_executor(None, write_whole, self._stream, content))
            except OSError as error:
                if error.errno == errno.EPIPE:
                    raise OutputClosedError("the output was closed by its reader: rows have nowhere to go") from None
                advice = remedy(error, "find out what it leads to, or name a folder")
                raise SinkError(f"the output cannot be written ({reason(error)}): {advice}") from None
