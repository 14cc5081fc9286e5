"""A worker process of the tests: forces refreshes at random on a store that it shares with others.

Arguments: the sandbox's address, client id, client secret, the store's path, how many refreshes, a seed.
"""

from __future__ import annotations

import asyncio
import random
import sys

from tribe_oauth import Client, TokenManager
from tribe_oauth.sandbox import Remote
from tribe_oauth.stores.sqlite import SQLiteStore


async def main(base: str, client_id: str, client_secret: str, path: str, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    client = Client(
        client_id, client_secret, redirect_uri="https://app.example/callback", endpoints=Remote(base).endpoints
    )
    async with TokenManager(client, store=SQLiteStore(path)) as manager:
        organizations = [organization async for organization in manager.organizations()]
        for _ in range(rounds):
            organization = chance.choice(organizations)
            before = await manager.token(organization)
            assert await manager.refresh(organization) != before


if __name__ == "__main__":
    base, client_id, client_secret, path, rounds, seed = sys.argv[1:]
    asyncio.run(main(base, client_id, client_secret, path, int(rounds), int(seed)))
