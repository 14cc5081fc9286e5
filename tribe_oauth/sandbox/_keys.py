"""The IDs of an entity set, always in order: any position, ID or count in a time that hardly grows with the set.

What is generated is computed from its number alone and is in order by itself; only what was added and what is gone is
held. May be imported by whoever keeps or reads rows.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Final, Literal, Protocol

from attrs import Factory, define, frozen

END: Final = 1 << 128
"""A key beyond all."""

Order = Literal["text", "signed", "mixed"]

_MIXED: Final = (10, 11, 12, 13, 14, 15, 8, 9, 7, 6, 5, 4, 3, 2, 1, 0)
_SIGNS: Final = 1 << 127 | 1 << 63


def key_of(guid: str, order: Order) -> int:
    """The key of an ID: keys are in the order in which the server has its IDs."""
    key = int(guid.replace("-", ""), 16)
    if order == "signed":  # Java compares two signed halves
        return key ^ _SIGNS
    if order == "mixed":
        content = key.to_bytes(16, "big")
        return int.from_bytes(bytes(content[at] for at in _MIXED), "big")
    return key


def guid_of(key: int, order: Order) -> str:
    """The ID of a key."""
    if order == "signed":
        key ^= _SIGNS
    elif order == "mixed":
        content = key.to_bytes(16, "big")
        key = int.from_bytes(bytes(content[_MIXED.index(at)] for at in range(16)), "big")
    text = f"{key:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Ordered(Protocol):
    """Keys in order, each with the name of its entity set."""

    def __len__(self) -> int: ...

    def rank(self, key: int) -> int:
        """How many keys are less."""

    def since(self, key: int) -> Iterator[tuple[int, str]]:
        """The keys from this one on."""


@define(eq=False)
class Keys:
    """The keys of one entity set.

    `generated`: the key of a number; its first 32 bits are so many steps of `step`, and less than one step more.
    """

    name: str
    size: int
    step: int
    generated: Callable[[int], int]
    _gone: list[int] = Factory(list)
    _added: list[int] = Factory(list)

    def number(self, key: int) -> int:
        """How many generated keys are less, gone ones included: the number of this key, where it is one of them."""
        number = min(self.size, (key >> 96) // self.step)
        return number + 1 if number < self.size and self.generated(number) < key else number

    def __len__(self) -> int:
        return self.size - len(self._gone) + len(self._added)

    def __contains__(self, key: int) -> bool:
        return next(self.since(key), None) == (key, self.name)

    def rank(self, key: int) -> int:
        number = self.number(key)
        return number - bisect_left(self._gone, number) + bisect_left(self._added, key)

    def since(self, key: int) -> Iterator[tuple[int, str]]:
        generated, at = self._generated_since(self.number(key)), bisect_left(self._added, key)
        keys = merge(generated, islice(self._added, at, None)) if at < len(self._added) else generated
        return ((key, self.name) for key in keys)

    def _generated_since(self, number: int) -> Iterator[int]:
        gone = self._gone[bisect_left(self._gone, number) :]
        yield from map(self.generated, range(number, self.size) if not gone else _without(number, self.size, gone))

    def add(self, key: int) -> None:
        """Add a key that is not there."""
        number = self.number(key)
        if self._is_generated(number, key):
            self._gone.remove(number)
        else:
            insort(self._added, key)

    def remove(self, key: int) -> None:
        """Remove a key that is there."""
        number = self.number(key)
        if self._is_generated(number, key):
            insort(self._gone, number)
        else:
            self._added.remove(key)

    def _is_generated(self, number: int, key: int) -> bool:
        return number < self.size and self.generated(number) == key


def _without(start: int, stop: int, gone: list[int]) -> Iterator[int]:
    for number in gone:
        yield from range(start, number)
        start = number + 1
    yield from range(start, stop)


@frozen
class Union:
    """The keys of several entity sets, which have none in common."""

    parts: Sequence[Ordered]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def rank(self, key: int) -> int:
        return sum(part.rank(key) for part in self.parts)

    def since(self, key: int) -> Iterator[tuple[int, str]]:
        return merge(*(part.since(key) for part in self.parts))


def between(keys: Ordered, start: int, stop: int) -> list[tuple[int, str]]:
    """The keys at these positions."""
    return list(islice(keys.since(_at(keys, start)), max(0, stop - start))) if start < len(keys) else []


def _at(keys: Ordered, position: int) -> int:
    """A key that so many keys are less than."""
    low, high = 0, END
    while (rank := keys.rank(middle := (low + high) // 2)) != position:
        low, high = (middle + 1, high) if rank < position else (low, middle)
    return middle
