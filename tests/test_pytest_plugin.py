"""The fixtures, in a project of their own: another process, with either way of running async tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tribe_oauth import TokenManager
from tribe_oauth.sandbox import Sandbox

WITHOUT_PYTEST_ASYNCIO = """\
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec  # which pytest's own finder asks too

def without(cls, name, path=None, target=None):
    return None if name.startswith("pytest_asyncio") else find_spec(name, path, target)

PathFinder.find_spec = classmethod(without)
"""
PROJECT = """\
import pytest

pytestmark = pytest.mark.{runner}

async def test_reads(tribe_manager, tribe_sandbox):
    async with tribe_manager.session() as session, session.get("/v1/odata/Relation_Person") as response:
        assert len((await response.json())["value"]) == 100
    assert tribe_sandbox.ledger.spent_twice() == ()

@pytest.mark.tribe_sandbox(organizations=["Zon & Zee"], persons=3)
async def test_options(tribe_manager):
    async with tribe_manager.session("Zon & Zee") as session, session.get("/v1/odata/Relation_Person") as response:
        assert len((await response.json())["value"]) == 3
"""


async def test_here(tribe_manager: TokenManager, tribe_sandbox: Sandbox) -> None:
    """In this suite too: a connected organization, and its ledger."""
    token = await tribe_manager.token()
    assert tribe_sandbox.ledger.is_live(token.access_token.reveal())


@pytest.mark.tribe_sandbox(organizations=["Zon"], persons=0)
async def test_options_here(tribe_sandbox: Sandbox) -> None:
    """The marker's options are the sandbox's."""
    assert list(tribe_sandbox.organizations) == ["Zon"]


@pytest.mark.parametrize("runner", ["asyncio", "anyio"])
def test_in_another_project(runner: str, tmp_path: Path) -> None:
    """With pytest-asyncio in its strict mode, and with anyio where that is not installed."""
    (tmp_path / "test_it.py").write_text(PROJECT.format(runner=runner), encoding="utf-8")
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n", encoding="utf-8"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "-c", str(tmp_path / "pytest.ini"), str(tmp_path)]
    main = "import pytest, sys\nsys.exit(pytest.main(sys.argv[1:]))"
    if runner == "asyncio":
        options += ["-o", "asyncio_default_fixture_loop_scope=function"]
    else:
        options += ["-p", "no:asyncio"]
        main = f"{WITHOUT_PYTEST_ASYNCIO}\n{main}"
    run = subprocess.run(
        [sys.executable, "-c", main, *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout
