"""The complete example application, as its page says to run it: four workers, two hundred customers, a restart."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientConnectorError, ClientSession, CookieJar
from yarl import URL

from tribe_oauth.sandbox import Sandbox

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "web_app.py"
CUSTOMERS = 200


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def running(port: int, *arguments: str, **env: str) -> AsyncIterator[str]:
    """The command, until its pages answer; ended as a person would."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIBE_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE), f"--port={port}", "--workers=4", *arguments),
        env=clean | env,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline()
    base = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(30), ClientSession() as session:
            while True:
                try:
                    async with session.get(base) as response:
                        assert response.status == 200
                        break
                except ClientConnectorError:
                    await asyncio.sleep(0.05)  # until the first worker listens
        yield base
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0


class Customer:
    """One browser, signed in."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.session = ClientSession(cookie_jar=CookieJar(unsafe=True))

    async def sign_in(self, name: str) -> None:
        async with self.session.post(f"{self.base}/sign-in", data={"account": name}) as response:
            assert response.status == 200

    async def connect(self, sandbox: Sandbox, organization: str) -> None:
        link = f"{self.base}/tribe/connect?next=/"
        async with self.session.get(link, allow_redirects=False) as response:
            assert response.status == 303, await response.text()
            consent = response.headers["Location"]
        callback = await sandbox.approve(consent, organization=organization)
        async with self.session.get(URL(callback, encoded=True), allow_redirects=False) as response:
            assert response.headers["Location"] == "/"

    async def text(self, path: str) -> str:
        async with self.session.get(self.base + path) as response:
            assert response.status == 200, path
            return await response.text()


@asynccontextmanager
async def browsing(base: str) -> AsyncIterator[Customer]:
    customer = Customer(base)
    async with customer.session:
        yield customer


async def test_two_hundred_customers_at_once(tmp_path: Path) -> None:
    """Four workers, a server that revokes on reuse: all are connected, nothing spent twice, a restart harms nobody."""
    port = free_port()
    names = [f"organization {number}" for number in range(CUSTOMERS + 1)]
    redirect_uri = f"http://127.0.0.1:{port}/tribe/callback"
    async with Sandbox(organizations=names, persons=5, redirect_uri=redirect_uri) as sandbox:
        settings = sandbox.environment | {"APP_SECRET": "a key for the cookies of these tests"}
        store = f"--store={tmp_path}/example.db"

        async def customer(base: str, number: int) -> None:
            async with browsing(base) as browser:
                await browser.sign_in(f"customer{number}")
                await browser.connect(sandbox, names[number])
                organization = sandbox.organizations[names[number]]
                assert organization in await browser.text("/")
                assert "5 persons" in await browser.text(f"/persons/{organization}")

        async with running(port, store, **settings) as base:
            await asyncio.gather(*(customer(base, number) for number in range(CUSTOMERS)))
            async with browsing(base) as browser:  # a second organization for the first customer
                await browser.sign_in("customer0")
                await browser.connect(sandbox, names[-1])
        assert sandbox.ledger.count("authorization_code") == CUSTOMERS + 1
        for name in names[:3]:
            sandbox.expire(name)
        async with running(port, store, **settings) as base, browsing(base) as browser:
            await browser.sign_in("customer0")
            for name in (names[0], names[-1]):
                assert "5 persons" in await browser.text(f"/persons/{sandbox.organizations[name]}")
            await browser.sign_in("customer1")
            assert "5 persons" in await browser.text(f"/persons/{sandbox.organizations[names[1]]}")
        assert sandbox.ledger.reused() == ()
        assert sandbox.ledger.spent_twice() == ()
        assert sandbox.ledger.undelivered() == ()
        live = [family.live for name in names for family in sandbox.ledger.families(name)]
        assert live == [True] * (CUSTOMERS + 1)


async def test_with_an_emulated_tribe_of_its_own() -> None:
    """One command, nothing else: the consent page is the one of the sandbox that it started."""
    port = free_port()
    async with running(port) as base, browsing(base) as browser:
        await browser.sign_in("ann")
        async with browser.session.get(f"{base}/tribe/connect") as response:
            assert "Allow" in await response.text()
        async with browser.session.post(f"{base}/sign-in", data={"account": "a:b"}) as response:
            assert response.status == 400
        async with browser.session.get(f"{base}/persons/nothing") as response:
            assert response.status == 404
