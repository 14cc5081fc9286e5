"""The big shows: everything through every fault, an export that is killed again and again, an API that lies.

Run as ``nox -s sync -- everything``, ``kills`` or ``lies``; the tests run them small. The sandbox and each export are
processes of their own. The judge is the sandbox's generator: what it would say is what has to stand in the files.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any, get_args

import attrs

from tribe_oauth import RefreshTokenGrant, TokenManager
from tribe_oauth.sandbox import Remote
from tribe_oauth.sandbox._data import Data
from tribe_oauth.sandbox._lies import Lie
from tribe_oauth.sandbox._model import ENTITY_SETS
from tribe_oauth.stores.sqlite import SQLiteStore
from tribe_oauth.sync import JSONLinesFolder

SETS = ("Relation_Person", "Relation_Organization", "Relationship_Person_Contact_Standard", "Activity_Appointment")
SHARES = sum(ENTITY_SETS[name].share for name in SETS)


def say(line: str) -> None:
    """Print it now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@attrs.frozen
class World:
    """A sandbox in a process of its own, and organizations that are connected to it by Quick Setup."""

    remote: Remote
    organizations: tuple[str, ...]
    persons: int
    environment: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        """An export as a user types it."""
        return [sys.executable, "-m", "tribe_oauth.cli", "export", *SETS, *arguments]

    def wrong(self, folder: Path) -> list[str]:
        """What is not, row for row and in whichever order, as the API has it."""
        return [
            f"{organization}/{entity_set}"
            for organization in self.organizations
            for entity_set in SETS
            if not self._is_right(folder, organization, entity_set)
        ]

    def _is_right(self, folder: Path, organization: str, entity_set: str) -> bool:
        data = Data(0, organization, self.persons)
        path = JSONLinesFolder(folder).path(organization, entity_set)
        if not path.exists():
            return False
        return _by_id(map(json.loads, path.read_text(encoding="utf-8").splitlines())) == _by_id(data.all(entity_set))

    def untrue(self, folder: Path) -> list[str]:
        """The files that are called complete and have not each row once, in whichever order."""
        return [
            f"{organization}/{entity_set}"
            for organization, entity_set, path in self.complete(folder)
            if _by_id(map(json.loads, path.read_text(encoding="utf-8").splitlines()))
            != _by_id(Data(0, organization, self.persons).all(entity_set))
        ]

    def complete(self, folder: Path) -> list[tuple[str, str, Path]]:
        """The files that are called complete."""
        paths = JSONLinesFolder(folder)
        named = [(name, entity_set, paths.path(name, entity_set)) for name in self.organizations for entity_set in SETS]
        return [(name, entity_set, path) for name, entity_set, path in named if path.exists()]

    def rows(self) -> int:
        """How many there are in all."""
        data = Data(0, self.organizations[0], self.persons)
        return len(self.organizations) * sum(data.count(entity_set) for entity_set in SETS)


def _by_id(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=itemgetter("ID"))


@asynccontextmanager
async def world(
    folder: Path, *, organizations: int, rows: int, page_size: int, lifetime: float
) -> AsyncIterator[World]:
    """Build one; it is gone afterwards."""
    persons = math.ceil(rows / organizations / SHARES) + 1  # shares are cut to whole rows
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tribe_oauth.sandbox", "--organizations", str(organizations), "--persons", str(persons)),
        *("--rule", "paging=nextLink", "--rule", "calls=none"),
        *("--page-size", str(page_size), "--access-token-lifetime", str(lifetime)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert server.stdout is not None
        ready = json.loads(await server.stdout.readline())
        async with Remote(ready["base_url"]) as remote:
            client = await remote.client()
            names = tuple(await remote.organizations())
            async with TokenManager(client, store=SQLiteStore(folder / "tribe.db")) as manager:
                for name in names:
                    await manager.connect(name, RefreshTokenGrant(client, await remote.paste_token(name)))
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("TRIBE_")},
                "TRIBE_AUTH_URL": ready["base_url"],
                "TRIBE_API_URL": ready["base_url"],
                "TRIBE_ALLOW_INSECURE_LOOPBACK": "1",
                "TRIBE_CLIENT_ID": ready["client_id"],
                "TRIBE_CLIENT_SECRET": ready["client_secret"],
                "TRIBE_STORE": str(folder / "tribe.db"),
            }
            yield World(remote, names, persons, environment)
    finally:
        server.terminate()
        await server.wait()


@attrs.frozen
class Run:
    """An export that ran to its end."""

    code: int
    peak: int
    """Bytes of memory, at most."""
    seconds: float
    events: dict[str, int]


async def run(world: World, folder: Path, *options: str) -> Run:
    """Run an export to its end, and measure it."""
    began = time.monotonic()
    return await asyncio.to_thread(_run, world, folder, began, options)


def _run(world: World, folder: Path, began: float, options: Sequence[str]) -> Run:
    process = subprocess.Popen(
        world.command("--to", str(folder), "--json", *options), env=world.environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    events: dict[str, int] = {}
    with process.stdout:
        for line in process.stdout:
            kind = json.loads(line)["event"]
            events[kind] = events.get(kind, 0) + 1
    _pid, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Run(process.returncode, used.ru_maxrss * 1024, time.monotonic() - began, events)


async def everything(folder: Path, *, organizations: int, rows: int, chance: float) -> Run:
    """Show 1: tokens of three seconds, random 401, 429, 503 and cut answers, one slow organization; nothing missing."""
    async with world(folder, organizations=organizations, rows=rows, page_size=100, lifetime=3) as there:
        order = partial(there.remote.fault, endpoint="api", times=None)
        slow = await order("delay", seconds=0.3, organization=there.organizations[1], chance=0.5)
        await order("status", status=401, chance=chance)
        await order("status", status=429, retry_after=1, chance=chance)
        await order("status", status=503, chance=chance)
        await order("cut", after_bytes=2_000, chance=chance)
        ran = await run(there, folder / "out")
        wrong = there.wrong(folder / "out")
        say(
            f"{there.rows():,} rows of {organizations} organizations in {ran.seconds:.1f} s,"
            f" peak {ran.peak / 2**20:.1f} MiB, {ran.events}, exit code {ran.code}, wrong: {wrong or 'none'};"
            f" the slow one was delayed {await slow.reached()} times;"
            f" tokens: {(await there.remote.ledger())}"
        )
        assert ran.code == 0
        assert not wrong
        return ran


async def kills(folder: Path, *, organizations: int, rows: int, times: int, seed: int, longest: float) -> int:
    """Show 2: killed at random moments, each time run again; the files are those of a run that nobody disturbed."""
    chance = random.Random(seed)
    async with world(folder, organizations=organizations, rows=rows, page_size=20, lifetime=86_400) as there:
        undisturbed = await run(there, folder / "undisturbed")
        assert undisturbed.code == 0
        order = partial(there.remote.fault, endpoint="api", times=None)
        await order("cut", after_bytes=1_000, chance=0.01)
        await order("status", status=503, chance=0.01)
        await order("delay", seconds=0.03)
        killed = 0
        while killed < times:
            if not await asyncio.to_thread(_killed, there, folder / "killed", chance.uniform(0.0, longest)):
                break  # it was complete before its time came
            killed += 1
        last = await run(there, folder / "killed")
        wrong = there.wrong(folder / "killed")
        same = _content(folder / "undisturbed") == _content(folder / "killed")
        say(f"{there.rows():,} rows, killed {killed} times; {last.events}; identical: {same}; wrong: {wrong or 'none'}")
        assert last.code == 0
        assert same
        assert not wrong
        return killed


WAYS = {"links": (), "windows": ("--page-size", "20")}


async def lies(
    folder: Path, *, organizations: int, rows: int, chance: float, told: Sequence[Lie] = get_args(Lie)
) -> int:
    """Show 3: the API lies about its end, by links and by windows; what is complete has every row, the rest failed."""
    failures = 0
    async with world(folder, organizations=organizations, rows=rows, page_size=20, lifetime=86_400) as there:
        for (way, options), lie in product(WAYS.items(), told):
            out = folder / f"{lie} {way}"
            fault = await there.remote.fault("lie", endpoint="api", times=None, lie=lie, chance=chance)
            lied = await run(there, out, *options)
            await fault.cancel()
            failed, complete, untrue = lied.events.get("failed", 0), len(there.complete(out)), there.untrue(out)
            say(f"{lie}, {way}: {failed} failed, {complete} complete, of these wrong: {untrue or 'none'}")
            assert not untrue
            assert failed + complete == organizations * len(SETS)
            assert lied.code == (0 if not failed else 3 if complete else 1)
            failures += failed
    return failures


def _killed(world: World, folder: Path, seconds: float) -> bool:
    process = subprocess.Popen(
        world.command("--to", str(folder), "--json"), env=world.environment, stdout=subprocess.DEVNULL
    )
    try:
        assert process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def _content(folder: Path) -> dict[str, list[bytes]]:
    """The lines of each file: in which order the pages of parts came is chance."""
    return {
        str(path.relative_to(folder)): sorted(path.read_bytes().splitlines())
        for path in folder.rglob("*.jsonl*")
        if "check" not in path.name
    }


async def _main() -> None:
    parser = argparse.ArgumentParser("shows.py")
    parser.add_argument("show", choices=["everything", "kills", "lies"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tribe-oauth-"))
    try:
        if arguments.show == "everything":
            peaks = []
            for rows in (arguments.rows or 1_000_000) // 10, arguments.rows or 1_000_000:
                (folder / str(rows)).mkdir()
                peaks.append((await everything(folder / str(rows), organizations=50, rows=rows, chance=0.005)).peak)
            say(f"peak memory, all rows to a tenth of them: {peaks[1] / peaks[0]:.3f}")
            assert peaks[1] <= 1.1 * peaks[0]
        elif arguments.show == "lies":
            assert await lies(folder, organizations=5, rows=arguments.rows or 10_000, chance=0.05)
        else:
            killed = await kills(
                folder,
                organizations=8,
                rows=arguments.rows or 400_000,
                times=arguments.times,
                seed=arguments.seed,
                longest=2.5,
            )
            assert killed == arguments.times, f"only {killed} kills came in time: give it more --rows"
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    asyncio.run(_main())
