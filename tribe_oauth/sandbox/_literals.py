"""Words of a filter (OData 4.0, part 2, §5.1.1): the tokens, and the values that are written in it. For `_filter`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from attrs import frozen

_TOKEN: Final = re.compile(
    r" *(?:(?P<string>'(?:[^']|'')*')"
    r"|(?P<guid>[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})"
    r"|(?P<stamp>\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d)?)"
    r"|(?P<date>\d{4}-\d\d-\d\d)"
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*(?:/[A-Za-z_][A-Za-z0-9_]*)*)"
    r"|(?P<mark>[(),]))"
)
_STAMP: Final = re.compile(r"(.{10}T\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,12}))?(Z|[+-]\d\d:\d\d)")
CONSTANTS: Final = {"true": True, "false": False, "null": None}


class FilterError(Exception):
    """What is wrong with a filter. `status`: of the answer."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@frozen
class Token:
    """A word of a filter."""

    kind: str
    text: str


def tokens_of(text: str) -> list[Token]:
    """The words of a filter. Raises FilterError."""
    tokens, at, text = [], 0, text.rstrip(" ")
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise FilterError(f"a character that does not belong there at position {at + 1}")
        assert match.lastgroup is not None
        tokens.append(Token(match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens


def value_of(token: Token) -> tuple[str, Any]:
    """A literal's kind and value. A time is text in UTC, as `instant` makes it. Raises FilterError."""
    match token.kind:
        case "string":
            return "string", token.text[1:-1].replace("''", "'")
        case "number":
            return "number", float(token.text)
        case "guid":
            return "guid", token.text.lower()
        case "date":
            return "date", token.text
        case "stamp":
            return "stamp", _instant(token.text)
        case "word" if token.text in CONSTANTS:
            return "null" if token.text == "null" else "boolean", CONSTANTS[token.text]
    raise FilterError(f"unexpected {token.text!r}")


def _instant(text: str) -> str:
    match = _STAMP.fullmatch(text)
    if match is None:
        raise FilterError(
            f"the time {text} has no offset: the types Edm.DateTimeOffset and Edm.String are not compatible"
        )
    try:
        moment = datetime.fromisoformat(f"{match[1]}{match[3]}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise FilterError(f"{text} is no time") from None
    return instant(f"{moment:%Y-%m-%dT%H:%M:%S}.{match[2] or ''}Z")


def instant(stamp: str) -> str:
    """A time in UTC as text that compares as the times do."""
    return stamp[:-1] if len(stamp) == 20 else stamp[:-1].rstrip("0").rstrip(".")
