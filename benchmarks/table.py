"""The table of a run, for a terminal. A goal that is not met is printed as not met."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks.results import Figure, Results


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
    ratio = figure.ratio
    name = figure.what if figure.kind == "goal" else f"[dim]{figure.what}"
    return (
        f"  {name}" + (f" ({figure.note})" if figure.note else ""),
        f"{number(ratio.median)}{figure.unit}",
        f"{number(ratio.low)} to {number(ratio.high)}" if ratio.low != ratio.high else "",
        goal(figure),
        {True: "[green]met", False: "[bold red]not met", None: ""}[figure.met],
    )


def goal(figure: Figure) -> str:
    """The goal in words."""
    if figure.goal is None:
        return ""
    return f"at {'least' if figure.at_least else 'most'} {figure.goal:g}{figure.unit}"


def number(value: float) -> str:
    """Three digits after the point where they mean something."""
    return f"{value:.3f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
