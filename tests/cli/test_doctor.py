"""`tribe-oauth doctor`: each thing that can be wrong, found and named."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer
from aiohttp import web

from tribe_oauth import MemoryStore, RefreshTokenGrant, StoreError, TokenManager
from tribe_oauth._manager import settings as environment
from tribe_oauth._refresh.payload import Payload, encode
from tribe_oauth.cli._doctor import doctor
from tribe_oauth.cli._inspect import inspect_store
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores import Record
from tribe_oauth.stores.sqlite import SQLiteStore

from .served import use


@pytest.fixture
async def sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Sandbox]:
    monkeypatch.setenv("COLUMNS", "300")
    async with Sandbox() as sandbox:
        use(sandbox, monkeypatch, tmp_path / "tribe.db")
        yield sandbox


async def said(*, wrong: bool) -> str:
    """What it prints; whether its exit code says that something is wrong."""
    screen = StringIO()
    with redirect_stdout(screen), pytest.raises(typer.Exit) if wrong else nullcontext():
        await doctor()
    return screen.getvalue()


async def test_all_is_well(sandbox: Sandbox, tmp_path: Path) -> None:
    """Settings, both servers, the store, how many organizations there are; no secret, and no refresh token spent."""
    client = sandbox.client()
    async with TokenManager(client, store=SQLiteStore(tmp_path / "tribe.db")) as manager:
        await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
    before = sandbox.ledger.count("refresh_token")
    text = await said(wrong=False)
    for found in ("client credentials", "answers (404)", "answers (401)", "SQLiteStore keeps", "1 fresh"):
        assert found in text
    assert client.client_secret.reveal() not in text
    assert sandbox.ledger.count("refresh_token") == before


async def test_settings(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not set is named, and nothing further is looked at."""
    monkeypatch.delenv("TRIBE_CLIENT_ID")
    text = await said(wrong=True)
    assert "TRIBE_CLIENT_ID is not set" in text
    assert "API" not in text


async def test_nothing_answers(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address, or no network."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setenv("TRIBE_API_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "does not answer" in await said(wrong=True)


@pytest.mark.parametrize(
    ("date", "says"), [("Thu, 01 Jan 2015 00:00:00 GMT", "set this machine's clock"), ("soon", "answers (200)")]
)
async def test_the_clock(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, date: str, says: str) -> None:
    """A server whose Date is far from ours; one whose Date cannot be read."""

    async def dated(request: web.Request) -> web.Response:
        return web.json_response({"value": []}, headers={"Date": date})

    app = web.Application()
    app.router.add_get("/v1/odata{path:.*}", dated)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("TRIBE_API_URL", f"http://127.0.0.1:{runner.addresses[0][1]}")
    assert says in await said(wrong=False)
    await runner.cleanup()


async def test_organizations(sandbox: Sandbox, tmp_path: Path) -> None:
    """Those that do not work, each with its reason."""
    store = SQLiteStore(tmp_path / "tribe.db")
    words = encode(Payload(said="The refresh token was already used."))
    for record in (
        Record(organization="[b]gone", status="reauthorization_required", cause="lost rotation", payload=words),
        Record(organization="waiting", status="connected", failures=3, not_before=time.time() + 600),
        Record(organization="broken", status="connected", payload=b"{"),
    ):
        await store.swap(record)
    await store.close()
    text = await said(wrong=True)
    for found in (
        "organization [b]gone",
        "lost rotation: The refresh token was already used.",
        "3 attempts failed",
        "cannot be read",
        "1 backing_off",
    ):
        assert found in text


async def test_a_store_that_cannot_write(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the store says, and nothing about organizations."""
    (tmp_path / "tribe.db").write_bytes(b"this is no database" * 100)
    (tmp_path / "tribe.db").chmod(0o600)
    text = await said(wrong=True)
    assert "organizations" not in text
    assert "none is connected" not in text


async def test_stores_that_deceive(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is worth a word; what forgets at once is wrong, and so is what cannot list."""

    class Forgetful(MemoryStore):
        async def take(self, key: str) -> bytes | None:
            return None

    class Unlisted(MemoryStore):
        async def organizations(self) -> Any:
            raise StoreError("no list")
            yield

    monkeypatch.setenv("TRIBE_STORE", "memory:")
    assert (await inspect_store(Forgetful())).level == "wrong"
    monkeypatch.setenv("TRIBE_STORE", "memory:")
    assert "every refresh token is lost" in await said(wrong=False)
    monkeypatch.setattr(environment, "store", lambda *_, **__: Unlisted())
    assert "no list" in await said(wrong=True)


async def test_the_command(sandbox: Sandbox) -> None:
    """As a person runs it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tribe_oauth.cli", "doctor"), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert (process.returncode, b"none is connected" in said) == (0, True), said
