"""What an export tells: for people bars and a table, for programs a line of JSON for each event."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from tribe_oauth._times import relative
from tribe_oauth.cli._words import console, shown, table, told

if TYPE_CHECKING:
    from tribe_oauth.sync import Event, Outcome

_BARS: Final = 12
"""At a time: more would not fit a screen."""


class Report:
    """Of one export, on the stream that its rows do not use. Bars are on standard error."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._stream = stream
        self._as_json = as_json
        self._began = time.time()

    @contextmanager
    def progress(self, reads: int) -> Iterator[Callable[[Event], None]]:
        """What to call with each event, while it lasts. `reads`: how many entity sets are read in all."""
        if self._as_json:
            yield self._write
            return
        bars = _Bars(reads)
        with bars.progress:
            yield bars.move

    def end(self, outcomes: list[Outcome]) -> None:
        """Show what came of each entity set; programs were told already."""
        if self._as_json:
            return
        screen = console(self._stream)
        screen.print(self._table(outcomes), soft_wrap=True)
        if kept := sum(
            outcome.error is None and self._is_earlier(outcome) and not outcome.read for outcome in outcomes
        ):
            screen.print(
                f"{kept} were complete before, and nothing of them was read now: --max-age 20h reads again what is"
                " older than that, --restart everything.",
                soft_wrap=True,
            )

    def _is_earlier(self, outcome: Outcome) -> bool:
        """Whether rows of an earlier run are among its rows."""
        return outcome.since is None or outcome.since < self._began

    def _write(self, event: Event) -> None:
        error = event.error
        line = {
            "event": event.kind,
            "at": round(time.time(), 3),
            "organization": event.organization,
            "entity_set": event.entity_set,
            "rows": event.rows,
            "read": event.read,
            "total": event.total,
            "since": event.since,
            "error": None if error is None else {"type": type(error).__name__, "message": told(error)},
        }
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()

    def _table(self, outcomes: list[Outcome]) -> Table:
        made = table("organization", "entity set", "rows", "read now", "retries", "seconds", "outcome")
        for outcome in sorted(outcomes, key=lambda outcome: (outcome.organization, outcome.entity_set)):
            made.add_row(
                shown(outcome.organization),
                shown(outcome.entity_set),
                f"{outcome.rows:,}",
                f"{outcome.read:,}",
                str(outcome.retries),
                f"{outcome.seconds:.1f}",
                self._result(outcome),
            )
        return made

    def _result(self, outcome: Outcome) -> str:
        error = outcome.error
        if error is not None:
            return f"[bold red]{type(error).__name__}[/]: {shown(told(error))}"
        return f"[green]complete[/]{_since(outcome.since) if self._is_earlier(outcome) else ''}"


def _since(since: float | None) -> str:
    """How old rows of an earlier run are."""
    if since is None:
        return ", by an earlier run"
    return f" since {time.strftime('%Y-%m-%d %H:%M', time.localtime(since))} ({relative(since, time.time())})"


class _Bars:
    """One for each read under way, as far as they fit, and one for all."""

    def __init__(self, reads: int) -> None:
        screen = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,}"),
            TimeElapsedColumn(),
            console=screen,
            transient=True,
            disable=not screen.is_terminal,
        )
        self._all = self.progress.add_task("all", total=reads)
        self._bars: dict[tuple[str, str], TaskID] = {}

    def move(self, event: Event) -> None:
        key = event.organization, event.entity_set
        if event.kind in {"finished", "failed"}:
            self.progress.advance(self._all)
            if key in self._bars:
                self.progress.remove_task(self._bars.pop(key))
            return
        if key not in self._bars and len(self._bars) < _BARS:
            self._bars[key] = self.progress.add_task(shown(" ".join(key)), total=None)
        if key in self._bars:
            self.progress.update(self._bars[key], completed=event.rows, total=event.total)
