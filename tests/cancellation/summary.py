"""The table at the end: how many awaits of each public coroutine were cut, in each kind of cancellation."""

from __future__ import annotations

import os
from collections import Counter
from typing import Final

import pytest

PROPERTY: Final = "cancelled awaits"
"""Of the reports of tests: these come from the processes of pytest-xdist to the one that prints."""
EVERYTHING: Final = bool(os.environ.get("TRIBE_OAUTH_CANCEL_EVERYTHING"))
"""Every step of every scenario, in every kind; else a sample."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print it; of a sample only the sum."""
    cuts = Counter[tuple[str, str]]()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, found in getattr(report, "user_properties", ()):
                if name == PROPERTY and report.when == "call":
                    coroutine, kind, steps = found
                    cuts[coroutine, kind] += steps
    if not cuts:
        return
    terminalreporter.section("awaits that were cut, by kind of cancellation")
    names, kinds = sorted({name for name, _ in cuts}), list(dict.fromkeys(kind for _, kind in cuts))
    if EVERYTHING:
        for line in table(cuts, names, kinds):
            terminalreporter.write_line(line)
    total = f"{sum(cuts.values())} awaits in {len(names)} coroutines were cut"
    terminalreporter.write_line(total if EVERYTHING else f"{total}, a sample: all of them by nox -s cancellation")


def table(cuts: Counter[tuple[str, str]], names: list[str], kinds: list[str]) -> list[str]:
    """A line for each coroutine, a column for each kind; nothing where a kind cannot happen."""
    width = max(map(len, names))
    lines = [" ".join(["coroutine".ljust(width), *(kind.rjust(11) for kind in kinds)])]
    for name in names:
        cells = (str(cuts[name, kind]) if (name, kind) in cuts else "" for kind in kinds)
        lines.append(" ".join([name.ljust(width), *(cell.rjust(11) for cell in cells)]).rstrip())
    sums = (str(sum(cuts[name, kind] for name in names)) for kind in kinds)
    return [*lines, " ".join(["all".ljust(width), *(cell.rjust(11) for cell in sums)])]
