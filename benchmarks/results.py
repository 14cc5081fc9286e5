"""What a run found: figures and curves, and their file. For the rows, the table and the plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

import attrs
import cattrs

from benchmarks.measure import Ratio

PATH: Final = Path(__file__).with_name("results.json")

Kind = Literal["goal", "noise", "peer", "shown"]


@attrs.frozen(kw_only=True)
class Figure:
    """A ratio to the limit of its row.

    `kind`: goal, something the library promises; noise, the limit against itself; peer, what a user might pick instead;
    shown, for comparison. A goal is met where the median is within it. `unit`: of `ratio`, where that is no plain one.
    """

    row: str
    what: str
    kind: Kind
    ratio: Ratio
    goal: float | None = None
    at_least: bool = False
    unit: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.goal is None:
            return None
        if self.at_least:
            return self.ratio.median >= self.goal
        return self.ratio.median <= self.goal


@attrs.frozen(kw_only=True)
class Curve:
    """How a cost grows: one point for each size."""

    title: str
    over: str
    unit: str
    sizes: list[float]
    costs: list[float]


@attrs.frozen(kw_only=True)
class Results:
    """A run, or a part of one."""

    machine: str = ""
    figures: list[Figure] = attrs.Factory(list)
    curves: list[Curve] = attrs.Factory(list)

    def plus(self, other: Results) -> Results:
        """Both."""
        return attrs.evolve(self, figures=self.figures + other.figures, curves=self.curves + other.curves)

    def to_json(self) -> str:
        """As text."""
        return json.dumps(cattrs.unstructure(self), indent=1)


def read(text: str | bytes) -> Results:
    """From text."""
    found: Any = json.loads(text)
    return cattrs.structure(found, Results)
