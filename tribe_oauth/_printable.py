"""Text from outside, made fit for a log line, a terminal and an error. May be imported by every room."""

from __future__ import annotations


def printable(text: str, limit: int = 200) -> str:
    """The text with control characters escaped, `limit` characters of it; what was cut is marked by an ellipsis."""
    escaped = "".join(_escaped(character) for character in text[: limit + 1])
    return escaped if len(escaped) <= limit else escaped[:limit] + "…"


def _escaped(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
