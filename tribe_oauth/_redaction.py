"""Secrets taken out of text that others wrote: answers of a server, lines of an access log. For every room."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MASK: Final = "***"
_SHORTEST: Final = 8
"""Characters: what is shorter is no secret of ours, and stands in any text by chance."""
_IN_A_QUERY: Final = re.compile(r"(?<=[?&])(access_token|code|state)=[^&\s\"]*")


class Hidden(str):
    """A header's value that the repr of a request's headers does not show: aiohttp's own errors carry one."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"


def without(text: str, secrets: Iterable[str]) -> str:
    """The text with a mask in place of each of these secrets: a server may repeat what it was sent."""
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
    return text


def redacted_query(text: str) -> str:
    """Any text with URLs in it, with a mask for the values of ``code``, ``state`` and ``access_token``."""
    return _IN_A_QUERY.sub(rf"\1={MASK}", text)
