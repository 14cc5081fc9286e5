"""Nanoseconds, by pyperf. A program of its own, which pyperf runs again for each of its worker processes.

    python -m benchmarks.micro pieces     where the nanoseconds of a request go: docs/speed.md

`run` is for the rows: a few runs of the program, so that the variants take turns.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pyperf
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs
from multidict import CIMultiDict
from yarl import URL

from benchmarks import ours, peers
from tribe_oauth import MemoryStore, TokenManager
from tribe_oauth._clock import boottime

Loop = Callable[[int], Awaitable[float]]
"""Do it so many times; seconds of processor time."""


async def _manager() -> TokenManager:
    store = MemoryStore()
    await ours.fill(store, "http://127.0.0.1", ["acme"])
    manager = TokenManager(ours.client("http://127.0.0.1"), store=store, rate_limit=None)
    await manager.token("acme")
    return manager


# "Give me a valid token"


async def look_up() -> Loop:
    """The limit: a dict look-up, the monotonic clock and a comparison, inline."""
    table, monotonic = {"acme": (object(), time.monotonic() + 1e9)}, time.monotonic

    async def loop(times: int) -> float:
        started = time.process_time()
        for _ in range(times):
            token, due = table["acme"]
            if monotonic() >= due:
                raise AssertionError(token)
        return time.process_time() - started

    return loop


async def coroutine() -> Loop:
    """The least that can be awaited: the same inside a coroutine."""
    table, monotonic = {"acme": (object(), time.monotonic() + 1e9)}, time.monotonic

    async def ask() -> object:
        token, due = table["acme"]
        if monotonic() >= due:
            raise AssertionError(token)
        return token

    return _asking(ask)


async def manager_token() -> Loop:
    """Ours."""
    manager = await _manager()

    async def loop(times: int) -> float:
        started = time.process_time()
        for _ in range(times):
            await manager.token("acme")
        return time.process_time() - started

    return loop


def _asking(ask: peers.Ask) -> Loop:
    async def loop(times: int) -> float:
        started = time.process_time()
        for _ in range(times):
            await ask()
        return time.process_time() - started

    return loop


def _peer(make: Callable[[], Awaitable[peers.Ask]]) -> Callable[[], Awaitable[Loop]]:
    async def made() -> Loop:
        return _asking(await make())

    return made


# A request through the middleware, without a network


class _Request:
    """What of aiohttp's request a middleware sees."""

    def __init__(self) -> None:
        self.url = URL("http://127.0.0.1/v1")
        self.body = b""
        self.headers: CIMultiDict[str] = CIMultiDict({"Host": "127.0.0.1", "Accept": "*/*"})


class _Response:
    status = 200
    headers: Mapping[str, str] = {}


_RESPONSE: Any = _Response()


async def _handler(request: ClientRequest) -> Any:
    return _RESPONSE


def _through(middleware: Callable[[ClientRequest, ClientHandlerType], Awaitable[ClientResponse]]) -> Loop:
    request: Any = _Request()

    async def loop(times: int) -> float:
        started = time.process_time()
        for _ in range(times):
            await middleware(request, _handler)
        return time.process_time() - started

    return loop


async def stub() -> Loop:
    """The limit: the handler alone."""
    request: Any = _Request()

    async def loop(times: int) -> float:
        started = time.process_time()
        for _ in range(times):
            await _handler(request)
        return time.process_time() - started

    return loop


async def middleware() -> Loop:
    """Ours."""
    return _through((await _manager()).middleware("acme"))


async def no_op() -> Loop:
    """The least that a middleware costs."""
    return _through(peers.no_op)


async def cookbook() -> Loop:
    """Aiohttp's."""
    return _through(peers.Cookbook("http://127.0.0.1/oauth2/token"))


# Where the nanoseconds of a request go


def _calling(call: Callable[[], object]) -> Callable[[], Awaitable[Loop]]:
    async def made() -> Loop:
        async def loop(times: int) -> float:
            started = time.process_time()
            for _ in range(times):
                call()
            return time.process_time() - started

        return loop

    return made


async def _piece(piece: Callable[[Any, Any, Any], Callable[[], object]]) -> Loop:
    manager, request = await _manager(), _Request()
    bearer: Any = manager.middleware("acme")
    return await _calling(piece(bearer, request, await manager.token("acme")))()


async def origins() -> Loop:
    """Whether this is the API."""

    def compare(bearer: Any, request: Any, _: Any) -> Callable[[], object]:
        def usual() -> bool:
            url, origin = request.url, bearer._origin
            return bool(url.raw_authority == origin.raw_authority and url.scheme == origin.scheme)

        return usual

    return await _piece(compare)


async def cached_token() -> Loop:
    """The token, with the clock."""
    return await _piece(lambda bearer, request, _: bearer._source.cached)


async def header() -> Loop:
    """Written into the request."""
    return await _piece(
        lambda bearer, request, token: lambda: request.headers.__setitem__(hdrs.AUTHORIZATION, bearer._header)
    )


async def accepted() -> Loop:
    """The API took it."""
    return await _piece(lambda bearer, request, _: bearer._acceptance.accepted)


async def clock() -> Loop:
    """The clock that goes on while the machine sleeps."""
    return await _calling(boottime)()


SUITES: Final[Mapping[str, Mapping[str, Callable[[], Awaitable[Loop]]]]] = {
    "token": {
        "look-up": look_up,
        "look-up, again": look_up,
        "the same in a coroutine": coroutine,
        "this library": manager_token,
        **{name: _peer(make) for name, make in peers.TOKENS.items()},
    },
    "handler": {
        "stub": stub,
        "stub, again": stub,
        "a middleware that does nothing": no_op,
        "this library": middleware,
        "aiohttp's cookbook": cookbook,
    },
    "pieces": {
        "the handler alone": stub,
        "all of a request": middleware,
        "a frame between them": no_op,
        "comparing origins": origins,
        "the token at hand": cached_token,
        "of that, the clock": clock,
        "writing the header": header,
        "hearing that it was taken": accepted,
    },
}


async def run(suite: str, rounds: int, loops: int) -> dict[str, list[float]]:
    """Seconds for one call, a median for each round."""
    found: dict[str, list[float]] = {name: [] for name in SUITES[suite]}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            path = Path(folder, f"{number}.json")
            options = f"--quiet --processes 1 --values 3 --warmups 1 --loops {loops} --output {path}"
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.micro", suite, *options.split()),
                stdout=asyncio.subprocess.DEVNULL,
            )
            assert await process.wait() == 0
            for benchmark in pyperf.BenchmarkSuite.load(str(path)).get_benchmarks():
                found[benchmark.get_name()].append(benchmark.median())
    return found


def main() -> None:
    """What pyperf runs."""

    def add_suite(command: list[str], arguments: Any) -> None:
        command.append(arguments.suite)

    runner = pyperf.Runner(program_args=("-m", "benchmarks.micro"), add_cmdline_args=add_suite)
    runner.argparser.add_argument("suite", choices=SUITES)
    suite = SUITES[runner.parse_args().suite]
    event_loop = asyncio.new_event_loop()
    for name, make in suite.items():

        def timed(times: int, make: Callable[[], Awaitable[Loop]] = make) -> float:
            async def once() -> float:
                return await (await make())(times)

            return event_loop.run_until_complete(once())

        runner.bench_time_func(name, timed)


if __name__ == "__main__":
    main()
