"""`await manager.token(organization)`, nothing due, against a dict look-up, the clock and a comparison, inline."""

from __future__ import annotations

from typing import Final

from benchmarks import micro, peers
from benchmarks.measure import ratio
from benchmarks.results import Figure, Kind, Results
from benchmarks.rows import scaled

ROW: Final = "A valid token, nothing due: CPU against a look-up, the clock and a comparison"
GOAL: Final = 3.0
ROUNDS: Final = 7
LOOPS: Final = 20_000


async def measure(effort: float) -> Results:
    """By pyperf."""
    times = await micro.run("token", scaled(ROUNDS, effort), scaled(LOOPS, effort))
    figures = [
        Figure(
            row=ROW,
            what=name,
            kind=_kind(name),
            ratio=ratio(found, times["look-up"]),
            goal=GOAL if name == "this library" else None,
        )
        for name, found in times.items()
        if name != "look-up"
    ]
    return Results(figures=figures)


def _kind(name: str) -> Kind:
    if name in peers.TOKENS:
        return "peer"
    return {"look-up, again": "noise", "this library": "goal"}.get(name, "shown")  # type: ignore[return-value]
