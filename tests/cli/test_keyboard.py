"""Reading from a keyboard: nothing typed is shown, and a person who never presses Enter holds up nothing."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tribe_oauth.cli import _keyboard
from tribe_oauth.sandbox import Sandbox

from ..web.cancelling import until
from .served import served, use

COMMAND = [sys.executable, "-m", "tribe_oauth.cli", "connect", "acme", "--paste"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with served(Sandbox(organizations=["Acme"], persons=1)) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(sandbox, monkeypatch, tmp_path / "tribe.db")


def read_until(terminal: int, words: str) -> str:
    said = ""
    while words not in said:
        said += os.read(terminal, 1000).decode()
    return said


def shows_what_is_typed(terminal: int) -> bool:
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def test_a_person_is_asked(sandbox: Sandbox) -> None:
    """What they paste is not shown; afterwards the terminal shows again what is typed."""
    keyboard, terminal = pty.openpty()
    pasted = sandbox.paste_token("Acme")
    with subprocess.Popen(COMMAND, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True) as process:
        screen = read_until(keyboard, "Refresh token: ")  # with its space: what is typed earlier is dropped
        assert not shows_what_is_typed(terminal)
        os.write(keyboard, f"{pasted}\n".encode())
        screen += read_until(keyboard, "connected: acme")
        assert process.wait(10) == 0
    assert shows_what_is_typed(terminal)
    os.close(terminal)
    os.close(keyboard)
    assert pasted not in screen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_person_who_changes_their_mind(number: signal.Signals) -> None:
    """A signal ends it at once, without a word, and the terminal shows again what is typed."""
    keyboard, terminal = pty.openpty()
    with subprocess.Popen(
        COMMAND, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.read(len("Refresh token: ")) == b"Refresh token: "
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert process.stderr.read() == b""
    assert shows_what_is_typed(terminal)
    os.close(terminal)
    os.close(keyboard)


def test_what_is_no_text() -> None:
    """A paste that is not UTF-8 is refused like any other that cannot be a token, and is not repeated."""
    environ = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(COMMAND, input=b"\xff\xfe\n", env=environ, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"ConfigurationError: the refresh token is empty, or has")


async def test_a_terminal_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the end of the input."""
    keyboard, terminal = pty.openpty()
    os.close(keyboard)
    with os.fdopen(terminal) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert await _keyboard.line() == ""


async def test_an_input_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the end of the input too."""
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert await _keyboard.line() == ""


def test_without_an_input() -> None:
    """A process may have none at all."""
    command = ["sh", "-c", 'exec "$0" "$@" <&-', *COMMAND]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"ConfigurationError: the refresh token is empty, or has")


async def test_none_for_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an input there is no next line."""
    monkeypatch.setattr(sys, "stdin", None)
    assert await _keyboard.line() == ""


async def test_a_line_that_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes as a line of which nothing is left, and the next one is read as it is."""
    reading, writing = os.pipe()
    os.write(writing, b"\xff\xfe\n")
    with os.fdopen(reading, encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert await _keyboard.line() == "\N{REPLACEMENT CHARACTER}\n"
        os.write(writing, b"text\n")
        os.close(writing)
        assert await _keyboard.line() == "text\n"
        assert await _keyboard.line() == ""


async def test_a_line_that_comes_after_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled, it takes nothing; the line that comes later harms nobody."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream, os.fdopen(writing, "w") as keyboard:
        monkeypatch.setattr(sys, "stdin", stream)
        before = set(threading.enumerate())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_keyboard.line(), 0.01)
        keyboard.write("too late\n")
        keyboard.flush()
        await until(lambda: set(threading.enumerate()) <= before)  # one of those before may end meanwhile


def test_a_line_that_comes_after_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where even the event loop has ended."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream, os.fdopen(writing, "w") as keyboard:
        monkeypatch.setattr(sys, "stdin", stream)
        threads = set(threading.enumerate())
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(_keyboard.line(), 0.01))
        keyboard.write("too late\n")
        keyboard.flush()
        for thread in set(threading.enumerate()) - threads:
            thread.join(10)
            assert not thread.is_alive()
