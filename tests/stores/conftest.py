"""A SQLite file and a store in it, for the tests of what is its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tribe_oauth.stores.sqlite import SQLiteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tribe.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path)
    yield store
    await asyncio.wait_for(store.close(), 10)
