"""What a write makes of a record: its next version, and the record with it. For every store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from tribe_oauth.stores._contract import Record

# Every save makes a record. A constructor call that is compiled once, with an expression for each field, takes half of
# the time that a loop over the fields takes, and two thirds of that of `attrs.evolve`.


def constructor(parameters: str, fields: Mapping[str, str]) -> Any:
    """A function of these parameters that makes a record, each field by an expression."""
    arguments = ", ".join(f"{name}={expression}" for name, expression in fields.items())
    names = {"Record": Record, "flags": {0: False, 1: True}}
    return eval(f"lambda {parameters}: Record({arguments})", names)  # noqa: S307 (of names in this package)


SAME: Final = {field.name: f"record.{field.name}" for field in attrs.fields(Record)}
"""The expression of each field that stays as it is in ``record``."""

written: Callable[[Record, int, float], Record] = constructor(
    "record, version, lease_left", SAME | {"version": "version", "lease_left": "lease_left"}
)
"""The record as `TokenStore.swap` returns it, given its version and the seconds that its lease has left."""


def next_version(version: int, now: float) -> int:
    """The version of the next write of what has this one: Unix microseconds, or one more, where the clock is behind.

    No write before can have had it, also where the store was emptied or put back since: a writer that had read what was
    lost does not match what came after. `now`: seconds.
    """
    return max(version + 1, int(now * 1_000_000))
