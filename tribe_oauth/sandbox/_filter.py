"""`$filter` (OData 4.0, part 2, §5.1.1), as much of it as Tribe is known to answer: no `in`, no `has`.

What it says of the ID at its top is kept apart, so that `_pages` finds such rows without looking at the others.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from tribe_oauth.sandbox._generated import Row
from tribe_oauth.sandbox._keys import END, key_of
from tribe_oauth.sandbox._literals import CONSTANTS, FilterError, Token, instant, tokens_of, value_of
from tribe_oauth.sandbox._model import ENTITY_SETS, EntitySet
from tribe_oauth.sandbox._rules import ApiRules

Test = Callable[[Row], Any]
Follow = Callable[[Row, str], "Row | list[Row] | None"]

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    name: getattr(operator, name) for name in ("eq", "ne", "gt", "ge", "lt", "le")
}
_FUNCTIONS: Final[dict[str, Callable[[str, str], bool]]] = {
    "contains": lambda text, part: part in text,
    "startswith": str.startswith,
    "endswith": str.endswith,
}
_NUMBERS: Final = {"double": "number", "int": "number"}


@frozen
class Operand:
    """A value in a comparison, and its kind. `name`: of a property of the row itself."""

    kind: str
    value: Test
    name: str = ""
    literal: Any = None


@frozen
class Part:
    """One of the conditions that all have to hold. `keys`: those that it leaves, where it says only that."""

    test: Test
    text: str
    keys: tuple[int, int] | None = None


@frozen
class Condition:
    """A filter: a range of keys, and a test for the rows in it. `text` is empty where the range says it all.

    `is_far`: it asks for properties of other entities.
    """

    low: int
    high: int
    test: Test
    text: str
    is_far: bool

    @classmethod
    def of(cls, parts: list[Part], *, is_far: bool = False) -> Condition:
        """All of the parts."""
        ranges = [part.keys for part in parts if part.keys is not None]
        others = [part for part in parts if part.keys is None]
        return cls(
            max((low for low, _ in ranges), default=0),
            min((high for _, high in ranges), default=END),
            lambda row: all(part.test(row) for part in others),
            " and ".join(part.text for part in others),
            is_far,
        )


ALL: Final = Condition.of([])


def compile_filter(text: str, entity_set: EntitySet, follow: Follow, rules: ApiRules) -> Condition:
    """A test for the rows of a set. `follow`: what a navigation property leads to. Raises FilterError."""
    parser = _Parser(tokens_of(text), entity_set, follow, rules)
    parts = parser.disjunction()
    if parser.rest:
        raise FilterError(f"unexpected {parser.rest[0].text!r}")
    return Condition.of(parts, is_far=parser.is_far)


class _Parser:
    """Recursive descent: or, and, not, then comparisons, functions and parentheses."""

    def __init__(self, tokens: list[Token], entity_set: EntitySet, follow: Follow, rules: ApiRules) -> None:
        self._tokens = tokens
        self._at = 0
        self._entity_set = entity_set
        self._follow = follow
        self._rules = rules
        self.is_far = False

    @property
    def rest(self) -> list[Token]:
        return self._tokens[self._at : self._at + 1]

    def _take(self, *expected: str) -> Token:
        if not self.rest:
            raise FilterError("the filter breaks off")
        token = self.rest[0]
        if expected and token.text not in expected:
            raise FilterError(f"expected {' or '.join(expected)}, not {token.text!r}")
        self._at += 1
        return token

    def _next_is(self, *words: str) -> bool:
        return bool(self.rest) and self.rest[0].text in words and self.rest[0].kind != "string"

    def _said(self, start: int) -> str:
        return " ".join(token.text for token in self._tokens[start : self._at])

    def disjunction(self) -> list[Part]:
        """The parts of it, where it has no `or`; else itself as one."""
        start, parts = self._at, self._conjunction()
        while self._next_is("or"):
            self._take()
            test = _either(_every(parts), _every(self._conjunction()))
            parts = [Part(test, f"({self._said(start)})")]
        return parts

    def _conjunction(self) -> list[Part]:
        parts = [self._negation()]
        while self._next_is("and"):
            self._take()
            parts.append(self._negation())
        return parts

    def _negation(self) -> Part:
        start = self._at
        if self._next_is("not"):
            self._take()
            test = _not(self._negation().test)
            return Part(test, self._said(start))
        if self._next_is("("):
            self._take()
            test = _every(self.disjunction())
            self._take(")")
            return Part(test, self._said(start))
        test, keys = self._predicate()
        return Part(test, self._said(start), keys)

    def _predicate(self) -> tuple[Test, tuple[int, int] | None]:
        if self._next_is(*_FUNCTIONS):
            return self._function(), None
        left = self._operand()
        if not self.rest or self._next_is("and", "or", ")"):
            if left.kind != "boolean":
                raise FilterError(f"the types 'Edm.Boolean' and 'Edm.{left.kind}' are not compatible")
            return left.value, None
        name = self._take().text
        if name not in _COMPARE:
            status = self._rules.in_operator if name in {"in", "has"} else 400
            raise FilterError(f"the operator {name!r} is not supported", status)
        return self._comparison(name, left, self._operand())

    def _function(self) -> Test:
        """Without regard to case."""
        function = _FUNCTIONS[self._take().text]
        self._take("(")
        text = self._operand()
        self._take(",")
        part = self._operand()
        self._take(")")
        for operand in (text, part):
            if operand.kind not in {"string", "null"}:
                raise FilterError(f"the types 'Edm.String' and 'Edm.{operand.kind}' are not compatible")

        def test(row: Row) -> bool | None:
            one, other = text.value(row), part.value(row)
            return None if one is None or other is None else function(one.casefold(), other.casefold())

        return test

    def _operand(self) -> Operand:
        token = self._take()
        if token.kind == "word" and token.text not in CONSTANTS:
            return self._property(token.text)
        kind, value = value_of(token)
        if kind == "string" and self._rules.eq_case == "insensitive":
            folded = value.casefold()
            return Operand(kind, lambda row: folded, literal=folded)
        if kind == "guid":
            key = key_of(value, self._rules.id_order)
            return Operand(kind, lambda row: key, literal=key)
        return Operand(kind, lambda row: value, literal=value)

    def _property(self, path: str) -> Operand:
        *names, last = path.split("/")
        entity_set, follow = self._entity_set, self._follow
        for name in names:
            if name not in entity_set.links or entity_set.links[name].many:
                raise FilterError(f"no property {name!r}")
            entity_set = ENTITY_SETS[entity_set.links[name].target]
        if last not in entity_set.kinds:
            raise FilterError(f"no property {last!r}")
        read = _reader(entity_set.kinds[last], last, self._rules)

        def value(row: Row) -> Any:
            there: Any = row
            for name in names:
                there = follow(there, name)
                if there is None:
                    return None
            return read(there)

        self.is_far |= bool(names)
        kind = _NUMBERS.get(entity_set.kinds[last], entity_set.kinds[last])
        return Operand(kind, value if names else read, path)

    def _comparison(self, name: str, left: Operand, right: Operand) -> tuple[Test, tuple[int, int] | None]:
        if left.kind != right.kind and "null" not in {left.kind, right.kind}:
            raise FilterError(f"the types 'Edm.{left.kind}' and 'Edm.{right.kind}' are not compatible")
        if left.kind == "guid" and name not in {"eq", "ne"} and not self._rules.id_range:
            raise FilterError(f"the operator {name!r} does not compare values of type 'Edm.Guid'")
        if left.name == "ID" and isinstance(right.literal, int) and name != "ne":
            return _comparing(name, left.value, right.value), _range(name, right.literal)
        return _comparing(name, left.value, right.value), None


def _reader(kind: str, name: str, rules: ApiRules) -> Test:
    """What gets a property in a form that compares."""
    if kind == "guid":
        return lambda row: key_of(row[name], rules.id_order)
    if kind == "stamp":
        return lambda row: None if row[name] is None else instant(row[name])
    if kind == "string" and rules.eq_case == "insensitive":
        return lambda row: None if row[name] is None else row[name].casefold()
    return operator.itemgetter(name)


def _range(name: str, key: int) -> tuple[int, int]:
    """The keys that a comparison of the ID leaves."""
    low = {"gt": key + 1, "ge": key, "eq": key}.get(name, 0)
    high = {"lt": key, "le": key + 1, "eq": key + 1}.get(name, END)
    return low, high


def _comparing(name: str, left: Test, right: Test) -> Test:
    """A comparison; null is less than nothing and more than nothing, and equal to null alone."""
    compare = _COMPARE[name]
    if name in {"eq", "ne"}:
        return lambda row: compare(left(row), right(row))

    def test(row: Row) -> bool:
        one, other = left(row), right(row)
        return one is not None and other is not None and compare(one, other)

    return test


# What is null is neither true nor false (OData 4.0, part 2, §5.1.1.1).


def _every(parts: list[Part]) -> Test:
    if len(parts) == 1:
        return parts[0].test

    def test(row: Row) -> Any:
        found = {part.test(row) for part in parts}
        return False if False in found else None if None in found else True

    return test


def _either(one: Test, other: Test) -> Test:
    def test(row: Row) -> Any:
        found = {one(row), other(row)}
        return True if True in found else None if None in found else False

    return test


def _not(test: Test) -> Test:
    def negated(row: Row) -> bool | None:
        found = test(row)
        return None if found is None else not found

    return negated
