"""A short run of the crash test on every store, and proof that it bites."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from ..stores.servers import RedisServer
from . import harness
from .harness import FAULTS, Violation, crash


async def test_sqlite(tmp_path: Path) -> None:
    """F1, F2, F5, F6: nothing is lost that need not be, on one file."""
    report = await crash(f"sqlite:{tmp_path}/tribe.db", rounds=len(FAULTS) + 4, seed=1)
    assert report.outcomes["token"] > report.rounds


async def test_postgres(database: str) -> None:
    """The same for hosts that share a PostgreSQL database."""
    report = await crash(database, rounds=len(FAULTS), seed=2)
    assert report.outcomes["token"] > report.rounds


async def test_redis(redis_server: RedisServer) -> None:
    """The same for hosts that share a Redis server."""
    report = await crash(f"{redis_server.url}?db={uuid.uuid4().int % 16}", rounds=len(FAULTS), seed=3)
    assert report.outcomes["token"] > report.rounds


@pytest.mark.parametrize(
    ("variant", "faults"),
    [
        ("no lease", ["none"]),
        ("publish before commit", ["none"]),
        ("no re-read", ["none"]),
        ("resend at once", ["late", "kill in flight"]),
        ("commit by the holder only", ["freeze answered"]),
        ("save once", ["locked"]),
    ],
)
async def test_it_bites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, faults: list[str]) -> None:
    """Each rule of the refresh, taken away, breaks a promise that the judge looks at."""
    monkeypatch.setattr(harness, "PATIENCE", 10.0)
    with pytest.raises(Violation):
        await crash(f"sqlite:{tmp_path}/tribe.db", rounds=150, seed=1, variant=variant, faults=faults)
