"""Where a read goes on, as text for a checkpoint, and what had come and was promised by then.

A read that goes on in another process decides its end as one does that was never interrupted. Imported by the rooms
that read pages, and by `sync`, which reads several parts of one set.
"""

from __future__ import annotations

import json
from typing import Any, Final, Self

import attrs

from tribe_oauth.errors import ConfigurationError

Key = str | int
_NUMBER: Final = (int, type(None))
_KEY: Final = (str, int, type(None))
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "rows": _NUMBER,
    "last": _KEY,
    "before": _KEY,
    "sure": (bool,),
    "skip": _NUMBER,
    "recent": (str,),
    "link": (str, type(None)),
    "ordered": (bool,),
    "got": (int,),
    "longest": (int,),
    "left": _NUMBER,
    "mark": _NUMBER,
}


@attrs.frozen(kw_only=True)
class Place:
    """Where a read goes on: behind the key `last` and in front of the key `before`, at a `skip`, or at a `link`.

    `rows`: how many came; None: not known, as in a part. `sure`: the service has shown that it knows this way.
    `recent`: of the last rows, to see them come again. `ordered`: by the key.
    `got`: rows since the last request that was no link; `longest`: most rows that one has given. `left`: how many the
    last count promised beyond what has come. `mark`: of what the last page begins with.
    """

    rows: int | None = 0
    last: Key | None = None
    before: Key | None = None
    sure: bool = False
    skip: int | None = None
    recent: str = ""
    link: str | None = None
    ordered: bool = True
    got: int = 0
    longest: int = 0
    left: int | None = None
    mark: int | None = None

    @classmethod
    def at(cls, position: str) -> Self:
        """As it is written. The path of a link alone is a position too. Raises ConfigurationError."""
        if position.startswith("/"):
            return cls(link=position, rows=None, ordered=False)
        return cls.of(_parsed(position))

    @classmethod
    def of(cls, members: object) -> Self:
        """From the members that are written. Raises ConfigurationError."""
        if not isinstance(members, dict) or not members.keys() <= _TYPES.keys():
            raise no_position()
        for name, value in members.items():
            if type(value) not in _TYPES[name] or (
                type(value) is int and name != "left" and name not in _KEYS and value < 0
            ):
                raise no_position()
        place = cls(**members)
        if place.last is None and place.skip is None and place.link is None:
            raise no_position()
        return place

    def __str__(self) -> str:
        members = {name: value for name in _TYPES if (value := getattr(self, name)) != _DEFAULTS[name]}
        return json.dumps(members, separators=(",", ":"))

    @property
    def begins_a_part(self) -> bool:
        """Whether a part begins there: nothing came before it."""
        return self.skip is not None and self.rows is None

    @property
    def is_fresh(self) -> bool:
        """Whether it follows the first page of a part that ends where another begins: there are rows in between."""
        return self.before is not None and self.left is None and self.rows is None

    @property
    def is_by_key(self) -> bool:
        """Whether it goes on by the key, in a way that the service has shown to know."""
        return self.sure and self.last is not None and self.skip is None and self.link is None


_KEYS: Final = frozenset({"last", "before"})
_DEFAULTS: Final[dict[str, Any]] = {field.name: field.default for field in attrs.fields(Place)}


def parts_at(position: str) -> list[str]:
    """The positions of the parts that one was joined from. Raises ConfigurationError."""
    members = _parsed(position) if position.startswith("[") else None
    if members is None:
        return [position]
    if not isinstance(members, list) or not members:
        raise no_position()
    return [str(Place.of(part)) for part in members]


def joined(positions: list[str]) -> str | None:
    """The position of a read that goes on at all of these; None where there are none."""
    return None if not positions else positions[0] if len(positions) == 1 else f"[{','.join(positions)}]"


def no_position() -> ConfigurationError:
    """The error for a text that is none."""
    return ConfigurationError("`start` is no position of a read: give the `next` of a page")


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise no_position() from None
