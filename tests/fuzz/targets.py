"""What is spoiled: one organization's record in a store, by another program that can write there.

A new kind of store is a class with these members, and an entry in `TARGETS`. One that stands on another (as encryption
does) gives `store` in place of the target's own, and spoils what the target spoils.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

import psycopg

from tribe_oauth._strict_json import to_json
from tribe_oauth.stores import TokenStore
from tribe_oauth.stores._columns import NAMES
from tribe_oauth.stores._sqlite_rescue import Rescue
from tribe_oauth.stores.contract import record
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.stores.redis import RedisStore, _bucket
from tribe_oauth.stores.sqlite import SQLiteStore

from ..stores import redis_servers, servers
from .mutations import changed, mutated, mutated_json, odd

KEY: Final = "acme"
"""Whose record is spoiled."""


class Target(Protocol):
    """A store, and the hand that spoils what is in it."""

    @property
    def store(self) -> TokenStore:
        """What is asked."""
        ...

    async def remember(self) -> None:
        """What is stored now is what `mend` puts back."""
        ...

    async def spoil(self, chance: Random) -> str:
        """Spoil the record, in one way; says which."""
        ...

    async def mend(self) -> None:
        """Put it back."""
        ...


class SQLite:
    """A file, whose columns take values of any type; and copies beside it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tribe.db"
        self.store = SQLiteStore(self.path)
        self._rescue = Rescue(folder / "tribe.db-rescue")
        self._row: tuple[Any, ...] = ()
        self._columns = ("id", "organization", *NAMES, "lease_end", "lease_for", "lease_holder")

    async def remember(self) -> None:
        with self._connection() as connection:
            sql = f"SELECT {', '.join(self._columns)} FROM organizations WHERE organization = ?"  # noqa: S608
            self._row = connection.execute(sql, (KEY.encode(),)).fetchone()

    async def spoil(self, chance: Random) -> str:
        if chance.random() < 0.2:
            return self._spoil_copy(chance)
        at = chance.randrange(1, len(self._columns))
        name, value = self._columns[at], mutated(chance, self._row[at])
        invalid = isinstance(value, str) and chance.random() < 0.5
        raw = value.encode(errors="surrogatepass") + b"\xff" if invalid and isinstance(value, str) else value
        sql = f"UPDATE organizations SET {name} = {'CAST(? AS TEXT)' if invalid else '?'} WHERE id = ?"  # noqa: S608
        with self._connection() as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            try:
                connection.execute(sql, (raw, self._row[0]))
            except (sqlite3.Error, OverflowError, ValueError) as error:
                return f"{name} refused ({type(error).__name__})"
        return name

    def _spoil_copy(self, chance: Random) -> str:
        self._rescue.keep(record(KEY, generation=7, payload=b"copy"))
        path = self._rescue._path(KEY)
        content = to_json(record(KEY, generation=chance.randrange(9), payload=b"copy"))
        path.write_bytes(changed(chance, content) if chance.random() < 0.5 else mutated_json(chance, content))
        return "a copy beside it"

    async def mend(self) -> None:
        self._rescue.forget(KEY)
        marks = ", ".join("?" * len(self._row))
        with self._connection() as connection:
            connection.execute("DELETE FROM organizations WHERE id = ? OR organization = ?", self._row[:2])
            connection.execute(f"INSERT INTO organizations ({', '.join(self._columns)}) VALUES ({marks})", self._row)  # noqa: S608

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()


class Postgres:
    """A database whose encoding checks nothing."""

    def __init__(self, dsn: str) -> None:
        self.store = PostgresStore(dsn)
        self._connection = psycopg.connect(dsn, autocommit=True, client_encoding="SQL_ASCII")
        self._row: tuple[Any, ...] = ()
        self._columns = ("id", "organization", *NAMES, "lease_end", "lease_for")

    async def remember(self) -> None:
        sql = f"SELECT {', '.join(self._columns)} FROM tribe_oauth_organizations WHERE organization = %s"  # noqa: S608
        found = self._connection.execute(sql, (KEY.encode(),)).fetchone()
        assert found is not None
        self._row = tuple(value.decode() if isinstance(value, bytes) and at != 1 and name != "payload" else value
                          for at, (name, value) in enumerate(zip(self._columns, found, strict=True)))  # fmt: skip

    async def spoil(self, chance: Random) -> str:
        at = chance.randrange(1, len(self._columns))
        name, value = self._columns[at], mutated(chance, self._row[at])
        where = "UPDATE tribe_oauth_organizations SET"
        try:
            if isinstance(self._row[at], str):
                text = value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")
                sql = f"{where} {name} = convert_from(%s, 'SQL_ASCII') WHERE id = %s"
                self._connection.execute(sql, (text, self._row[0]))
            else:
                self._connection.execute(f"{where} {name} = %s WHERE id = %s", (value, self._row[0]))
        except (psycopg.Error, ValueError) as error:
            return f"{name} refused ({type(error).__name__})"
        return name

    async def mend(self) -> None:
        marks = ", ".join(["%s"] * len(self._row))
        sql = "DELETE FROM tribe_oauth_organizations WHERE id = %s OR organization = %s"
        self._connection.execute(sql, self._row[:2])
        sql = (
            f"INSERT INTO tribe_oauth_organizations ({', '.join(self._columns)}) OVERRIDING SYSTEM VALUE"  # noqa: S608
            f" VALUES ({marks})"
        )
        self._connection.execute(sql, self._row)

    def close(self) -> None:
        self._connection.close()


class Redis:
    """A server or a cluster: a hash of texts, and two indexes."""

    def __init__(self, url: str) -> None:
        self.store = RedisStore(url)
        self._key = self.store._record(KEY)
        self._indexes = self.store._indexes(_bucket(KEY))
        self._hash: dict[bytes, bytes] = {}
        self._scores: list[bytes] = []

    async def _ask(self, *command: Any) -> Any:
        return await self.store._call(self._key, *command)

    async def remember(self) -> None:
        found = await self._ask("HGETALL", self._key)
        flat = list(found) if not isinstance(found, dict) else [part for pair in found.items() for part in pair]
        self._hash = dict(zip(flat[::2], flat[1::2], strict=True))
        self._scores = [await self._ask("ZSCORE", index, KEY) for index in self._indexes]

    async def spoil(self, chance: Random) -> str:
        ways: list[Callable[[Random], Any]] = [self._field, self._field, self._field, self._json, self._json]
        ways += [self._type, self._index, self._without]
        return str(await chance.choice(ways)(chance))

    async def _field(self, chance: Random) -> str:
        name = chance.choice(list(self._hash))
        value = mutated(chance, self._hash[name])
        raw = value.encode(errors="surrogatepass") if isinstance(value, str) else value
        await self._ask("HSET", self._key, name, raw if isinstance(raw, bytes) else repr(raw))
        return name.decode()

    async def _json(self, chance: Random) -> str:
        await self._ask("HSET", self._key, "fields", mutated_json(chance, self._hash[b"fields"]))
        return "a member of fields"

    async def _without(self, chance: Random) -> str:
        name = chance.choice(list(self._hash))
        await self._ask("HDEL", self._key, name)
        return f"without {name.decode()}"

    async def _type(self, chance: Random) -> str:
        key = chance.choice((self._key, *self._indexes))
        await self._ask("DEL", key)
        await self._ask(*chance.choice((("SET", key, "canary"), ("RPUSH", key, "canary"), ("SADD", key, "canary"))))
        return "another type"

    async def _index(self, chance: Random) -> str:
        index = chance.choice(self._indexes)
        score = chance.choice(("-inf", "inf", "5", "-5", "1e308"))
        raw = odd(chance)
        member = raw.encode(errors="surrogatepass") if isinstance(raw, str) else repr(raw).encode()
        await self._ask("ZADD", index, score, chance.choice((KEY.encode(), member, b"\xff", b"")))
        return "an index"

    async def mend(self) -> None:
        await self._ask("DEL", self._key, *self._indexes)
        await self._ask("HSET", self._key, *[part for pair in self._hash.items() for part in pair])
        for index, score in zip(self._indexes, self._scores, strict=True):
            await self._ask("ZADD", index, score, KEY)


@asynccontextmanager
async def _sqlite() -> AsyncIterator[Target]:
    with tempfile.TemporaryDirectory(prefix="tribe-") as folder:
        target = SQLite(Path(folder))
        yield target
        await target.store.close()


@asynccontextmanager
async def _postgres() -> AsyncIterator[Target]:
    with servers.postgres() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "CREATE DATABASE fuzz ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
            )
        target = Postgres(url.replace("/postgres?", "/fuzz?"))
        await target.store.create_schema()
        yield target
        await target.store.close()
        target.close()


@asynccontextmanager
async def _redis() -> AsyncIterator[Target]:
    with servers.redis("--save", "") as server:
        target = Redis(server.url)
        yield target
        await target.store.close()


@asynccontextmanager
async def _cluster() -> AsyncIterator[Target]:
    with redis_servers.cluster() as nodes:
        target = Redis(f"redis+cluster://127.0.0.1:{nodes[0].port}")
        yield target
        await target.store.close()


TARGETS: Final[dict[str, Callable[[], AbstractAsyncContextManager[Target]]]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "redis": _redis,
    "cluster": _cluster,
}
