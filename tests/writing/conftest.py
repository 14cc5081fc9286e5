from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from ..odata.conftest import clock as clock
from .tribe import Tribe, connected
from .tribe import tribe as served


@pytest.fixture
async def tribe() -> AsyncIterator[Tribe]:
    async with served() as there:
        yield there


@pytest.fixture
async def session(tribe: Tribe) -> AsyncIterator[aiohttp.ClientSession]:
    """A manager's session for it."""
    async with connected(tribe) as session:
        yield session
