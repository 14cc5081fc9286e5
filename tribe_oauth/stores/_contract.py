"""The contract of a store. Imported by the stores and by the refresh; knows nothing of either."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, Protocol

import attrs

RecordStatus = Literal["connecting", "connected", "reauthorization_required", "disconnected"]


@attrs.frozen(kw_only=True)
class Record:
    """What is stored for one organization.

    The fields are readable by anyone who can read the store. Tokens and client secrets are in `payload`, which only
    this library reads, and which `EncryptedStore` seals.
    """

    organization: str
    """The caller's key; any text up to 512 bytes of UTF-8, NUL included; case matters."""
    version: int = 0
    """Grows by one with every write. 0: not stored yet."""
    family: str = ""
    """A random id for each connect: successors of one refresh token share it."""
    generation: int = 0
    """Grows with each new token, and never starts again, not even after a disconnect."""
    status: RecordStatus
    cause: str | None = None
    """Why it has to be connected again."""
    maybe_spent: bool = False
    """The refresh token may have been spent by a request whose answer nobody read."""
    failures: int = 0
    """Attempts that failed since the last success, by all hosts together."""
    not_before: float = 0.0
    """Unix time, in seconds, before which no request is sent."""
    due_at: float | None = None
    """Unix time, in seconds, at which the token should be refreshed; None: never."""
    lease: str | None = None
    """The nonce of whoever may send a token request now."""
    lease_left: float = 0.0
    """Seconds that the lease still lasts, by the store's clock, at the moment of reading. 0: it has ended, or its
    holder is known to be gone. Filled in by the store; ignored when writing."""
    payload: bytes = attrs.field(default=b"", repr=False)


def from_row(organization: str, row: Sequence[Any], lease_left: float) -> Record:
    """A record of the columns version to lease, in the order of the fields above but for `payload`, before the lease.

    For the stores that keep it in a table.
    """
    version, family, generation, status, cause, maybe_spent, failures, not_before, due_at, payload, lease = row
    return Record(
        organization=organization,
        version=version,
        family=family,
        generation=generation,
        status=status,
        cause=cause,
        maybe_spent=bool(maybe_spent),
        failures=failures,
        not_before=not_before,
        due_at=due_at,
        lease=lease,
        lease_left=lease_left,
        payload=bytes(payload),
    )


def written(record: Record, lease_left: float) -> Record:
    """The record as `TokenStore.swap` returns it. For the stores; written out, since it is done for every save."""
    return Record(
        organization=record.organization,
        version=record.version + 1,
        family=record.family,
        generation=record.generation,
        status=record.status,
        cause=record.cause,
        maybe_spent=record.maybe_spent,
        failures=record.failures,
        not_before=record.not_before,
        due_at=record.due_at,
        lease=record.lease,
        lease_left=lease_left,
        payload=record.payload,
    )


class TokenStore(Protocol):
    """Keeps one record for each organization, and short-lived notes.

    All methods may be called by many tasks at once, and from several event loops one after another. Everything that
    goes wrong is a `StoreError`, which for a write means: *not known whether it happened*. Nothing is held between two
    calls: no transaction, no connection, no lock. `tribe_oauth.stores.contract` tests all of this for any store.
    """

    async def load(self, organization: str) -> Record | None:
        """The record as last written, with `lease_left` by the store's clock; None when there is none."""
        ...

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """Write `record` if the stored version is still `record.version`; otherwise change nothing and return None.

        Version 0 means: there must be no record yet. Returned is the record as stored, its version one higher. It is
        durable by then: it survives a power cut.

        The lease is written as it stands in the record: None removes it. With `lease_for` it ends that many seconds
        from now by the store's clock; without, its end stays as it was.
        """
        ...

    def organizations(self) -> AsyncIterator[str]:
        """The keys of all records but the disconnected ones, in no particular order, in bounded memory.

        A record that exists during the whole iteration is listed exactly once.
        """
        ...

    def due(self, before: float) -> AsyncIterator[str]:
        """The keys of records with `due_at` at or before this Unix time, longest due first, by an index."""
        ...

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        """Keep a note for that many seconds, unless there is one under this key; return the one that stands."""
        ...

    async def take(self, key: str) -> bytes | None:
        """Remove a note and return it: to one caller, once. None when there is none or its time is over."""
        ...

    async def close(self) -> None:
        """Release files, threads and connections. A later call opens them again; closing twice is harmless."""
        ...
