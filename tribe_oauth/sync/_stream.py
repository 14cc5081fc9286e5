"""One entity set of one organization, from where it was to its end. Imported by `_export`.

It is read one page after another until it is known whether there can be parts, and then these are read side by side;
pages are written one at a time, each with the positions of all parts.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final

import attrs
from aiohttp import ClientSession

from tribe_oauth._printable import printable
from tribe_oauth.errors import ConfigurationError, TribeOAuthError
from tribe_oauth.odata import Page, Query
from tribe_oauth.odata._json import RAW
from tribe_oauth.odata._pages import Reader, ahead
from tribe_oauth.odata._positions import joined, parts_at
from tribe_oauth.sync._events import Event, Kind, Outcome
from tribe_oauth.sync._pace import OrganizationPace, Place
from tribe_oauth.sync._parts import can_be_parted, left_of, parts_of, until
from tribe_oauth.sync._retries import PersistentReader
from tribe_oauth.sync._sink import Checkpoint, CheckpointError, Sink

_Read = Callable[[str | None], Coroutine[Any, Any, Page]]


@attrs.frozen(kw_only=True)
class Settings:
    """What holds for all of an export."""

    sink: Sink
    emit: Callable[[Event], object] | None
    give_up_after: float
    request_timeout: float


def first_of(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = min(error.exceptions, key=lambda it: isinstance(it, TribeOAuthError))  # others end the whole export
    return error


class CallerError(Exception):
    """Carries an error of `sink` or `on_event` past the handlers for an organization's own errors."""


class _CallerErrors:
    """A context that raises CallerError in place of this library's errors. A class: it is entered for each page."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # A CheckpointError concerns one entity set of one organization.
        if isinstance(error, TribeOAuthError) and not isinstance(error, CheckpointError):
            raise CallerError(error) from None


_CALLER_ERRORS: Final = _CallerErrors()


@attrs.define(eq=False)
class Stream:
    """One entity set of one organization."""

    settings: Settings
    query: Query
    outcome: Outcome
    place: Place
    query_text: str = attrs.field(init=False)
    parts: dict[int, str] = attrs.field(factory=dict, init=False)
    has_failed: bool = attrs.field(default=False, init=False)
    turn: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    total: int | None = attrs.field(default=None, init=False)

    @query_text.default
    def _query_text(self) -> str:
        return str(self.query)

    async def run(self, session: ClientSession, pace: OrganizationPace) -> None:
        """Read to the end or to an error of the organization, which becomes the outcome's."""
        began = time.monotonic()
        try:
            checkpoint = await self._begin()
            self.outcome.rows = checkpoint.rows
            self._tell("started")
            await self._read(session, pace, checkpoint)
        except TribeOAuthError as error:
            self.failed(error)
        else:
            self._tell("finished")
        finally:
            self.outcome.seconds = time.monotonic() - began

    async def _begin(self) -> Checkpoint:
        organization, entity_set = self.outcome.organization, self.query.path
        with _CALLER_ERRORS:
            found = await self.settings.sink.begin(organization, entity_set)
        if found is None:
            self.outcome.since = math.floor(time.time() * 1000) / 1000  # later than now would be a clock set back
            return self._checkpoint(None, 0, done=False)
        if (problem := found.problem(organization, entity_set)) is not None:
            raise CheckpointError(
                f"what the sink has stored for {entity_set!r} of organization {organization!r} {problem}: remove it,"
                " and the entity set is read from the beginning",
                organization=organization,
            )
        self.outcome.since = found.since
        return found

    def _checkpoint(self, position: str | None, rows: int, *, done: bool) -> Checkpoint:
        return Checkpoint(
            organization=self.outcome.organization,
            entity_set=self.query.path,
            query=self.query_text,
            position=position,
            rows=rows,
            done=done,
            since=self.outcome.since,
        )

    async def _read(self, session: ClientSession, pace: OrganizationPace, checkpoint: Checkpoint) -> None:
        if checkpoint.query != self.query_text:
            raise ConfigurationError(
                f"an earlier run read this with other options ({printable(checkpoint.query)}), and now they are"
                f" {printable(self.query_text)}: restart, which reads it anew, or write to another folder"
            )
        if checkpoint.done:
            return
        starts = [] if checkpoint.position is None else parts_at(checkpoint.position)
        self.total = left_of(starts) if starts else None
        self.total = None if self.total is None else self.total + checkpoint.rows
        self.parts = dict(enumerate(starts))
        read = PersistentReader(
            reader=Reader(session, self.query, RAW if getattr(self.settings.sink, "as_json", False) else None),
            pace=pace,
            give_up_after=self.settings.give_up_after,
            request_timeout=self.settings.request_timeout,
            starts=frozenset(starts),
            on_slow=self.place.lend,
            on_retry=self.retried,
        )
        try:
            await self._all(read.page)
        except BaseExceptionGroup as group:
            raise first_of(group) from None

    async def _all(self, read: _Read) -> None:
        """Read one after another until it is known whether there can be parts, and then these side by side."""
        if len(self.parts) < 2:
            position = self.parts.get(0)
            in_parts = self.query.top is None and self.query.is_by_key
            if position is None or not (in_parts and can_be_parted(position)):
                await self._part(read, 0, position, can_be_parted if in_parts else lambda _: False)
            if self.parts:
                await self._divide(read)
        async with asyncio.TaskGroup() as tasks:
            for part, place in self.parts.items():
                tasks.create_task(self._part(read, part, place))

    async def _divide(self, read: _Read) -> None:
        """Begin the other parts. At each moment all that is left is in the positions: the last of them has no end."""
        for part, (key, page) in enumerate(await parts_of(self.parts[0], self.query, read), 1):
            self.parts[part - 1] = until(self.parts[part - 1], key)
            await self._write(part, page, page.next)

    async def _part(
        self, read: _Read, part: int, position: str | None, stop: Callable[[str], bool] = lambda _: False
    ) -> None:
        async with aclosing(ahead(read, position, self.query, stop)) as pages:
            async for page in pages:
                await self._write(part, page, page.next)
                del page  # it would stay in memory while the next one is read

    async def _write(self, part: int, page: Page, following: str | None) -> None:
        async with self.turn:
            if self.has_failed:
                return  # what was not stored may not be left out of the positions, and this task ends too
            if following is None:
                self.parts.pop(part, None)
            else:
                self.parts[part] = following
            self.total = self.total if page.count is None else page.count
            self.outcome.rows += len(page.rows)
            self.outcome.read += len(page.rows)
            position = joined([*self.parts.values()])
            checkpoint = self._checkpoint(position, self.outcome.rows, done=position is None)
            self.has_failed = True
            with _CALLER_ERRORS:
                await self.settings.sink.write(page.rows, checkpoint)
            self.has_failed = False
            self._tell("page")

    def failed(self, error: TribeOAuthError) -> None:
        """Note and report the error that ended the read."""
        self.outcome.error = error
        self._tell("failed", error)

    def retried(self, error: TribeOAuthError) -> None:
        """Count and report an error after which a request is sent again."""
        self.outcome.retries += 1
        self._tell("retried", error)

    def _tell(self, kind: Kind, error: TribeOAuthError | None = None) -> None:
        if self.settings.emit is None:
            return
        outcome = self.outcome
        with _CALLER_ERRORS:
            self.settings.emit(
                Event(
                    kind=kind,
                    organization=outcome.organization,
                    entity_set=outcome.entity_set,
                    rows=outcome.rows,
                    read=outcome.read,
                    total=self.total,
                    since=outcome.since,
                    error=error,
                )
            )
