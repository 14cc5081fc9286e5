"""Which server to ask: the one that the URL names, the master that Sentinel names, or the owner of a cluster's slot.

The questions are those of the driver's clients (``SENTINEL GET-MASTER-ADDR-BY-NAME``, ``CLUSTER SLOTS``, ``MOVED``,
``ASK``), the connections are not: a cancellation keeps one of theirs, and its place, for ever. Each server has a
`Pool` of ours. After any trouble all that was known is forgotten, and asked for again by the next call.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

from redis.asyncio import RedisError
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    TryAgainError,
)

from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.stores._redis_errors import REFUSED_BY_SENTINEL, NotThereError
from tribe_oauth.stores._redis_pool import Pool, driver
from tribe_oauth.stores._redis_url import Address, Place

MAX_REDIRECTS: Final = 100
"""Answers of a cluster that send a command elsewhere, or have it wait; the store's time-out ends it before."""
PAUSE: Final = 0.05
"""Seconds before a command is sent again whose slot is on its way from one server to another."""
SHORTEST_WAIT: Final = 0.25
"""Seconds that one server has at least to say where the others are."""

Look = Callable[[Pool, asyncio.Timeout], Awaitable[None]]
"""Called with a server's pool, and the deadline, before each command."""


class Servers(Protocol):
    """Where commands go."""

    loop: asyncio.AbstractEventLoop

    async def execute(self, deadline: asyncio.Timeout, key: str, *command: Any) -> Any:
        """The answer to a command about a key (or more, all in its slot). Raises RedisError, TimeoutError.

        `deadline` stands still while a connection is waited for.
        """
        ...

    async def renew(self) -> None:
        """Forget where the servers are, and every connection: the next command asks again."""
        ...

    async def close(self) -> None:
        """Close what is idle, and wait for that; what is in use is closed after its use."""
        ...


class OneServer:
    """The server that the URL names."""

    def __init__(self, place: Place, size: int, loop: asyncio.AbstractEventLoop, look: Look) -> None:
        self.loop = loop
        self._look = look
        self._pool = Pool(driver(place.url, place.timeout), size, place.timeout)

    async def execute(self, deadline: asyncio.Timeout, _key: str, *command: Any) -> Any:
        """See `Servers.execute`."""
        await self._look(self._pool, deadline)
        return await self._pool.execute(deadline, *command)

    async def renew(self) -> None:
        """See `Servers.renew`."""
        await self._pool.renew()

    async def close(self) -> None:
        """See `Servers.close`."""
        await self._pool.close()


class _Found(ABC):
    """Servers whose addresses have to be asked for. `_asked`: those to ask, the next one first."""

    def __init__(self, place: Place, size: int, loop: asyncio.AbstractEventLoop, look: Look) -> None:
        self.loop = loop
        self._place = place
        self._size = size
        self._look = look
        self._pools: dict[Address, Pool] = {}
        self._asked = list(place.seeds)
        self._finding = asyncio.Lock()

    def _at(self, address: Address) -> Pool:
        if address not in self._pools:
            place = self._place
            self._pools[address] = Pool(driver(place.url_at(address), place.timeout), self._size, place.timeout)
        return self._pools[address]

    async def _ask_around(self, ask: Callable[[asyncio.Timeout, Address], Awaitable[bool]]) -> bool:
        """Ask one after the other, each for a share of the time, until one knows. Raises the last one's error."""
        failure: Exception | None = None
        share = max(self._place.timeout / (len(self._asked) + 1), SHORTEST_WAIT)
        for address in list(self._asked):
            self._asked.remove(address)
            self._asked.append(address)  # the next call begins with another, whatever becomes of this one
            try:
                async with asyncio.timeout(share) as deadline:
                    if await ask(deadline, address):
                        self._asked.remove(address)
                        self._asked.insert(0, address)
                        return True
            except (RedisError, TimeoutError, OSError) as error:
                failure = error
        if failure is not None:
            raise failure
        return False

    async def renew(self) -> None:
        """See `Servers.renew`."""
        pools, self._pools = self._pools, {}
        self._forget()
        self._asked.append(self._asked.pop(0))  # what it said was not so, or is not any more
        await run_uninterrupted(_each(pool.drop for pool in pools.values()))

    @abstractmethod
    def _forget(self) -> None:
        """Forget what the servers said."""

    async def close(self) -> None:
        """See `Servers.close`."""
        await run_uninterrupted(_each(pool.close for pool in self._pools.values()))


class SentinelServers(_Found):
    """The master that Sentinel names."""

    def __init__(self, place: Place, size: int, loop: asyncio.AbstractEventLoop, look: Look) -> None:
        super().__init__(place, size, loop, look)
        self._master: Address | None = None

    async def execute(self, deadline: asyncio.Timeout, _key: str, *command: Any) -> Any:
        """See `Servers.execute`."""
        async with self._finding:
            if self._master is None and not await self._ask_around(self._ask):
                raise NotThereError("no Sentinel knows a master of the name that the URL ends with: look at the name")
            assert self._master is not None
            pool = self._at(self._master)
        await self._look(pool, deadline)
        return await pool.execute(deadline, *command)

    async def _ask(self, deadline: asyncio.Timeout, sentinel: Address) -> bool:
        asked = Pool(driver(self._place.sentinel_url_at(sentinel), self._place.timeout), 1, self._place.timeout)
        try:
            found = await asked.execute(deadline, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._place.master)
        except AuthenticationError:
            raise NotThereError(REFUSED_BY_SENTINEL) from None
        finally:
            await asked.drop()  # one question: no connection is kept
        if found is None:
            return False
        address = found[0].decode(), int(found[1])
        if not await _is_master(
            self._at(address), deadline
        ):  # the fail-over is under way, or this one has not heard of it
            raise NotThereError("Redis has no master now, as Sentinel says: a fail-over may be under way")
        self._master = address
        return True

    def _forget(self) -> None:
        self._master = None


class ClusterServers(_Found):
    """The owner of each slot, by the map that any server of the cluster has."""

    def __init__(self, place: Place, size: int, loop: asyncio.AbstractEventLoop, look: Look) -> None:
        super().__init__(place, size, loop, look)
        self._map: list[tuple[int, int, Address]] = []  # first slot, last slot, owner
        self._moved: dict[int, Address] = {}  # what was learned since

    async def execute(self, deadline: asyncio.Timeout, key: str, *command: Any) -> Any:
        """See `Servers.execute`. Follows ``MOVED`` and ``ASK``; waits while the cluster says ``TRYAGAIN``."""
        slot = key_slot(key.encode())
        address, asking = await self._owner(slot), False
        for _ in range(MAX_REDIRECTS):
            pool = self._at(address)
            try:
                await self._look(pool, deadline)
                return await pool.execute(deadline, *command, asking=asking)
            except AskError as elsewhere:  # and MovedError, which is one
                address, asking = (elsewhere.host or address[0], elsewhere.port), True
                if isinstance(elsewhere, MovedError):
                    self._moved[slot], asking = address, False
            except TryAgainError:
                await asyncio.sleep(PAUSE)
        raise ClusterDownError("redirects without an end")

    async def _owner(self, slot: int) -> Address:
        async with self._finding:
            if not self._map:
                await self._ask_around(self._ask)
        if slot in self._moved:
            return self._moved[slot]
        for first, last, owner in self._map:
            if first <= slot <= last:
                return owner
        raise NotThereError(f"no server of the Redis cluster has slot {slot}: look at CLUSTER INFO")

    async def _ask(self, deadline: asyncio.Timeout, server: Address) -> bool:
        found = await self._at(server).execute(deadline, "CLUSTER", "SLOTS")
        # An empty host: the one that was asked. A further server of a range is a replica.
        self._map = [(first, last, (_text(owner[0]) or server[0], int(owner[1]))) for first, last, owner, *_ in found]
        self._asked = list(dict.fromkeys([server, *(owner for _, _, owner in self._map), *self._place.seeds]))
        return True

    def _forget(self) -> None:
        self._map, self._moved = [], {}


def servers(place: Place, size: int, loop: asyncio.AbstractEventLoop, look: Look) -> Servers:
    """What the URL names."""
    kinds: dict[str, Callable[..., Servers]] = {"sentinel": SentinelServers, "cluster": ClusterServers}
    return kinds.get(place.kind, OneServer)(place, size, loop, look)


async def _is_master(pool: Pool, deadline: asyncio.Timeout) -> bool:
    try:
        return bool((await pool.execute(deadline, "ROLE"))[0] == b"master")
    except NoPermissionError:
        return True  # as far as one can know


async def _each(calls: Iterable[Callable[[], Awaitable[None]]]) -> None:
    for call in list(calls):
        await call()


def _text(value: bytes | None) -> str:
    return (value or b"").decode()
