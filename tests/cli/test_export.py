"""``tribe-oauth export`` as a person types it, against a sandbox."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tribe_oauth._strict_json import to_json
from tribe_oauth.cli._app import app
from tribe_oauth.sandbox import ApiRules, Sandbox
from tribe_oauth.sync import Checkpoint, JSONLinesFolder
from tribe_oauth.sync._stored import Stored

from .served import served, use

DONE, REFUSED, USAGE, PARTIAL = 0, 1, 2, 3
COMMAND = [sys.executable, "-m", "tribe_oauth.cli", "export"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with served(
        Sandbox(organizations=["Acme", "[bold]Beta"], persons=30, page_size=10, api=ApiRules(paging="nextLink"))
    ) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(sandbox, monkeypatch, tmp_path / "tribe.db")
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, code: int = DONE, typed: str | None = None) -> Result:
    result = CliRunner().invoke(app, arguments, input=typed)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def connected(sandbox: Sandbox) -> None:
    """Both organizations, under keys of our own."""
    for key, name in (("acme", "Acme"), ("[bold]beta", "[bold]Beta")):
        run("connect", key, "--paste", typed=f"{sandbox.paste_token(name)}\n")


def read(folder: str, organization: str, entity_set: str = "Relation_Person") -> list[dict[str, Any]]:
    lines = JSONLinesFolder(folder).path(organization, entity_set).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def has(sandbox: Sandbox, organization: str, entity_set: str) -> list[dict[str, Any]]:
    """What the API has, in the order of its keys."""
    return sorted(sandbox.organization(organization).all(entity_set), key=itemgetter("ID"))


def cells(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if "│" in line]


@pytest.mark.usefixtures("connected")
def test_everything_to_files(sandbox: Sandbox) -> None:
    """All connected organizations, a file each; a table says what came of each; run again, nothing is left to do."""
    said = run("export", "Relation_Person", "Relation_Organization", "--to", "out").stdout
    assert read("out", "acme") == has(sandbox, "Acme", "Relation_Person")
    assert read("out", "[bold]beta") == has(sandbox, "[bold]Beta", "Relation_Person")
    assert read("out", "acme", "Relation_Organization") == has(sandbox, "Acme", "Relation_Organization")
    rows = cells(said)
    assert [row[:4] for row in rows] == [
        ["[bold]beta", "Relation_Organization", "6", "6"],
        ["[bold]beta", "Relation_Person", "30", "30"],
        ["acme", "Relation_Organization", "6", "6"],
        ["acme", "Relation_Person", "30", "30"],
    ]
    assert {row[-1] for row in rows} == {"complete"}
    again = cells(run("export", "Relation_Person", "--to", "out").stdout)
    assert [row[2:4] for row in again] == [["30", "0"], ["30", "0"]]
    anew = cells(run("export", "Relation_Person", "--to", "out", "--restart", "--at-once", "1").stdout)
    assert [row[2:4] for row in anew] == [["30", "30"], ["30", "30"]]


@pytest.mark.usefixtures("connected")
def test_chosen_organizations_to_standard_output(sandbox: Sandbox) -> None:
    """Lines that say whose they are, and nothing between them: the table goes to the other channel."""
    result = run("export", "Relation_Person", "--organization", "acme", "--organization", "acme", "--to", "-")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["row"] for line in lines] == has(sandbox, "Acme", "Relation_Person")
    assert {(line["organization"], line["entity_set"]) for line in lines} == {("acme", "Relation_Person")}
    assert "complete" in result.stderr


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("to", ["out", "-"])
def test_events_for_machines(to: str) -> None:
    """A line for each, on the channel that the rows do not use."""
    result = run("export", "Relation_Person", "--organization", "acme", "--to", to, "--json")
    events = [json.loads(line) for line in (result.stderr if to == "-" else result.stdout).splitlines()]
    assert [(it["event"], it["rows"], it["total"]) for it in events] == [
        ("started", 0, None),
        ("page", 10, 30),
        ("page", 20, 30),
        ("page", 30, 30),
        ("finished", 30, 30),
    ]
    assert {(it["organization"], it["entity_set"], it["error"]) for it in events} == {("acme", "Relation_Person", None)}


@pytest.mark.usefixtures("connected")
def test_what_was_complete_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not told as today's: since when, in the table and in the events, and how to have it read again."""
    arguments = ("export", "Relation_Person", "--organization", "acme", "--to", "out")
    first = run(*arguments).stdout
    assert "since" not in first
    assert "--max-age" not in first
    at = JSONLinesFolder("out").path("acme", "Relation_Person").stat().st_mtime
    again = run(*arguments).stdout
    (row,) = cells(again)
    assert row[2:4] == ["30", "0"]
    assert re.fullmatch(r"complete since \d{4}-\d\d-\d\d \d\d:\d\d \(\d+ s ago\)", row[-1])
    assert "1 were complete before, and nothing of them was read now: --max-age 20h" in again
    events = [json.loads(line) for line in run(*arguments, "--json").stdout.splitlines()]
    assert [(it["event"], it["rows"], it["read"]) for it in events] == [("started", 30, 0), ("finished", 30, 0)]
    assert {abs(it["since"] - at) < 60 for it in events} == {True}
    assert cells(run(*arguments, "--max-age", "1h").stdout)[0][2:4] == ["30", "0"]
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3_601)
    anew = run(*arguments, "--max-age", "60m").stdout
    assert cells(anew)[0][2:4] == ["30", "30"]
    assert cells(anew)[0][-1] == "complete"


@pytest.mark.usefixtures("connected")
def test_one_whose_age_is_not_known() -> None:
    """An earlier run of a version that kept no time: that is said too."""
    arguments = ("export", "Relation_Person", "--organization", "acme", "--to", "out")
    run(*arguments)
    kept = JSONLinesFolder("out").path("acme", "Relation_Person").with_name("Relation_Person.jsonl.checkpoint")
    stored = json.loads(kept.read_text())
    content = JSONLinesFolder("out").path("acme", "Relation_Person").read_bytes()
    del stored["bytes"], stored["crc"]
    kept.write_bytes(to_json(Stored.of(Checkpoint(**stored | {"since": None}), len(content), zlib.crc32(content))))
    assert cells(run(*arguments).stdout)[0][-1] == "complete, by an earlier run"


@pytest.mark.usefixtures("connected")
def test_the_same_folder_with_another_query() -> None:
    """What was asked then, what is asked now, and what to do."""
    arguments = ("export", "Relation_Person", "--organization", "acme", "--to", "out")
    run(*arguments)
    told = " ".join(row[-1] for row in cells(run(*arguments, "--page-size", "7", code=REFUSED).stdout))
    assert told.startswith("ConfigurationError: an earlier run read this with other options (")
    assert told.endswith("page_size=7: restart, which reads it anew, or write to another folder")
    assert cells(run(*arguments, "--page-size", "7", "--restart").stdout)[0][2:4] == ["30", "30"]


@pytest.mark.usefixtures("connected")
def test_one_that_fails() -> None:
    """The others are complete; the table says why, in one line, and the exit code says that something is missing."""
    arguments = ("export", "Relation_Person", "Nothing", "--organization", "acme", "--organization", "who", "--to", "o")
    rows = cells(run(*arguments, code=PARTIAL).stdout)
    outcomes = {tuple(row[:2]): row[-1] for row in rows}
    assert outcomes["acme", "Relation_Person"] == "complete"
    assert outcomes["acme", "Nothing"].startswith("ODataError: the API answered 404")
    assert outcomes["who", "Relation_Person"].startswith("UnknownOrganizationError: ")
    result = run(*arguments, "--json", code=PARTIAL)
    failed = [json.loads(line) for line in result.stdout.splitlines() if '"failed"' in line]
    assert {it["error"]["type"] for it in failed} == {"ODataError", "UnknownOrganizationError"}


def test_nobody_is_connected(sandbox: Sandbox) -> None:
    """Then it is the organization of the environment, as for every other command."""
    run("export", "Relation_Person", "--to", "out")
    assert read("out", "default") == has(sandbox, "Acme", "Relation_Person")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("Relation_Person",), USAGE, "Missing option '--to'"),
        (("--to", "out"), USAGE, "Missing argument"),
        (("Relation_Person", "--to", "-", "--restart"), USAGE, "always begins at the beginning"),
        (("Relation_Person", "--to", "-", "--max-age", "1d"), USAGE, "always begins at the beginning"),
        (("Relation_Person", "--to", "out", "--max-age", "20"), USAGE, "a number with its unit, as in 90m"),
        (("Relation_Person", "--to", "out", "--max-age", "0h"), USAGE, "a number with its unit, as in 90m"),
        (("/x", "--to", "out"), USAGE, "ConfigurationError: the path names what to read"),
        (("Relation_Person", "Relation_Person", "--to", "out"), USAGE, "named twice"),
        (("Relation_Person", "--to", "tribe.txt"), REFUSED, "SinkError: 'tribe.txt' cannot be written"),
    ],
)
def test_what_cannot_work(arguments: tuple[str, ...], code: int, words: str) -> None:
    """One clear line."""
    Path("tribe.txt").write_text("")
    result = run("export", *arguments, code=code)
    assert words in re.sub(r"\s+", " ", result.output)
    if "Error: " in words:
        assert len(result.output.splitlines()) == 1


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says how to get it."""
    for name in [name for name in sys.modules if name.startswith("tribe_oauth.sync")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "msgspec", None)
    monkeypatch.delattr("tribe_oauth.sync", raising=False)
    result = run("export", "Relation_Person", "--to", "out", code=USAGE)
    assert result.output == "ConfigurationError: export needs an extra: pip install 'tribe-oauth[cli,sync]'\n"


def test_a_page_size(sandbox: Sandbox) -> None:
    """For an API without pages of its own."""
    result = run("export", "Relation_Person", "--to", "out", "--page-size", "7", "--json")
    pages = [event["rows"] for event in map(json.loads, result.stdout.splitlines()) if event["event"] == "page"]
    assert pages == [7, 14, 21, 28, 30]
    assert read("out", "default") == has(sandbox, "Acme", "Relation_Person")


@pytest.mark.parametrize("options", [["--to", "-"], ["--to", "out", "--json"]], ids=repr)
def test_whoever_reads_goes_away(options: list[str]) -> None:
    """As `| head` does: it ends, and says nothing more of it."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as closed:
        done = subprocess.run(
            [*COMMAND, "Relation_Person", *options], stdout=closed, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == REFUSED
    assert done.stderr == ""


@pytest.mark.parametrize("options", [["--to", "-"], ["--to", "out", "--json"]], ids=repr)
def test_a_full_disk_behind_the_output(options: list[str]) -> None:
    """That is no reader who went away: the reason is told, in one line."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "Relation_Person", *options], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == REFUSED
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_events_are_plain_ascii(sandbox: Sandbox) -> None:
    """Whatever an organization is called, and whatever the terminal can show."""
    run("connect", "Zoë", "--paste", typed=f"{sandbox.paste_token('Acme')}\n")
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [*COMMAND, "Relation_Person", "--organization", "Zoë", "--to", "out", "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert {json.loads(line)["organization"] for line in done.stdout.splitlines()} == {"Zoë"}


def test_a_retry_is_an_event_and_no_line_in_a_log(sandbox: Sandbox) -> None:
    """What went wrong on the way is counted, and does not fill the screen."""
    sandbox.fault("status", endpoint="api", status=503)
    done = subprocess.run([*COMMAND, "Relation_Person", "--to", "out"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert [row[4] for row in cells(done.stdout)] == ["1"]


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("status", [429, 503])
def test_who_has_no_time(sandbox: Sandbox, status: int) -> None:
    """An API that is not to be had is given up after the seconds that are said; of the others all rows are there."""
    fault = sandbox.fault("status", endpoint="api", status=status, times=None, organization="Acme")
    result = run("export", "Relation_Person", "--to", "out", "--json", "--give-up-after", "0.3", code=PARTIAL)
    fault.cancel()
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert {it["organization"] for it in events if it["event"] == "failed"} == {"acme"}
    retries = sum(it["event"] == "retried" for it in events)
    assert retries == 0 if status == 429 else 1 <= retries <= 2  # a minute is more than there is
    assert len(read("out", "[bold]beta")) == 30


@pytest.mark.parametrize("seconds", ["-1", "soon"])
def test_what_is_no_time(seconds: str) -> None:
    """Said before anything is read."""
    run("export", "Relation_Person", "--to", "out", "--give-up-after", seconds, code=USAGE)


@pytest.mark.usefixtures("connected")
def test_bars_for_people() -> None:
    """At a terminal, bars move while it works, more of them than fit are left out, and the table stays."""
    keyboard, terminal = pty.openpty()
    sets = ["Relation_Person", "Activity_Appointment", *(f"Nothing_{number}" for number in range(14))]
    with subprocess.Popen(
        [*COMMAND, *sets, "--to", "out"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    ) as process:
        os.close(terminal)
        said = ""
        try:
            while piece := os.read(keyboard, 10_000):
                said += piece.decode(errors="replace")
        except OSError:
            pass  # Linux says that the other side is gone so
        assert process.wait(20) == PARTIAL
    os.close(keyboard)
    assert "━" in said
    assert "complete" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_ended_by_a_signal(sandbox: Sandbox, number: signal.Signals, code: int) -> None:
    """It ends in good order: what was read is kept, and the next run goes on from there."""
    process = subprocess.Popen(
        [*COMMAND, "Relation_Person", "--to", "out", "--json"], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        fault = None
        for line in process.stdout:
            if json.loads(line)["event"] == "started":
                fault = sandbox.fault("delay", endpoint="api", seconds=0.2, times=None)
            if json.loads(line)["event"] == "page":
                process.send_signal(number)
                break
        assert process.wait(20) == code
    assert fault is not None
    fault.cancel()
    (row,) = cells(run("export", "Relation_Person", "--to", "out").stdout)
    assert row[2] == "30"
    assert int(row[3]) < 30
    assert read("out", "default") == has(sandbox, "Acme", "Relation_Person")
