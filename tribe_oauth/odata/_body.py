"""What is written, as JSON: the fields of an attrs instance or a dict, and files in base64, read while they are sent.

Imported by `_exchange` and by the modules of what is written.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from threading import Lock
from typing import Any, BinaryIO, Final
from uuid import UUID

import attrs

from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._json import Number
from tribe_oauth.odata._query import in_utc

_MICROSECOND: Final = timedelta(microseconds=1)


@attrs.frozen(eq=False)
class File:
    """A file as the value of a field, sent in base64 and read while it is sent, from where it stands.

    `content`: bytes, or a binary file that can be wound back; it is not closed. `mime_type` has to match the content,
    as in ``image/jpeg``. Raises ConfigurationError.
    """

    content: bytes | BinaryIO = attrs.field(repr=False)
    name: str = attrs.field(kw_only=True)
    mime_type: str = attrs.field(kw_only=True)
    size: int = attrs.field(init=False, eq=False)
    _begins: int = attrs.field(init=False, repr=False, eq=False)
    _turn: Lock = attrs.field(factory=Lock, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        try:
            begins, size = (0, len(self.content)) if isinstance(self.content, bytes) else _extent(self.content)
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigurationError(
                f"a file to send is bytes, or a binary file that can be wound back ({type(error).__name__}): write"
                " what comes from elsewhere to a file of your own first"
            ) from None
        object.__setattr__(self, "_begins", begins)
        object.__setattr__(self, "size", size)

    def read_at(self, offset: int, size: int) -> bytes:
        """These bytes of it. Raises OSError where there are fewer now."""
        size = min(size, self.size - offset)
        if isinstance(self.content, bytes):
            return self.content[offset : offset + size]
        with self._turn:  # an attempt that was given up may still read
            self.content.seek(self._begins + offset)
            found = self.content.read(size)
        if len(found) < size:
            raise OSError("the file became shorter while it was sent")
        return found


def _extent(file: BinaryIO) -> tuple[int, int]:
    """Where it stands, and how many bytes follow."""
    begins = file.tell()
    size = file.seek(0, io.SEEK_END) - begins
    file.seek(begins)
    return begins, size


def fields_of(entity: object) -> dict[str, Any]:
    """The fields to write. An attribute that is None is left out; in a dict, None is written.

    Raises ConfigurationError for what is neither an attrs instance nor a dict.
    """
    if isinstance(entity, Mapping):
        return dict(entity)
    if isinstance(entity, type) or not attrs.has(type(entity)):
        raise ConfigurationError(
            f"what is written is a dict or an instance of an attrs class, and not of type {type(entity).__name__}"
        )
    return {name: value for name, value in _attributes(entity) if value is not None}


def _attributes(instance: Any) -> Iterator[tuple[str, Any]]:
    return ((field.name, getattr(instance, field.name)) for field in attrs.fields(type(instance)))


def makes_others(value: object, *, inside: bool = False) -> bool:
    """Whether it creates further entities: an object without an ID, below the first one. A file is none."""
    if isinstance(value, list | tuple):
        return any(makes_others(item, inside=True) for item in value)
    if isinstance(value, File) or not _is_object(value):
        return False
    fields = fields_of(value)
    return (inside and fields.get("ID") is None) or any(makes_others(item, inside=True) for item in fields.values())


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping) or (attrs.has(type(value)) and not isinstance(value, type))


def pieces(fields: Mapping[str, Any]) -> list[bytes | File]:
    """The JSON of these fields: text in UTF-8, and between it the files, whose base64 is not made yet.

    Raises ConfigurationError, whose text names the field and shows no value.
    """
    found: list[bytes | File] = []
    text: list[str] = []
    for part in _parts(fields, ""):
        if isinstance(part, str):
            text.append(part)
        else:
            found += ["".join(text).encode(), part]
            text = []
    return [*found, "".join(text).encode()]


def _parts(value: Any, at: str) -> Iterator[str | File]:
    match value:
        case File():
            yield '{"Data":"'
            yield value
            yield f'","MimeType":{_text(value.mime_type, at)},"Name":{_text(value.name, at)}}}'
        case list() | tuple():
            yield "["
            for number, item in enumerate(value):
                yield "," if number else ""
                yield from _parts(item, f"{at}.{number}")
            yield "]"
        case _ if _is_object(value):
            yield "{"
            for number, (name, item) in enumerate(fields_of(value).items()):
                there = f"{at}.{name}".lstrip(".")
                yield f"{',' if number else ''}{_text(name, there)}:"
                yield from _parts(item, there)
            yield "}"
        case _:
            yield _plain(value, at)


def _plain(value: Any, at: str) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value, at)
        case bytes():
            return f'"{base64.urlsafe_b64encode(value).decode()}"'  # OData JSON Format 4.0 §7.1
        case UUID():
            return f'"{value}"'
    found = _number(value) or _moment(value)
    if found is None:
        raise ConfigurationError(
            f"field {at} cannot be written: JSON has no form for this {type(value).__name__}; give text, a finite"
            " number, a bool, a UUID, a date, a time, a datetime with a time zone, a timedelta, bytes, None, a File, a"
            " list or dict of these, or an instance of an attrs class"
        )
    return found


def _text(value: str, at: str) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except (TypeError, UnicodeEncodeError):
        text = None
    if text is None or not isinstance(value, str):
        raise ConfigurationError(f"field {at} has a name that is no text, or a text that UTF-8 cannot carry")
    return text


def _number(value: Any) -> str | None:
    """With all its digits."""
    match value:
        case Number() if value.is_json:
            return value.text
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return repr(float(value))
        case Decimal() if value.is_finite():
            return str(value)
    return None


def _moment(value: Any) -> str | None:
    match value:
        case datetime() if value.tzinfo is not None:
            return f'"{in_utc(value)}"'
        case date() | time() if not isinstance(value, datetime) and getattr(value, "tzinfo", None) is None:
            return f'"{value.isoformat()}"'
        case timedelta():
            return f'"{_duration(value // _MICROSECOND)}"'
    return None


def _duration(microseconds: int) -> str:
    """XML Schema's dayTimeDuration, in seconds alone."""
    seconds, fraction = divmod(abs(microseconds), 1_000_000)
    digits = f".{fraction:06}".rstrip("0") if fraction else ""
    return f"{'-' if microseconds < 0 else ''}PT{seconds}{digits}S"
