"""A crash reporter, as services have one: what it would send home of an exception, with the variables of all frames."""

from __future__ import annotations

import logging
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tribe_oauth

_OURS = str(Path(tribe_oauth.__file__).parent)
_TESTS = str(Path(__file__).parents[1])


def reported(error: BaseException) -> str:
    """The error and all that hang on it, shown or not: texts, fields, and each frame's variables.

    Of a variable there is its repr, and where it is an object of this library, the repr of each attribute but those
    that its class hides from its own. Frames of the tests are left out: they hold what they plant.
    """
    return "\n".join(line for one in chain_of(error) for line in _of(one))


def chain_of(error: BaseException) -> list[BaseException]:
    """An error, its causes, contexts and members."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        at = waiting.pop()
        if at is not None and not any(at is one for one in seen):
            seen.append(at)
            waiting += [at.__cause__, at.__context__, *getattr(at, "exceptions", ())]
    return seen


def _of(error: BaseException) -> Iterator[str]:
    yield from (_shown(error), str(error), _shown(error.args), _shown(vars(error)))
    yield from _attributes(error)
    at: types.TracebackType | None = error.__traceback__
    while at is not None:
        frame, at = at.tb_frame, at.tb_next
        if not frame.f_code.co_filename.startswith(_TESTS):
            yield f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
            for name, value in frame.f_locals.items():
                yield f"    {name} = {_shown(value)}"
                yield from _attributes(value)


def _attributes(value: object) -> Iterator[str]:
    if type(value).__module__.startswith("tribe_oauth") and not isinstance(value, types.ModuleType):
        names = {*getattr(value, "__dict__", ()), *(name for kind in type(value).__mro__ for name in _slots(kind))}
        hidden = {field.name for field in getattr(type(value), "__attrs_attrs__", ()) if not field.repr}
        for name in sorted(names - hidden - {"_value"}):  # of a Secret
            if hasattr(value, name):
                yield f"        .{name} = {_shown(getattr(value, name))}"


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # as reporters do: an object that was never finished cannot show itself
        return f"<no repr: {type(error).__name__}>"


class Reporter(logging.Handler):
    """Hears every record, and reports the exceptions that come with them."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.heard: list[str] = []
        self.reports: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep all that a handler could write of it."""
        self.heard.append(f"{record.name}: {record.getMessage()} {_shown(vars(record))}")
        error: Any = record.exc_info and record.exc_info[1]
        if error:
            self.reports.append(reported(error))
