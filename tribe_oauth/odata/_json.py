"""Parsing of pages: by msgspec where it is installed, which takes half the time. Imported by `_answer` and `_rows`.

A float has fewer digits than a number of the API can have. `Number` keeps all of them, for those who ask for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from operator import methodcaller
from typing import Any, Final, Self

import attrs


class Number(float):
    """A float that keeps its digits. `text`: the number as the API wrote it, as in ``34.50`` or ``1e999``."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number

    @property
    def is_json(self) -> bool:
        """Whether JSON has this number. Python's parser takes ``NaN`` and ``Infinity`` as well."""
        return self.text[-1].isdigit()


@attrs.define
class Parsed:
    """A JSON value. `odd`: with a `Number` that nobody can be given, or from another text than UTF-8."""

    value: Any
    odd: bool = False


Parse = Callable[[bytes], Parsed]


def raw_row() -> Any:
    """The type of a row that was not parsed; None without msgspec."""
    try:
        from msgspec import Raw
    except ImportError:
        return None
    return Raw


RawRow: Final = raw_row()


def as_dict(row: Any) -> dict[str, Any]:
    """A row with its values, where it is JSON as it came (see `RAW`)."""
    if isinstance(row, dict):
        return row
    members: dict[str, Any] = EXACT(bytes(row)).value
    return members


def parser(*, exact: bool) -> Parse:
    """A function that parses JSON. It raises ValueError or RecursionError.

    `exact`: numbers with a fraction or an exponent are `Number`s. Otherwise they are floats, and `Number`s only where
    no float can hold them.
    """

    def slowly(content: bytes) -> Parsed:
        return _Slow(exact).parse(content)

    try:
        from msgspec import DecodeError
        from msgspec.json import Decoder
    except ImportError:
        return slowly
    quick = Decoder(float_hook=Number if exact else None).decode

    def parse(content: bytes) -> Parsed:
        try:
            return Parsed(quick(content))
        except (DecodeError, UnicodeDecodeError):
            return slowly(content)  # it also takes a byte order mark, half a surrogate pair, and any number

    return parse


@attrs.define
class _Slow:
    """Python's own parser, for one text."""

    exact: bool
    odd: bool = False

    def parse(self, content: bytes) -> Parsed:
        self.odd = not json.detect_encoding(content).startswith("utf-8")
        value = json.loads(
            content,
            parse_float=Number if self.exact else self._fraction,
            parse_int=self._whole,
            parse_constant=self._constant,
        )
        return Parsed(value, self.odd)

    def _fraction(self, text: str) -> float:
        number = float(text)
        if math.isfinite(number):
            return number
        self.odd = True
        return Number(text)

    def _whole(self, text: str) -> float:
        try:
            return int(text)
        except ValueError:  # of more than 4,300 digits, which would take long
            return Number(text) if self.exact else self._fraction(text)

    def _constant(self, text: str) -> Number:
        self.odd = True
        return Number(text)


def splitter() -> Parse:
    """A function that parses a page and leaves each row as it came: `msgspec.Raw`, JSON in one line, of any digits.

    Where that is not possible, the rows are dicts with `Number`s.
    """
    try:
        from msgspec import UNSET, DecodeError, Raw, UnsetType, defstruct, field
        from msgspec.json import Decoder
    except ImportError:
        return EXACT
    controls = [(_CONTEXT, str), (_COUNT, int), (_LINK, str)]
    usual = defstruct(
        "Page",
        [("value", list[Raw])]
        + [
            (f"control{at}", kind | UnsetType, field(default=UNSET, name=name))
            for at, (name, kind) in enumerate(controls)
        ],
        forbid_unknown_fields=True,
    )
    decode: Callable[[bytes], Any] = Decoder(usual).decode

    def parse(content: bytes) -> Parsed:
        # A line break between tokens would end the line of a row, and the quick way does not look at the encoding.
        if b"\n" in content or b"\r" in content:
            return EXACT(content)
        try:
            if not content.isascii():
                content.decode()
            page = decode(content)
        except (DecodeError, UnicodeDecodeError, RecursionError):
            return EXACT(content)
        if not all(map(_IS_OBJECT, map(bytes, page.value))):
            return EXACT(content)
        body = {"value": page.value, _CONTEXT: page.control0, _COUNT: page.control1, _LINK: page.control2}
        return Parsed({name: value for name, value in body.items() if value is not UNSET})

    return parse


_IS_OBJECT: Final = methodcaller("startswith", b"{")
_CONTEXT, _COUNT, _LINK = "@odata.context", "@odata.count", "@odata.nextLink"

PLAIN: Final = parser(exact=False)
EXACT: Final = parser(exact=True)
RAW: Final = splitter()
