"""An API that counts, a store, and processes that send: all on time that passes only when nobody has anything to do."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs

from tests.simulation.loop import VirtualLoop
from tribe_oauth import RateLimit, StoreError
from tribe_oauth._limit.limits import Limits
from tribe_oauth._limit.line import Line, Lot, Terms
from tribe_oauth.stores import Slots

Result = TypeVar("Result")


class LoopClock:
    """The loop's time: as `Clock`."""

    def __init__(self) -> None:
        self.monotonic = asyncio.get_running_loop().time
        self.random = random.Random(1).random

    def time(self) -> float:
        return 1_800_000_000.0 + self.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def virtually(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run it on a loop of its own, in virtual time."""

    async def run() -> Result:
        return await work()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


@attrs.define
class Api:
    """The rule: at most `calls` in any `seconds`; what it refuses counts, too."""

    calls: int
    seconds: float
    retry_after: str | None = None
    arrived: deque[float] = attrs.Factory(deque)
    taken: int = 0
    refused: list[float] = attrs.Factory(list)

    def ask(self) -> int:
        now = asyncio.get_running_loop().time()
        while self.arrived and self.arrived[0] <= now - self.seconds:
            self.arrived.popleft()
        self.arrived.append(now)
        if len(self.arrived) > self.calls:
            self.refused.append(now)
            return 429
        self.taken += 1
        return 200


@attrs.define
class Shared:
    """A `SlotStore`. `latency`: seconds of each operation, by half before it happens and by half after."""

    latency: float = 0.002
    away: bool = False
    lose_answers: bool = False
    kept: dict[str, tuple[bytes, int, float]] = attrs.Factory(dict)
    version: int = 0
    operations: int = 0
    offset: float = 5_000.0

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time() + self.offset

    def standing(self, key: str) -> tuple[bytes, int, float]:
        found = self.kept.get(key, (b"", 0, 0.0))
        return found if found[2] > self.now else (b"", 0, 0.0)

    async def slots(self, key: str) -> Slots:
        await self._operation()
        state, version, _ = self.standing(key)
        found = Slots(state, version, self.now)
        await asyncio.sleep(self.latency / 2)
        return found

    async def swap_slots(self, key: str, state: bytes, *, version: int, lives_for: float) -> Slots | None:
        await self._operation()
        if self.standing(key)[1] != version:
            await asyncio.sleep(self.latency / 2)
            return None
        self.version += 1
        self.kept[key] = (state, self.version, self.now + lives_for)
        kept = Slots(state, self.version, self.now)
        await asyncio.sleep(self.latency / 2)
        if self.lose_answers:
            raise StoreError("the answer was lost")
        return kept

    async def _operation(self) -> None:
        self.operations += 1
        await asyncio.sleep(self.latency / 2)
        if self.away:
            raise StoreError("away")


def limits(limit: RateLimit, store: Shared | None = None, *, quiet: float = 10.0) -> Limits:
    """What one process has."""
    return Limits(Terms(limit=limit, quiet=quiet, clock=LoopClock()), lambda _: store)


def line(limit: RateLimit, store: Shared | None = None, *, quiet: float = 10.0) -> Line:
    """The line of one organization in one process."""
    return limits(limit, store, quiet=quiet).line("client", "acme")


async def slot(of: Line, *, background: bool = False, longest: float = 1e6) -> Lot:
    """Take a slot, or wait for one."""
    return of.take(background) or await of.turn(background, longest)


@attrs.define
class Sender:
    """Some that send through a line, one request after another each."""

    of: Line
    api: Api
    transit: Callable[[], float] = lambda: 0.025
    background: bool = False
    sent: int = 0
    answered: int = 0
    last: float = 0.0
    moments: list[float] = attrs.Factory(list)

    async def one(self) -> int:
        lot = await slot(self.of, background=self.background)
        self.sent += 1
        await asyncio.sleep(self.transit())
        self.moments.append(asyncio.get_running_loop().time())
        status = self.api.ask()
        await asyncio.sleep(self.transit())
        lot.answered(status, {} if self.api.retry_after is None else {"Retry-After": self.api.retry_after})
        self.answered += status == 200
        self.last = asyncio.get_running_loop().time()
        return status

    async def send(self, requests: int, *, at_once: int = 8) -> None:
        left = requests

        async def work() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.one()

        await asyncio.gather(*(work() for _ in range(at_once)))


def uneven(seed: int, most: float = 0.4) -> Callable[[], float]:
    """Transit times of a bad network, the same for the same seed."""
    chance = random.Random(seed)
    return lambda: chance.random() ** 4 * most


def least(requests: int, limit: RateLimit, *, at_once: int, latency: float) -> float:
    """Seconds that so many requests take at least, where so many are sent at a time and the answer needs `latency`.

    Each run of `calls` of them is sent as fast as that goes, and the next no sooner than `seconds` after its first.
    """
    runs, rest = divmod(requests - 1, limit.calls)
    return runs * max(limit.seconds, -(-limit.calls // at_once) * latency) + -(-(rest + 1) // at_once) * latency
