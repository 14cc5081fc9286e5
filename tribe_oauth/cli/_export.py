"""``tribe-oauth export``: entity sets of organizations, to files or to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer
from aiohttp import TCPConnector

from tribe_oauth.cli._exit import Exit
from tribe_oauth.cli._managers import managing_many
from tribe_oauth.cli._report import Report
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata import Query

if TYPE_CHECKING:
    from tribe_oauth.sync import JSONLinesFolder, JSONLinesStream


async def export(
    entity_sets: Annotated[
        list[str], typer.Argument(help="What to read, as in Relation_Person.", metavar="ENTITY_SET...")
    ],
    to: Annotated[str, typer.Option(help="A folder, or - for standard output.")],
    organizations: Annotated[
        list[str] | None,
        typer.Option(
            "--organization",
            "-o",
            metavar="KEY",
            help="Key of an organization; repeat it for more. By default TRIBE_ORGANIZATION_ID, else all.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report events as JSON, a line for each.")] = False,
    at_once: Annotated[int, typer.Option(help="Requests at a time, at most.", min=1)] = 32,
    page_size: Annotated[
        int | None, typer.Option(help="Rows to a page, where the API leaves that to its clients.", min=1)
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Read everything from the beginning.")] = False,
) -> None:
    """Write all rows to JSON Lines. After an interruption, run it again: it continues where it was."""
    if restart and to == "-":
        raise typer.BadParameter("standard output always begins at the beginning", param_hint="--restart")
    queries = [Query(path, count=True, page_size=page_size) for path in entity_sets]
    _need_the_extra()
    from tribe_oauth import sync

    with _output_errors(to):
        report = Report(sys.stderr if to == "-" else sys.stdout, as_json=as_json)
        async with (
            TCPConnector(limit=0) as connector,  # the pace is limit enough: a slow organization keeps no other waiting
            managing_many(organizations or [], connector) as (manager, keys),
        ):
            with report.progress(len(keys) * len(queries)) as tell:
                async with _sink(to, restart=restart) as sink:
                    pace = sync.Pace(most=at_once)
                    outcomes = await sync.export(manager, keys, queries, sink, on_event=tell, pace=pace)
        report.end(outcomes)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        raise typer.Exit(Exit.FAILED if len(failed) == len(outcomes) else Exit.PARTIAL)


def _need_the_extra() -> None:
    try:
        import stamina

        import tribe_oauth.sync  # noqa: F401
    except ImportError:
        raise ConfigurationError("export needs an extra: pip install 'tribe-oauth[cli,sync]'") from None
    stamina.instrumentation.set_on_retry_hooks(())  # retries are events here, not lines in a log


def _sink(to: str, *, restart: bool) -> AbstractAsyncContextManager[JSONLinesFolder | JSONLinesStream]:
    from tribe_oauth.sync import JSONLinesFolder, JSONLinesStream

    return nullcontext(JSONLinesStream(sys.stdout.buffer)) if to == "-" else JSONLinesFolder(to, restart=restart)


@contextmanager
def _output_errors(to: str) -> Iterator[None]:
    """Ends the command where its output cannot be written: without a word where the reader has gone, as `head` does."""
    from tribe_oauth.sync import OutputClosedError, SinkError

    try:
        yield
    except (OSError, SinkError) as error:
        if to == "-" or isinstance(error, OSError):  # at its end, Python would try to write what is left, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError | OutputClosedError):
            raise typer.Exit(1) from None
        if isinstance(error, OSError):
            raise SinkError(f"the output cannot be written ({error.strerror})") from None
        raise
