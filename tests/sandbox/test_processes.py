"""The sandbox as a process of its own, and its remote control."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponseError

from tribe_oauth.sandbox import Remote, Sandbox, __main__


async def start(*options: str) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tribe_oauth.sandbox", *options), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    return process, json.loads(await process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_of_its_own(number: signal.Signals) -> None:
    """One line of JSON when it is ready; a signal ends it, with 0."""
    process, ready = await start("--profile", "hydra-1.5", "--organizations", "7", "--host", "::1")
    assert ready["profile"] == "hydra-1.5"
    assert ready["base_url"].startswith("http://[::1]:")
    async with Remote(ready["base_url"]) as remote:
        client = await remote.client()
        assert (client.client_id, client.redirect_uri) == (ready["client_id"], ready["redirect_uri"])
        assert client.client_secret.reveal() == ready["client_secret"]
        assert list(await remote.organizations())[-1] == "Organization 7"
    process.send_signal(number)
    assert await process.wait() == 0


def test_a_wrong_option(capsys: pytest.CaptureFixture[str]) -> None:
    """The choices are named."""
    with pytest.raises(SystemExit):
        __main__.main(["--profile", "typo"])
    assert "hydra-1.10" in capsys.readouterr().err


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def remote(sandbox: Sandbox) -> AsyncIterator[Remote]:
    async with Remote(sandbox.base) as remote:
        yield remote


async def test_the_same_verbs(sandbox: Sandbox, remote: Remote) -> None:
    """Whatever a test can ask of a sandbox in its own process, it can ask of one in another."""
    assert remote.endpoints == sandbox.endpoints
    assert await remote.client() == sandbox.client()
    other = await remote.client(organization="Acme", scope="read", redirect_uri=None)
    assert (other.scope, other.redirect_uri) == ("read", None)
    pasted = await remote.paste_token("Acme")
    assert await remote.is_live(pasted)
    assert "code=" in await remote.approve(sandbox.client().authorization_request().url, organization="Acme")
    await remote.expire("Acme")
    ledger = await remote.ledger(events=1)
    assert ledger["token_requests"] == 0
    assert len(ledger["last"]) == 1


async def test_faults_from_afar(sandbox: Sandbox, remote: Remote) -> None:
    """Ordered, waited for, let go, taken back."""
    hanging = await remote.fault("hang", endpoint="api", times=None)
    from aiohttp import ClientSession

    async with ClientSession() as session:
        call = asyncio.ensure_future(session.get(f"{sandbox.base}/v1/odata/"))
        assert await hanging.reached() == 1
        await hanging.release()
        assert (await call).status == 401
        await hanging.cancel()
        async with session.get(f"{sandbox.base}/v1/odata/") as response:
            assert response.status == 401
        async with session.get(f"{sandbox.base}/sandbox/fault/0") as response:
            assert await response.json() == {"hits": 1}
    with pytest.raises(ClientResponseError):
        await remote.fault("typo")  # type: ignore[arg-type]
