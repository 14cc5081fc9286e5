"""Files that survive: names for any organization, growing files, checkpoints beside them. Imported by `_jsonl`."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sync._sink import Checkpoint, CheckpointError, SinkError

# What may be a file's name as it is. Organizations in capitals may not: some file systems know no difference.
_PLAIN_ORGANIZATION: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_PLAIN_ENTITY_SET: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")


@contextmanager
def clear(path: Path) -> Iterator[None]:
    """Say in one line what the operating system had against it."""
    try:
        yield
    except OSError as error:
        raise SinkError(
            f"{str(path)!r} cannot be written ({error.strerror}): make room or access, and run it again"
        ) from None


def path_of(folder: Path, organization: str, entity_set: str) -> Path:
    """A name of its own for whatever the names are: what is not plain ends in its hash."""
    return folder / _name(organization, _PLAIN_ORGANIZATION) / f"{_name(entity_set, _PLAIN_ENTITY_SET)}.jsonl"


def _name(text: str, plain: re.Pattern[str]) -> str:
    if plain.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{re.sub('[^A-Za-z0-9_-]+', '_', text)[:100]}~{digest}"  # no plain name has a ~


def make_folder(folder: Path) -> None:
    """Create what is missing of it, for its owner alone."""
    for missing in reversed([folder, *folder.parents]):
        if not missing.exists():
            missing.mkdir(mode=0o700, exist_ok=True)
            _settle(missing.parent)


def make_lock(folder: Path) -> int:
    """A locked file, as long as this process lives. Raises ConfigurationError where another one has it."""
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(file)
    except OSError:
        os.close(file)
        raise ConfigurationError(
            f"another export writes to {str(folder)!r}: wait for it, or name another folder"
        ) from None
    return file


def _lock(file: int) -> None:
    if os.name == "posix":  # elsewhere it is up to the user
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@attrs.define
class Growing:
    """A file on its way to `final`, and where it is. `size`: bytes up to `checkpoint`; `kept`: a durable one."""

    final: Path
    size: int = 0
    checkpoint: Checkpoint | None = None
    kept: Checkpoint | None = None

    @property
    def part(self) -> Path:
        """Its name until it is complete."""
        return self.final.with_name(f"{self.final.name}.part")

    @property
    def beside(self) -> Path:
        """Its checkpoint's name."""
        return self.final.with_name(f"{self.final.name}.checkpoint")

    def open(self, *, restart: bool) -> None:
        """Go back to the last checkpoint, or to nothing."""
        make_folder(self.final.parent)
        found = None if restart else self._read()
        if found is None:
            self.beside.unlink(missing_ok=True)
            _truncate(self.part, 0)
            return
        self.checkpoint, self.size = found
        self.kept = self.checkpoint
        if self.part.exists():
            _truncate(self.part, self.size)
            if self.checkpoint.done:
                self._finish()

    def _read(self) -> tuple[Checkpoint, int] | None:
        """The checkpoint and its bytes; None where there is nothing to go on from, or somebody took the file away."""
        try:
            content = self.beside.read_bytes()
        except FileNotFoundError:
            return None
        try:
            kept = json.loads(content)
            size = int(kept.pop("bytes"))
            checkpoint = Checkpoint(**kept)
        except (TypeError, ValueError, KeyError, AttributeError):
            raise CheckpointError(
                f"{str(self.beside)!r} is not a checkpoint of this library: delete it, and its entity set is read anew"
            ) from None
        at = self.final if checkpoint.done and not self.part.exists() else self.part
        return (checkpoint, size) if at.exists() and at.stat().st_size >= size else None

    def append(self, content: bytes, checkpoint: Checkpoint) -> None:
        """Write on. What the disk refuses half-way is cut off by the next `open`."""
        file = os.open(self.part, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            _write_all(file, content)
        finally:
            os.close(file)
        self.size += len(content)
        self.checkpoint = checkpoint

    def keep(self, checkpoint: Checkpoint, size: int) -> None:
        """Make a checkpoint durable, after the rows that it speaks of. More may be written on meanwhile."""
        _sync(self.part)
        fresh = self.beside.with_name(f"{self.beside.name}.new")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(file, json.dumps({**attrs.asdict(checkpoint), "bytes": size}).encode())
            os.fsync(file)
        finally:
            os.close(file)
        fresh.replace(self.beside)
        _settle(self.beside.parent)
        self.kept = checkpoint
        if checkpoint.done:
            self._finish()

    def _finish(self) -> None:
        self.part.replace(self.final)
        _settle(self.final.parent)


def _write_all(file: int, content: bytes) -> None:
    """All of it, or OSError: a disk that is nearly full takes a part without a word."""
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]


def _truncate(path: Path, size: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(file, size)
    finally:
        os.close(file)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _settle(folder: Path) -> None:
    """Make a new name in it durable."""
    if os.name == "posix":
        file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)
