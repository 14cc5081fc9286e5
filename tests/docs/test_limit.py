"""The example of docs/limit.md, run as it stands."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tribe_oauth import Client, RateLimit, TokenManager
from tribe_oauth.stores.sqlite import SQLiteStore

PAGE = (Path(__file__).parents[2] / "docs" / "limit.md").read_text(encoding="utf-8")


async def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes a manager; what the page says of the defaults is so."""
    monkeypatch.chdir(tmp_path)
    (source,) = re.findall(r"```python\n(.*?)\n```", PAGE, re.DOTALL)
    names = {"TokenManager": TokenManager, "SQLiteStore": SQLiteStore, "RateLimit": RateLimit}
    scope: dict[str, object] = {**names, "client": Client("id", "secret")}
    exec(compile(source, "docs/limit.md", "exec"), scope)  # noqa: S102 (the page is ours)
    manager = scope["manager"]
    assert isinstance(manager, TokenManager)
    await manager.close()
    assert os.listdir(tmp_path) == []
    assert RateLimit() == RateLimit(calls=1000, seconds=60, share=1.0, longest_wait=60.0)
