"""The files of an export: their names, the part file that grows, the checkpoint beside it. Imported by `_jsonl`."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from tribe_oauth import _durable
from tribe_oauth._strict_json import MalformedError, from_json, to_json
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sync._sink import Checkpoint, CheckpointError, SinkError

logger = logging.getLogger("tribe_oauth.sync")

# Names that a file or a folder can have unchanged. Organizations with capitals cannot: some file systems ignore case.
_PLAIN_ORGANIZATION: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_PLAIN_ENTITY_SET: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")


@contextmanager
def sink_errors(path: Path) -> Iterator[None]:
    """Raise SinkError in place of OSError."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from None


def write_error(path: Path, error: OSError) -> SinkError:
    """What the operating system's error means for an export."""
    return SinkError(f"{str(path)!r} cannot be written ({error.strerror}): make room or access, and run it again")


def path_of(folder: Path, organization: str, entity_set: str) -> Path:
    """The file of an entity set of an organization: different for different ones, and always below the folder."""
    return folder / _name(organization, _PLAIN_ORGANIZATION) / f"{_name(entity_set, _PLAIN_ENTITY_SET)}.jsonl"


def _name(text: str, plain: re.Pattern[str]) -> str:
    if plain.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{re.sub('[^A-Za-z0-9_-]+', '_', text)[:100]}~{digest}"  # no plain name has a ~


def lock_folder(folder: Path) -> int:
    """Create a folder, where it is missing, and lock it until the descriptor is closed.

    Raises ConfigurationError where another process has the lock.
    """
    _durable.make_folder(folder)
    try:
        return _durable.lock(folder / ".lock")
    except BlockingIOError:
        raise ConfigurationError(
            f"another export writes to {str(folder)!r}: wait for it, or name another folder"
        ) from None


@attrs.frozen(kw_only=True)
class _Kept:
    """A checkpoint as it is stored. `bytes`: the size of the part file with the `rows` of the checkpoint."""

    organization: str
    entity_set: str
    query: str
    position: str | None
    rows: int
    done: bool
    bytes: int

    @property
    def is_possible(self) -> bool:
        """Whether an export can have stored it: there is a position unless it is done, and a row has three bytes."""
        if self.position == "" or (self.position is None) != self.done:
            return False
        return 0 <= 3 * self.rows <= self.bytes and (self.rows > 0 or self.bytes == 0)

    def checkpoint(self) -> Checkpoint:
        """Without the size."""
        members = attrs.asdict(self)
        del members["bytes"]
        return Checkpoint(**members)


@attrs.define(kw_only=True)
class PartFile:
    """The file of an entity set that is being written, named `part` until it is complete and `final` from then on.

    `size`: its bytes up to `checkpoint`, the last page that was written. `kept`: the last checkpoint on the disk.
    Methods raise OSError; those that wait for the disk belong in a thread.
    """

    organization: str
    entity_set: str
    final: Path
    size: int = 0
    checkpoint: Checkpoint | None = None
    kept: Checkpoint | None = None

    @property
    def part(self) -> Path:
        """The file's name until it is complete."""
        return self.final.with_name(f"{self.final.name}.part")

    @property
    def beside(self) -> Path:
        """The checkpoint's file."""
        return self.final.with_name(f"{self.final.name}.checkpoint")

    def open(self, *, restart: bool) -> None:
        """Go back to the checkpoint on the disk, or to the beginning. Waits for the disk. Raises CheckpointError."""
        _durable.make_folder(self.final.parent)
        found = None if restart else self._read()
        if found is None:
            _durable.remove(self.beside)
            _durable.truncate(self.part, 0)
            return
        self.kept = self.checkpoint = found.checkpoint()
        self.size = found.bytes
        if self.part.exists():
            _durable.truncate(self.part, self.size)
            if found.done:
                _durable.rename(self.part, self.final)

    def _read(self) -> _Kept | None:
        """The checkpoint on the disk; None where there is none, or the rows that it counts are not there."""
        try:
            kept = from_json(self.beside.read_bytes(), _Kept)
        except FileNotFoundError:
            return None
        except MalformedError:
            raise self._refused("is not a checkpoint of this library") from None
        except OSError as error:
            raise self._refused(f"cannot be read ({error.strerror})") from None
        if not kept.is_possible:
            raise self._refused("is not a checkpoint of this library: its members contradict each other")
        if (kept.organization, kept.entity_set) != (self.organization, self.entity_set):
            raise self._refused("is the checkpoint of another organization or entity set")
        written = self.final if kept.done and not self.part.exists() else self.part
        if not _ends_a_line(written, kept.bytes):
            logger.warning("%r is not as its checkpoint says: it is read from the beginning", str(written))
            return None
        return kept

    def _refused(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{str(self.beside)!r} {reason}: delete it, and the entity set is read from the beginning",
            organization=self.organization,
        )

    def continues(self, checkpoint: Checkpoint, rows: int) -> bool:
        """Whether a checkpoint comes right after the last page, with so many rows more."""
        before = 0 if self.checkpoint is None else self.checkpoint.rows
        return before == checkpoint.rows - rows

    def append(self, content: bytes, checkpoint: Checkpoint) -> None:
        """Write the lines of a page. Where that fails half-way, `open` cuts off what was written."""
        _durable.append(self.part, content)
        self.size += len(content)
        self.checkpoint = checkpoint

    def keep(self, checkpoint: Checkpoint, size: int) -> None:
        """Store a checkpoint after the rows that it counts; complete the file where it is the last. Waits for the disk.

        Meanwhile further pages can be written.
        """
        _durable.sync(self.part)
        _durable.replace(self.beside, to_json(_Kept(**attrs.asdict(checkpoint), bytes=size)))
        self.kept = checkpoint
        if checkpoint.done:
            _durable.rename(self.part, self.final)


def _ends_a_line(path: Path, size: int) -> bool:
    """Whether a file has so many bytes, and the last of them ends a line."""
    try:
        with path.open("rb") as file:
            if size == 0 or os.fstat(file.fileno()).st_size < size:
                return size == 0
            file.seek(size - 1)
            return file.read(1) == b"\n"
    except FileNotFoundError:
        return False
