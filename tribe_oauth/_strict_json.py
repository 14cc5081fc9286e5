"""What this library stores, from attrs classes to JSON and back: one converter, strict, with one kind of error.

For records' payloads, checkpoints, copies of records, kept authorization requests. A number is not taken for text, nor
text for a number; members that are not known are ignored, since a later version may have written them.

A flipped bit in a token's text is still JSON. So what a store keeps has a check value before it. It is here, and not in
a column, because every store has it this way, those of users too, and because it covers the whole way from `to_stored`
to `from_stored`: encryption, copies, drivers. It is no seal: whoever can write the store can compute it.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import attrs

if TYPE_CHECKING:
    import cattrs

T = TypeVar("T")
_AS_TEXT: Final[dict[type, Callable[[Any], str]]] = {}
_CHECKED: Final = 8
"""Bytes of a check value: CRC-32 (RFC 1952 §8) as hexadecimal digits, which finds every burst of up to 32 bits."""


class MalformedError(Exception):
    """Text that cannot be what it should be. It says nothing of the text, which may have secrets in it."""


def written_as_text(kind: type[T], text_of: Callable[[T], str]) -> None:
    """Have a class that is made from a text stored as that text. To be called where the class is defined."""
    _AS_TEXT[kind] = text_of


def to_json(value: Any) -> bytes:
    """An attrs instance as JSON, secrets included: where it is written has to be protected."""
    return _encode(_converter().unstructure(value)).encode()


def from_json(text: bytes | str, kind: type[T], *, complete: bool = False) -> T:
    """An instance of an attrs class from the JSON that `to_json` wrote. Raises MalformedError.

    A member that is missing takes its field's default; `complete`: every field has to be there.
    """
    value = _structured(text, kind, complete)
    del text  # what crash reporters show of this frame has no secret
    return _well_formed(value, kind)


def to_stored(value: Any) -> bytes:
    """The JSON of an attrs instance behind a check value."""
    text = to_json(value)
    return _check_value(text) + text


def from_stored(stored: bytes, kind: type[T]) -> T:
    """An instance of an attrs class from what `to_stored` wrote, to the bit. Raises MalformedError."""
    value = _structured(stored[_CHECKED:], kind, False) if _is_whole(stored) else None
    del stored  # as above
    return _well_formed(value, kind)


def _check_value(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)


def _is_whole(stored: bytes) -> bool:
    return stored[:_CHECKED] == _check_value(stored[_CHECKED:]) and (b"\\" not in stored or _is_text(stored))


def _is_text(stored: bytes) -> bool:
    """Not so of half a character, which JSON can name: it can be read, and neither sent nor written again."""
    try:
        json.dumps(_decode(str(stored[_CHECKED:], "utf-8")), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _well_formed(value: T | None, kind: type[T]) -> T:
    if value is None:
        raise MalformedError(f"this is not the JSON of {kind.__name__}")
    return value


def _structured(text: bytes | str, kind: type[T], complete: bool) -> T | None:
    from cattrs.errors import CattrsError  # not before: see `_converter`

    try:
        members = _decode(str(text, "utf-8") if isinstance(text, bytes) else text)
        if complete and not _names(kind) <= members.keys():
            return None
        return _converter().structure(members, kind)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError, CattrsError):
        return None


def _names(kind: Any) -> frozenset[str]:
    return frozenset(field.name for field in attrs.fields(kind))


@cache
def _converter() -> cattrs.Converter:
    """Made when it is first needed: with cattrs it would be a third of the time that importing the library takes."""
    import cattrs

    converter = cattrs.Converter(detailed_validation=False, unstruct_collection_overrides={frozenset: sorted})
    for plain in (str, int, bool):
        converter.register_structure_hook(plain, _as_it_is)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(bytes, _from_base64)
    converter.register_unstructure_hook(bytes, lambda value: base64.b64encode(value).decode())
    for kind, text_of in _AS_TEXT.items():
        converter.register_structure_hook(kind, _from_text)
        converter.register_unstructure_hook(kind, text_of)
    converter.register_structure_hook_func(lambda kind: kind == frozenset[str], _words)
    return converter


def _as_it_is(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError
    return value


def _from_text(value: Any, kind: Callable[[str], T]) -> T:
    return kind(_as_it_is(value, str))


def _number(value: Any, _: object) -> float:
    if type(value) not in {int, float}:
        raise TypeError
    return float(value)


def _from_base64(value: Any, _: object) -> bytes:
    try:
        return base64.b64decode(_as_it_is(value, str), validate=True)
    except binascii.Error:
        raise ValueError from None


def _words(value: Any, _: object) -> frozenset[str]:
    if type(value) is not list or not all(type(word) is str for word in value):
        raise TypeError  # it could be read now, and not be written after a refresh token was spent
    return _shared(tuple(value))


# Thousands of organizations have the same few scopes: a copy for each would take more room than their tokens.
_shared = lru_cache(maxsize=512)(frozenset[str])


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_decode = json.JSONDecoder(parse_constant=_no_constant).decode
