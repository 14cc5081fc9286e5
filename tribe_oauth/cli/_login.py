"""The login in a browser: what a person sees of it."""

from __future__ import annotations

import asyncio
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console
from rich.markup import escape

from tribe_oauth import Client, TokenManager
from tribe_oauth._token import format_scope
from tribe_oauth.web._loopback import login


async def run(
    manager: TokenManager, client: Client, organization: str, *, pin: str | None, browser: bool, timeout: float
) -> None:
    """Connect an organization by consent."""
    console = Console()

    def show(url: str) -> None:
        console.print("Allow the access in your browser, at this address:\n")
        console.print(url, markup=False, highlight=False, soft_wrap=True)
        console.print("\nWhere the browser cannot come back here: paste the address that it ends at, and press Enter.")
        if browser:
            _in_background(webbrowser.open, url)

    async with manager:
        token = await login(
            client,
            lambda grant: manager.connect(organization, grant),
            show=show,
            pasted=_line(),
            organization_id=pin,
            timeout=timeout,
        )
    scope = "not known" if token.scope is None else format_scope(token.scope)
    console.print(f"connected: {escape(organization)}; scope: {escape(scope)}")


def _line() -> asyncio.Future[str]:
    """A line from the keyboard, some time."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        text = sys.stdin.readline()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            if text.strip():
                loop.call_soon_threadsafe(line.set_result, text)

    _in_background(read)
    return line


def _in_background(work: Callable[..., object], *arguments: object) -> None:
    """In a thread that keeps nobody from ending: neither a keyboard nor a text browser need ever answer."""
    threading.Thread(target=work, args=arguments, daemon=True).start()
