"""Which organization a command means, and that whoever only reads connects and makes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tribe_oauth.cli._app import app
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.sync import JSONLinesFolder

from .served import served, use

DONE, FAILED, USAGE, PARTIAL = 0, 1, 2, 3
READING = (["token"], ["refresh"], ["get", "Relation_Person", "--top", "1"])


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with served(Sandbox(organizations=["Acme", "Beta"], persons=5)) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(sandbox, monkeypatch, tmp_path / "tribe.db")
    monkeypatch.chdir(tmp_path)


def tribe_oauth(*arguments: str, code: int = DONE, typed: str | None = None) -> str:
    result = CliRunner().invoke(app, arguments, input=typed)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def connect(sandbox: Sandbox, *keys: str, name: str = "Beta") -> None:
    for key in keys:
        tribe_oauth("connect", key, "--paste", typed=f"{sandbox.paste_token(name)}\n")


def exported() -> set[str]:
    """Keys of the organizations that an export wrote."""
    tribe_oauth("export", "Relation_Person", "--to", "out")
    return {key for key in ("acme", "beta", "default") if JSONLinesFolder("out").path(key, "Relation_Person").exists()}


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_reading_connects_nothing(command: list[str], tmp_path: Path) -> None:
    """By client credentials: the store is not even made, and an export afterwards reads one tenant once."""
    tribe_oauth(*command)
    assert list(tmp_path.iterdir()) == []
    assert "no organization is connected" in tribe_oauth("status")
    assert exported() == {"default"}
    assert not (tmp_path / "tribe.db").exists()


def test_reading_by_quick_setup_is_durable(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refresh token works once: what came of it is stored."""
    monkeypatch.setenv("TRIBE_REFRESH_TOKEN", sandbox.paste_token("Beta"))
    tribe_oauth("token")
    assert "default" in tribe_oauth("status")


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_the_only_one_is_meant(sandbox: Sandbox, command: list[str]) -> None:
    """One that was connected by hand, and not the Application's own organization."""
    connect(sandbox, "beta")
    before = sandbox.ledger.count("client_credentials")
    tribe_oauth(*command)
    assert exported() == {"beta"}
    assert sandbox.ledger.count("client_credentials") == before


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_of_several_none_is_meant(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """They are listed, and how to name one is said; named in any way, it is used."""
    connect(sandbox, "beta", "acme")
    said = tribe_oauth(*command, code=USAGE)
    assert "there are several organizations, 'acme', 'beta': say which one is meant, with --organization" in said
    tribe_oauth(*command, "--organization", "beta")
    monkeypatch.setenv("TRIBE_ORGANIZATION_ID", "acme")
    tribe_oauth(*command)
    assert exported() == {"acme"}


@pytest.mark.parametrize("command", [*READING, ["disconnect"], ["status"]], ids=" ".join)
@pytest.mark.parametrize("there", [[], ["beta"]], ids=["nothing is", "beta is"])
def test_what_is_not_there(sandbox: Sandbox, command: list[str], there: list[str]) -> None:
    """It is said, with what is there and with commands; nothing is done."""
    connect(sandbox, *there)
    before = sandbox.ledger.token_requests
    said = tribe_oauth(*command, "--organization", "nope", code=USAGE)
    assert f"organization 'nope' is not connected; {'connected are ' if there else 'none is'}" in said
    assert all(f"'{key}'" in said for key in there)
    assert "'tribe-oauth connect --organization nope'" in said
    assert sandbox.ledger.token_requests == before


def test_a_name_of_the_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty store it is the environment's own; beside others it is more likely mistyped."""
    monkeypatch.setenv("TRIBE_ORGANIZATION_ID", "acme")
    tribe_oauth("token")
    tribe_oauth("token", "acme", "-o", "acme")
    assert "not connected" in tribe_oauth("token", "default", code=USAGE)
    connect(sandbox, "beta")
    assert "'acme' is not connected; connected are 'beta'" in tribe_oauth("token", code=USAGE)
    assert "'acme' is not connected" in tribe_oauth("export", "Relation_Person", "--to", "out", code=FAILED)
    monkeypatch.setenv("TRIBE_REFRESH_TOKEN", sandbox.paste_token("Acme"))
    tribe_oauth("token")
    assert "acme" in tribe_oauth("status")


def test_its_own_cannot_be_connected(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment connects and cannot is told; an export of others beside it reads those."""
    connect(sandbox, "beta")
    monkeypatch.setenv("TRIBE_ORGANIZATION_ID", "acme")
    monkeypatch.setenv("TRIBE_REFRESH_TOKEN", "of-nobody")
    arguments = ["export", "Relation_Person", "--to", "out", "--organization"]
    said = tribe_oauth(*arguments, "acme", "--organization", "beta", code=PARTIAL)
    assert "note: the refresh token for organization 'acme' was refused" in said
    assert "'acme' is not connected" in said
    assert JSONLinesFolder("out").path("beta", "Relation_Person").exists()
    assert "TokenEndpointError: the refresh token for organization 'acme'" in tribe_oauth(
        *arguments, "acme", code=FAILED
    )


def test_what_a_connection_is_for(sandbox: Sandbox) -> None:
    """Without a name: the environment's own. Beside others it has to be named, since connecting replaces."""
    assert "connected: default" in tribe_oauth("connect")
    assert "connected: default" in tribe_oauth("connect")
    connect(sandbox, "beta")
    said = tribe_oauth("connect", code=USAGE)
    assert "connected are 'beta', 'default': say which one is meant" in said
    assert "connected: default" in tribe_oauth("connect", "--organization", "default")


@pytest.mark.parametrize("command", [*READING, ["connect"], ["login"], ["disconnect"], ["status"]], ids=" ".join)
def test_an_empty_name(command: list[str], tmp_path: Path) -> None:
    """It is no name, and not the one of the environment."""
    said = tribe_oauth(*command, "--organization", "", code=USAGE)
    assert "an organization's key has 1 to 512 bytes" in said or "organization '' is not connected" in said
    assert list(tmp_path.iterdir()) == []


def test_two_names() -> None:
    """They cannot both be meant."""
    assert "two organizations are named" in tribe_oauth("token", "acme", "--organization", "beta", code=USAGE)


def test_disconnecting_has_to_name_it() -> None:
    """Nothing is disconnected for being the only one."""
    assert "name the organization" in tribe_oauth("disconnect", code=USAGE)


@pytest.mark.parametrize(
    "command",
    [["status"], ["disconnect", "acme"], ["rekey"], ["doctor"], ["schema"], *READING],
    ids=" ".join,
)
def test_a_store_that_is_mistyped(command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is made, and what is not there is said."""
    path = tmp_path / "mistyped" / "x.db"
    monkeypatch.setenv("TRIBE_STORE", str(path))
    if command == ["rekey"]:
        monkeypatch.setenv("TRIBE_STORE_KEYS", "A" * 43 + "=")
    result = CliRunner().invoke(app, command)
    assert command == ["schema"] or repr(str(path)) in result.output
    assert result.exit_code == (USAGE if command[0] in {"status", "disconnect", "rekey"} else DONE)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    """In a folder that is there: nothing is connected, which is no error."""
    assert tribe_oauth("status") == f"no organization is connected: there is no {str(tmp_path / 'tribe.db')!r}"


def test_a_store_at_home(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No shell has read the variable: ~ is the home directory, and no folder of that name is made."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TRIBE_STORE", "~/x.db")
    connect(sandbox, "beta")
    assert (home / "x.db").exists()
    assert not (tmp_path / "~").exists()
