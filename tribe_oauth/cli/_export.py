"""``tribe-oauth export``: entity sets of organizations, to files or to standard output; what happens, as it happens."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from aiohttp import TCPConnector
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from tribe_oauth import TokenManager
from tribe_oauth._manager import settings as environment
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata import Query

if TYPE_CHECKING:
    from tribe_oauth.sync import Event, JSONLinesFolder, JSONLinesStream, Outcome

Run = Callable[[Coroutine[Any, Any, None]], None]
_BARS: Final = 12  # at a time: more would not fit a screen


def add_to(app: typer.Typer, run: Run) -> None:
    """Add the command. `run` runs a coroutine and says what went wrong."""

    @app.command()
    def export(
        entity_sets: Annotated[
            list[str], typer.Argument(help="Which, as in Relation_Person.", metavar="ENTITY_SET...")
        ],
        to: Annotated[str, typer.Option(help="A folder, or - for standard output.")],
        organizations: Annotated[
            list[str] | None, typer.Option("--organization", help="Which; again for more. By default all.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="What happens as JSON, a line for each event.")] = False,
        at_once: Annotated[int, typer.Option(help="Requests at a time, at most.", min=1)] = 32,
        page_size: Annotated[
            int | None, typer.Option(help="Rows to a page, where the API leaves that to its clients.", min=1)
        ] = None,
        restart: Annotated[bool, typer.Option("--restart", help="Read everything from the beginning.")] = False,
    ) -> None:
        """Write everything to JSON Lines; run again after an interruption, it goes on where it was."""
        if restart and to == "-":
            raise typer.BadParameter("standard output always begins at the beginning", param_hint="--restart")
        wanted = ((path, page_size) for path in entity_sets)
        run(_export(wanted, organizations or [], to, as_json=as_json, restart=restart, at_once=at_once))


async def _export(
    wanted: Iterable[tuple[str, int | None]],
    organizations: list[str],
    to: str,
    *,
    as_json: bool,
    restart: bool,
    at_once: int,
) -> None:
    queries = [Query(path, count=True, page_size=page_size) for path, page_size in wanted]
    try:
        from tribe_oauth import sync
    except ImportError:
        raise ConfigurationError("export needs an extra: pip install 'tribe-oauth[cli,sync]'") from None
    import stamina

    stamina.instrumentation.set_on_retry_hooks(())  # retries are events here, not lines in a log
    sink: AbstractAsyncContextManager[JSONLinesFolder | JSONLinesStream] = (
        nullcontext(sync.JSONLinesStream(sys.stdout.buffer)) if to == "-" else sync.JSONLinesFolder(to, restart=restart)
    )
    said = sys.stderr if to == "-" else sys.stdout
    try:
        async with _manager(organizations) as (manager, keys):
            screen = _Screen(len(keys) * len(queries), shown=not as_json)
            tell = (lambda event: _write(event, said)) if as_json else screen.tell
            with screen.progress:
                async with sink as opened:
                    outcomes = await sync.export(
                        manager, keys, queries, opened, on_event=tell, pace=sync.Pace(most=at_once)
                    )
        if not as_json:
            Console(file=said).print(_table(outcomes), soft_wrap=True)
    except (OSError, sync.SinkError) as error:
        if to == "-" or isinstance(error, OSError):  # Python would complain once more of our output when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError | sync.OutputClosedError):
            raise typer.Exit(1) from None  # whoever read it has gone, and knows
        if isinstance(error, OSError):
            raise sync.SinkError(f"the output cannot be written ({error.strerror})") from None
        raise
    if any(outcome.error is not None for outcome in outcomes):
        raise typer.Exit(1)


@asynccontextmanager
async def _manager(organizations: list[str]) -> AsyncIterator[tuple[TokenManager, list[str]]]:
    """A manager, and whom to read: who is named, else all in the store, else the one of the environment."""
    settings = environment.read()
    store = environment.store(durable=True)
    async with (
        TCPConnector(limit=0) as connector,  # the pace is limit enough: nobody waits for a slow one's connection
        TokenManager(settings.client, store=store, connector=connector) as manager,
    ):
        keys = list(dict.fromkeys(organizations)) or sorted([key async for key in manager.organizations()])
        if keys:
            yield manager, keys
            return
    async with TokenManager.from_env() as manager:
        yield manager, [settings.organization]


def _write(event: Event, stream: Any) -> None:
    error = event.error
    said = {
        "event": event.kind,
        "at": round(time.time(), 3),
        "organization": event.organization,
        "entity_set": event.entity_set,
        "rows": event.rows,
        "total": event.total,
        "error": None if error is None else {"type": type(error).__name__, "message": str(error)},
    }
    stream.write(json.dumps(said) + "\n")
    stream.flush()


class _Screen:
    """Bars for what is under way, and one for all."""

    def __init__(self, streams: int, *, shown: bool) -> None:
        console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not (shown and console.is_terminal),
        )
        self._all = self.progress.add_task("all", total=streams)
        self._bars: dict[tuple[str, str], TaskID] = {}

    def tell(self, event: Event) -> None:
        """Move the bars."""
        key = event.organization, event.entity_set
        if event.kind in {"finished", "failed"}:
            self.progress.advance(self._all)
            if key in self._bars:
                self.progress.remove_task(self._bars.pop(key))
            return
        if key not in self._bars and len(self._bars) < _BARS:
            self._bars[key] = self.progress.add_task(escape(" ".join(key)), total=None)
        if key in self._bars:
            self.progress.update(self._bars[key], completed=event.rows, total=event.total)


def _table(outcomes: list[Outcome]) -> Table:
    table = Table("organization", "entity set", "rows", "read now", "retries", "seconds", "outcome")
    for outcome in sorted(outcomes, key=lambda outcome: (outcome.organization, outcome.entity_set)):
        error = outcome.error
        table.add_row(
            escape(outcome.organization),
            escape(outcome.entity_set),
            f"{outcome.rows:,}",
            f"{outcome.read:,}",
            str(outcome.retries),
            f"{outcome.seconds:.1f}",
            "[green]complete[/]" if error is None else f"[bold red]{type(error).__name__}[/]: {escape(str(error))}",
        )
    return table
