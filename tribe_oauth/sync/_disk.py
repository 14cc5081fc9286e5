"""The files of an export: their names, the part file that grows, the checkpoint beside it. Imported by `_jsonl`."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from tribe_oauth import _durable
from tribe_oauth._durable import AlteredFileError, NoLocksError
from tribe_oauth._remedies import reason, remedy
from tribe_oauth._strict_json import to_json
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sync._sink import Checkpoint, CheckpointError, SinkError
from tribe_oauth.sync._stored import Stored, read_stored

logger = logging.getLogger("tribe_oauth.sync")

# Names that a file or a folder can have unchanged. Organizations with capitals cannot: some file systems ignore case.
_PLAIN_ORGANIZATION: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_PLAIN_ENTITY_SET: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")


# What concerns one file alone, and not the disk that all of them are on.
_OF_ONE_FILE: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EFBIG}
)


@contextmanager
def sink_errors(path: Path, organization: str | None = None) -> Iterator[None]:
    """Raise SinkError in place of OSError: CheckpointError where it concerns one organization's file alone."""
    try:
        yield
    except OSError as error:
        kind = SinkError if organization is None or error.errno not in _OF_ONE_FILE else CheckpointError
        advice = remedy(error, "make room or access, and run it again")
        raise kind(f"{str(path)!r} cannot be written ({reason(error)}): {advice}", organization=organization) from None
    except AlteredFileError as error:
        raise CheckpointError(
            f"the unfinished {str(path)!r} was changed while it was written, {error}: end what else writes to it, and"
            " run the export again; what cannot be continued is read from the beginning",
            organization=organization,
        ) from None


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

    Raises ConfigurationError where another process has the lock. On a file system without locks, the log says that the
    user has to keep two exports apart.
    """
    _durable.make_folder(folder)
    path = folder / ".lock"
    try:
        return _durable.lock(path)
    except BlockingIOError:
        raise ConfigurationError(
            f"another export writes to {str(folder)!r}: wait for it, or name another folder"
        ) from None
    except NoLocksError as error:
        logger.warning(
            "the file system of %r has no locks (%s): see to it that no other export writes there at the same time",
            str(folder),
            error.strerror,
        )
        return _durable.open_file(path)


@attrs.define(kw_only=True)
class PartFile:
    """The file of an entity set that is being written, named `part` until it is complete and `final` from then on.

    `size`, `crc`: of its bytes up to `checkpoint`, the last page that was written. `kept`: the last checkpoint on the
    disk. Methods raise OSError and AlteredFileError; those that wait for the disk belong in a thread.
    """

    organization: str
    entity_set: str
    final: Path
    size: int = 0
    crc: int = 0
    checkpoint: Checkpoint | None = None
    kept: Checkpoint | None = None
    _opened: int | None = attrs.field(default=None, init=False)

    @property
    def part(self) -> Path:
        """The file's name until it is complete."""
        return self.final.with_name(f"{self.final.name}.part")

    @property
    def beside(self) -> Path:
        """The checkpoint's file."""
        return self.final.with_name(f"{self.final.name}.checkpoint")

    def open(self, *, restart: bool, max_age: float | None) -> None:
        """Go back to the checkpoint on the disk, or to the beginning. Waits for the disk. Raises CheckpointError.

        `max_age`: seconds; older rows are read again.
        """
        _durable.make_folder(self.final.parent)
        stored = None if restart else read_stored(self.beside, self.organization, self.entity_set)
        if stored is not None and max_age is not None and stored.is_older_than(max_age):
            stored = None
        if stored is None or not self._goes_on(stored):
            _durable.remove(self.beside)
            _durable.truncate(self.part, 0)

    def _goes_on(self, stored: Stored) -> bool:
        """Continue after a checkpoint, or see that all is complete. False where its rows are not there."""
        for path in (self.part, self.final) if stored.done else (self.part,):
            crc = stored.belongs_to(path, exactly=path == self.final)
            if crc is not None:
                self.size, self.crc = stored.bytes, crc
                self.kept = self.checkpoint = stored.checkpoint()
                if path == self.part:
                    _durable.truncate(path, self.size)
                    if stored.done:
                        _durable.rename(path, self.final)
                return True
        missing = self.final if stored.done and not self.part.exists() else self.part
        logger.warning("%r is not as its checkpoint says: it is read from the beginning", str(missing))
        return False

    def continues(self, checkpoint: Checkpoint, rows: int) -> bool:
        """Whether a checkpoint comes right after the last page, with so many rows more."""
        before = 0 if self.checkpoint is None else self.checkpoint.rows
        return before == checkpoint.rows - rows

    def append(self, content: bytes, checkpoint: Checkpoint, *, stay_open: bool) -> None:
        """Write the lines of a page. Where that fails half-way, `open` cuts off what was written.

        `stay_open`: for further pages, until `close`, which is quicker.
        """
        if self._opened is None:
            self._opened = _durable.open_to_append(self.part)
        try:
            _durable.append(self._opened, content, after=self.size)
        finally:
            if not stay_open:
                self.close()
        self.size += len(content)
        self.crc = zlib.crc32(content, self.crc)
        self.checkpoint = checkpoint

    def close(self) -> None:
        """Close the file, where it is open."""
        file, self._opened = self._opened, None
        if file is not None:
            with suppress(OSError):  # `keep` waits for the disk, and hears of what was not written
                os.close(file)

    def keep(self, checkpoint: Checkpoint, size: int, crc: int) -> None:
        """Store a checkpoint after the rows that it counts; complete the file where it is the last. Waits for the disk.

        Meanwhile further pages can be written.
        """
        _durable.sync(self.part)
        found = self.part.stat().st_size
        if found < size or (checkpoint.done and found != size):
            raise AlteredFileError(f"it has {found} bytes, and {size} were written")
        _durable.replace(self.beside, to_json(Stored.of(checkpoint, size, crc)))
        self.kept = checkpoint
        if checkpoint.done:
            _durable.rename(self.part, self.final)
