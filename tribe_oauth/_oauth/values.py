"""Values that everybody passes around: secrets, tokens, scopes. No behaviour beyond their own validity."""

from __future__ import annotations

import hmac
from functools import lru_cache
from typing import Any, NoReturn

import attrs


class Secret:
    """A string that does not show itself.

    `repr`, `str` and `format` give a mask; pickling and JSON are refused. Equal to Secrets only, compared in
    constant time. `reveal()` is the one way to the text, easy to find in a review.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"a Secret holds a str, not {type(value).__name__}")
        self._value = value.encode("utf-8", "surrogatepass")  # takes less room than text

    def reveal(self) -> str:
        """The text itself."""
        return self._value.decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled: reveal() it where it has to be written, and protect that place")


def secret(value: str | Secret) -> Secret:
    """Take either form; used as a converter where callers may pass plain text."""
    return value if isinstance(value, Secret) else Secret(value)


@attrs.frozen(kw_only=True, weakref_slot=False)
class Token:
    """An access token and what the server said with it (RFC 6749 §5.1).

    `expires_at` is a Unix time in seconds. `scope` is None where the server never said what it granted.
    `refresh_token` is None for client credentials.
    """

    access_token: Secret
    refresh_token: Secret | None = None
    expires_at: float
    scope: frozenset[str] | None = None


@lru_cache(maxsize=512)
def parse_scope(text: str) -> frozenset[str]:
    """Split a space-delimited scope (RFC 6749 §3.3)."""
    return frozenset(text.split())


def format_scope(scope: frozenset[str]) -> str:
    """Join a scope in a stable order."""
    return " ".join(sorted(scope))
