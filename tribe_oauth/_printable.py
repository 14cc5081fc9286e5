"""Text from outside, made fit for a log line, a terminal and an error. May be imported by every room."""

from __future__ import annotations


def printable(text: str, limit: int = 200) -> str:
    """The first `limit` characters, with control characters escaped; what was cut is marked by an ellipsis."""
    cut = text[:limit] + ("…" if len(text) > limit else "")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in cut)
