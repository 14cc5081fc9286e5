"""The command line speaks of commands; what it prints is whole, and harmless for a terminal."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tribe_oauth
from tribe_oauth.cli._app import app
from tribe_oauth.cli._exit import MEANINGS, Exit, exit_for
from tribe_oauth.cli._words import COMMANDS, console, harmless, table_of, told
from tribe_oauth.errors import (
    ConfigurationError,
    ReauthorizationRequired,
    Remedy,
    StoreError,
    TribeOAuthError,
    UnknownOrganizationError,
)
from tribe_oauth.sandbox import Sandbox

from .served import served, use

CALL = re.compile(r"\b\w+\(\)|\w+=[,)]")
README = Path(__file__).parents[2] / "README.md"
PACKAGE = Path(tribe_oauth.__file__).parent
EVIL = "\x1b]0;mine\x07\x1b[31mred\x9b2J \u202eabc\u2066 \ud800\n\x7f"


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result.output


# Remedies


@pytest.mark.parametrize("remedy", list(Remedy))
def test_each_remedy_has_words_of_commands(remedy: Remedy) -> None:
    """For every one there is; they name no call of Python."""
    error = StoreError("it failed", organization="a b", remedy=remedy)
    assert str(error) == f"it failed: {remedy.value}"
    said = told(error)
    assert said.startswith("it failed: ")
    assert not CALL.search(said)
    assert "{" not in said
    if "{named}" in COMMANDS[remedy]:
        assert "--organization 'a b'" in said


def test_words_without_a_remedy() -> None:
    """They are the error's own; so are those of other errors."""
    assert told(StoreError("it failed: do this")) == "it failed: do this"
    assert told(OSError("gone")) == "gone"
    assert "tribe-oauth login --organization acme" in told(ReauthorizationRequired("expired", organization="acme"))
    assert told(UnknownOrganizationError("none", remedy=Remedy.CONNECT)).endswith("'tribe-oauth connect' connects it")
    assert told(UnknownOrganizationError("none", remedy=Remedy.CONNECT_ONE)).endswith(
        "'tribe-oauth connect' connects one"
    )


def sentences() -> Iterator[tuple[str, str]]:
    """All texts that errors are made with, by module: of what the command line can reach."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if module.startswith(("sandbox", "web")) or module == "stores/contract.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith(
                ("Error", "Required", "Unavailable")
            ):
                for part in ast.walk(node):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield module, part.value


PYTHON_ALONE = {
    "_manager/connect.py": "endpoints=client.endpoints",  # the command line has one client
    "_manager/manager.py": "from_env()",
    "_oauth/client.py": "keep()",
    "_oauth/values.py": "reveal()",
}
"""What only a program can do wrong."""


def test_no_error_names_a_call() -> None:
    """An error that tells what to call does so by a remedy, so that others can say it in their words."""
    found = [
        (module, text)
        for module, text in sentences()
        if re.search(r"\w\(\)", text) and PYTHON_ALONE.get(module, "()()") not in text
    ]
    assert found == []


# Exit codes


def test_exit_codes() -> None:
    """One table, in the help and in the README; each error has its code."""
    assert set(MEANINGS) == set(Exit)
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    said = " ".join(re.sub(r"[^\w ,:;.()-]", " ", run("--help")).split())
    for code, meaning in MEANINGS.items():
        assert " ".join(f"{code.value} {meaning}".split()) in said
        assert f"| {code.value} | {meaning} |" in readme
    assert exit_for(ConfigurationError("")) == exit_for(UnknownOrganizationError("")) == Exit.USAGE
    assert exit_for(TribeOAuthError("")) == Exit.FAILED


def test_version() -> None:
    """Of the package that is installed."""
    assert run("--version") == f"tribe-oauth {version('tribe-oauth')}\n"


# Commands for what Python calls


def test_keygen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key alone, for a pipe; without the extra, how to get it."""
    assert len(base64.b64decode(run("keygen"), validate=False)) == 32
    monkeypatch.delitem(sys.modules, "tribe_oauth.stores.encrypted", raising=False)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    assert "pip install 'tribe-oauth[encryption]'" in run("keygen", code=Exit.USAGE)


def test_schema(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the address of the database alone; before it, every command says so. Another store needs none."""
    for name in [name for name in os.environ if name.startswith("TRIBE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRIBE_STORE", database)
    assert "the database has no tables for this in the search_path of its user: run 'tribe-oauth schema' once" in run(
        "status", code=Exit.FAILED
    )
    for _ in range(2):
        assert "the tables are there" in run("schema")
    assert "no organization is connected" in run("status")
    monkeypatch.setenv("TRIBE_STORE", str(tmp_path / "tribe.db"))
    assert "SQLiteStore needs none" in run("schema")
    assert list(tmp_path.iterdir()) == []


# Terminals


def test_text_from_outside() -> None:
    """Nothing that a terminal obeys is left; what people write is."""
    assert harmless(EVIL) == (r"\u001b]0;mine\u0007\u001b[31mred\u009b2J \u202eabc\u2066 \ud800\n\u007f")
    for good in (
        "Zoë & co",
        "a\N{NO-BREAK SPACE}b",
        "\N{FAMILY}\N{ZERO WIDTH JOINER}\N{BOY}",
        "",
        "co\N{SOFT HYPHEN}op",
    ):
        assert harmless(good) == good
    assert json.loads(f'"{harmless(chr(0xE0001))}"') == chr(0xE0001)


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["table", "JSON"])
def test_rows_are_harmless(options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In tables and in JSON, in values and in names; in JSON they are the same values."""
    row = {"ID": EVIL, EVIL: "[bold]x"}
    with served(Sandbox(organizations=["Acme"], persons=1)) as sandbox:
        use(sandbox, monkeypatch, tmp_path / "tribe.db")
        body = json.dumps({"value": [row]})
        sandbox.fault("body", endpoint="api", body=body, content_type="application/json", times=None)
        said = run("get", "Relation_Person", "--top", "1", *options)
    assert not {*EVIL} & {*said} - {*"]0;mine[31mred2J abc\n"}
    assert "[bold]x" in said
    if options:
        assert [json.loads(line) for line in said.splitlines()] == [row]


def test_tables_are_whole_when_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever COLUMNS says: of a pipe nobody knows how wide it is."""
    monkeypatch.setenv("COLUMNS", "20")
    screen = StringIO()
    console(screen).print(table_of([{"ID": "x" * 5_000, "Name": "y" * 5_000}]))
    assert "x" * 5_000 in screen.getvalue()
    assert "y" * 5_000 in screen.getvalue()


def test_json_that_a_terminal_would_obey() -> None:
    """The same values, escaped; half of a surrogate pair is no error."""
    row = {"ID": EVIL}
    line = harmless(json.dumps(row, ensure_ascii=False))
    assert json.loads(line) == row
    line.encode()


def test_an_error_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Though the name in it has a line break and a control sequence."""
    with served(Sandbox(organizations=["Acme"], persons=1)) as sandbox:
        use(sandbox, monkeypatch, tmp_path / "tribe.db")
        command = [sys.executable, "-m", "tribe_oauth.cli", "token", "--organization", "a\n\x1b[2J"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.USAGE
    (line,) = done.stderr.splitlines()
    assert "\x1b" not in line
