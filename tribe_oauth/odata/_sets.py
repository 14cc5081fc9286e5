"""Which entity sets there are: said where one is asked for that is not there. Imported by `_pages`."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from difflib import get_close_matches
from typing import Final, TypeVar

from aiohttp import ClientSession
from yarl import URL

from tribe_oauth.errors import TribeOAuthError
from tribe_oauth.odata._answer import ODataError, get, shown
from tribe_oauth.odata._query import SERVICE_ROOT, Query

Result = TypeVar("Result")

_SAID: Final = 20
"""Names in an error: an organization has hundreds of sets."""
_SET: Final = re.compile(r"(\w+)(\([^)]+\))?(/.*)?")  # not a function, which has empty parentheses
_REFUSALS: Final = frozenset({400, 404})  # the API says "entity type not found" with one of them


async def with_the_sets(reading: Awaitable[Result], session: ClientSession, query: Query) -> Result:
    """What `reading` gives. Its error names the sets that there are, where that of `query` is none of them."""
    try:
        return await reading
    except ODataError as error:
        found = _SET.fullmatch(query.path)
        if error.status not in _REFUSALS or found is None:
            raise
        refusal, name = error, found[1]
    sets = sorted(await _names(session, query))
    if not sets or name in sets:
        raise refusal
    told = refusal.again()
    told.args = (f"{refusal}: there is no entity set {name}; {_those(sets, name)}",)
    raise told


async def _names(session: ClientSession, query: Query) -> list[str]:
    """The names in the service document (OData JSON Format 4.0 §5); none where it cannot be read."""
    try:
        answer = await get(session, query, URL(SERVICE_ROOT))
    except TribeOAuthError:
        return []  # the refusal is the news, and it is raised
    return [name for row in answer.rows if (name := shown(row.get("name"))) is not None]


def _those(sets: list[str], name: str) -> str:
    """All of them, or those that are most like the name."""
    if len(sets) <= _SAID:
        return f"there are {', '.join(sets)}"
    by_small = {known.lower(): known for known in sets}
    near = [by_small[small] for small in get_close_matches(name.lower(), by_small, n=5)]
    most = f", and most like it {'are' if len(near) > 1 else 'is'} {', '.join(near)}" if near else ""
    return f"there are {len(sets)}, listed at {SERVICE_ROOT}{most}"
