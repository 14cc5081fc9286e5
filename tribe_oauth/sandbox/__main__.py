"""A sandbox as a process of its own: prints one line of JSON when it is ready, and ends on SIGTERM or SIGINT.

With ``--end-with-stdin`` it ends too when its standard input is closed, as that of a child is when its parent dies.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from contextlib import suppress

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
    parser.add_argument("--end-with-stdin", action="store_true")
    options = vars(parser.parse_args(arguments))
    end_with_stdin = options.pop("end_with_stdin")
    asyncio.run(_serve(Sandbox(**options), end_with_stdin=end_with_stdin))


async def _serve(sandbox: Sandbox, *, end_with_stdin: bool) -> None:
    ended = asyncio.Event()
    if end_with_stdin:
        threading.Thread(target=_until_stdin_ends, args=(asyncio.get_running_loop(), ended), daemon=True).start()
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


def _until_stdin_ends(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    while os.read(0, 65_536):
        pass
    with suppress(RuntimeError):  # the loop has ended before
        loop.call_soon_threadsafe(ended.set)


if __name__ == "__main__":
    main()
