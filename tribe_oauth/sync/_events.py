"""What an export reports: events while it runs, an outcome for each entity set at the end. Imported by `_export`."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from tribe_oauth.errors import TribeOAuthError

Kind: TypeAlias = Literal["started", "page", "retried", "finished", "failed"]


@attrs.frozen(kw_only=True)
class Event:
    """What just happened to one entity set of one organization.

    started; page: one was written; retried: a request failed with `error` and is sent again; finished; failed: with
    `error`. `rows`: written so far, in all runs; `total`: the number of all rows, where the API gave it.
    """

    kind: Kind
    organization: str
    entity_set: str
    rows: int = 0
    read: int = 0
    total: int | None = None
    since: float | None = None
    error: TribeOAuthError | None = None


@attrs.define(kw_only=True)
class Outcome:
    """The result for one entity set of one organization. `rows`: written in all runs; `read`: in this one.

    `since`: the Unix time, in seconds, at which the first of the rows was read, in this run or an earlier one: they are
    no newer than that; None: not known. `error`: why the entity set is not complete; None where it is.
    """

    organization: str
    entity_set: str
    rows: int = 0
    read: int = 0
    retries: int = 0
    seconds: float = 0.0
    since: float | None = None
    error: TribeOAuthError | None = None
