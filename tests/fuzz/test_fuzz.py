"""A few hundred records of each store, spoiled by chance; and proof that the judge is awake.

Longer: ``nox -s fuzz -- --records 10000 --seed 1``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tribe_oauth.stores import Record
from tribe_oauth.stores.sqlite import SQLiteStore

from .judge import ViolationError, fuzz
from .targets import TARGETS


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Hundreds of errors, every one of them deserved."""
    logger = logging.getLogger("tribe_oauth")
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("kind", TARGETS)
async def test_promises_hold(kind: str) -> None:
    """Whatever stands in the store: a StoreError that names the organization, no hang, and neighbours that work."""
    seen = await fuzz(kind, records=300, seed=3)
    assert seen.total() == 300
    assert {what.rsplit(": ", 1)[1] for what in seen} >= {"refused", "read and written"}


@pytest.mark.parametrize("how", ["raises", "does not name", "gives what it has"])
async def test_it_bites(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that keeps one promise less is found out."""
    load = SQLiteStore.load

    async def worse(store: SQLiteStore, organization: str) -> Record | None:
        try:
            return await load(store, organization)
        except Exception as error:
            if how == "raises":
                raise KeyError from None
            if how == "does not name":
                raise type(error)("it is damaged") from None
            return Record(organization=organization, status="connected", version=3)

    monkeypatch.setattr(SQLiteStore, "load", worse)
    with pytest.raises(ViolationError, match="sqlite, seed 3, record"):
        await fuzz("sqlite", records=300, seed=3)
