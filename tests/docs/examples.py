"""Examples of a page, run as they stand."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def examples(page: str) -> list[str]:
    """All of a page, in their order."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


async def run(source: str, **names: Any) -> dict[str, Any]:
    """Run one inside of a function, with these names; what it leaves behind."""
    code = f"async def example():\n{textwrap.indent(source, '    ')}\n    return locals()\n"
    exec(compile(code, "docs", "exec"), names)  # noqa: S102 (the page is ours)
    function: Callable[[], Awaitable[dict[str, Any]]] = names["example"]
    return await function()
