"""All scenarios."""

from __future__ import annotations

from . import consenting, emulating, managing, reading, storing, writing
from .harness import SCENARIOS

__all__ = ["SCENARIOS", "covered"]

_ROOMS = (consenting, emulating, managing, reading, storing, writing)


def covered() -> set[str]:
    """The names of what they cut."""
    return {name for scenario in SCENARIOS.values() for name in scenario.covers}
