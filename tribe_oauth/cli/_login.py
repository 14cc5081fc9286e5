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
from tribe_oauth._oauth.values import format_scope
from tribe_oauth.web._loopback import login


async def run(
    manager: TokenManager, client: Client, organization: str, *, pin: str | None, browser: bool, timeout: float
) -> None:
    """Connect an organization by consent."""
    console = Console()

    def show(text: str) -> None:
        if not text.startswith("http"):
            console.print(f"[bold red]not that[/]: {escape(text)}", soft_wrap=True)
            return
        console.print("Allow the access in your browser, at this address:\n")
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        console.print("\nWhere the browser cannot come back here: paste the address that it ends at, and press Enter.")
        if browser:
            _in_background(webbrowser.open, text)

    async with manager:
        token = await login(
            client,
            lambda grant: manager.connect(organization, grant),
            show=show,
            pasted=_lines().get,
            organization_id=pin,
            timeout=timeout,
        )
    scope = "not known" if token.scope is None else format_scope(token.scope)
    console.print(f"connected: {escape(organization)}; scope: {escape(scope)}")


def _lines() -> asyncio.Queue[str]:
    """What is typed, line by line, but for empty ones."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            for line in sys.stdin:
                if line.strip():
                    loop.call_soon_threadsafe(lines.put_nowait, line)

    _in_background(read)
    return lines


def _in_background(work: Callable[..., object], *arguments: object) -> None:
    """In a thread that keeps nobody from ending: neither a keyboard nor a text browser need ever answer."""
    threading.Thread(target=work, args=arguments, daemon=True).start()
