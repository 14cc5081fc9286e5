"""Where rows go: what an export needs of it. May be imported by the rooms of `sync`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from tribe_oauth.errors import TribeOAuthError


class SinkError(TribeOAuthError):
    """What was read could not be written. The export ends: an organization's rows are not read to be dropped."""


class OutputClosedError(SinkError):
    """Whoever read the output has gone."""


class CheckpointError(SinkError):
    """A checkpoint that cannot be read. It concerns the one file that it stands beside, and ends no export."""


@attrs.frozen(kw_only=True)
class Checkpoint:
    """How far an entity set of an organization was read. `attrs.asdict` gives what JSON can hold.

    `position`: where to go on, None where it is `done`. `rows`: how many there were before that, in all runs together.
    `query`: what was asked, so that another question does not go on here.
    """

    organization: str
    entity_set: str
    query: str
    position: str | None = None
    rows: int = 0
    done: bool = False


class Sink(Protocol):
    """Takes rows, and keeps how far they go.

    Calls for one entity set of one organization come one after another; those for different ones at the same time. An
    exception ends the export and comes out of it as it is.

    Rows come **at least once**: those of a write that did not return before the process died come again. A sink that
    keeps the checkpoint in one transaction with the rows has each **exactly once**.
    """

    async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
        """The last checkpoint that was written, or None to read from the beginning."""
        ...

    async def write(self, rows: Sequence[dict[str, Any]], checkpoint: Checkpoint) -> None:
        """Keep the rows of one page, and after them, or with them, the checkpoint."""
        ...
