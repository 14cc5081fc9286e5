"""The worlds: an emulated Tribe, stores on real servers, and a manager between them; closed in the ordinary way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs
import psycopg

from tribe_oauth import Client, ClientCredentialsGrant, MemoryStore, RefreshTokenGrant, TokenManager, TokenStore
from tribe_oauth._clock import SystemClock
from tribe_oauth.errors import TemporarilyUnavailable
from tribe_oauth.sandbox import ApiRules, Sandbox
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.stores.redis import RedisStore
from tribe_oauth.stores.sqlite import SQLiteStore

from .leaks import Snapshot

_TABLES: Final = ("tribe_oauth_organizations", "tribe_oauth_notes", "tribe_oauth_slots")
KEYS: Final = [generate_key(), generate_key()]
DAY: Final = 86_400.0


@attrs.frozen(kw_only=True)
class Place:
    """Where one world lives: a folder and a name on the servers that no other world has, and an empty database."""

    folder: Path
    name: str
    postgres: str
    redis: str
    tables: psycopg.Connection

    def store(self, kind: str = "sqlite") -> TokenStore:
        """A store on the same file, or the same server, each time; a memory is a new one."""
        match kind:
            case "memory":
                return MemoryStore()
            case "postgres":
                return PostgresStore(self.postgres)
            case "redis":
                return RedisStore(self.redis, prefix=self.name)
            case "encrypted":
                return EncryptedStore(self.store("sqlite"), KEYS[:1])
            case _:
                return SQLiteStore(self.folder / "tribe.db")

    async def empty_store(self, kind: str = "sqlite") -> TokenStore:
        """The same, for the first time in a world."""
        store = self.store(kind)
        if isinstance(store, PostgresStore):
            for table in _TABLES:
                if self.tables.execute("SELECT to_regclass(%s)", [table]).fetchone() != (None,):
                    self.tables.execute(f"DELETE FROM {table}")  # noqa: S608 (constants)
            await store.create_schema()
        return store

    def drop_tables(self) -> None:
        """As before the first `create_schema`."""
        self.tables.execute(f"DROP TABLE IF EXISTS {', '.join(_TABLES)}, tribe_oauth_schema")


class MovedClock(SystemClock):
    """The machine's, so many seconds ahead."""

    ahead: float = 0.0

    def time(self) -> float:
        return SystemClock.time() + self.ahead

    def monotonic(self) -> float:
        return SystemClock.monotonic() + self.ahead


@attrs.define(kw_only=True)
class Tribe:
    """An emulated Tribe, and a manager of it. `before`: what there was when only Tribe was there."""

    sandbox: Sandbox
    client: Client
    store: TokenStore
    clock: MovedClock
    before: Snapshot
    manager: TokenManager

    def pasted(self, organization: str = "acme") -> RefreshTokenGrant:
        """A grant by Quick Setup."""
        return RefreshTokenGrant(self.client, self.sandbox.paste_token(organization))

    def anew(self) -> TokenManager:
        """Another manager over the same store."""
        return _manager(self.client, self.store, self.clock)


def _manager(client: Client, store: TokenStore, clock: MovedClock) -> TokenManager:
    return TokenManager(client, store=store, clock=clock, quiet=0.05, request_timeout=1.0)


@asynccontextmanager
async def tribe(
    place: Place, *, connected: Sequence[str] = ("acme",), store: str = "sqlite", warm: bool = True, **options: Any
) -> AsyncIterator[Tribe]:
    """Open a world with these organizations connected; close it, and see that every organization can go on.

    `warm`: the manager is the one that connected them, with its store and connections open. `options`: the sandbox's.
    """
    defaults: dict[str, Any] = {"organizations": ["acme", "beta", "gamma"], "persons": 25, "page_size": 10}
    defaults["api"] = ApiRules(paging="nextLink")
    async with Sandbox(**defaults | options) as sandbox:
        before, clock, client = Snapshot.take(), MovedClock(), sandbox.client()
        kept = await place.empty_store(store)
        manager = _manager(client, kept, clock)
        world = Tribe(sandbox=sandbox, client=client, store=kept, clock=clock, before=before, manager=manager)
        for organization in connected:
            await manager.connect(organization, world.pasted(organization))
        if not warm:
            await manager.close()
            world.manager = world.anew()
        yield world
        await world.manager.close()
        await goes_on(world)


async def goes_on(world: Tribe) -> None:
    """The ledger is clean, and a new manager over the same store has a token for each connected organization.

    A new one; after a refresh that failed and may not be tried again at once, the old one.
    """
    async with world.anew() as manager:
        async with aclosing(manager.organizations()) as connected:
            keys = [key async for key in connected]
        for key in keys:
            token = await manager.token(key)
            with suppress(TemporarilyUnavailable):
                token = await manager.refresh(key)
            assert world.sandbox.ledger.is_live(token.access_token.reveal()), f"the token of {key!r} is dead"
    ledger = world.sandbox.ledger
    assert ledger.spent_twice() == (), "a refresh token was spent twice"
    assert ledger.reused() == (), "a token was used again"


def application(world: Tribe, organization: str) -> ClientCredentialsGrant:
    """Client credentials of an Application of this organization's own."""
    return ClientCredentialsGrant(world.sandbox.client(organization=organization))
