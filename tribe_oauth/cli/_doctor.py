"""``tribe-oauth doctor``: what anyone who helps would ask first.

It tries what can be tried without spending anything: client credentials, which are free, and one row of each
organization, with the access token that it has. It never sends a refresh token, shows no secret, and makes no file.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import typer

from tribe_oauth import TokenManager, TribeOAuthError
from tribe_oauth._manager.settings import Settings
from tribe_oauth.cli._exit import Exit
from tribe_oauth.cli._finding import Finding, ok, wrong
from tribe_oauth.cli._inspect import inspect_meant, inspect_pasted, inspect_store, inspect_variables
from tribe_oauth.cli._managers import settings, stored
from tribe_oauth.cli._trials import try_client, try_organizations, try_row, try_server
from tribe_oauth.cli._words import console, shown, table, told

_COLOR: Final = {"ok": "green", "look": "yellow", "wrong": "bold red"}


async def doctor() -> None:
    """Check settings, servers, clock, store and organizations; exit with 1 where something is wrong."""
    found, is_wrong = table("what", "", "found"), False
    async with aclosing(_findings()) as findings:
        async for finding in findings:
            is_wrong |= finding.level == "wrong"
            level = f"[{_COLOR[finding.level]}]{finding.level}[/]"
            found.add_row(shown(finding.what), level, shown(finding.text))
    console().print(found)
    if is_wrong:
        raise typer.Exit(Exit.FAILED)


async def _findings() -> AsyncGenerator[Finding]:
    for finding in inspect_variables():
        yield finding
    try:
        known = settings()
    except TribeOAuthError as error:
        yield wrong("settings", told(error))
        return
    way = "a refresh token" if known.pasted else "client credentials"
    yield ok("settings", f"client {known.client.client_id}, {way}, organization {known.organization or 'not named'}")
    async with stored(known) as manager, aclosing(_tried(manager, known)) as findings:
        async for finding in findings:
            yield finding


async def _tried(manager: TokenManager, known: Settings) -> AsyncGenerator[Finding]:
    endpoints = known.client.endpoints
    authority = await try_server(manager, "authorization server", endpoints.token_endpoint)
    api = await try_server(manager, "API", endpoints.api + "/v1/odata")
    yield authority
    yield api
    token = None
    if authority.level != "wrong":
        trial = await try_client(manager, known)
        token = trial.token
        yield trial.finding
    store = await inspect_store(manager.store)
    yield store
    if store.level == "wrong":
        return
    try:
        async for finding in inspect_meant(manager, known):
            yield finding
        yield await inspect_pasted(manager, known)
        async for finding in try_organizations(manager, api_answers=api.level != "wrong"):
            yield finding
        if token is not None and not known.pasted and api.level != "wrong" and not await manager._organizations.some():
            yield await try_row(manager, f"organization {known.own}", token)
    except TribeOAuthError as error:
        yield wrong("organizations", told(error))
