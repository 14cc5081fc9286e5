"""IDs in order: positions, ranks and pages while keys come and go."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any, get_args
from uuid import UUID

import pytest

from tribe_oauth.sandbox._data import Data
from tribe_oauth.sandbox._keys import END, Keys, Order, Union, between, guid_of, key_of
from tribe_oauth.sandbox._rules import ApiRules


def generated(chance: random.Random, name: str, size: int) -> tuple[Keys, list[int]]:
    """Keys, and the same as a list."""
    step = (1 << 32) // max(1, size)
    made = [(number * step + chance.randrange(step)) << 96 | chance.getrandbits(96) for number in range(size)]
    return Keys(name, size, step, made.__getitem__), made


def move(chance: random.Random, keys: Keys, truth: list[int], before: list[int]) -> None:
    """Remove one, bring one back, or add one."""
    if truth and chance.random() < 0.5:
        gone = chance.choice(truth)
        truth.remove(gone)
        keys.remove(gone)
        return
    key = chance.choice(before) if before and chance.random() < 0.4 else chance.getrandbits(128)
    assert (key in keys) == (key in truth)
    if key not in truth:
        truth.append(key)
        truth.sort()
        keys.add(key)


@pytest.mark.parametrize("seed", range(20))
def test_as_a_list_would_have_them(seed: int) -> None:
    """In one set and in several together, whatever was added and removed."""
    chance = random.Random(seed)
    sets = [generated(chance, f"set {number}", chance.choice([0, 1, 5, 60])) for number in range(3)]
    truths = [list(made) for _, made in sets]
    for _ in range(80):
        for (keys, made), truth in zip(sets, truths, strict=True):
            move(chance, keys, truth, made)
    for (keys, _), truth in zip(sets, truths, strict=True):
        check(keys, [(key, keys.name) for key in truth])
    union = [(key, keys.name) for (keys, _), truth in zip(sets, truths, strict=True) for key in truth]
    check(Union([keys for keys, _ in sets]), sorted(union))


def check(keys: Any, truth: list[tuple[int, str]]) -> None:
    assert len(keys) == keys.rank(END) == len(truth)
    for start in range(0, len(truth) + 2, 3):
        assert between(keys, start, start + 7) == truth[start : start + 7]
    for position, (key, _) in enumerate(truth):
        assert (keys.rank(key), keys.rank(key + 1)) == (position, position + 1)


@pytest.mark.parametrize("order", get_args(Order))
def test_orders_of_ids(order: Order) -> None:
    """A key leads back to its ID, and the rows of a set stand in that order."""
    chance = random.Random(1)
    for _ in range(50):
        guid = str(UUID(int=chance.getrandbits(128)))
        assert guid_of(key_of(guid, order), order) == guid
    data = Data(1, "Acme", 60, ApiRules(id_order=order))
    rows = [row["ID"] for row in data.all("Relation_Person")]
    assert all(key_of(one, order) < key_of(other, order) for one, other in pairwise(rows))
    assert all(data.find("Relation_Person", guid) for guid in rows)
    signed = [UUID(guid).int >> 127 for guid in rows]
    assert (order == "text") == (rows == sorted(rows))
    assert (order == "signed") == (signed == sorted(signed, reverse=True))
