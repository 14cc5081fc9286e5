"""``tribe-oauth get``: rows of one organization, as a table or as JSON."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Annotated, Any, Final

import typer

from tribe_oauth import odata
from tribe_oauth.cli._managers import Named, managing_one
from tribe_oauth.cli._words import console, harmless, table_of, write_line

PATIENCE: Final = 30.0
"""Seconds: somebody waits at the terminal."""


async def get(
    path: Annotated[str, typer.Argument(help="What to read below /v1/odata, as in Relation_Person.")],
    named: Named = None,
    top: Annotated[int, typer.Option(help="Rows at most.", min=1)] = 20,
    select: Annotated[str, typer.Option(help="Properties, with commas between.")] = "",
    filter_: Annotated[str | None, typer.Option("--filter", help="An OData filter.")] = None,
    orderby: Annotated[str, typer.Option(help="Properties to order by, with commas between.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON, a line for each row.")] = False,
) -> None:
    """Read rows from Tribe's API."""
    rows: list[dict[str, Any]] = []
    async with managing_one(named) as manager, manager.session() as session:
        query = odata.pages(
            session,
            path,
            select=_names(select),
            filter=filter_,
            orderby=_names(orderby),
            top=top,
            give_up_after=PATIENCE,
        )
        async with aclosing(query) as pages:
            async for page in pages:
                rows += page.rows
                if len(rows) >= top:
                    break
    rows = rows[:top]
    if as_json:
        for row in rows:
            write_line(harmless(json.dumps(row, ensure_ascii=False)))  # escaped as in JSON: the values are the same
    else:
        console().print(table_of(rows) if rows else "no rows")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
