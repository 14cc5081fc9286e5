"""What the fast path costs, against the least that could do the same.

Variants are interleaved and their medians compared: nothing here is an absolute, and nothing is a test.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import attrs
from aiohttp import web

from tribe_oauth import ClientCredentialsGrant, TokenManager
from tribe_oauth.sandbox import Sandbox

ROUNDS = 31
CALLS = 20_000
REQUESTS = 1_000
AT_ONCE = 100

Variant = Callable[[], Awaitable[None]]


async def compare(variants: dict[str, Variant], calls: int) -> dict[str, float]:
    """Nanoseconds of processor time for a call: the median over interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, variant in variants.items():
            started = time.process_time_ns()
            await variant()
            times[name].append((time.process_time_ns() - started) / calls)
    return {name: statistics.median(taken) for name, taken in times.items()}


async def tokens(manager: TokenManager) -> dict[str, float]:
    """`await manager.token(organization)`, nothing due, against a look-up, the clock and a comparison."""
    table = {"acme": ("token", time.monotonic() + 1e9)}

    async def limit() -> None:
        clock = time.monotonic
        for _ in range(CALLS):
            token, due = table["acme"]
            if clock() >= due:
                raise AssertionError(token)

    async def manager_token() -> None:
        for _ in range(CALLS):
            await manager.token("acme")

    return await compare({"look-up": limit, "look-up again": limit, "manager.token": manager_token}, CALLS)


@asynccontextmanager
async def api() -> AsyncIterator[str]:
    """An API that answers as little as can be; its address."""

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello", status=200 if "Authorization" in request.headers else 401)

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def requests(manager: TokenManager, url: str) -> dict[str, float]:
    """An authenticated request, a hundred in flight, against a session with a static header."""
    token = await manager.token("acme")
    static = aiohttp.ClientSession(headers={"Authorization": f"Bearer {token.access_token.reveal()}"})
    ours = aiohttp.ClientSession(middlewares=[manager.middleware("acme")])

    def reader(session: aiohttp.ClientSession) -> Variant:
        async def worker() -> None:
            for _ in range(REQUESTS // AT_ONCE):
                async with session.get(url) as response:
                    assert response.status == 200

        async def read() -> None:
            await asyncio.gather(*(worker() for _ in range(AT_ONCE)))

        return read

    variants = {"static header": reader(static), "static again": reader(static), "middleware": reader(ours)}
    try:
        return await compare(variants, REQUESTS)
    finally:
        await static.close()
        await ours.close()


def table(title: str, times: dict[str, float]) -> None:
    """Each against the first; the second is the first again, and shows the noise."""
    limit = next(iter(times.values()))
    sys.stdout.write(f"\n{title}\n")
    for name, taken in times.items():
        sys.stdout.write(f"  {name:<16}{taken:>12,.0f} ns{taken / limit:>9.3f}\n")


async def main() -> None:
    """All of it."""
    async with Sandbox() as sandbox, api() as url:
        client = attrs.evolve(sandbox.client(), endpoints=attrs.evolve(sandbox.endpoints, api=url))
        manager = TokenManager(client)
        await manager.connect("acme", ClientCredentialsGrant(client))
        table("A token, nothing due (processor time)", await tokens(manager))
        # The server is in the same process: a request's time here is both sides', and the ratio the milder for it.
        table("A request, 100 in flight (processor time, server included)", await requests(manager, url))
        await manager.close()


if __name__ == "__main__":
    asyncio.run(main())
