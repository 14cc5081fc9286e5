"""What an export needs from the place that its rows go to. May be imported by the rooms of `sync`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import attrs

from tribe_oauth.errors import TribeOAuthError


class SinkError(TribeOAuthError):
    """Rows could not be written. It ends the whole export: reading further rows would be of no use."""


class OutputClosedError(SinkError):
    """The reader of the output has closed it."""


class CheckpointError(SinkError):
    """The checkpoint, or the file, of one entity set of one organization cannot be used.

    It is the error of this one alone; the export continues.
    """


_LATEST: Final = 253_402_300_799.0  # the last second that has a date: the end of the year 9999
_NONE: Final = type(None)
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "organization": (str,),
    "entity_set": (str,),
    "query": (str,),
    "position": (str, _NONE),
    "rows": (int,),
    "done": (bool,),
    "since": (float, int, _NONE),
}


@attrs.frozen(kw_only=True)
class Checkpoint:
    """How far an entity set of an organization was read. `attrs.asdict` gives members that JSON can hold.

    `position`: where to continue; None where it is `done`. `rows`: how many were written before that, in all runs.
    `query`: the query that was read; the position is valid for this query only. `since`: the Unix time, in seconds, at
    which the first of these rows was read; None: not known.
    """

    organization: str
    entity_set: str
    query: str
    position: str | None = None
    rows: int = 0
    done: bool = False
    since: float | None = None

    def problem(self, organization: str, entity_set: str) -> str | None:
        """Why it cannot be the checkpoint of an entity set of an organization; None where it can."""
        if any(type(getattr(self, name)) not in types for name, types in _TYPES.items()):
            return "has a member of a wrong type"
        if (self.organization, self.entity_set) != (organization, entity_set):
            return "is the checkpoint of another organization or entity set"
        has_place = (
            self.position is None if self.done else bool(self.position) or (self.position, self.rows) == (None, 0)
        )
        is_possible = has_place and self.rows >= 0 and 0 <= (self.since or 0) <= _LATEST
        return None if is_possible else "is not a checkpoint of this library: its members contradict each other"


class Sink(Protocol):
    """Takes rows, and stores how far they were read.

    Calls for one entity set of one organization come one after another; calls for different ones come concurrently. An
    exception ends the export and is raised by it unchanged; a CheckpointError ends the one entity set alone.

    Numbers with a fraction are floats. A sink that has an attribute `exact` which is true gets each as an
    `odata.Number`, a float that keeps its digits as they came. One with `as_json` which is true gets each row as
    `msgspec.Raw`, its JSON as it came, on one line; those few that cannot be that are dicts all the same.

    Rows of a set that is read in parts come in the order of its pages as they arrive.

    Rows come **at least once**: after a crash, those of the last `write` may come again. A sink that stores the
    checkpoint in the transaction of its rows has each row **exactly once**.
    """

    async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
        """The last checkpoint that was written, or None to read from the beginning.

        It is not trusted: one that another entity set has stored, or no export, is a CheckpointError.
        """
        ...

    async def write(self, rows: Sequence[dict[str, Any]], checkpoint: Checkpoint) -> None:
        """Store the rows of one page, and the checkpoint after them or together with them."""
        ...
