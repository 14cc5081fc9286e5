from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from ..manager.helpers import VirtualClock
from .tribe import Tribe, connected
from .tribe import tribe as served


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    """Pauses between attempts take no time, and are kept in `slept`."""
    clock = VirtualClock()
    monkeypatch.setattr("tribe_oauth.odata._retries.SystemClock", lambda: clock)
    return clock


@pytest.fixture
async def tribe() -> AsyncIterator[Tribe]:
    async with served() as there:
        yield there


@pytest.fixture
async def session(tribe: Tribe) -> AsyncIterator[aiohttp.ClientSession]:
    """A manager's session for it."""
    async with connected(tribe) as session:
        yield session
