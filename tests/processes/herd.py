"""A process of the tests: a thousand coroutines that find their token refused, at once, on command.

Argument: the store's URL. Settings by environment. Prints one line when it is ready, and one with what came of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys

from tribe_oauth import TokenManager
from tribe_oauth._manager import settings as environment


async def main(url: str) -> None:
    store = environment.store({"TRIBE_STORE": url}, durable=True)
    async with TokenManager(environment.read().client, store=store) as manager:
        old = await manager.token("acme")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        tokens = set(await asyncio.gather(*(manager.refresh("acme", rejected=old) for _ in range(1_000))))
        assert old not in tokens
        sys.stdout.write(" ".join(hashlib.sha256(t.access_token.reveal().encode()).hexdigest() for t in tokens) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
