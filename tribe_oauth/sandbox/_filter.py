"""`$filter` (OData 4.0, part 2, §5.1.1), as much of it as Tribe is known to answer: no `in`, no `has`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

Test = Callable[[dict[str, Any]], Any]

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')"
    r"|(?P<guid>[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})"
    r"|(?P<date>\d{4}-\d\d-\d\d(?:T[0-9:.]+(?:Z|[+-]\d\d:\d\d))?)"
    r"|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<mark>[(),]))"
)
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_FUNCTIONS: Final[dict[str, Callable[[str, str], bool]]] = {
    "contains": lambda text, part: part in text,
    "startswith": str.startswith,
    "endswith": str.endswith,
}
_CONSTANTS: Final = {"true": True, "false": False, "null": None}


class FilterError(Exception):
    """What is wrong with a filter."""


def compile_filter(text: str, properties: Sequence[str]) -> Test:
    """A test for rows. Raises FilterError."""
    parser = _Parser(_tokens(text), frozenset(properties))
    test = parser.disjunction()
    if parser.rest:
        raise FilterError(f"unexpected {parser.rest[0][1]!r}")
    return test


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise FilterError(f"a character that does not belong there at position {at + 1}")
        assert match.lastgroup is not None
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens


class _Parser:
    """Recursive descent: or, and, not, then comparisons, functions and parentheses."""

    def __init__(self, tokens: list[tuple[str, str]], properties: frozenset[str]) -> None:
        self.rest = tokens
        self._properties = properties

    def _take(self, *expected: str) -> tuple[str, str]:
        if not self.rest:
            raise FilterError("the filter breaks off")
        token = self.rest[0]
        if expected and token[1] not in expected:
            raise FilterError(f"expected {' or '.join(expected)}, not {token[1]!r}")
        self.rest = self.rest[1:]
        return token

    def _next_is(self, *words: str) -> bool:
        return bool(self.rest) and self.rest[0][1] in words and self.rest[0][0] != "string"

    def disjunction(self) -> Test:
        test = self._conjunction()
        while self._next_is("or"):
            self._take()
            test = _either(test, self._conjunction())
        return test

    def _conjunction(self) -> Test:
        test = self._negation()
        while self._next_is("and"):
            self._take()
            test = _both(test, self._negation())
        return test

    def _negation(self) -> Test:
        if self._next_is("not"):
            self._take()
            test = self._negation()
            return lambda row: not test(row)
        if self._next_is("("):
            self._take()
            test = self.disjunction()
            self._take(")")
            return test
        return self._predicate()

    def _predicate(self) -> Test:
        if self._next_is(*_FUNCTIONS):
            function = _FUNCTIONS[self._take()[1]]
            self._take("(")
            text = self._operand()
            self._take(",")
            part = self._operand()
            self._take(")")
            return lambda row: function(text(row) or "", part(row) or "")
        left = self._operand()
        if not self.rest or self._next_is("and", "or", ")"):
            return left
        name = self._take()[1]
        if name not in _COMPARE:
            raise FilterError(f"the operator {name!r} is not supported")
        return _comparison(_COMPARE[name], left, self._operand())

    def _operand(self) -> Test:
        kind, text = self._take()
        if kind == "word" and text not in _CONSTANTS:
            if text not in self._properties:
                raise FilterError(f"no property {text!r}")
            return operator.itemgetter(text)
        value = _literal(kind, text)
        return lambda row: value


def _literal(kind: str, text: str) -> Any:
    match kind:
        case "string":
            return text[1:-1].replace("''", "'")
        case "number":
            return float(text)
        case "guid":
            return text.lower()
        case "word":
            return _CONSTANTS[text]
        case "date":
            return text
    raise FilterError(f"unexpected {text!r}")


def _comparison(compare: Callable[[Any, Any], bool], left: Test, right: Test) -> Test:
    def test(row: dict[str, Any]) -> bool:
        one, other = left(row), right(row)
        if compare in {operator.eq, operator.ne}:
            return compare(one, other)
        return _comparable(one, other) and compare(one, other)

    return test


def _comparable(one: object, other: object) -> bool:
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return numbers or (isinstance(one, str) and isinstance(other, str))


def _either(one: Test, other: Test) -> Test:
    return lambda row: one(row) or other(row)


def _both(one: Test, other: Test) -> Test:
    return lambda row: one(row) and other(row)
