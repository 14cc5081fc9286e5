"""The export: entity sets of organizations, concurrently, page by page, into a sink.

Tokens are the task of the manager's sessions, whole pages that of `odata`, the number of requests at a time that of
`_pace`, repeated requests that of `_retries`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import anyio
import attrs
from aiohttp import ClientSession

from tribe_oauth import TokenManager
from tribe_oauth._printable import printable
from tribe_oauth.errors import ConfigurationError, TribeOAuthError
from tribe_oauth.odata import Page, Query
from tribe_oauth.odata._json import RAW
from tribe_oauth.odata._pages import Reader, ahead
from tribe_oauth.odata._positions import joined, parts_at
from tribe_oauth.odata._retries import GIVE_UP_AFTER, check_give_up_after
from tribe_oauth.sync._events import Event, Kind, Outcome
from tribe_oauth.sync._pace import OrganizationPace, Pace, Place
from tribe_oauth.sync._parts import can_be_parted, left_of, parts_of, until
from tribe_oauth.sync._retries import PersistentReader
from tribe_oauth.sync._sink import Checkpoint, CheckpointError, Sink

_Read = Callable[[str | None], Coroutine[Any, Any, Page]]


async def export(
    manager: TokenManager,
    organizations: Iterable[str] | AsyncIterable[str],
    entity_sets: Iterable[str | Query],
    sink: Sink,
    *,
    on_event: Callable[[Event], object] | None = None,
    pace: Pace | None = None,
    count: bool = True,
    give_up_after: float = GIVE_UP_AFTER,
    request_timeout: float = 60.0,
) -> list[Outcome]:
    """Read entity sets of organizations into a sink, each from its last checkpoint on. Returns an outcome for each.

    A set without an order or a `top` is read by key, in up to eight parts side by side, and its rows come as the pages
    do; none that is there throughout is missing or comes twice, whatever is added or deleted meanwhile. `count`: have
    the API count with each request; it costs the API something, and without it a set is read in one part.

    The failure of an organization is its `Outcome.error` and does not disturb the others. `give_up_after`: seconds from
    the first failure of a page for which it is tried again, where the failure may pass; a pause that the API asks for
    and that is longer is a failure at once. `request_timeout`: seconds for each attempt. An exception of `sink` or
    `on_event` ends the export and is raised unchanged. Cancelled, the export ends after everything that it started has
    ended; an async generator given as `organizations` is closed.

    All sessions share the manager's connector. Where many organizations may be slow at the same time, give the manager
    a connector without a limit, ``TCPConnector(limit=0)``: the pace limits the requests.
    """
    if isinstance(organizations, str) or isinstance(entity_sets, str):
        raise ConfigurationError("organizations and entity_sets are lists: put the one that you mean into one")
    check_give_up_after(give_up_after)
    if not request_timeout > 0:
        raise ConfigurationError("request_timeout is more than 0 seconds")
    queries = [
        attrs.evolve(wanted if isinstance(wanted, Query) else Query(wanted), count=count) for wanted in entity_sets
    ]
    if getattr(sink, "exact", False):
        queries = [attrs.evolve(query, exact=True) for query in queries]
    if len({query.path for query in queries}) < len(queries):
        raise ConfigurationError("an entity set is named twice: name it once, since its rows go to one place")
    job = _Job(
        manager=manager,
        queries=queries,
        sink=sink,
        emit=on_event,
        pace=pace or Pace(),
        give_up_after=give_up_after,
        request_timeout=request_timeout,
    )
    try:
        await job.run(organizations)
    except BaseExceptionGroup as group:
        error = _first(group)
        raise (error.args[0] if isinstance(error, _CallerError) else error) from None
    return job.outcomes


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = min(error.exceptions, key=lambda it: isinstance(it, TribeOAuthError))  # others end the whole export
    return error


@asynccontextmanager
async def _each(keys: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[AsyncIterator[str]]:
    """Iterate over keys. An async generator is closed at the end: nothing else would, until it is garbage."""
    iterator = aiter(keys) if isinstance(keys, AsyncIterable) else _listed(keys)
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            with anyio.CancelScope(shield=True):
                await iterator.aclose()


async def _listed(keys: Iterable[str]) -> AsyncGenerator[str]:
    for key in keys:
        yield key


@attrs.define(kw_only=True)
class _Job:
    """One call of `export`."""

    manager: TokenManager
    queries: list[Query]
    sink: Sink
    emit: Callable[[Event], object] | None
    pace: Pace
    give_up_after: float
    request_timeout: float
    outcomes: list[Outcome] = attrs.field(factory=list)

    async def run(self, organizations: Iterable[str] | AsyncIterable[str]) -> None:
        """Start organizations, each when the pace has a place for it, and wait for all of them."""
        seen: set[str] = set()
        async with asyncio.TaskGroup() as tasks, _each(organizations) as keys:
            async for key in keys:
                if key in seen:
                    continue  # named twice: two tasks would write the same rows
                seen.add(key)
                place = await self.pace.place()
                tasks.create_task(self._organization(key, place)).add_done_callback(place.left_by)

    async def _organization(self, organization: str, place: Place) -> None:
        streams = [
            _Stream(self, query, Outcome(organization=organization, entity_set=query.path), place)
            for query in self.queries
        ]
        self.outcomes += [stream.outcome for stream in streams]
        try:
            session = self.manager.session(organization)
        except TribeOAuthError as error:
            for stream in streams:
                stream.failed(error)
            return
        async with session, asyncio.TaskGroup() as tasks:
            pace = self.pace.organization(organization)
            for stream in streams:
                tasks.create_task(stream.run(session, pace))


class _CallerError(Exception):
    """Carries an error of `sink` or `on_event` past the handlers for an organization's own errors."""


class _CallerErrors:
    """A context that raises _CallerError in place of this library's errors. A class: it is entered for each page."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # A CheckpointError concerns one entity set of one organization.
        if isinstance(error, TribeOAuthError) and not isinstance(error, CheckpointError):
            raise _CallerError(error) from None


_CALLER_ERRORS: Final = _CallerErrors()


@attrs.define(eq=False)
class _Stream:
    """One entity set of one organization."""

    job: _Job
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
            found = await self.job.sink.begin(organization, entity_set)
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
            reader=Reader(session, self.query, RAW if getattr(self.job.sink, "as_json", False) else None),
            pace=pace,
            give_up_after=self.job.give_up_after,
            request_timeout=self.job.request_timeout,
            starts=frozenset(starts),
            on_slow=self.place.lend,
            on_retry=self.retried,
        )
        try:
            await self._all(read.page)
        except BaseExceptionGroup as group:
            raise _first(group) from None

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
                await self.job.sink.write(page.rows, checkpoint)
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
        if self.job.emit is None:
            return
        outcome = self.outcome
        with _CALLER_ERRORS:
            self.job.emit(
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
