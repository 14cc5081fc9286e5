"""Functions of the API (OData Protocol 4.0 §11.5.3), which only read. Imported by nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

from aiohttp import ClientSession

from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._exchange import exchange
from tribe_oauth.odata._query import Query, literal
from tribe_oauth.odata._retries import GIVE_UP_AFTER, patiently
from tribe_oauth.odata._typed import structurer

Result = TypeVar("Result")


@overload
async def call(
    session: ClientSession,
    function: str,
    parameters: Mapping[str, object] | None = ...,
    *,
    select: Iterable[str] = ...,
    expand: Iterable[str] = ...,
    give_up_after: float = ...,
) -> Any: ...


@overload
async def call(
    session: ClientSession,
    function: str,
    parameters: Mapping[str, object] | None = ...,
    *,
    select: Iterable[str] = ...,
    expand: Iterable[str] = ...,
    type: type[Result],
    give_up_after: float = ...,
) -> Result | None: ...


async def call(
    session: ClientSession,
    function: str,
    parameters: Mapping[str, object] | None = None,
    *,
    select: Iterable[str] = (),
    expand: Iterable[str] = (),
    type: type[Any] = dict,  # noqa: A002 (what an entity becomes)
    give_up_after: float = GIVE_UP_AFTER,
) -> Any:
    """Call a function, as in ``GetCurrentEmployee``, and give what it returns: an entity, a value, a list, or None.

    `function`: its name, alone or below an entity's path. `select` and `expand` are those of `Query`.
    `type`: an attrs class, where it returns an entity. What passes by itself is tried again for
    `give_up_after` seconds, as for `rows`. Raises ODataError, ConfigurationError, and errors of the session's own
    middlewares unchanged.
    """
    structure = None if type is dict else structurer(type)
    name = function.removesuffix("()")
    query = Query(f"{name}({_inside(parameters or {})})", select=select, expand=expand, exact=structure is not None)
    reply = await patiently(
        lambda: exchange(session, "GET", query.url(), exact=query.exact),
        "a function is called",
        give_up_after=give_up_after,
    )
    if reply.entity is None:
        return None
    own = {name: value for name, value in reply.entity.items() if not name.startswith("@")}
    if structure is not None:
        return structure(own, query)
    return own["value"] if own.keys() == {"value"} else own


def _inside(parameters: Mapping[str, object]) -> str:
    """Parameters as they stand between the parentheses (OData URL Conventions 4.0 §5.1.1.8.2)."""
    written = [f"{name}={literal(value)}" for name, value in parameters.items()]
    if any("/" in text for text in written):
        raise ConfigurationError("a slash in a function's parameter would end the path: OData has no form for it")
    return ",".join(written)
