"""What the page on deployment says of time-outs and signals."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest

from tribe_oauth import TokenManager
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores.sqlite import SQLiteStore

PAGE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_grace_period(tmp_path: Path) -> None:
    """It is longer than closing can take with the default time-outs."""
    longest = TokenManager(store=SQLiteStore(tmp_path / "tribe.db"))._context.timing.lease
    assert f"{longest:.0f} seconds at most" in PAGE
    given = {int(found) for found in re.findall(r"(?:timeout |time |period: |Seconds: |StopSec=)(\d+)", PAGE)}
    assert min(given) > longest


async def test_a_program_that_takes_sigterm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It ends by closing its manager, with exit code 0 and without a traceback."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    serve = "async def serve(manager):\n    print('serving', flush=True)\n    await asyncio.Event().wait()\n"
    async with Sandbox() as sandbox:
        for name, value in sandbox.environment.items():
            monkeypatch.setenv(name, value)
        program = f"import asyncio\n{serve}{PROGRAM}print('closed')\n"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", program),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert await process.stdout.readline() == b"serving\n"
        process.send_signal(signal.SIGTERM)
        assert await process.stdout.read() == b"closed\n"
        assert await process.stderr.read() == b""
        assert await process.wait() == 0
