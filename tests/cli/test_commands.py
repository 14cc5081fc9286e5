"""The commands as a person types them, against a sandbox."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tribe_oauth import cli
from tribe_oauth.cli._app import app
from tribe_oauth.cli._words import told_time
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores.encrypted import generate_key

from .served import served, use

DONE, REFUSED, USAGE = 0, 1, 2


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with served(Sandbox(organizations=["Acme", "[bold]Beta"], persons=30)) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(sandbox, monkeypatch, tmp_path / "tribe.db")
    monkeypatch.setenv("COLUMNS", "200")


def tribe_oauth(*arguments: str, code: int = DONE, typed: str | None = None) -> str:
    """Run a command; what it said on both channels."""
    result = CliRunner().invoke(app, arguments, input=typed)
    assert result.exit_code == code, result.output
    return result.output


def test_no_command() -> None:
    """Alone, it says what there is."""
    said = tribe_oauth(code=2)
    for command in ("demo", "sandbox", "connect", "status", "token", "refresh", "get", "disconnect"):
        assert command in said


def test_get_a_table() -> None:
    """The main job in one line: rows, as a table."""
    said = tribe_oauth("get", "Relation_Person", "--top", "5", "--select", "FirstName, LastName,BirthDate")
    assert "FirstName" in said
    assert len(re.findall(r"│ \w", said)) >= 5


def test_get_json() -> None:
    """Rows for programs: a line each, with the server's own order and filter."""
    said = tribe_oauth(
        "get", "Relation_Person", "--json", "--top", "3", "--orderby", "Name desc", "--filter", "IsActive eq true"
    )
    rows = [json.loads(line) for line in said.splitlines()]
    assert len(rows) == 3
    assert rows == sorted(rows, key=lambda row: row["Name"], reverse=True)


def test_get_nothing() -> None:
    """No rows is an answer."""
    assert "no rows" in tribe_oauth("get", "Relation_Person", "--filter", "Name eq 'nobody'")


def test_get_more_than_a_page(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many rows as asked for, over as many pages as it takes."""
    monkeypatch.setattr(sandbox._odata.reading.pages, "size", 4)
    assert len(tribe_oauth("get", "Relation_Person", "--json", "--top", "10").splitlines()) == 10
    assert len(tribe_oauth("get", "Relation_Person", "--json", "--top", "100").splitlines()) == 30


def test_get_what_is_not_there() -> None:
    """The API's own words, on one line."""
    assert "ODataError" in tribe_oauth("get", "Nothing", code=REFUSED)


def test_connect_status_refresh_disconnect(sandbox: Sandbox) -> None:
    """The life of a connection: pasted, looked at, refreshed, used, disconnected."""
    assert "no organization is connected" in tribe_oauth("status")
    pasted = sandbox.paste_token("[bold]Beta")
    said = tribe_oauth("connect", "[bold]beta", "--paste", typed=f"{pasted}\n")
    assert "connected: [bold]beta" in said
    assert pasted not in said
    said = tribe_oauth("status")
    assert "[bold]beta" in said
    assert "fresh" in said
    assert "in 24 h" in said or "in 1 d" in said
    assert "ends in" in tribe_oauth("refresh", "[bold]beta")
    assert "ends in" in tribe_oauth("token", "[bold]beta")
    assert "│" in tribe_oauth("get", "Relation_Person", "--organization", "[bold]beta", "--top", "1")
    assert "disconnected" in tribe_oauth("disconnect", "[bold]beta")
    assert "UnknownOrganizationError" in tribe_oauth("status", "[bold]beta", code=USAGE)
    assert sandbox.ledger.spent_twice() == ()


def test_rekey(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """S27: a new key before the old, then the old one can go. Of what a lost one hides it is told, beside the rest."""
    assert "TRIBE_STORE_KEYS is not set" in tribe_oauth("rekey", code=USAGE)
    old, new = generate_key().reveal(), generate_key().reveal()
    monkeypatch.setenv("TRIBE_STORE_KEYS", old)
    tribe_oauth("connect", "acme", "--paste", typed=f"{sandbox.paste_token('Acme')}\n")
    monkeypatch.setenv("TRIBE_STORE_KEYS", f"{new} {old}")
    assert "1 records are under the newest key" in tribe_oauth("rekey")
    monkeypatch.setenv("TRIBE_STORE_KEYS", new)
    assert "ends in" in tribe_oauth("token", "acme")
    tribe_oauth("connect", "beta", "--paste", typed=f"{sandbox.paste_token('[bold]Beta')}\n")
    monkeypatch.setenv("TRIBE_STORE_KEYS", old)
    tribe_oauth("connect", "gamma", "--paste", typed=f"{sandbox.paste_token('Acme')}\n")
    assert "a key that is not given" in tribe_oauth("status", "acme", code=REFUSED)
    said = tribe_oauth("status", code=REFUSED)
    assert [said.count(word) for word in ("unreadable", "fresh", "a key that is not given")] == [2, 1, 2]
    said = tribe_oauth("rekey", code=REFUSED)
    assert "0 records are under the newest key now; 2 could not be read, and were left as they are: 'acme', 'b" in said
    tribe_oauth("disconnect", "acme")
    tribe_oauth("connect", "beta", "--paste", typed=f"{sandbox.paste_token('[bold]Beta')}\n")
    assert "unreadable" not in tribe_oauth("status")
    assert "the older keys can go" in tribe_oauth("rekey")


def test_a_connection_is_used_without_being_named(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without TRIBE_STORE too: what was connected as the environment's organization is what later commands use."""
    monkeypatch.delenv("TRIBE_STORE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    before = sandbox.ledger.count("client_credentials")
    assert "ends in" in tribe_oauth("token")
    assert sandbox.ledger.count("client_credentials") == before + 1
    assert "no organization is connected" in tribe_oauth("status")
    tribe_oauth("connect", "--paste", typed=f"{sandbox.paste_token('Acme')}\n")
    for command in (["token"], ["refresh"], ["get", "Relation_Person"]):
        tribe_oauth(*command)
    assert sandbox.ledger.count("client_credentials") == before + 1
    assert (tmp_path / "tribe-oauth" / "tokens.db").exists()


def test_a_refresh_token_of_the_environment_comes_first(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer one than the connection began with is not passed over."""
    for _ in range(2):
        monkeypatch.setenv("TRIBE_REFRESH_TOKEN", sandbox.paste_token("Acme"))
        before = sandbox.ledger.count("refresh_token")
        assert "ends in" in tribe_oauth("token")
        assert sandbox.ledger.count("refresh_token") == before + 1


def test_connect_client_credentials() -> None:
    """Without a refresh token it is client credentials; the key is the environment's."""
    assert "connected: default" in tribe_oauth("connect")
    assert "stale" in tribe_oauth("status", "default")


def test_connect_by_the_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refresh token in the environment is what connects."""
    monkeypatch.setenv("TRIBE_REFRESH_TOKEN", sandbox.paste_token("Acme"))
    assert "connected: acme" in tribe_oauth("connect", "acme")
    assert "fresh" in tribe_oauth("status", "acme")


def test_nothing_pasted() -> None:
    """An empty paste is an error, and nothing is connected."""
    assert "ConfigurationError" in tribe_oauth("connect", "acme", "--paste", typed="", code=USAGE)
    assert "no organization is connected" in tribe_oauth("status")


def test_token_is_shown_only_when_asked_for(sandbox: Sandbox) -> None:
    """S24: the access token itself comes alone, for a pipe, and on request."""
    revealed = tribe_oauth("token", "--reveal").strip()
    assert sandbox.ledger.is_live(revealed)
    assert "scope: offline read write" in tribe_oauth("token")
    silent = '{"access_token": "x", "token_type": "bearer", "expires_in": 86400}'
    sandbox.fault("body", body=silent, content_type="application/json")
    assert "scope: not known" in tribe_oauth("token")


def test_a_scope_that_is_known(sandbox: Sandbox, tmp_path: Path) -> None:
    """What was granted is said."""
    from asyncio import run

    from tribe_oauth import TokenManager
    from tribe_oauth.stores.sqlite import SQLiteStore

    async def consent() -> None:
        client = sandbox.client()
        async with TokenManager(client, store=SQLiteStore(tmp_path / "tribe.db")) as manager:
            request = client.authorization_request()
            await manager.connect("acme", request.grant(await sandbox.approve(request.url)))

    run(consent())
    assert "scope: offline read write" in tribe_oauth("token", "acme")


def test_a_setting_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear line names the remedy, without a traceback."""
    monkeypatch.delenv("TRIBE_CLIENT_SECRET")
    (said,) = tribe_oauth("token", code=USAGE).splitlines()
    assert said.startswith("ConfigurationError: TRIBE_CLIENT_SECRET is not set: set it, or TRIBE_CLIENT_SECRET_FILE")


def test_a_wrong_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's refusal, and no secret in it."""
    monkeypatch.setenv("TRIBE_CLIENT_SECRET", "wrong-secret")
    monkeypatch.setenv("TRIBE_STORE", "memory:")
    said = tribe_oauth("token", code=REFUSED)
    assert "invalid_client" in said
    assert "wrong-secret" not in said


def test_times_as_people_say_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days, hours, minutes, seconds; before and after."""
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    assert [told_time(1_000_000.0 + seconds) for seconds in (3 * 86_400, 7_200, 120, 5, 0, -60)] == [
        "in 3 d",
        "in 2 h",
        "in 2 min",
        "in 5 s",
        "in 0 s",
        "1 min ago",
    ]
    assert told_time(None) == ""


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says how to get it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "the command line needs an extra: pip install 'tribe-oauth[cli]'\n"


def test_the_entry_point() -> None:
    """`tribe-oauth` is installed with the package."""
    done = subprocess.run(
        [Path(sys.executable).with_name("tribe-oauth"), "--help"], capture_output=True, text=True, check=True
    )
    assert "Quick Setup" not in done.stderr
    assert "demo" in done.stdout
