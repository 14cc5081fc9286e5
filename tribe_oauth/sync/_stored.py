"""A checkpoint as it stands beside its file: read strictly, sealed with the rows that it counts. Used by `_disk`."""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path
from typing import Final

import attrs

from tribe_oauth import _durable
from tribe_oauth._remedies import reason
from tribe_oauth._strict_json import MalformedError, from_json, to_json
from tribe_oauth.sync._sink import Checkpoint, CheckpointError

_LARGEST: Final = 2**20  # bytes of a checkpoint that are read: it has some hundred
_PIECE: Final = 2**20  # bytes that are read of a file at a time


@attrs.frozen(kw_only=True)
class Stored(Checkpoint):
    """`bytes`: the size of the file with the `rows`; `crc`: a checksum of these bytes and of all other members.

    A file and a checkpoint that do not belong together have another: nothing is concluded from either of them then.
    """

    bytes: int
    crc: int

    @classmethod
    def of(cls, checkpoint: Checkpoint, size: int, crc: int) -> Stored:
        """A checkpoint after the `size` bytes that have this checksum."""
        members = attrs.asdict(checkpoint)
        if checkpoint.since is not None:
            members["since"] = float(checkpoint.since)  # as it is read again
        unsealed = cls(**members, bytes=size, crc=0)
        return attrs.evolve(unsealed, crc=unsealed._sealed(crc))

    def _sealed(self, crc: int) -> int:
        return zlib.crc32(to_json(attrs.evolve(self, crc=0)), crc)

    def belongs_to(self, content: Path, *, exactly: bool) -> int | None:
        """The checksum of the rows in a file, where they are those that it counts; `exactly`: and nothing more.

        Reads the file. Raises OSError.
        """
        try:
            crc = _checksum(content, self.bytes, exactly)
        except FileNotFoundError:
            return None
        return crc if crc is not None and self._sealed(crc) == self.crc else None

    def is_older_than(self, age: float) -> bool:
        """Whether its rows are older than so many seconds, or may be: a clock that was set back is no proof."""
        return self.since is None or not 0 <= time.time() - self.since <= age

    def problem(self, organization: str, entity_set: str) -> str | None:
        """See `Checkpoint.problem`."""
        if (found := super().problem(organization, entity_set)) is not None:
            return found
        can_be = 3 * self.rows <= self.bytes and (self.rows > 0 or self.bytes == 0)  # a row has three bytes at least
        return None if can_be else "is not a checkpoint of this library: its members contradict each other"

    def checkpoint(self) -> Checkpoint:
        """What was read so far, without the file's size."""
        return Checkpoint(**{field.name: getattr(self, field.name) for field in attrs.fields(Checkpoint)})


def _checksum(path: Path, size: int, exactly: bool) -> int | None:
    """That of the first `size` bytes; None where there are fewer, or more than there may be."""
    with _durable.open_to_read(path) as file:
        found = os.fstat(file.fileno()).st_size
        if found < size or (exactly and found > size):
            return None
        crc, left = 0, size
        while left > 0 and (piece := file.read(min(left, _PIECE))):
            crc, left = zlib.crc32(piece, crc), left - len(piece)
    return crc if left == 0 else None


def read_stored(path: Path, organization: str, entity_set: str) -> Stored | None:
    """The checkpoint in a file; None where there is no file. Raises CheckpointError."""
    try:
        with _durable.open_to_read(path) as file:
            stored = from_json(file.read(_LARGEST), Stored, complete=True)
    except FileNotFoundError:
        return None
    except MalformedError:
        problem: str | None = "is not a checkpoint of this library"
    except OSError as error:
        problem = f"cannot be read ({reason(error)})"
    else:
        problem = stored.problem(organization, entity_set)
        if problem is None:
            return stored
    raise CheckpointError(
        f"{str(path)!r} {problem}: delete it, and the entity set is read from the beginning", organization=organization
    )
