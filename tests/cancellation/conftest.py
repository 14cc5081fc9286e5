from __future__ import annotations

import gc
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ..stores.servers import RedisServer
from .worlds import Place

_MEMORY = next((folder for folder in ("/dev/shm",) if Path(folder).is_dir()), None)  # noqa: S108 (folders of their own)


@pytest.fixture(autouse=True, scope="module")
def small_heap() -> Iterator[None]:
    """Every cut collects garbage: not through all that was imported before."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder that is written to at once, where there is such a thing: cuts are many, and none is of the power."""
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def tables(postgres_server: str) -> Iterator[psycopg.Connection]:
    """For what empties and drops tables, and need not wait for a disk."""
    with psycopg.connect(postgres_server, autocommit=True, options="-c synchronous_commit=off") as connection:
        yield connection


@pytest.fixture
def open_place(
    postgres_server: str, redis_server: RedisServer, tables: psycopg.Connection, memory: Path
) -> Callable[[], Place]:
    """A new place for each world."""

    def opened() -> Place:
        return Place(
            folder=Path(tempfile.mkdtemp(dir=memory)),
            name=uuid.uuid4().hex,
            postgres=postgres_server,
            redis=redis_server.url,
            tables=tables,
        )

    return opened
