"""Run the benchmarks: each row in a process of its own, one after another.

python -m benchmarks              all rows: results.json, the plots, the table; under 15 minutes on 2 cores
python -m benchmarks --table      the table of the last run
python -m benchmarks --only token --effort 0.1
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks import results, table
from benchmarks.results import Results
from benchmarks.rows import NAMES, row


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--table", action="store_true", help="print the table of the last run, measure nothing")
    parser.add_argument("--only", choices=NAMES, nargs="+", default=NAMES, help="these rows; nothing is kept")
    parser.add_argument("--effort", type=float, default=1.0, help="part of the full work; nothing is kept below 1")
    parser.add_argument("--row", choices=NAMES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        sys.stdout.write(asyncio.run(row(arguments.row)(arguments.effort)).to_json())
    elif arguments.table:
        table.show(results.read(results.PATH.read_bytes()))
    else:
        found = run(arguments.only, arguments.effort)
        if arguments.only == NAMES and arguments.effort >= 1:
            keep(found)
        table.show(found)


def run(names: tuple[str, ...], effort: float) -> Results:
    """Measure these rows."""
    console = Console(stderr=True)
    machine = f"CPython {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}"
    found = Results(machine=machine)
    for name in names:
        started = time.monotonic()
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks", "--row", name, "--effort", str(effort)]
        found = found.plus(results.read(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))  # noqa: S603
        console.print(f"{name}: {time.monotonic() - started:.0f} s", style="dim")
    return found


def keep(found: Results) -> None:
    """Write the file, the plots, and the table in the docs."""
    from benchmarks import plots

    results.PATH.write_text(found.to_json() + "\n", encoding="utf-8")
    plots.draw(found, Path("docs", "benchmarks"))
    page = Path("docs", "speed.md")
    page.write_text(table.into(page.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
