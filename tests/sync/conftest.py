from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from operator import itemgetter
from typing import Any

import attrs
import pytest

from tribe_oauth import ClientCredentialsGrant, TokenManager
from tribe_oauth.sandbox import ApiRules, Sandbox
from tribe_oauth.sync import Checkpoint

from ..odata.cancelling import SlowDisk


@attrs.define
class Kept:
    """A sink that keeps everything in memory, the checkpoint with the rows."""

    rows: dict[tuple[str, str], list[dict[str, Any]]] = attrs.field(factory=dict)
    checkpoints: dict[tuple[str, str], Checkpoint] = attrs.field(factory=dict)
    fails_at: int | None = None
    error: Exception = attrs.field(factory=lambda: OSError("the disk is full"))

    async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
        return self.checkpoints.get((organization, entity_set))

    async def write(self, rows: Sequence[dict[str, Any]], checkpoint: Checkpoint) -> None:
        if self.fails_at == 0:
            raise self.error
        if self.fails_at is not None:
            self.fails_at -= 1
        key = checkpoint.organization, checkpoint.entity_set
        self.rows.setdefault(key, []).extend(rows)
        self.checkpoints[key] = checkpoint


@attrs.frozen
class World:
    """A sandbox, and a manager that all its organizations are connected to."""

    sandbox: Sandbox
    manager: TokenManager

    def expected(self, organization: str, entity_set: str = "Relation_Person") -> list[dict[str, Any]]:
        """What the API has, in the order of its keys."""
        return sorted(self.sandbox.organization(organization).all(entity_set), key=itemgetter("ID"))


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[World]:
    """With `options` of the sandbox, whose pages lead on by links unless they say otherwise."""
    async with (
        Sandbox(**{"api": ApiRules(paging="nextLink")} | options) as sandbox,
        TokenManager(endpoints=sandbox.endpoints) as manager,
    ):
        for name in sandbox.organizations:
            await manager.connect(name, ClientCredentialsGrant(sandbox.client(organization=name)))
        yield World(sandbox, manager)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Three organizations of 25 persons, ten to a page."""
    async with connected(organizations=["Acme", "Beta", "Cobra"], persons=25, page_size=10) as world:
        yield world


@pytest.fixture
async def disk() -> SlowDisk:
    """A disk that takes some milliseconds, for the threads of this test."""
    disk = SlowDisk(0.001)
    asyncio.get_running_loop().set_default_executor(disk)
    return disk
