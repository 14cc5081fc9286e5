"""How values are spelled, where it is not known how Tribe does it: fractions of seconds, and doubles. For `_data`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from tribe_oauth.sandbox._generated import Row
from tribe_oauth.sandbox._model import EntitySet
from tribe_oauth.sandbox._rules import ApiRules

_DIGITS: Final = {"none": 0, "milliseconds": 3, "ticks": 7}


def spelled(row: Row, entity_set: EntitySet, rules: ApiRules, chance: int) -> Row:
    """The row as the rules have it. `chance`: a byte, which a fraction is made from."""
    if rules.fraction == "none" and rules.doubles == "34.0":
        return row
    for name, kind in entity_set.kinds.items():
        value = row[name]
        if kind == "double" and value is not None:
            row[name] = double(value, rules)
        elif kind == "stamp" and value is not None and len(value) == 20:
            row[name] = f"{value[:-1]}{_fraction(chance * 40_000, rules)}Z"
    return row


def double(value: float, rules: ApiRules) -> float | int:
    """A number in a field of floating point."""
    return int(value) if rules.doubles == "34" and float(value).is_integer() else float(value)


def stamp(seconds: float, rules: ApiRules) -> str:
    """A time in Unix seconds as a field has it."""
    whole = int(seconds)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}{_fraction(int((seconds - whole) * 10_000_000), rules)}Z"


def _fraction(ticks: int, rules: ApiRules) -> str:
    """Behind the seconds; without zeros at its end. `ticks`: of 100 nanoseconds."""
    return f".{ticks:07}"[: _DIGITS[rules.fraction] + 1].rstrip("0").rstrip(".")
