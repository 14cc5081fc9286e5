"""The export: entity sets of organizations, concurrently, page by page, into a sink.

Stands on the manager's sessions and on `odata`; the middleware answers for tokens, `odata` for whole pages, `_pace` for
how many at a time, stamina for trying again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from typing import Final, Literal

import attrs
import stamina
from aiohttp import ClientSession

from tribe_oauth import TokenManager
from tribe_oauth.errors import ConfigurationError, TokenEndpointError, TribeOAuthError
from tribe_oauth.odata import ODataError, Page, Query
from tribe_oauth.odata._pages import Reader, ahead
from tribe_oauth.sync._pace import OrganizationPace, Pace, Place
from tribe_oauth.sync._sink import Checkpoint, CheckpointError, Sink

_GONE: Final = frozenset({400, 404, 410})


@attrs.frozen(kw_only=True)
class Event:
    """What just happened. `rows`: written so far, in all runs together; `total`: of how many, where the API said it.

    started; page: one was written; retried: one was not got, because of `error`, and is tried again; finished; failed:
    because of `error`.
    """

    kind: Literal["started", "page", "retried", "finished", "failed"]
    organization: str
    entity_set: str
    rows: int = 0
    total: int | None = None
    error: TribeOAuthError | None = None


@attrs.define(kw_only=True)
class Outcome:
    """What came of one entity set of one organization. `rows`: in all runs together; `read`: in this one.

    `error`: why it is not complete; None: it is.
    """

    organization: str
    entity_set: str
    rows: int = 0
    read: int = 0
    retries: int = 0
    seconds: float = 0.0
    error: TribeOAuthError | None = None


async def export(
    manager: TokenManager,
    organizations: Iterable[str] | AsyncIterable[str],
    entity_sets: Iterable[str | Query],
    sink: Sink,
    *,
    on_event: Callable[[Event], object] | None = None,
    pace: Pace | None = None,
    attempts: int = 10,
    request_timeout: float = 60.0,
    longest_pause: float = 600.0,
) -> list[Outcome]:
    """Read entity sets of organizations into a sink, each from its last checkpoint on; what came of each.

    An organization that fails is an `Outcome.error` and disturbs no other. `attempts`: for each page, each of them for
    `request_timeout` seconds at most; `longest_pause`: seconds of a pause that the API may ask for, a longer one is a
    failure. An exception of `sink` or `on_event` ends the export and comes out as it is. Cancelled, it ends with
    nothing under way.

    The manager's connector is shared by all: where many organizations may be slow at once, give the manager one
    without a limit, ``TCPConnector(limit=0)``; the pace is limit enough.
    """
    if attempts < 1 or request_timeout <= 0 or longest_pause < 0:
        raise ConfigurationError("attempts is at least 1, request_timeout more than 0, longest_pause not negative")
    queries = [wanted if isinstance(wanted, Query) else Query(wanted, count=True) for wanted in entity_sets]
    if len({query.path for query in queries}) < len(queries):
        raise ConfigurationError("an entity set is named twice: its rows can go to one place only")
    job = _Job(
        manager=manager,
        queries=queries,
        sink=sink,
        emit=on_event or (lambda event: None),
        pace=pace or Pace(),
        attempts=attempts,
        request_timeout=request_timeout,
        longest_pause=longest_pause,
    )
    try:
        await job.run(organizations)
    except BaseExceptionGroup as group:
        error = _first(group)
        raise (error.args[0] if isinstance(error, _StoppedError) else error) from None
    return job.outcomes


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _each(keys: Iterable[str] | AsyncIterable[str]) -> AsyncGenerator[str]:
    if isinstance(keys, AsyncIterable):
        async for key in keys:
            yield key
    else:
        for key in keys:
            yield key


@attrs.define(kw_only=True)
class _Job:
    """One call of `export`."""

    manager: TokenManager
    queries: list[Query]
    sink: Sink
    emit: Callable[[Event], object]
    pace: Pace
    attempts: int
    request_timeout: float
    longest_pause: float
    outcomes: list[Outcome] = attrs.field(factory=list)

    async def run(self, organizations: Iterable[str] | AsyncIterable[str]) -> None:
        seen: set[str] = set()
        async with asyncio.TaskGroup() as tasks, aclosing(_each(organizations)) as keys:
            async for key in keys:
                if key in seen:
                    continue  # named twice: two would write its rows
                seen.add(key)
                place = await self.pace.place()
                tasks.create_task(self._organization(key, place)).add_done_callback(place.is_left)

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


class _StoppedError(Exception):
    """Carries an error of the caller's own code past those that are an organization's."""


@contextmanager
def _callers_own() -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise  # concerns this one alone
    except TribeOAuthError as error:
        raise _StoppedError(error) from None


@attrs.define(eq=False)
class _Stream:
    """One entity set of one organization."""

    job: _Job
    query: Query
    outcome: Outcome
    place: Place
    total: int | None = None

    async def run(self, session: ClientSession, pace: OrganizationPace) -> None:
        """To the end, or to what went wrong."""
        began = time.monotonic()
        try:
            with _callers_own():
                checkpoint = await self.job.sink.begin(self.outcome.organization, self.query.path)
        except CheckpointError as error:
            self.failed(error)
            return
        if checkpoint is None:
            checkpoint = Checkpoint(
                organization=self.outcome.organization, entity_set=self.query.path, query=str(self.query)
            )
        self.outcome.rows = checkpoint.rows
        self._tell("started")
        try:
            await self._read(_Reading(self, Reader(session, self.query), pace, checkpoint.position), checkpoint)
        except TribeOAuthError as error:
            self.failed(error)
        else:
            self._tell("finished")
        finally:
            self.outcome.seconds = time.monotonic() - began

    async def _read(self, reading: _Reading, checkpoint: Checkpoint) -> None:
        if checkpoint.query != str(self.query):
            raise ConfigurationError("what was read here before had other options: restart, or write to another place")
        if checkpoint.done:
            return
        async with aclosing(ahead(reading.page, checkpoint.position, self.query)) as pages:
            async for page in pages:
                self.total = self.total if page.count is None else page.count
                self.outcome.rows += len(page.rows)
                self.outcome.read += len(page.rows)
                checkpoint = attrs.evolve(
                    checkpoint, position=page.next, rows=self.outcome.rows, done=page.next is None
                )
                with _callers_own():
                    await self.job.sink.write(page.rows, checkpoint)
                self._tell("page")
                del page  # it would be kept for as long as the next takes

    def failed(self, error: TribeOAuthError) -> None:
        """It is not complete."""
        self.outcome.error = error
        self._tell("failed", error)

    def retried(self, error: TribeOAuthError) -> None:
        """It goes on all the same."""
        self.outcome.retries += 1
        self._tell("retried", error)

    def _tell(
        self, kind: Literal["started", "page", "retried", "finished", "failed"], error: TribeOAuthError | None = None
    ) -> None:
        outcome = self.outcome
        with _callers_own():
            self.job.emit(
                Event(
                    kind=kind,
                    organization=outcome.organization,
                    entity_set=outcome.entity_set,
                    rows=outcome.rows,
                    total=self.total,
                    error=error,
                )
            )


@attrs.define(eq=False)
class _Reading:
    """Gets the pages of a stream at its organization's pace, and does not give up at once."""

    stream: _Stream
    reader: Reader
    pace: OrganizationPace
    start: str | None

    async def page(self, position: str | None) -> Page:
        """The page, or the error of the last attempt."""
        try:
            return await self._attempt(position)
        except TribeOAuthError as error:
            failed = error
        try:
            return await self._further(position, failed)
        except ODataError as error:
            if position is None or position != self.start or error.status not in _GONE:
                raise
            text, status = str(error), error.status
        raise ODataError(
            f"{text}; an earlier run stopped here, and from here it no longer goes on: restart", status=status
        )

    async def _attempt(self, position: str | None) -> Page:
        longest = self.stream.job.longest_pause
        return await self.pace.run(lambda: self._timely(position), self.stream.place.lend, longest=longest)

    async def _further(self, position: str | None, failed: TribeOAuthError) -> Page:
        """Retries by stamina. Its first attempt is the one that was made: most pages need no more, and none of this."""
        attempts = 0

        async def attempt() -> Page:
            nonlocal attempts, failed
            attempts += 1
            if attempts == 1:
                raise failed
            self.stream.retried(failed)
            try:
                return await self._attempt(position)
            except TribeOAuthError as error:
                failed = error
                raise

        retry = stamina.AsyncRetryingCaller(
            attempts=self.stream.job.attempts, timeout=None, wait_initial=0.2, wait_max=30.0, wait_jitter=0.2
        )
        return await retry(self._again, attempt)

    async def _timely(self, position: str | None) -> Page:
        seconds = self.stream.job.request_timeout
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self.reader.page(position)
        except TimeoutError:
            if not limit.expired():
                raise  # somebody else's
        raise ODataError(f"no whole answer came from the API within {seconds:g} seconds", retryable=True)

    def _again(self, error: Exception) -> bool | float:
        """Whether to try once more. Where the API says when, the pace has it wait."""
        longest = self.stream.job.longest_pause
        if isinstance(error, ODataError):
            # A 401 here came twice: the second token may have been replaced by another host at the same moment.
            return (error.retryable or error.status == 401) and (error.retry_after or 0.0) <= longest
        if isinstance(error, TokenEndpointError) and error.retryable and error.next_attempt_at is not None:
            pause = max(0.1, error.next_attempt_at - time.time())
            return pause if pause <= longest else False
        return isinstance(error, TribeOAuthError) and error.retryable
