"""A store for many hosts: Redis.

All keys of an organization are in one hash slot, of 64 that are used: its record, and its part of the two indexes. A
write is one script, and so happens whole or not at all, also in a cluster: no index ever has to be repaired.

Redis is as durable as it is set to be. With ``appendonly yes`` and ``appendfsync always`` a write is on disk before it
is confirmed; with ``everysec`` a crash of the server can lose the last second; replication is asynchronous, so that a
fail-over can lose what was confirmed just before. What is lost is a rotation: its organization has to be connected
again, unless the process that made it still runs, and writes it back. The store looks at the settings, and warns.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final

from tribe_oauth._hiding import hiding
from tribe_oauth._oauth.values import Secret, secret
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.stores._columns import AlteredError, keys_of, unsound
from tribe_oauth.stores._contract import Record, Slots
from tribe_oauth.stores._writes import next_version, written

try:
    from redis.asyncio import RedisError
    from redis.exceptions import NoScriptError

    from tribe_oauth.stores._redis_errors import store_error
    from tribe_oauth.stores._redis_pool import driver
    from tribe_oauth.stores._redis_scripts import (
        LOAD,
        ODD_SCORES,
        PUT,
        SLOTS,
        SWAP,
        SWAP_SLOTS,
        TAKE,
        fields_of,
        left,
        read,
    )
    from tribe_oauth.stores._redis_servers import Servers, servers
    from tribe_oauth.stores._redis_settings import Settings, pairs
    from tribe_oauth.stores._redis_url import read_url
except ImportError:
    raise ImportError("RedisStore needs an extra: pip install 'tribe-oauth[redis]'") from None

logger = logging.getLogger(__name__)

BUCKETS: Final = 64
PAGE: Final = 500
"""Keys that are read at a time."""


class RedisStore:
    """Connections in Redis 6.2 or later, shared by any number of hosts. How durable: see this module.

    `url`: as redis-py takes it (``redis://…``, ``rediss://…``); ``redis+cluster://host:port,host:port`` for a cluster,
    of which it names some servers; ``redis+sentinel://host:port,host:port/name`` for the master that Sentinel knows by
    that name (``?sentinel_username=…&sentinel_password=…`` where Sentinel wants them); both with ``rediss+…`` for TLS.
    `prefix`: before every key. `pool_size`: connections of each process to each server. `timeout`: seconds for one
    operation, opening a connection included, and waiting for one of the pool not. Leases end by the server's clock.
    Close it before its event loop ends, or Python warns of connections that were left open. Raises ConfigurationError
    for a URL that cannot be read.

    After any error of a server, and every ten minutes, it is asked again where the server is: after a fail-over it is
    another. A cluster's ``MOVED`` and ``ASK`` are followed.
    """

    @hiding
    def __init__(
        self, url: str | Secret, *, prefix: str = "tribe_oauth", pool_size: int = 8, timeout: float = 5.0
    ) -> None:
        self._prefix = prefix
        self._pool_size = pool_size
        self._timeout = timeout
        self._servers: Servers | None = None
        self._settings = Settings()
        try:
            self._place = read_url(secret(url).reveal(), timeout)
            driver(self._place.url_at(self._place.seeds[0]) if self._place.seeds else self._place.url, timeout)
        except (ValueError, TypeError, RedisError):
            raise ConfigurationError(
                "the URL cannot be read: write redis://user:password@host:port/number, rediss:// for TLS,"
                " redis+cluster://host:port,host:port, redis+sentinel://host:port,host:port/name, or unix:///path,"
                " with anything but letters and digits percent-encoded"
            ) from None

    @property
    def timeout(self) -> float:
        """Seconds that one operation can take at most."""
        return self._timeout

    async def load(self, organization: str) -> Record | None:
        """See `TokenStore.load`."""
        try:
            found = await self._run(LOAD, [self._record(organization)])
        except AlteredError:
            raise unsound(organization) from None
        return None if found is None else read(organization, *found)

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """See `TokenStore.swap`."""
        version, renew = next_version(record.version, time.time()), lease_for is not None or record.lease is None
        lease = await self._run(
            SWAP,
            [self._record(record.organization), *self._indexes(_bucket(record.organization))],
            record.version,
            version,
            fields_of(record),
            record.payload,
            int(renew or record.version == 0),
            lease_for if record.lease is not None and lease_for is not None else 0,
            "" if record.due_at is None else repr(record.due_at),
            int(record.status != "disconnected"),
            record.organization.encode(),
            organization=record.organization,
        )
        return None if lease is None else written(record, version, left(record, *lease))

    async def organizations(self) -> AsyncIterator[str]:
        """See `TokenStore.organizations`."""
        for bucket in range(BUCKETS):
            after: bytes | None = b"-"
            while after is not None:
                keys, after = await self._listed_in(bucket, after)
                for key in keys_of(keys):
                    yield key

    async def _listed_in(self, bucket: int, after: bytes) -> tuple[list[bytes], bytes | None]:
        """A page of one bucket, and after what the next begins; None: it was the last."""
        _, listed = self._indexes(bucket)
        try:
            if after == b"-" and await self._run(ODD_SCORES, [listed]):
                logger.error("the index %r has scores that something else wrote: ZADD all its members with 0", listed)
                return sorted(await self._call(listed, "ZRANGE", listed, 0, -1)), None
            keys = await self._call(listed, "ZRANGEBYLEX", listed, after, b"+", "LIMIT", 0, PAGE)
        except AlteredError:
            _left_out(listed)
            return [], None
        is_last = len(keys) < PAGE or keys[-1] < after[1:]  # one that was altered meanwhile
        return keys, None if is_last else b"(" + keys[-1]

    async def due(self, before: float) -> AsyncIterator[str]:
        """See `TokenStore.due`."""
        pages = [self._due_in(bucket, before) for bucket in range(BUCKETS)]
        merged = _merged(pages)
        try:
            async for _, stored in merged:
                for key in keys_of([stored]):
                    yield key
        finally:
            for generator in (merged, *pages):  # or the event loop would have to close them, each in a task
                await generator.aclose()

    async def _due_in(self, bucket: int, before: float) -> AsyncGenerator[tuple[float, bytes], None]:
        """What is due in one bucket, page by page; what was taken care of meanwhile is not read again."""
        due, _ = self._indexes(bucket)
        low, seen = "-inf", set[bytes]()
        while True:
            limit = ("LIMIT", 0, PAGE + len(seen))
            try:
                reply = await self._call(due, "ZRANGEBYSCORE", due, low, before, "WITHSCORES", *limit)
            except AlteredError:
                _left_out(due)
                return
            page = [(float(score), key) for key, score in pairs(reply) if key not in seen]
            if not page:
                return
            for entry in page:
                yield entry
            last = page[-1][0]
            if repr(last) != low:
                low, seen = repr(last), set()
            seen |= {key for score, key in page if score == last}

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        """See `TokenStore.put`."""
        standing: bytes = await self._run(PUT, [self._note(key)], value, max(1, int(lives_for * 1000)))
        return standing

    async def take(self, key: str) -> bytes | None:
        """See `TokenStore.take`."""
        taken: bytes | None = await self._run(TAKE, [self._note(key)])
        return taken

    async def slots(self, key: str) -> Slots:
        """See `SlotStore.slots`."""
        state, version, now = await self._run(SLOTS, [self._slots(key)])
        return Slots(state or b"", int(version or 0), float(now))

    async def swap_slots(self, key: str, state: bytes, *, version: int, lives_for: float) -> Slots | None:
        """See `SlotStore.swap_slots`."""
        new, lives_for_ms = next_version(version, time.time()), max(1, int(lives_for * 1000))
        now = await self._run(SWAP_SLOTS, [self._slots(key)], state, version, new, lives_for_ms)
        return None if now is None else Slots(state, new, float(now))

    async def close(self) -> None:
        """See `TokenStore.close`."""
        servers, self._servers = self._servers, None
        if servers is not None and servers.loop is asyncio.get_running_loop():
            await servers.close()

    # Keys: the part in braces decides the slot

    def _record(self, organization: str) -> str:
        return f"{self._prefix}:{{{_bucket(organization)}}}:record:{organization.encode().hex()}"

    def _indexes(self, bucket: int) -> tuple[str, str]:
        return f"{self._prefix}:{{{bucket}}}:due", f"{self._prefix}:{{{bucket}}}:organizations"

    def _note(self, key: str) -> str:
        return f"{self._prefix}:note:{key.encode().hex()}"

    def _slots(self, key: str) -> str:
        return f"{self._prefix}:slots:{key.encode().hex()}"

    # Calls

    async def _run(self, script: str, keys: Sequence[str], *values: Any, organization: str | None = None) -> Any:
        sha = hashlib.sha1(script.encode()).hexdigest()  # noqa: S324 (Redis names scripts so)
        arguments = (len(keys), *keys, *values)
        try:
            return await self._call(keys[0], "EVALSHA", sha, *arguments, organization=organization)
        except NoScriptError:
            return await self._call(keys[0], "EVAL", script, *arguments, organization=organization)

    async def _call(self, key: str, *command: Any, organization: str | None = None) -> Any:
        servers = self._open()
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                return await servers.execute(deadline, key, *command)
        except Exception as error:
            if isinstance(error, NoScriptError) and command[0] == "EVALSHA":
                raise  # to the caller above
            await servers.renew()  # whatever it was: the server may be another by now
            failure = store_error(error, self._timeout, organization)
        try:
            raise failure from None  # and not from there: the driver's frames show passwords
        finally:
            del failure  # its traceback has this frame, which would keep both

    def _open(self) -> Servers:
        """The connections of the running loop; those of a loop that is gone are left to it."""
        loop = asyncio.get_running_loop()
        if self._servers is None or self._servers.loop is not loop:
            self._servers = servers(self._place, self._pool_size, loop, self._settings.look)
        return self._servers


def _left_out(index: str) -> None:
    said = "organizations were left out whose index %r has another type, which something else wrote: rename that key"
    logger.error(said, index)


async def _merged(
    pages: Sequence[AsyncGenerator[tuple[float, bytes], None]],
) -> AsyncGenerator[tuple[float, bytes], None]:
    """What all of them have, the least first."""
    heads = [(await anext(page, None), number) for number, page in enumerate(pages)]
    heap = [(head, number) for head, number in heads if head is not None]
    heapq.heapify(heap)
    while heap:
        head, number = heap[0]
        yield head
        following = await anext(pages[number], None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following, number))


def _bucket(organization: str) -> int:
    return hashlib.sha256(organization.encode()).digest()[0] % BUCKETS
