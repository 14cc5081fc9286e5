"""Commands for connections: connect, disconnect, status, rekey; and for the token of one: token, refresh."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tribe_oauth import RefreshTokenGrant, Token
from tribe_oauth.cli._keyboard import hidden_line
from tribe_oauth.cli._managers import all_of, managing_one, settings, stored
from tribe_oauth.cli._words import told_scope, told_state, told_time
from tribe_oauth.errors import ConfigurationError, UnreadableError
from tribe_oauth.stores import Rekeyer

Organization = Annotated[
    str | None, typer.Argument(help="Key of the organization. By default the one of the environment.")
]


async def connect(
    organization: Organization = None,
    paste: Annotated[bool, typer.Option("--paste", help="Ask for a refresh token (Quick Setup).")] = False,
) -> None:
    """Connect an organization by a refresh token: TRIBE_REFRESH_TOKEN, or a pasted one. Else by client credentials."""
    known = settings()
    grant = known.grant
    if paste:
        grant = RefreshTokenGrant(known.client, (await hidden_line("Refresh token: ")).strip())
    key = organization or known.organization
    async with stored(known) as manager:
        await manager.connect(key, grant)
    Console().print(f"connected: {escape(key)}")


async def disconnect(organization: Annotated[str, typer.Argument(help="Key of the organization.")]) -> None:
    """Revoke a connection and forget it."""
    async with stored(settings()) as manager:
        await manager.disconnect(organization)
    Console().print(f"disconnected: {escape(organization)}")


async def status(
    organization: Annotated[str | None, typer.Argument(help="Key of the organization. By default all.")] = None,
) -> None:
    """Show the state of the connected organizations. Tribe is not asked. Exit with 1 where one cannot be read."""
    table = Table("organization", "state", "token", "next attempt", "cause")
    all_read = True
    async with stored(settings()) as manager:
        for key in [organization] if organization else await all_of(manager):
            try:
                found = await manager.status(key)
            except UnreadableError as error:
                all_read = False
                table.add_row(escape(key), "[bold red]unreadable[/]", "", "", escape(str(error)))
                continue
            times = told_time(found.expires_at), told_time(found.next_attempt_at)
            table.add_row(escape(key), told_state(found), *times, found.why and escape(found.why))
    Console().print(table if table.rows else "no organization is connected")
    if not all_read:
        raise typer.Exit(1)


async def token(
    organization: Organization = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the access token itself, and nothing else.")] = False,
) -> None:
    """Get an access token; show how long it lives, or print it."""
    async with managing_one(organization) as (manager, key):
        found = await manager.token(key)
    if reveal:
        sys.stdout.write(found.access_token.reveal() + "\n")
    else:
        _show(found)


async def refresh(organization: Organization = None) -> None:
    """Refresh the access token now, even where it is not due."""
    async with managing_one(organization) as (manager, key):
        found = await manager.refresh(key)
    _show(found)


def _show(token: Token) -> None:
    Console().print(f"an access token that ends {told_time(token.expires_at)}; scope: {told_scope(token.scope)}")


async def rekey() -> None:
    """Encrypt the store anew under the newest key of TRIBE_STORE_KEYS. May be stopped, and run again."""
    store = settings().store
    if not isinstance(store, Rekeyer):
        raise ConfigurationError(
            "TRIBE_STORE_KEYS is not set, so that nothing is encrypted: set it to the new key and the old ones,"
            " the newest first"
        )
    try:
        changed = await store.rekey()
    finally:
        await store.close()
    Console().print(f"{changed} records are under the newest key now; the older keys can go")
