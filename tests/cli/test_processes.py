"""Processes that the command line starts: they end, wherever their caller is cancelled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tribe_oauth.cli import _processes
from tribe_oauth.cli._processes import running

from ..web.cancelling import KINDS, cancelled, nothing_left

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelled_at_every_await(kind: str) -> None:
    """The child is dead and its pipes are closed: the end of the pipe that it inherited says so."""
    at, goes_on = 0, True
    while goes_on:
        at += 1
        async with nothing_left():
            alive, child = os.pipe()

            async def work(child: int = child) -> None:
                async with running("cat", stdin=PIPE, stdout=PIPE, pass_fds=(child,)) as process:
                    assert process.stdin is not None
                    assert process.stdout is not None
                    process.stdin.write(b"ready\n")
                    assert await process.stdout.readline() == b"ready\n"

            goes_on = await cancelled(kind, work, at)
            os.close(child)
            os.set_blocking(alive, False)
            assert os.read(alive, 1) == b""  # BlockingIOError while any process has the other end
            os.close(alive)
    assert at > 3


async def test_one_that_does_not_want_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked, given time, and killed."""
    monkeypatch.setattr(_processes, "PATIENCE", 0.1)
    async with nothing_left():
        async with running(sys.executable, "-c", STUBBORN, stdout=PIPE) as process:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        assert process.returncode == -signal.SIGKILL


async def test_one_that_cannot_be_started() -> None:
    """The error comes as it is, and leaves nothing."""
    async with nothing_left():
        with pytest.raises(FileNotFoundError):
            async with running("/no/such/command", stdin=PIPE):
                raise AssertionError


def test_a_demo_that_is_killed(tmp_path: Path) -> None:
    """Nothing can be cleaned up then, and still its processes end: the emulated Tribe, and whatever waits for it."""
    command = [sys.executable, "-m", "tribe_oauth.cli", "demo", "--callers", "10", "--persons", "10"]
    environ = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        while "4. " not in process.stdout.readline():
            pass
        process.kill()
        process.wait()
        process.stdout.read()  # its processes write to the same pipe: it ends when the last of them has ended
