"""How things are measured: variants take turns, and what is compared is the ratio within a round. For the rows.

Processor time of this process, not wall time, wherever a row says CPU: the server is another process, and so is whoever
else uses the machine.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import attrs

RESAMPLES: Final = 2_000


@attrs.frozen
class Ratio:
    """A median over rounds, and the 95 % interval that a bootstrap gives it."""

    median: float
    low: float
    high: float


@attrs.frozen
class Cost:
    """Seconds for a unit of work, of processor and of wall."""

    cpu: float
    wall: float


Variant = Callable[[], Awaitable[Cost]]
"""Prepares its work, does it once, and says what it cost: see `timed`."""


async def timed(work: Awaitable[object], units: int) -> Cost:
    """What so many units of work cost, each."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    await work
    return Cost((time.process_time() - cpu) / units, (time.perf_counter() - wall) / units)


async def compare(variants: Mapping[str, Variant], rounds: int) -> dict[str, list[Cost]]:
    """Each variant once in each round, in an order drawn anew, after one round that does not count."""
    costs: dict[str, list[Cost]] = {name: [] for name in variants}
    order = random.Random(1)  # noqa: S311 (an order that can be repeated)
    for number in range(rounds + 1):
        for name in order.sample(list(variants), len(variants)):
            cost = await variants[name]()
            if number:
                costs[name].append(cost)
    return costs


def cpu(costs: Sequence[Cost]) -> list[float]:
    """Processor times."""
    return [cost.cpu for cost in costs]


def wall(costs: Sequence[Cost]) -> list[float]:
    """Wall times."""
    return [cost.wall for cost in costs]


def ratio(values: Sequence[float], limits: Sequence[float]) -> Ratio:
    """Of values to the limits of the same rounds: what disturbs a whole round disturbs both."""
    ratios = [value / limit for value, limit in zip(values, limits, strict=True)]
    draw = random.Random(1)  # noqa: S311
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return Ratio(statistics.median(ratios), medians[RESAMPLES // 40], medians[-RESAMPLES // 40])
