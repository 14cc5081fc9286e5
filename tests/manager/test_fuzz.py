"""Whatever stands in a store: nothing but this library's errors, the neighbour works, and there is always a way out.

Some records each in the normal tests; ``nox -s fuzz`` has 10,000 each. ``TRIBE_OAUTH_FUZZ`` says how many, and
``TRIBE_OAUTH_FUZZ_SEED`` where chance begins; a failure names the number of the record that it is about.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import math
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from tribe_oauth import (
    ClientCredentialsGrant,
    MemoryStore,
    RefreshTokenGrant,
    Token,
    TokenManager,
    TokenStore,
    TribeOAuthError,
)
from tribe_oauth.stores import Record
from tribe_oauth.stores._contract import MOST
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key

from ..stored import checked, text_of
from .helpers import TokenServer, VirtualClock
from .test_unreadable import consent

RECORDS = int(os.environ.get("TRIBE_OAUTH_FUZZ", "60"))
SEED = int(os.environ.get("TRIBE_OAUTH_FUZZ_SEED", "14"))
HANGS = 60.0
"""Real seconds for one record: the clock is virtual, and no wait takes longer than the work."""

TEXTS = ["", "x", "a\0b", "\u00fc:\U0001f600", ":", "x" * 5_000, "acme", "connected"]
NUMBERS = [0, 1, -1, 7, 2**31, 2**52, -(2**52)]
TIMES = [0.0, -1.0, 1e-300, 1.8e9, 1.8e9 + 86_400, 1e18, -1e18, math.inf]
JUNK: list[Any] = [None, True, 0, -1, 1.5, 2**70, "", "x", "\ud800", [], [[]], {}, {"x": 1}, "x" * 5_000]


class Mutations:
    """Each makes one record of another, by chance, as something else might have left it."""

    def __init__(self, chance: random.Random, seal: Callable[[Record, bytes], bytes]) -> None:
        self._chance = chance
        self._seal = seal

    def of(self, record: Record, plain: bytes, other: Record) -> Record:
        for _ in range(self._chance.choice((1, 1, 1, 2, 5))):
            kinds = (self._bits, self._bytes, self._cut, self._moved, self._members, self._column, self._column)
            record = self._chance.choice(kinds)(record, plain, other)
        return record

    def _bits(self, record: Record, plain: bytes, other: Record) -> Record:
        payload = bytearray(record.payload or b"\0")
        for _ in range(self._chance.choice((1, 1, 8))):
            payload[self._chance.randrange(len(payload))] ^= 1 << self._chance.randrange(8)
        return attrs.evolve(record, payload=bytes(payload))

    def _bytes(self, record: Record, plain: bytes, other: Record) -> Record:
        return attrs.evolve(record, payload=self._chance.randbytes(self._chance.choice((1, 8, 9, 29, 500))))

    def _cut(self, record: Record, plain: bytes, other: Record) -> Record:
        at = self._chance.randrange(len(record.payload) + 1)
        return attrs.evolve(record, payload=self._chance.choice((record.payload[:at], record.payload[at:])))

    def _moved(self, record: Record, plain: bytes, other: Record) -> Record:
        return attrs.evolve(record, payload=other.payload)

    def _members(self, record: Record, plain: bytes, other: Record) -> Record:
        """Whole, with a check value that is right and under the right key: as a program may have written it."""
        members = json.loads(text_of(plain))
        for _ in range(self._chance.choice((1, 1, 3))):
            inside = self._chance.choice([members, *(it for it in members.values() if isinstance(it, dict))])
            if inside:
                inside[self._chance.choice(list(inside))] = copy.deepcopy(self._chance.choice(JUNK))
        text = json.dumps(members).encode() if self._chance.random() < 0.9 else json.dumps(self._chance.choice(JUNK))
        stored = checked(text if isinstance(text, bytes) else text.encode())
        return attrs.evolve(record, payload=self._seal(record, stored))

    def _column(self, record: Record, plain: bytes, other: Record) -> Record:
        choose = self._chance.choice
        changes: dict[str, Any] = choose(
            [
                {"status": choose(["connecting", "connected", "reauthorization_required", "disconnected", "odd"])},
                {"family": choose(TEXTS)},
                {"generation": record.generation + choose(NUMBERS)},
                {"generation": choose(NUMBERS)},
                {"cause": choose(TEXTS)},
                {"maybe_spent": not record.maybe_spent},
                {"failures": choose(NUMBERS)},
                {"not_before": choose(TIMES)},
                {"due_at": choose([*TIMES, None])},
                {"lease": choose([*TEXTS, None])},
            ]
        )
        return attrs.evolve(record, **changes)


@attrs.define
class World:
    """A store, what it is on, and how its payloads are sealed."""

    server: TokenServer
    clock: VirtualClock
    inner: MemoryStore
    store: TokenStore
    seal: Callable[[Record, bytes], bytes]

    def manager(self) -> TokenManager:
        return TokenManager(self.server.client(), store=self.store, clock=self.clock, request_timeout=5.0)

    async def connected(self, organization: str) -> None:
        manager = self.manager()
        await manager.connect(organization, RefreshTokenGrant(self.server.client(), self.server.paste()))
        await manager.close()


@pytest.fixture(params=["memory", "encrypted"])
async def world(request: pytest.FixtureRequest, server: TokenServer, clock: VirtualClock) -> World:
    inner = MemoryStore(clock=clock.monotonic)
    if request.param == "memory":
        return World(server, clock, inner, inner, lambda _, plain: plain)
    store = EncryptedStore(inner, [generate_key()])
    return World(
        server, clock, inner, store, lambda it, plain: store._encrypted(attrs.evolve(it, payload=plain)).payload
    )


async def ask(manager: TokenManager, organization: str, chance: random.Random) -> None:
    """All that a program may ask, in any order: it answers, or fails with an error of ours."""
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: manager.token(organization),
        lambda: manager.refresh(organization),
        lambda: manager.status(organization),
        manager.warm_up,
    ]
    for call in chance.sample(asked, len(asked)):
        try:
            await call()
        except TribeOAuthError as error:
            said = error
            assert said.organization == organization
            assert "please report it" not in str(said)


async def find_a_way_out(manager: TokenManager, world: World, organization: str, chance: random.Random) -> None:
    """Connect it by any grant, or disconnect it first: both work, and no generation is used twice."""
    before = await world.inner.load(organization)
    assert before is not None
    if chance.random() < 0.5:
        await manager.disconnect(organization)
    client, code = world.server.client(), organization.replace(" ", "-")
    grants = (ClientCredentialsGrant(client), RefreshTokenGrant(client, world.server.paste()), consent(client, code))
    token = await manager.connect(organization, chance.choice(grants))
    after = await world.inner.load(organization)
    assert after is not None
    assert after.generation > before.generation or before.generation >= MOST - 1  # which no generation can be
    assert isinstance(token, Token)


async def test_whatever_stands_there(world: World) -> None:
    """A record that something else wrote: it is told of, the neighbour goes on, and it is replaced or removed."""
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    chance = random.Random(SEED)
    mutations = Mutations(chance, world.seal)
    await world.connected("neighbour")
    for number in range(RECORDS):
        organization = f"org {number}"
        await world.connected(organization)
        record, readable = await world.inner.load(organization), await world.store.load(organization)
        other = await world.inner.load("neighbour")
        assert record is not None
        assert readable is not None
        assert other is not None
        odd = attrs.evolve(mutations.of(record, readable.payload, other), version=record.version)
        lease_for = chance.choice((None, 50.0))
        assert await world.inner.swap(odd, lease_for=lease_for) is not None
        manager = world.manager()
        try:
            async with asyncio.timeout(HANGS):
                await ask(manager, organization, chance)
                assert await manager.token("neighbour")
                await find_a_way_out(manager, world, organization, chance)
                assert await manager.token(organization)
                await manager.disconnect(organization)
        except Exception as error:
            error.add_note(f"record {number} of seed {SEED}: {odd}, payload {odd.payload!r}")
            raise
        finally:
            await manager.close()
        if number % 50 == 0:
            gc.collect()  # a task whose error nobody asked for tells of it when it is gone
        assert not unheard, number
    gc.collect()
    assert not unheard
