"""Lies about the end of a collection, and true words that are easily missed. Imported by `_faults`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final, Literal

from aiohttp import web

Lie = Literal["end", "nothing", "short", "again", "inside", "version", "quoted"]

_Page = dict[str, Any]
_LINK: Final = "@odata.nextLink"
_COUNT: Final = "@odata.count"


def told(lie: Lie, request: web.Request, true: web.Response, number: int) -> web.Response:
    """The answer with a lie in it, the `number`th; as it is, where it is no page or this lie is none."""
    page = json.loads(true.body) if true.status == 200 and isinstance(true.body, bytes) else {}
    if not isinstance(page.get("value"), list):
        return true
    if lie == "nothing":
        return web.Response(status=204)
    if lie == "again" and _LINK in page:
        query = re.sub(r"&again=\d+", "", request.rel_url.raw_query_string)
        page[_LINK] = f"{request.url.with_query(None)}?{query}&again={number}"
    false = _TOLD[lie](page) if lie in _TOLD else page
    return web.Response(body=json.dumps(false).encode(), headers={"Content-Type": true.headers["Content-Type"]})


def _end(page: _Page) -> _Page:
    """No link to the next page."""
    return {name: value for name, value in page.items() if name != _LINK}


def _short(page: _Page) -> _Page:
    """Half of the rows, and no count, where no link says how it goes on."""
    if _LINK in page:
        return page
    left = {name: value for name, value in page.items() if name != _COUNT}
    return {**left, "value": page["value"][: (len(page["value"]) + 1) // 2]}


def _inside(page: _Page) -> _Page:
    """The first row has a collection that goes on under a link of its own."""
    cut = {"Labels": [], f"Labels{_LINK}": "Labels?$skiptoken=1"}
    return {**page, "value": [{**row, **(cut if at == 0 else {})} for at, row in enumerate(page["value"])]}


def _version(page: _Page) -> _Page:
    """Control information as OData 4.01 may write it."""
    return {name.replace("@odata.", "@"): value for name, value in page.items()}


def _quoted(page: _Page) -> _Page:
    """The count as text, as with IEEE754Compatible."""
    return {**page, _COUNT: str(page[_COUNT])} if _COUNT in page else page


_TOLD: Final[dict[Lie, Callable[[_Page], _Page]]] = {
    "end": _end,
    "short": _short,
    "inside": _inside,
    "version": _version,
    "quoted": _quoted,
}
