"""A process of the demo that starts a rotation, and is killed in the middle of it.

Arguments: the store's path, the sandbox's address, client id, the organization. The client secret comes by environment.
"""

from __future__ import annotations

import asyncio
import os
import sys

from tribe_oauth import Client, TokenManager
from tribe_oauth.sandbox import Remote
from tribe_oauth.stores.sqlite import SQLiteStore


async def main(path: str, base: str, client_id: str, organization: str) -> None:
    """Refresh once. Whoever wants to, kills us meanwhile."""
    endpoints = Remote(base).endpoints
    client = Client(client_id, os.environ["TRIBE_CLIENT_SECRET"], endpoints=endpoints)
    async with TokenManager(client, store=SQLiteStore(path)) as manager:
        await manager.refresh(organization)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
