from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from .stores import servers


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
