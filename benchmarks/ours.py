"""Managers of this library for the rows: with organizations in hand, or in a store. Nothing is fetched for it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from tribe_oauth import Client, MemoryStore, Secret, Token, TokenManager, TokenStore
from tribe_oauth._manager.connect import new_family
from tribe_oauth._oauth.values import Endpoints
from tribe_oauth._refresh import record as records
from tribe_oauth._refresh.payload import Credential

LIFETIME: Final = 86_400.0
AT_ONCE: Final = 1_000


def client(url: str) -> Client:
    """The client of a local server."""
    return Client("id", "secret", endpoints=Endpoints.at(url, url, allow_insecure_loopback=True))


def keys(count: int) -> list[str]:
    """Keys as Tribe's: UUIDs."""
    return [str(uuid.UUID(int=number)) for number in range(count)]


def secrets_of(organization: str) -> tuple[str, str]:
    """Two that nobody else has, as long as real ones: 87 characters."""
    return f"at.{organization:a>84}", f"rt.{organization:a>84}"


async def fill(store: TokenStore, url: str, organizations: list[str], *, lives_for: float = LIFETIME) -> None:
    """Connections that live for so many seconds more; 0: that are due."""
    credential = Credential(kind="refresh_token", client_id="id", token_endpoint=f"{url}/oauth2/token")
    now = time.time()

    async def connect(organization: str) -> None:
        access_token, refresh_token = (Secret(text) for text in secrets_of(organization))
        token = Token(
            access_token=access_token,
            refresh_token=refresh_token,
            expires_at=now + lives_for,
            scope=frozenset({"read"}),
        )
        record = records.replaced(
            None,
            organization,
            family=new_family(),
            credential=credential,
            token=token,
            lifetime=LIFETIME,
            due_at=now + 0.9 * lives_for,
            now=now,
        )
        assert await store.swap(record) is not None

    for some in batches(organizations):
        await asyncio.gather(*(connect(organization) for organization in some))


def batches(organizations: list[str]) -> Iterator[list[str]]:
    """A thousand at a time."""
    for start in range(0, len(organizations), AT_ONCE):
        yield organizations[start : start + AT_ONCE]


@asynccontextmanager
async def manager(url: str, organizations: list[str], *, lives_for: float = LIFETIME) -> AsyncIterator[TokenManager]:
    """A manager with these organizations in memory."""
    store = MemoryStore()
    await fill(store, url, organizations, lives_for=lives_for)
    made = TokenManager(client(url), store=store, rate_limit=None)  # more calls in a minute than any API takes
    try:
        yield made
    finally:
        await made.close()
