"""The benchmarks run, in sizes whose figures mean nothing; and the table says what is not met."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import plots, results, table
from benchmarks.measure import Cost, Ratio, compare, cpu, ratio
from benchmarks.results import Curve, Figure, Results
from benchmarks.rows import NAMES

ROOT = Path(__file__).parents[2]
TINY = "0.001"


def printed(found: Results) -> str:
    console = Console(file=io.StringIO(), width=200)
    table.show(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def figure(median: float, *, goal: float | None = 1.5, at_least: bool = False) -> Figure:
    interval = Ratio(median, median - 0.1, median + 0.1)
    return Figure(row="a row", what="something", kind="goal", ratio=interval, goal=goal, at_least=at_least)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_gives_ratios(name: str) -> None:
    """In a process of its own, as a run has it; what it prints can be read, shown and drawn."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", "--row", name, "--effort", TINY]
    said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=50).stdout
    found = results.read(said)
    assert found.figures or found.curves
    for one in found.figures:
        assert math.isfinite(one.ratio.median)
        assert one.ratio.low <= one.ratio.median <= one.ratio.high
        assert one.what in printed(found)
    for curve in found.curves:
        assert len(curve.sizes) == len(curve.costs)
        assert all(cost >= 0 for cost in curve.costs)


@pytest.mark.parametrize(
    ("one", "met"),
    [
        (figure(1.4), True),
        (figure(1.55), False),
        (figure(1.6, at_least=True), True),
        (figure(1.45, at_least=True), False),
    ],
)
def test_a_goal_is_met_or_not_met(one: Figure, met: bool) -> None:
    """And the table says which."""
    assert one.met is met
    said = printed(Results(figures=[one]))
    assert ("not met" in said) is not met
    assert f"{int(met)} of 1 goals met" in said


def test_what_has_no_goal_is_not_judged() -> None:
    """A peer, or the noise."""
    one = figure(9.0, goal=None)
    assert one.met is None
    assert "0 of 0 goals met" in printed(Results(figures=[one]))


def test_the_docs_get_the_same_table() -> None:
    """Between the marks of the page, which stay."""
    page = f"before\n{table.MARKS[0]}\nan old table\n{table.MARKS[1]}\nafter\n"
    once = table.into(page, Results(figures=[figure(1.4), figure(1.7)]))
    assert "an old table" not in once
    assert "| something | 1.400 | 1.300 to 1.500 | at most 1.5 | met |" in once
    assert "| something | 1.700 | 1.600 to 1.800 | at most 1.5 | not met |" in once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert table.into(once, Results(figures=[figure(1.4), figure(1.7)])) == once


async def test_variants_take_turns() -> None:
    """Each once in every round; the first round does not count."""
    order = []

    async def one() -> Cost:
        order.append(1)
        return Cost(1.0, 1.0)

    async def two() -> Cost:
        order.append(2)
        return Cost(2.0, 2.0)

    costs = await compare({"one": one, "two": two}, 5)
    assert [sorted(order[start : start + 2]) for start in range(0, 12, 2)] == [[1, 2]] * 6
    assert ratio(cpu(costs["two"]), cpu(costs["one"])) == Ratio(2.0, 2.0, 2.0)


def test_a_ratio_is_taken_within_a_round() -> None:
    """A disturbance of a whole round does not show."""
    assert ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == Ratio(2.0, 2.0, 2.0)


def test_results_come_back_from_their_file_and_are_drawn(tmp_path: Path) -> None:
    """Figures and curves alike."""
    curve = Curve(title="Growth", over="things", unit="bytes", sizes=[1.0, 10.0], costs=[5.0, 50.0])
    found = Results(machine="this one", figures=[figure(1.4)], curves=[curve])
    assert results.read(found.to_json()) == found
    files = plots.draw(found, tmp_path)
    assert sorted(file.name for file in files) == ["a-row.svg", "growth.svg"]
    assert all("<svg" in file.read_text() for file in files)
