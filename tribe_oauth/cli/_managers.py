"""The manager that a command works with. The command line keeps connections in a file where TRIBE_STORE is not set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from aiohttp import BaseConnector

from tribe_oauth import TokenManager
from tribe_oauth._manager import settings as environment
from tribe_oauth._manager.environment import Environment
from tribe_oauth._manager.settings import Settings
from tribe_oauth._oauth.environment import endpoints
from tribe_oauth.cli._words import note, told
from tribe_oauth.errors import ConfigurationError, TribeOAuthError

Organization = Annotated[
    str | None, typer.Argument(help="Key of the organization, where --organization is not given.", show_default=False)
]
Named = Annotated[
    str | None,
    typer.Option(
        "--organization",
        "-o",
        metavar="KEY",
        help="Key of the organization. By default TRIBE_ORGANIZATION_ID, else the only one that is connected.",
    ),
]


def one_of(argument: str | None, option: str | None) -> str | None:
    """The organization, given in one of the two ways. Raises BadParameter where they differ."""
    if argument is not None and option not in {None, argument}:
        raise typer.BadParameter("two organizations are named: name one", param_hint="--organization")
    return option if argument is None else argument


def settings() -> Settings:
    """What the environment says, with the store of the command line. Raises ConfigurationError."""
    return environment.read(durable=True)


def stored(settings: Settings, connector: BaseConnector | None = None) -> TokenManager:
    """A manager on that store, for organizations that are connected or are to be."""
    return TokenManager(settings.client, store=settings.store, connector=connector, proxy=settings.proxy)


def looking() -> TokenManager:
    """A manager to look at what is stored: it needs no Application. Raises ConfigurationError."""
    check_store()
    return TokenManager(store=environment.store(durable=True), endpoints=endpoints())


def check_store(*, empty: bool = True) -> None:
    """Raise ConfigurationError where TRIBE_STORE names a file in a folder that is not there: it is mistyped.

    `empty` False: also where only the file is not there, since nothing can be done without.
    """
    missing = _without_folder() if empty else environment.missing_store()
    if missing is not None:
        raise ConfigurationError(
            f"TRIBE_STORE names {str(missing)!r}, and there is nothing: correct it; 'tribe-oauth connect' makes it"
        )


@asynccontextmanager
async def managing_one(organization: str | None) -> AsyncIterator[TokenManager]:
    """A manager for one organization, by the rule: the one named, else as `TokenManager.from_env` finds it."""
    known = settings()
    async with TokenManager._with(known, organization) as manager:
        _note_missing_store(known)
        yield manager


@asynccontextmanager
async def managing_many(
    organizations: list[str], connector: BaseConnector
) -> AsyncIterator[tuple[TokenManager, list[str]]]:
    """A manager, and the organizations: those named, else TRIBE_ORGANIZATION_ID, else all that are stored.

    Where the store is empty it is the environment's own, as for one. Beside others, that it cannot be connected is
    told, and keeps none of them from being read.
    """
    known = settings()
    keys = list(dict.fromkeys(organizations)) or ([] if known.organization is None else [known.organization])
    async with stored(known, connector) as manager:
        keys = keys or await all_of(manager) or [known.own]
        if known.own in keys:
            await _connect_own(manager, known, alone=keys == [known.own])
            _note_missing_store(known)
        yield manager, keys


async def _connect_own(manager: TokenManager, known: Settings, *, alone: bool) -> None:
    connecting = Environment(known).connect(known.own, manager._organizations, manager._connections)
    try:
        await manager._tasks.owned(connecting)
    except TribeOAuthError as error:
        if alone:
            raise
        note(told(error))


def _note_missing_store(known: Settings) -> None:
    if (missing := _without_folder()) is not None:
        note(
            f"TRIBE_STORE names {str(missing)!r}, and there is nothing: {known.own!r} is what the Application of"
            " TRIBE_CLIENT_ID gives access to"
        )


def _without_folder() -> Path | None:
    """The file that TRIBE_STORE names, where not even its folder is there: that is more than not connected yet."""
    missing = environment.missing_store()
    return None if missing is None or missing.parent.is_dir() else missing


async def all_of(manager: TokenManager) -> list[str]:
    """All connected organizations, in order."""
    return sorted([organization async for organization in manager.organizations()])
