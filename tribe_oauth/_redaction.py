"""Secrets taken out of text that others wrote: answers of a server, lines of an access log. For every room."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MASK: Final = "***"
_SHORTEST: Final = 8
"""Characters: what is shorter is no secret of ours, and stands in any text by chance."""
_NAMES: Final = "(?:access_token|code|state)"
_IN_A_QUERY: Final = re.compile(rf"([?&]{_NAMES}=)[^&\s\"]*")
# An address that is a value in another one, as a sign-in is given where to go on: encoded once or more.
_NESTED: Final = re.compile(rf"(%(?:25)*(?:3F|26){_NAMES}(?:=|%(?:25)*3D))(?:[^&\s\"%]|%(?!(?:25)*26))*", re.IGNORECASE)
_COOKIE: Final = re.compile(r"(tribe-flow-[0-9a-f]{16}=)[^;\s\"]*")


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
    """Any text with URLs in it, with a mask for the values of ``code``, ``state`` and ``access_token``.

    The same for cookies of flows, which together with their state are a callback's secret.
    """
    for pattern in (_IN_A_QUERY, _NESTED, _COOKIE):
        text = pattern.sub(rf"\1{MASK}", text)
    return text
