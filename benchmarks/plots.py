"""The plots of a run, as SVG without a background, in colours that can be read on white and on black."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from benchmarks.results import Curve, Figure, Results
from benchmarks.table import number

INK: Final = "#808890"
COLOURS: Final = {"goal": "#2f81f7", "noise": "#b0b8c0", "peer": "#d29922", "shown": "#808890"}
GOAL: Final = "#e5534b"
STYLE: Final[Any] = {  # Matplotlib has a type of its own for these keys
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "tribe_oauth",
}


def draw(results: Results, folder: Path) -> list[Path]:
    """A plot for each row and for each curve; their files."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[Figure]] = {}
    for figure in results.figures:
        rows.setdefault(figure.row, []).append(figure)
    with mpl.rc_context(STYLE):
        bars = [_bars(title, figures, folder) for title, figures in rows.items()]
        return bars + [_line(curve, folder) for curve in results.curves]


def _path(folder: Path, title: str) -> Path:
    return folder / f"{re.sub('[^a-z0-9]+', '-', title.partition('(')[0].lower()).strip('-')}.svg"


def _save(canvas: Canvas, path: Path) -> Path:
    canvas.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    return path


def _bars(title: str, figures: list[Figure], folder: Path) -> Path:
    canvas = Canvas(figsize=(7, 0.8 + 0.3 * len(figures)))
    axes = canvas.subplots()
    values = [figure.ratio.median for figure in figures]
    errors = [
        [figure.ratio.median - figure.ratio.low for figure in figures],
        [figure.ratio.high - figure.ratio.median for figure in figures],
    ]
    places = range(len(figures))
    axes.barh(places, values, xerr=errors, color=[COLOURS[figure.kind] for figure in figures], ecolor=INK, height=0.6)
    axes.set_yticks(places, [f"{figure.what}  {number(figure.ratio.median)}{figure.unit}" for figure in figures])
    axes.invert_yaxis()
    if max(values) > 20 * max(min(values), 0.05):
        axes.set_xscale("symlog", linthresh=1)
    for place, figure in zip(places, figures, strict=True):
        if figure.goal is not None:
            axes.plot([figure.goal] * 2, [place - 0.4, place + 0.4], color=GOAL)
    axes.set_title(f"{title}\n(red: the goal)", fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    return _save(canvas, _path(folder, title.partition(":")[0]))


def _line(curve: Curve, folder: Path) -> Path:
    canvas = Canvas(figsize=(5, 3))
    axes = canvas.subplots()
    axes.loglog(curve.sizes, curve.costs, marker="o", color=COLOURS["goal"])
    axes.set_xlabel(curve.over)
    axes.set_ylabel(curve.unit)
    axes.set_title(curve.title, fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    return _save(canvas, _path(folder, curve.title))
