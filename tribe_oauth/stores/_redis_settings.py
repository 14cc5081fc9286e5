"""A look at what kind of Redis server it is, and how durable it is set to be."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from tribe_oauth.stores._redis_errors import SENTINEL, NotThereError, code_of
from tribe_oauth.stores._redis_pool import Pool

logger = logging.getLogger("tribe_oauth.stores.redis")

_SETTINGS: Final = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


class Settings:
    """Warns, once, of what the servers of one store can lose."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    async def look(self, pool: Pool, deadline: asyncio.Timeout) -> None:
        """Look at a server's settings, once for all callers; calls that come meanwhile don't wait for it.

        Raises RedisError, and NotThereError for a server that keeps no data.
        """
        if pool.looked:
            return
        pool.looked = True
        try:
            await self._look(pool, deadline)
        except BaseException:
            pool.looked = False  # the next call does it
            raise

    async def _look(self, pool: Pool, deadline: asyncio.Timeout) -> None:
        try:
            if (await pool.execute(deadline, "ROLE"))[:1] == [b"sentinel"]:
                raise NotThereError(SENTINEL)
            if re.search(rb"connected_slaves:[1-9]", await pool.execute(deadline, "INFO", "replication")):
                self._warn(
                    "Redis has replicas: a fail-over can lose the rotations just before it, whatever is set;"
                    " look after one whether organizations have to be connected again"
                )
            for name, wanted in _SETTINGS.items():
                found = (
                    dict(pairs(await pool.execute(deadline, "CONFIG", "GET", name))).get(name.encode(), b"").decode()
                )
                if found != wanted:
                    self._warn(f"Redis has {name} {found}: a rotation can be lost with it; set it to {wanted}")
        except ResponseError as error:
            self._warn(f"Redis does not tell its settings ({code_of(error)}): see that it keeps what it confirms")

    def _warn(self, said: str) -> None:
        if said not in self._said:
            self._said.add(said)
            logger.warning("%s", said)


def pairs(reply: Mapping[bytes, Any] | Sequence[Any]) -> list[tuple[bytes, Any]]:
    """Names or members with their values or scores, in either protocol's form."""
    if isinstance(reply, Mapping):
        return list(reply.items())
    if reply and isinstance(reply[0], tuple | list):
        return [(key, score) for key, score in reply]
    return list(zip(reply[::2], reply[1::2], strict=True))
