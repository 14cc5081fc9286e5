"""The query of a request: OData's system query options, read and checked against the entity set. For `_odata`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from attrs import frozen

from tribe_oauth.sandbox._filter import ALL, Condition, Follow, compile_filter
from tribe_oauth.sandbox._literals import FilterError
from tribe_oauth.sandbox._model import ENTITY_SETS, EntitySet
from tribe_oauth.sandbox._problems import ProblemError
from tribe_oauth.sandbox._rules import ApiRules

_OPTIONS: Final = {
    *("$top", "$skip", "$filter", "$select", "$orderby", "$expand", "$count", "$skiptoken"),
    *("$format", "$search"),
}


@frozen
class Shape:
    """What is shown of an entity. `select` empty: all of its properties. `expand`: what stands under a link's name.

    `keyless`: the ID was not selected; it is shown all the same.
    """

    entity_set: EntitySet
    select: tuple[str, ...] = ()
    keyless: bool = False
    expand: tuple[tuple[str, Shape], ...] = ()


@frozen
class Query:
    """The system query options of one request. `orderby`: names, each with whether it is backwards."""

    shape: Shape
    top: int | None = None
    skip: int = 0
    condition: Condition = ALL
    orderby: tuple[tuple[str, bool], ...] = ()
    count: bool = False
    skiptoken: str | None = None


def options_of(raw: str) -> dict[str, str]:
    """The query, only percent-decoded: a plus sign is not a space in services of this kind."""
    options: dict[str, str] = {}
    for pair in filter(None, raw.split("&")):
        name, _, value = pair.partition("=")
        name = unquote(name)
        if name.startswith("$"):
            if name not in _OPTIONS:
                raise ProblemError(400, f"The query option {name} is not supported")
            if name in options:
                raise ProblemError(400, f"The query option {name} is given twice")
        options[name] = unquote(value)
    return options


def query_of(options: dict[str, str], entity_set: EntitySet, follow: Follow, rules: ApiRules) -> Query:
    """The query. Raises ProblemError."""
    condition = ALL
    if "$filter" in options:
        try:
            condition = compile_filter(options["$filter"], entity_set, follow, rules)
        except RecursionError:
            raise ProblemError(400, "The filter cannot be read: it is too deep") from None
        except FilterError as error:
            raise ProblemError(error.status, f"The filter cannot be read: {error}") from None
    if options.get("$count", "false") not in {"true", "false"}:
        raise ProblemError(400, "$count is true or false")
    return Query(
        shape=shape_of(entity_set, options.get("$select"), options.get("$expand")),
        top=_whole(options, "$top"),
        skip=_whole(options, "$skip") or 0,
        condition=condition,
        orderby=tuple(_order(part, entity_set) for part in options.get("$orderby", "").split(",") if part.strip()),
        count=options.get("$count") == "true",
        skiptoken=options.get("$skiptoken"),
    )


def shape_of(entity_set: EntitySet, select: str | None, expand: str | None) -> Shape:
    """What `$select` and `$expand` show of an entity. Raises ProblemError."""
    names = tuple(name.strip() for name in select.split(",")) if select is not None else ()
    unknown = {*names} - {*entity_set.kinds, *entity_set.links, *entity_set.files, "*"}
    if unknown:
        raise ProblemError(400, f"{entity_set.name} has no property {min(unknown)!r}")
    return Shape(
        entity_set,
        () if "*" in names or not names else tuple(name for name in entity_set.kinds if name == "ID" or name in names),
        bool(names) and not {"*", "ID"} & {*names},
        tuple(_expanded(part, entity_set) for part in _split(expand or "", ",")),
    )


def _expanded(text: str, entity_set: EntitySet) -> tuple[str, Shape]:
    name, _, rest = text.strip().partition("(")
    target = FILE if name in entity_set.files else None
    if name in entity_set.links:
        target = ENTITY_SETS[entity_set.links[name].target]
    if target is None or (rest and not rest.endswith(")")):
        raise ProblemError(400, f"{entity_set.name} cannot be expanded by {text!r}")
    nested = dict(part.strip().partition("=")[::2] for part in _split(rest[:-1], ";"))
    if unknown := nested.keys() - {"$select", "$expand"}:
        raise ProblemError(400, f"{min(unknown)} is not supported inside of $expand")
    return name, shape_of(target, nested.get("$select"), nested.get("$expand"))


FILE: Final = EntitySet("File", None, {"Name": "string", "MimeType": "string", "Url": "string", "Data": "string"}, {})
"""A file as JSON."""


def _split(text: str, mark: str) -> Iterator[str]:
    """The parts between marks that are not in parentheses. Raises ProblemError."""
    depth, start = 0, 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character == mark and depth == 0:
            yield text[start:at]
            start = at + 1
    if depth != 0:
        raise ProblemError(400, f"The parentheses in {text!r} do not match")
    if text[start:]:
        yield text[start:]


def _whole(options: dict[str, str], name: str) -> int | None:
    value = options.get(name)
    if value is None:
        return None
    if not value.isdecimal() or len(value) > 9:
        raise ProblemError(400, f"{name} is a whole number, not negative")
    return int(value)


def _order(part: str, entity_set: EntitySet) -> tuple[str, bool]:
    name, _, direction = part.strip().partition(" ")
    if name not in entity_set.kinds or direction not in {"", "asc", "desc"}:
        raise ProblemError(400, f"{entity_set.name} cannot be ordered by {part.strip()!r}")
    return name, direction == "desc"
