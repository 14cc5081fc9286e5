"""``tribe-oauth export``: entity sets of organizations, to files or to standard output."""

from __future__ import annotations

import re
import sys
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Final

import typer
from aiohttp import TCPConnector

from tribe_oauth.cli._exit import Exit
from tribe_oauth.cli._managers import managing_many
from tribe_oauth.cli._report import Report
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata import Query

if TYPE_CHECKING:
    from tribe_oauth.sync import JSONLinesFolder, JSONLinesStream

_AGE: Final = re.compile(r"(\d{1,9})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _age(text: str) -> float:
    """Seconds."""
    found = _AGE.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter("give a number with its unit, as in 90m, 20h or 7d")
    return float(int(found[1]) * _SECONDS[found[2]])


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
    page_size: Annotated[int | None, typer.Option(help="Rows to a page; by default a hundred.", min=1)] = None,
    count: Annotated[
        bool, typer.Option("--count/--no-count", help="Have the API count; without, sets are read in one part.")
    ] = True,
    give_up_after: Annotated[
        float, typer.Option(help="Seconds for which a page is tried again while the API is busy or away.", min=0)
    ] = 900.0,
    restart: Annotated[bool, typer.Option("--restart", help="Read everything from the beginning.")] = False,
    max_age: Annotated[
        float | None,
        typer.Option(
            help="Read again what is older, as in 20h (s, m, h, d). By default, what is complete is kept.",
            parser=_age,
            metavar="AGE",
        ),
    ] = None,
) -> None:
    """Write all rows to JSON Lines. After an interruption, run it again: it continues where it was."""
    for given, name in ((restart, "--restart"), (max_age, "--max-age")):
        if given and to == "-":
            raise typer.BadParameter("standard output always begins at the beginning", param_hint=name)
    queries = [Query(path, count=True, page_size=page_size) for path in entity_sets]
    _need_the_extra()
    from tribe_oauth import sync

    report = Report(sys.stderr if to == "-" else sys.stdout, as_json=as_json)
    try:
        async with (
            TCPConnector(limit=0) as connector,  # the pace is limit enough: a slow organization keeps no other waiting
            managing_many(organizations or [], connector) as (manager, keys),
        ):
            with report.progress(len(keys) * len(queries)) as tell:
                async with _sink(to, restart=restart, max_age=max_age) as sink:
                    pace = sync.Pace(most=at_once)
                    outcomes = await sync.export(
                        manager,
                        keys,
                        queries,
                        sink,
                        on_event=tell,
                        pace=pace,
                        count=count,
                        give_up_after=give_up_after,
                    )
    except sync.OutputClosedError:  # as with `| head`: whoever closed it wants no word either
        raise typer.Exit(Exit.FAILED) from None
    report.end(outcomes)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        raise typer.Exit(Exit.FAILED if len(failed) == len(outcomes) else Exit.PARTIAL)


def _need_the_extra() -> None:
    try:
        import tribe_oauth.sync  # noqa: F401
    except ImportError:
        raise ConfigurationError("export needs an extra: pip install 'tribe-oauth[cli,sync]'") from None


def _sink(
    to: str, *, restart: bool, max_age: float | None
) -> AbstractAsyncContextManager[JSONLinesFolder | JSONLinesStream]:
    from tribe_oauth.sync import JSONLinesFolder, JSONLinesStream

    if to == "-":
        return nullcontext(JSONLinesStream(sys.stdout.buffer))
    return JSONLinesFolder(to, restart=restart, max_age=max_age)
