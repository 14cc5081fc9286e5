"""One process: a manager, its clock, its network, its view of the store, and those who call it."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Coroutine
from contextlib import suppress
from email.utils import formatdate
from itertools import count, islice
from typing import Any, Final, Protocol

from tribe_oauth import Client, RefreshTokenGrant, Token, TokenManager, TribeOAuthError
from tribe_oauth._oauth.verdict import LONGEST_WAIT
from tribe_oauth.errors import (
    ManagerError,
    ReauthorizationRequired,
    TemporarilyUnavailable,
    UnknownOrganizationError,
)

from .network import Network
from .server import LIFETIME, SAVED_WITHIN, Server, ViolationError
from .store import Database, Store

CALLERS: Final = 3
PATIENCE: Final = 900.0
"""Seconds after which a caller is taken to wait for ever. A lease that a dead host left is over after 85."""
CLOSES_WITHIN: Final = 120.0
"""Seconds: a lease, and the last operations of the store."""
ENDS_WITHIN: Final = 30.0
"""Seconds after which a cancelled task is taken not to end."""
BELIEVED_AT: Final = (0.0, 0.0, 60.0, 180.0, 420.0, 900.0, 1860.0)
"""Seconds of its life at which a host may believe one more refusal of a good token; then every 40 minutes."""
EPOCH: Final = 1_800_000_000.0
YEAR: Final = 365.0 * 86400.0
CLIENT: Final = Client("id", "secret")


class World(Protocol):
    """What a host needs to know of everything else."""

    chance: random.Random
    server: Server
    database: Database
    organizations: list[str]
    badly_received: str
    hosts: list[Any]
    managers: list[TokenManager]
    numbers: count[int]
    over: bool
    resting: bool
    nothing: asyncio.Future[None]

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Something that goes on by itself. What goes wrong in it ends the run."""
        ...

    def strike(self, host: Any, organization: str) -> None:
        """A request is on the wire: now and then, something happens at this very moment."""
        ...


class Host:
    """See above. `disturbed` counts what was done to it, and `fate` is the last of it."""

    def __init__(self, world: World) -> None:
        self.world, self.server, self.chance = world, world.server, world.chance
        self._number = next(world.numbers)
        self.alive, self.disturbed, self.fate = True, 0, ""
        self.trusts_since, self.believed = self.server.now(), 0
        self.store_down_until = self.slow_until = self.mangled_until = 0.0
        self.looked: dict[str, float] = {}
        self.store_failed: dict[str, float] = {}
        self._trouble = -math.inf
        self._skew, self._off_until = 0.0, -math.inf
        self.set_clock()
        self._thawed = asyncio.Event()
        self._thawed.set()
        store = Store(world.database, self.server, self)
        self.manager = TokenManager(CLIENT, store=store, clock=self)
        world.managers.append(self.manager)
        self.manager._context.endpoint = Network(self.server, self)  # type: ignore[assignment]
        work = [self._calls() for _ in range(CALLERS)] + [self._calls_a_bad_path()]
        self._callers = [world.spawn(each) for each in work]

    def __str__(self) -> str:
        return f"host {self._number}"

    # Its clock

    def time(self) -> float:
        return EPOCH + self.server.now() + self._skew

    def monotonic(self) -> float:
        return self.server.now()

    def random(self) -> float:
        return self.chance.random()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.go_on()

    def set_clock(self) -> None:
        """Somewhere within ten seconds; now and then, years ahead or behind."""
        was_off = math.isinf(self._off_until) and self._off_until > 0
        years = self.chance.random() < 0.15
        self._skew = self.chance.choice((-3, -1, 1, 3)) * YEAR if years else self.chance.uniform(-10, 10)
        if years:
            self._off_until = math.inf
            self.server.saw("a clock that is years off")
        elif was_off:
            self._off_until = self.server.now() + 2 * LIFETIME

    def clock_is_off(self) -> bool:
        """Whether its wall clock is wrong, or was while it may have read a token that it still has."""
        return self.server.now() < self._off_until

    def date(self) -> str | None:
        """The server's own clock, mostly told."""
        return formatdate(EPOCH + self.server.now(), usegmt=True) if self.chance.random() < 0.7 else None

    # Its trouble with the store

    def had_trouble(self, until: float) -> None:
        """It failed, or was slow."""
        self._trouble = max(self._trouble, until)

    def has_own_trouble(self) -> bool:
        """Whether the store is away or slow for it alone."""
        database = self.world.database
        return self.server.now() < self.slow_until or self.store_down_until > database.down_until

    def trouble(self) -> float:
        """Until when it cannot be counted on to save."""
        if not self.server.faulty:
            return self._trouble
        database = self.world.database
        return max(self._trouble, self.store_down_until, database.down_until, database.read_only_until)

    # Its fate

    async def go_on(self) -> None:
        """Returns at once, or after a freeze; never for the dead."""
        if self.world.over:
            raise asyncio.CancelledError
        while not (self.alive and self._thawed.is_set()):
            await (self._thawed.wait() if self.alive else asyncio.shield(self.world.nothing))

    def _disturb(self, fate: str) -> None:
        self.disturbed, self.fate = self.disturbed + 1, fate
        self.server.note(f"{self} is {fate}")

    def kill(self) -> None:
        """As by SIGKILL: nothing that it awaits comes back."""
        self._die("killed")

    def _die(self, fate: str) -> None:
        if self.alive:
            self._disturb(fate)
            self.alive = False

    async def freeze(self, seconds: float) -> None:
        """As by SIGSTOP, and SIGCONT."""
        self._disturb("frozen")
        self._thawed.clear()
        await asyncio.sleep(seconds)
        self._thawed.set()

    async def close(self) -> None:
        """`TokenManager.close`, at any moment. What arrived before is saved, where the store can be reached."""
        await self.go_on()  # a frozen process hears of its end when it goes on
        began, disturbed = self.server.now(), self.disturbed
        with suppress(ManagerError):
            await self.manager.close()
        if self.disturbed == disturbed:
            now = self.server.now()
            if now - began > CLOSES_WITHIN:
                raise ViolationError(f"closing took {now - began:.0f} s")
            if now > self.trouble() + SAVED_WITHIN and (unsaved := self.server.unsaved(self)):
                raise ViolationError(f"closed without saving {', '.join(unsaved)}")
        self._die("closed")

    async def cancel(self) -> None:
        """As `asyncio.run` ends: every task is cancelled, whatever it does."""
        if not self._thawed.is_set():
            self.kill()
            return
        owned = sorted(self.manager._tasks._tasks, key=lambda task: int(task.get_name().partition("-")[2]))
        self._disturb("cancelled")
        disturbed, tasks = self.disturbed, [*owned, *self._callers]
        for task in tasks:
            task.cancel()
        _done, late = await asyncio.wait(tasks, timeout=ENDS_WITHIN)
        if late and self.disturbed == disturbed:
            raise ViolationError(f"{len(late)} tasks did not end when they were cancelled")
        self._die("cancelled")

    def is_cancelled(self) -> bool:
        """Whether all that it does was cancelled from outside, or the run is over."""
        return self.world.over or self.fate == "cancelled"

    def sending(self, organization: str) -> None:
        """A request is on the wire."""
        self.world.strike(self, organization)

    # Its callers

    async def _calls(self) -> None:
        chance = self.chance
        while self.alive and not self.world.resting:
            await self.sleep(chance.expovariate(1 / 20))
            organization = chance.choice(self.world.organizations)
            call = chance.choices(
                (self.manager.token, self.manager.refresh, self._rejected, self._warm_up, self._connect),
                (70, 8, 10, 8, 1),
            )[0]
            await self._ask(organization, call(organization))

    async def _calls_a_bad_path(self) -> None:
        """The API says 401 for a path, for ever, although the token is good. How often that is believed has a bound."""
        organization = self.world.badly_received
        while self.alive and not self.world.resting:
            await self.sleep(self.chance.expovariate(1 / 6))
            await self._ask(organization, self._rejected_again(organization))

    async def _rejected_again(self, organization: str) -> Token:
        rejected = await self.manager.token(organization)
        access = rejected.access_token.reveal()
        expires = 0.0 if access in self.server.odd else self.server.expires.get(access, 0.0)
        known, good = len(self.server.delivered), self.server.now() < expires - LIFETIME / 5
        token = await self.manager.refresh(organization, rejected=rejected)
        assert token.refresh_token is not None
        odd = self.clock_is_off() or any(host.clock_is_off() for host in self.world.hosts)  # theirs look old at once
        if good and not odd and self._was_given(token.refresh_token.reveal(), known):
            self.believed += 1
            age = self.server.now() - self.trusts_since
            if self.believed > sum(at <= age for at in BELIEVED_AT) + age / 2400.0:
                raise ViolationError(f"{self} believed {self.believed} refusals by the API in {age:.0f} s")
        return token

    def _was_given(self, refresh_token: str, known: int) -> bool:
        """Whether it was delivered to this host, after so many others."""
        late = list(islice(self.server.delivered.items(), known, None))
        return any(token == refresh_token and delivery.host is self for token, delivery in late)

    async def ask_for(self, organization: str) -> None:
        """One more caller, now."""
        await self._ask(organization, self.manager.refresh(organization))

    async def _rejected(self, organization: str) -> Token:
        return await self.manager.refresh(organization, rejected=await self.manager.token(organization))

    async def _warm_up(self, organization: str) -> None:
        await self.manager.warm_up(concurrency=2)

    async def _connect(self, organization: str) -> Token:
        if self.chance.random() < 0.3:
            await self.manager.disconnect(organization)
        return await self.paste(organization)

    async def paste(self, organization: str) -> Token:
        """Quick Setup, of a new family."""
        if organization == self.world.badly_received:  # a new connection is trusted anew
            self.trusts_since, self.believed = self.server.now(), 0
        grant = RefreshTokenGrant(CLIENT, self.server.paste(organization))
        return await self.manager.connect(organization, grant)

    async def _ask(self, organization: str, call: Coroutine[Any, Any, Token | None]) -> None:
        """One call, now and then given up by its caller; what comes of it is judged."""
        disturbed = self.disturbed
        leaves = self.chance.random() < 0.15
        try:
            patience = self.chance.expovariate(1 / 5) if leaves else PATIENCE
            token = await asyncio.wait_for(call, patience)
        except TimeoutError:
            if not leaves and self.disturbed == disturbed:
                raise ViolationError(f"a caller for {organization} waited for {PATIENCE} s") from None
            self.server.saw("a caller left")
        except (ReauthorizationRequired, UnknownOrganizationError):
            await self.go_on()
            with suppress(TribeOAuthError):
                await self.paste(organization)
                self.server.saw("connected again")
        except TribeOAuthError as error:
            self.server.saw(type(error).__name__)
            if self.disturbed == disturbed:
                self._judge_error(organization, error)
        else:
            if token is not None and self.disturbed == disturbed:
                self.judge(organization, token)

    def _judge_error(self, organization: str, error: TribeOAuthError) -> None:
        if isinstance(error, ManagerError) and not self.manager._tasks.closing:
            raise ViolationError(f"a caller for {organization} was told of what nobody can understand: {error}")
        if isinstance(error, TemporarilyUnavailable) and error.next_attempt_at is not None:
            wait = error.next_attempt_at - self.time()
            if wait > LONGEST_WAIT + 60 and not self.clock_was_set(LONGEST_WAIT):
                raise ViolationError(f"a caller for {organization} was told to wait for {wait:.0f} s")

    _clock_set_at = -math.inf

    def clock_was_set(self, within: float) -> bool:
        """Whether its wall clock jumped in the last so many seconds."""
        return self.server.now() < self._clock_set_at + within

    def judge(self, organization: str, token: Token) -> None:
        """What was given out, at this very moment."""
        server, now = self.server, self.server.now()
        access = token.access_token.reveal()
        if not access:
            raise ViolationError(f"{organization} was given an empty access token by {self}")
        expires = server.expires[access]
        assert token.refresh_token is not None
        refresh = token.refresh_token.reveal()
        if self.store_failed.get(organization, -1e9) > expires - LIFETIME - 60:
            return  # served from memory, or kept back for longer than it lives
        if now >= expires:
            if (cached := self.manager._tokens.get(organization)) is not None:
                server.note(f"{self} remembers {cached.generation}, until {cached.expires:.0f}, clock {self._skew:.0f}")
            delivery = server.delivered[refresh]
            own = delivery.host is self and delivery.undisturbed
            if own or not (self.clock_is_off() or access in server.odd):
                raise ViolationError(
                    f"{organization} was given {refresh} by {self}, which had run out {now - expires:.0f} s before"
                )
            server.saw("a wrong clock believed in a token that had run out")
        if refresh not in server.ever_stored:
            raise ViolationError(f"{organization} was given {refresh} by {self}, which is not stored")
