"""What commands write arrives whole, or the command fails: pipes, full disks, readers that go away, streams closed."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import pytest

from tribe_oauth.cli._output import whole_output
from tribe_oauth.sandbox import ApiRules, Sandbox

from .served import served, use

COMMAND: Final = [sys.executable, "-m", "tribe_oauth.cli"]
PERSONS: Final = 1_000
EXPORT: Final = ["export", "Relation_Person", "--to", "-"]
# Each command that writes to standard output, as a person would run it here.
ALL: Final[dict[str, list[str]]] = {
    "--help": ["--help"],
    "export --help": ["export", "--help"],
    "status": ["status"],
    "token": ["token"],
    "token --reveal": ["token", "--reveal"],
    "refresh": ["refresh"],
    "get": ["get", "Relation_Person", "--top", "100"],
    "get --json": ["get", "Relation_Person", "--top", "100", "--json"],
    "export": ["export", "Relation_Person", "--to", "out"],
    "export --json": ["export", "Relation_Person", "--to", "out", "--json"],
    "export --to -": EXPORT,
}
UNBUFFERED: Final = {"PYTHONUNBUFFERED": "1"}
MODES: Final[list[dict[str, str]]] = [{}, UNBUFFERED]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with served(
        Sandbox(
            organizations=["Acme"], persons=PERSONS, page_size=250, api=ApiRules(paging="nextLink", default_page=250)
        )
    ) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(sandbox, monkeypatch, tmp_path / "tribe.db")
    monkeypatch.chdir(tmp_path)


def run(arguments: list[str], mode: dict[str, str], **streams: Any) -> subprocess.CompletedProcess[bytes]:
    streams = {"stderr": subprocess.PIPE, **streams}
    return subprocess.run([*COMMAND, *arguments], env={**os.environ, **mode}, check=False, timeout=60, **streams)


def rows_of(lines: bytes) -> list[dict[str, Any]]:
    return [json.loads(line)["row"] for line in lines.splitlines()]


by_id = itemgetter("ID")


def everybody(sandbox: Sandbox) -> list[dict[str, Any]]:
    """In the order of their IDs; a set is read in parts, whose pages come in any order."""
    return sorted(sandbox.organization("Acme").all("Relation_Person"), key=by_id)


@pytest.mark.parametrize(
    ("command", "mode"),
    [*((command, {}) for command in ALL), ("get --json", UNBUFFERED), ("export --to -", UNBUFFERED)],
)
def test_a_full_disk(command: str, mode: dict[str, str]) -> None:
    """One line that says why, and what to do; no traceback, and no success."""
    with open("/dev/full", "wb") as full:
        done = run(ALL[command], mode, stdout=full)
    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert "No space left on device" in said
    assert "make room on that disk" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "mode"),
    [("--help", {}), ("status", {}), ("get --json", {}), ("export --json", {}), ("export --to -", UNBUFFERED)],
)
def test_a_reader_that_has_gone(command: str, mode: dict[str, str]) -> None:
    """It ends without a word, as other tools do before `head`."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as closed:
        done = run(ALL[command], mode, stdout=closed)
    assert done.stderr.decode() == ""
    assert done.returncode == 1


def test_a_reader_that_goes_amid_the_rows() -> None:
    """As `| head -1`: it has its line, and the export ends, without a word."""
    with subprocess.Popen([*COMMAND, *EXPORT], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1
    assert json.loads(first)["organization"] == "default"


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_disk_that_fills_up(mode: dict[str, str]) -> None:
    """A write that was taken in part is noticed: the export fails, and never says complete."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    with open("rows", "wb") as file:
        done = run(EXPORT, mode, stdout=file, preexec_fn=limit)
    said = done.stderr.decode()
    assert done.returncode == 1
    assert "File too large" in said
    assert "complete" not in said
    assert os.stat("rows").st_size == 200_000


def slowly(pipe: int, found: list[bytes]) -> None:
    """Reads a pipe, with a rest at the beginning and some on the way."""
    time.sleep(0.5)
    with os.fdopen(pipe, "rb", buffering=0) as file:
        while piece := file.read(20_000):
            found.append(piece)
            if len(found) % 20 == 0:
                time.sleep(0.01)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("arguments", [EXPORT, ["get", "Relation_Person", "--json", "--top", "1000"]], ids=str)
def test_a_pipe_that_does_not_block(sandbox: Sandbox, mode: dict[str, str], arguments: list[str]) -> None:
    """As other programs leave it behind: what is refused for a moment is written later, and every line arrives."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    found: list[bytes] = []
    reader = threading.Thread(target=slowly, args=(read, found))
    reader.start()
    with open(write, "wb") as pipe:
        done = run(arguments, mode, stdout=pipe)
    reader.join()
    assert done.returncode == 0, done.stderr.decode()
    lines = b"".join(found)
    rows = rows_of(lines) if arguments is EXPORT else [json.loads(line) for line in lines.splitlines()]
    assert sorted(rows, key=by_id) == everybody(sandbox)


def test_events_to_a_pipe_that_does_not_block() -> None:
    """Those of `--json`, on standard error, are whole as well."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    found: list[bytes] = []
    reader = threading.Thread(target=slowly, args=(read, found))
    reader.start()
    with open(write, "wb") as pipe:
        run([*EXPORT, "--json", "--page-size", "2"], UNBUFFERED, stdout=subprocess.DEVNULL, stderr=pipe)
    reader.join()
    events = [json.loads(line) for line in b"".join(found).splitlines()]
    rows = [0, *(event["rows"] for event in events if event["event"] == "page")]
    assert all(after - before in {0, 1, 2} for before, after in pairwise(rows))  # the last page of a part may be short
    assert rows[-1] == PERSONS


def _close(number: int) -> Callable[[], None]:
    return lambda: os.close(number)


@pytest.mark.parametrize("command", ["status", "export --to -"])
def test_without_a_standard_output(command: str) -> None:
    """As with `>&-`: it fails, and nothing is written into another file that has the number by then."""
    done = run(ALL[command], {}, stdout=subprocess.DEVNULL, preexec_fn=_close(1))
    assert done.returncode == 1
    assert "standard output cannot be written (Bad file descriptor)" in done.stderr.decode() or (
        "the output cannot be written (Bad file descriptor)" in done.stderr.decode()
    )
    assert "Traceback" not in done.stderr.decode()


def test_without_a_standard_error(sandbox: Sandbox) -> None:
    """As with `2>&-`: whoever closed it wants no words, and gets the rows."""
    done = run(EXPORT, {}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=_close(2))
    assert done.returncode == 0
    assert sorted(rows_of(done.stdout), key=by_id) == everybody(sandbox)


def test_a_full_disk_behind_standard_error() -> None:
    """The table of an export to standard output was not told: that is no success."""
    with open("/dev/full", "wb") as full:
        assert run(EXPORT, {}, stdout=subprocess.DEVNULL, stderr=full).returncode == 1
        assert run(["get", "Nothing"], {}, stdout=subprocess.DEVNULL, stderr=full).returncode == 1
        assert run(["status"], {}, stdout=full, stderr=full).returncode == 1


CLOSING: Final = """
import errno, os, sys
from tribe_oauth.cli import main

output, close = os.fstat(1).st_ino, os.close

def closed(file):
    refused = os.fstat(file).st_ino == output
    close(file)
    if refused:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

os.close = closed
sys.argv = ["tribe-oauth", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("command", ["get --json", "export --to -", "--help"])
def test_a_disk_that_says_no_at_the_close(command: str) -> None:
    """As network file systems do, whose quota is looked at late: it is looked for before success is told."""
    with open("out.txt", "wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", CLOSING, *ALL[command]], stdout=file, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    last = done.stderr.decode().splitlines()[-1]
    assert f"standard output cannot be written ({os.strerror(errno.EDQUOT)}): the quota is used up" in last


def test_an_error_is_told_once() -> None:
    """What a command says itself is not said again at the end."""
    with open("/dev/full", "wb") as full:
        done = run(["get", "Nothing"], {}, stdout=full)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("ODataError: the API answered 404")
    assert len(done.stderr.decode().splitlines()) == 1


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_text_is_as_the_terminal_wants_it(mode: dict[str, str]) -> None:
    """Encoding and errors are those that Python was told."""
    done = run(["status", "Zoë"], {**mode, "PYTHONIOENCODING": "ascii:backslashreplace"}, stdout=subprocess.PIPE)
    assert b"Zo\\xeb" in done.stderr


# In this process


def test_a_stream_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes everything as it is."""
    memory = io.StringIO()
    monkeypatch.setattr(sys, "stdout", memory)
    with whole_output():
        assert sys.stdout is memory
        sys.stdout.write("x")
    assert memory.getvalue() == "x"


@whole_output()
def write_and_go_on() -> None:
    for _ in range(2):
        sys.stdout.write("x")
        with suppress(OSError):
            sys.stdout.flush()


def test_a_refusal_that_nobody_minded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What was not taken is told at the end, also where the code that wrote it went on; the streams are put back."""
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as end:
            write_and_go_on()
        assert sys.stdout is full
    assert end.value.code == 1
    assert "standard output cannot be written (No space left on device)" in capsys.readouterr().err


def test_a_pipe_that_nobody_reads(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The one refusal without a word."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as end:
            write_and_go_on()
    assert end.value.code == 1
    assert capsys.readouterr().err == ""


def test_numbers_of_streams(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are those of the files below; what was closed has none."""
    with open(tmp_path / "file", "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        monkeypatch.setattr(sys, "stderr", None)
        with whole_output():
            assert sys.stdout.fileno() == file.fileno()
            assert not sys.stdout.isatty()
            assert not sys.stdout.line_buffering
            sys.stderr.write("to nobody")
            with pytest.raises(io.UnsupportedOperation):
                sys.stderr.fileno()
        assert sys.stderr is None
