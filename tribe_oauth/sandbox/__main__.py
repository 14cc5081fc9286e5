"""A sandbox as a process of its own: prints one line of JSON when it is ready, and ends on SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys

from tribe_oauth.sandbox._profiles import PROFILES
from tribe_oauth.sandbox._server import REDIRECT_URI, Sandbox


def main(arguments: list[str] | None = None) -> None:
    """Serve."""
    parser = argparse.ArgumentParser("python -m tribe_oauth.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--profile", choices=PROFILES, default="strict")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--organizations", type=int, default=3)
    parser.add_argument("--persons", type=int, default=250)
    parser.add_argument("--page-size", type=int, default=100)
    parser.add_argument("--access-token-lifetime", type=float, default=86_400, metavar="SECONDS")
    parser.add_argument("--refresh-token-lifetime", type=float, default=2_592_000, metavar="SECONDS")
    parser.add_argument("--redirect-uri", default=REDIRECT_URI)
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS")
    asyncio.run(_serve(Sandbox(**vars(parser.parse_args(arguments)))))


async def _serve(sandbox: Sandbox) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with sandbox:
        client = sandbox.client()
        ready = {
            "base_url": sandbox.base,
            "client_id": client.client_id,
            "client_secret": client.client_secret.reveal(),
            "redirect_uri": client.redirect_uri,
            "profile": sandbox.profile,
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    main()
