"""The manager that a command works with. The command line keeps connections in a file where TRIBE_STORE is not set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import BaseConnector

from tribe_oauth import TokenManager, UnknownOrganizationError
from tribe_oauth._manager import settings as environment
from tribe_oauth._manager.settings import Settings


def settings() -> Settings:
    """What the environment says, with the store of the command line. Raises ConfigurationError."""
    return environment.read(durable=True)


def stored(settings: Settings, connector: BaseConnector | None = None) -> TokenManager:
    """A manager on that store, for organizations that are connected or are to be."""
    return TokenManager(settings.client, store=settings.store, connector=connector, proxy=settings.proxy)


@asynccontextmanager
async def managing_one(organization: str | None) -> AsyncIterator[tuple[TokenManager, str | None]]:
    """A manager, and the organization to ask it for: the one named, else the one of the environment.

    The latter is taken from the store where it was connected by an earlier command; else it is connected as
    `TokenManager.from_env` does, which keeps client credentials in memory.
    """
    known = settings()
    async with stored(known) as manager:
        if organization is not None or await _is_connected(manager, known):
            yield manager, organization or known.organization
            return
    async with TokenManager.from_env() as manager:
        yield manager, None


async def _is_connected(manager: TokenManager, settings: Settings) -> bool:
    if settings.pasted:
        return False  # it may be another refresh token than the one that the connection began with
    try:
        await manager.status(settings.organization)
    except UnknownOrganizationError:
        return False
    return True


@asynccontextmanager
async def managing_many(
    organizations: list[str], connector: BaseConnector
) -> AsyncIterator[tuple[TokenManager, list[str]]]:
    """A manager, and the organizations: those named, else all that are stored, else the one of the environment."""
    async with stored(settings(), connector) as manager:
        keys = list(dict.fromkeys(organizations)) or await all_of(manager)
        if keys:
            yield manager, keys
            return
    async with TokenManager.from_env() as manager:
        yield manager, await all_of(manager)


async def all_of(manager: TokenManager) -> list[str]:
    """All connected organizations, in order."""
    return sorted([organization async for organization in manager.organizations()])
