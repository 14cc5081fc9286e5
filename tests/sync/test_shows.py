"""The big shows, small."""

from __future__ import annotations

from pathlib import Path

from .shows import everything, kills, lies


async def test_everything_through_every_fault(tmp_path: Path) -> None:
    """Short tokens, 401, 429, 503, cut answers, a slow organization: complete and exactly once, by the command."""
    await everything(tmp_path, organizations=6, rows=6_000, chance=0.03)


async def test_killed_again_and_again(tmp_path: Path) -> None:
    """Kill -9 at random moments, run again each time: what a run that nobody disturbed writes."""
    assert await kills(tmp_path, organizations=3, rows=12_000, times=3, seed=1, longest=1.6) >= 1


async def test_an_api_that_lies(tmp_path: Path) -> None:
    """By links and by windows: what the command calls complete has every row, and the rest has failed."""
    assert await lies(tmp_path, organizations=1, rows=400, chance=0.3, told=["inside"])
