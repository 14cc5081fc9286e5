"""The demo, run to its end."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tribe_oauth.cli import _demo
from tribe_oauth.cli._app import app


async def test_the_whole_story() -> None:
    """Every claim of it holds, no secret is in it, and it ends in a table."""
    screen = io.StringIO()
    console = Console(file=screen, width=120)
    await _demo.run(console, quiet=0.1, callers=10_000, persons=300)
    said = " ".join(screen.getvalue().split())
    assert "10,000 coroutines found their token refused" in said
    assert "Token requests that Tribe saw: 1." in said
    assert "Different tokens that came of it: 1." in said
    assert said.count("was killed (SIGKILL)") == 2
    assert "bakkerij is connected" in said
    assert "lost rotation" in said
    assert "900 persons" in said
    assert len(re.findall(r"│ [A-Z].*?│", said)) >= 7
    assert not re.search(r"\b(at|rt)\.[\w-]{20}|secret-", said)


async def test_an_interrupted_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong, the processes that it started are ended."""

    async def broken(story: _demo.Story) -> str:
        """A step that fails."""
        processes.append(story.base)
        raise ZeroDivisionError

    processes: list[str] = []
    monkeypatch.setattr(_demo, "STEPS", (broken,))
    with pytest.raises(ZeroDivisionError):
        await _demo.run(Console(file=io.StringIO()), quiet=0.1, callers=1, persons=1)
    assert processes


def test_the_command() -> None:
    """`tribe-oauth demo` tells it on the screen."""
    options = ["--quiet", "0.1", "--callers", "100", "--persons", "10"]
    result = CliRunner().invoke(app, ["demo", *options])
    assert result.exit_code == 0
    assert "What happened" in result.output
