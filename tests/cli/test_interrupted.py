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


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_twice(sandbox: Sandbox, second: signal.Signals) -> None:
    """The first waits for what was sent, and says so when that takes long; the second ends it at once, with a word."""
    sandbox.fault("hang")
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        reached(sandbox, process)
        process.send_signal(signal.SIGINT)
        while not (line := process.stderr.readline()).strip():
            pass
        assert line == "it ends when what was sent is answered and saved; once more ends it at once\n"
        process.send_signal(second)
        assert process.wait(5) == 128 + second
        assert process.stderr.read() == "\nended at once: what was sent and not saved yet may be lost\n"


def test_once(sandbox: Sandbox) -> None:
    """The answer is waited for, and what came of it is there afterwards."""
    sandbox.fault("delay", seconds=2.0)
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        reached(sandbox, process)
        process.send_signal(signal.SIGINT)
        process.stderr.readline()
        assert process.wait(20) == 130
    status = [sys.executable, "-m", "tribe_oauth.cli", "status", "acme"]
    assert "fresh" in subprocess.run(status, capture_output=True, text=True, check=True).stdout


def test_twice_at_a_terminal(sandbox: Sandbox) -> None:
    """The cursor, which a progress bar hides, is shown again."""
    sandbox.fault("hang")
    keyboard, terminal = pty.openpty()
    with subprocess.Popen(COMMAND, stderr=terminal, stdout=terminal, text=True) as process:
        os.close(terminal)
        reached(sandbox, process)
        process.send_signal(signal.SIGINT)
        said = b""
        while b"once more" not in said:
            said += os.read(keyboard, 1_000)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
    said = os.read(keyboard, 1_000)
    os.close(keyboard)
    assert b"\x1b[?25h" in said
    assert b"ended at once" in said


def test_before_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that has not begun to listen ends with the same code."""

    def interrupted(work: Coroutine[Any, Any, None]) -> None:
        work.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(_run, "_until_ended", interrupted)
    assert CliRunner().invoke(app, ["keygen"]).exit_code == 130
