"""The table of a run, for a terminal and for the docs. A goal that is not met is printed as not met."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.results import Figure, Results

MARKS: Final = ("<!-- table: python -m benchmarks -->", "<!-- end of the table -->")


def show(results: Results, console: Console | None = None) -> None:
    """Print all figures, row after row."""
    console = console or Console()
    table = Table("what", "measured", "95 %", "goal", "", title=f"Against the limit of each row ({results.machine})")
    for title in dict.fromkeys(figure.row for figure in results.figures):
        table.add_section()
        table.add_row(f"[bold]{title}")
        for figure in results.figures:
            if figure.row == title:
                table.add_row(*_cells(figure))
    console.print(table)
    goals = [figure for figure in results.figures if figure.goal is not None]
    console.print(f"{sum(bool(figure.met) for figure in goals)} of {len(goals)} goals met")


def _cells(figure: Figure) -> tuple[str, str, str, str, str]:
    name = figure.what if figure.kind == "goal" else f"[dim]{figure.what}"
    colour = "green" if figure.met else "bold red"
    return f"  {name}{note(figure)}", *measured(figure), f"[{colour}]{verdict(figure)}"


def into(page: str, results: Results) -> str:
    """The page with the table between its two marks, as Markdown."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    lines = [f"Measured with {results.machine}.", "", "| what | measured | 95 % | goal | |", "|---|---|---|---|---|"]
    for title in dict.fromkeys(figure.row for figure in results.figures):
        lines.append(f"| **{title}** | | | | |")
        lines += [_line(figure) for figure in results.figures if figure.row == title]
    return "\n".join([before + MARKS[0], *lines, MARKS[1] + after])


def _line(figure: Figure) -> str:
    return "| " + " | ".join((figure.what + note(figure), *measured(figure), verdict(figure))) + " |"


def note(figure: Figure) -> str:
    """What has to be known beside it."""
    return f" ({figure.note})" if figure.note else ""


def measured(figure: Figure) -> tuple[str, str, str]:
    """The median, its interval, the goal."""
    ratio = figure.ratio
    interval = f"{number(ratio.low)} to {number(ratio.high)}" if ratio.low != ratio.high else ""
    return f"{number(ratio.median)}{figure.unit}", interval, goal(figure)


def verdict(figure: Figure) -> str:
    """In words."""
    return {True: "met", False: "not met", None: ""}[figure.met]


def goal(figure: Figure) -> str:
    """The goal in words."""
    if figure.goal is None:
        return ""
    return f"at {'least' if figure.at_least else 'most'} {figure.goal:g}{figure.unit}"


def number(value: float) -> str:
    """Three digits after the point where they mean something."""
    return f"{value:.3f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
