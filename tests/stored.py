"""What stands in a store behind its check value: for tests that alter it as this library could have written it."""

from __future__ import annotations

import zlib


def checked(text: bytes) -> bytes:
    """A text behind a check value that is right."""
    return b"%08x" % zlib.crc32(text) + text


def text_of(stored: bytes) -> bytes:
    """The text behind a check value."""
    assert stored == checked(stored[8:])
    return stored[8:]


def with_other(stored: bytes, old: bytes, new: bytes) -> bytes:
    """The same with another text in one place."""
    assert old in stored
    return checked(text_of(stored).replace(old, new))
