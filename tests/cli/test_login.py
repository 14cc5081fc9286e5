"""`tribe-oauth login` as a person runs it: a process, a terminal's input, and something that plays the browser."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession
from yarl import URL

from tribe_oauth.cli import _keyboard, _login
from tribe_oauth.sandbox import Sandbox

BROWSER = """\
import asyncio, sys
from aiohttp import ClientSession
from yarl import URL
from tribe_oauth.sandbox._browser import approve
async def main(url):
    callback = await approve(url, organization="Acme", scopes=None, deny=False)
    async with ClientSession() as session, session.get(URL(callback, encoded=True)) as response:
        assert response.status == 200
asyncio.run(main(sys.argv[1]))
"""


@asynccontextmanager
async def login(
    sandbox: Sandbox, folder: Path, *arguments: str, **env: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The command, up to the address that it prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIBE_")}
    settings = sandbox.environment | {"TRIBE_STORE": str(folder / "tribe.db")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tribe_oauth.cli", "login", *arguments),
        env=clean | settings | {"COLUMNS": "60"} | env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = ""
    while (found := re.search(r"^(http\S+)\n", said, re.MULTILINE)) is None:
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        assert line, said
        said += line.decode()
    yield process, found[1]
    assert await asyncio.wait_for(process.wait(), 20) is not None


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(redirect_uri="http://127.0.0.1/callback") as sandbox:
        yield sandbox


async def test_a_browser_is_opened(sandbox: Sandbox, tmp_path: Path) -> None:
    """It comes back by itself; the connection is stored, and later commands use it."""
    (tmp_path / "browser.py").write_text(BROWSER, encoding="utf-8")
    browser = f"{sys.executable} {tmp_path / 'browser.py'} %s"
    async with login(sandbox, tmp_path, "acme", BROWSER=browser) as (process, _url):
        said = (await process.communicate())[0].decode()
    assert (process.returncode, "connected: acme" in said, "offline read write" in said) == (0, True, True), said
    assert sandbox.ledger.count("authorization_code") == 1


async def test_an_address_is_pasted(sandbox: Sandbox, tmp_path: Path) -> None:
    """Without a browser here: whoever consents elsewhere pastes where it ended."""
    acme = sandbox.organizations["Acme"]
    async with login(sandbox, tmp_path, "--no-browser", f"--pin={acme}") as (process, url):
        assert f"organization_id={acme}" in url
        callback = await sandbox.approve(url)
        said = (await process.communicate(f"\nhuh?\n{callback}\n".encode()))[0].decode()
    assert (process.returncode, "connected: default" in said) == (0, True), said
    assert "this address cannot be used: the callback came to another path" in said
    code = URL(callback).query["code"]
    assert code not in said


async def test_without_pkce(sandbox: Sandbox, tmp_path: Path) -> None:
    """S3: where the consent does not pass PKCE on, the refusal names the switch, and with it the login works."""
    for options, code in (((), 1), (("--no-pkce",), 0)):
        async with login(sandbox, tmp_path, "--no-browser", *options) as (process, url):
            stripped = URL(url).without_query_params("code_challenge", "code_challenge_method")
            assert ("code_challenge" in url) is (code == 1)
            callback = await sandbox.approve(str(stripped))
            said = (await process.communicate(f"{callback}\n".encode()))[0].decode()
        assert process.returncode == code, said
        assert ("--no-pkce for tribe-oauth login" in said) is (code == 1), said


async def test_a_denial(sandbox: Sandbox, tmp_path: Path) -> None:
    """One clear line, and a code that says it failed; a keyboard that is closed keeps nobody waiting."""
    async with login(sandbox, tmp_path, "--no-browser") as (process, url):
        assert process.stdin is not None
        process.stdin.close()
        callback = await sandbox.approve(url, deny=True)
        async with ClientSession() as session, session.get(URL(callback, encoded=True)) as response:
            assert response.status == 403
        assert process.stdout is not None
        said = (await process.stdout.read()).decode()
    assert (process.returncode, "CallbackError: consent was not given" in said) == (1, True), said
    assert "Traceback" not in said


async def test_nobody_comes(sandbox: Sandbox, tmp_path: Path) -> None:
    """A time-out, while the keyboard is still being listened to."""
    async with login(sandbox, tmp_path, "--no-browser", "--timeout=1") as (process, _url):
        assert process.stdout is not None
        said = (await process.stdout.read()).decode()
    assert (process.returncode, "no consent came back" in said) == (1, True), said


async def test_a_keyboard_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty lines are no address, and after the last line there never is one: only the browser can come back."""
    lines = iter(["\n", " \n", "https://app.example/cb?code=x\n", ""])

    async def line() -> str:
        return next(lines)

    monkeypatch.setattr(_keyboard, "line", line)
    assert await _login._pasted() == "https://app.example/cb?code=x\n"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_login._pasted(), 0.01)
