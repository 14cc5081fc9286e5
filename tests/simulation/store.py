"""The one store: what it is now, what it was, and how each host sees it: slow, failing, away, read-only."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol, TypeVar

import attrs

from tribe_oauth import MemoryStore, StoreError
from tribe_oauth._refresh.payload import decode
from tribe_oauth.stores import Record

from .server import Process, Server

Result = TypeVar("Result")

PAST: Final = 400
"""Writes that can be taken back."""
SEEN: Final = 3.0
"""Seconds that the store has to be away for every host that looks for it to notice."""
SLOW: Final = 0.5
"""Seconds from which an answer of the store is a slow one: the time in which it came does not count as sight of it."""
STRAY: Final[tuple[type[BaseException], ...]] = (KeyError, OSError, TimeoutError, MemoryError, asyncio.CancelledError)
"""What stores raise that do not keep to the contract."""


class Database:
    """A store with a past. `down_until`, `read_only_until`: for all hosts."""

    def __init__(self, server: Server, organizations: list[str]) -> None:
        self.down_until = self.read_only_until = self._away_since = 0.0
        self.store = MemoryStore(clock=server.now)
        self._server = server
        self._organizations = organizations
        self._past: deque[dict[str, tuple[Record, float]]] = deque(maxlen=PAST)

    def go_away(self, until: float, *, read_only: bool = False) -> None:
        """For all hosts."""
        if self._server.now() > self._takes_writes_from:
            self._away_since = self._server.now()
        if read_only:
            self.read_only_until = max(self.read_only_until, until)
        else:
            self.down_until = max(self.down_until, until)

    @property
    def _takes_writes_from(self) -> float:
        return max(self.down_until, self.read_only_until)

    def back_for(self) -> float:
        """Seconds since it came back for all, of an absence that nobody can have missed; below 0: it is away."""
        seen = self._takes_writes_from - self._away_since > SEEN
        return self._server.now() - self._takes_writes_from if seen else math.inf

    async def swap(self, record: Record, lease_for: float | None, host: Process) -> Record | None:
        """Write, and tell the ledger."""
        before = dict(self.store._records)
        stored = await self.store.swap(record, lease_for=lease_for)
        if stored is not None:
            self._past.append(before)
            self._written(stored, before.get(record.organization), host)
        return stored

    def _written(self, record: Record, before: tuple[Record, float] | None, host: Process) -> None:
        server, payload = self._server, decode(record)
        token, candidate = payload.token, payload.candidate
        server.candidates[record.organization] = (
            None
            if candidate is None or record.status == "disconnected"
            else server.families[candidate.refresh_token.reveal()]
        )
        server.note(
            f"{record.organization}: version {record.version}, {record.family} {record.generation} {record.status}"
            f" {'' if token is None or token.refresh_token is None else token.refresh_token.reveal()}"
            f" {'maybe spent' if record.maybe_spent else ''} lease {record.lease} {record.lease_left:.1f}"
        )
        if record.status == "disconnected":
            server.has_disconnected(record.organization)
        elif token is not None and token.refresh_token is not None:
            server.has_stored(token.access_token.reveal(), token.refresh_token.reveal(), host)
            if record.status == "reauthorization_required":
                anew = before is None or before[0].status != record.status
                server.is_marked(token.refresh_token.reveal(), record.cause or "", anew=anew)

    def empty(self) -> None:
        """As if somebody had removed its files."""
        self._become({})

    def put_back(self, organization: str, generations: int) -> None:
        """As after a fail-over to a server that is behind, by so many generations of one organization."""
        now = self.store._records.get(organization)
        while now is not None and self._past:
            then = self._past.pop()
            if organization not in then:
                return
            if then[organization][0].generation <= now[0].generation - generations:
                self._become(then)
                return

    def _become(self, records: dict[str, tuple[Record, float]]) -> None:
        before, self.store = self.store, MemoryStore(clock=self._server.now)
        left = {}
        for organization, (record, lease_end) in records.items():
            self.store._keys.append(organization)
            self.store._index(None, record)
            self.store._records[organization] = record, lease_end
            token = decode(record).token
            if token is not None and token.refresh_token is not None:
                left[organization] = token.refresh_token.reveal()
        changed = [key for key in self._organizations if records.get(key) != before._records.get(key)]
        self._server.store_lost(left, changed)


class Client(Process, Protocol):
    """A host, as its store knows it. `store_down_until`: for this host alone; `slow_until`: its answers take long."""

    store_down_until: float
    slow_until: float
    store_failed: dict[str, float]

    def had_trouble(self, until: float) -> None:
        """Its store failed it, or was slow."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait, also for the end of a freeze."""
        ...


@attrs.define(eq=False)
class Store:
    """The database as a host sees it: it takes time, and it fails, before or after it did what was asked."""

    database: Database
    server: Server
    host: Client

    async def load(self, organization: str) -> Record | None:
        """See `TokenStore.load`."""
        return await self._call(organization, lambda store: store.load(organization))

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """See `TokenStore.swap`."""
        work = self.database.swap
        return await self._call(record.organization, lambda _: work(record, lease_for, self.host), writes=True)

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        """See `TokenStore.put`."""
        return await self._call("", lambda store: store.put(key, value, lives_for=lives_for), writes=True)

    async def take(self, key: str) -> bytes | None:
        """See `TokenStore.take`."""
        return await self._call("", lambda store: store.take(key), writes=True)

    async def _call(
        self, organization: str, work: Callable[[MemoryStore], Awaitable[Result]], *, writes: bool = False
    ) -> Result:
        await self._travel(organization, writes=writes)
        at, done = self.server.now(), await work(self.database.store)
        await self._travel(organization, writes=writes)
        self.host.looked[organization] = at
        return done

    async def _travel(self, organization: str, *, writes: bool = False) -> None:
        host, server, chance = self.host, self.server, self.server.chance
        slow = server.now() < host.slow_until
        takes = 0.15 + 1.35 * chance.random() if slow else 0.001 + 0.01 * chance.random()
        if slow:
            host.had_trouble(server.now() + takes)
        await host.sleep(takes)
        database, now = self.database, server.now()
        away = max(database.down_until, host.store_down_until, database.read_only_until if writes else 0.0)
        if server.faulty and (chance.random() < 0.004 or now < away):
            host.store_failed[organization] = now
            host.had_trouble(now)
            server.saw("store failed")
            self._fail()

    def _fail(self) -> None:
        chance = self.server.chance
        if chance.random() < 0.7:
            raise StoreError("the store fails")
        stray = chance.choice(STRAY)
        self.server.saw(f"store raised {stray.__name__}")
        raise stray("stray")

    async def organizations(self) -> AsyncIterator[str]:
        """See `TokenStore.organizations`."""
        async for organization in self.database.store.organizations():
            yield organization

    async def due(self, before: float) -> AsyncIterator[str]:
        """See `TokenStore.due`."""
        await self._travel("")
        async for organization in self.database.store.due(before):
            yield organization

    async def close(self) -> None:
        """The others still use it."""
