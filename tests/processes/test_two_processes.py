"""Real processes on one SQLite file; the sandbox's ledger is the judge."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tribe_oauth import Client, ReauthorizationRequired, RefreshTokenGrant, TokenManager
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores.sqlite import SQLiteStore

WORKER = Path(__file__).with_name("worker.py")


async def start(client: Client, sandbox: Sandbox, path: Path, rounds: int, seed: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(WORKER),
        sandbox.base,
        client.client_id,
        client.client_secret.reveal(),
        str(path),
        str(rounds),
        str(seed),
    )


async def test_1_000_rotations_by_two_processes(tmp_path: Path) -> None:
    """F5: two processes force rotations of three organizations at random: no refresh token is spent twice."""
    path = tmp_path / "tribe.db"
    async with Sandbox() as sandbox:
        client = sandbox.client()
        async with TokenManager(client, store=SQLiteStore(path)) as manager:
            for organization in sandbox.organizations:
                await manager.connect(organization, RefreshTokenGrant(client, sandbox.paste_token(organization)))
        workers = [await start(client, sandbox, path, 1_000, seed) for seed in (1, 2)]
        assert await asyncio.gather(*(worker.wait() for worker in workers)) == [0, 0]
        families = [
            family for organization in sandbox.organizations for family in sandbox.ledger.families(organization)
        ]
        assert sum(family.rotations for family in families) >= 1_000
        assert all(family.live for family in families)
        assert sandbox.ledger.spent_twice() == ()
        assert sandbox.ledger.reused() == ()


@pytest.mark.parametrize("spent", [False, True])
async def test_a_process_killed_in_the_middle(tmp_path: Path, spent: bool) -> None:
    """F1: killed after its request was sent. Not yet handled by the server: recovered. Handled: lost, and named so.

    The dead process's lease is over at once; only the resend waits for `quiet`.
    """
    path = tmp_path / "tribe.db"
    async with Sandbox() as sandbox:
        client = sandbox.client()
        async with TokenManager(client, store=SQLiteStore(path), quiet=0.2) as manager:
            await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
            fault = sandbox.fault("lost_answer" if spent else "lost_request", hang=True)
            worker = await start(client, sandbox, path, 1, 1)
            await fault.reached()
            worker.send_signal(signal.SIGKILL)
            await worker.wait()
            fault.release()
            if spent:
                with pytest.raises(ReauthorizationRequired, match="lost rotation"):
                    await manager.refresh("acme")
            else:
                token = await manager.refresh("acme")
                assert sandbox.ledger.is_live(token.access_token.reveal())
                assert sandbox.ledger.spent_twice() == ()
