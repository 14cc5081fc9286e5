"""A sandbox as a process of its own: prints one line of JSON when it is ready, and ends on SIGTERM or SIGINT.

With --end-with-stdin it ends also when its standard input does: a parent that gives it a pipe takes it along, however
the parent ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import stat
import sys
from typing import Final

from tribe_oauth.sandbox._application import REDIRECT_URI
from tribe_oauth.sandbox._profiles import PROFILES
from tribe_oauth.sandbox._rules import ApiRules
from tribe_oauth.sandbox._server import Sandbox

_STDIN: Final = 0


def main(arguments: list[str] | None = None) -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser("python -m tribe_oauth.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--profile", choices=PROFILES, default="strict")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--organizations", type=int, default=3)
    parser.add_argument("--persons", type=int, default=250)
    parser.add_argument("--page-size", type=int, default=100)
    parser.add_argument("--rule", action="append", default=[], metavar="NAME=VALUE", help="of ApiRules; none: None")
    parser.add_argument("--access-token-lifetime", type=float, default=86_400, metavar="SECONDS")
    parser.add_argument("--refresh-token-lifetime", type=float, default=2_592_000, metavar="SECONDS")
    parser.add_argument("--redirect-uri", default=REDIRECT_URI)
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--race-window", type=float, default=0.02, metavar="SECONDS")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when the standard input is closed")
    options = vars(parser.parse_args(arguments))
    end_with_stdin = options.pop("end_with_stdin")
    if end_with_stdin and not _can_be_watched(_STDIN):
        parser.error(
            "--end-with-stdin needs a pipe, a socket or a terminal as its standard input, and this is none: the sandbox"
            " could not see its parent end. Start it with a pipe (in Python, stdin=subprocess.PIPE), or leave the"
            " option out"
        )
    try:
        rules = ApiRules.from_words(options.pop("rule"))
    except ValueError as error:
        parser.error(str(error))
    asyncio.run(_serve(Sandbox(**options, api=rules), end_with_stdin=end_with_stdin))


def _can_be_watched(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:  # it is closed
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


async def _serve(sandbox: Sandbox, *, end_with_stdin: bool) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if end_with_stdin:
        loop.add_reader(_STDIN, _read_stdin, loop, ended)
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


def _read_stdin(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """Throw away what comes; the end of it, or its failure (a connection reset, a terminal gone), ends the sandbox."""
    try:
        read = os.read(_STDIN, 65_536)
    except OSError:
        read = b""
    if not read:
        loop.remove_reader(_STDIN)
        ended.set()


if __name__ == "__main__":
    main()
