"""The columns of a stored record: the one table that every database is built from, derived from `Record` itself.

A database's schema, its statements, its values and the records it reads all follow from `COLUMNS`, and so does what
stays readable when a record is encrypted. A field that is added to `Record` is stored by all of them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from types import NoneType
from typing import Any, Final, get_args, get_type_hints

import attrs

from tribe_oauth.errors import StoreError, UnreadableError
from tribe_oauth.stores._contract import MOST, Record, RecordStatus, Unreadable, unreadable
from tribe_oauth.stores._writes import SAME, constructor

logger = logging.getLogger("tribe_oauth.stores")

_NOT_STORED: Final = frozenset({"organization", "lease_left"})
"""The key, which each store writes in its own way, and what is computed when a record is read."""


@attrs.frozen
class Column:
    """What one field of a record is in a database."""

    name: str
    kind: type
    """`str`, `int`, `bool`, `float` or `bytes`."""
    nullable: bool

    @property
    def readable(self) -> bool:
        """Whether it stays readable in an encrypted store, for the refresh to decide by. Bytes are the secrets."""
        return self.kind is not bytes


def _column(name: str, hint: Any) -> Column:
    """The column of a field by its type: ``int``, ``str | None``, or a ``Literal`` of values of one type."""
    types = {part if isinstance(part, type) else type(part) for part in get_args(hint) or (hint,)}
    (kind,) = types - {NoneType}
    return Column(name, kind, NoneType in types)


COLUMNS: Final = tuple(_column(name, hint) for name, hint in get_type_hints(Record).items() if name not in _NOT_STORED)
"""All that is stored beside the key, in the order of the record's fields."""

NAMES: Final = tuple(column.name for column in COLUMNS)

values: Callable[[Record], tuple[Any, ...]] = attrgetter(*NAMES)
"""What a record has in each column, in their order."""


def definitions(types: Mapping[type, str]) -> str:
    """The columns as ``CREATE TABLE`` wants them, given the database's name for each kind."""
    return ", ".join(
        f"{column.name} {types[column.kind]}{'' if column.nullable else ' NOT NULL'}" for column in COLUMNS
    )


_SOUND: Final[dict[type, str]] = {
    str: "{0}.__class__ is str and ({0}.isascii() or encodable({0}))",
    int: "{0}.__class__ is int and 0 <= {0} < most",
    float: "({0}.__class__ is float or {0}.__class__ is int) and -inf < {0} < inf",
    bool: "{0}.__class__ is bool",
    bytes: "{0}.__class__ is bytes",
}
_CHECKS: Final = [
    f"({_SOUND[column.kind]}{' or {0} is None' if column.nullable else ''})".format(f"record.{column.name}")
    for column in COLUMNS
]


def _encodable(text: str) -> bool:
    """Whether it can be written again: JSON has halves of characters."""
    return text == text.encode(errors="ignore").decode()


is_sound: Final[Callable[[Record], bool]] = eval(  # noqa: S307 (of names in this file)
    f"lambda record: record.status in statuses and {' and '.join(_CHECKS)}",
    {"statuses": get_args(RecordStatus), "encodable": _encodable, "most": MOST, "inf": math.inf},
)
"""Whether a record has in each field what a store of ours can have written."""

_READ_BY: Final = {bool: "flags[{}]", bytes: "bytes(memoryview({}))"}  # databases have integers and buffers for them
_OF_ROW: Final = {
    column.name: _READ_BY.get(column.kind, "{}").format(f"row[{at}]") for at, column in enumerate(COLUMNS)
}
_GIVEN: Final = {name: name for name in ("organization", "lease_left", "payload")}

_from_row: Callable[[str, Sequence[Any], float], Record] = constructor(
    "organization, row, lease_left", _GIVEN | _OF_ROW
)


def from_row(organization: str, row: Sequence[Any], remaining: Any, length: Any) -> Record:
    """The record of an organization, of a row that begins with the columns.

    `remaining`, `length`: seconds until its lease ends, by the store's clock, and those that it was taken for.

    Of values that no store of ours wrote, what there is: see `altered`.
    """
    try:
        record = _from_row(organization, row, 0.0)
        if is_sound(record) and record.version:
            left = lease_left(record, remaining, length)
            return _with_left(record, left) if left else record
    except (TypeError, ValueError, LookupError, OverflowError, UnreadableError):
        pass
    return altered(organization, **dict(zip(NAMES, row, strict=False)))


def lease_left(record: Record, remaining: Any, length: Any) -> float:
    """Seconds that its lease has left: no more than it was taken for, whatever became of the clock since.

    Raises UnreadableError for what is no number.
    """
    if record.lease is None:
        return 0.0
    try:
        ends, longest = float(remaining), float(length)
        if math.isfinite(ends) and 0.0 <= longest < math.inf:
            return min(max(ends, 0.0), longest)
    except (TypeError, ValueError, OverflowError):
        pass
    raise unsound(record.organization)


def altered(
    organization: str, *, version: Any, generation: Any = 0, status: Any = None, payload: Any = b"", **_: Any
) -> Record:
    """What there is of a record that something else altered: enough to replace it and to remove it, and no more.

    Its generation is not forgotten where it can be read; where not, that of a new family is Unix time, and so higher.
    Raises UnreadableError where there is not even a version to compare by.
    """
    if not _is_count(version) or version == 0:
        raise unsound(organization)
    return Record(
        organization=organization,
        version=version,
        generation=generation if _is_count(generation) else 0,
        status="disconnected" if status == "disconnected" else "connected",
        payload=Unreadable(bytes(payload) if isinstance(payload, bytes | memoryview) else b"", _ALTERED),
    )


_ALTERED: Final = "was altered by something else; restore it from a backup"


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST


class AlteredError(StoreError):
    """What a server says of a value that no store of ours wrote: of another type, or text in no encoding."""


def unsound(organization: str) -> UnreadableError:
    """That there is nothing of the record of an organization that can be read."""
    return unreadable(organization, _ALTERED)


def keys_of(stored: Iterable[bytes]) -> list[str]:
    """Keys as they are listed. One that no store of ours wrote is logged and left out: the others go on."""
    keys = []
    for key in stored:
        try:
            keys.append(str(key, "utf-8"))
        except (ValueError, TypeError):
            said = "a record was left out whose key is no text (%.80a): remove it from the store"
            logger.error(said, key)  # noqa: TRY400 (the text says all)
    return keys


_with_left: Callable[[Record, float], Record] = constructor("record, lease_left", SAME | {"lease_left": "lease_left"})
