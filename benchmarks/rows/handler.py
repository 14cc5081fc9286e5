"""A request through the middleware without a network: microseconds more than the handler alone."""

from __future__ import annotations

from typing import Final

from benchmarks import micro
from benchmarks.measure import ratio
from benchmarks.results import Figure, Kind, Results
from benchmarks.rows import scaled

ROW: Final = "A request through the middleware: microseconds over a stub handler"
GOAL: Final = 2.0
ROUNDS: Final = 9
LOOPS: Final = 10_000
KINDS: Final[dict[str, Kind]] = {"stub, again": "noise", "this library": "goal", "aiohttp's cookbook": "peer"}


async def measure(effort: float) -> Results:
    """By pyperf."""
    times = await micro.run("handler", scaled(ROUNDS, effort), scaled(LOOPS, effort))
    figures = [
        Figure(
            row=ROW,
            what=name,
            kind=KINDS.get(name, "shown"),
            ratio=ratio(
                [1e6 * (one - stub) for one, stub in zip(found, times["stub"], strict=True)], [1.0] * len(found)
            ),
            goal=GOAL if name == "this library" else None,
            unit=" µs",
        )
        for name, found in times.items()
        if name != "stub"
    ]
    return Results(figures=figures)
