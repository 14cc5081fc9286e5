"""Entering and leaving: nothing stays behind, however it is cancelled."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from aiohttp import ClientSession, ServerDisconnectedError, ThreadedResolver

from tribe_oauth.sandbox import Remote, Sandbox
from tribe_oauth.sandbox import _browser as browser
from tribe_oauth.sandbox._serving import GRACE

from . import cancelling
from .cancelling import Cancel, Left, Way, Work, at_await, at_iteration, bind, free_port
from .processes import start

CALL = b"GET /v1/odata/ HTTP/1.1\r\nHost: x\r\n\r\n"

ways = pytest.mark.parametrize("way", cancelling.WAYS)


async def cancel_everywhere(
    way: Way, moment: Callable[[int, Work, Cancel], Awaitable[None]], work: Work, check: Callable[[], None]
) -> int:
    """Cancel the work at its first moment, its second, and so on until it ends before; check after each."""
    number = 0
    while await way(partial(moment, number, work)):
        check()
        number += 1
    check()
    return number


@ways
async def test_a_sandbox_cancelled_at_every_iteration(way: Way) -> None:
    """While it is entered and left: no descriptor, no task, the port is free, and it can be entered again."""
    port = free_port()
    sandbox = Sandbox(port=port)
    left = Left()

    async def live() -> None:
        async with sandbox:
            await asyncio.sleep(0)

    def check() -> None:
        left.nothing_more()
        bind(port)

    assert await cancel_everywhere(way, at_iteration, live, check) > 5


@ways
async def test_a_sandbox_with_connections_cancelled_at_every_iteration(way: Way) -> None:
    """One idle connection, one that was accepted just now, one that waits for an answer."""
    port = free_port()

    async def live() -> None:
        async with Sandbox(port=port, organizations=1, persons=1) as sandbox:
            hanging = sandbox.fault("hang", endpoint="api")
            for sent in (b"", CALL):
                client = await connected(port)
                clients.append(client)
                client.send(sent)
            await hanging.reached()
            clients.append(await connected(port))

    def check() -> None:
        made.append(len(clients))
        while clients:
            clients.pop().close()
        left.nothing_more()
        bind(port)

    made: list[int] = []
    clients: list[socket.socket] = []
    left = Left()
    assert await cancel_everywhere(way, at_iteration, live, check) > 5
    assert made[-1] == 3


def port_of(sandbox: Sandbox) -> int:
    return int(sandbox.base.rpartition(":")[2])


async def connected(port: int) -> socket.socket:
    """A connection that the kernel has made, and the server may not have seen yet."""
    client = socket.socket()
    try:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    except BaseException:
        client.close()
        raise
    return client


@pytest.mark.parametrize("iterations", range(-5, 5))
@pytest.mark.parametrize("sent", [b"", CALL])
async def test_a_connection_made_at_the_last_moment(iterations: int, sent: bytes) -> None:
    """So many iterations of the event loop after the sandbox is left, or before: it is closed with the others."""
    clients: list[socket.socket] = []
    refused: list[int] = []

    def connect(left: int) -> None:
        if left > 0:
            asyncio.get_running_loop().call_soon(connect, left - 1)
            return
        client = socket.socket()
        clients.append(client)
        client.settimeout(10)
        refused.append(client.connect_ex(("127.0.0.1", port)))
        if not refused[0]:
            client.send(sent)

    left = Left()
    async with Sandbox(organizations=1, persons=1) as sandbox:
        port = port_of(sandbox)
        connect(iterations)
        for _ in range(-iterations):
            await asyncio.sleep(0)
        leaving = time.monotonic()
    assert time.monotonic() - leaving < GRACE
    with clients[0]:
        if not refused[0]:
            with suppress(ConnectionResetError):  # what was sent has not been read
                assert clients[0].recv(65_536)[:12] in {b"", b"HTTP/1.1 401"}
    left.nothing_more()


async def test_a_client_that_stops_reading() -> None:
    """An answer that is not read does not keep its connection open."""
    left = Left()
    async with Sandbox(organizations=1, persons=1) as sandbox:
        fault = sandbox.fault("body", endpoint="api", body="x" * 50_000_000)
        client = await connected(port_of(sandbox))
        client.send(CALL)
        await fault.reached()
    client.close()
    left.nothing_more()


async def test_an_answer_that_does_not_come() -> None:
    """A request that is still under way after the time of grace is cancelled, and has ended when the sandbox has."""
    left = Left()
    async with Sandbox(organizations=1, persons=1) as sandbox:
        fault = sandbox.fault("delay", endpoint="api", seconds=60)
        client = await connected(port_of(sandbox))
        client.send(CALL)
        await fault.reached()
    client.close()
    left.nothing_more()


async def test_a_port_in_use() -> None:
    """It is said, nothing stays behind, and the same sandbox can be entered when the port is free."""
    async with Sandbox() as first:
        second = Sandbox(port=port_of(first))
        left = Left()
        for _ in range(2):
            with pytest.raises(OSError, match="address already in use"):
                await second.__aenter__()
            left.nothing_more()
    async with second:
        assert second.base == first.base


async def test_entered_again() -> None:
    """What it holds is kept; orders of faults are not; entering it twice at a time is refused."""
    sandbox = Sandbox()
    pasted = sandbox.paste_token("Acme")
    for _ in range(2):
        async with sandbox:
            with pytest.raises(RuntimeError, match="entered already"):
                await sandbox.__aenter__()
            async with Remote(sandbox.base) as remote:
                assert await remote.is_live(pasted)
                with pytest.raises(RuntimeError, match="entered already"):
                    await remote.__aenter__()
            async with remote, ClientSession() as session:
                assert "Acme" in await remote.organizations()
                async with session.get(f"{sandbox.base}/v1/odata/") as response:
                    assert response.status == 401
            sandbox.fault("status", endpoint="api", times=None)
        await sandbox.__aexit__(None, None, None)  # it was left already
        await remote.__aexit__(None, None, None)
    with pytest.raises(RuntimeError, match="use it inside of `async with`"):
        await remote.organizations()


async def test_a_refresh_that_the_end_cancels() -> None:
    """It has not happened: the refresh token is not spent, and no refresh counts as under way."""
    written = asyncio.Event()

    def clock() -> float:
        """What the ledger asks for the time of each event."""
        written.set()
        return time.time()

    sandbox = Sandbox(latency=60, clock=clock)
    left = Left()
    async with ClientSession() as session:
        async with sandbox:
            client = sandbox.client()
            form = {
                "grant_type": "refresh_token",
                "refresh_token": sandbox.paste_token("Acme"),
                "client_id": client.client_id,
                "client_secret": client.client_secret.reveal(),
            }
            written.clear()
            sending = asyncio.ensure_future(session.post(f"{sandbox.base}/oauth2/token", data=form))
            await written.wait()
        with pytest.raises(ServerDisconnectedError):
            await sending
        sandbox._oauth.latency = 0
        async with sandbox, session.post(f"{sandbox.base}/oauth2/token", data=form) as response:
            assert response.status == 200
    left.nothing_more()


@pytest.fixture
async def elsewhere() -> AsyncIterator[dict[str, Any]]:
    """A sandbox in another process, so that its descriptors are not counted here."""
    process, ready = await start("--end-with-stdin")
    yield ready
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0


class Resolver(ThreadedResolver):
    """A resolver that has to be closed, as the one that aiohttp takes where aiodns is installed."""

    open = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        Resolver.open += 1

    async def close(self) -> None:
        await asyncio.sleep(0)
        Resolver.open -= 1


@pytest.fixture
def resolvers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohttp.connector.DefaultResolver", Resolver)


def check_client(left: Left) -> Callable[[], None]:
    def check() -> None:
        assert Resolver.open == 0
        left.nothing_more()

    return check


@ways
@pytest.mark.usefixtures("resolvers")
async def test_a_remote_cancelled_at_every_await(way: Way, elsewhere: dict[str, Any]) -> None:
    """While it is entered, used and left: its connections are closed."""
    left = Left()

    async def live() -> None:
        async with Remote(elsewhere["base_url"]) as remote:
            await remote.paste_token("Acme")

    assert await cancel_everywhere(way, at_await, live, check_client(left)) > 3


@ways
@pytest.mark.usefixtures("resolvers")
async def test_a_consent_cancelled_at_every_await(way: Way, elsewhere: dict[str, Any]) -> None:
    """While the page is read, decided on and answered: its connections are closed."""
    left = Left()
    async with Remote(elsewhere["base_url"]) as remote:
        url = (await remote.client()).authorization_request().url
    left.nothing_more()

    async def live() -> None:
        assert "code=" in await browser.approve(url, organization=None, scopes=None, deny=False)

    assert await cancel_everywhere(way, at_await, live, check_client(left)) > 3
