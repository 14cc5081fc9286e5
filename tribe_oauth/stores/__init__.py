"""Where connections live: the contract of a store, and the stores, each in a module of its own.

A store keeps policy out. It compares versions, keeps time for leases, and makes a write durable before it says so;
what a write means is decided by the refresh.
"""

from __future__ import annotations

from tribe_oauth.stores._contract import (
    Record,
    RecordStatus,
    Rekeyer,
    Rescuer,
    SchemaStore,
    Slots,
    SlotStore,
    TokenStore,
    Unreadable,
)
from tribe_oauth.stores.memory import MemoryStore

__all__ = [
    "MemoryStore",
    "Record",
    "RecordStatus",
    "Rekeyer",
    "Rescuer",
    "SchemaStore",
    "SlotStore",
    "Slots",
    "TokenStore",
    "Unreadable",
]
