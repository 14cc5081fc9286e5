"""The contract of a store. Imported by the stores and by the refresh; knows nothing of either."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Literal, Protocol, Self, runtime_checkable

import attrs

from tribe_oauth.errors import UnreadableError

RecordStatus = Literal["connecting", "connected", "reauthorization_required", "disconnected"]

ASSUMED_TIMEOUT: Final = 5.0
"""Seconds that one operation of a store can take at most, which does not say it."""


class Unreadable(bytes):
    """A payload or a note that its store has and cannot read, as it stands there. Written back, it stands as before.

    What is beside it can be used: whoever needs the bytes themselves has to look for this class first. `why` goes on
    after "it": what is wrong, a semicolon, the remedy.
    """

    why: str

    def __new__(cls, stored: bytes, why: str) -> Self:
        made = super().__new__(cls, stored)
        made.why = why
        return made


def unreadable(organization: str, why: str) -> UnreadableError:
    """That the record of an organization cannot be read; `why` as in `Unreadable`."""
    return UnreadableError(
        f"the record of organization {organization!r} cannot be read: it {why}, or connect the organization again;"
        " nothing was changed",
        organization=organization,
    )


MOST: Final = 2**53
"""No version, generation or count gets there; from there on some databases cannot count."""


@attrs.frozen(kw_only=True)
class Record:
    """What is stored for one organization.

    Anyone who can read the store can read the fields. Tokens and client secrets are in `payload`, the only field that
    `EncryptedStore` encrypts, and that only this library understands. Every field but `organization` and `lease_left`
    is a column: its type says which one (`tribe_oauth.stores._columns`).
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
    """The refresh token may have been spent by a request whose answer never arrived."""
    failures: int = 0
    """Attempts that failed since the last success, by all hosts together."""
    not_before: float = 0.0
    """Unix time, in seconds, before which no request is sent."""
    due_at: float | None = None
    """Unix time, in seconds, at which the token should be refreshed; None: never."""
    lease: str | None = None
    """The nonce of the flight that may send a token request now."""
    lease_left: float = 0.0
    """Seconds that the lease still lasts, by the store's clock, at the moment of reading. 0: it has ended, or its
    holder is known to be gone. Filled in by the store; ignored when writing."""
    payload: bytes = attrs.field(default=b"", repr=False)
    """What is secret; `Unreadable` where the store has it and cannot read it."""


class TokenStore(Protocol):
    """Keeps one record for each organization, and short-lived notes.

    All methods may be called by many tasks at once, and from several event loops one after another. Everything that
    goes wrong is a `StoreError`, which for a write means: *not known whether it happened*. Nothing is held between two
    calls: no transaction, no connection, no lock. `tribe_oauth.stores.contract` tests all of this for any store.

    A record that is damaged disturbs no other. Where at least its version can be read, `load` gives what there is of
    it, the payload `Unreadable`, so that it can be replaced and removed; else it raises UnreadableError, whose
    `organization` says whose record it is. Listings go on past what is odd, with a line in the log. Thousands of calls
    may come at once: who waits for the store's own connections waits, and does not fail for that. No call waits for
    ever for what does not answer.

    A store may have an attribute `timeout`: the seconds that one operation can take at most, from when what it stands
    on is asked. Where it is missing, 5.0 is assumed. By it a process that takes a lease over knows for how long the
    earlier holder may still be saving: in a store with a queue, what `Commits` saves goes first (`_turns`); one of your
    own that has another queue counts the wait in it.
    """

    async def load(self, organization: str) -> Record | None:
        """The record as last written, with `lease_left` by the store's clock; None when there is none."""
        ...

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """Write `record` if the stored version is still `record.version`; otherwise change nothing and return None.

        Version 0 means: there must be no record yet. Returned is the record as stored, its version higher than
        any before, also than those that the store has lost, as Unix microseconds are: a writer that had read what was
        lost must not match. It is durable by then: it survives a power cut.

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


@attrs.frozen
class Slots:
    """What a store keeps for a limit of calls: bytes that it does not read, their version, and the time there.

    `version` 0: there is nothing, and `state` is empty. `now`: seconds by the store's clock, from any beginning.
    """

    state: bytes
    version: int
    now: float


@runtime_checkable
class SlotStore(Protocol):
    """A store by which processes share a limit of calls. An optional ability: ask with `isinstance`.

    It keeps one short value for each key, and compares and swaps it as it does records. What is in it is known only to
    this library; it holds no secret. It need not survive the store's restart: the API forgets as well. `now` goes on at
    the same pace for all processes, and does not jump: they count by it, and by no clock of their own.

    One that its first write creates may have an attribute `is_nowhere`, true before: then no limit is what creates it.
    """

    async def slots(self, key: str) -> Slots:
        """What is kept under this key."""
        ...

    async def swap_slots(self, key: str, state: bytes, *, version: int, lives_for: float) -> Slots | None:
        """Keep this in place of what has that version; otherwise change nothing and return None.

        Version 0 means: there must be nothing yet. Returned is what is kept now, with a version higher than any before,
        and the time. After so many seconds it is as if it had never been.
        """
        ...


@runtime_checkable
class Rescuer(Protocol):
    """A store that can keep a copy of a record outside of its database. An optional ability: ask with `isinstance`."""

    async def rescue(self, organization: str, record: Record | None) -> None:
        """Keep a copy of a record that could not be written; None removes it, and does nothing where there is none.

        The next process that opens the store writes the copy into the database, unless the stored record has reached
        the copy's generation by then. A process that has it open already finds it, too: `load` gives the copy where it
        is newer than the record, whether or not the database can be written, and `swap` takes no lease of a record
        that is older than the copy. The copy is as durable and as private as the store. Raises StoreError.
        """
        ...


@runtime_checkable
class SchemaStore(Protocol):
    """A store whose tables have to be created once. An optional ability: ask with `isinstance`."""

    async def create_schema(self) -> None:
        """Create what is missing. May be called at every start, by all hosts. Raises StoreError."""
        ...

    async def close(self) -> None:
        """See `TokenStore.close`."""
        ...


@runtime_checkable
class Rekeyer(Protocol):
    """A store that can encrypt what it has under a new key. An optional ability: ask with `isinstance`."""

    async def rekey(self) -> int:
        """Encrypt every record that is not under the newest key anew; returns how many there were.

        It may run beside everything else, be stopped, and be run again. Records that cannot be read are left as they
        are, and named by an UnreadableError when all others are done. Raises StoreError.
        """
        ...
