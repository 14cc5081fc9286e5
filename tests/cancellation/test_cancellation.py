"""Every public coroutine, cut at every await it has, in each kind of cancellation: nothing is left, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from .harness import Scenario, cut_at, sample, suspensions
from .scenarios import SCENARIOS
from .summary import EVERYTHING, PROPERTY
from .worlds import Place

MOST_OF_A_SAMPLE = {"cancel": 4, "disconnect": 4}  # of other kinds one

CASES = [(name, kind) for name, scenario in SCENARIOS.items() for kind in scenario.kinds]


@pytest.mark.parametrize(("name", "kind"), CASES, ids=[f"{name} [{kind}]" for name, kind in CASES])
def test_nothing_is_left_and_nothing_is_lost(
    name: str, kind: str, open_place: Callable[[], Place], record_property: Callable[[str, object], None]
) -> None:
    """Wherever it is cut, and however."""
    scenario = SCENARIOS[name]
    steps = count() if EVERYTHING else _sampled(scenario, kind, open_place)
    reached, problems = cut_at(scenario, kind, steps, open_place)
    for coroutine in scenario.covers:
        record_property(PROPERTY, [coroutine, kind, reached])
    assert not problems, f"{name}, {kind}:\n" + "\n".join(problems)


_suspensions: dict[str, int] = {}


def _sampled(scenario: Scenario, kind: str, open_place: Callable[[], Place]) -> list[int]:
    """Steps for the ordinary run: others for each kind."""
    if scenario.name not in _suspensions:
        _suspensions[scenario.name] = suspensions(scenario, open_place)
    shift = list(scenario.kinds).index(kind)
    return sample(_suspensions[scenario.name], MOST_OF_A_SAMPLE.get(kind, 1), shift)
