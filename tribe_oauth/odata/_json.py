"""Parsing of pages: by msgspec where it is installed, which takes half the time. Imported by `_answer`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final


def decoder() -> Callable[[bytes], Any]:
    """A function that parses JSON. It raises ValueError or RecursionError."""
    try:
        from msgspec import DecodeError
        from msgspec.json import Decoder
    except ImportError:
        return json.loads
    quick = Decoder().decode

    def decode(content: bytes) -> Any:
        try:
            return quick(content)
        except (DecodeError, UnicodeDecodeError):
            return json.loads(content)  # it also accepts a byte order mark, NaN and half a surrogate pair

    return decode


decode: Final = decoder()
