"""Hosts that are killed, frozen, closed and cancelled, callers that leave, a store that fails and forgets, a server.

The judge raises `ViolationError` where it happens, and `run` ends with it. The promises:

- no refresh token is sent when its successor was stored, nor while an earlier request with it can still arrive;
- between the store's return and a successor's first byte, every holder that can reach the store has saved;
- a host never sends a refresh token when it was given the one that followed;
- an organization is marked for reauthorization only where its family is dead at the server, and the cause is right;
- what a caller is given was issued and has not run out, and its successor is stored, unless the store was failing;
- an answer that reached a host which lives on is saved, also while it closes, and also where the record is gone;
- a family that nothing replaced is never revoked;
- an API that refuses every token makes a bounded number of rotations;
- nobody waits for ever, nor is told to wait for longer than an hour, nor gets an error that the library does not name;
- when all faults have passed, every organization works or is marked.

What no client can prevent is listed in `server`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import count
from typing import Any, Final, Self

from tribe_oauth import TokenManager, TribeOAuthError
from tribe_oauth._refresh import refresh
from tribe_oauth.errors import ReauthorizationRequired, UnknownOrganizationError

from .host import PATIENCE, Host
from .loop import StuckError, VirtualLoop
from .server import Server, ViolationError
from .store import Database

HOSTS, ORGANIZATIONS = 4, 6
POLL: Final = 1.0
"""Seconds between two looks of those who wait for a peer: rarer than usual, or most steps would be theirs."""
FATES: Final = {
    "kill": 4.0,
    "freeze": 3.0,
    "close": 2.0,
    "cancel": 1.0,
    "clock": 2.0,
    "server": 1.0,
    "proxy": 1.0,
    "store away": 1.0,
    "store away for one": 0.7,
    "store slow": 0.5,
    "store flaps": 0.5,
    "store read-only": 0.5,
    "store put back": 0.4,
    "store emptied": 0.2,
}
STRIKES: Final = ("kill", "close", "cancel", *(["store flaps"] * 4), "store away", "store put back", "store emptied")
"""What happens right when a request has been sent."""
STRUCK, EMPHASIZED = 0.02, 0.2
AWAY: Final = {1.0: 30, 30.0: 30, 100.0: 20, 300.0: 18, 3600.0: 1, 3 * 3600.0: 0.3}
"""Seconds, and how often; now and then, hours."""


class World:
    """Everything, from one seed."""

    def __init__(self, loop: VirtualLoop, seed: int, emphasis: str | None) -> None:
        self.loop = loop
        self._strikes, self._struck = (STRIKES, STRUCK) if emphasis is None else ((emphasis,), EMPHASIZED)
        self.chance = random.Random(seed)
        self.server = Server(self.chance, loop)
        self.organizations = [f"organization {number}" for number in range(ORGANIZATIONS)]
        self.server.report = self._fail
        self.badly_received = "organization whose API refuses every token"
        self.everyone = [*self.organizations, self.badly_received]
        self.database = Database(self.server, self.everyone)
        self.server.back_for = self.database.back_for
        self.numbers = count(1)
        self.busy = 0.0  # seconds with faults
        self.over = self.resting = False
        self.nothing: asyncio.Future[None] = loop.create_future()
        self.failure: asyncio.Future[None] = loop.create_future()
        self.hosts: list[Host] = []
        self.managers: list[TokenManager] = []
        self.most_rotations = 0  # in an hour, of the badly received one
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, seed: int, emphasis: str | None = None) -> Self:
        """On a loop of its own. `emphasis`: a fate that strikes far more often than others when a request was sent."""
        return cls(VirtualLoop(), seed, emphasis)

    def run(self, steps: int) -> None:
        """So many turns of the loop, at least. Once. Raises ViolationError, or StuckError."""
        loop, often = self.loop, refresh.LONGEST_POLL
        refresh.LONGEST_POLL = POLL
        try:
            loop.set_exception_handler(self.complain)
            loop.run_until_complete(self.live(steps))
        finally:
            self.over = True
            while left := asyncio.all_tasks(loop):  # the dead, and those who would go on
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(left))
            loop.close()
            refresh.LONGEST_POLL = often
            for manager in self.managers:  # those of hosts that were killed warn that they were never closed
                manager._tasks._closing.set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Something that goes on by itself. What goes wrong in it ends the run."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._fail(task.exception())

    def complain(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback raised, or a task that nobody waits for. Not only what is judged: a fault of ours too."""
        self._fail(context.get("exception"))

    def _fail(self, error: BaseException | None) -> None:
        if error is None or self.failure.done():
            return
        if not isinstance(error, ViolationError | StuckError | AssertionError):
            violation = ViolationError(f"{type(error).__name__} came out, which the library does not name: {error}")
            violation.__cause__, error = error, violation
        self.failure.set_exception(error)

    async def live(self, steps: int) -> None:
        """Everybody does what they do, for so many turns of the loop; then no more faults, and all has to be well."""
        first = Host(self)
        for organization in self.everyone:
            await first.paste(organization)
        first.kill()
        self.server.faulty = True
        self.hosts = [Host(self) for _ in range(HOSTS)]
        self.spawn(self._fates())
        self.spawn(self._count_rotations())
        until = self.loop.steps + steps
        while self.loop.steps < until:
            await asyncio.wait([self.failure], timeout=100.0)
            self.busy = self.loop.time()
            if self.failure.done():
                self.failure.result()
        await self._all_well()

    async def _count_rotations(self) -> None:
        """Of the organization whose API refuses every token: how many in its worst hour."""
        while self.server.faulty:
            await asyncio.sleep(300.0)
            since = self.loop.time() - 3600.0
            rotations = sum(at > since for at in self.server.rotated.get(self.badly_received, []))
            self.most_rotations = max(self.most_rotations, rotations)

    # What happens

    async def _fates(self) -> None:
        chance = self.chance
        while self.server.faulty:
            await asyncio.sleep(chance.expovariate(1 / 50))
            fate = chance.choices(list(FATES), list(FATES.values()))[0]
            self._happen(fate, chance.randrange(HOSTS), chance.choice(self.organizations))

    def strike(self, host: Host, organization: str) -> None:
        """A request is on the wire: now and then, something happens at this very moment, to its sender or the store."""
        if self.server.faulty and host in self.hosts and self.chance.random() < self._struck:
            self._happen(self.chance.choice(self._strikes), self.hosts.index(host), organization)

    def _happen(self, fate: str, place: int, organization: str) -> None:
        self.server.saw(fate)
        self.server.note(f"{fate} ({self.hosts[place]})")
        if fate in _ENDS:
            self.spawn(_ENDS[fate](self.hosts[place]))
            self.hosts[place] = Host(self)
        elif fate.startswith("store"):
            self._happen_to_store(fate, self.hosts[place], organization)
        else:
            self._happen_to_host(fate, self.hosts[place])

    def _happen_to_host(self, fate: str, host: Host) -> None:
        chance, now = self.chance, self.loop.time()
        match fate:
            case "freeze":
                self.spawn(host.freeze(chance.choice((5.0, 50.0, 200.0))))
            case "clock":
                host.set_clock()
                host._clock_set_at = now
            case "server":
                self.server.unwell = chance.choice(("invalid_client", "503")), now + chance.choice((5.0, 60.0))
            case "proxy" if chance.random() < 0.5:
                self.server.mangled_until = now + chance.choice((5.0, 60.0))
            case "proxy":
                host.mangled_until = now + chance.choice((60.0, 600.0))

    def _happen_to_store(self, fate: str, host: Host, organization: str) -> None:
        chance, now = self.chance, self.loop.time()
        match fate:
            case "store away":
                self.database.go_away(now + self._away())
                for each in self.hosts:  # it comes back for each at another moment, or for all at once
                    each.store_down_until = self.database.down_until + chance.choice((0.0, 0.0, 5.0, 60.0))
            case "store away for one":
                host.store_down_until = now + self._away()
            case "store slow":
                host.slow_until = now + chance.choice((30.0, 300.0))
            case "store read-only":
                self.database.go_away(now + self._away(), read_only=True)
            case "store flaps":
                self.spawn(self._flap(organization))
            case _:
                self.spawn(self._lose(fate, organization))

    def _away(self) -> float:
        return self.chance.choices(list(AWAY), list(AWAY.values()))[0]

    async def _flap(self, organization: str) -> None:
        """The store is away until leases have run out, then back for moments; whole, or for reading only."""
        chance, database = self.chance, self.database
        database.go_away(self.loop.time() + chance.choice((1.0, 90.0, 100.0)))
        for _ in range(chance.randrange(1, 8)):
            await asyncio.sleep(max(0.0, database.down_until - self.loop.time()) + 0.01)
            for host in self.hosts:  # somebody wants it at this very moment, mostly not from who has something to save
                if chance.random() < 0.3:
                    self.spawn(host.ask_for(organization))
            await asyncio.sleep(chance.uniform(0.1, 1.2))
            until = self.loop.time() + chance.uniform(7.0, 12.0)
            database.go_away(until, read_only=chance.random() < 0.3)

    async def _lose(self, fate: str, organization: str) -> None:
        """The store is emptied, or put back; while everybody works, or while nobody does and nobody remembers."""
        chance = self.chance
        if chance.random() < 0.15:
            self.server.saw("nobody remembers")
            for host in self.hosts:
                host.kill()
            self.hosts = [Host(self) for _ in range(HOSTS)]
        await asyncio.sleep(chance.choice((0.01, 0.3, 1.5)))
        if fate == "store emptied":
            self.database.empty()
        else:
            self.database.put_back(organization, chance.choice((1, 1, 2)))
        for host in self.hosts:
            if chance.random() < 0.7:
                self.spawn(host.ask_for(organization))

    async def _all_well(self) -> None:
        """The faults are over: every organization works, or is marked, or was disconnected or forgotten."""
        self.server.faulty, self.server.mangled_until, self.server.unwell = False, 0.0, ("", 0.0)
        for host in self.hosts:
            host.slow_until = host.mangled_until = 0.0
        self.resting = True
        await asyncio.sleep(4 * 3600.0)  # longer than the longest back-off and the longest freeze
        host = Host(self)
        for organization in self.everyone:
            with suppress(ReauthorizationRequired, UnknownOrganizationError):
                try:
                    host.judge(organization, await asyncio.wait_for(host.manager.token(organization), PATIENCE))
                except (TimeoutError, TribeOAuthError) as error:
                    if isinstance(error, ReauthorizationRequired | UnknownOrganizationError):
                        raise
                    raise ViolationError(f"{organization} is not well when all faults are over: {error}") from error
        if self.failure.done():
            self.failure.result()


async def _kill(host: Host) -> None:
    host.kill()


_ENDS: Final[dict[str, Callable[[Host], Coroutine[Any, Any, None]]]] = {
    "kill": _kill,
    "close": Host.close,
    "cancel": Host.cancel,
}


def run(seed: int, steps: int, emphasis: str | None = None) -> World:
    """So many turns of the loop, at least. Raises ViolationError, or StuckError."""
    world = World.of(seed, emphasis)
    world.run(steps)
    return world
