"""Rows move while sets are read: the show, small, and what it is made of."""

from __future__ import annotations

import pytest

from .moving import BY, judge, one, over_sockets


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
