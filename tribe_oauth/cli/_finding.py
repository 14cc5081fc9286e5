"""One thing that the doctor has to say."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen
class Finding:
    """`level`: ok, look (it may be intended) or wrong (it cannot work)."""

    what: str
    level: Literal["ok", "look", "wrong"]
    text: str


def ok(what: str, text: str) -> Finding:
    """That it works."""
    return Finding(what, "ok", text)


def look(what: str, text: str) -> Finding:
    """What may be intended, or could not be tried."""
    return Finding(what, "look", text)


def wrong(what: str, text: str) -> Finding:
    """What cannot work, with the remedy."""
    return Finding(what, "wrong", text)
