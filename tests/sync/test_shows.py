"""The big shows, small."""

from __future__ import annotations

from pathlib import Path

from .shows import everything, kills


async def test_everything_through_every_fault(tmp_path: Path) -> None:
    """Short tokens, 401, 429, 503, cut answers, a slow organization: complete and exactly once, by the command."""
    await everything(tmp_path, organizations=6, rows=6_000, chance=0.03)


async def test_killed_again_and_again(tmp_path: Path) -> None:
    """Kill -9 at random moments, run again each time: what a run that nobody disturbed writes."""
    assert await kills(tmp_path, organizations=3, rows=12_000, times=3, seed=1, longest=1.6) >= 1
