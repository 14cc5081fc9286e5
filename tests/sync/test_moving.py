"""Rows move while sets are read: the show, small, and what it is made of."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from tribe_oauth import TokenManager
from tribe_oauth.odata import ODataError
from tribe_oauth.sync import Checkpoint, export

from .moving import BY, SET, Kept, KilledError, Manager, Model, Session, judge, one, over_sockets, read


@pytest.mark.parametrize("by", BY)
async def test_rows_that_move(by: str) -> None:
    """In several orders of keys, added and deleted, with kills: what stood throughout is there, and nothing twice."""
    assert judge(by, [await one(seed, by) for seed in range(9)])


@pytest.mark.parametrize(("by", "most"), [("parts", 1.03), ("windows", 1.06), ("windows, in an order", 1.06)])
async def test_requests(by: str, most: float) -> None:
    """Little more than the rows need, on a set of 25,000."""
    assert judge(by, [await one(1, by, rows=25_000, dies=0.0)], most=most)


@pytest.mark.parametrize("by", BY)
async def test_over_sockets(by: str) -> None:
    """The same with aiohttp's own sessions."""
    assert judge(by, [await over_sockets(1, by)])


class Odd(Model):
    """A service that answers some requests in its own way."""

    says: Callable[[str, tuple[int, bytes]], tuple[int, bytes]]

    def answer(self, target: str) -> tuple[int, bytes]:
        return self.says(target, super().answer(target))


def odd(says: Callable[[str, tuple[int, bytes]], tuple[int, bytes]]) -> Odd:
    model = Odd(random.Random(1), str, 2_500, each=0.0)
    model.says = says
    return model


async def test_parts_that_cannot_begin() -> None:
    """Where `$skip` is not known, or leads nowhere else: it is read as one part."""
    first = odd(lambda _, answer: answer).answer("?$orderby=ID&$top=100")
    for instead in ((501, b""), first):

        def says(target: str, answer: tuple[int, bytes], instead: tuple[int, bytes] = instead) -> tuple[int, bytes]:
            return instead if "$skip" in target else answer

        seen = await read(odd(says))
        assert (seen.missing, seen.doubled, seen.rows) == (0, 0, 2_500)


class DiesOnce(Kept):
    """A sink that is killed when it has the page after which parts can begin."""

    async def write(self, rows: Sequence[Any], checkpoint: Checkpoint) -> None:
        await super().write(rows, checkpoint)
        if self.pages == 2:
            raise KilledError


async def test_killed_before_the_parts_begin() -> None:
    """The next run begins with them: no page is read again."""
    model, sink = Model(random.Random(1), str, 2_500, each=0.0), DiesOnce(random.Random(1))
    manager = cast("TokenManager", Manager(lambda: Session(model)))
    with pytest.raises(KilledError):
        await export(manager, ["acme"], [SET], sink)
    (outcome,) = await export(manager, ["acme"], [SET], sink)
    assert outcome.error is None
    assert sorted(sink.keys) == sorted(model.stood)
    assert model.requests <= 28


async def test_a_part_that_fails() -> None:
    """An error that is none of the way of reading is the entity set's."""
    model = odd(lambda target, answer: (403, b"") if "$skip" in target else answer)
    with pytest.raises(ODataError, match="403"):
        await read(model)


async def test_nothing_between_two_parts() -> None:
    """Hundreds of rows that are gone at once may have moved beyond each other: an error, and not rows twice."""
    nothing = 200, b'{"@odata.count":0,"value":[]}'
    model = odd(lambda target, answer: nothing if "ID%20lt" in target else answer)
    with pytest.raises(ODataError, match="cannot be continued: read it again from the beginning"):
        await read(model)


async def test_without_a_count() -> None:
    """One part, to the empty page."""
    model, sink = Model(random.Random(1), str, 2_500), Kept(random.Random(1))
    manager = cast("TokenManager", Manager(lambda: Session(model)))
    (outcome,) = await export(manager, ["acme"], [SET], sink, count=False)
    assert outcome.error is None
    assert model.stood <= set(sink.keys)
    assert model.requests == sink.pages
    assert len(sink.keys) == len(set(sink.keys))
