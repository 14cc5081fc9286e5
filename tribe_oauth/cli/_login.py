"""``tribe-oauth login``: consent in a browser, and what a person sees of it."""

from __future__ import annotations

import asyncio
import webbrowser
from typing import Annotated

import typer

from tribe_oauth.cli import _keyboard
from tribe_oauth.cli._managers import Named, Organization, one_of, settings, stored
from tribe_oauth.cli._words import console, shown, told_scope
from tribe_oauth.web._loopback import login as login_here


async def login(
    organization: Organization = None,
    named: Named = None,
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
    known, screen, name = settings(), console(), one_of(organization, named)

    def show(url: str) -> None:
        screen.print("Allow the access in your browser, at this address:\n")
        screen.print(url, markup=False, highlight=False, soft_wrap=True)
        screen.print("\nIf the browser cannot come back here: paste the address that it ended at, and press Enter.")
        if browser:
            _keyboard.in_background(webbrowser.open, url)

    def show_problem(reason: str) -> None:
        screen.print(f"[bold red]this address cannot be used[/]: {shown(reason)}", soft_wrap=True)

    async with stored(known) as manager:
        key = await manager._organizations.to_connect(known.organization if name is None else name, known.own)
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
    screen.print(f"connected: {shown(key)}; scope: {told_scope(token.scope)}")


async def _pasted() -> str:
    """The next line that is not empty. At the end of the input there is none: only the browser can come back."""
    while text := await _keyboard.line():
        if text.strip():
            return text
    never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    return await never
