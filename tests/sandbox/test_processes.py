"""The sandbox as a process of its own, and its remote control."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import ClientResponseError, ClientSession

from tribe_oauth import TokenManager
from tribe_oauth.sandbox import Remote, Sandbox, __main__

from .processes import start

PARENT = """
import subprocess, sys

child = subprocess.Popen([sys.executable, "-m", "tribe_oauth.sandbox", "--end-with-stdin"], stdin=subprocess.PIPE)
child.wait()
"""


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


async def test_a_parent_that_is_killed() -> None:
    """Its sandbox ends with it: the standard input that it was given is closed, by the kernel."""
    async with asyncio.timeout(60):
        parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
        assert parent.stdout is not None
        assert b"base_url" in await parent.stdout.readline()
        parent.kill()
        assert await parent.stdout.read() == b""  # the sandbox has it too: it ends when both have ended
        assert await parent.wait() == -signal.SIGKILL


async def test_a_standard_input_that_ends() -> None:
    """What is written to it does not matter; its end is an end like any other, with 0."""
    process, _ = await start("--end-with-stdin")
    assert process.stdin is not None
    for _ in range(2):
        process.stdin.write(b"x" * 100_000)
        await process.stdin.drain()
    process.stdin.close()
    assert await process.wait() == 0


def terminal() -> tuple[int, int]:
    """Both ends of a terminal."""
    return os.openpty()


def connection() -> tuple[int, int]:
    """Both ends of a connection that is reset when the first is closed: there is data that it has not read."""
    ours, its = socket.socketpair()
    its.send(b"not read")
    return ours.detach(), its.detach()


@pytest.mark.parametrize("ends", [terminal, connection])
async def test_a_standard_input_that_goes_away(ends: Callable[[], tuple[int, int]]) -> None:
    """The end of a terminal, and a failure of a connection, mean the same as the end of a pipe."""
    ours, its = ends()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tribe_oauth.sandbox", "--end-with-stdin"), stdin=its, stdout=asyncio.subprocess.PIPE
    )
    os.close(its)
    assert process.stdout is not None
    assert await process.stdout.readline()
    os.close(ours)
    assert await process.wait() == 0


@pytest.mark.parametrize("closed", [True, False])
async def test_a_standard_input_that_has_no_end(closed: bool) -> None:
    """A parent could not be seen to end: this is said, and nothing is started."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$0" -m tribe_oauth.sandbox --end-with-stdin {"<&-" if closed else ""}', sys.executable),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"needs a pipe, a socket or a terminal" in said


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def remote(sandbox: Sandbox) -> AsyncIterator[Remote]:
    async with Remote(sandbox.base) as remote:
        yield remote


async def token_of(sandbox: Sandbox, session: ClientSession) -> str:
    client = sandbox.client()
    form = {"grant_type": "client_credentials", "client_id": client.client_id, "scope": "read write"}
    form["client_secret"] = client.client_secret.reveal()
    async with session.post(sandbox.endpoints.token_endpoint, data=form) as response:
        return str((await response.json())["access_token"])


async def test_the_same_verbs(sandbox: Sandbox, remote: Remote) -> None:
    """Whatever a test can ask of a sandbox in its own process, it can ask of one in another."""
    assert remote.endpoints == sandbox.endpoints
    assert await remote.client() == sandbox.client()
    other = await remote.client(organization="Acme", scope="read", redirect_uri=None)
    assert (other.scope, other.redirect_uri) == ("read", None)
    pasted = await remote.paste_token("Acme")
    assert await remote.is_live(pasted)
    assert "code=" in await remote.approve(sandbox.client().authorization_request().url, organization="Acme")
    async with ClientSession() as session:
        headers = {"Authorization": f"Bearer {(await token_of(sandbox, session))}"}
        hook = {"url": "https://example.com/hook", "entityType": "Note"}
        async with session.post(f"{sandbox.base}/v1/webhooks", json=hook, headers=headers) as response:
            assert response.status == 201
    assert [(it["organization"], it["status"]) for it in await remote.calls()] == [("Acme", 200)]
    await remote.expire("Acme")
    note = await remote.write("Acme", "POST", "Note", {"Content": "x"})
    assert note in await remote.rows("Acme", "Note")
    assert note is not None
    assert await remote.write("Acme", "DELETE", f"Note({note['ID']})") is None
    assert [it["mutation"] for it in await remote.deliveries()] == ["EntityCreationMutation", "EntityDeletionMutation"]
    assert await remote.rows("Acme", "Note") == sandbox.organization("Acme").all("Note")
    with pytest.raises(ClientResponseError, match="400"):
        await remote.write("Acme", "POST", "Nothing")
    with pytest.raises(ValueError, match="no such entity"):
        sandbox.write("Acme", "DELETE", f"Note({note['ID']})")
    ledger = await remote.ledger(events=1)
    assert ledger["token_requests"] == 1
    assert len(ledger["last"]) == 1


async def test_faults_from_afar(sandbox: Sandbox, remote: Remote) -> None:
    """Ordered, waited for, let go, taken back."""
    hanging = await remote.fault("hang", endpoint="api", times=None)
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
        async with session.get(f"{sandbox.base}/sandbox/fault/1") as response:
            assert response.status == 404
            assert await response.text() == "no fault 1: so far, 1 were ordered"
    with pytest.raises(ClientResponseError):
        await remote.fault("typo")  # type: ignore[arg-type]


async def test_its_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell exports for it is enough for the library."""
    for name, value in sandbox.environment.items():
        monkeypatch.setenv(name, value)
    async with TokenManager.from_env() as manager:
        assert sandbox.ledger.is_live((await manager.token()).access_token.reveal())


@pytest.mark.parametrize("rule", ["paging=links", "nothing=1"])
def test_a_rule_that_is_none(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said which there are, and nothing is started."""
    with pytest.raises(SystemExit):
        __main__.main(["--rule", "calls=none", "--rule", rule])
    assert f"no {'rule ' if rule == 'nothing=1' else ''}" in capsys.readouterr().err
