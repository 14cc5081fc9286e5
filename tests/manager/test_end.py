"""The end: of a block, of a loop, of a process, while a refresh is on the wire (F16)."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest

from tribe_oauth import ClientCredentialsGrant, RefreshTokenGrant, TokenManager
from tribe_oauth._refresh.payload import decode
from tribe_oauth.errors import ManagerError
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores.sqlite import SQLiteStore

Cut = Callable[[], object]


@asynccontextmanager
async def by_scope() -> AsyncIterator[Cut]:
    with anyio.CancelScope() as scope:
        yield scope.cancel


@asynccontextmanager
async def by_time() -> AsyncIterator[Cut]:
    with suppress(TimeoutError):
        async with asyncio.timeout(None) as limit:
            yield lambda: limit.reschedule(0)


@asynccontextmanager
async def by_group() -> AsyncIterator[Cut]:
    async def fail() -> None:
        raise ZeroDivisionError

    with suppress(BaseExceptionGroup):
        async with asyncio.TaskGroup() as group:
            yield lambda: group.create_task(fail())


@asynccontextmanager
async def by_cancel() -> AsyncIterator[Cut]:
    task = asyncio.current_task()
    assert task is not None
    with suppress(asyncio.CancelledError):
        yield task.cancel
    task.uncancel()


@pytest.mark.parametrize("way", [by_scope, by_time, by_group, by_cancel])
def test_a_block_that_is_cut_off(way: Callable[[], AbstractAsyncContextManager[Cut]], tmp_path: Path) -> None:
    """The manager's block is the last thing that a program does, and is cancelled: what is on the wire is kept."""

    async def main() -> None:
        async with Sandbox(organizations=["acme"]) as sandbox:
            client, store = sandbox.client(), SQLiteStore(tmp_path / "tribe.db")
            async with way() as cut, TokenManager(client, store=store) as manager:
                await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("acme")))
                fault = sandbox.fault("delay", seconds=0.2)
                refreshing = asyncio.ensure_future(manager.refresh("acme"))
                await fault.reached()
                cut()
                await asyncio.Event().wait()
            record = await store.load("acme")
            await store.close()
            assert record is not None
            token = decode(record).token
            assert token == await refreshing
            assert token is not None
            assert token.refresh_token is not None
            assert sandbox.ledger.is_live(token.refresh_token.reveal())
            assert sandbox.ledger.spent_twice() == ()

    asyncio.run(main())


async def test_client_credentials_have_nothing_to_lose(caplog: pytest.LogCaptureFixture) -> None:
    """A token server that hangs holds nobody up: the request is given up, and its caller told."""
    async with Sandbox(organizations=["acme"]) as sandbox:
        fault = sandbox.fault("hang", times=None)
        async with asyncio.timeout(10), TokenManager(sandbox.client()) as manager:
            connecting = asyncio.ensure_future(manager.connect("acme", ClientCredentialsGrant(sandbox.client())))
            await fault.reached()
            await manager.close()
            with pytest.raises(ManagerError, match="closing"):
                await connecting
        fault.release()
    assert "finishing" not in caplog.text


async def test_waiting_says_so(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a moment without a word: what it waits for, and for how long at most."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("tribe_oauth._refresh.tasks.SILENCE", 0.01)
    async with Sandbox(organizations=["acme"]) as sandbox:
        client = sandbox.client()
        async with TokenManager(client) as manager:
            await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("acme")))
            fault = sandbox.fault("delay", seconds=0.1)
            refreshing = asyncio.ensure_future(manager.refresh("acme"))
            await fault.reached()
        assert await refreshing
    assert "finishing 1 refreshes before the end: 85 s at most" in caplog.text


async def test_closing_twice_at_once() -> None:
    """Both wait for the same end, and find all of it closed."""
    async with Sandbox(organizations=["acme"]) as sandbox:
        client = sandbox.client()
        manager = TokenManager(client)
        await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("acme")))
        fault = sandbox.fault("delay", seconds=0.05)
        refreshing = asyncio.ensure_future(manager.refresh("acme"))
        await fault.reached()
        await asyncio.gather(manager.close(), manager.close())
        assert refreshing.done()
        await manager.close()


@pytest.mark.parametrize("closed", [False, True])
def test_a_manager_that_was_never_closed(closed: bool, tmp_path: Path) -> None:
    """It warns: what its loop's end cuts off is lost."""

    async def main() -> None:
        manager = TokenManager()
        assert [organization async for organization in manager.organizations()] == []
        if closed:
            await manager.close()

    def end() -> None:
        asyncio.run(main())
        gc.collect()

    if closed:
        end()
        return
    with pytest.warns(ResourceWarning, match="was never closed"):
        end()


SERVICE = """
import asyncio, signal, sys
from tribe_oauth import TokenManager

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    async with TokenManager.from_env() as manager:
        print("ready", flush=True)
        sys.stdin.readline()
        await manager.refresh()
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_sigterm_to_a_service(tmp_path: Path) -> None:
    """One line makes SIGTERM the end of the block: the answer that is on its way is saved before the process ends."""
    async with Sandbox(organizations=["acme"]) as sandbox:
        path = tmp_path / "tribe.db"
        pasted = {"TRIBE_REFRESH_TOKEN": sandbox.paste_token("acme"), "TRIBE_STORE": str(path)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SERVICE),
            env={**sandbox.environment, **pasted},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        fault = sandbox.fault("delay", seconds=0.3)
        assert process.stdin is not None
        process.stdin.write(b"go on\n")
        await fault.reached()
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), 30)
        store = SQLiteStore(path)
        record = await store.load("default")
        await store.close()
        assert record is not None
        token = decode(record).token
        assert token is not None
        assert token.refresh_token is not None
        assert sandbox.ledger.is_live(token.refresh_token.reveal())
