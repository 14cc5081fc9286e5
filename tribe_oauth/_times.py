"""How a time is said to people. For what people look at: the command line and the pages."""

from __future__ import annotations

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def relative(at: float | None, now: float) -> str:
    """A Unix time, in seconds, beside another: "in 3 h", "2 d ago"; nothing for None."""
    if at is None:
        return ""
    seconds = at - now
    size, unit = next(((size, unit) for size, unit in _UNITS if abs(seconds) >= size), (1, "s"))
    text = f"{abs(seconds) / size:.0f} {unit}"
    return f"in {text}" if seconds >= 0 else f"{text} ago"
