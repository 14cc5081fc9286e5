"""A login on one's own machine that is cancelled: at every await, in every way, nothing is left behind."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest
from yarl import URL

from tribe_oauth import Token, TokenManager
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.web._loopback import HOST, _first, login

from .cancelling import KINDS, cancelled, nothing_left


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def assert_nobody_listens(port: int) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((HOST, port))
        other.listen()


class Visitor:
    """A person with a browser, who consents and comes back, and whose browser keeps its connection open.

    `status`: of the page they saw; 0: none, the connection was closed; None: they were never asked.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.visit: asyncio.Task[int] | None = None

    def open(self, url: str) -> None:
        self.visit = asyncio.ensure_future(self._visit(url))

    async def _visit(self, url: str) -> int:
        callback = URL(await self.sandbox.approve(url), encoded=True)
        try:
            reader, writer = await asyncio.open_connection(HOST, callback.port)
        except OSError:
            return 0
        writer.write(f"GET {callback.raw_path_qs} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        answer = b""
        with suppress(ConnectionError):
            answer = await reader.read()  # until the other side closes
        writer.close()
        return int(answer.split()[1]) if answer else 0

    async def status(self) -> int | None:
        async with asyncio.timeout(10):
            return None if self.visit is None else await self.visit


@pytest.mark.parametrize("kind", KINDS)
async def test_at_every_await(kind: str) -> None:
    """The port is free, no task runs, no descriptor is open; a browser that waits is answered or disconnected."""
    port = free_port()
    seen: list[int | None] = []
    async with Sandbox(redirect_uri=f"http://{HOST}:{port}/callback") as sandbox:
        client = sandbox.client()
        await sandbox.approve(client.authorization_request().url)  # what is loaded once is loaded now
        at, goes_on = 0, True
        while goes_on:
            at += 1
            visitor = Visitor(sandbox)
            async with nothing_left():
                async with TokenManager(client) as manager:

                    def work(manager: TokenManager = manager, visitor: Visitor = visitor) -> Any:
                        return login(
                            client,
                            lambda grant: manager.connect("acme", grant),
                            show=visitor.open,
                            show_problem=print,
                            pasted=asyncio.Queue[str]().get,
                        )

                    goes_on = await cancelled(kind, work, at)
                    assert_nobody_listens(port)
                seen.append(await visitor.status())
    assert at > 5
    assert seen[-1] == 200
    assert {0, 503} <= set(seen) <= {None, 0, 503, 200}


@pytest.mark.parametrize("turns", range(-10, 4))
async def test_a_browser_that_came_at_the_last_moment(turns: int) -> None:
    """Wherever its connection is when the login is cancelled, it is closed. `turns`: iterations between the two."""
    port, shown = free_port(), asyncio.Event()
    async with Sandbox(redirect_uri=f"http://{HOST}:{port}/callback") as sandbox, nothing_left():
        task = asyncio.ensure_future(
            login(
                sandbox.client(),
                _never,
                show=lambda url: shown.set(),
                show_problem=print,
                pasted=asyncio.Queue[str]().get,
            )
        )
        await shown.wait()
        with socket.socket() as browser, suppress(ConnectionError):
            for turn in range(min(turns, 0), max(turns, 0) + 1):
                if turn == 0:
                    browser.connect((HOST, port))  # the kernel accepts it, the event loop in some later iteration
                if turn == turns:
                    task.cancel()
                await asyncio.sleep(0)
            await asyncio.wait({task})
            browser.setblocking(False)
            async with asyncio.timeout(10):
                assert await asyncio.get_running_loop().sock_recv(browser, 1) == b""
        await asyncio.wait({task})
        assert_nobody_listens(port)


async def _never(grant: object) -> Token:
    raise AssertionError


async def test_both_ways_fail() -> None:
    """The first error is raised; one that comes with the cancellation of the other is not left unread."""

    async def fail() -> Any:
        raise KeyError

    async def fail_when_cancelled() -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            raise IndexError

    async with nothing_left():
        with pytest.raises(KeyError):
            await _first(fail(), fail_when_cancelled(), timeout=10, suspects="")
