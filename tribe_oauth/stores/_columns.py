"""The columns of a stored record: the one table that every store is built from, derived from `Record` itself.

A database's schema, its statements, its values and the records it reads all follow from `COLUMNS`, and so does what
stays readable when a record is encrypted. A field that is added to `Record` is stored by all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from types import NoneType
from typing import Any, Final, get_args, get_type_hints

import attrs

from tribe_oauth.errors import UnreadableError
from tribe_oauth.stores._contract import Record, RecordStatus, Unreadable, unreadable

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


# Every save makes a record. A constructor call that is compiled once, with an expression for each field, takes half of
# the time that a loop over the fields takes, and two thirds of that of `attrs.evolve`.


def _constructor(parameters: str, fields: Mapping[str, str]) -> Any:
    """A function of these parameters that makes a record, each field by an expression."""
    arguments = ", ".join(f"{name}={expression}" for name, expression in fields.items())
    return eval(f"lambda {parameters}: Record({arguments})", {"Record": Record})  # noqa: S307 (of names in this file)


_SAME: Final = {field.name: f"record.{field.name}" for field in attrs.fields(Record)}
_TYPES_READ: Final[dict[type, str]] = {float: "(float, int)"}
_CHECKS: Final = [
    f"(record.{column.name}.__class__ in {_TYPES_READ.get(column.kind, f'({column.kind.__name__},)')}"
    f"{f' or record.{column.name} is None' if column.nullable else ''})"
    for column in COLUMNS
]
_is_sound: Final[Callable[[Record], bool]] = eval(  # noqa: S307 (of names in this file)
    f"lambda record: record.status in statuses and {' and '.join(_CHECKS)}", {"statuses": get_args(RecordStatus)}
)
_READ_BY: Final = {bool: "bool", bytes: "bytes"}  # databases have integers and buffers for them
_OF_ROW: Final = {column.name: f"{_READ_BY.get(column.kind, '')}(row[{at}])" for at, column in enumerate(COLUMNS)}
_GIVEN: Final = {name: name for name in ("organization", "lease_left", "payload")}

_from_row: Callable[[str, Sequence[Any], float], Record] = _constructor(
    "organization, row, lease_left", _GIVEN | _OF_ROW
)


def from_row(organization: str, row: Sequence[Any], lease_left: float) -> Record:
    """The record of an organization, of a row that begins with the columns, and of the seconds that its lease has left.

    Of values that no store of ours wrote, what there is: see `altered`.
    """
    try:
        record = _from_row(organization, row, lease_left)
        if _is_sound(record):
            return record
    except (TypeError, ValueError, LookupError, OverflowError):
        pass
    return altered(organization, **dict(zip(NAMES, row, strict=False)))


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
    return type(value) is int and 0 <= value < 2**53  # none gets there; from there on some databases cannot count


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


written: Callable[[Record, float], Record] = _constructor(
    "record, lease_left", _SAME | {"version": "record.version + 1", "lease_left": "lease_left"}
)
"""The record as `TokenStore.swap` returns it, given the seconds that its lease has left."""


def begun(record: Record, now: float) -> Record:
    """A record before its first write, with a version that none before it had, also where the store was emptied since.

    Else a writer that had read what was lost could write over what came after it. `now`: seconds; they become
    microseconds, of which each write takes one.
    """
    return attrs.evolve(record, version=int(now * 1_000_000))


with_payload: Callable[[Record, bytes], Record] = _constructor("record, payload", _SAME | {"payload": "payload"})
"""The same record with another payload."""
