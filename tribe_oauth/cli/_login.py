"""``tribe-oauth login``: consent in a browser, and what a person sees of it."""

from __future__ import annotations

import asyncio
import webbrowser
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tribe_oauth.cli import _keyboard
from tribe_oauth.cli._managers import settings, stored
from tribe_oauth.cli._organizations import Organization
from tribe_oauth.cli._words import told_scope
from tribe_oauth.web._loopback import login as login_here


async def login(
    organization: Organization = None,
    pin: Annotated[
        str | None,
        typer.Option(
            help="Tribe's id of the organization that has to consent (organization_id). Leave it out where Tribe's page"
            " ends in an error."
        ),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser; the address is printed in any case.")] = True,
    pkce: Annotated[
        bool,
        typer.Option(
            help="Prove that it is the same program that asked and exchanges the code (RFC 7636). Leave it out where"
            " Tribe's page ends in an error, or the exchange is refused for it."
        ),
    ] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the consent.", min=1)] = 600.0,
) -> None:
    """Connect an organization by consent in a browser on this machine, or by the address that the browser ended at."""
    known, console = settings(), Console()
    key = organization or known.organization

    def show(url: str) -> None:
        console.print("Allow the access in your browser, at this address:\n")
        console.print(url, markup=False, highlight=False, soft_wrap=True)
        console.print("\nIf the browser cannot come back here: paste the address that it ended at, and press Enter.")
        if browser:
            _keyboard.in_background(webbrowser.open, url)

    def show_problem(reason: str) -> None:
        console.print(f"[bold red]this address cannot be used[/]: {escape(reason)}", soft_wrap=True)

    async with stored(known) as manager:
        token = await login_here(
            known.client,
            lambda grant: manager.connect(key, grant),
            show=show,
            pasted=_pasted,
            show_problem=show_problem,
            organization_id=pin,
            pkce=pkce,
            timeout=timeout,
        )
    console.print(f"connected: {escape(key)}; scope: {told_scope(token.scope)}")


async def _pasted() -> str:
    """The next line that is not empty. At the end of the input there is none: only the browser can come back."""
    while text := await _keyboard.line():
        if text.strip():
            return text
    never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    return await never
