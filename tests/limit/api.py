"""An API with the limit and nothing else, as a process of its own: the judge of the shows.

It counts when a request arrives, in any `seconds`, refused ones too, and writes down who came when and what it was
told. ``POST /oauth2/token`` gives a token to whoever asks. Prints its address when it is ready, and ends with its
standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import deque

from aiohttp import web

ROWS = 100


class Api:
    """`came`: for each request when it arrived, whether it was the foreign program's, and its status."""

    def __init__(self, calls: int, seconds: float, latency: float, pages: int) -> None:
        self.calls = calls
        self.seconds = seconds
        self.latency = latency
        self.pages = pages
        self.came: list[tuple[float, bool, int]] = []
        self.arrived: deque[float] = deque()
        rows = [{"ID": f"00000000-0000-0000-0000-{number:012d}", "Name": "x" * 40} for number in range(ROWS)]
        self.rows = json.dumps(rows)

    async def page(self, request: web.Request) -> web.StreamResponse:
        now, foreign = time.monotonic(), "X-Foreign" in request.headers
        while self.arrived and self.arrived[0] <= now - self.seconds:
            self.arrived.popleft()
        self.arrived.append(now)
        status = 429 if len(self.arrived) > self.calls else 200
        self.came.append((now, foreign, status))
        await asyncio.sleep(self.latency)
        if status == 429:
            return web.Response(status=429)
        number = int(request.query.get("$skiptoken", "1"))
        rows = self.rows.replace("0000-0000-0000-", f"{number:04d}-0000-0000-")
        more = f',"@odata.nextLink":"{request.path}?$skiptoken={number + 1}"' if number < self.pages else ""
        text = f'{{"@odata.count":{self.pages * ROWS},"value":{rows}{more}}}'
        return web.Response(text=text, content_type="application/json")

    async def token(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"access_token": "t" * 20, "token_type": "bearer", "expires_in": 86_400})

    async def what_came(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.came)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--pages", type=int, default=100, help="of each entity set")
    api = Api(**vars(parser.parse_args()))
    app = web.Application()
    app.router.add_get("/v1/odata/{set}", api.page)
    app.router.add_post("/oauth2/token", api.token)
    app.router.add_get("/came", api.what_came)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, ended.set)
    await ended.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
