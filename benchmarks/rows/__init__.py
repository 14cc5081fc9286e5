"""The rows of the table, in its order. Each is a coroutine that takes an effort and gives results.

An effort of 1 is the whole row; smaller ones are for trying it out, and their figures mean little.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any, Final, cast

from benchmarks.results import Results

Row = Callable[[float], Coroutine[Any, Any, Results]]

NAMES: Final = (
    "request",
    "handler",
    "token",
    "waiters",
    "refreshes",
    "held",
    "saves",
    "start",
    "processes",
    "sync",
    "export",
    "growth",
)


def row(name: str) -> Row:
    """The row of this name. Imported only now: what a row imports would count in another's memory."""
    return cast("Row", import_module(f"benchmarks.rows.{name}").measure)


def scaled(full: int, effort: float, least: int = 1) -> int:
    """So many at full effort."""
    return max(least, round(full * effort))
