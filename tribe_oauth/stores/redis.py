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
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from operator import attrgetter
from typing import Any, Final

from tribe_oauth._remedies import reason, remedy
from tribe_oauth.errors import ConfigurationError, StoreError
from tribe_oauth.stores._columns import COLUMNS, NAMES, from_row, keys_of, unsound, written
from tribe_oauth.stores._contract import Record

try:
    from redis.asyncio import RedisError
    from redis.exceptions import NoScriptError

    from tribe_oauth.stores._redis_pool import driver
    from tribe_oauth.stores._redis_servers import NoServerError, Servers, servers
    from tribe_oauth.stores._redis_settings import Settings, pairs
    from tribe_oauth.stores._redis_url import read_url
except ImportError:
    raise ImportError("RedisStore needs an extra: pip install 'tribe-oauth[redis]'") from None

BUCKETS: Final = 64
PAGE: Final = 500
"""Keys that are read at a time."""
_FIELDS: Final = tuple(column.name for column in COLUMNS if column.readable and column.name != "version")
"""What is kept as one JSON object, beside the version, which a script compares, and the payload, which is bytes."""
_fields = attrgetter(*_FIELDS)

_CODES: Final = re.compile(r"\b(READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|MISCONF|OOM)\b")
"""Errors that a server has for everything that it is asked."""

_NOW: Final = "local t = redis.call('TIME'); local now = tonumber(t[1]) + tonumber(t[2]) / 1000000\n"
_LEFT: Final = """
local function left(lease_end, lease_for)
  return string.format('%.6f', math.max(0, math.min(tonumber(lease_end) - now, tonumber(lease_for))))
end
"""
_LOAD: Final = f"""{_NOW}{_LEFT}
local r = redis.call('HMGET', KEYS[1], 'version', 'fields', 'payload', 'lease_end', 'lease_for')
if not r[1] then return false end
return {{r[1], r[2], r[3], left(r[4], r[5])}}
"""
_SWAP: Final = f"""{_NOW}{_LEFT}
local record, due, listed = KEYS[1], KEYS[2], KEYS[3]
local version, fields, payload, renew, lease_for, due_at, is_listed, member = unpack(ARGV)
if (redis.call('HGET', record, 'version') or '0') ~= version then return false end
redis.call('HSET', record, 'version', tonumber(version) + 1, 'fields', fields, 'payload', payload)
if renew == '1' then
  redis.call('HSET', record, 'lease_end', string.format('%.6f', now + tonumber(lease_for)), 'lease_for', lease_for)
end
if due_at == '' then redis.call('ZREM', due, member) else redis.call('ZADD', due, due_at, member) end
if is_listed == '1' then redis.call('ZADD', listed, 0, member) else redis.call('ZREM', listed, member) end
local r = redis.call('HMGET', record, 'lease_end', 'lease_for')
return left(r[1], r[2])
"""
_PUT: Final = """
local standing = redis.call('GET', KEYS[1])
if standing then return standing end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
"""
_TAKE: Final = """
local standing = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return standing
"""


class RedisStore:
    """Connections in Redis 6.2 or later, shared by any number of hosts. How durable: see this module.

    `url`: as redis-py takes it (``redis://…``, ``rediss://…``); ``redis+cluster://host:port,host:port`` for a cluster,
    of which it names some servers; ``redis+sentinel://host:port,host:port/name`` for the master that Sentinel knows by
    that name (``?sentinel_username=…&sentinel_password=…`` where Sentinel wants them); both with ``rediss+…`` for TLS.
    `prefix`: before every key. `pool_size`: connections of each process to each server. `timeout`: seconds for one
    operation, waiting for a connection and opening it included. Leases end by the server's clock. Close it before its
    event loop ends, or Python warns of connections that were left open. Raises ConfigurationError for a URL that cannot
    be read.

    After any error of a server, and every ten minutes, it is asked again where the server is: after a fail-over it is
    another. A cluster's ``MOVED`` and ``ASK`` are followed.
    """

    def __init__(self, url: str, *, prefix: str = "tribe_oauth", pool_size: int = 8, timeout: float = 5.0) -> None:
        self._prefix = prefix
        self._pool_size = pool_size
        self._timeout = timeout
        self._servers: Servers | None = None
        self._settings = Settings()
        try:
            self._place = read_url(url, timeout)
            driver(self._place.url_at(self._place.seeds[0]) if self._place.seeds else url, timeout)
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
        found = await self._run(_LOAD, [self._record(organization)])
        if found is None:
            return None
        version, fields, payload, left = found
        try:
            row = json.loads(fields) | {"version": int(version), "payload": payload}
            values = [row[name] for name in NAMES]
        except (ValueError, TypeError, LookupError):
            raise unsound(organization) from None
        return from_row(organization, values, float(left) if row["lease"] else 0.0)

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """See `TokenStore.swap`."""
        renew = record.version == 0 or record.lease is None or lease_for is not None
        left = await self._run(
            _SWAP,
            [self._record(record.organization), *self._indexes(_bucket(record.organization))],
            record.version,
            json.dumps(dict(zip(_FIELDS, _fields(record), strict=True))),
            record.payload,
            int(renew),
            lease_for if record.lease is not None and lease_for is not None else 0,
            "" if record.due_at is None else repr(record.due_at),
            int(record.status != "disconnected"),
            record.organization.encode(),
        )
        if left is None:
            return None
        return written(record, float(left) if record.lease else 0.0)

    async def organizations(self) -> AsyncIterator[str]:
        """See `TokenStore.organizations`."""
        for bucket in range(BUCKETS):
            _, listed = self._indexes(bucket)
            after = b"-"
            while keys := await self._call(listed, "ZRANGEBYLEX", listed, after, b"+", "LIMIT", 0, PAGE):
                for key in keys_of(keys):
                    yield key
                after = b"(" + keys[-1]

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
            reply = await self._call(due, "ZRANGEBYSCORE", due, low, before, "WITHSCORES", "LIMIT", 0, PAGE + len(seen))
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
        standing: bytes = await self._run(_PUT, [self._note(key)], value, max(1, int(lives_for * 1000)))
        return standing

    async def take(self, key: str) -> bytes | None:
        """See `TokenStore.take`."""
        taken: bytes | None = await self._run(_TAKE, [self._note(key)])
        return taken

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

    # Calls

    async def _run(self, script: str, keys: Sequence[str], *values: Any) -> Any:
        sha = hashlib.sha1(script.encode()).hexdigest()  # noqa: S324 (Redis names scripts so)
        try:
            return await self._call(keys[0], "EVALSHA", sha, len(keys), *keys, *values)
        except NoScriptError:
            return await self._call(keys[0], "EVAL", script, len(keys), *keys, *values)

    async def _call(self, key: str, *command: Any) -> Any:
        servers = self._open()
        try:
            async with asyncio.timeout(self._timeout):
                return await servers.execute(key, *command)
        except NoScriptError:
            raise  # to the caller above
        except (RedisError, TimeoutError, OSError) as error:
            await servers.renew()  # whatever it was: the server may be another by now
            raise self._error(error) from None

    def _error(self, error: Exception) -> StoreError:
        """What went wrong, with the remedy, and without the server's words."""
        if isinstance(error, NoServerError):
            return StoreError(str(error))
        if isinstance(error, TimeoutError):
            return StoreError(f"Redis did not answer within {self._timeout:g} s: look whether it runs")
        if advice := remedy(error, ""):
            return StoreError(f"no connection to Redis ({reason(error)}): {advice}")
        code = _CODES.search(str(error))  # a script's error has it amid its text
        name = code[0] if code else type(error).__name__
        if name == "READONLY":
            return StoreError(
                "Redis can only be read there (READONLY): after a fail-over, the next call finds the new primary when"
                " the URL leads there; else look whether it names a replica"
            )
        return StoreError(f"Redis failed ({name}): look whether it runs, and into its log")

    def _open(self) -> Servers:
        """The connections of the running loop; those of a loop that is gone are left to it."""
        loop = asyncio.get_running_loop()
        if self._servers is None or self._servers.loop is not loop:
            self._servers = servers(self._place, self._pool_size, loop, self._settings.look)
        return self._servers


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
