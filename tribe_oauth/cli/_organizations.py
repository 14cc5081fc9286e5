"""Commands for connections: connect, disconnect, status; and for the token of one: token, refresh."""

from __future__ import annotations

from typing import Annotated

import typer

from tribe_oauth import RefreshTokenGrant, Token
from tribe_oauth._manager import settings as environment
from tribe_oauth._manager.organizations import not_connected
from tribe_oauth.cli._exit import Exit
from tribe_oauth.cli._keyboard import hidden_line
from tribe_oauth.cli._managers import (
    Named,
    Organization,
    all_of,
    check_store,
    looking,
    managing_one,
    one_of,
    settings,
    stored,
)
from tribe_oauth.cli._words import console, shown, table, told, told_scope, told_state, told_time, write_line
from tribe_oauth.errors import UnreadableError


async def connect(
    organization: Organization = None,
    named: Named = None,
    paste: Annotated[bool, typer.Option("--paste", help="Ask for a refresh token (Quick Setup).")] = False,
) -> None:
    """Connect an organization by a refresh token: TRIBE_REFRESH_TOKEN, or a pasted one. Else by client credentials.

    Without a name it is TRIBE_ORGANIZATION_ID, else "default"; beside others it has to be named.
    """
    known, name = settings(), one_of(organization, named)
    async with stored(known) as manager:
        key = await manager._organizations.to_connect(known.organization if name is None else name, known.own)
        grant = known.grant
        if paste:
            grant = RefreshTokenGrant(known.client, (await hidden_line("Refresh token: ")).strip())
        await manager.connect(key, grant)
    console().print(f"connected: {shown(key)}")


async def disconnect(organization: Organization = None, named: Named = None) -> None:
    """Revoke a connection and forget it. It has to be named."""
    key = one_of(organization, named)
    if key is None:
        raise typer.BadParameter("name the organization", param_hint="--organization")
    check_store()
    async with stored(settings()) as manager:
        if key not in await all_of(manager):
            raise not_connected(key, await manager._organizations.some())
        await manager.disconnect(key)
    console().print(f"disconnected: {shown(key)}")


async def status(organization: Organization = None, named: Named = None) -> None:
    """Show the state of the connected organizations, or of one. Tribe is not asked.

    Exit with 1 where one cannot be read.
    """
    key = one_of(organization, named)
    states = table("organization", "state", "token", "next attempt", "cause")
    all_read = True
    async with looking() as manager:
        for each in await all_of(manager) if key is None else [key]:
            try:
                found = await manager.status(each)
            except UnreadableError as error:
                all_read = False
                states.add_row(shown(each), "[bold red]unreadable[/]", "", "", shown(told(error)))
                continue
            times = told_time(found.expires_at), told_time(found.next_attempt_at)
            states.add_row(shown(each), told_state(found), *times, found.why and shown(found.why))
    if states.rows:
        console().print(states)
    else:
        _say_that_none_is_connected()
    if not all_read:
        raise typer.Exit(Exit.FAILED)


def _say_that_none_is_connected() -> None:
    missing = environment.missing_store()
    why = "" if missing is None else f": there is no {str(missing)!r}"
    console().print(f"no organization is connected{shown(why)}", soft_wrap=True)


async def token(
    organization: Organization = None,
    named: Named = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the access token itself, and nothing else.")] = False,
) -> None:
    """Get an access token; show how long it lives, or print it."""
    async with managing_one(one_of(organization, named)) as manager:
        found = await manager.token()
    if reveal:
        write_line(found.access_token.reveal())
    else:
        _show(found)


async def refresh(organization: Organization = None, named: Named = None) -> None:
    """Refresh the access token now, even where it is not due."""
    async with managing_one(one_of(organization, named)) as manager:
        found = await manager.refresh()
    _show(found)


def _show(token: Token) -> None:
    console().print(f"an access token that ends {told_time(token.expires_at)}; scope: {told_scope(token.scope)}")
