"""The demo, run to its end."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tribe_oauth import TribeOAuthError
from tribe_oauth.cli import _demo
from tribe_oauth.cli._app import app


async def told(*, callers: int = 1, persons: int = 1) -> str:
    """Run it; what it shows."""
    screen = io.StringIO()
    with redirect_stdout(screen):
        await _demo.demo(quiet=0.1, callers=callers, persons=persons)
    return screen.getvalue()


async def test_the_whole_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every claim of it holds, no secret is in it, and it ends in a table."""
    monkeypatch.setenv("COLUMNS", "120")
    said = " ".join((await told(callers=10_000, persons=300)).split())
    assert "10,000 coroutines found their token refused" in said
    assert "Token requests that Tribe saw: 1." in said
    assert "Different tokens that they got: 1." in said
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
        await told()
    assert processes


async def test_no_tribe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that does not start is an error, not an endless wait."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(TribeOAuthError, match="did not start: exit status 1"):
        await told()


async def test_a_victim_that_ends_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot be killed in the middle is an error, not an endless wait."""

    async def nobody(story: _demo.Story) -> str:
        """Nobody is connected."""
        await _demo._kill_in_the_middle(story, "nobody", spent=False)
        raise AssertionError

    monkeypatch.setattr(_demo, "STEPS", (nobody,))
    with pytest.raises(TribeOAuthError, match="ended by itself: exit status 2"):
        await told()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM end it in the middle, with its processes and its files, and without a traceback."""
    command = [sys.executable, "-m", "tribe_oauth.cli", "demo", "--callers", "10", "--persons", "10"]
    environ = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "4. " not in process.stdout.readline():
            pass
        process.send_signal(number)
        status = process.wait(10)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # nobody is left
        assert (status, process.stderr.read()) == (128 + number, "")
    assert list(tmp_path.iterdir()) == []


def test_the_command() -> None:
    """`tribe-oauth demo` tells it on the screen."""
    options = ["--quiet", "0.1", "--callers", "100", "--persons", "10"]
    result = CliRunner().invoke(app, ["demo", *options])
    assert result.exit_code == 0
    assert "What happened" in result.output
