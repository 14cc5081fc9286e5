"""What a Redis server does as one: scripts, what they are given, and what they answer.

A script happens whole or not at all, as long as what may fail in it comes before its first write: it is not undone.
"""

from __future__ import annotations

import json
from operator import attrgetter
from typing import Final

from tribe_oauth.stores._columns import COLUMNS, NAMES, altered, from_row, lease_left, unsound
from tribe_oauth.stores._contract import Record

_FIELDS: Final = tuple(column.name for column in COLUMNS if column.readable and column.name != "version")
"""What is kept as one JSON object, beside the version, which a script compares, and the payload, which is bytes."""

_NOW: Final = "local t = redis.call('TIME'); local now = tonumber(t[1]) + tonumber(t[2]) / 1000000\n"
_LEASE: Final = "string.format('%.6f', now), r[#r - 1], r[#r]"
LOAD: Final = f"""{_NOW}
local r = redis.call('HMGET', KEYS[1], 'version', 'fields', 'payload', 'lease_end', 'lease_for')
if not r[1] and redis.call('EXISTS', KEYS[1]) == 0 then return false end
return {{r[1], r[2], r[3], {_LEASE}}}
"""
SWAP: Final = f"""{_NOW}
local record, due, listed = KEYS[1], KEYS[2], KEYS[3]
local version, following, fields, payload, renew, lease_for, due_at, is_listed, member = unpack(ARGV)
if (redis.call('HGET', record, 'version') or '0') ~= version then return false end
redis.call('ZCARD', due)
redis.call('ZCARD', listed)
if due_at == '' then redis.call('ZREM', due, member) else redis.call('ZADD', due, due_at, member) end
if is_listed == '1' then redis.call('ZADD', listed, 0, member) else redis.call('ZREM', listed, member) end
redis.call('HSET', record, 'version', following, 'fields', fields, 'payload', payload)
if renew == '1' then
  redis.call('HSET', record, 'lease_end', string.format('%.6f', now + tonumber(lease_for)), 'lease_for', lease_for)
end
local r = redis.call('HMGET', record, 'lease_end', 'lease_for')
return {{{_LEASE}}}
"""
ODD_SCORES: Final = """
return redis.call('ZCOUNT', KEYS[1], '-inf', '(0') + redis.call('ZCOUNT', KEYS[1], '(0', '+inf')
"""
"""Pages of an index in another order than that of its members leave some out, or have no end."""
PUT: Final = """
local standing = redis.call('GET', KEYS[1])
if standing then return standing end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
"""
TAKE: Final = """
local standing = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return standing
"""

SLOTS: Final = f"""{_NOW}
local r = redis.call('HMGET', KEYS[1], 'state', 'version')
return {{r[1], r[2], string.format('%.6f', now)}}
"""
SWAP_SLOTS: Final = f"""{_NOW}
local state, version, following, milliseconds = unpack(ARGV)
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= version then return false end
redis.call('HSET', KEYS[1], 'state', state, 'version', following)
redis.call('PEXPIRE', KEYS[1], milliseconds)
return string.format('%.6f', now)
"""


def fields_of(record: Record) -> str:
    """All of a record that is one text."""
    return json.dumps(dict(zip(_FIELDS, attrgetter(*_FIELDS)(record), strict=True)))


def read(
    organization: str, version: bytes, fields: bytes, payload: bytes, now: bytes, lease_end: bytes, lease_for: bytes
) -> Record:
    """The record that a script found; what there is of it, where that is not all. Raises UnreadableError."""
    number = _version(version)
    if number is None:
        raise unsound(organization)
    try:
        row = json.loads(fields) | {"version": number, "payload": payload}
        found, remaining = [row[name] for name in NAMES], float(lease_end) - float(now)
    except (ValueError, TypeError, LookupError, RecursionError):
        return altered(organization, version=number, payload=payload)
    return from_row(organization, found, remaining, lease_for)


def _version(written: bytes) -> int | None:
    """None: it is not as a script writes it, and no swap would ever find it."""
    try:
        return number if b"%d" % (number := int(written)) == written else None
    except (ValueError, TypeError):
        return None


def left(record: Record, now: bytes, lease_end: bytes, lease_for: bytes) -> float:
    """Seconds that the lease of a record has left that a script has written. Raises StoreError."""
    try:
        remaining = float(lease_end) - float(now)
    except (ValueError, TypeError):
        raise unsound(record.organization) from None
    return lease_left(record, remaining, lease_for)
