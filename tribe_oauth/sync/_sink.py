"""What an export needs from the place that its rows go to. May be imported by the rooms of `sync`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from tribe_oauth.errors import TribeOAuthError


class SinkError(TribeOAuthError):
    """Rows could not be written. It ends the whole export: reading further rows would be of no use."""


class OutputClosedError(SinkError):
    """The reader of the output has closed it."""


class CheckpointError(SinkError):
    """A checkpoint cannot be used. It is the error of its own entity set and organization; the export continues."""


@attrs.frozen(kw_only=True)
class Checkpoint:
    """How far an entity set of an organization was read. `attrs.asdict` gives members that JSON can hold.

    `position`: where to continue; None where it is `done`. `rows`: how many were written before that, in all runs.
    `query`: the query that was read; the position is valid for this query only.
    """

    organization: str
    entity_set: str
    query: str
    position: str | None = None
    rows: int = 0
    done: bool = False


class Sink(Protocol):
    """Takes rows, and stores how far they were read.

    Calls for one entity set of one organization come one after another; calls for different ones come concurrently. An
    exception ends the export and is raised by it unchanged; a CheckpointError ends the one entity set alone.

    Numbers with a fraction are floats. A sink that has an attribute `exact` which is true gets each as an
    `odata.Number`, a float that keeps its digits as they came.

    Rows come **at least once**: after a crash, those of the last `write` may come again. A sink that stores the
    checkpoint in the transaction of its rows has each row **exactly once**.
    """

    async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
        """The last checkpoint that was written, or None to read from the beginning."""
        ...

    async def write(self, rows: Sequence[dict[str, Any]], checkpoint: Checkpoint) -> None:
        """Store the rows of one page, and the checkpoint after them or together with them."""
        ...
