from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from .cancellation.summary import pytest_terminal_summary
from .stores import servers

__all__ = ["pytest_terminal_summary"]

# In the background of a shell Ctrl-C is ignored, and children inherit that: those of the tests have to hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """One server for all tests."""
    with servers.postgres() as uri:
        yield uri


@pytest.fixture
def database(postgres_server: str) -> Iterator[str]:
    """A database for one test; its address."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield postgres_server.replace("/postgres?", f"/{name}?")
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.RedisServer]:
    """One server for all tests."""
    with servers.redis() as server:
        yield server
