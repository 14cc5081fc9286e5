"""The export: entity sets of organizations, concurrently, page by page, into a sink.

Tokens are the task of the manager's sessions, whole pages that of `odata`, the number of requests at a time that of
`_pace`, repeated requests that of `_retries`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import anyio
import attrs

from tribe_oauth import TokenManager
from tribe_oauth.errors import ConfigurationError, TribeOAuthError
from tribe_oauth.odata import Query
from tribe_oauth.odata._retries import GIVE_UP_AFTER, check_give_up_after
from tribe_oauth.sync._events import Event, Outcome
from tribe_oauth.sync._pace import Pace, Place
from tribe_oauth.sync._sink import Sink
from tribe_oauth.sync._stream import CallerError, Settings, Stream, first_of


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
        settings=Settings(sink=sink, emit=on_event, give_up_after=give_up_after, request_timeout=request_timeout),
        pace=pace or Pace(),
    )
    try:
        await job.run(organizations)
    except BaseExceptionGroup as group:
        error = first_of(group)
        raise (error.args[0] if isinstance(error, CallerError) else error) from None
    return job.outcomes


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
    settings: Settings
    pace: Pace
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
            Stream(self.settings, query, Outcome(organization=organization, entity_set=query.path), place)
            for query in self.queries
        ]
        self.outcomes += [stream.outcome for stream in streams]
        try:
            session = self.manager.session(organization, background=True)
        except TribeOAuthError as error:
            for stream in streams:
                stream.failed(error)
            return
        async with session, asyncio.TaskGroup() as tasks:
            pace = self.pace.organization(organization)
            for stream in streams:
                tasks.create_task(stream.run(session, pace))
