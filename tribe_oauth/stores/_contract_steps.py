"""Steps of the contract's tests."""

from __future__ import annotations

from typing import Any

import attrs

from tribe_oauth.stores._contract import Record, TokenStore


def record(organization: str = "acme", **fields: Any) -> Record:
    """A record as it is first written."""
    return attrs.evolve(Record(organization=organization, status="connected", family="c"), **fields)


async def put(store: TokenStore, new: Record, *, lease_for: float | None = None) -> Record:
    """Write, and be sure of it."""
    stored = await store.swap(new, lease_for=lease_for)
    assert stored is not None
    return stored


async def listed(store: TokenStore) -> list[str]:
    """All keys."""
    return [organization async for organization in store.organizations()]


async def due(store: TokenStore, before: float) -> list[str]:
    """All keys that are due."""
    return [organization async for organization in store.due(before)]
