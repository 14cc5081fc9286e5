"""The SQLite file: its tables, and the operations on them, for one thread at a time."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from tribe_oauth._remedies import reason, remedy
from tribe_oauth.errors import StoreError
from tribe_oauth.stores._columns import NAMES, from_row, unsound, values
from tribe_oauth.stores._contract import Record
from tribe_oauth.stores._sqlite_files import Log, Names, check_database, prepare_files, rescue_folder
from tribe_oauth.stores._sqlite_holder import Holder
from tribe_oauth.stores._sqlite_rescue import Copy, Rescue
from tribe_oauth.stores._sqlite_schema import INSERT, SELECT, UPDATE, hasty, prepare, store_error
from tribe_oauth.stores._writes import next_version, written

logger = logging.getLogger("tribe_oauth.stores.sqlite")


class Reopen(Exception):  # noqa: N818 (an order, not an error)
    """Close the database, open it, and do the same once more. Nothing has happened yet."""


class Call(NamedTuple):
    """Something to do with the database. `lasting`: what it writes survives a power cut."""

    run: Callable[[Database], Any]
    writes: bool
    lasting: bool = True


class Database:
    """An open connection. Raises StoreError where the file cannot be used. The caller closes it, and the holder.

    `known`: the version of each record that this process has read or written, also before this one was opened.
    """

    connection: sqlite3.Connection

    def __init__(
        self, path: Path, busy_timeout: float, clock: Callable[[], float], holder: Holder, known: dict[str, int]
    ) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._holder = holder
        self._known = known
        self._uncommitted: dict[str, int] = {}
        self._rescue = Rescue(rescue_folder(path))
        self._names = Names.of(path)
        try:
            with holder.alone():  # SQLite does not wait for others when the journal's mode changes
                prepare_files(path, holder)
                self._open()
        except sqlite3.Error as error:
            raise store_error(self._path, error) from None

    def _open(self) -> None:
        # Its thread and a fork, which closes it, exclude each other by a lock of the worker.
        self.connection = sqlite3.connect(
            self._path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
        )
        with contextlib.ExitStack() as opened:
            opened.callback(self.connection.close)
            prepare(self.connection, self._path)
            self._holder.remove_dead(self._holders)
            self._rescue.take_in(self._take_in)
            self.connection.execute("SELECT 1 FROM organizations").fetchone()  # opens the -wal
            self._files = self._names.now()
            self._log = Log(self._path, self._files)
            opened.callback(self._log.close)
            self._holder.has_opened(self._files.database, self._files.log)
            opened.pop_all()

    def close(self) -> None:
        """Close it. Where no other process has it open, SQLite removes its -wal."""
        with contextlib.ExitStack() as last:
            last.callback(self._log.close)
            last.callback(self.connection.close)
            try:
                self._holder.has_opened()
            except OSError as error:  # until this process ends, others take it for open, and are the more careful
                logger.warning("%r: what lies beside it cannot be written (%s)", str(self._path), reason(error))

    def _take_in(self, kept: Record) -> None:
        """Write what a process could not, unless the stored record has reached that generation since."""
        with self.transaction():
            stored = self._stored(kept.organization)
            if _is_newer(kept, stored):  # by more than one generation where an older backup was restored
                self.swap(_in_place_of(stored, kept), None)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """One that ends with the block: durable, or undone."""
        self.connection.execute("BEGIN IMMEDIATE")
        self._uncommitted.clear()
        try:
            yield
            self.connection.execute("COMMIT")
            self._known.update(self._uncommitted)
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # there may be no transaction left to roll back
                self.connection.execute("ROLLBACK")
            raise

    def _holders(self) -> frozenset[str]:
        """Whose leases have not run out: their files tell whether they live."""
        sql = "SELECT DISTINCT hex(lease_holder) FROM organizations WHERE lease IS NOT NULL AND lease_end > ?"
        found = self.connection.execute(sql, (self._clock(),))
        return frozenset(bytes.fromhex(holder).decode(errors="replace") for (holder,) in found)

    # Batches

    def run(self, batch: Sequence[Call]) -> list[Any]:
        """The results of all calls, or their errors. Writes share one transaction; it is durable on return.

        Raises Reopen.
        """
        try:
            self._still_there()
            if not any(call.writes for call in batch):
                return [self._attempt(call) for call in batch]
            with hasty(self.connection, not any(call.lasting for call in batch)), self.transaction():
                self._still_there()  # nothing that is removed from now on is missed: what is written is in it
                return [self._attempt(call) for call in batch]
        except sqlite3.Error as error:
            failure = store_error(self._path, error)
        except StoreError as error:
            failure = error
        except OSError as error:
            advice = remedy(error, "make it readable and writable for this user")
            failure = StoreError(f"{str(self._path)!r}: what lies beside it cannot be used ({reason(error)}): {advice}")
        return [failure.again() for _ in batch]

    def _still_there(self) -> None:
        """See that the files are those that were opened. Where only the log is gone, save what is in it first.

        Raises Reopen, StoreError.
        """
        found = self._names.now()
        if found == self._files:
            return
        check_database(self._path, self._files, found)
        if self.connection.in_transaction:
            raise StoreError(
                f"the -wal of {str(self._path)!r} was removed amid a write: nothing was changed, try again"
            )
        with self._holder.alone():
            found = self._names.now()
            if found.log not in {None, self._files.log}:
                self._log.check_saved()
            elif self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise StoreError(f"the -wal of {str(self._path)!r} was removed, and is in use: try again")
            self._holder.log_is_saved(self._files.database, self._files.log)
        logger.error(
            "the -wal or -shm of %r was removed while it was open; what was in it is saved: find out what removes it",
            str(self._path),
        )
        raise Reopen

    def _attempt(self, call: Call) -> Any:
        """The call's result, or its error. An error that ended the transaction is raised: all of the batch failed."""
        try:
            return call.run(self)
        except sqlite3.Error as error:
            if call.writes and not self.connection.in_transaction:
                raise
            return store_error(self._path, error)
        except StoreError as error:
            return error
        except Exception as error:
            kind = type(error).__name__
            return StoreError(f"{str(self._path)!r}: a call failed with {kind}: look at what lies beside it")

    # Operations: each one statement that changes something, so that it happens whole or not at all

    def load(self, organization: str) -> Record | None:
        """The record, or a copy that is newer: of one that a process could not write, and may not live to."""
        record = self._stored(organization)
        copy = self._rescue.find(organization)
        if copy is not None:
            record = self._with(copy, record)
        known = self._known.get(organization, 0)
        if record is None:
            if known:
                raise StoreError(
                    f"the record of organization {organization!r} is not in {str(self._path)!r} any more: an older copy"
                    " took its place; put the newer one back, or restart the program to go on with this one",
                    organization=organization,
                )
            return None
        if record.version < known:
            logger.error(
                "the record of organization %r in %r is older than it was: an older copy of the file took its place",
                organization,
                str(self._path),
            )
        self._remember(record)
        return record

    def _with(self, copy: Copy, stored: Record | None) -> Record | None:
        """The copy, if it is newer, written where that is possible at once; else the stored record."""
        if not self.connection.in_transaction:  # else it is removed by the next who looks
            try:
                self._take_in_now(copy)
            except sqlite3.Error:  # locked: whoever swaps by this version writes the copy with it
                return _in_place_of(stored, copy.record) if _is_newer(copy.record, stored) else stored
            return self._stored(copy.record.organization)
        if _is_newer(copy.record, stored):
            return self.swap(_in_place_of(stored, copy.record), None)
        return stored

    def _take_in_now(self, copy: Copy) -> None:
        """Write it without waiting for a lock: others wait for this thread."""
        self.connection.execute("PRAGMA busy_timeout = 0")
        try:
            self._take_in(copy.record)
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {round(self._busy_timeout * 1_000)}")
        copy.remove()

    def _stored(self, organization: str) -> Record | None:
        try:
            row = self.connection.execute(SELECT, (organization.encode(),)).fetchone()
            return None if row is None else self._record(organization, row)
        except sqlite3.OperationalError as error:
            if hasattr(error, "sqlite_errorcode"):
                raise
            raise unsound(organization) from None  # Python's own error: what should be text is not

    def _record(self, organization: str, row: Sequence[Any]) -> Record:
        end, length, holder = row[len(NAMES) :]
        try:
            record = from_row(organization, row, end - self._clock(), length)  # a boot later, it may be far away
        except TypeError:  # what is no number
            raise unsound(organization) from None
        if record.lease_left and holder != self._holder.id and self._holder.is_gone(holder):
            return attrs.evolve(record, lease_left=0.0)
        return record

    def swap(self, record: Record, lease_for: float | None) -> Record | None:
        if lease_for is not None:
            self._holder.show()
            copy = self._rescue.find(record.organization)
            if copy is not None and copy.record.generation > record.generation:
                return None  # another wrote first, though not here
        stored = self._swap(record, lease_for)
        if stored is not None:
            self._remember(stored)
        return stored

    def _remember(self, record: Record) -> None:
        known = self._uncommitted if self.connection.in_transaction else self._known
        known[record.organization] = record.version

    def _swap(self, record: Record, lease_for: float | None) -> Record | None:
        key, left = record.organization.encode(), 0.0
        lease: tuple[float | None, float | None, str | None] = (None, None, None)  # as they were
        if record.lease is None:
            lease = (0.0, 0.0, "")
        elif lease_for is not None:
            lease, left = (self._clock() + lease_for, lease_for, self._holder.id), lease_for
        new = written(record, next_version(record.version, time.time()), left)
        if record.version == 0:
            cursor = self.connection.execute(INSERT, (key, *values(new), *lease))
        else:
            cursor = self.connection.execute(UPDATE, (*values(new), *lease, key, record.version))
        if cursor.rowcount != 1:
            return None
        if record.lease is not None and lease_for is None:
            return self._stored(record.organization)  # its end is only there
        return new


def _is_newer(kept: Record, stored: Record | None) -> bool:
    return kept.generation > (0 if stored is None else stored.generation)


def _in_place_of(stored: Record | None, kept: Record) -> Record:
    """What was kept, without the lease of the dead, to be written over what is stored."""
    return attrs.evolve(kept, version=0 if stored is None else stored.version, lease=None, lease_left=0.0)
