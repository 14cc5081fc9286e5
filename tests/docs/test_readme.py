"""The README's examples, run as they stand, and its links."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tribe_oauth
from tribe_oauth import Client, TokenManager
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores.sqlite import SQLiteStore

from ..writing.tribe import Tribe, tribe

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES: list[str] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


# The two that users and checks rely on, word for word.
THREE_LINES = """\
async with TokenManager.from_env() as manager, manager.session() as session:
    async with session.get("/v1/odata/Relation_Person", params={"$top": "10"}) as response:
        people = (await response.json())["value"]
"""
MANY_ORGANIZATIONS = """\
async with TokenManager(client, store=SQLiteStore("tribe.db")) as manager:
    await manager.connect("acme", ClientCredentialsGrant(acme_client))      # each organization its own client
    await manager.connect("beta", RefreshTokenGrant(client, pasted_token))  # Quick Setup
    request = client.authorization_request(organization_id=uuid)            # authorization code
    ...redirect the browser to request.url, keep `request` for the callback...
    await manager.connect("gamma", request.grant(callback_url))
    token = await manager.token("acme")
"""
REDIRECT = re.compile(r"\.\.\.redirect .*\.\.\.")


def example(*words: str) -> str:
    """The one example that has all these words."""
    found = [text for text in EXAMPLES if all(word in text for word in words)]
    assert len(found) == 1
    return found[0]


async def run(source: str, **names: Any) -> dict[str, Any]:
    """Run an example as it stands, as ``python -m asyncio`` does: it brings its own imports. What it leaves behind.

    `names`: what an example of the design has not imported.
    """
    scope = dict(names)
    code = compile(source, "README.md", "exec", flags=PyCF_ALLOW_TOP_LEVEL_AWAIT)
    ran = eval(code, scope)  # noqa: S307 (the README is ours)
    if inspect.iscoroutine(ran):
        await ran
    return scope


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sandbox | Tribe], None]:
    """Sets what a user would export, for a sandbox."""

    def export(sandbox: Sandbox | Tribe) -> None:
        for name in [name for name in os.environ if name.startswith("TRIBE_")]:
            monkeypatch.delenv(name)
        for name, value in sandbox.environment.items():
            monkeypatch.setenv(name, value)

    return export


@pytest.mark.parametrize("source", EXAMPLES)
def test_it_can_be_pasted(source: str) -> None:
    """A line that is empty ends a block at the prompt."""
    assert not re.search(r"\n\n +", source)


@pytest.mark.parametrize("quick_setup", [False, True])
async def test_three_lines(
    environment: Callable[[Sandbox | Tribe], None], quick_setup: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One organization, three lines from credentials to rows."""
    source = example("TokenManager.from_env()", THREE_LINES)
    assert source == f"from tribe_oauth import TokenManager\n\n{THREE_LINES}"
    async with Sandbox() as sandbox:
        environment(sandbox)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        if quick_setup:
            monkeypatch.setenv("TRIBE_REFRESH_TOKEN", sandbox.paste_token("Acme"))
            monkeypatch.setenv("TRIBE_STORE", str(tmp_path / "tribe.db"))
        left = await run(source)
    assert len(left["people"]) == 10


async def test_many_organizations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three organizations, three ways in, one store."""
    monkeypatch.chdir(tmp_path)
    left = await run(example("acme_client", "browser(request.url)"))
    assert left["token"].access_token
    assert left["tribe"].ledger.families("Cobra Logistiek")
    assert (tmp_path / "tribe.db").exists()


async def test_many_organizations_word_for_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the design has it, with the names that the README's example imports."""
    monkeypatch.chdir(tmp_path)
    async with Sandbox() as sandbox:
        left = await run(
            REDIRECT.sub("callback_url = await browser(request.url)", MANY_ORGANIZATIONS),
            **{name: getattr(tribe_oauth, name) for name in tribe_oauth.__all__},
            SQLiteStore=SQLiteStore,
            client=sandbox.client(),
            acme_client=sandbox.client(organization="Acme"),
            pasted_token=sandbox.paste_token("Bakkerij Bos"),
            uuid=sandbox.organizations["Cobra Logistiek"],
            browser=sandbox.approve,
        )
        assert sandbox.ledger.is_live(left["token"].access_token.reveal())


async def test_an_own_session_and_rows(
    environment: Callable[[Sandbox | Tribe], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The middleware in a session of one's own, and rows over several pages."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with Sandbox() as sandbox:
        environment(sandbox)
        left = await run(example("aiohttp.ClientSession").replace("https://api.tribecrm.nl", sandbox.base))
        assert len(left["people"]) == 10
        await run(example("odata.rows", "FirstName"))
    assert len(capsys.readouterr().out.splitlines()) > 200


async def test_what_is_written(
    environment: Callable[[Sandbox | Tribe], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A person, and a change of hers."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with tribe() as there:
        environment(there)
        left = await run(example("odata.create"))
        assert there.rows["Relation_Person"][left["anna"]["ID"]]["Suffix"] == "MSc"


async def test_the_sandbox() -> None:
    """The example of a test asserts what is true, and the loss that it is about happens."""
    left = await run(example("sandbox.fault"))
    assert left["sandbox"].ledger.count("refresh_token") == 4


def test_a_test_of_ones_own(tmp_path: Path) -> None:
    """The example of a fixture, in a project of its own, in the mode that pytest-asyncio has by default."""
    (tmp_path / "test_it.py").write_text(example("tribe_manager"), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pytest.ini", "--rootdir", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


async def test_an_application() -> None:
    """The lines that add the pages."""
    left = await run(example("tribe_web.setup"))
    assert "/tribe/callback" in {route.resource.canonical for route in left["app"].router.routes()}


def test_links() -> None:
    """What the documents refer to is there."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert len(documents) > 2
    for document in documents:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_two_commands() -> None:
    """One line runs the main job, one passes the tests."""
    commands = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)
    assert [command.rpartition("/")[2] for command in commands[:2]] == ["tribe-oauth demo", "nox -s tests"]
    assert all("\n" not in command for command in commands)


def test_the_loop_is_not_needed_before() -> None:
    """Constructors do no I/O: a manager can be made at import time."""
    manager = TokenManager(Client("id", "secret"), store=SQLiteStore("nowhere/tribe.db"))
    asyncio.run(manager.close())
