"""How commands say things: times, scopes, states, cells of a table. Text from outside is escaped for Rich."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from rich.markup import escape
from rich.table import Table

from tribe_oauth import Status
from tribe_oauth._oauth.values import format_scope
from tribe_oauth._times import relative

_COLORS = {"fresh": "green", "stale": "yellow", "backing_off": "yellow"}


def told_time(at: float | None) -> str:
    """A Unix time, in seconds, beside now; nothing for None."""
    return relative(at, time.time())


def told_scope(scope: frozenset[str] | None) -> str:
    """A scope, or that it is not known."""
    return "not known" if scope is None else escape(format_scope(scope))


def told_state(status: Status) -> str:
    """A state, in its color."""
    return f"[{_COLORS.get(status.state, 'bold red')}]{status.state}[/]"


def table_of(rows: Iterable[dict[str, Any]]) -> Table:
    """Rows of the API, a column for each property, without OData's annotations."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row if not name.startswith("@")))
    table = Table(*map(escape, names))
    for row in rows:
        table.add_row(*(escape("" if row.get(name) is None else str(row[name])) for name in names))
    return table
