"""A process of the row `processes`: coroutines that ask for one expired token at once, on command.

Arguments: the local server's address, the store's URL, how many coroutines. A line "<organization> <when>" on standard
input is an order, `when` by the machine's monotonic clock; answered with the time at which the last had its token.
"""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks import ours
from tribe_oauth import TokenManager
from tribe_oauth._manager import settings as environment


async def main(url: str, store: str, coroutines: int) -> None:
    """Until standard input ends."""
    async with TokenManager(ours.client(url), store=environment.store({"TRIBE_STORE": store}, durable=True)) as manager:
        await manager._context.store.load("nobody")  # connects
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while line := await asyncio.to_thread(sys.stdin.readline):
            organization, when = line.split()
            await asyncio.sleep(float(when) - time.monotonic())
            tokens = await asyncio.gather(*(manager.token(organization) for _ in range(coroutines)))
            ended = time.monotonic()
            assert len(set(tokens)) == 1
            sys.stdout.write(f"{ended}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
