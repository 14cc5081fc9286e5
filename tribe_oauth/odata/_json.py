"""How pages are parsed: by msgspec where it is there, in half the time. Imported by `_answer`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final


def decoder() -> Callable[[bytes], Any]:
    """A function from JSON to values. It raises ValueError or RecursionError."""
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
            return json.loads(content)  # which takes a little more: a byte order mark, NaN, half a surrogate pair

    return decode


decode: Final = decoder()
