"""What is inside of rows and must not pass in silence: a collection that is cut, a number that is none.

Imported by `_pages` and `_rows`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tribe_oauth.odata._answer import Answer, ODataError, shown, whole
from tribe_oauth.odata._json import Number, as_dict
from tribe_oauth.odata._query import Query

_REMEDY: Final = "read that collection by itself, below its entity"


def check(answer: Answer, query: Query) -> None:
    """Raise ODataError for the first such thing; its text names the row and the field, and shows no value."""
    if answer.odd or _may_be_cut(answer, query):
        for row in map(as_dict, answer.rows):
            for field, fault in _faults(row, query):
                raise ODataError(f"{name_of(row, query)}: field {field} {fault}")


def name_of(row: dict[str, Any], query: Query) -> str:
    """A row's name in errors: where it was read, and its key."""
    return f"{query.path}({shown(row.get(query.key)) or 'key not known'})"


def _may_be_cut(answer: Answer, query: Query) -> bool:
    """Whether there are more links and counts in the bytes than those of the page itself. It takes microseconds."""
    content = answer.content
    if content.count(b'nextLink"') > (answer.next_link is not None):
        return True
    counts = content.count(b'@odata.count"') + content.count(b'@count"') if query.expand else 0
    return counts > (answer.count is not None)


def _faults(row: dict[str, Any], query: Query) -> Iterator[tuple[str, str]]:
    """The fields that are not what they seem to be, and what is wrong with each. Without recursion: at any depth."""
    left: list[tuple[str, object]] = [("", row)]
    for at, value in left:
        match value:
            case dict():
                left += [(f"{at}.{name}".lstrip("."), inner) for name, inner in value.items()]
                yield from ((f"{at}.{name}".lstrip("."), fault) for name, fault in _cut(value, query))
            case list():
                left += [(f"{at}.{number}", inner) for number, inner in enumerate(value)]
            case Number() if not value.is_json:
                yield at, "has no number that JSON knows, but NaN or an infinity"
            case Number() if not query.exact:
                yield at, "has a number that is too large for a float: read it as a Decimal of a class, or export it"


def _cut(entity: dict[str, Any], query: Query) -> Iterator[tuple[str, str]]:
    """The collections of an entity that are not whole, by what is noted beside them (OData JSON Format 4.0 §4.5)."""
    is_limited = any(option in part for part in query.expand for option in ("$top", "$skip"))
    for note, value in entity.items():
        name, _, kind = note.rpartition("@")
        rows = entity.get(name)
        if not name or value is None:
            continue
        if kind in {"odata.nextLink", "nextLink"}:
            yield name, f"is not whole, the rest has a link of its own: {_REMEDY}"
        elif kind in {"odata.count", "count"} and isinstance(rows, list) and not is_limited:
            promised = whole(value) or 0
            if len(rows) < promised:
                yield name, f"has {len(rows)} of {promised} entries: {_REMEDY}"
