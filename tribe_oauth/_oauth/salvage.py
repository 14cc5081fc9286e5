"""A refresh token found in an answer that is not whole, or not in form. Pure; nothing that it is given makes it raise.

After any 2xx to a refresh the old refresh token is spent: whatever is wrong with the answer, a new one in it has to be
kept. But only one that cannot be anything else: a whole JSON string, in an object that has an ``access_token`` too and
neither an ``error`` nor members of a request, never a value that was sent, and the only one of its kind in the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Final

# Possessive (*+): a long string is not a reason to remember every way through it.
_PIECE: Final = re.compile(r'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+"|[{}\[\]:,]|[^\s"{}\[\]:,]++')
_NOT_OF_AN_ANSWER: Final = frozenset(
    {"error", "grant_type", "client_id", "client_secret", "code", "code_verifier", "redirect_uri", "token"}
)

_OF_AN_ANSWER: Final = frozenset({"access_token", "refresh_token", "token_type", "expires_in", "scope"})
_TEXTS: Final = frozenset({"access_token", "refresh_token"})
_KNOWN: Final = _OF_AN_ANSWER | _NOT_OF_AN_ANSWER
_BRACKETS: Final = frozenset("{[]}")
_DEEPEST: Final = 100
"""Levels: nothing below is looked at, so that a hostile answer costs no memory."""

Members = dict[str, set[str]]


def salvage(text: str, sent: Collection[str]) -> dict[str, str] | None:
    """The members of the token answer in a text, those that are there once: strings without quotes, numbers as written.

    None: there is no refresh token in it, or it is not beyond doubt which one it is. `sent`: values that cannot be it.
    """
    found: dict[str, Members] = {}
    for members in _objects(text):
        if "access_token" in members and not _NOT_OF_AN_ANSWER & set(members):
            for value in members.get("refresh_token", set()) - {"", *sent}:
                found[value] = members
    if len(found) != 1:
        return None
    ((refresh_token, members),) = found.items()
    once = {name: next(iter(values)) for name, values in members.items() if len(values) == 1}
    return {**once, "refresh_token": refresh_token}


def _objects(text: str) -> list[Members]:
    """The objects in a text, at any depth, closed or cut off, with those of their members that are scalar and whole."""
    scan = _Scan()
    for match in _PIECE.finditer(text):
        scan.take(match[0])
        if len(scan.open) > _DEEPEST:
            break
    return [members for members in (*scan.closed, *scan.open) if members]


class _Scan:
    """Where in a text the scan is. `open`: the objects and arrays around it; an array is one without members."""

    def __init__(self) -> None:
        self.open: list[Members] = []
        self.closed: list[Members] = []
        self._name: str | None = None  # of the member whose value comes next
        self._last = ""

    def take(self, piece: str) -> None:
        """Go on by one piece."""
        if piece in _BRACKETS:
            self._bracket(piece)
        elif piece == ":":
            self._name = _text(self._last)
        elif self._name is not None and piece != ",":
            self._value(self._name, piece)
        self._last = piece

    def _bracket(self, piece: str) -> None:
        self._name = None
        if piece in "{[":
            self.open.append({})
        elif self.open and (closed := self.open.pop()):
            self.closed.append(closed)

    def _value(self, name: str, piece: str) -> None:
        self._name = None
        value = _text(piece)
        if self.open and name in _KNOWN and (value is not None or name not in _TEXTS):
            self.open[-1].setdefault(name, set()).add(piece if value is None else value)


def _text(piece: str) -> str | None:
    """What a JSON string says; None for anything else."""
    if not piece.startswith('"'):
        return None
    try:
        return str(json.loads(piece))
    except ValueError:
        return None
