"""Values of rows as the types of a class: exact, or refused. Imported by `_rows`.

JSON has text, numbers, and nothing else for the rest of OData's types (OData JSON Format 4.0 §7.1).
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin
from uuid import UUID

import cattrs
from cattrs.cols import is_sequence, list_structure_factory
from cattrs.errors import AttributeValidationNote, CattrsError, IterableValidationNote, StructureHandlerNotFoundError

from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._answer import ODataError
from tribe_oauth.odata._inside import name_of
from tribe_oauth.odata._json import Number
from tribe_oauth.odata._query import Query

_WHOLE: Final = re.compile(r"-?\d{1,40}", re.ASCII)
_WHOLE_WITH_A_FRACTION: Final = re.compile(r"(-?\d{1,40})\.0+", re.ASCII)
_DECIMAL: Final = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_DURATION: Final = re.compile(  # XML Schema's dayTimeDuration, down to a datetime's own microseconds
    r"(-?)P(?=.)(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,6})0*)?S)?)?", re.ASCII
)
_TOO_FINE: Final = re.compile(r"\.\d{6}\d*[1-9]", re.ASCII)
_WORDS: Final = {"INF": math.inf, "-INF": -math.inf, "NaN": math.nan}


def structurer(kind: type[Any]) -> Callable[[dict[str, Any], Query], Any]:
    """A function from a row, and the query that it answers, to an instance of an attrs class.

    It raises ODataError for a row that does not fit. Raises ConfigurationError for a class that no row can become.
    """
    try:
        hook = _CONVERTER.get_structure_hook(kind)
    except (CattrsError, TypeError, NameError) as error:
        unknown = str(error)
    else:
        return lambda row, query: _structure(hook, row, kind, query)
    raise _cannot_become(kind, unknown)


def _cannot_become(kind: type[Any], why: str) -> ConfigurationError:
    return ConfigurationError(
        f"rows cannot become {kind.__name__}: {why.partition('. Register')[0]}; give the field a type that OData has,"
        " such as str, int, float, bool, Decimal, UUID, datetime, date, time, timedelta, bytes, or another such class"
    )


def _structure(hook: Callable[[Any, Any], Any], row: dict[str, Any], kind: type[Any], query: Query) -> Any:
    try:
        return hook(row, kind)
    except cattrs.BaseValidationError as error:
        field, cause = _innermost(error)
    # After the handler: cattrs' errors carry the values, and would travel in this one's context.
    if isinstance(cause, StructureHandlerNotFoundError):
        raise _cannot_become(kind, str(cause))
    raise ODataError(f"{name_of(row, query)} does not fit {kind.__name__}: {field}")


def _innermost(error: BaseException) -> tuple[str, BaseException]:
    """The path of the first field that does not fit, as in ``field Address.City``, and its own error."""
    names: list[str] = []
    while isinstance(error, cattrs.BaseValidationError):
        error = error.exceptions[0]
        names += [
            str(note.name if isinstance(note, AttributeValidationNote) else note.index)
            for note in getattr(error, "__notes__", ())
            if isinstance(note, AttributeValidationNote | IterableValidationNote)
        ]
    return f"field {'.'.join(names)}" if names else "the class's own check refused it", error


# From JSON. Each raises TypeError, ValueError or ArithmeticError for what is not exactly of the type.


def _as_it_is(value: Any, kind: type[Any]) -> Any:
    """The value itself: cattrs would turn None into text and True into an int."""
    if type(value) is not kind:
        raise TypeError
    return value


def _int(value: Any, _: object) -> int:
    """A whole number, also one of 64 bits in quotes (IEEE754Compatible), or written with a fraction of zeros."""
    if type(value) is int:
        return value
    if isinstance(value, Number) and (found := _WHOLE_WITH_A_FRACTION.fullmatch(value.text)):
        return int(found[1])
    return int(_matching(_WHOLE, value))


def _float(value: Any, _: object) -> float:
    """The nearest one, as everywhere; what is too large for one has none."""
    if type(value) is str:
        return _WORDS[value]
    if type(value) not in {int, float, Number} or not math.isfinite(value):
        raise TypeError
    return float(value)


def _decimal(value: Any, _: object) -> Decimal:
    """From a number's own digits, or from text, where the service sends decimals as text."""
    if type(value) is int:
        return Decimal(value)
    text = value.text if isinstance(value, Number) else value
    return Decimal(_WORDS[text]) if text in _WORDS else Decimal(_matching(_DECIMAL, text))


def _uuid(value: Any, _: object) -> UUID:
    return UUID(_as_it_is(value, str))


def _moment(value: Any, kind: Any) -> Any:
    """A date, a time, or both. Python would drop what is finer than microseconds."""
    if _TOO_FINE.search(_as_it_is(value, str)):
        raise ValueError
    return kind.fromisoformat(value)


def _duration(value: Any, _: object) -> timedelta:
    if (found := _DURATION.fullmatch(_as_it_is(value, str))) is None:
        raise ValueError
    sign, days, hours, minutes, seconds, fraction = found.groups()
    duration = timedelta(
        days=int(days or 0),
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=int(seconds or 0),
        microseconds=int((fraction or "0").ljust(6, "0")),
    )
    return -duration if sign else duration


def _binary(value: Any, _: object) -> bytes:
    """Base64, in OData's alphabet for URLs or in the usual one, with or without its padding."""
    text = _as_it_is(value, str).rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if pattern.fullmatch(_as_it_is(value, str)) is None:
        raise ValueError
    return str(value)


_HOOKS: Final[dict[Any, Callable[[Any, Any], Any]]] = {
    str: _as_it_is,
    bool: _as_it_is,
    int: _int,
    float: _float,
    Decimal: _decimal,
    UUID: _uuid,
    datetime: _moment,
    date: _moment,
    time: _moment,
    timedelta: _duration,
    bytes: _binary,
}


def _is_choice(kind: Any) -> bool:
    """Whether it is several of these types, as in ``int | str``: Tribe writes some numbers in both ways."""
    members = set(get_args(kind)) - {NoneType}
    return get_origin(kind) in {Union, UnionType} and len(members) > 1 and members <= _HOOKS.keys()


def _chosen(value: Any, kind: Any) -> Any:
    """The value as it is, where its own type is among them; else the first that it fits."""
    members = get_args(kind)
    if type(value) in members:
        return value
    for member in members:
        try:
            return _HOOKS[member](value, member)
        except (TypeError, ValueError, LookupError, ArithmeticError):
            continue
    raise TypeError


def _list_factory(kind: Any, converter: Any) -> Callable[[Any, Any], Any]:
    """A list from a list: cattrs would take a text letter by letter."""
    structure = list_structure_factory(kind, converter)
    return lambda value, kind: structure(_as_it_is(value, list), kind)


_CONVERTER: Final = cattrs.Converter()
for _kind, _hook in _HOOKS.items():
    _CONVERTER.register_structure_hook(_kind, _hook)
_CONVERTER.register_structure_hook_func(_is_choice, _chosen)
_CONVERTER.register_structure_hook_factory(is_sequence, _list_factory)
