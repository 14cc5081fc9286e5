"""Ctrl-C while a command waits for an answer: once it ends in good order, twice it ends at once."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tribe_oauth.cli import _run
from tribe_oauth.cli._app import app
from tribe_oauth.sandbox import Sandbox

from .served import served, use

COMMAND = [sys.executable, "-m", "tribe_oauth.cli", "connect", "acme"]


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sandbox]:
    with served(Sandbox(organizations=["Acme"], persons=1)) as sandbox:
        use(sandbox, monkeypatch, tmp_path / "tribe.db")
        monkeypatch.setenv("TRIBE_REFRESH_TOKEN", sandbox.paste_token("Acme"))
        yield sandbox


def reached(sandbox: Sandbox, process: subprocess.Popen[str]) -> None:
    """Wait until its token request is at the server."""
    while not sandbox.ledger.token_requests and not sandbox._faults.orders[0].hits:
        assert process.poll() is None


def test_once(sandbox: Sandbox) -> None:
    """The answer is waited for, and what came of it is there afterwards."""
    sandbox.fault("delay", seconds=0.5)
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        reached(sandbox, process)
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.stderr.read()
        assert process.wait(20) == 130
    status = [sys.executable, "-m", "tribe_oauth.cli", "status", "acme"]
    assert "fresh" in subprocess.run(status, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_twice(sandbox: Sandbox, second: signal.Signals) -> None:
    """The first waits for what was sent, and says so when that takes long; the second ends it at once, with a word.

    The cursor, which a progress bar hides, is shown again.
    """
    sandbox.fault("hang")
    keyboard, terminal = pty.openpty()
    with subprocess.Popen(COMMAND, stderr=terminal, stdout=terminal, text=True) as process:
        os.close(terminal)
        reached(sandbox, process)
        process.send_signal(signal.SIGINT)
        said = b""
        while b"once more ends it at once" not in said:
            said += os.read(keyboard, 1_000)
        process.send_signal(second)
        assert process.wait(5) == 128 + second
    said = b""
    while b"may be lost" not in said:
        said += os.read(keyboard, 1_000)
    os.close(keyboard)
    assert b"\x1b[?25hended at once: what was sent and not saved yet may be lost" in said


def test_twice_in_a_pipe() -> None:
    """The word alone, and nothing that only a terminal obeys."""
    program = "from tribe_oauth.cli._run import _end_at_once; _end_at_once(2, None)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == "\nended at once: what was sent and not saved yet may be lost\n"


def test_before_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that has not begun to listen ends with the same code."""

    def interrupted(work: Coroutine[Any, Any, None]) -> None:
        work.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(_run, "_until_ended", interrupted)
    assert CliRunner().invoke(app, ["keygen"]).exit_code == 130
