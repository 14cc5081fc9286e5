"""Hosts that are killed, frozen and restarted, callers that leave, a store that fails; and what has to hold.

The judge raises `ViolationError` where it happens, and `run` ends with it. The promises:

- no refresh token is sent when its successor was stored, nor while an earlier request with it can still arrive;
- an organization is marked for reauthorization only where its family is dead at the server;
- what a caller is given was issued and has not run out, and its successor is stored, unless the store was failing;
- an answer that reached a host which lives on is saved;
- a family that the store has is never revoked;
- nobody waits for ever, and nobody gets an error that the library does not name;
- when all faults have passed, every organization works or is marked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import attrs

from tribe_oauth import Client, MemoryStore, RefreshTokenGrant, StoreError, Token, TokenManager, TribeOAuthError
from tribe_oauth._refresh.payload import decode
from tribe_oauth.errors import ManagerError, ReauthorizationRequired, UnknownOrganizationError
from tribe_oauth.stores import Record

from .loop import VirtualLoop
from .server import LIFETIME, Network, Server, ViolationError

HOSTS, ORGANIZATIONS, CALLERS = 4, 6, 3
PATIENCE: Final = 900.0
"""Seconds after which a caller is taken to wait for ever. A lease that a dead host cached is over after 85."""
CLIENT: Final = Client("id", "secret")
Result = TypeVar("Result")


class Host:
    """One process: a manager, its clock, its network, its view of the store, and those who call it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.skew = world.chance.uniform(-10, 10)
        self.alive, self.disturbed = True, 0
        self._thawed = asyncio.Event()
        self._thawed.set()
        self.manager = TokenManager(CLIENT, store=Store(self), clock=self)
        self.manager._context.endpoint = Network(world.server, self)  # type: ignore[assignment]
        self.store_failed: dict[str, float] = {}
        for _ in range(CALLERS):
            world.spawn(self._calls())

    # Its clock

    def time(self) -> float:
        return 1_800_000_000.0 + self.world.loop.time() + self.skew

    def monotonic(self) -> float:
        return self.world.loop.time()

    def random(self) -> float:
        return self.world.chance.random()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.go_on()

    # Its fate

    async def go_on(self) -> None:
        """Returns at once, or after a freeze; never for the dead."""
        if self.world.over:
            raise asyncio.CancelledError
        while not (self.alive and self._thawed.is_set()):
            await (self._thawed.wait() if self.alive else self.world.nothing)

    def kill(self) -> None:
        """As by SIGKILL: nothing that it awaits comes back."""
        self.alive, self.disturbed = False, self.disturbed + 1

    async def freeze(self, seconds: float) -> None:
        """As by SIGSTOP, and SIGCONT."""
        self.disturbed += 1
        self._thawed.clear()
        await asyncio.sleep(seconds)
        self._thawed.set()

    # Its callers

    async def _calls(self) -> None:
        chance = self.world.chance
        while self.alive:
            await self.sleep(chance.expovariate(1 / 20))
            organization = chance.choice(self.world.organizations)
            call = chance.choices(
                (self.manager.token, self.manager.refresh, self._rejected, self._warm_up, self._connect),
                (70, 8, 10, 8, 1),
            )[0]
            await self._ask(organization, call(organization))

    async def _rejected(self, organization: str) -> Token:
        return await self.manager.refresh(organization, rejected=await self.manager.token(organization))

    async def _warm_up(self, organization: str) -> None:
        await self.manager.warm_up(concurrency=2)

    async def _connect(self, organization: str) -> Token:
        if self.world.chance.random() < 0.3:
            await self.manager.disconnect(organization)
        return await self.paste(organization)

    async def paste(self, organization: str) -> Token:
        """Quick Setup, of a new family."""
        grant = RefreshTokenGrant(CLIENT, self.world.server.paste(organization))
        return await self.manager.connect(organization, grant)

    async def _ask(self, organization: str, call: Coroutine[Any, Any, Token | None]) -> None:
        """One call, now and then given up by its caller; what comes of it is judged."""
        world, disturbed = self.world, self.disturbed
        leaves = world.chance.random() < 0.15
        try:
            patience = world.chance.expovariate(1 / 5) if leaves else PATIENCE
            token = await asyncio.wait_for(call, patience)
        except TimeoutError:
            if not leaves and self.disturbed == disturbed:
                raise ViolationError(f"a caller for {organization} waited for {PATIENCE} s") from None
            world.server.saw("a caller left")
        except (ReauthorizationRequired, UnknownOrganizationError):
            await self.go_on()
            with suppress(TribeOAuthError):
                await self.paste(organization)
                world.server.saw("connected again")
        except TribeOAuthError as error:
            world.server.saw(type(error).__name__)
        else:
            if token is not None and self.disturbed == disturbed:
                self.judge(organization, token)

    def judge(self, organization: str, token: Token) -> None:
        """What was given out, at this very moment."""
        server, now = self.world.server, self.world.loop.time()
        expires = server.expires[token.access_token.reveal()]
        if self.store_failed.get(organization, -1e9) > expires - LIFETIME - 60:
            return  # served from memory, or kept back for longer than it lives
        if now >= expires:
            raise ViolationError(f"{organization} was given a token that had run out")
        assert token.refresh_token is not None
        if token.refresh_token.reveal() not in server.stored:
            raise ViolationError(f"{organization} was given a token whose refresh token is not stored")


@attrs.define(eq=False)
class Store:
    """The shared store as a host sees it: it takes time, and it fails, before or after it did what was asked."""

    host: Host

    async def load(self, organization: str) -> Record | None:
        return await self._call(organization, lambda store: store.load(organization))

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        return await self._call(record.organization, lambda _: self._swap(record, lease_for))

    async def _swap(self, record: Record, lease_for: float | None) -> Record | None:
        world = self.host.world
        stored = await world.store.swap(record, lease_for=lease_for)
        if stored is not None:
            world.written(stored)
        return stored

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        return await self._call("", lambda store: store.put(key, value, lives_for=lives_for))

    async def take(self, key: str) -> bytes | None:
        return await self._call("", lambda store: store.take(key))

    async def _call(self, organization: str, work: Callable[[MemoryStore], Awaitable[Result]]) -> Result:
        world = self.host.world
        await self._travel(organization)
        done = await work(world.store)
        await self._travel(organization)
        return done

    async def _travel(self, organization: str) -> None:
        world = self.host.world
        await self.host.sleep(0.001 + 0.01 * world.chance.random())
        fails = world.server.faulty and (
            world.chance.random() < 0.004 or world.loop.time() < world.server.store_down_until
        )
        if fails:
            self.host.store_failed[organization] = world.loop.time()
            world.server.saw("store failed")
            raise StoreError("the store fails")

    async def organizations(self) -> AsyncIterator[str]:
        async for organization in self.host.world.store.organizations():
            yield organization

    async def due(self, before: float) -> AsyncIterator[str]:
        await self._travel("")
        async for organization in self.host.world.store.due(before):
            yield organization

    async def close(self) -> None:
        """The others still use it."""


class World:
    """Everything, from one seed."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.loop = loop
        self.chance = random.Random(seed)
        self.server = Server(self.chance, loop.time)
        self.store = MemoryStore(clock=loop.time)
        self.organizations = [f"organization {number}" for number in range(ORGANIZATIONS)]
        self.over = False
        self.nothing: asyncio.Future[None] = loop.create_future()
        self.failure: asyncio.Future[None] = loop.create_future()
        self.hosts: list[Host] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Something that goes on by itself. What goes wrong in it ends the run."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._fail(task.exception())

    def complain(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback raised, or a task that nobody waits for. Not only what is judged: a fault of ours too."""
        self._fail(context.get("exception"))

    def _fail(self, error: BaseException | None) -> None:
        if error is not None and not self.failure.done():
            self.failure.set_exception(error)

    def written(self, record: Record) -> None:
        """A record reached the store."""
        server, token = self.server, decode(record).token
        connected = server.records.pop(record.organization, None) is not None
        if token is None or token.refresh_token is None:
            return
        refresh_token = token.refresh_token.reveal()
        server.stored.add(refresh_token)
        if record.status == "connected":
            server.records[record.organization] = refresh_token
        if record.status == "reauthorization_required":
            family = server.families[refresh_token]
            if not family.revoked and family.current == refresh_token:
                raise ViolationError(f"{record.organization} was marked ({record.cause}), and its family lives")
            server.saw((record.cause or "") if connected else "marked before")

    async def live(self, steps: int) -> None:
        """Everybody does what they do, for so many turns of the loop; then no more faults, and all has to be well."""
        first = Host(self)
        for organization in self.organizations:
            await first.paste(organization)
        first.kill()
        self.server.faulty = True
        self.hosts = [Host(self) for _ in range(HOSTS)]
        self.spawn(self._fates())
        until = self.loop.steps + steps
        while self.loop.steps < until:
            await asyncio.wait([self.failure], timeout=100.0)
            if self.failure.done():
                self.failure.result()
        await self._all_well()

    async def _fates(self) -> None:
        chance = self.chance
        while self.server.faulty:
            await asyncio.sleep(chance.expovariate(1 / 40))
            place = chance.randrange(HOSTS)
            fate = chance.choices(("kill", "freeze", "restart", "clock", "server", "store"), (4, 3, 2, 2, 1, 1))[0]
            self.server.saw(fate)
            host = self.hosts[place]
            match fate:
                case "kill":
                    host.kill()
                    self.hosts[place] = Host(self)
                case "freeze":
                    self.spawn(host.freeze(chance.choice((5.0, 50.0, 200.0))))
                case "restart":
                    self.spawn(self._close(host))
                    self.hosts[place] = Host(self)
                case "clock":
                    host.skew = chance.uniform(-10, 10)
                case "server":
                    until = self.loop.time() + chance.choice((5.0, 60.0))
                    self.server.unwell = chance.choice(("invalid_client", "503")), until
                case "store":
                    self.server.store_down_until = self.loop.time() + chance.choice((1.0, 30.0, 300.0))

    async def _close(self, host: Host) -> None:
        host.disturbed += 1
        with suppress(ManagerError):
            await host.manager.close()
        host.kill()

    async def _all_well(self) -> None:
        """The faults are over: every organization works, or is marked, or was disconnected."""
        self.server.faulty, self.server.store_down_until, self.server.unwell = False, 0.0, ("", 0.0)
        await asyncio.sleep(4 * 3600.0)  # longer than the longest back-off and the longest freeze
        host = Host(self)
        for organization in self.organizations:
            with suppress(ReauthorizationRequired, UnknownOrganizationError):
                host.judge(organization, await asyncio.wait_for(host.manager.token(organization), PATIENCE))
        if self.failure.done():
            self.failure.result()


def run(seed: int, steps: int) -> World:
    """So many turns of the loop, at least. Raises ViolationError, or StuckError."""
    loop = VirtualLoop()
    world = World(loop, seed)
    try:
        loop.set_exception_handler(world.complain)
        loop.run_until_complete(world.live(steps))
        return world
    finally:
        world.over = True
        while left := asyncio.all_tasks(loop):  # the dead, and those who would go on
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
