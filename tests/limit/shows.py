"""The show of the limit: exports by one process and by several, beside a foreign program, and one that is killed.

Run as ``nox -s limit``; the tests run it small. The API and each export are processes of their own; the API is the
judge. To show it on another server, change `serving`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import attrs

from tests.limit.api import ROWS
from tests.limit.virtual import least
from tests.stores.redis_servers import cluster, watched
from tests.stores.servers import postgres_server
from tests.stores.servers import redis as redis_server
from tribe_oauth import RateLimit
from tribe_oauth.stores.postgres import PostgresStore

LATENCY: Final = 0.05
AT_ONCE: Final = 8
API, WORKER = (str(Path(__file__).with_name(name)) for name in ("api.py", "worker.py"))


@attrs.frozen
class Rule:
    """The limit of a show, and how many pages are read."""

    limit: RateLimit
    pages: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return "--calls", str(self.limit.calls), "--seconds", str(self.limit.seconds)


@attrs.frozen(kw_only=True)
class Seen:
    """What the judge saw of an export. `least`: seconds that it takes at least with this latency."""

    requests: int
    refused: int
    seconds: float
    least: float
    latency: float
    retries: int = 0
    stops: int = 0
    at_a_stop: int = 0
    """Refused at one stop, at most: what was in flight when its first 429 was read."""
    after_a_stop: int = 0
    """Sent in the minute after one."""

    def __str__(self) -> str:
        times = f"{self.seconds:.1f} s, {self.seconds / self.least:.3f} of the least at {self.latency * 1000:.0f} ms"
        refused = f"{self.refused} refused"
        if self.stops:
            refused += (
                f" at {self.stops} stops, {self.at_a_stop} at most at one, {self.after_a_stop} sent in the minute after"
            )
        return f"{self.requests} requests, {refused}; {times}"


@asynccontextmanager
async def process(*arguments: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process, which is gone afterwards."""
    pipe = asyncio.subprocess.PIPE
    made = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe, **options)
    try:
        yield made
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


@asynccontextmanager
async def serving(rule: Rule, sets: int) -> AsyncIterator[str]:
    """The address of an API that keeps the rule and has so many entity sets of equal length."""
    arguments = ("--latency", str(LATENCY), "--pages", str(rule.pages // sets))
    async with process(API, *rule.arguments, *arguments) as api:
        assert api.stdout is not None
        yield (await api.stdout.readline()).decode().strip()


async def came(base: str) -> list[tuple[float, bool, int]]:
    """When each request came, whether it was the foreign program's, and its status."""
    async with aiohttp.ClientSession() as session, session.get(f"{base}/came") as response:
        return [(at, foreign, status) for at, foreign, status in await response.json()]


async def exported(rule: Rule, store: str, processes: int, *, foreign: float = 0.0, seed: int = 1) -> Seen:
    """Read all pages by so many processes; a foreign program sends so many requests a second at random."""
    sets, environment = AT_ONCE * processes, _environment(store)  # each process reads as many at a time
    async with serving(rule, sets) as base, AsyncExitStack() as stack:
        workers = []
        for number in range(processes):
            names = [f"Set_{number}_{at}" for at in range(AT_ONCE)]
            limit = str(rule.limit.calls), str(rule.limit.seconds), str(AT_ONCE)
            started = process(WORKER, base, *limit, *names, env=environment)
            workers.append(await stack.enter_async_context(started))
        for worker in workers:
            assert worker.stdout is not None
            assert await worker.stdout.readline() == b"ready\n"
        spending = asyncio.ensure_future(_spend(base, foreign, seed))
        answers = await asyncio.gather(*(worker.communicate(b"\n") for worker in workers))
        told = [json.loads(out) for out, _ in answers]
        spending.cancel()
        await asyncio.wait([spending])
        return _seen(rule, await came(base), told, processes, rule.pages // sets * sets)


def _environment(store: str) -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("TRIBE_")}
    return {**mine, "TRIBE_STORE": store}


async def _spend(base: str, a_second: float, seed: int) -> None:
    """What somebody else does with the same client id and organization."""
    chance = random.Random(seed)
    async with aiohttp.ClientSession(headers={"X-Foreign": "1"}) as session, asyncio.TaskGroup() as tasks:

        async def one() -> None:
            async with session.get(f"{base}/v1/odata/Foreign") as response:
                await response.read()

        while a_second:
            await asyncio.sleep(chance.expovariate(a_second))
            tasks.create_task(one())


def _seen(rule: Rule, requests: list[tuple[float, bool, int]], told: list[Any], processes: int, pages: int) -> Seen:
    assert all(not one["errors"] for one in told), told
    assert sum(one["rows"] for one in told) == pages * ROWS
    ours = [(at, status) for at, foreign, status in requests if not foreign]
    refused = [at for at, status in ours if status == 429]
    latency = sum(one["latency"] for one in told) / len(told)
    stops = list[float]()
    for at in refused:
        if not stops or at > stops[-1] + 30.0:
            stops.append(at)
    read = 4 * LATENCY  # until then, the first 429 of a stop may not have been read
    return Seen(
        requests=len(ours),
        refused=len(refused),
        seconds=max(one["ended"] for one in told) - min(one["began"] for one in told),
        least=least(pages, rule.limit, at_once=AT_ONCE * processes, latency=latency),
        latency=latency,
        retries=sum(one["retries"] for one in told),
        stops=len(stops),
        at_a_stop=max((sum(stop <= at < stop + 30.0 for at in refused) for stop in stops), default=0),
        after_a_stop=sum(stop + read < at < stop + 60.0 for at, _ in ours for stop in stops),
    )


async def killed(rule: Rule, store: str) -> Seen:
    """A process is killed in the middle of its export, and another one reads all pages after that."""
    environment, limit = _environment(store), (str(rule.limit.calls), str(rule.limit.seconds), str(AT_ONCE))
    async with serving(rule, AT_ONCE) as base:
        names = [f"Set_{at}" for at in range(AT_ONCE)]
        async with process(WORKER, base, *limit, *names, env=environment) as victim:
            assert victim.stdout is not None
            assert victim.stdin is not None
            await victim.stdout.readline()
            victim.stdin.write(b"\n")
            for _ in range(3_000):
                if len(await came(base)) >= rule.limit.calls // 2:
                    break
                await asyncio.sleep(0.02)
            victim.kill()
            await victim.wait()
        async with process(WORKER, base, *limit, *names, env=environment) as heir:
            assert heir.stdout is not None
            await heir.stdout.readline()
            out, _ = await heir.communicate(b"\n")
        return _seen(rule, await came(base), [json.loads(out)], 1, rule.pages // AT_ONCE * AT_ONCE)


@contextmanager
def stores(folder: Path) -> Iterator[Mapping[str, str]]:
    """The address of each kind of shared store."""
    with postgres_server() as postgres, redis_server() as redis, cluster() as nodes, watched() as sentinel:
        asyncio.run(prepared(postgres.url))
        yield {
            "SQLite": str(folder / "tribe.db"),
            "PostgreSQL": postgres.url,
            "Redis": redis.url,
            "Redis Cluster": f"redis+cluster://127.0.0.1:{nodes[0].port}",
            "Redis Sentinel": sentinel.url,
        }


async def prepared(url: str) -> None:
    """Make the tables in a PostgreSQL database."""
    store = PostgresStore(url)
    await store.create_schema()
    await store.close()


def say(line: str) -> None:
    """Print it now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pages", type=int, default=2500)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    rule = Rule(RateLimit(calls=options.calls, seconds=options.seconds), options.pages)
    began, wrong = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder, stores(Path(folder)) as places:
        runs = {"memory, one process": ("memory:", 1)}
        for name, place in places.items():
            runs |= {f"{name}, one process": (place, 1), f"{name}, four processes": (place, 4)}
        for name, (place, processes) in runs.items():
            if options.only in name:
                seen = asyncio.run(exported(rule, place, processes))
                say(f"{name}: {seen}")
                wrong += [name] * (seen.refused > 0 or seen.seconds > 1.03 * seen.least)
        if options.only in "foreign":
            seen = asyncio.run(exported(rule, "memory:", 1, foreign=rule.limit.calls / rule.limit.seconds / 2))
            say(f"beside a foreign program: {seen}")
            wrong += ["foreign"] * (seen.at_a_stop > AT_ONCE or seen.after_a_stop > 0)
        if options.only in "killed":
            seen = asyncio.run(killed(rule, places["SQLite"]))
            say(f"after a process was killed: {seen}")
            wrong += ["killed"] * (seen.refused > 0 or seen.seconds > seen.least + 125 + rule.limit.seconds)
    say(f"{time.monotonic() - began:.0f} s in all; not as promised: {', '.join(wrong) or 'nothing'}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
